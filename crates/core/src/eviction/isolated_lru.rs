//! Least recently used per tenant: who holds more than its share gives first.
//!
//! The peer's policy of this name serves its second tier, where a salt without a quota has none at all
//! (`spec/cache-semantics.md` 11.4), and stops its eviction in the first (10). Here no quota is no limit.

use std::collections::{BTreeSet, BinaryHeap};

use super::list::SKIPS_MAX;
use super::policy::{Arrival, EntryId, Policy, Removal, TenantId};
use super::tenant_lists::TenantLists;

/// A list by recency for every tenant; victims come from the tenant that is furthest over its share.
///
/// Tenants over their quota give first, the one with the largest multiple of it before the others. Then
/// tenants without a quota, the one with the most bytes first. A tenant within its quota gives only when
/// nobody else can, so that a quota is a promise too.
#[derive(Debug, Default)]
pub struct IsolatedLru {
    lists: TenantLists,
    /// Bytes of each object.
    bytes: Vec<u64>,
    tenants: Vec<Tenant>,
    /// Tenants with objects, the first to give last.
    ranks: BTreeSet<(Rank, TenantId)>,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tenant {
    bytes: u64,
    limit_bytes: Option<u64>,
    objects: usize,
}

/// Whose objects leave first: the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Share of the quota in use.
    WithinQuota(u64),
    /// Bytes.
    Unlimited(u64),
    /// Multiple of the quota in use.
    OverQuota(u64),
}

impl Tenant {
    fn rank(&self) -> Rank {
        let Some(limit) = self.limit_bytes else { return Rank::Unlimited(self.bytes) };
        let used = (u128::from(self.bytes) << 32) / u128::from(limit.max(1));
        let used = u64::try_from(used).unwrap_or(u64::MAX);
        if self.bytes > limit { Rank::OverQuota(used) } else { Rank::WithinQuota(used) }
    }
}

/// The victims one tenant offers, and what it would have left.
struct Offer {
    victims: std::vec::IntoIter<EntryId>,
    left: Tenant,
}

impl IsolatedLru {
    /// A policy without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn change(&mut self, id: TenantId, change: impl FnOnce(&mut Tenant)) {
        if self.tenants.len() <= id.0 as usize {
            self.tenants.resize(id.0 as usize + 1, Tenant::default());
        }
        let tenant = &mut self.tenants[id.0 as usize];
        self.ranks.remove(&(tenant.rank(), id));
        change(tenant);
        if tenant.objects > 0 {
            self.ranks.insert((tenant.rank(), id));
        }
    }
}

impl Policy for IsolatedLru {
    fn name(&self) -> &'static str {
        "IsolatedLRU"
    }

    fn insert(&mut self, id: EntryId, arrival: Arrival) {
        if self.bytes.len() <= id as usize {
            self.bytes.resize(id as usize + 1, 0);
        }
        self.bytes[id as usize] = arrival.bytes;
        self.lists.insert(id, arrival.tenant);
        self.len += 1;
        self.change(arrival.tenant, |tenant| {
            tenant.bytes += arrival.bytes;
            tenant.objects += 1;
        });
    }

    fn touch(&mut self, id: EntryId) {
        self.lists.touch(id);
    }

    fn remove(&mut self, id: EntryId, _removal: Removal) {
        let bytes = self.bytes[id as usize];
        self.lists.remove(id);
        self.len -= 1;
        self.change(self.lists.tenant(id), |tenant| {
            tenant.bytes -= bytes;
            tenant.objects -= 1;
        });
    }

    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId> {
        let mut skips = 0;
        let mut ranked = self.ranks.iter().rev().peekable();
        let mut offers: Vec<Offer> = Vec::new();
        let mut first = BinaryHeap::new();
        let mut victims = Vec::with_capacity(want.min(self.len));
        while victims.len() < want {
            let offered = first.peek().map(|&(rank, tenant, _): &(Rank, TenantId, usize)| (rank, tenant));
            if let Some(&(rank, tenant)) = ranked.next_if(|&&next| skips < SKIPS_MAX && Some(next) > offered)
            {
                let counted = &mut |id| {
                    let evictable = evictable(id);
                    skips += usize::from(!evictable);
                    evictable
                };
                let found = self.lists.victims(tenant, counted, want - victims.len());
                first.push((rank, tenant, offers.len()));
                offers.push(Offer { victims: found.into_iter(), left: self.tenants[tenant.0 as usize] });
                continue;
            }
            let Some((_, tenant, offer)) = first.pop() else { break };
            let Offer { victims: offered, left } = &mut offers[offer];
            if let Some(victim) = offered.next() {
                victims.push(victim);
                left.bytes -= self.bytes[victim as usize];
                first.push((left.rank(), tenant, offer));
            }
        }
        victims
    }

    fn victims_of(
        &mut self,
        tenant: TenantId,
        evictable: &mut dyn FnMut(EntryId) -> bool,
        want: usize,
    ) -> Vec<EntryId> {
        self.lists.victims(tenant, evictable, want)
    }

    fn orders_tenants(&self) -> bool {
        true
    }

    fn set_quota(&mut self, tenant: TenantId, limit_bytes: Option<u64>) {
        self.change(tenant, |tenant| tenant.limit_bytes = limit_bytes);
    }

    fn cold_to_hot(&mut self) -> Vec<EntryId> {
        self.victims(&mut |_| true, usize::MAX)
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn arrival(tenant: u32, bytes: u64) -> Arrival {
        Arrival { tenant: TenantId(tenant), bytes, ..Arrival::default() }
    }

    /// Each object in order of its last use, as (id, tenant, bytes), and the quotas.
    #[derive(Default)]
    struct Model {
        objects: Vec<(EntryId, u32, u64)>,
        limits: HashMap<u32, u64>,
    }

    impl Model {
        fn excess(&self, tenant: u32, bytes: u64) -> (u8, f64) {
            match self.limits.get(&tenant) {
                Some(&limit) if bytes > limit => (2, bytes as f64 / limit.max(1) as f64),
                Some(&limit) => (0, bytes as f64 / limit.max(1) as f64),
                None => (1, bytes as f64),
            }
        }

        /// One victim after the other, from the tenant that is furthest over its share among those that have
        /// one to give.
        fn victims(&self, free: impl Fn(EntryId) -> bool, want: usize) -> Vec<EntryId> {
            let mut left = self.objects.clone();
            let mut victims = Vec::new();
            while victims.len() < want {
                let held =
                    |tenant| left.iter().filter(|object| object.1 == tenant).map(|object| object.2).sum();
                let giving = left.iter().enumerate().filter(|(_, object)| free(object.0));
                let order = |tenant: u32| (self.excess(tenant, held(tenant)), tenant);
                // Of equal tenants `max_by` takes the last, of a tenant's objects the first is to go.
                let victim = giving.rev().max_by(|(_, one), (_, other)| {
                    order(one.1).partial_cmp(&order(other.1)).expect("no tenant holds NaN bytes")
                });
                let Some((at, &(id, ..))) = victim else { break };
                victims.push(id);
                left.remove(at);
            }
            victims
        }
    }

    proptest! {
        /// Whatever comes, is used, leaves, is in use or gets a quota.
        #[test]
        fn orders_as_the_model_does(
            steps in prop::collection::vec((0..7u8, 0..20u32, 0..4u32, 1..5u64), 1..150),
            want in 1..6usize,
            any_in_use in any::<bool>(),
        ) {
            let (mut policy, mut model) = (IsolatedLru::new(), Model::default());
            let mut used = std::collections::HashSet::new();
            for (step, id, tenant, bytes) in steps {
                let known = model.objects.iter().position(|object| object.0 == id);
                match (step, known) {
                    (0 | 1, None) => {
                        policy.insert(id, arrival(tenant, bytes));
                        model.objects.push((id, tenant, bytes));
                    }
                    (2, Some(at)) => {
                        policy.touch(id);
                        let object = model.objects.remove(at);
                        model.objects.push(object);
                    }
                    (3, Some(at)) => {
                        policy.remove(id, Removal::Evicted);
                        model.objects.remove(at);
                    }
                    (4, _) if any_in_use => { used.insert(id); }
                    (5, _) => used.clear(),
                    (6, _) => {
                        policy.set_quota(TenantId(tenant), (id % 4 > 0).then_some(bytes * 2));
                        model.limits.remove(&tenant);
                        if id % 4 > 0 { model.limits.insert(tenant, bytes * 2); }
                    }
                    _ => {}
                }
                prop_assert_eq!(policy.len(), model.objects.len());
                if !any_in_use {
                    prop_assert_eq!(policy.victims(&mut |_| true, want), model.victims(|_| true, want));
                }
                let free = |id: EntryId| !used.contains(&id);
                prop_assert_eq!(policy.victims(&mut |id| free(id), want).is_empty(), model.victims(free, 1).is_empty());
                let own = policy.victims_of(TenantId(0), &mut |_| true, usize::MAX);
                prop_assert!(own.iter().all(|id| model.objects.iter().any(|object| object.0 == *id && object.1 == 0)));
            }
            let mut order = policy.cold_to_hot();
            if !any_in_use {
                prop_assert_eq!(&order, &model.victims(|_| true, usize::MAX));
            }
            order.sort_unstable();
            order.dedup();
            prop_assert_eq!(order.len(), policy.len());
        }
    }

    #[test]
    fn tenants_whose_objects_are_all_in_use_cost_no_more_than_the_objects_of_one() {
        let mut policy = IsolatedLru::new();
        let each = SKIPS_MAX as u32 / 2;
        for id in 0..4 * each {
            policy.insert(id, arrival(id / each, 1));
        }
        let mut looks = 0;
        let victims = policy.victims(
            &mut |_| {
                looks += 1;
                false
            },
            1,
        );
        assert_eq!((victims, looks), (Vec::new(), SKIPS_MAX));
    }

    #[test]
    fn a_tenant_within_its_quota_keeps_its_objects_while_others_have_any() {
        let mut policy = IsolatedLru::new();
        policy.set_quota(TenantId(0), Some(4));
        (0..4).for_each(|id| policy.insert(id, arrival(0, 1)));
        (4..6).for_each(|id| policy.insert(id, arrival(1, 1)));
        assert_eq!(policy.victims(&mut |_| true, 4), [4, 5, 0, 1]);
        policy.set_quota(TenantId(0), Some(3));
        assert_eq!(policy.victims(&mut |_| true, 4), [0, 4, 5, 1]);
    }
}
