//! What a change of the configuration does to the parts that run.

use std::time::Duration;

use larder_config::ServerConfig;
use larder_engine::{Limits, Operator};
use larder_telemetry::LogHandle;
use larder_tier::Tier;

/// Makes the running parts what `after` says, where `before` said otherwise: the cache, the second tier, and
/// the log where its level may be changed.
pub(crate) fn apply(
    engine: &Operator,
    tier: &Tier,
    log: Option<&LogHandle>,
    before: &ServerConfig,
    after: &ServerConfig,
) {
    if limits(before) != limits(after) {
        engine.set_limits(limits(after));
    }
    if before.eviction.policy != after.eviction.policy {
        engine.set_policy(after.eviction.policy.new_policy());
    }
    if before.l2.store_policy != after.l2.store_policy {
        tier.set_store_policy(after.l2.store_policy);
    }
    if before.l2.prefetch_max_in_flight != after.l2.prefetch_max_in_flight {
        tier.set_prefetches_max(after.l2.prefetch_max_in_flight as usize);
    }
    if let Some(log) = log.filter(|_| before.log.level != after.log.level)
        && let Err(error) = log.set_level(None, after.log.level.into())
    {
        tracing::error!("the log's level stays as it is: {error}");
    }
}

/// What of the configuration the engine can take over while it runs.
pub(crate) fn limits(config: &ServerConfig) -> Limits {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Limits {
        eviction_watermark: config.eviction.trigger_watermark,
        eviction_ratio: config.eviction.ratio,
        write_ttl_ms: config.l1.write_ttl_seconds.saturating_mul(1000),
        read_ttl_ms: config.l1.read_ttl_seconds.saturating_mul(1000),
        session_ttl_ms: ms(config.mp.session_ttl()),
        reap_timeout_ms: config.mp.worker_reap_timeout().map_or(0, ms),
        registration_grace_ms: ms(config.mp.worker_registration_grace()),
    }
}
