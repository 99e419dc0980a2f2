//! The node: RPC, engine, controllers, admin HTTP, configuration, telemetry.

mod effects;
pub mod node;

pub use larder_pool::Size;
