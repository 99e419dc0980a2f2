//! How long chunks stay, lie idle and come back: histograms over a sample of all chunks (`spec/http-api.md`
//! 3).
//!
//! Only what falls into the sample costs more than a comparison. What is remembered of it is bounded; beyond
//! that, chunks are not followed.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use larder_core::cache::Removed;
use larder_core::hash::{ChunkHash, Sample};
use larder_core::key::Scope;

use larder_telemetry::Histogram;

/// Most chunks that are followed at a time, in memory and after they left.
const FOLLOWED_MAX: usize = 65_536;

/// Most salts whose uses are told apart, since clients choose them; the rest are [`OTHER`].
const SALTS_MAX: usize = 64;

/// Name that stands for every salt beyond [`SALTS_MAX`].
const OTHER: &str = "_other";

/// How long a chunk that left is waited for; then it counts as one that took so long.
const RETURN_MAX_MS: u64 = 300_000;

/// Bounds of the histograms, in seconds: the peer's.
const SECONDS: [f64; 13] =
    [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0];

/// The same, up to [`RETURN_MAX_MS`].
const RETURN_SECONDS: [f64; 7] = [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0];

/// Bounds of histograms for which the peer chose none.
const UNCHOSEN: [f64; 15] =
    [0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0];

/// What happened to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// A worker stored it.
    Stored,
    /// It was brought from the second tier.
    Loaded,
    /// A worker read it.
    Read,
}

/// One object.
type Identity = (Arc<Scope>, ChunkHash);

/// One chunk of a tenant, whatever the rank.
type Use = (Box<str>, ChunkHash);

#[derive(Clone, Copy, Debug)]
struct Living {
    stored_ms: u64,
    touched_ms: u64,
}

/// Uses of one tenant's chunks.
#[derive(Clone, Debug)]
pub struct Reuse {
    /// Seconds between the use of a chunk and its next read.
    pub seconds: Histogram,
    /// Uses of the tenant's chunks between the two.
    pub uses: Histogram,
    /// Uses so far.
    count: u64,
}

/// What was seen of the sample. Times are the engine's milliseconds.
#[derive(Debug)]
pub(crate) struct Lifetimes {
    pub(crate) sample: Sample,
    living: HashMap<Identity, Living>,
    left: HashMap<Identity, u64>,
    /// The same in the order in which they left; some have come back since.
    left_order: VecDeque<(u64, Identity)>,
    /// When each chunk was last used, and how many uses of its tenant there had been.
    used: HashMap<Use, (u64, u64)>,
    used_order: VecDeque<Use>,
    pub(crate) seen: LifetimeHistograms,
}

/// The histograms, for a scrape.
#[derive(Clone, Debug)]
pub struct LifetimeHistograms {
    /// Seconds from store to eviction.
    pub lifetime: Histogram,
    /// Seconds from the last touch to eviction.
    pub idle_before_evict: Histogram,
    /// Seconds between touches.
    pub reuse_gap: Histogram,
    /// Seconds from eviction to the next store or load.
    pub evict_reuse_gap: Histogram,
    /// By salt.
    pub reuse: HashMap<Box<str>, Reuse>,
}

impl Lifetimes {
    /// Follows a share of all chunks, 0 to 1.
    pub(crate) fn new(sample: Sample) -> Self {
        Self {
            sample,
            living: HashMap::new(),
            left: HashMap::new(),
            left_order: VecDeque::new(),
            used: HashMap::new(),
            used_order: VecDeque::new(),
            seen: LifetimeHistograms {
                lifetime: Histogram::new(&SECONDS),
                idle_before_evict: Histogram::new(&SECONDS),
                reuse_gap: Histogram::new(&SECONDS),
                evict_reuse_gap: Histogram::new(&RETURN_SECONDS),
                reuse: HashMap::new(),
            },
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.sample != Sample::default()
    }

    /// A chunk of the sample was stored, loaded or read.
    pub(crate) fn touch(&mut self, identity: Identity, touch: Touch, now_ms: u64) {
        self.give_up(now_ms);
        if touch != Touch::Read
            && let Some(left_ms) = self.left.remove(&identity)
        {
            self.seen.evict_reuse_gap.record(seconds(now_ms.saturating_sub(left_ms)));
        }
        if let Some(living) = self.living.get_mut(&identity) {
            self.seen.reuse_gap.record(seconds(now_ms.saturating_sub(living.touched_ms)));
            living.touched_ms = now_ms;
            if touch != Touch::Read {
                living.stored_ms = now_ms;
            }
        } else if touch != Touch::Read && self.living.len() < FOLLOWED_MAX {
            self.living.insert(identity, Living { stored_ms: now_ms, touched_ms: now_ms });
        }
    }

    /// A chunk of the sample left memory; only eviction is the end of a life, the rest was somebody's wish.
    pub(crate) fn remove(&mut self, removed: Removed, now_ms: u64) {
        self.give_up(now_ms);
        let identity = (removed.scope, removed.hash);
        let Some(living) = self.living.remove(&identity).filter(|_| removed.evicted) else { return };
        self.seen.lifetime.record(seconds(now_ms.saturating_sub(living.stored_ms)));
        self.seen.idle_before_evict.record(seconds(now_ms.saturating_sub(living.touched_ms)));
        if self.left_order.len() < FOLLOWED_MAX {
            self.left_order.push_back((now_ms, identity.clone()));
            self.left.insert(identity, now_ms);
        }
    }

    /// Chunks that did not come back in time.
    pub(crate) fn give_up(&mut self, now_ms: u64) {
        while self.left_order.front().is_some_and(|(left_ms, _)| left_ms + RETURN_MAX_MS <= now_ms) {
            let Some((left_ms, identity)) = self.left_order.pop_front() else { return };
            if self.left.get(&identity) == Some(&left_ms) {
                self.left.remove(&identity);
                self.seen.evict_reuse_gap.record(seconds(RETURN_MAX_MS));
            }
        }
    }

    /// A tenant's chunks were used, each once whatever the number of its ranks.
    pub(crate) fn uses(
        &mut self,
        salt: &str,
        chunks: impl Iterator<Item = ChunkHash>,
        is_read: bool,
        now_ms: u64,
    ) {
        let known = self.seen.reuse.contains_key(salt) || self.seen.reuse.len() < SALTS_MAX;
        let salt = if known { salt } else { OTHER };
        let fresh =
            || Reuse { seconds: Histogram::new(&UNCHOSEN), uses: Histogram::new(&UNCHOSEN), count: 0 };
        let reuse = self.seen.reuse.entry(salt.into()).or_insert_with(fresh);
        for chunk in chunks {
            reuse.count += 1;
            if !self.sample.takes(&chunk) {
                continue;
            }
            let identity: Use = (salt.into(), chunk);
            let Some((used_ms, count)) = self.used.get_mut(&identity) else {
                if self.used.len() >= FOLLOWED_MAX
                    && let Some(oldest) = self.used_order.pop_front()
                {
                    self.used.remove(&oldest);
                }
                self.used_order.push_back(identity.clone());
                self.used.insert(identity, (now_ms, reuse.count));
                continue;
            };
            if is_read {
                reuse.seconds.record(seconds(now_ms.saturating_sub(*used_ms)));
                reuse.uses.record((reuse.count - *count) as f64);
            }
            (*used_ms, *count) = (now_ms, reuse.count);
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EngineConfig;
    use crate::fixtures::{config, engine_with, look_up, prompt, retrieve, scope, store};

    const HASH: ChunkHash = ChunkHash([7; ChunkHash::LEN]);

    fn counts(histogram: &Histogram) -> (u64, f64) {
        (histogram.cumulative().last().unwrap().1, histogram.sum())
    }

    #[test]
    fn a_life_is_counted_from_store_to_eviction_and_to_the_next_store() {
        let mut lifetimes = Lifetimes::new(Sample::of(1.0));
        let identity = || (scope(), HASH);
        let evicted = |evicted| Removed { scope: scope(), hash: HASH, evicted };
        lifetimes.touch(identity(), Touch::Stored, 0);
        lifetimes.touch(identity(), Touch::Read, 2_000);
        lifetimes.remove(evicted(true), 10_000);
        lifetimes.touch(identity(), Touch::Loaded, 14_000);
        let seen = &lifetimes.seen;
        assert_eq!((counts(&seen.lifetime), counts(&seen.idle_before_evict)), ((1, 10.0), (1, 8.0)));
        assert_eq!((counts(&seen.reuse_gap), counts(&seen.evict_reuse_gap)), ((1, 2.0), (1, 4.0)));

        lifetimes.remove(evicted(false), 20_000);
        assert_eq!(counts(&lifetimes.seen.lifetime).0, 1, "what was cleared did not live its life");
        lifetimes.touch(identity(), Touch::Stored, 21_000);
        lifetimes.remove(evicted(true), 22_000);
        lifetimes.give_up(22_000 + RETURN_MAX_MS);
        assert_eq!(counts(&lifetimes.seen.evict_reuse_gap), (2, 304.0), "it did not come back");
        assert!(lifetimes.left.is_empty() && lifetimes.left_order.is_empty());
    }

    #[test]
    fn an_engine_follows_its_sample_and_nothing_without_one() {
        let engine = engine_with(4, EngineConfig { sample: Sample::of(1.0), ..config() });
        let tokens = prompt(1, 2);
        store(&engine, "a", &tokens);
        assert_eq!((look_up(&engine, "b", &tokens), retrieve(&engine, "b", &tokens)), (2, Some(2)));
        store(&engine, "c", &prompt(2, 4));
        store(&engine, "d", &tokens);
        let seen = engine.operator().lifetimes().unwrap();
        let (lived, idle, back) = (&seen.lifetime, &seen.idle_before_evict, &seen.evict_reuse_gap);
        assert_eq!((counts(lived).0, counts(idle).0, counts(back).0), (4, 4, 2));
        assert_eq!((counts(&seen.reuse_gap).0, counts(&seen.reuse[""].seconds).0), (2, 2));
        assert_eq!(counts(&seen.reuse[""].uses), (2, 4.0), "each was read two uses after its store");

        assert!(engine_with(4, config()).operator().lifetimes().is_none());
    }

    #[test]
    fn reads_are_counted_by_salt_with_the_uses_between_them() {
        let mut lifetimes = Lifetimes::new(Sample::of(1.0));
        let other = ChunkHash([9; ChunkHash::LEN]);
        lifetimes.uses("t", [HASH, other].into_iter(), false, 0);
        lifetimes.uses("t", [HASH].into_iter(), true, 5_000);
        let reuse = &lifetimes.seen.reuse["t"];
        assert_eq!((counts(&reuse.seconds), counts(&reuse.uses)), ((1, 5.0), (1, 2.0)));
    }

    #[test]
    fn what_is_remembered_has_bounds() {
        let mut lifetimes = Lifetimes::new(Sample::of(1.0));
        for number in 0..FOLLOWED_MAX as u64 + 10 {
            let mut hash = HASH;
            hash.0[..8].copy_from_slice(&number.to_be_bytes());
            lifetimes.touch((scope(), hash), Touch::Stored, 0);
            lifetimes.uses(&format!("{}", number % 100), [hash].into_iter(), false, 0);
        }
        assert_eq!((lifetimes.living.len(), lifetimes.used.len()), (FOLLOWED_MAX, FOLLOWED_MAX));
        assert_eq!(lifetimes.seen.reuse.len(), SALTS_MAX + 1);
    }
}
