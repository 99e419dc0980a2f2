//! Keeps calls away from a backend that only fails, and finds out by itself when it works again.

mod adapter;
mod circuit;
mod verdict;

#[cfg(test)]
mod tests;

pub use adapter::Breaker;
pub use circuit::{BreakerPolicy, BreakerState};
