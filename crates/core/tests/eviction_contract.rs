//! What every policy promises, whatever its order.

use std::collections::BTreeSet;

use larder_core::eviction::{self, Arrival, PerTenant, Policy, Removal, TenantId};
use proptest::prelude::*;

fn policies() -> Vec<Box<dyn Policy>> {
    let named = || eviction::NAMES.iter().filter_map(|name| eviction::by_name(name));
    named().chain(named().map(|policy| PerTenant::over(policy, []))).collect()
}

proptest! {
    /// Victims are known, evictable, named once, and there is one whenever one is evictable; the order has
    /// every object once.
    #[test]
    fn victims_are_what_may_leave(
        steps in prop::collection::vec((0..7u8, 0..20u32, 0..3u32), 1..120),
        want in 1..8usize,
    ) {
        for mut policy in policies() {
            let (mut known, mut used) = (BTreeSet::new(), BTreeSet::new());
            for &(step, id, tenant) in &steps {
                let is_known = known.contains(&id);
                match step {
                    0 | 1 if !is_known => {
                        let position = 19 - id;
                        let arrival = Arrival { fingerprint: u64::from(id), tenant: TenantId(tenant), bytes: 1, position };
                        policy.insert(id, arrival);
                        known.insert(id);
                    }
                    2 if is_known => policy.touch(id),
                    3 if is_known => policy.refresh(id),
                    4 if is_known => {
                        policy.remove(id, if tenant == 0 { Removal::Dropped } else { Removal::Evicted });
                        known.remove(&id);
                    }
                    5 => { used.insert(id); }
                    6 => { used.remove(&id); }
                    _ => {}
                }
                prop_assert_eq!(policy.len(), known.len());
                let victims = policy.victims(&mut |id| !used.contains(&id), want);
                let distinct: BTreeSet<u32> = victims.iter().copied().collect();
                prop_assert!(distinct.len() == victims.len() && victims.len() <= want, "{}: {victims:?}", policy.name());
                prop_assert!(distinct.iter().all(|id| known.contains(id) && !used.contains(id)));
                if policy.name() != "noop" {
                    prop_assert_eq!(victims.is_empty(), known.iter().all(|id| used.contains(id)), "{}", policy.name());
                }
            }
            let order = policy.cold_to_hot();
            let distinct: BTreeSet<u32> = order.iter().copied().collect();
            prop_assert_eq!(distinct.len(), order.len());
            prop_assert!(distinct == known || policy.name() == "noop", "{}", policy.name());
        }
    }
}

/// Whether or not the policy has an order of the tenant's own; if it has, nobody else's objects are looked
/// at.
#[test]
fn the_victims_of_a_tenant_are_its_own() {
    for mut policy in policies().into_iter().filter(|policy| policy.name() != "noop") {
        for id in 0..20 {
            let arrival = Arrival { fingerprint: id.into(), tenant: TenantId(id % 3), bytes: 1, position: 0 };
            policy.insert(id, arrival);
        }
        let mut looks = 0;
        let of_tenant = &mut |id| {
            looks += 1;
            id % 3 == 1
        };
        let own = policy.victims_of(TenantId(1), of_tenant, 20);
        assert_eq!(policy.orders_tenants(), looks == own.len(), "{}", policy.name());
        assert_eq!(own.into_iter().collect::<BTreeSet<u32>>(), (0..20).filter(|id| id % 3 == 1).collect());
        assert!(PerTenant::over(policy, []).orders_tenants());
    }
}
