//! Who holds leases, and taking them back by hand.
//!
//! The table counts leases, their holders own them. The two are compared here: what nobody owns is a leak.

use crate::faces::Operator;

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
    /// On objects of the server before, which its clients may still be reading.
    pub adoption: u64,
}

impl LeaseTotals {
    /// Leases without an owner. Anything but 0 is a defect of this server: the memory stays pinned.
    #[must_use]
    pub fn leaked(&self) -> u64 {
        self.total.saturating_sub(self.requests + self.retrieves + self.l2_stores + self.adoption)
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

impl Operator {
    /// Leases by owner.
    #[must_use]
    pub fn lease_totals(&self) -> LeaseTotals {
        let state = self.state();
        let retrieves: u64 = state.instances.iter().map(|(_, instance)| instance.pending.reading()).sum();
        LeaseTotals {
            total: state.cache.stats().leases,
            requests: state.sessions.leases(),
            retrieves: retrieves + state.set_aside.reading(),
            l2_stores: state.lanes.leases(),
            adoption: state.held.leases(),
        }
    }

    /// Up to `holders_max` holders, those that have been idle longest first.
    #[must_use]
    pub fn lease_holders(&self, holders_max: usize) -> Vec<LeaseHolder> {
        let now_ms = self.now_ms();
        let state = self.state();
        let requests = state.sessions.iter().filter_map(|(request_id, session)| {
            let held = session.found.leases.held();
            (held > 0).then(|| LeaseHolder {
                owner: LeaseOwner::Request(request_id.into()),
                model_name: (*session.model_name).into(),
                cache_salt: (*session.cache_salt).into(),
                leases: held,
                idle_ms: now_ms.saturating_sub(session.used_ms),
                is_orphaned: state.sessions.is_orphaned(session),
            })
        });
        let workers = state.instances.iter().filter(|(_, instance)| instance.pending.reading() > 0);
        let workers = workers.map(|(id, instance)| LeaseHolder {
            owner: LeaseOwner::Instance(id),
            model_name: (*instance.registration.model_name).into(),
            cache_salt: "".into(),
            leases: instance.pending.reading(),
            idle_ms: now_ms.saturating_sub(instance.seen_ms),
            is_orphaned: instance.orphaned.is_some(),
        });
        let mut holders: Vec<LeaseHolder> = requests.chain(workers).collect();
        drop(state);
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.idle_ms));
        holders.truncate(holders_max);
        holders
    }

    /// Takes back what a holder holds, as if it had vanished: the sessions of a request id end, a worker's
    /// unfinished transfers are dropped, those set aside for it included. The number of leases, or `None` if
    /// there is no such holder.
    pub fn force_release(&self, owner: &LeaseOwner, reason: &str) -> Option<u64> {
        let mut state = self.state();
        let released = match owner {
            LeaseOwner::Request(request_id) => {
                let sessions = state.sessions.end_all(request_id);
                if sessions.is_empty() {
                    return None;
                }
                let held = sessions.iter().map(|session| session.found.leases.held()).sum();
                sessions.into_iter().for_each(|session| self.close(&mut state, session));
                tracing::warn!("took {held} leases back from request `{request_id}`: {reason}");
                held
            }
            LeaseOwner::Instance(instance_id) => {
                let mut abandoned = state.set_aside.take_of(*instance_id);
                let instance = state.instances.get_mut(*instance_id);
                if instance.is_none() && abandoned.is_empty() {
                    return None;
                }
                abandoned.extend(instance.map(|instance| std::mem::take(&mut instance.pending).abandon()));
                let held = abandoned.iter().map(|left| left.leases.len() as u64).sum();
                abandoned.into_iter().for_each(|left| state.clean_up(left));
                tracing::warn!("took {held} leases back from instance {instance_id}: {reason}");
                held
            }
        };
        self.counters.forced_leases.add(released);
        self.after_change(&mut state);
        Some(released)
    }
}
