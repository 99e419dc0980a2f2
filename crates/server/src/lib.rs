//! The node: RPC, engine, controllers, admin HTTP, configuration, telemetry.

pub mod admin;
pub mod controllers;
pub mod node;

pub use larder_pool::Size;
