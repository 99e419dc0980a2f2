//! The node: RPC, engine, controllers, admin HTTP, configuration, telemetry.
