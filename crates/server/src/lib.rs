//! The node: RPC, engine, controllers, admin HTTP, configuration, telemetry.

pub mod admin;
pub mod build_info;
pub mod config;
pub mod controllers;
pub mod engine;
pub mod events;
pub mod hooks;
pub mod node;
pub mod quotas;
pub mod rpc;
pub mod telemetry;

pub use larder_pool::Size;
