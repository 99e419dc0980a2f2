//! The keys every type takes.

use larder_core::eviction::{self, PolicyKind};

use super::fields::Fields;
use super::types::{AdmissionConfig, CommonConfig, EvictionConfig, LimitsConfig};
use crate::decorators::{
    BandwidthLimits, BreakerPolicy, ConcurrencyLimits, FrequencyPolicy, RetryPolicy, TimeoutPolicy,
    WritePolicy,
};

/// Keys and defaults of the peer first, then ours.
pub(super) fn read(fields: &mut Fields<'_>) -> CommonConfig {
    let affinity_tag = match fields.string("affinity_tag") {
        Some(tag) if tag.trim().is_empty() => {
            fields.problem(
                "affinity_tag",
                "value `` is empty",
                Some("give a tag or leave the key out".to_owned()),
            );
            tag
        }
        Some(tag) => tag,
        None => "_default".to_owned(),
    };
    if fields.value("serde").is_some() {
        let hint = "leave `serde` out; objects are stored as the engine lays them out".to_owned();
        fields.problem("serde", "transforming objects on the way to a tier is not supported", Some(hint));
    }
    CommonConfig {
        affinity_tag,
        is_shared: fields.bool("shared", false),
        eviction: eviction(fields),
        persist_enabled: fields.bool("persist_enabled", true),
        retry: retry(fields),
        timeout: timeout(fields),
        breaker: breaker(fields),
        limits: limits(fields),
        admission: admission(fields),
        checksum: fields.bool("checksum", true),
    }
}

fn eviction(fields: &mut Fields<'_>) -> Option<EvictionConfig> {
    let mut block = fields.object("eviction")?;
    if block.value("eviction_policy").is_none() {
        block.required("eviction_policy", &format!("one of `{}`", eviction::NAMES.join("`, `")));
    }
    let policy = block.choice("eviction_policy", eviction::NAMES);
    let eviction = EvictionConfig {
        policy: policy.and_then(|name| PolicyKind::parse(&name)).unwrap_or_default(),
        trigger_watermark: block.number("trigger_watermark", 0.0, 1.0).unwrap_or(0.8),
        eviction_ratio: block.number("eviction_ratio", 0.0, 1.0).unwrap_or(0.2),
    };
    fields.absorb(block);
    Some(eviction)
}

/// A block that is on by default: absent for the defaults, `false` to turn it off, an object to change some.
fn block<T>(
    fields: &mut Fields<'_>,
    key: &str,
    default: T,
    read: impl FnOnce(&mut Fields<'_>, T) -> T,
) -> Option<T> {
    match fields.value(key) {
        None | Some(serde_json::Value::Bool(true)) => Some(default),
        Some(serde_json::Value::Bool(false)) => None,
        Some(_) => {
            let mut nested = fields.object(key)?;
            let value = read(&mut nested, default);
            fields.absorb(nested);
            Some(value)
        }
    }
}

fn retry(fields: &mut Fields<'_>) -> Option<RetryPolicy> {
    block(fields, "retry", RetryPolicy::default(), |nested, default| RetryPolicy {
        attempts_max: small(nested, "attempts_max", 1, 16, default.attempts_max),
        backoff_min_ms: nested.integer("backoff_min_ms", 0, 60_000).unwrap_or(default.backoff_min_ms),
        backoff_max_ms: nested.integer("backoff_max_ms", 0, 600_000).unwrap_or(default.backoff_max_ms),
        budget_ratio: nested.number("budget_ratio", 0.0, 10.0).unwrap_or(default.budget_ratio),
        budget_max: small(nested, "budget_max", 0, 1_000_000, default.budget_max),
    })
}

fn timeout(fields: &mut Fields<'_>) -> Option<TimeoutPolicy> {
    block(fields, "timeout", TimeoutPolicy::default(), |nested, default| TimeoutPolicy {
        base_ms: nested.integer("base_ms", 1, 3_600_000).unwrap_or(default.base_ms),
        bytes_per_s_min: nested.integer("bytes_per_s_min", 0, u64::MAX).unwrap_or(default.bytes_per_s_min),
    })
}

fn breaker(fields: &mut Fields<'_>) -> Option<BreakerPolicy> {
    block(fields, "breaker", BreakerPolicy::default(), |nested, default| BreakerPolicy {
        failures_max: small(nested, "failures_max", 1, 1_000_000, default.failures_max),
        open_min_ms: nested.integer("open_min_ms", 1, 3_600_000).unwrap_or(default.open_min_ms),
        open_max_ms: nested.integer("open_max_ms", 1, 3_600_000).unwrap_or(default.open_max_ms),
    })
}

fn limits(fields: &mut Fields<'_>) -> LimitsConfig {
    let Some(mut nested) = fields.object("limits") else { return LimitsConfig::default() };
    let default = ConcurrencyLimits::default();
    let concurrency = ConcurrencyLimits {
        in_flight_bytes_max: nested
            .integer("in_flight_bytes_max", 1, 1 << 42)
            .unwrap_or(default.in_flight_bytes_max),
        waiting_calls_max: nested
            .integer("waiting_calls_max", 0, 1 << 20)
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(default.waiting_calls_max),
    };
    let store_bytes_per_s = nested.integer("store_bytes_per_s", 1, u64::MAX);
    let load_bytes_per_s = nested.integer("load_bytes_per_s", 1, u64::MAX);
    let delay_max_ms = nested.integer("delay_max_ms", 1, 3_600_000).unwrap_or(0);
    let is_paced = store_bytes_per_s.is_some() || load_bytes_per_s.is_some();
    let bandwidth = is_paced.then_some(BandwidthLimits { store_bytes_per_s, load_bytes_per_s, delay_max_ms });
    fields.absorb(nested);
    LimitsConfig { concurrency, bandwidth }
}

fn admission(fields: &mut Fields<'_>) -> AdmissionConfig {
    let Some(mut nested) = fields.object("admission") else { return AdmissionConfig::default() };
    let bytes_per_s = nested.integer("write_bytes_per_s", 1, u64::MAX);
    let burst_bytes = nested.integer("write_burst_bytes", 1, u64::MAX);
    let bytes_per_day = nested.integer("write_bytes_per_day", 1, u64::MAX);
    if burst_bytes.is_some() && bytes_per_s.is_none() {
        nested
            .warnings
            .push("`admission.write_burst_bytes` has no effect without `write_bytes_per_s`".to_owned());
    }
    let is_limited = bytes_per_s.is_some() || bytes_per_day.is_some();
    let burst_bytes = burst_bytes.unwrap_or(0);
    let write = is_limited.then_some(WritePolicy { bytes_per_s, burst_bytes, bytes_per_day });
    let frequency = frequency(&mut nested);
    fields.absorb(nested);
    AdmissionConfig { frequency, write }
}

fn frequency(admission: &mut Fields<'_>) -> Option<FrequencyPolicy> {
    /// What two generations of fingerprints take little memory for.
    const REMEMBERED_DEFAULT: u64 = 1 << 18;
    let stores_min = admission.integer("stores_min", 1, 15).and_then(|stores| u8::try_from(stores).ok());
    let remembered = admission.integer("remembered_objects", 1, 1 << 24);
    let stores_min = stores_min.filter(|stores| *stores > 1);
    if remembered.is_some() && stores_min.is_none() {
        let text = "`admission.remembered_objects` has no effect without `stores_min` above 1";
        admission.warnings.push(text.to_owned());
    }
    let remembered_objects = usize::try_from(remembered.unwrap_or(REMEMBERED_DEFAULT)).unwrap_or(usize::MAX);
    Some(FrequencyPolicy { stores_min: stores_min?, remembered_objects })
}

fn small(fields: &mut Fields<'_>, key: &str, min: u32, max: u32, default: u32) -> u32 {
    let value = fields.integer(key, min.into(), max.into());
    value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
}
