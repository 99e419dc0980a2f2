//! What plugins are told on their control channels, and what becomes of their hints.

use larder_supervise::ControlHost;
use serde_json::Value;

use super::node::body;
use crate::hints;
use crate::state::Admin;

/// What plugins are told is what anybody is told.
impl ControlHost for Admin {
    fn status(&self, _plugin: &str) -> Value {
        // Plain data.
        serde_json::to_value(body(self)).unwrap_or_default()
    }

    fn hint(&self, plugin: &str, hooks: &[String], params: &Value) -> Result<Value, String> {
        hints::take(&self.engine, plugin, hooks, params)
    }

    fn run_over(&self, plugin: &str) {
        self.engine.withdraw_hints(plugin);
    }
}
