//! The node: RPC, engine, controllers, admin HTTP, configuration, telemetry.

pub mod admin;
pub mod controllers;
pub mod node;
pub mod rpc;

pub use larder_pool::Size;
