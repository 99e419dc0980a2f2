//! Live control of the runtime plugins over HTTP (`docs/reference/plugins-http.md`).
//!
//! Shows and commands the supervisor; decides nothing about a plugin's life. Knows nothing of caches.

mod audit;
mod caller;
mod control;
mod follow;
pub(crate) mod hints;
mod logs;
mod manifest_view;
mod metrics;
mod routes;
mod view;
mod watch;

pub use control::Plugins;
pub(super) use follow::Chunks;
pub(super) use metrics::{PluginSample, write_metrics};
pub(super) use routes::router;
pub use watch::follow_locations;
