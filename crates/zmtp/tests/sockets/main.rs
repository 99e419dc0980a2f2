//! The sockets of this crate against real sockets: their own, raw ones, and those of libzmq where it is
//! installed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test by panicking")]

mod attacks;
mod budgets;
mod common;
mod echo;
mod endpoints;
mod lifecycle;
mod patience;
mod processes;
mod turns;
