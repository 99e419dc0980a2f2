//! From a configuration to a working adapter, with the decorators it asks for around it.

use std::sync::Arc;

use crate::adapter::Adapter;
use crate::adapters::fs::FsAdapter;
use crate::adapters::mock::MockAdapter;
use crate::adapters::resp::RespAdapter;
use crate::adapters::s3::S3Adapter;
use crate::config::{AdapterConfig, Backend};
use crate::decorators::{
    Bandwidth, Breaker, Checksum, Concurrency, Counters, Counting, FaultInject, Frequency, Retry, Timeout,
    WriteBudget,
};
use crate::error::Failure;

/// Threads that hash what is loaded.
const CHECKSUM_THREADS: usize = 2;

/// An adapter and the handles its owner needs.
#[derive(Clone, Debug)]
pub struct Built {
    /// The adapter, decorated.
    pub adapter: Arc<dyn Adapter>,
    /// Whether others write to the same storage, as configured.
    pub is_shared: bool,
    /// What passed through it.
    pub counters: Arc<Counters>,
    /// Its circuit breaker, when it has one.
    pub breaker: Option<Arc<Breaker>>,
    /// Its verification, when it verifies.
    pub checksum: Option<Arc<Checksum>>,
}

/// Builds an adapter.
///
/// # Errors
/// Only when it could never work as configured (a directory that can't be created). A backend that does not
/// answer yet is no failure here: the adapter reports it and works once the backend does.
pub fn build(config: &AdapterConfig) -> Result<Built, Failure> {
    let common = &config.common;
    let mut adapter = backend(config)?;
    let mut checksum = None;
    if common.checksum {
        let verifying = Arc::new(Checksum::new(adapter, CHECKSUM_THREADS)?);
        adapter = Arc::<Checksum>::clone(&verifying);
        checksum = Some(verifying);
    }
    if let Some(policy) = common.timeout {
        adapter = Arc::new(Timeout::new(adapter, policy));
    }
    if let Some(policy) = common.retry {
        adapter = Arc::new(Retry::new(adapter, policy));
    }
    let mut breaker = None;
    if let Some(policy) = common.breaker {
        let breaking = Arc::new(Breaker::new(adapter, policy));
        adapter = Arc::<Breaker>::clone(&breaking);
        breaker = Some(breaking);
    }
    // Around the timeout and the breaker: waiting for our own limits is no fault of the backend.
    adapter = Arc::new(Concurrency::new(adapter, common.limits.concurrency));
    if let Some(limits) = common.limits.bandwidth {
        adapter = Arc::new(Bandwidth::new(adapter, limits));
    }
    if let Some(policy) = common.admission.write {
        adapter = Arc::new(WriteBudget::new(adapter, policy));
    }
    if let Some(policy) = common.admission.frequency {
        adapter = Arc::new(Frequency::new(adapter, policy));
    }
    let counting = Counting::new(adapter);
    let counters = counting.counters();
    let is_shared = common.is_shared;
    Ok(Built { adapter: Arc::new(counting), is_shared, counters, breaker, checksum })
}

fn backend(config: &AdapterConfig) -> Result<Arc<dyn Adapter>, Failure> {
    Ok(match &config.backend {
        Backend::Fs(options) => Arc::new(FsAdapter::open(options.clone())?),
        Backend::Mock(options) => Arc::new(MockAdapter::new(*options)),
        Backend::Resp(options) => Arc::new(RespAdapter::new(options.clone())?),
        Backend::S3(options) => Arc::new(S3Adapter::new(options.clone())?),
        Backend::FaultInject { plan, inner } => Arc::new(FaultInject::new(backend(inner)?, plan.clone())),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Op;
    use crate::conformance::store_items;

    #[tokio::test]
    async fn a_declined_store_is_counted_and_no_failure_of_the_backend() {
        let config = json!({
            "type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 1, "breaker": {"failures_max": 1},
            "admission": {"write_bytes_per_day": 1000},
        });
        let built = build(&AdapterConfig::from_value(&config, &|_| None).unwrap()).unwrap();
        let stored = built.adapter.store(store_items(0..12, 100)).await;
        assert_eq!(stored.iter().filter(|stored| stored.is_ok()).count(), 10);
        let counts = built.counters.of(Op::Store);
        assert_eq!((counts.ok, counts.declined, counts.busy, counts.failed_total()), (10, 2, 0, 0));
        assert_eq!(built.adapter.health().details["write_budget_declined_bytes"], 200);
        assert_eq!(built.breaker.unwrap().openings(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_limits_of_our_own_is_no_timeout_of_the_backend() {
        // Each of these takes half of the time allowed, and one goes at a time.
        let config = json!({
            "type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 0.000_001, "checksum": false, "retry": false,
            "timeout": {"base_ms": 200, "bytes_per_s_min": 0}, "limits": {"in_flight_bytes_max": 1},
        });
        let built = build(&AdapterConfig::from_value(&config, &|_| None).unwrap()).unwrap();
        let stores: Vec<_> = (0..6)
            .map(|index| {
                let adapter = Arc::clone(&built.adapter);
                tokio::spawn(async move { adapter.store(store_items(index..index + 1, 107)).await.remove(0) })
            })
            .collect();
        for store in stores {
            store.await.unwrap().unwrap();
        }
        assert_eq!(built.adapter.health().details["expired_calls"], 0);
    }

    #[test]
    fn every_type_has_a_timeout_and_a_breaker_by_default() {
        let directory = tempfile::tempdir().unwrap();
        let mock = json!({ "type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 1 });
        let types: [Value; 7] = [
            json!({ "type": "fs", "base_path": directory.path() }),
            json!({ "type": "fs_native", "base_path": directory.path() }),
            json!({ "type": "resp", "host": "127.0.0.1", "port": 1 }),
            json!({ "type": "valkey", "startup_nodes": "127.0.0.1:1" }),
            json!({
                "type": "s3", "s3_endpoint": "b.localhost", "s3_region": "r", "aws_access_key_id": "i",
                "aws_secret_access_key": "s",
            }),
            mock.clone(),
            json!({ "type": "fault_inject", "inner": mock }),
        ];
        assert_eq!(types.len(), crate::known_kinds().len());
        for config in types {
            let built = build(&AdapterConfig::from_value(&config, &|_| None).unwrap()).unwrap();
            let details = built.adapter.health().details;
            assert!(details.contains_key("expired_calls"), "{config}: {details:?}");
            assert!(built.breaker.is_some(), "{config}");
        }
    }
}
