//! Taking over the pool of a server that is gone: its objects become staging objects here, and are published
//! one by one as their bytes prove to be theirs.
//!
//! Nothing of it is believed unseen. A record that contradicts another, the pool or the layout is dropped;
//! bytes that do not match their seal are dropped; and memory that somebody was writing is kept out of use
//! for a while, because its writer may still be alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use larder_core::cache::{Cache, Commit};
use larder_core::hash::ChunkHash;
use larder_core::key::{Namespace, Scope};
use larder_core::layout::ObjectLayout;
use larder_pool::{Contents, Directory, PoolError, SlotRecord};

use crate::engine::{Engine, STAGING_FRESH_MS, State, table_ms};
use crate::faces::Upkeep;
use crate::state::adoption::{Adoption, AdoptionStatus, Unverified, lock};
use crate::state::held::{HELD_MS, Held, HeldMemory, READ_MS};
use crate::state::prefetches::PrefetchWork;
use crate::state::slots::{SlotKeeper, decode};

/// What the records of a dead server came to.
#[derive(Debug, Default)]
struct TakenOver {
    /// With their sequence numbers and chunks.
    unverified: Vec<(u64, ChunkHash, Unverified)>,
    /// What somebody may be writing.
    written: Vec<HeldMemory>,
    /// What somebody may be reading, each under a lease.
    read: Vec<HeldMemory>,
    dropped: u64,
}

/// The two clocks of taking over: the engine's own, and that of all processes of this machine.
#[derive(Clone, Copy, Debug)]
struct Now {
    ms: u64,
    boot_s: u64,
}

impl Now {
    /// When the time of a hold is over that begins when the server is found dead, and when that was; none if
    /// it is over. It does not begin anew with every server that dies meanwhile.
    fn hold(self, record: &SlotRecord, hold_ms: u64) -> Option<(u64, u64)> {
        let left_at_s = record.left_at_s.filter(|&at| at <= self.boot_s).unwrap_or(self.boot_s);
        let left_ms = hold_ms.checked_sub((self.boot_s - left_at_s).saturating_mul(1_000))?;
        (left_ms > 0).then_some((self.ms + left_ms, left_at_s))
    }
}

impl TakenOver {
    /// Takes the memory of one record over, if it is of use to anybody. `scope` is its scope, if that is
    /// known and fits.
    fn add(&mut self, cache: &mut Cache, record: &SlotRecord, scope: Option<&Arc<Scope>>, now: Now) {
        let &SlotRecord { sequence, offset, bytes, .. } = record;
        let (hash, position) = (ChunkHash(record.hash), usize::from(record.position));
        let now_ms = table_ms(now.ms);
        match (scope, record.seal) {
            (Some(scope), Some(seal)) => {
                let Some(entry) = cache.adopt(scope, hash, position, offset, now_ms) else {
                    self.dropped += 1;
                    return;
                };
                cache.set_seal(entry, seal);
                cache.lease(entry, 1);
                self.read.push(HeldMemory {
                    entry,
                    offset,
                    bytes,
                    left_at_s: None,
                    until_ms: now.ms + READ_MS,
                });
                let scope = Arc::clone(scope);
                self.unverified.push((sequence, hash, Unverified { entry, scope, offset, seal }));
            }
            (scope, _) if record.is_being_written => {
                let Some((until_ms, left_at_s)) = now.hold(record, HELD_MS) else { return };
                let scope = scope.map(|scope| Scope::clone(scope)).or_else(|| nobodys(record.bytes));
                // A writer that keeps nobody else from writing the same chunk.
                let long_ago = now_ms.wrapping_sub(STAGING_FRESH_MS);
                match scope.and_then(|scope| cache.adopt(&scope, hash, position, offset, long_ago)) {
                    Some(entry) => {
                        let left_at_s = Some(left_at_s);
                        self.written.push(HeldMemory { entry, offset, bytes, left_at_s, until_ms });
                    }
                    None => self.dropped += 1,
                }
            }
            // Not sealed in time, cleared while it was read, or of nobody knows what: it can't be found
            // again, but somebody may read it.
            (scope, seal) => {
                self.dropped += u64::from(scope.is_none() && seal.is_some());
                let Some((until_ms, left_at_s)) = now.hold(record, READ_MS) else { return };
                let scope = scope.map(|scope| Scope::clone(scope)).or_else(|| nobodys(bytes));
                let adopted = scope.and_then(|scope| cache.adopt(&scope, hash, position, offset, now_ms));
                let Some(entry) = adopted else { return };
                cache.lease(entry, 1);
                cache.abort(entry);
                let left_at_s = Some(left_at_s);
                self.read.push(HeldMemory { entry, offset, bytes, left_at_s, until_ms });
            }
        }
    }
}

/// A scope for memory of which only the size is known; nobody looks up in it.
fn nobodys(bytes: u64) -> Option<Scope> {
    let layout = ObjectLayout::contiguous(vec![bytes], "uint8".parse().ok()?).ok()?;
    Some(Scope { namespace: Namespace::new("", 0, 0, "").ok()?, layout: Arc::new(layout) })
}

impl Upkeep {
    /// Writes the object table down in `directory` from now on, and takes over what `contents` says is in the
    /// pool. To be called before anything is stored. The directory is published once everything that was
    /// taken over is in it; from then on the pool stays behind however this server ends, unless it is
    /// unlinked.
    ///
    /// # Errors
    /// When the directory can't be published; nothing is written down then.
    pub fn remember(&self, directory: Directory, contents: Contents) -> Result<(), PoolError> {
        let last = contents.records.last().map_or(0, |record| record.sequence);
        let mut state = self.state();
        state.cache.record_changes(true);
        state.slots = Some(SlotKeeper::new(directory, last));
        state.seals.require();
        self.take_over(&mut state, contents);
        state.write_down();
        let published = match &mut state.slots {
            Some(slots) => slots.directory().publish(),
            None => Ok(()),
        };
        match published {
            Ok(()) => self.pool.leave_behind(),
            Err(_) => {
                state.slots = None;
                state.cache.record_changes(false);
            }
        }
        published
    }

    fn take_over(&self, state: &mut State, contents: Contents) {
        let scopes: HashMap<u32, Arc<Scope>> = contents
            .scopes
            .iter()
            .filter_map(|(number, bytes)| Some((*number, Arc::new(decode(bytes)?))))
            .collect();
        let mut records = contents.records;
        let (pool_bytes, before) = (self.pool.len_bytes(), records.len());
        records.retain(|record| record.offset.checked_add(record.bytes).is_some_and(|end| end <= pool_bytes));
        let mut taken =
            TakenOver { dropped: (contents.torn + before - records.len()) as u64, ..TakenOver::default() };
        let end = records.iter().map(|record| record.offset + record.bytes).max().unwrap_or(0);
        let align = self.config.align_bytes;
        state.cache.grow(end.next_multiple_of(align).min(pool_bytes / align * align));
        records.sort_unstable_by_key(|record| record.offset);
        let now = Now { ms: self.now_ms(), boot_s: contents.read_at_s };
        for record in &records {
            let scope = scopes.get(&record.scope).filter(|scope| scope.layout.bytes() == record.bytes);
            taken.add(&mut state.cache, record, scope, now);
        }
        taken.unverified.sort_unstable_by_key(|(sequence, ..)| *sequence);
        state.held = Held::new(taken.written, taken.read);
        if let Some(slots) = &mut state.slots {
            state.held.note_left(slots);
        }
        self.show_held(state);
        self.wake_sweep.notify_one();
        self.adoption.begin(taken.unverified, taken.dropped);
    }

    /// Looks at the objects that wait, those first that were published first, until there are none or
    /// [`Self::stop_verifying`]. Blocks for as long as hashing them takes: for a thread of its own.
    pub fn verify_adopted(&self) {
        while !self.adoption.stop.load(Ordering::Relaxed) {
            let _working = lock(&self.adoption.working);
            let Some(object) = self.adoption.waiting().take_next() else { break };
            self.verify(&object, None);
        }
        if self.adoption.waiting().left == 0 {
            self.adoption.under_way.store(false, Ordering::Release);
        }
    }

    /// Ends [`Self::verify_adopted`] after the object in hand. What was not looked at is left for the next
    /// server.
    pub fn stop_verifying(&self) {
        self.adoption.stop.store(true, Ordering::Relaxed);
    }

    /// Lets go of memory that was held for clients of the dead server.
    pub(crate) fn sweep_held(&self, state: &mut State, now_ms: u64) {
        let State { cache, held, slots, .. } = &mut *state;
        if held.let_go(cache, slots.as_mut(), now_ms) {
            self.show_held(state);
            self.after_change(state);
        }
    }

    fn show_held(&self, state: &State) {
        self.adoption.held_bytes.store(state.held.written_bytes(), Ordering::Relaxed);
        self.adoption.leased_bytes.store(state.held.read_bytes(), Ordering::Relaxed);
    }
}

impl Engine {
    /// Whether objects that were taken over still wait for their bytes to be looked at.
    pub fn is_adopting(&self) -> bool {
        self.adoption.under_way.load(Ordering::Acquire)
    }

    /// How far taking over is.
    pub fn adoption_status(&self) -> AdoptionStatus {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Adoption { adopted, verified, mismatched, dropped, held_bytes, leased_bytes, .. } =
            &self.adoption;
        AdoptionStatus {
            adopted: get(adopted),
            verified: get(verified),
            mismatched: get(mismatched),
            dropped: get(dropped),
            waiting: self.adoption.waiting().left as u64,
            held_bytes: get(held_bytes),
            leased_bytes: get(leased_bytes),
        }
    }

    /// Looks at the objects that a prefetch is about now. Blocks for as long as hashing them takes.
    pub(crate) fn verify_adopted_of(&self, work: &PrefetchWork) {
        for row in work.rows.iter() {
            for hash in &work.hashes[work.from..] {
                let object = self.adoption.waiting().take_chunk(&row.scope, hash);
                if let Some(object) = object {
                    self.verify(&object, Some(work));
                }
            }
        }
        // One of them may be the one that the thread has in hand.
        drop(lock(&self.adoption.working));
    }

    /// Drops what was not looked at yet.
    pub(crate) fn drop_unverified(&self) {
        loop {
            let object = self.adoption.waiting().take_next();
            let Some(object) = object else { break };
            let mut state = self.state();
            state.cache.abort(object.entry);
            self.after_change(&mut state);
        }
    }

    /// Drops what was published, unless somebody else has a lease on it.
    pub(crate) fn drop_verified(&self) {
        let mut next = usize::MAX;
        while next > 0 {
            let mut state = self.state();
            let State { cache, held, .. } = &mut *state;
            next = held.discard_before(cache, next);
            self.record_removals(&mut state);
        }
    }

    /// Publishes an object if its bytes are its own. Its tokens are known only if a prefetch asks for it.
    fn verify(&self, object: &Unverified, asked: Option<&PrefetchWork>) {
        let Unverified { entry, scope, offset, seal } = object;
        let intact = match self.pool.checksum(*offset, scope.layout.bytes()) {
            Ok(checksum) => checksum == *seal,
            Err(error) => {
                tracing::warn!("an object of the server before can't be read: {error}");
                false
            }
        };
        let mut state = self.state();
        if intact && state.cache.commit(*entry) == Commit::Stored {
            self.adoption.verified.fetch_add(1, Ordering::Relaxed);
            if let Some(work) = asked {
                self.record_arrivals(&mut state, work, &[*entry]);
            }
        } else {
            let hash = state.cache.chunk(*entry);
            state.cache.abort(*entry);
            if !intact {
                self.adoption.mismatched.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    "dropped {} of model `{}`: its bytes changed since it was stored",
                    hash.map_or_else(String::new, |hash| hash.to_string()),
                    scope.namespace.model_name()
                );
            }
        }
        self.after_change(&mut state);
    }
}
