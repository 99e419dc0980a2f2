//! Loading one adapter's share of a prompt, and judging what came.

use std::sync::Arc;
use std::time::Duration;

use larder_core::key::ObjectKey;
use larder_storage::{Error, FailureKind, KeyResult, Lent, LentBuffer as _, LoadItem, Loaded, Op};
use tokio::time::Instant;

use super::buffer::PoolBuffer;
use super::flow::Shortfall;
use super::pulse::Answer;
use super::roster::InUse;
use super::shared::Shared;
use larder_engine::{CheckPoint, Corruption, Tiers};

/// Longest a load is waited for, even by nobody. Adapters' own timeouts and retries end before; this is for
/// those that have none.
const LOAD_PATIENCE: Duration = Duration::from_secs(180);

/// An object to load, and the layout it is to be read with.
#[derive(Debug)]
pub(super) struct Awaited {
    /// Its place among the objects wanted.
    pub(super) at: usize,
    pub(super) key: ObjectKey,
    pub(super) buffer: Arc<PoolBuffer>,
    pub(super) layout: u64,
}

/// An object that came whole.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) buffer: Arc<PoolBuffer>,
    pub(super) seal: Option<u64>,
}

/// What a load came to.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) adapter: InUse,
    pub(super) arrived: Vec<Arrived>,
    pub(super) failed: Vec<Awaited>,
    /// Keys of objects of another layout, in the way of those that belong there.
    pub(super) foreign: Vec<ObjectKey>,
    is_well: bool,
}

impl Answer for Delivery {
    fn is_well(&self) -> bool {
        self.is_well
    }
}

/// Loads a batch from an adapter.
pub(super) async fn load(shared: Arc<Shared>, adapter: InUse, batch: Vec<Awaited>) -> Delivery {
    let pulse = adapter.attached().pulse();
    let items = batch.iter().map(|awaited| {
        awaited.buffer.lend_to(pulse);
        LoadItem { key: awaited.key.clone(), buffer: Arc::clone(&awaited.buffer) as Lent }
    });
    let loading = adapter.adapter().load(items.collect());
    let passing = shared.flow.begin_load(batch.iter().map(|awaited| &awaited.key));
    let begun = Instant::now();
    let outcomes = tokio::time::timeout(LOAD_PATIENCE, loading).await.unwrap_or_default();
    let took = begun.elapsed();
    drop(passing);
    let failures: Vec<&Error> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    if let Some(error) = failures.first() {
        shared.warnings.tell(adapter.attached().id(), Op::Load, failures.len(), outcomes.len(), error);
    }
    let blames = |error: &&Error| matches!(error, Error::Failed(failure) if failure.kind.blames_backend());
    let is_well = !outcomes.is_empty() && !failures.iter().any(blames);
    let mut delivery =
        Delivery { arrived: Vec::new(), failed: Vec::new(), foreign: Vec::new(), is_well, adapter };
    let mut outcomes = outcomes.into_iter();
    let (mut brought, mut bytes) = (Vec::new(), 0);
    for awaited in batch {
        let outcome = outcomes.next().unwrap_or(Err(Error::Absent));
        match judge(&shared.engine, &delivery.adapter, &awaited, &outcome) {
            Verdict::Arrived(seal) => {
                bytes += awaited.buffer.len() as u64;
                brought.push(awaited.key);
                delivery.arrived.push(Arrived { buffer: awaited.buffer, seal });
            }
            Verdict::Foreign => {
                delivery.foreign.push(awaited.key.clone());
                delivery.failed.push(awaited);
            }
            Verdict::Missing => delivery.failed.push(awaited),
        }
    }
    shared.flow.end_load(delivery.adapter.adapter().kind(), brought.iter(), bytes, took);
    if let Some(first) = delivery.failed.first() {
        shared.flow.fall_short(
            Shortfall::NotBrought,
            first.key.namespace.model_name(),
            delivery.failed.len(),
        );
    }
    delivery
}

/// What became of one object.
enum Verdict {
    Arrived(Option<u64>),
    /// Whole, but of another layout than the one it would be read with.
    Foreign,
    Missing,
}

/// Checks the layout. The bytes were checked by the adapter's own decorator, if it is configured to.
fn judge(engine: &Tiers, adapter: &InUse, awaited: &Awaited, outcome: &KeyResult<Loaded>) -> Verdict {
    let counters = &engine.counters().checksum;
    let corrupt = |cause| {
        engine.note_corrupt(&Corruption {
            at: CheckPoint::Load,
            model_name: awaited.key.namespace.model_name(),
            cache_salt: awaited.key.namespace.cache_salt(),
            hash: awaited.key.chunk_hash,
            adapter: Some(adapter.attached().id()),
            cause,
        });
    };
    match outcome {
        Ok(Loaded { seal: Some(seal) }) if seal.layout != 0 && seal.layout != awaited.layout => {
            corrupt("layout");
            Verdict::Foreign
        }
        Ok(Loaded { seal }) => {
            let is_checked = seal.is_some() && adapter.attached().built().checksum.is_some();
            let counter = if is_checked { counters.verified(CheckPoint::Load) } else { &counters.unverified };
            counter.add(1);
            Verdict::Arrived(seal.map(|seal| seal.checksum))
        }
        Err(Error::Failed(failure)) if failure.kind == FailureKind::Corrupt => {
            corrupt("bytes");
            Verdict::Missing
        }
        Err(_) => Verdict::Missing,
    }
}
