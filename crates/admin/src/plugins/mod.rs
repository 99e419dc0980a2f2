//! Live control of the runtime plugins over HTTP (`docs/reference/plugins-http.md`).
//!
//! Shows and commands the supervisor; decides nothing about a plugin's life. Knows nothing of caches.

mod audit;
mod caller;
mod control;
mod environment;
mod follow;
mod logs;
mod manifest_view;
mod routes;
mod sample;
mod view;
mod watch;

pub use control::Plugins;
pub(crate) use logs::logs;
pub(crate) use routes::{audit, command, list, manifest_schema, reload, schema, show};
pub(crate) use sample::PluginSample;
pub(crate) use view::state;
pub use watch::follow_locations;
