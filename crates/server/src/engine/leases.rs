//! Who holds leases, and taking them back by hand.
//!
//! The table counts leases, their holders own them. The two are compared here: what nobody owns is a leak.

use super::core::Engine;
use super::members::clean_up;

/// Leases by kind of owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTotals {
    /// All leases in the table.
    pub total: u64,
    /// Held by requests for their retrieves.
    pub requests: u64,
    /// Held by workers that are copying.
    pub retrieves: u64,
    /// Held by objects on their way to L2.
    pub l2_stores: u64,
}

impl LeaseTotals {
    /// Leases without an owner. Anything but 0 is a defect of this server: the memory stays pinned.
    pub fn leaked(&self) -> u64 {
        self.total.saturating_sub(self.requests + self.retrieves + self.l2_stores)
    }
}

/// A request or a worker that holds leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseHolder {
    /// What it is.
    pub owner: LeaseOwner,
    /// The model.
    pub model_name: Box<str>,
    /// The tenant; empty for none.
    pub cache_salt: Box<str>,
    /// Leases it holds.
    pub leases: u64,
    /// Milliseconds since it was last heard of.
    pub idle_ms: u64,
    /// Whether its connection is gone.
    pub is_orphaned: bool,
}

/// What holds leases, by the name a release takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseOwner {
    /// A request between its lookup and its retrieve.
    Request(Box<str>),
    /// A worker between the prepare and the commit of retrieves.
    Instance(i64),
}

impl Engine {
    /// Leases by owner.
    pub fn lease_totals(&self) -> LeaseTotals {
        let state = self.state();
        let retrieves = state.instances.iter().map(|(_, instance)| instance.reading()).sum();
        LeaseTotals {
            total: state.cache.stats().leases,
            requests: state.sessions.leases(),
            retrieves,
            l2_stores: state.lanes.leases,
        }
    }

    /// Up to `holders_max` holders, those that have been idle longest first.
    pub fn lease_holders(&self, holders_max: usize) -> Vec<LeaseHolder> {
        let now_ms = self.now_ms();
        let state = self.state();
        let requests = state.sessions.iter().filter_map(|(request_id, session)| {
            let found = session.found.as_ref().filter(|found| found.leases.held() > 0)?;
            let scope = found.scopes.first();
            let name = |part: Option<&std::sync::Arc<str>>| part.map_or("", |part| part).into();
            Some(LeaseHolder {
                owner: LeaseOwner::Request(request_id.into()),
                model_name: name(scope.map(|scope| &scope.model_name)),
                cache_salt: name(scope.map(|scope| &scope.cache_salt)),
                leases: found.leases.held(),
                idle_ms: now_ms.saturating_sub(session.used_ms),
                is_orphaned: session.orphaned_ms.is_some(),
            })
        });
        let workers = state.instances.iter().filter(|(_, instance)| instance.reading() > 0);
        let workers = workers.map(|(id, instance)| LeaseHolder {
            owner: LeaseOwner::Instance(id),
            model_name: (*instance.registration.model_name).into(),
            cache_salt: "".into(),
            leases: instance.reading(),
            idle_ms: now_ms.saturating_sub(instance.seen_ms),
            is_orphaned: instance.orphaned_ms.is_some(),
        });
        let mut holders: Vec<LeaseHolder> = requests.chain(workers).collect();
        drop(state);
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.idle_ms));
        holders.truncate(holders_max);
        holders
    }

    /// Takes back what a holder holds, as if it had vanished: a request's session ends, a worker's unfinished transfers are dropped.
    /// The number of leases, or `None` if there is no such holder.
    pub fn force_release(&self, owner: &LeaseOwner, reason: &str) -> Option<u64> {
        let mut state = self.state();
        let released = match owner {
            LeaseOwner::Request(request_id) => {
                let session = state.sessions.end(request_id)?;
                let held = session.found.as_ref().map_or(0, |found| found.leases.held());
                self.close(&mut state, session);
                tracing::warn!("took {held} leases back from request `{request_id}`: {reason}");
                held
            }
            LeaseOwner::Instance(instance_id) => {
                let abandoned = state.instances.get_mut(*instance_id)?.take_pending();
                let held = abandoned.leases.len() as u64;
                clean_up(&mut state, abandoned);
                tracing::warn!("took {held} leases back from instance {instance_id}: {reason}");
                held
            }
        };
        self.counters.forced_leases.add(released);
        self.after_change(&mut state);
        Some(released)
    }
}
