//! Giving back what nobody will claim: orphans, silent holders, expired writers.
//!
//! Time frees memory only where nobody can still touch it, and never publishes anything. A holder that is
//! alive, which is one whose connection is open and speaks, keeps what it holds.

use larder_core::cache::EntryRef;
use larder_telemetry::events::Event;

use crate::config::Limits;
use crate::engine::State;
use crate::faces::Upkeep;
use crate::state::connections::LastSeen;
use crate::state::instances::Instance;
use crate::state::pending::PendingRetrieve;
use crate::state::processes::ORPHAN_GRACE_MS;
use crate::state::sessions::Session;

/// Longest a request of a living client may stay idle; beyond it the client has forgotten it.
const SESSION_IDLE_MAX_MS: u64 = 3_600_000;

impl Upkeep {
    /// Resolves when there may be something to sweep.
    pub async fn sweep_due(&self) {
        self.wake_sweep.notified().await;
    }

    /// Gives back everything whose time is over. True while there is anything left that a later sweep may
    /// have to give back.
    #[expect(clippy::must_use_candidate, reason = "what it does is what most callers want")]
    pub fn sweep(&self) -> bool {
        let now_ms = self.now_ms();
        let mut state = self.state();
        self.sweep_sessions(&mut state, now_ms);
        self.sweep_transfers(&mut state, now_ms);
        self.reap(&mut state, now_ms);
        self.sweep_held(&mut state, now_ms);
        self.record_removals(&mut state);
        let is_advised = state.cache.expire_advice(now_ms);
        let instances = state.instances.len() + state.set_aside.len();
        is_advised || !state.held.is_empty() || state.sessions.len() > 0 || instances > 0
    }

    fn sweep_sessions(&self, state: &mut State, now_ms: u64) {
        let State { sessions, last_seen, limits, .. } = &mut *state;
        let expired = sessions
            .take_expired(|session, gone_ms| session_is_over(session, gone_ms, last_seen, limits, now_ms));
        for (request_id, session) in expired {
            let held = session.found.leases.held();
            if held > 0 {
                self.counters.expired_leases.add(held);
                tracing::info!(
                    "gave back {held} leases of request `{request_id}`: its holder is gone or silent"
                );
            }
            self.close(state, session);
        }
    }

    fn sweep_transfers(&self, state: &mut State, now_ms: u64) {
        let mut unread: Vec<EntryRef> = Vec::new();
        let mut abandoned = state.set_aside.take_over(now_ms);
        let Limits { write_ttl_ms, read_ttl_ms, .. } = state.limits;
        for (id, instance) in state.instances.iter_mut() {
            if instance.is_gone(now_ms) {
                instance.process = None;
                let pending = std::mem::take(&mut instance.pending);
                if pending.count() > 0 {
                    tracing::info!(
                        "took back {} unfinished transfers of instance {id}: it is gone",
                        pending.count()
                    );
                    abandoned.push(pending.abandon());
                }
                continue;
            }
            expire_stores(id, instance, write_ttl_ms, now_ms);
            unread.extend(expired_retrieves(instance, read_ttl_ms, now_ms));
        }
        let staged: usize = abandoned.iter().map(|left| left.staging.len()).sum();
        self.counters.expired_stores.add(staged as u64);
        self.counters.expired_leases.add(unread.len() as u64);
        for left in abandoned {
            state.clean_up(left);
        }
        state.release_all(unread);
    }

    fn reap(&self, state: &mut State, now_ms: u64) {
        let Limits { reap_timeout_ms, registration_grace_ms, .. } = state.limits;
        if reap_timeout_ms == 0 {
            return;
        }
        let silent = |instance: &Instance| {
            let limit = if instance.pinged { reap_timeout_ms } else { registration_grace_ms };
            now_ms.saturating_sub(instance.seen_ms) > limit
        };
        let dead: Vec<i64> = state.instances.iter().filter(|(_, i)| silent(i)).map(|(id, _)| id).collect();
        for id in dead {
            let Some(mut instance) = state.instances.unregister(id) else { continue };
            let (transfers, connections) = (instance.pending.count(), instance.connections.len());
            state.set_aside.add(id, &mut instance);
            self.counters.reaped_instances.add(1);
            self.bus.publish(|| Event::Instance { instance_id: id, change: "reaped", model_name: "" });
            tracing::warn!(
                "ended the registration of instance {id}: silent beyond the reap timeout; {transfers} unfinished transfers wait \
                 for its process or its {connections} connections to end"
            );
        }
    }
}

fn session_is_over(
    session: &Session,
    gone_ms: Option<u64>,
    last_seen: &LastSeen,
    limits: &Limits,
    now_ms: u64,
) -> bool {
    if gone_ms.is_some_and(|since| now_ms.saturating_sub(since) > ORPHAN_GRACE_MS) {
        return true;
    }
    let idle_ms = now_ms.saturating_sub(session.used_ms);
    let holds = session.found.leases.held() > 0;
    let ttl_ms = if holds { limits.read_ttl_ms } else { limits.session_ttl_ms };
    let last_ms = last_seen.at_ms(session.owner).unwrap_or(session.used_ms);
    let silent_ms = now_ms.saturating_sub(last_ms);
    idle_ms > SESSION_IDLE_MAX_MS.max(ttl_ms) || (idle_ms > ttl_ms && silent_ms > ttl_ms)
}

/// Marks stores whose time to commit is over. Their memory stays the worker's: it may hang in its copy.
fn expire_stores(id: i64, instance: &mut Instance, write_ttl_ms: u64, now_ms: u64) {
    for (key, pending) in instance.pending.stores.iter_mut().filter(|(_, pending)| !pending.expired) {
        pending.expired = now_ms.saturating_sub(pending.since_ms) > write_ttl_ms;
        if pending.expired {
            tracing::warn!(
                "instance {id} has not committed {} bytes it reserved for request `{}` in time: they are set aside until it is gone",
                pending.staged_bytes,
                key.request_id
            );
        }
    }
}

/// Takes the retrieves whose time is over and whose worker has begun another transfer since: it is not
/// reading them any more.
fn expired_retrieves(instance: &mut Instance, read_ttl_ms: u64, now_ms: u64) -> Vec<EntryRef> {
    let moved_ms = instance.transferred_ms;
    let over = |pending: &PendingRetrieve| {
        let until_ms = pending.since_ms.saturating_add(read_ttl_ms);
        now_ms > until_ms && moved_ms > until_ms
    };
    instance.pending.take_retrieves(over)
}
