//! What the API says about plugins, as JSON.

use std::collections::HashMap;
use std::fs;

use larder_supervise::{EffectiveManifest, PluginStatus, Skipped, Usage};
use serde_json::{Map, Value, json};

use super::manifest_view;
use larder_telemetry::redaction::{REDACTED, is_secret, redacted};

/// Names under `/plugins/` that are routes of their own; a plugin with such a name is reached by its path.
const RESERVED: [&str; 3] = ["audit", "reload", "schema"];
/// Bytes of a process's environment that are looked at.
const ENVIRONMENT_MAX_BYTES: usize = 1024 * 1024;
/// Characters of one variable that are shown.
const VARIABLE_CHARS_MAX: usize = 4096;
/// A variable that every plugin has, so that a foreign process with a reused id is not taken for one.
const CONTRACT_VARIABLE: &str = "LMCACHE_RUNTIME_PLUGIN_WORKER_ID";

/// One plugin: its status, where to find it, and what it uses.
pub(super) fn plugin(status: &PluginStatus, usage: Option<&Usage>) -> Value {
    // A status is plain data.
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("last_exit_code".into(), status.last_exit.map(|exit| exit.code()).into());
        fields.insert("resources".into(), json!(usage));
        fields.insert("url".into(), url(status).into());
    }
    value
}

/// All plugins and what was passed over.
pub(super) fn list(all: &[PluginStatus], usage: &HashMap<String, Usage>, skipped: &[Skipped]) -> Value {
    let plugins: Vec<Value> = all.iter().map(|status| plugin(status, usage.get(&status.name))).collect();
    let skipped: Vec<Value> = skipped.iter().map(skip).collect();
    json!({ "plugins": plugins, "skipped": skipped })
}

/// The effective manifest, and for callers on this machine the environment of its process. Blocks.
pub(super) fn details(
    manifest: Option<&EffectiveManifest>,
    status: &PluginStatus,
    with_environment: bool,
) -> Map<String, Value> {
    let manifest = manifest.map_or(Value::Null, manifest_view::view);
    let environment = match status.pid.filter(|_| with_environment) {
        Some(pid) => environment(pid).map_or(Value::Null, Value::Object),
        None => Value::Null,
    };
    Map::from_iter([("manifest".to_owned(), manifest), ("environment".to_owned(), environment)])
}

fn skip(skipped: &Skipped) -> Value {
    let mut value = serde_json::to_value(&skipped.reason).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("path".into(), skipped.path.clone().into());
        fields.insert("text".into(), skipped.reason.to_string().into());
    }
    value
}

fn url(status: &PluginStatus) -> String {
    let known_as = if RESERVED.contains(&status.name.as_str()) { &status.path } else { &status.name };
    format!("/plugins/{}", encoded(known_as))
}

/// One segment of a URL's path.
fn encoded(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(char::from(byte))
            }
            byte => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    // Alone these would be taken for steps in the path.
    if segment.chars().all(|character| character == '.') { segment.replace('.', "%2E") } else { segment }
}

/// The environment a plugin's first process was started with, as the system has it; `None` where that cannot
/// be seen.
fn environment(pid: u32) -> Option<Map<String, Value>> {
    let mut bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    bytes.truncate(ENVIRONMENT_MAX_BYTES);
    let shown = without_secrets(&bytes);
    shown.contains_key(CONTRACT_VARIABLE).then_some(shown)
}

fn without_secrets(environment: &[u8]) -> Map<String, Value> {
    let text = String::from_utf8_lossy(environment);
    let mut shown = Map::new();
    for (name, value) in text.split('\0').filter_map(|entry| entry.split_once('=')) {
        shown.insert(name.to_owned(), variable(name, value).into());
    }
    shown.sort_keys();
    shown
}

fn variable(name: &str, value: &str) -> String {
    if is_secret(name, value) {
        return REDACTED.to_owned();
    }
    let clean = redacted(value);
    match clean.char_indices().nth(VARIABLE_CHARS_MAX) {
        Some((end, _)) => format!("{}... ({} bytes)", &clean[..end], clean.len()),
        None => clean.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_segment() {
        assert_eq!(encoded("heartbeat"), "heartbeat");
        assert_eq!(encoded("/a b/é.py"), "%2Fa%20b%2F%C3%A9.py");
        assert_eq!(encoded(".."), "%2E%2E");
    }

    #[test]
    fn an_environment_shows_no_credentials() {
        let long = "x".repeat(VARIABLE_CHARS_MAX + 10);
        let text = format!(
            "PATH=/bin\0API_TOKEN=t0k3n\0URL=redis://me:t0k3n@host/\0\
             CONFIG={{\"secret_key\":\"t0k3n\",\"port\":1}}\0LONG={long}\0BROKEN\0EMPTY_TOKEN="
        );
        let shown = without_secrets(text.as_bytes());
        let json = Value::Object(shown.clone()).to_string();
        assert!(!json.contains("t0k3n"), "{json}");
        assert_eq!(shown["PATH"], "/bin");
        assert_eq!(shown["CONFIG"], format!("{{\"secret_key\":\"{REDACTED}\",\"port\":1}}"));
        assert!(shown["LONG"].as_str().unwrap().ends_with(&format!("... ({} bytes)", long.len())));
        assert_eq!(shown["EMPTY_TOKEN"], "");
        assert!(!shown.contains_key("BROKEN"));
    }

    #[test]
    fn a_process_that_is_no_plugin_is_not_shown() {
        assert_eq!(environment(std::process::id()), None);
    }
}
