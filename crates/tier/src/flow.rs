//! What passes between memory and the adapters, counted for metrics. It outlives every adapter: what rose
//! once never falls.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_core::key::ObjectKey;

use larder_telemetry::Histogram;

/// Tenants and models that are counted apart; clients choose both, and a scrape must stay small.
const LABELS_MAX: usize = 256;

/// Stands for all beyond [`LABELS_MAX`].
const OTHER: &str = "_other";

/// Bounds of throughput in GB/s: those that the peer's metrics library takes where nothing else is said.
const GB_PER_S: &[f64] =
    &[0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0];

/// Counts of one tenant, in objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaltFlow {
    /// Handed to an adapter to be stored.
    pub store_submitted: u64,
    /// Stored.
    pub store_completed: u64,
    /// Looked for.
    pub looked_up: u64,
    /// Asked of an adapter.
    pub load_submitted: u64,
    /// Brought.
    pub load_completed: u64,
    /// Evicted from adapters that are gone.
    pub evicted: u64,
}

/// Counts of one type of adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct KindFlow {
    /// Batches stored, well or not.
    pub stores_completed: u64,
    /// Batches loaded, well or not.
    pub loads_completed: u64,
    /// GB/s of batches stored, from the call to its answer.
    pub store_throughput: Histogram,
    /// The same of batches loaded.
    pub load_throughput: Histogram,
}

impl Default for KindFlow {
    fn default() -> Self {
        let (store_throughput, load_throughput) = (Histogram::new(GB_PER_S), Histogram::new(GB_PER_S));
        Self { stores_completed: 0, loads_completed: 0, store_throughput, load_throughput }
    }
}

/// Why an object that an adapter claimed to have did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortfall {
    /// Memory had no room for it.
    NoRoom,
    /// The adapter did not bring it.
    NotBrought,
}

impl Shortfall {
    /// The peer's word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoRoom => "l1_oom",
            Self::NotBrought => "not_found",
        }
    }
}

/// All counts at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowCounts {
    /// Batches handed to adapters to be stored.
    pub stores_submitted: u64,
    /// Batches being stored.
    pub stores_in_flight: u64,
    /// Lookups that asked the adapters.
    pub lookups: u64,
    /// Batches asked of adapters.
    pub loads_submitted: u64,
    /// Batches being loaded.
    pub loads_in_flight: u64,
    /// By type of adapter.
    pub by_kind: BTreeMap<&'static str, KindFlow>,
    /// By tenant.
    pub by_salt: BTreeMap<Box<str>, SaltFlow>,
    /// Objects that did not come, by reason and model.
    pub shortfalls: BTreeMap<(Shortfall, Box<str>), u64>,
}

impl FlowCounts {
    fn salt(&mut self, salt: &str) -> &mut SaltFlow {
        let is_counted = self.by_salt.len() < LABELS_MAX || self.by_salt.contains_key(salt);
        self.by_salt.entry(if is_counted { salt } else { OTHER }.into()).or_default()
    }

    fn kind(&mut self, kind: &'static str) -> &mut KindFlow {
        self.by_kind.entry(kind).or_default()
    }
}

/// What passes.
#[derive(Debug, Default)]
pub(super) struct Flow(Mutex<FlowCounts>);

/// A batch on its way; one that is dropped has ended without an answer.
pub(super) struct Passing<'f> {
    flow: &'f Flow,
    in_flight: fn(&mut FlowCounts) -> &mut u64,
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        *(self.in_flight)(&mut self.flow.lock()) -= 1;
    }
}

impl Flow {
    /// Everything so far.
    pub(super) fn counts(&self) -> FlowCounts {
        self.lock().clone()
    }

    /// A batch goes to an adapter.
    pub(super) fn begin_store<'k>(&self, keys: impl Iterator<Item = &'k ObjectKey>) -> Passing<'_> {
        let mut counts = self.lock();
        counts.stores_submitted += 1;
        keys.for_each(|key| counts.salt(key.namespace.cache_salt()).store_submitted += 1);
        self.pass(&mut counts, |counts| &mut counts.stores_in_flight)
    }

    /// An adapter answered a store; `stored` has what it took, `bytes` of it.
    pub(super) fn end_store<'k>(
        &self,
        kind: &'static str,
        stored: impl Iterator<Item = &'k ObjectKey>,
        bytes: u64,
        took: Duration,
    ) {
        let mut counts = self.lock();
        stored.for_each(|key| counts.salt(key.namespace.cache_salt()).store_completed += 1);
        let of_kind = counts.kind(kind);
        of_kind.stores_completed += 1;
        record(&mut of_kind.store_throughput, bytes, took);
    }

    /// A lookup asks the adapters for objects.
    pub(super) fn look_up(&self, keys: &[ObjectKey]) {
        let mut counts = self.lock();
        counts.lookups += 1;
        keys.iter().for_each(|key| counts.salt(key.namespace.cache_salt()).looked_up += 1);
    }

    /// A batch is asked of an adapter.
    pub(super) fn begin_load<'k>(&self, keys: impl Iterator<Item = &'k ObjectKey>) -> Passing<'_> {
        let mut counts = self.lock();
        counts.loads_submitted += 1;
        keys.for_each(|key| counts.salt(key.namespace.cache_salt()).load_submitted += 1);
        self.pass(&mut counts, |counts| &mut counts.loads_in_flight)
    }

    /// An adapter answered a load; `brought` came, `bytes` of it.
    pub(super) fn end_load<'k>(
        &self,
        kind: &'static str,
        brought: impl Iterator<Item = &'k ObjectKey>,
        bytes: u64,
        took: Duration,
    ) {
        let mut counts = self.lock();
        brought.for_each(|key| counts.salt(key.namespace.cache_salt()).load_completed += 1);
        let of_kind = counts.kind(kind);
        of_kind.loads_completed += 1;
        record(&mut of_kind.load_throughput, bytes, took);
    }

    /// Objects of a model that an adapter claimed to have and that did not come.
    pub(super) fn fall_short(&self, why: Shortfall, model_name: &str, objects: usize) {
        if objects == 0 {
            return;
        }
        let mut counts = self.lock();
        let label = (why, Box::from(model_name));
        let is_counted = counts.shortfalls.len() < LABELS_MAX || counts.shortfalls.contains_key(&label);
        let label = if is_counted { label } else { (why, OTHER.into()) };
        *counts.shortfalls.entry(label).or_default() += objects as u64;
    }

    /// Takes over what an adapter evicted that is gone.
    pub(super) fn retire<'s>(&self, evicted: impl Iterator<Item = (&'s str, u64)>) {
        let mut counts = self.lock();
        evicted.for_each(|(salt, objects)| counts.salt(salt).evicted += objects);
    }

    fn pass(
        &self,
        counts: &mut MutexGuard<'_, FlowCounts>,
        in_flight: fn(&mut FlowCounts) -> &mut u64,
    ) -> Passing<'_> {
        *in_flight(counts) += 1;
        Passing { flow: self, in_flight }
    }

    fn lock(&self) -> MutexGuard<'_, FlowCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record(throughput: &mut Histogram, bytes: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    if bytes > 0 && seconds > 0.0 {
        throughput.record(bytes as f64 / seconds / 1e9);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(salt: &str) -> ObjectKey {
        ObjectKey::new([0; 32], "m", 0, 0, salt).unwrap()
    }

    #[test]
    fn what_was_evicted_by_an_adapter_that_is_gone_still_counts() {
        let flow = Flow::default();
        flow.retire([("a", 3)].into_iter());
        flow.retire([("a", 4), ("", 1)].into_iter());
        let counts = flow.counts();
        assert_eq!((counts.by_salt["a"].evicted, counts.by_salt[""].evicted), (7, 1));
    }

    #[test]
    fn a_call_that_is_given_up_is_not_in_flight_for_ever() {
        let flow = Flow::default();
        let passing = flow.begin_store([key("a"), key("b")].iter());
        assert_eq!(flow.counts().stores_in_flight, 1);
        drop(passing);
        let counts = flow.counts();
        assert_eq!((counts.stores_in_flight, counts.stores_submitted), (0, 1));
        assert_eq!((counts.by_salt["a"].store_submitted, counts.by_salt["a"].store_completed), (1, 0));
    }

    #[test]
    fn tenants_beyond_the_limit_are_counted_together() {
        let flow = Flow::default();
        for salt in 0..2 * LABELS_MAX {
            flow.look_up(&[key(&salt.to_string())]);
        }
        flow.look_up(&[key("0")]);
        let counts = flow.counts();
        assert_eq!(counts.by_salt["0"].looked_up, 2, "who has a label keeps it");
        assert_eq!(counts.by_salt.len(), LABELS_MAX + 1);
        assert_eq!(counts.by_salt[OTHER].looked_up, LABELS_MAX as u64);
        assert_eq!(counts.lookups, 2 * LABELS_MAX as u64 + 1);
    }

    #[test]
    fn a_load_and_a_store_count_alike_and_apart() {
        let flow = Flow::default();
        let keys = [key("a"), key("a"), key("b")];
        let (bytes, took) = (3_000_000_000, Duration::from_secs(2));
        for _ in 0..2 {
            let passing = flow.begin_load(keys.iter());
            assert_eq!(flow.counts().loads_in_flight, 1);
            drop(passing);
            flow.end_load("fs", keys[..1].iter(), bytes, took);
        }
        drop(flow.begin_store(keys.iter()));
        flow.end_store("fs", keys[1..].iter(), bytes, took);
        let counts = flow.counts();
        assert_eq!((counts.loads_submitted, counts.loads_in_flight, counts.stores_submitted), (2, 0, 1));
        let of = |salt: &str| {
            let of = counts.by_salt[salt];
            (of.store_submitted, of.store_completed, of.load_submitted, of.load_completed)
        };
        assert_eq!((of("a"), of("b")), ((2, 1, 4, 2), (1, 1, 2, 0)));
        let fs = &counts.by_kind["fs"];
        assert_eq!((fs.loads_completed, fs.stores_completed), (2, 1));
        assert_eq!((fs.load_throughput.sum(), fs.store_throughput.sum()), (3.0, 1.5), "in GB/s");
    }

    #[test]
    fn what_brought_nothing_or_took_no_time_has_no_speed() {
        let flow = Flow::default();
        flow.end_store("fs", [].iter(), 0, Duration::from_secs(1));
        flow.end_store("fs", [].iter(), 1, Duration::ZERO);
        let fs = &flow.counts().by_kind["fs"];
        assert_eq!((fs.stores_completed, &fs.store_throughput), (2, &Histogram::new(GB_PER_S)));
    }

    #[test]
    fn what_falls_short_is_counted_by_reason_and_model_as_far_as_there_is_room() {
        let flow = Flow::default();
        let (no_room, not_brought) = (Shortfall::NoRoom, Shortfall::NotBrought);
        flow.fall_short(no_room, "m", 0);
        assert!(flow.counts().shortfalls.is_empty());
        for (why, objects) in [(no_room, 2), (not_brought, 3), (no_room, 1)] {
            flow.fall_short(why, "m", objects);
        }
        let count = |why, model: &str| flow.counts().shortfalls[&(why, model.into())];
        assert_eq!((count(no_room, "m"), count(not_brought, "m")), (3, 3));
        for model in 0..2 * LABELS_MAX {
            flow.fall_short(no_room, &model.to_string(), 1);
        }
        flow.fall_short(not_brought, "m", 1);
        assert_eq!(flow.counts().shortfalls.len(), LABELS_MAX + 1);
        assert_eq!((count(no_room, OTHER), count(not_brought, "m")), (LABELS_MAX as u64 + 2, 4));
    }
}
