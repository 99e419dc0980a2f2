//! `fault_inject`: loads that fail on purpose, the same ones every time, for rehearsals.
//!
//! The keys chosen are those the peer chooses from the same configuration (`spec/config-and-cli.md` 6).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blake2::digest::consts::U8;
use blake2::{Blake2b, Digest as _};
use larder_core::key::ObjectKey;

use super::forward::forward;
use crate::adapter::{Adapter, AdapterFuture, KeyResult, LoadItem, Loaded};
use crate::error::{Failure, FailureKind};
use crate::report::Health;

/// Resolution of [`FaultPlan::rate`].
const BUCKETS: u64 = 1_000_000;

/// Which loads fail.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultPlan {
    /// Share of keys that always fail, 0 to 1.
    pub rate: f64,
    /// Chooses which.
    pub seed: i64,
    /// Positions of a batch that fail, counted from its start.
    pub gap_indices: Vec<usize>,
    /// Positions of a batch that fail, as a share of its length counted from its end: 0 the last, 1 the
    /// first.
    pub gap_tail_ratios: Vec<f64>,
}

impl FaultPlan {
    /// Whether the plan fails this key wherever it appears.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rate within 0..=1 times a million"
    )]
    pub fn hits_key(&self, key: &ObjectKey) -> bool {
        if self.rate <= 0.0 {
            return false;
        }
        let ObjectKey { chunk_hash, namespace } = key;
        let (model_name, cache_salt) = (namespace.model_name(), namespace.cache_salt());
        let (kv_rank, object_group_id) = (namespace.kv_rank(), namespace.object_group_id());
        let identity =
            format!("{}:{chunk_hash}:{model_name}:{kv_rank}:{object_group_id}:{cache_salt}", self.seed);
        let digest: [u8; 8] = Blake2b::<U8>::digest(identity).into();
        u64::from_be_bytes(digest) % BUCKETS < (self.rate * BUCKETS as f64) as u64
    }

    /// The positions of a batch of `count` keys that fail whatever the keys are.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a ratio within 0..=1 times a batch length"
    )]
    pub fn positions(&self, count: usize) -> BTreeSet<usize> {
        let Some(last) = count.checked_sub(1) else { return BTreeSet::new() };
        // Ties go to the even position, as in the peer.
        let from_tail = |ratio: &f64| ((1.0 - ratio) * last as f64).round_ties_even() as usize;
        let exact = self.gap_indices.iter().copied().filter(|index| *index < count);
        exact.chain(self.gap_tail_ratios.iter().map(from_tail)).collect()
    }
}

/// Lets chosen loads fail; everything else passes. Objects stay found by lookups, as when a backend loses a
/// read.
#[derive(Debug)]
pub struct FaultInject {
    inner: Arc<dyn Adapter>,
    plan: FaultPlan,
    injected: AtomicU64,
}

impl FaultInject {
    /// Wraps an adapter.
    #[must_use]
    pub fn new(inner: Arc<dyn Adapter>, plan: FaultPlan) -> Self {
        Self { inner, plan, injected: AtomicU64::new(0) }
    }
}

impl Adapter for FaultInject {
    forward!(store, lookup_and_lock, unlock, delete, list, probe, ready_to_store, usage, close);

    fn kind(&self) -> &'static str {
        "fault_inject"
    }

    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>> {
        Box::pin(async move {
            let mut faulty = self.plan.positions(batch.len());
            faulty.extend((0..batch.len()).filter(|index| self.plan.hits_key(&batch[*index].key)));
            self.injected.fetch_add(faulty.len() as u64, Ordering::Relaxed);
            let mut results = self.inner.load(batch).await;
            for index in faulty {
                // Not retryable: a rehearsal that heals itself rehearses nothing.
                results[index] = Err(Failure::permanent(FailureKind::Io, "injected fault").into());
            }
            results
        })
    }

    fn health(&self) -> Health {
        self.inner
            .health()
            .detail("inner_type", self.inner.kind())
            .detail("injected_faults", self.injected.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{FailingAdapter, load_items, store_items};

    #[test]
    fn positions_are_the_peers() {
        let plan = |ratios: &[f64]| FaultPlan { gap_tail_ratios: ratios.to_vec(), ..FaultPlan::default() };
        assert_eq!(plan(&[0.0, 1.0]).positions(5), BTreeSet::from([0, 4]));
        assert_eq!(plan(&[0.5]).positions(4), BTreeSet::from([2]), "1.5 rounds to even");
        assert_eq!(plan(&[0.5]).positions(2), BTreeSet::from([0]), "0.5 rounds to even");
        assert_eq!(plan(&[0.5]).positions(0), BTreeSet::new());
        let exact = FaultPlan { gap_indices: vec![1, 3, 9], ..FaultPlan::default() };
        assert_eq!(exact.positions(3), BTreeSet::from([1]));
    }

    #[test]
    fn chosen_keys_are_the_peers() {
        // Chosen by lmcache 0.5.6 with rate 0.5 and seed 7 from hashes of one repeated byte 0..16.
        let plan = FaultPlan { rate: 0.5, seed: 7, ..FaultPlan::default() };
        let key = |byte: u8| ObjectKey::new([byte; 32], "org/m", 0x0100_0100, 0, "s").unwrap();
        let chosen: Vec<u8> = (0..16).filter(|byte| plan.hits_key(&key(*byte))).collect();
        assert_eq!(chosen, PEER_CHOICE);
        let (none, all) = (FaultPlan::default(), FaultPlan { rate: 1.0, ..FaultPlan::default() });
        assert!((0..16).all(|byte| !none.hits_key(&key(byte)) && all.hits_key(&key(byte))));
    }

    #[test]
    fn a_key_fails_from_its_own_millionth_on() {
        // `int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest(), "big") % 1_000_000` in Python is
        // 1,327 for this key.
        let key = ObjectKey::new([9; 32], "org/m", 0x0100_0100, 0, "s").unwrap();
        let hits = |rate| FaultPlan { rate, seed: 7, ..FaultPlan::default() }.hits_key(&key);
        assert_eq!((hits(0.001_327), hits(0.001_328)), (false, true));
    }

    const PEER_CHOICE: [u8; 8] = [3, 4, 5, 6, 7, 9, 12, 14];

    #[tokio::test]
    async fn only_chosen_loads_fail() {
        let plan = FaultPlan { gap_indices: vec![1], ..FaultPlan::default() };
        let adapter = FaultInject::new(FailingAdapter::new(), plan);
        adapter.store(store_items(0..3, 10)).await;
        let (loads, _buffers) = load_items(0..3, 10);
        let failed: Vec<bool> = adapter.load(loads).await.iter().map(Result::is_err).collect();
        assert_eq!(failed, [false, true, false]);
        let details = adapter.health().details;
        assert_eq!(details["injected_faults"], 1);
        assert_eq!((adapter.kind(), &details["inner_type"]), ("fault_inject", &"failing".into()));
    }
}
