//! The RPC front: sockets on one side, the engine on the other.
//!
//! One thread reads, decodes, answers and writes. Nearly every operation is shorter than a hop to another
//! thread, so it is answered in place; only what copies payloads (transfer without shared memory) and long
//! prompts nobody has sent before go to a worker, and until one is back its connection's later requests wait,
//! nobody else's.

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

mod answer;
mod chunk_sizes;
mod clients;
mod config;
mod front;
mod hashing;
mod lanes;
mod local_socket;
mod operations;
mod outcome;
mod payload;
mod prompts;
mod request;
mod retrieve;
mod stats;
mod streams;
mod sweeping;
#[cfg(test)]
mod tests;
mod transfer_log;

/// Addresses and sockets of the front, as they are shown.
pub use larder_zmtp::{Endpoint, Handle as Sockets, LimitKind};

pub use config::FrontConfig;
pub use front::Front;
pub use local_socket::LocalSocket;
pub use stats::RpcStats;
pub use sweeping::sweep;
