//! The suite over every adapter and every decorator that needs no server.
#![expect(clippy::unwrap_used, reason = "helpers of tests report by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use larder_storage::adapters::fs::{FsAdapter, FsOptions, FsyncPolicy, PathShards};
use larder_storage::adapters::mock::{MockAdapter, MockOptions};
use larder_storage::decorators::{
    Bandwidth, BandwidthLimits, Breaker, BreakerPolicy, Checksum, Concurrency, ConcurrencyLimits, Counting,
    FaultInject, FaultPlan, Frequency, FrequencyPolicy, Retry, RetryPolicy, Timeout, TimeoutPolicy,
    WriteBudget, WritePolicy,
};
use larder_storage::{Adapter, AdapterConfig, build, conformance};

fn mock() -> Arc<dyn Adapter> {
    Arc::new(MockAdapter::new(MockOptions { capacity_bytes: 1 << 30, bandwidth_bytes_per_s: 0 }))
}

async fn run(wrap: impl Fn(Arc<dyn Adapter>) -> Arc<dyn Adapter>) {
    conformance::run(|| async { wrap(mock()) }).await;
}

/// Runs the suite on a new directory per check.
async fn run_fs(change: impl Fn(&mut FsOptions)) {
    let root = tempfile::tempdir().unwrap();
    let count = AtomicU32::new(0);
    conformance::run(|| async {
        let mut options = FsOptions::new(root.path().join(count.fetch_add(1, Ordering::Relaxed).to_string()));
        change(&mut options);
        Arc::new(FsAdapter::open(options).unwrap()) as Arc<dyn Adapter>
    })
    .await;
}

#[tokio::test]
async fn mock_conforms() {
    conformance::run(|| async { mock() }).await;
    let paced = MockOptions { capacity_bytes: 1 << 30, bandwidth_bytes_per_s: 1 << 34 };
    conformance::run(|| async { Arc::new(MockAdapter::new(paced)) as Arc<dyn Adapter> }).await;
}

#[tokio::test]
async fn fs_conforms() {
    run_fs(|_| ()).await;
}

#[tokio::test]
async fn fs_conforms_with_direct_io() {
    run_fs(|options| options.use_odirect = true).await;
}

#[tokio::test]
async fn fs_conforms_with_every_other_option() {
    run_fs(|options| {
        options.path_shards = PathShards::Two;
        options.fsync = FsyncPolicy::Full;
        options.is_shared = true;
        options.relative_tmp_dir = Some("tmp/deeper".into());
        options.read_ahead_bytes = Some(4096);
        options.workers = 1;
    })
    .await;
}

#[tokio::test]
async fn decorators_conform() {
    run(|inner| Arc::new(Retry::new(inner, RetryPolicy::default()))).await;
    run(|inner| Arc::new(Timeout::new(inner, TimeoutPolicy::default()))).await;
    run(|inner| Arc::new(Breaker::new(inner, BreakerPolicy::default()))).await;
    run(|inner| Arc::new(Concurrency::new(inner, ConcurrencyLimits::default()))).await;
    let limits = BandwidthLimits { store_bytes_per_s: Some(1 << 36), ..BandwidthLimits::default() };
    run(|inner| Arc::new(Bandwidth::new(inner, limits))).await;
    run(|inner| Arc::new(Counting::new(inner))).await;
    run(|inner| Arc::new(Checksum::new(inner, 2).unwrap())).await;
    let budget = WritePolicy { bytes_per_s: Some(1 << 36), bytes_per_day: Some(1 << 50), burst_bytes: 0 };
    run(|inner| Arc::new(WriteBudget::new(inner, budget))).await;
    let frequency = FrequencyPolicy { stores_min: 1, remembered_objects: 1 };
    run(|inner| Arc::new(Frequency::new(inner, frequency))).await;
    run(|inner| Arc::new(FaultInject::new(inner, FaultPlan::default()))).await;
    run(|_| conformance::FailingAdapter::new()).await;
}

#[tokio::test]
async fn what_the_factory_builds_conforms() {
    let root = tempfile::tempdir().unwrap();
    let count = AtomicU32::new(0);
    conformance::run(|| async {
        let base = root.path().join(count.fetch_add(1, Ordering::Relaxed).to_string());
        let fs = serde_json::json!({"type": "fs_native", "base_path": base, "limits": {"load_bytes_per_s": 1u64 << 36}});
        let spec = serde_json::json!({"type": "fault_inject", "inner": fs});
        let config = AdapterConfig::from_value(&spec, &|_| None).unwrap();
        build(&config).unwrap().adapter
    })
    .await;
}
