//! What the engine counts for metrics.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;

use super::checks::ChecksumCounters;
use super::connections::ConnectionId;
use super::counter::Counter;

/// Most pairs of model and salt that are counted apart; clients choose both, and a scrape must stay small.
pub(crate) const LOOKUP_LABELS_MAX: usize = 256;

/// Most of them that one connection may bring up, so that nobody who invents names takes those of others.
pub(crate) const LABELS_PER_CONNECTION_MAX: usize = 32;

/// Name that stands for every model and salt beyond these limits.
const OTHER: &str = "_other";

/// Labels of the lookup counters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Lookups that found nothing because their engine may know another chunk size.
    pub misled_lookups: Counter,
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
    pub checksum: ChecksumCounters,
    lookups: Mutex<LookupTable>,
}

/// Lookup counts by labels, at most [`LOOKUP_LABELS_MAX`] of them and the rest together.
#[derive(Debug, Default)]
struct LookupTable {
    counts: HashMap<LookupLabels, LookupCounts>,
    /// How many labels each connection has brought up; as many entries as labels at most.
    brought: HashMap<ConnectionId, usize>,
}

impl LookupTable {
    /// Whether a connection may bring up labels that are not there yet; it is counted.
    fn admits(&mut self, connection: ConnectionId) -> bool {
        let brought = self.brought.get(&connection).copied().unwrap_or(0);
        let admits =
            brought < LABELS_PER_CONNECTION_MAX && self.brought.values().sum::<usize>() < LOOKUP_LABELS_MAX;
        if admits {
            self.brought.insert(connection, brought + 1);
        }
        admits
    }
}

impl Counters {
    /// Changes the lookup counts of a model and salt that a connection asks for; without one, of what was
    /// asked for before.
    pub(crate) fn lookup(
        &self,
        model_name: &str,
        cache_salt: &str,
        connection: Option<ConnectionId>,
        change: impl FnOnce(&mut LookupCounts),
    ) {
        let mut table = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        let mut labels = LookupLabels { model_name: model_name.into(), cache_salt: cache_salt.into() };
        if !table.counts.contains_key(&labels) && !connection.is_some_and(|asking| table.admits(asking)) {
            labels = LookupLabels { model_name: OTHER.into(), cache_salt: OTHER.into() };
        }
        change(table.counts.entry(labels).or_default());
    }

    /// Lookup counts by model and salt, sorted.
    pub fn lookups(&self) -> Vec<(LookupLabels, LookupCounts)> {
        let table = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: Vec<_> =
            table.counts.iter().map(|(labels, counts)| (labels.clone(), *counts)).collect();
        counts.sort_by(|(left, _), (right, _)| left.cmp(right));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks up names of its own over each connection, and returns how many are counted apart.
    fn brought(counters: &Counters, connections: std::ops::Range<u64>, names: usize) -> usize {
        for connection in connections {
            for name in 0..names {
                counters.lookup(&format!("{connection}-{name}"), "", Some(connection), |counts| {
                    counts.lookups += 1
                });
            }
        }
        counters.lookups().iter().filter(|(labels, _)| &*labels.model_name != OTHER).count()
    }

    #[test]
    fn one_connection_brings_up_a_few_labels_and_all_of_them_a_bounded_number() {
        let counters = Counters::default();
        assert_eq!(brought(&counters, 0..1, 100), LABELS_PER_CONNECTION_MAX);
        counters.lookup("honest", "", Some(7), |counts| counts.lookups += 1);
        assert!(counters.lookups().iter().any(|(labels, _)| &*labels.model_name == "honest"));
        assert_eq!(brought(&counters, 100..200, 100), LOOKUP_LABELS_MAX);
        let all: u64 = counters.lookups().iter().map(|(_, counts)| counts.lookups).sum();
        assert_eq!(all, 100 + 1 + 10_000, "what has no label of its own is counted with the rest");
    }

    #[test]
    fn what_a_tier_adds_belongs_to_names_that_were_asked_for() {
        let counters = Counters::default();
        counters.lookup("m", "", Some(1), |counts| counts.hit_tokens += 1);
        counters.lookup("m", "", None, |counts| counts.hit_tokens += 2);
        counters.lookup("unasked", "", None, |counts| counts.hit_tokens += 4);
        let hits: Vec<_> = counters
            .lookups()
            .into_iter()
            .map(|(labels, counts)| (labels.model_name, counts.hit_tokens))
            .collect();
        assert_eq!(hits, [(OTHER.into(), 4), ("m".into(), 3)]);
    }
}
