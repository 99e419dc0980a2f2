//! The peer's `--l2-adapter` JSON, read as a whole: every mistake at once, each with what would be accepted.
//!
//! Facts: `spec/config-and-cli.md` 6. Keys of ours are additions; a configuration written for the peer is
//! read the way the peer reads it. Keys nobody knows are ignored, as the peer does, but never silently.

mod backends;
mod common;
mod credentials;
mod fields;
mod kinds;
mod parse;
mod types;

pub use kinds::known_kinds;
pub use types::{
    AdapterConfig, AdmissionConfig, Backend, BreakerConfig, CommonConfig, ConfigError, ConfigProblem,
    EvictionConfig, LimitsConfig, NOTHING_TO_GO_BY, RetryConfig, SOMETHING_TO_GO_BY, TimeoutConfig,
};
