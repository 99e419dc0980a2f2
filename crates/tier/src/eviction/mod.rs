//! Eviction from second-tier adapters, by policy and by quota (`spec/cache-semantics.md` 11.4).
//!
//! Each adapter with an `eviction` block has an [`Evictor`]: a ledger of what it holds, in the order in which
//! it would leave. The ledger learns from every call that passes and, in the background, from listings. A
//! pass begins when the adapter is filled to its watermark or a tenant to the watermark of its quota, and
//! works in bounded steps; a store makes room for itself before it would be refused.

mod controller;
mod evictor;
mod ledger;
mod listing;
mod passes;

pub(super) use controller::evict_all;
pub use evictor::EvictionReport;
pub(super) use evictor::Evictor;
