//! A configuration once read.

use std::fmt;

use larder_core::eviction::PolicyKind;

use crate::adapters::fs::FsOptions;
use crate::adapters::mock::MockOptions;
use crate::adapters::resp::RespOptions;
use crate::adapters::s3::S3Options;
use crate::decorators::{
    BandwidthLimits, BreakerPolicy, ConcurrencyLimits, FaultPlan, FrequencyPolicy, RetryPolicy,
    TimeoutPolicy, WritePolicy,
};

/// One adapter as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// The type as written, such as `fs_native`.
    pub kind: String,
    /// What every type takes.
    pub common: CommonConfig,
    /// What this type takes.
    pub backend: Backend,
    /// What was accepted but deserves a word: ignored keys, options without effect. One phrase each.
    pub warnings: Vec<String>,
}

/// Why eviction is refused that could never begin: see [`AdapterConfig::evicts_without_limit`].
pub const NOTHING_TO_GO_BY: &str =
    "`eviction` has nothing to go by: the adapter has no capacity and nobody has a quota";

/// What the operator can do about it.
pub const SOMETHING_TO_GO_BY: &str =
    "set `max_capacity_gb`, or start the server with `--quota` or `--quota-default-gb`";

impl AdapterConfig {
    /// Whether the adapter is told to evict by a policy that has nothing to go by without quotas.
    ///
    /// `IsolatedLRU` is for quotas, which may come at any time; `noop` never evicts.
    #[must_use]
    pub fn evicts_without_limit(&self) -> bool {
        let eviction = self.common.eviction.as_ref();
        eviction.is_some_and(|eviction| eviction.policy.makes_room()) && self.capacity_bytes().is_none()
    }

    /// The most that the adapter may hold, in bytes; none without a limit.
    #[must_use]
    pub fn capacity_bytes(&self) -> Option<u64> {
        match &self.backend {
            Backend::Fs(options) => options.capacity_bytes,
            Backend::Mock(options) => Some(options.capacity_bytes),
            Backend::Resp(options) => options.capacity_bytes,
            Backend::S3(options) => options.capacity_bytes,
            Backend::FaultInject { inner, .. } => inner.capacity_bytes(),
        }
    }
}

/// The type-specific part.
#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    /// `fs`, `fs_native`.
    Fs(FsOptions),
    /// `mock`.
    Mock(MockOptions),
    /// `resp`, `valkey`.
    Resp(RespOptions),
    /// `s3`.
    S3(S3Options),
    /// `fault_inject` around another adapter.
    FaultInject {
        /// Which loads fail.
        plan: FaultPlan,
        /// What is wrapped.
        inner: Box<AdapterConfig>,
    },
}

/// What every type takes. Defaults are the peer's, or ours where the peer has no such key.
#[derive(Clone, Debug, PartialEq)]
pub struct CommonConfig {
    /// Memory tag whose buffers the adapter uses; `_default` unless named.
    pub affinity_tag: String,
    /// Whether others write to the same storage.
    pub is_shared: bool,
    /// Eviction from this adapter; none leaves it to the backend.
    pub eviction: Option<EvictionConfig>,
    /// Whether objects outlive the server, where the adapter has the choice.
    pub persist_enabled: bool,
    /// Retries; none is off.
    pub retry: Option<RetryConfig>,
    /// Deadlines; none is off.
    pub timeout: Option<TimeoutConfig>,
    /// The circuit breaker; none is off.
    pub breaker: Option<BreakerConfig>,
    /// Limits.
    pub limits: LimitsConfig,
    /// Which stores are let in.
    pub admission: AdmissionConfig,
    /// Whether loads are verified against the checksum kept with the object.
    pub checksum: bool,
}

/// See [`RetryPolicy`].
pub type RetryConfig = RetryPolicy;
/// See [`TimeoutPolicy`].
pub type TimeoutConfig = TimeoutPolicy;
/// See [`BreakerPolicy`].
pub type BreakerConfig = BreakerPolicy;

/// Limits on concurrency and bandwidth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// What may be under way at once.
    pub concurrency: ConcurrencyLimits,
    /// How fast; none is unlimited.
    pub bandwidth: Option<BandwidthLimits>,
}

/// The `admission` block: which stores are let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// How often an object must have been offered; none lets the first in.
    pub frequency: Option<FrequencyPolicy>,
    /// How much may be written; none is unlimited.
    pub write: Option<WritePolicy>,
}

/// The `eviction` block, for the controller that evicts.
#[derive(Clone, Debug, PartialEq)]
pub struct EvictionConfig {
    /// What leaves first.
    pub policy: PolicyKind,
    /// Share of the capacity from which eviction starts.
    pub trigger_watermark: f64,
    /// Share of what is held to evict at a time.
    pub eviction_ratio: f64,
}

/// Everything wrong with one adapter's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The mistakes, in the order of the keys that were read.
    pub problems: Vec<ConfigProblem>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key, with the keys that lead to it, such as `eviction.eviction_policy`; empty for the whole.
    pub path: String,
    /// What is wrong, with the value in backticks.
    pub text: String,
    /// What would be accepted.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.text)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
