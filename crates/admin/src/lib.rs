//! The admin HTTP API (`spec/http-api.md`), on the control thread, apart from the RPC front.
//!
//! Reading is open to whoever reaches the socket, which is bound to loopback unless the operator says
//! otherwise. What changes state is for callers on this machine that are no web page.

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

mod access;
mod adapters;
mod bodies;
mod cache;
mod chunks;
mod effects;
mod events;
mod hangup;
mod health;
mod hints;
mod metrics;
mod plugins;
mod quota;
mod reply;
mod routes;
mod serve;
mod settings;
mod state;
mod status;

pub use effects::Effects;
pub use hangup::follow_hangups;
pub use plugins::{Plugins, follow_locations};
pub use routes::router;
pub use serve::{HttpStats, LOCAL_CONNECTIONS_MAX, REMOTE_CONNECTIONS_MAX, serve};
pub use state::Admin;
