//! Patience, limits and observation around any adapter, one file each.
//!
//! Each is an [`Adapter`](crate::Adapter) that owns another. [`build`](crate::build) stacks them, outermost
//! first: counting, frequency, write budget, bandwidth, concurrency, breaker, retry, timeout, checksum.
//! Whoever evicts puts [`Observing`] around all of it.

mod bandwidth;
mod breaker;
mod checksum;
mod concurrency;
mod counting;
mod fault_inject;
mod forward;
mod frequency;
mod observing;
mod retry;
mod timeout;
mod write_budget;

pub use bandwidth::{Bandwidth, BandwidthLimits};
pub use breaker::{Breaker, BreakerPolicy, BreakerState};
pub use checksum::{Checksum, ChecksumCounts};
pub use concurrency::{Concurrency, ConcurrencyLimits};
pub use counting::{Counters, Counting, OpCounts};
pub use fault_inject::{FaultInject, FaultPlan};
pub use frequency::{Frequency, FrequencyPolicy};
pub use observing::{Observer, Observing};
pub use retry::{Retry, RetryPolicy};
pub use timeout::{Timeout, TimeoutPolicy};
pub use write_budget::{Declined, WriteBudget, WritePolicy};
