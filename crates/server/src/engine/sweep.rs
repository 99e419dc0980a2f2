//! Giving back what nobody will claim: orphans, silent holders, expired writers.
//!
//! Time frees memory only where nobody can still touch it, and never publishes anything. A holder that is alive, which is one
//! whose connection is open and speaks, keeps what it holds.

use larder_core::cache::EntryRef;

use super::core::{Engine, Limits, State};
use super::instances::Instance;
use super::members::{Heard, clean_up};
use super::sessions::Session;
use super::transfer::abort_all;
use crate::events::Event;

/// How long what a closed connection held is kept for a client that reconnects.
const ORPHAN_GRACE_MS: u64 = 2_000;

/// Longest a request of a living client may stay idle; beyond it the client has forgotten it.
const SESSION_IDLE_MAX_MS: u64 = 3_600_000;

impl Engine {
    /// Resolves when there may be something to sweep.
    pub async fn sweep_due(&self) {
        self.wake_sweep.notified().await;
    }

    /// Gives back everything whose time is over. True while there is anything left that a later sweep may have to give back.
    pub fn sweep(&self) -> bool {
        let now_ms = self.now_ms();
        let mut state = self.state();
        self.sweep_sessions(&mut state, now_ms);
        self.sweep_transfers(&mut state, now_ms);
        self.reap(&mut state, now_ms);
        self.sweep_held(&mut state, now_ms);
        self.record_removals(&mut state);
        !state.held.is_empty() || state.sessions.len() > 0 || state.instances.len() > 0
    }

    fn sweep_sessions(&self, state: &mut State, now_ms: u64) {
        let State { sessions, heard, limits, .. } = &mut *state;
        let expired = sessions.take_expired(|session| session_is_over(session, heard, limits, now_ms));
        for (request_id, session) in expired {
            let held = session.found.as_ref().map_or(0, |found| found.leases.held());
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
        let mut over: Vec<EntryRef> = Vec::new();
        let mut abandoned = Vec::new();
        let write_ttl_ms = state.limits.write_ttl_ms;
        for (id, instance) in state.instances.iter_mut() {
            if instance.orphaned_ms.is_some_and(|since| now_ms.saturating_sub(since) > ORPHAN_GRACE_MS) {
                if instance.pending() > 0 {
                    tracing::info!(
                        "took back {} unfinished transfers of instance {id}: it is gone",
                        instance.pending()
                    );
                    abandoned.push(instance.take_pending());
                }
                continue;
            }
            over.extend(expire_stores(instance, write_ttl_ms, now_ms));
        }
        let staged: usize = abandoned.iter().map(|left| left.staging.len()).sum();
        self.counters.expired_stores.add((staged + over.len()) as u64);
        for left in abandoned {
            clean_up(state, left);
        }
        abort_all(state, over);
    }

    fn reap(&self, state: &mut State, now_ms: u64) {
        let Limits { reap_timeout_ms, registration_grace_ms, .. } = state.limits;
        if reap_timeout_ms == 0 {
            return;
        }
        let silent = |instance: &Instance| {
            let limit = if instance.pinged { reap_timeout_ms } else { registration_grace_ms };
            instance.connections.is_empty() && now_ms.saturating_sub(instance.seen_ms) > limit
        };
        let dead: Vec<i64> = state.instances.iter().filter(|(_, i)| silent(i)).map(|(id, _)| id).collect();
        for id in dead {
            if let Some(left) = state.instances.unregister(id) {
                clean_up(state, left);
                self.counters.reaped_instances.add(1);
                self.bus.publish(|| Event::Instance { instance_id: id, change: "reaped", model_name: "" });
                tracing::warn!("dropped instance {id}: not connected and silent beyond the reap timeout");
            }
        }
    }
}

fn session_is_over(session: &Session, heard: &Heard, limits: &Limits, now_ms: u64) -> bool {
    if session.orphaned_ms.is_some_and(|since| now_ms.saturating_sub(since) > ORPHAN_GRACE_MS) {
        return true;
    }
    let idle_ms = now_ms.saturating_sub(session.used_ms);
    let holds = session.found.as_ref().is_some_and(|found| found.leases.held() > 0);
    let ttl_ms = if holds { limits.read_ttl_ms } else { limits.session_ttl_ms };
    let last_ms = session.owner.and_then(|owner| heard.at_ms(owner)).unwrap_or(session.used_ms);
    let silent_ms = now_ms.saturating_sub(last_ms);
    idle_ms > SESSION_IDLE_MAX_MS.max(ttl_ms) || (idle_ms > ttl_ms && silent_ms > ttl_ms)
}

/// Marks stores whose time to commit is over, and takes back those whose worker has begun another transfer since: it is not
/// writing them any more. A worker that hangs in its copy keeps the memory until it disconnects.
fn expire_stores(instance: &mut Instance, write_ttl_ms: u64, now_ms: u64) -> Vec<EntryRef> {
    let moved_ms = instance.transferred_ms;
    for pending in instance.stores.values_mut() {
        pending.expired |= now_ms.saturating_sub(pending.since_ms) > write_ttl_ms;
    }
    let moved_on = instance
        .stores
        .extract_if(|_, pending| pending.expired && moved_ms > pending.since_ms.saturating_add(write_ttl_ms));
    moved_on.flat_map(|(_, pending)| pending.entries).collect()
}
