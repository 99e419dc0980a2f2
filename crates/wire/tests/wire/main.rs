//! Black-box tests of the crate's public interface.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod golden_operations;
mod golden_types;
mod hostile;
mod pickle;
mod properties;
mod support;
