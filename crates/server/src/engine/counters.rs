//! What the engine counts for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;

/// Most pairs of model and salt that are counted apart; clients choose both, and a scrape must stay small.
pub(super) const LOOKUP_LABELS_MAX: usize = 256;

/// Name that stands for every salt beyond [`LOOKUP_LABELS_MAX`].
const OTHER: &str = "_other";

/// A counter that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Labels of the lookup counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookupLabels {
    /// The model.
    pub model_name: Box<str>,
    /// The tenant.
    pub cache_salt: Box<str>,
}

/// Lookups of one model and salt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupCounts {
    /// Lookups that got as far as the table.
    pub lookups: u64,
    /// Tokens in complete chunks that were asked for.
    pub requested_tokens: u64,
    /// Tokens of them that can be served.
    pub hit_tokens: u64,
    /// Objects of them that are in L1.
    pub hit_l1_keys: u64,
    /// Tokens of them that were brought from L2.
    pub hit_l2_tokens: u64,
    /// Objects of them that were brought from L2.
    pub hit_l2_keys: u64,
    /// Lookups for a model without a layout.
    pub no_layout: u64,
    /// Lookups without a complete chunk.
    pub no_chunk: u64,
}

/// Counters of one engine.
#[derive(Debug, Default)]
pub struct Counters {
    /// Pieces of advice taken from hints.
    pub hints: Counter,
    /// Those for which there was no room.
    pub refused_hints: Counter,
    /// Objects that hints kept out of the second tier.
    pub declined_stores: Counter,
    /// Chunks committed by workers.
    pub written_chunks: Counter,
    /// Chunks whose retrieve was committed.
    pub read_chunks: Counter,
    /// Chunks a worker wanted to retrieve and could not.
    pub read_failed_chunks: Counter,
    /// Stores asked of this server by workers it does not know, answered as if all was stored.
    pub unknown_instance_stores: Counter,
    /// Chunks for which a worker got no room.
    pub refused_chunks: Counter,
    /// Transfers refused to workers that have too many between prepare and commit.
    pub refused_transfers: Counter,
    /// Leases given back because their holder was gone or silent.
    pub expired_leases: Counter,
    /// Leases an operator took back.
    pub forced_leases: Counter,
    /// Reservations taken back because their writer was gone.
    pub expired_stores: Counter,
    /// Workers dropped for their silence.
    pub reaped_instances: Counter,
    /// Sessions given up because there were too many.
    pub evicted_sessions: Counter,
    /// Eviction passes that found the pool above the watermark.
    pub eviction_passes: Counter,
    /// Blocks that engines reported as newly allocated.
    pub reported_blocks: Counter,
    /// Chunks brought from L2.
    pub l2_loaded_chunks: Counter,
    /// Chunks of lookups that L2 added.
    pub l2_hit_chunks: Counter,
    /// Chunks that were not stored in L2 because it could not keep up.
    pub l2_shed_chunks: Counter,
    /// Objects that an adapter holds in another size than the model's.
    pub l2_misfit_objects: Counter,
    /// Lookups that L2 was not asked about, because too many waited for it.
    pub l2_refused_lookups: Counter,
    /// What became of objects whose bytes were looked at.
    pub checksum: super::verify::ChecksumCounters,
    lookups: Mutex<HashMap<LookupLabels, LookupCounts>>,
}

impl Counters {
    /// Changes the lookup counts of a model and salt.
    pub(super) fn lookup(&self, model_name: &str, cache_salt: &str, change: impl FnOnce(&mut LookupCounts)) {
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        let mut labels = LookupLabels { model_name: model_name.into(), cache_salt: cache_salt.into() };
        if lookups.len() >= LOOKUP_LABELS_MAX && !lookups.contains_key(&labels) {
            labels = LookupLabels { model_name: OTHER.into(), cache_salt: OTHER.into() };
        }
        change(lookups.entry(labels).or_default());
    }

    /// Lookup counts by model and salt, sorted.
    pub fn lookups(&self) -> Vec<(LookupLabels, LookupCounts)> {
        let lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: Vec<_> = lookups.iter().map(|(labels, counts)| (labels.clone(), *counts)).collect();
        counts.sort_by(|(left, _), (right, _)| left.cmp(right));
        counts
    }
}
