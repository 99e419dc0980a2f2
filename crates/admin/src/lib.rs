//! The admin HTTP API (`spec/http-api.md`), on the control thread, apart from the RPC front.
//!
//! Reading is open to whoever reaches the socket, which is bound to loopback unless the operator says
//! otherwise. What changes state is for callers on this machine that are no web page.

mod access;
mod adapters;
mod bodies;
mod cache;
mod effects;
mod events;
mod hangup;
mod l2;
mod l2_flow;
mod lifetimes;
mod metrics;
mod plugins;
mod process;
mod quota;
mod reply;
mod routes;
mod serve;
mod settings;
mod status;
mod text;

pub use effects::Effects;
pub use hangup::follow_hangups;
pub use plugins::{Plugins, follow_locations};
pub use routes::{Admin, router};
pub use serve::{HttpStats, LOCAL_CONNECTIONS_MAX, REMOTE_CONNECTIONS_MAX, serve};
