//! L2: where objects go when memory is not enough, and come back from.
//!
//! Owns the [`Adapter`] contract, the adapters (files, Valkey and Redis, object stores, stand-ins for
//! rehearsals), the decorators that add patience and limits to any adapter, the configuration the peer's
//! `--l2-adapter` JSON describes, and a [`conformance`] suite every adapter passes.
//!
//! It never sees the memory pool: it reads and fills [buffers](LentBuffer) it is lent. It decides nothing
//! about what to store, load or evict.

// Tests count small things and may cast them.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_lossless,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

mod adapter;
pub mod adapters;
mod buffer;
mod config;
pub mod conformance;
pub mod decorators;
mod error;
mod factory;
mod index;
mod locks;
mod mutex;
mod names;
mod report;
mod secret;
mod within;
mod workers;

pub use adapter::{
    Adapter, AdapterFuture, DeleteMode, Deleted, Found, KeyResult, ListPage, ListRequest, Listed, LoadItem,
    Loaded, Op, Seal, StoreItem, Stored,
};
pub use buffer::{HeapBuffer, Lent, LentBuffer, SharedLocation};
pub use config::{
    AdapterConfig, AdmissionConfig, Backend, BreakerConfig, CommonConfig, ConfigError, ConfigProblem,
    EvictionConfig, LimitsConfig, NOTHING_TO_GO_BY, RetryConfig, SOMETHING_TO_GO_BY, TimeoutConfig,
    known_kinds,
};
pub use error::{Busy, Error, Failure, FailureKind};
pub use factory::{Built, build};
pub use names::{FILE_NAME_BYTES_MAX, FILE_SUFFIX, KeyDecoder, NameTooLong, file_name, wire_name};
pub use report::{Health, HealthState, Usage};
pub use secret::Secret;
pub use within::within;
