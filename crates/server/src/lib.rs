//! The node: RPC, engine, controllers, admin HTTP, configuration, telemetry.

pub mod admin;
pub mod effects;
pub mod node;

pub use larder_pool::Size;
