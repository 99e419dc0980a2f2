//! The two documents in which others read the configuration, byte for byte as the peer writes them: the one
//! handed to plugins and the body of `GET /config`.

mod documents;
mod python;

pub use documents::{
    Resolved, http_config_json, plugin_config, plugin_config_json, plugin_extra_config_json,
};
pub use python::{Layout, to_python_json};
