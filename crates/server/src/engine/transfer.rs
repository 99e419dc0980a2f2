//! Engine-driven transfer: prepare and commit of stores and retrieves (`spec/transfer-modes.md` 2 and 3).

use std::sync::Arc;

use larder_core::cache::{Commit, EntryRef};
use larder_core::hash::ChunkHash;
use larder_core::key::Scope;
use larder_core::layout::ObjectLayout;

use super::core::{ConnectionId, Engine, State};
use super::error::EngineError;
use super::instances::{Instance, PENDING_PER_INSTANCE_MAX, PendingStore, TransferKey};
use super::key::PromptKey;
use crate::events::Event;

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
    layout: Arc<ObjectLayout>,
    rank: u32,
}

impl Engine {
    /// Reserves memory for the absent chunks of a range. The worker writes them and then commits.
    ///
    /// # Errors
    /// [`EngineError::UnknownInstance`] for a worker that is not registered, [`EngineError::Key`] for a range that is not
    /// made of whole chunks.
    pub fn prepare_store(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
    ) -> Result<StorePlan, EngineError> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let transfer = self.transfer(&mut state, key, instance_id, connection, now_ms)?;
        let Transfer { key: transfer_key, layout, .. } = transfer;
        let prefix = &key.hashes[..transfer_key.end];
        state.cache.refresh(&transfer_key.scope, prefix);
        let range = transfer_key.start..transfer_key.end;
        let reservation = state.cache.reserve(&transfer_key.scope, prefix, range, now_ms as u32);
        self.counters.refused_chunks.add(reservation.refused as u64);
        let slots: Vec<Slot> =
            reservation.reserved.iter().map(|r| Slot { offset: r.offset, index: r.index }).collect();
        let entries: Vec<EntryRef> = reservation.reserved.iter().map(|r| r.entry).collect();
        if !entries.is_empty() {
            let pending = PendingStore { entries, since_ms: now_ms, expired: false };
            let instance =
                state.instances.get_mut(instance_id).ok_or(EngineError::UnknownInstance(instance_id))?;
            if let Some(superseded) = instance.stores.insert(transfer_key, pending) {
                abort_all(&mut state, superseded.entries);
            }
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
        let now_ms = self.now_ms();
        self.transfer(&mut self.state(), key, instance_id, connection, now_ms).map(drop)
    }

    /// Publishes what the worker wrote since the matching prepare; false if there is nothing of that name to publish.
    /// `tokens` are the prompt's, for the event log; see [`Self::wants_tokens`].
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
        let now_ms = self.now_ms();
        let mut state = self.state();
        let transfer = self.transfer(&mut state, key, instance_id, connection, now_ms)?;
        let instance =
            state.instances.get_mut(instance_id).ok_or(EngineError::UnknownInstance(instance_id))?;
        let Some(pending) = instance.stores.remove(&transfer.key) else { return Ok(false) };
        if pending.expired {
            abort_all(&mut state, pending.entries);
            return Ok(false);
        }
        let stored = self.publish(&mut state, &transfer, key, &pending.entries, tokens);
        self.after_change(&mut state);
        Ok(stored)
    }

    /// Stores a range whose bytes came along: one copy per absent chunk, then published. Chunks that are there
    /// already are skipped. `write` puts the bytes of a chunk, given by its index in the range, at an offset of the pool.
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
        let now_ms = self.now_ms();
        let (transfer, reserved) = {
            let mut state = self.state();
            let transfer = self.transfer(&mut state, key, instance_id, connection, now_ms)?;
            let (start, end) = (transfer.key.start, transfer.key.end);
            let prefix = &key.hashes[..end];
            let answer = state.cache.reserve(&transfer.key.scope, prefix, start..end, now_ms as u32);
            self.counters.refused_chunks.add(answer.refused as u64);
            (transfer, answer.reserved)
        };
        let written = reserved.iter().try_for_each(|r| write(r.index, r.offset, &transfer.layout));
        let entries: Vec<EntryRef> = reserved.iter().map(|r| r.entry).collect();
        let mut state = self.state();
        let stored = match written {
            Ok(()) => Ok(entries.is_empty() || self.publish(&mut state, &transfer, key, &entries, tokens)),
            Err(error) => {
                abort_all(&mut state, entries);
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
        let now_ms = self.now_ms();
        let mut state = self.state();
        let Transfer { key: transfer_key, layout, rank } =
            self.transfer(&mut state, key, instance_id, connection, now_ms)?;
        let range = transfer_key.start..transfer_key.end;
        let Some(entries) = take_leases(&mut state, key, rank, &transfer_key, now_ms) else {
            self.counters.read_failed_chunks.add(range.len() as u64);
            return Ok(None);
        };
        let offsets: Vec<u64> = entries.iter().filter_map(|&entry| state.cache.offset(entry)).collect();
        let instance =
            state.instances.get_mut(instance_id).ok_or(EngineError::UnknownInstance(instance_id))?;
        instance.retrieves.entry(transfer_key).or_default().push(entries.clone());
        self.wake_sweep.notify_one();
        let slots = offsets.iter().enumerate().map(|(index, &offset)| Slot { offset, index }).collect();
        Ok(Some(RetrievePlan { slots, entries, layout }))
    }

    /// Ends the retrieve of the matching prepare and gives its leases back; nothing happens if there is none.
    ///
    /// # Errors
    /// As for [`Self::prepare_store`].
    pub fn commit_retrieve(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
    ) -> Result<(), EngineError> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let transfer = self.transfer(&mut state, key, instance_id, connection, now_ms)?;
        let instance =
            state.instances.get_mut(instance_id).ok_or(EngineError::UnknownInstance(instance_id))?;
        let Some(batches) = instance.retrieves.get_mut(&transfer.key) else { return Ok(()) };
        let entries = batches.pop().unwrap_or_default();
        if batches.is_empty() {
            instance.retrieves.remove(&transfer.key);
        }
        self.counters.read_chunks.add(entries.len() as u64);
        self.bus.publish(|| Event::Retrieve {
            model_name: key.model_name,
            request_id: key.request_id,
            worker_id: transfer.rank,
            chunks: entries.len(),
        });
        for entry in entries {
            state.cache.release(entry, 1);
        }
        Ok(())
    }

    /// Takes a retrieve back that was prepared and not handed out, because its chunks are not what was stored.
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
        let now_ms = self.now_ms();
        let mut state = self.state();
        let transfer = self.transfer(&mut state, key, instance_id, connection, now_ms)?;
        let instance =
            state.instances.get_mut(instance_id).ok_or(EngineError::UnknownInstance(instance_id))?;
        let Some(batches) = instance.retrieves.get_mut(&transfer.key) else { return Ok(()) };
        let Some(own) = batches.iter().position(|batch| *batch == plan.entries) else { return Ok(()) };
        let entries = batches.remove(own);
        if batches.is_empty() {
            instance.retrieves.remove(&transfer.key);
        }
        self.counters.read_failed_chunks.add(entries.len() as u64);
        for entry in entries {
            state.cache.release(entry, 1);
        }
        Ok(())
    }

    /// Checks a transfer request and notes that its worker lives.
    fn transfer(
        &self,
        state: &mut State,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
        now_ms: u64,
    ) -> Result<Transfer, EngineError> {
        let connection = state.heard.note(connection, now_ms).then_some(connection);
        let instance =
            state.instances.get_mut(instance_id).ok_or(EngineError::UnknownInstance(instance_id))?;
        instance.heard(connection, now_ms);
        instance.transferred_ms = now_ms;
        if instance.pending() >= PENDING_PER_INSTANCE_MAX {
            return Err(EngineError::TooManyPending(instance_id));
        }
        let chunks = key.chunks(self.config.chunk_size)?;
        let rank = key.worker()?;
        let layout = Arc::clone(&instance.registration.layout);
        let last = chunks.end.checked_sub(1).map_or(ChunkHash([0; ChunkHash::LEN]), |last| key.hashes[last]);
        let scope = transfer_scope(key, instance, &layout, rank);
        Ok(Transfer { key: TransferKey { scope, last, start: chunks.start, end: chunks.end }, layout, rank })
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
            bytes: stored as u64 * transfer.layout.bytes(),
        });
        let fresh = entries.iter().zip(&commits).filter(|&(_, &commit)| commit == Commit::Stored);
        let fresh: Vec<EntryRef> = fresh.map(|(&entry, _)| entry).collect();
        self.queue_seals(state, scope.layout.bytes(), &fresh);
        self.queue_stores(state, scope, &key.hashes, *end, &fresh);
        if let Some(tokens) = tokens.filter(|_| stored > 0 && transfer.rank == 0) {
            self.record_stores(state, scope, &key.hashes, &fresh, tokens);
        }
        commits.iter().all(|&commit| commit != Commit::Gone)
    }
}

/// The worker's own model name is shared instead of copied where it is the key's.
fn transfer_scope(key: &PromptKey<'_>, instance: &Instance, layout: &Arc<ObjectLayout>, rank: u32) -> Scope {
    let mut scope = key.scope(layout, rank);
    if *scope.model_name == *instance.registration.model_name {
        scope.model_name = Arc::clone(&instance.registration.model_name);
    }
    scope
}

fn take_leases(
    state: &mut State,
    key: &PromptKey<'_>,
    rank: u32,
    transfer: &TransferKey,
    now_ms: u64,
) -> Option<Vec<EntryRef>> {
    let found = state.sessions.get(key.request_id, now_ms)?.found.as_mut()?;
    if found.hashes.get(..transfer.end)?.last() != key.hashes.get(..transfer.end)?.last() {
        return None;
    }
    let entries = found.leases.take(rank, 0, transfer.start..transfer.end)?;
    if entries.iter().all(|&entry| state.cache.offset(entry).is_some()) {
        return Some(entries);
    }
    for entry in entries {
        state.cache.release(entry, 1);
    }
    None
}

/// Takes back memory nobody will write any more.
pub(super) fn abort_all(state: &mut State, entries: Vec<EntryRef>) {
    for entry in entries {
        state.cache.abort(entry);
    }
}
