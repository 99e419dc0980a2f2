//! The environment of a plugin's process, without secrets.

use std::fs;

use larder_telemetry::redaction::{REDACTED, is_secret, redacted};
use serde_json::{Map, Value};

/// Bytes of a process's environment that are looked at.
const ENVIRONMENT_MAX_BYTES: usize = 1024 * 1024;
/// Characters of one variable that are shown; the rest is cut, which is said.
const VARIABLE_CHARS_MAX: usize = 4096;
/// A variable that every plugin has, so that a foreign process with a reused id is not taken for one.
const CONTRACT_VARIABLE: &str = "LMCACHE_RUNTIME_PLUGIN_WORKER_ID";

/// The environment a plugin's first process was started with, as the system has it; `None` where that cannot
/// be seen.
pub(super) fn environment(pid: u32) -> Option<Map<String, Value>> {
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
