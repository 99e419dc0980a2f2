//! Configurations that were made for people to see, and so can't be used.

use serde_json::Value;

/// What stands in place of a credential where a configuration is shown.
pub const REDACTED: &str = "<redacted>";

/// Whether credentials were taken out of this value: it would log in with their replacement.
#[must_use]
pub fn is_shown(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(REDACTED),
        Value::Array(items) => items.iter().any(is_shown),
        Value::Object(entries) => entries.values().any(is_shown),
        _ => false,
    }
}
