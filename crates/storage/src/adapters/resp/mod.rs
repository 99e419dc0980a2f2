//! `resp` and `valkey`: objects as plain values in Valkey or Redis, alone or as a cluster.
//!
//! Values and their names are those of the peer's adapters (`spec/cache-semantics.md` 11.3), so that both
//! read each other's. A [seal](crate::Seal) is a small value beside the object. Threads own blocking
//! connections: payloads of many megabytes go straight between socket and lent buffer and never pass an event
//! loop.

mod adapter;
mod cluster;
mod command;
mod commands;
mod connection;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod listing;
mod options;
mod reply;
mod session;

pub use adapter::RespAdapter;
pub use options::{Node, RespOptions};
