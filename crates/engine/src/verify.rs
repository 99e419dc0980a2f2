//! Looking at an object's bytes: are they those that were committed? What is not is dropped, counted and
//! told.

use larder_core::cache::EntryRef;
use larder_core::hash::ChunkHash;
use larder_pool::PoolError;
use larder_telemetry::events::Event;

use crate::engine::{Engine, State};
use crate::faces::Tiers;
use crate::state::checks::CheckPoint;

/// What an object's bytes turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// Those of its seal, which it got just now if it had none.
    Intact(u64),
    /// Others. It is out of the index, and its memory is free when its holders let go.
    Changed,
    /// The object had left before; this is the checksum of what its memory holds.
    Gone(u64),
}

/// An object that is not what it should be.
#[derive(Clone, Copy, Debug)]
pub struct Corruption<'a> {
    /// Where it was found.
    pub at: CheckPoint,
    /// Its model.
    pub model_name: &'a str,
    /// Its tenant.
    pub cache_salt: &'a str,
    /// Its chunk.
    pub hash: ChunkHash,
    /// The adapter it came from.
    pub adapter: Option<&'a str>,
    /// `bytes` or `layout`.
    pub cause: &'a str,
}

impl Engine {
    /// Compares an object's bytes with its seal, or seals it. Blocks for as long as hashing takes. An object
    /// that the caller holds no lease on may leave meanwhile.
    ///
    /// # Errors
    /// When the pool can't be read there.
    pub(crate) fn verify_object(
        &self,
        entry: EntryRef,
        offset: u64,
        bytes: u64,
        at: CheckPoint,
    ) -> Result<Checked, PoolError> {
        let checksum = self.pool.checksum(offset, bytes)?;
        let mut state = self.state();
        let checked = match state.cache.seal(entry) {
            Some(seal) if seal == checksum => {
                self.counters.checksum.verified(at).add(1);
                Checked::Intact(checksum)
            }
            Some(_) => {
                self.drop_changed(&mut state, entry, at);
                Checked::Changed
            }
            None if self.seal(&mut state, entry, checksum) => {
                self.counters.checksum.unverified.add(u64::from(at == CheckPoint::Retrieve));
                Checked::Intact(checksum)
            }
            None => Checked::Gone(checksum),
        };
        Ok(checked)
    }

    fn drop_changed(&self, state: &mut State, entry: EntryRef, at: CheckPoint) {
        if let (Some(scope), Some(hash)) = (state.cache.scope(entry), state.cache.chunk(entry)) {
            let (model_name, cache_salt) = (scope.namespace.model_name(), scope.namespace.cache_salt());
            self.tell_of(&Corruption { at, model_name, cache_salt, hash, adapter: None, cause: "bytes" });
        }
        state.cache.discard(entry);
        self.after_change(state);
    }

    /// Counts and tells of an object that is not what it should be.
    fn tell_of(&self, corruption: &Corruption<'_>) {
        let Corruption { at, model_name, cache_salt, hash, adapter, cause } = *corruption;
        self.counters.checksum.mismatches(at).add(1);
        let chunk = hash.to_string();
        tracing::warn!(
            "dropped chunk {chunk} of model `{model_name}`, salt `{cache_salt}`: found another {} at its {} in {}",
            if cause == "layout" { "layout" } else { "checksum" },
            at.label(),
            adapter.unwrap_or("L1")
        );
        self.bus.publish(|| Event::Corrupt {
            at: at.label(),
            cause,
            model_name,
            cache_salt,
            chunk_hash: &chunk,
            adapter: adapter.unwrap_or_default(),
        });
    }
}

impl Tiers {
    /// Counts and tells of an object that an adapter brought and that is not what it should be.
    pub fn note_corrupt(&self, corruption: &Corruption<'_>) {
        self.tell_of(corruption);
    }
}
