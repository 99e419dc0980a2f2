//! Engine-driven transfer: prepare and commit of stores and retrieves (`spec/transfer-modes.md` 2 and 3).
//!
//! What a worker was told to write is its own until it says that it has written it, or is gone. So a commit
//! publishes what its own prepares reserved and nothing else, and no prepare takes memory back from another.

use std::sync::Arc;

use larder_core::cache::{Commit, EntryRef};
use larder_core::hash::ChunkHash;
use larder_core::layout::ObjectLayout;
use larder_telemetry::events::Event;

use crate::engine::{Locked, State, table_ms};
use crate::error::EngineError;
use crate::faces::Requests;
use crate::key::PromptKey;
use crate::limits::PENDING_PER_INSTANCE_MAX;
use crate::state::checks::CheckPoint;
use crate::state::connections::ConnectionId;
use crate::state::instances::Instance;
use crate::state::lifetimes::Touch;
use crate::state::pending::{PendingRetrieve, PendingStore, TransferKey};
use crate::state::set_aside::RESERVED_SHARE;
use crate::verify::Checked;

/// Where one chunk is in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// First byte in the pool.
    pub offset: u64,
    /// Position of the chunk in the range that was asked for.
    pub index: usize,
}

/// What a worker is to write.
#[derive(Clone, Debug)]
pub struct StorePlan {
    /// One slot per absent chunk; none if everything is there already.
    pub slots: Vec<Slot>,
    /// What each slot holds.
    pub layout: Arc<ObjectLayout>,
}

/// What a worker may read until it commits.
#[derive(Clone, Debug)]
pub struct RetrievePlan {
    /// One slot per chunk of the range, in order.
    pub slots: Vec<Slot>,
    /// The object in each slot.
    pub entries: Vec<EntryRef>,
    /// What each slot holds.
    pub layout: Arc<ObjectLayout>,
}

/// The validated parts of a transfer request.
struct Transfer {
    key: TransferKey,
    rank: u32,
    now_ms: u64,
}

impl Transfer {
    fn layout(&self) -> &Arc<ObjectLayout> {
        &self.key.scope.layout
    }

    fn chunks(&self) -> usize {
        self.key.end - self.key.start
    }
}

impl Requests {
    /// Reserves memory for the absent chunks of a range. The worker writes them and then commits.
    ///
    /// # Errors
    /// [`EngineError::UnknownInstance`] for a worker that is not registered, [`EngineError::Key`] for a range
    /// that is not made of whole chunks, [`EngineError::TooManyPending`] for a worker that commits nothing.
    pub fn prepare_store(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
    ) -> Result<StorePlan, EngineError> {
        let (mut state, transfer) = self.begin(key, instance_id, connection)?;
        let TransferKey { scope, start, end, .. } = &transfer.key;
        let prefix = &key.hashes[..*end];
        // Before room is made, so that it is not made of the chunks that these continue.
        state.cache.refresh(scope, prefix);
        let most =
            self.unreserved_bytes(&state, instance_id, connection) / state.cache.bytes_held_by(scope).max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let reservation =
            state.cache.reserve_up_to(most, scope, prefix, *start..*end, table_ms(transfer.now_ms));
        self.counters.refused_chunks.add(reservation.refused as u64);
        let slots: Vec<Slot> =
            reservation.reserved.iter().map(|r| Slot { offset: r.offset, index: r.index }).collect();
        let layout = Arc::clone(transfer.layout());
        if !slots.is_empty() {
            let staged_bytes = state.cache.bytes_held_by(scope) * slots.len() as u64;
            let outstanding = state.set_aside.outstanding(instance_id, &transfer.key);
            let instance = registered(&mut state, instance_id)?;
            let fresh = PendingStore { prepared: outstanding, ..PendingStore::default() };
            let pending = instance.pending.stores.entry(transfer.key).or_insert(fresh);
            pending.entries.extend(reservation.reserved.iter().map(|r| (r.index, r.entry)));
            pending.staged_bytes += staged_bytes;
            pending.prepared += 1;
            pending.since_ms = transfer.now_ms;
            self.wake_sweep.notify_one();
        }
        self.after_change(&mut state);
        Ok(StorePlan { slots, layout })
    }

    /// Checks a transfer whose bytes will come with its commit.
    ///
    /// # Errors
    /// As for [`Self::prepare_store`].
    pub fn check_transfer(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
    ) -> Result<(), EngineError> {
        self.begin(key, instance_id, connection).map(drop)
    }

    /// Whether this worker sends and wants bytes in messages though the pool is shared: it can't reach it.
    #[must_use]
    pub fn sends_bytes(&self, instance_id: i64) -> bool {
        self.state().instances.get_mut(instance_id).is_some_and(|instance| instance.sends_bytes)
    }

    /// Publishes what the worker wrote since the matching prepare; false if there is nothing of that name to
    /// publish. `tokens` are the prompt's, for the event log; see [`Self::wants_tokens`].
    ///
    /// # Errors
    /// As for [`Self::prepare_store`].
    pub fn commit_store(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
        tokens: Option<&[u32]>,
    ) -> Result<bool, EngineError> {
        let (mut state, transfer) = self.transfer(key, instance_id, connection)?;
        let stores = &mut registered(&mut state, instance_id)?.pending.stores;
        let Some(pending) = stores.get_mut(&transfer.key) else {
            // It may be of an earlier registration, whose memory the worker is done with by that.
            let written = state.set_aside.commit(instance_id, &transfer.key);
            state.abort_all(written);
            return Ok(false);
        };
        // Nothing says which of its prepares a commit belongs to, so nothing is published before the last.
        pending.committed += 1;
        let expired = pending.expired;
        if pending.outstanding() > 0 {
            return Ok(!expired);
        }
        let entries = stores.remove(&transfer.key).unwrap_or_default().into_entries();
        if expired {
            state.abort_all(entries);
            return Ok(false);
        }
        let stored = self.publish(&mut state, &transfer, key, &entries, tokens);
        self.after_change(&mut state);
        Ok(stored)
    }

    /// Stores a range whose bytes came along: one copy per absent chunk, then published. Chunks that are
    /// there already are skipped. `write` puts the bytes of a chunk, given by its index in the range, at an
    /// offset of the pool.
    ///
    /// # Errors
    /// As for [`Self::prepare_store`], and what `write` fails with; then nothing of the range is published.
    pub fn store_bytes(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
        tokens: Option<&[u32]>,
        mut write: impl FnMut(usize, u64, &ObjectLayout) -> Result<(), EngineError>,
    ) -> Result<bool, EngineError> {
        let (transfer, reserved) = {
            let (mut state, transfer) = self.transfer(key, instance_id, connection)?;
            let instance = registered(&mut state, instance_id)?;
            instance.sends_bytes = true;
            // The slots that it was told to write instead, nobody writes.
            let unwritten = instance.pending.stores.remove(&transfer.key).unwrap_or_default();
            state.abort_all(unwritten.into_entries());
            let TransferKey { scope, start, end, .. } = &transfer.key;
            let answer =
                state.cache.reserve(scope, &key.hashes[..*end], *start..*end, table_ms(transfer.now_ms));
            self.counters.refused_chunks.add(answer.refused as u64);
            (transfer, answer.reserved)
        };
        // Without the lock: copies take longer than anybody may wait for it.
        let written = reserved.iter().try_for_each(|r| write(r.index, r.offset, transfer.layout()));
        let entries: Vec<EntryRef> = reserved.iter().map(|r| r.entry).collect();
        let mut state = self.state();
        let stored = match written {
            Ok(()) => Ok(entries.is_empty() || self.publish(&mut state, &transfer, key, &entries, tokens)),
            Err(error) => {
                state.abort_all(entries);
                Err(error)
            }
        };
        self.after_change(&mut state);
        stored
    }

    /// Hands out the chunks of a range that the request's lookup leased, all of them or none.
    ///
    /// # Errors
    /// As for [`Self::prepare_store`].
    pub fn prepare_retrieve(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
    ) -> Result<Option<RetrievePlan>, EngineError> {
        let (mut state, transfer) = self.begin(key, instance_id, connection)?;
        let Some(entries) = take_leases(&mut state, key, &transfer) else {
            self.counters.read_failed_chunks.add(transfer.chunks() as u64);
            return Ok(None);
        };
        let offsets = entries.iter().filter_map(|&entry| state.cache.offset(entry)).enumerate();
        let slots = offsets.map(|(index, offset)| Slot { offset, index }).collect();
        let layout = Arc::clone(transfer.layout());
        let instance = registered(&mut state, instance_id)?;
        instance.pending.add_retrieve(transfer.key, entries.clone(), transfer.now_ms);
        self.wake_sweep.notify_one();
        Ok(Some(RetrievePlan { slots, entries, layout }))
    }

    /// Ends the oldest retrieve of the matching prepares and gives its leases back; nothing happens if there
    /// is none.
    ///
    /// # Errors
    /// As for [`Self::prepare_store`].
    pub fn commit_retrieve(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
    ) -> Result<(), EngineError> {
        self.end_retrieve(
            key,
            instance_id,
            connection,
            |_| true,
            |state, transfer, entries| {
                self.counters.read_chunks.add(entries.len() as u64);
                self.follow(state, entries, Touch::Read);
                if transfer.rank == 0 {
                    self.follow_uses(state, key.cache_salt, entries, Touch::Read);
                }
                self.bus.publish(|| Event::Retrieve {
                    model_name: key.model_name,
                    request_id: key.request_id,
                    worker_id: transfer.rank,
                    chunks: entries.len(),
                });
            },
        )
    }

    /// Takes a retrieve back that was prepared and not handed out, because its chunks are not what was
    /// stored.
    ///
    /// # Errors
    /// As for [`Self::prepare_store`].
    pub fn fail_retrieve(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
        plan: &RetrievePlan,
    ) -> Result<(), EngineError> {
        let own = |pending: &PendingRetrieve| pending.entries == plan.entries;
        self.end_retrieve(key, instance_id, connection, own, |_, _, entries| {
            self.counters.read_failed_chunks.add(entries.len() as u64);
        })
    }

    /// Ends the oldest retrieve of this name that is `wanted`, has it told, and gives its leases back.
    fn end_retrieve(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
        wanted: impl Fn(&PendingRetrieve) -> bool,
        tell: impl FnOnce(&mut State, &Transfer, &[EntryRef]),
    ) -> Result<(), EngineError> {
        let (mut state, transfer) = self.transfer(key, instance_id, connection)?;
        let pending = &mut registered(&mut state, instance_id)?.pending;
        let Some(entries) = pending.take_retrieve(&transfer.key, wanted) else { return Ok(()) };
        tell(&mut state, &transfer, &entries);
        state.release_all(entries);
        Ok(())
    }

    /// Whether all chunks of a retrieve are what was committed; what is not is dropped. Blocks for as long as
    /// hashing them takes.
    #[must_use]
    pub fn verify_retrieve(&self, plan: &RetrievePlan) -> bool {
        let bytes = plan.layout.bytes();
        let intact = |(&entry, offset)| match self.verify_object(entry, offset, bytes, CheckPoint::Retrieve) {
            Ok(checked) => matches!(checked, Checked::Intact(_)),
            Err(error) => {
                tracing::warn!("a chunk can't be checked: {error}");
                false
            }
        };
        let offsets = plan.slots.iter().map(|slot| slot.offset);
        // All of them, even after the first that is wrong: what is wrong is to go at once.
        plan.entries.iter().zip(offsets).filter(|&(entry, offset)| !intact((entry, offset))).count() == 0
    }

    /// Checks the beginning of a transfer: as [`Self::transfer`], and whether there may be one more.
    fn begin(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
    ) -> Result<(Locked<'_>, Transfer), EngineError> {
        let (mut state, transfer) = self.transfer(key, instance_id, connection)?;
        let instance = registered(&mut state, instance_id)?;
        let too_many = instance.pending.count() >= PENDING_PER_INSTANCE_MAX;
        let registered_so = instance.registration.world_size == key.world_size
            && *instance.registration.model_name == *key.model_name;
        if too_many {
            self.counters.refused_transfers.add(1);
            return Err(EngineError::TooManyPending(instance_id));
        }
        if registered_so {
            state.instances.learn_rank(instance_id, transfer.rank);
            learn_scheduler(&mut state, key, instance_id);
        }
        Ok((state, transfer))
    }

    /// Checks a transfer request, notes that its worker lives, and holds the lock for what is to be done.
    fn transfer(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
    ) -> Result<(Locked<'_>, Transfer), EngineError> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let connection = state.last_seen.note(connection, now_ms).then_some(connection);
        let instance = state.instances.note_alive(instance_id, connection, now_ms)?;
        instance.transferred_ms = now_ms;
        let chunks = key.chunks(self.config.chunk_size)?;
        let rank = key.worker()?;
        let none = ChunkHash([0; ChunkHash::LEN]);
        let last = chunks.end.checked_sub(1).map_or(Some(none), |last| key.hashes.get(last).copied());
        let last = last.ok_or(EngineError::MissingHashes)?;
        let registration = &instance.registration;
        let scope = key.scope(&registration.layout, rank, &registration.model_name)?;
        let request_id = key.request_id.into();
        let key = TransferKey { request_id, scope, last, start: chunks.start, end: chunks.end };
        Ok((state, Transfer { key, rank, now_ms }))
    }

    /// Bytes that a worker may still reserve. What is reserved stays its writer's own for as long as that
    /// lives, so no client may have everything: it is given a share of what others have left, with all its
    /// workers together. Instance ids are the client's choice, so workers of one connection are one client.
    fn unreserved_bytes(&self, state: &State, instance_id: i64, connection: ConnectionId) -> u64 {
        let reserved = state.instances.iter().map(|(id, instance)| {
            (id == instance_id || instance.connections.contains(&connection), instance.pending.staged_bytes())
        });
        let reserved = reserved.chain(state.set_aside.reserved(instance_id, connection));
        let (own, others) =
            reserved.fold(
                (0, 0),
                |(own, others), (is_own, bytes)| {
                    if is_own { (own + bytes, others) } else { (own, others + bytes) }
                },
            );
        (self.pool.len_bytes().saturating_sub(others) / RESERVED_SHARE).saturating_sub(own)
    }

    /// Commits in reverse, so that no chunk is ever colder than its continuation.
    fn publish(
        &self,
        state: &mut State,
        transfer: &Transfer,
        key: &PromptKey<'_>,
        entries: &[EntryRef],
        tokens: Option<&[u32]>,
    ) -> bool {
        let mut commits: Vec<Commit> = entries.iter().rev().map(|&entry| state.cache.commit(entry)).collect();
        commits.reverse();
        let TransferKey { scope, end, .. } = &transfer.key;
        state.cache.refresh(scope, &key.hashes[..*end]);
        let stored = commits.iter().filter(|&&commit| commit == Commit::Stored).count();
        self.counters.written_chunks.add(stored as u64);
        self.bus.publish(|| Event::Store {
            model_name: key.model_name,
            cache_salt: key.cache_salt,
            request_id: key.request_id,
            worker_id: transfer.rank,
            chunks: stored,
            bytes: stored as u64 * scope.layout.bytes(),
        });
        let fresh = entries.iter().zip(&commits).filter(|&(_, &commit)| commit == Commit::Stored);
        let fresh: Vec<EntryRef> = fresh.map(|(&entry, _)| entry).collect();
        self.follow(state, &fresh, Touch::Stored);
        if transfer.rank == 0 {
            self.follow_uses(state, key.cache_salt, &fresh, Touch::Stored);
        }
        self.queue_seals(state, scope.layout.bytes(), &fresh);
        self.queue_stores(state, scope, &key.hashes, *end, &fresh);
        if let Some(tokens) = tokens.filter(|_| stored > 0 && transfer.rank == 0) {
            self.record_stores(state, scope, &key.hashes, &fresh, tokens);
        }
        commits.iter().all(|&commit| commit != Commit::Gone)
    }
}

fn registered(state: &mut State, instance_id: i64) -> Result<&mut Instance, EngineError> {
    state.instances.get_mut(instance_id).ok_or(EngineError::UnknownInstance(instance_id))
}

/// A worker that transfers under a request tells whose scheduler looked it up, if only one did.
fn learn_scheduler(state: &mut State, key: &PromptKey<'_>, instance_id: i64) {
    let State { sessions, instances, .. } = state;
    if !instances.layouts.differ(key.model_name, key.world_size) {
        return;
    }
    let mut owners = sessions.lenders(key).map(|session| session.owner);
    if let (Some(owner), None) = (owners.next(), owners.next()) {
        drop(owners);
        instances.learn_scheduler(owner, instance_id);
    }
}

/// Takes a lease on each chunk of a transfer from the lookups of its request: from the one that found least
/// of those that found enough, since workers of others may come for the rest. Only what can still be found is
/// handed out.
fn take_leases(state: &mut State, key: &PromptKey<'_>, transfer: &Transfer) -> Option<Vec<EntryRef>> {
    let TransferKey { scope, start, end, .. } = &transfer.key;
    let State { sessions, cache, .. } = state;
    let prefix = &key.hashes[..*end];
    let mut lenders: Vec<_> = sessions.lenders(key).collect();
    lenders.sort_by_key(|session| session.found.hit_chunks);
    for session in lenders {
        session.used_ms = transfer.now_ms;
        let Some(entries) = session.found.take(scope, prefix, *start) else { continue };
        if !entries.is_empty() && entries.iter().all(|&entry| cache.is_resident(entry)) {
            return Some(entries);
        }
        for entry in entries {
            cache.release(entry, 1);
        }
    }
    None
}
