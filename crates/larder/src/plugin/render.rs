//! A server's answers as text for people.

use std::fmt::Write as _;

use larder_admin_api::plugins::{AuditEntry, AuditTrail, Plugin, PluginDetails, PluginList, Reloaded, Run};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::moments;

/// Characters of one value of the manifest or the environment; the rest is cut, which is said.
const VALUE_CHARS_MAX: usize = 200;

/// The state that needs a person.
pub(super) const FAILED: &str = "failed";

/// The table of `ls`.
pub(crate) fn list(answer: &PluginList) -> String {
    let PluginList { plugins, skipped } = answer;
    let mut text = String::new();
    if plugins.is_empty() {
        text.push_str("no plugins\n");
    } else {
        let head = ["NAME", "STATE", "SINCE", "PID", "STARTS", "LAST EXIT", "LINES", "SUPPRESSED", "PATH"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(plugins.iter().map(|plugin| row(plugin).to_vec()));
        text.push_str(&table(&rows));
    }
    if !skipped.is_empty() {
        text.push_str("\nnot run:\n");
        let rows: Vec<_> = skipped.iter().map(|skip| vec![skip.path.clone(), skip.text.clone()]).collect();
        text.push_str(&table(&rows));
    }
    text
}

fn row(plugin: &Plugin) -> [String; 9] {
    [
        plugin.name.clone(),
        state(plugin),
        or_dash(plugin.since.as_deref().and_then(moments::ago)),
        or_dash(plugin.pid),
        plugin.starts.to_string(),
        or_dash(plugin.last_exit_code),
        (plugin.lines.stdout + plugin.lines.stderr).to_string(),
        plugin.lines.suppressed.to_string(),
        plugin.path.clone(),
    ]
}

/// The state with what belongs to it.
pub(super) fn state(plugin: &Plugin) -> String {
    match &plugin.cause {
        Some(cause) => format!("{} ({})", plugin.state, cause.replace('_', " ")),
        None => plugin.state.to_string(),
    }
}

/// What to do about a plugin that failed.
pub(super) fn after_a_failure(plugin: &Plugin) -> String {
    format!("hint: `larder plugin start {}` after the fix, or save its file", plugin.name)
}

/// As [`show`], with the environment of its process.
pub(super) fn show_with_environment(answer: &Value) -> String {
    let mut text = show(answer);
    section(&mut text, "environment", answer.get("environment"));
    text
}

/// One plugin as `key: value` lines, whatever keys there are, its latest runs and its manifest below.
pub(super) fn show(answer: &Value) -> String {
    let Value::Object(fields) = answer else { return format!("{answer}\n") };
    let PluginDetails { plugin, manifest, .. } = PluginDetails::deserialize(answer).unwrap_or_default();
    let mut text = String::new();
    for (name, value) in fields {
        let shown = match (name.as_str(), value) {
            ("manifest" | "environment" | "cause" | "url" | "runs", _) | (_, Value::Null) => continue,
            ("state", _) => state(&plugin),
            ("since" | "started", Value::String(moment)) => match moments::ago(moment) {
                Some(ago) => format!("{moment} ({ago} ago)"),
                None => moment.clone(),
            },
            ("uptime_ms", Value::Number(_)) => continue,
            ("lines" | "resources" | "last_exit", Value::Object(parts)) => pairs(parts),
            _ => plain(value),
        };
        // Writing to a string cannot fail.
        _ = writeln!(text, "{name}: {shown}");
    }
    if plugin.state == FAILED {
        _ = writeln!(text, "{}", after_a_failure(&plugin));
    }
    runs(&mut text, &plugin.runs);
    section(&mut text, "manifest", Some(&manifest));
    text
}

fn runs(text: &mut String, runs: &[Run]) {
    if runs.is_empty() {
        return;
    }
    let mut rows = vec![["RUN", "STARTED", "ENDED", "RAN", "EXIT", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(runs.iter().rev().map(|run| {
        let ran = moments::length(i64::try_from(run.ran_ms / 1_000).unwrap_or(i64::MAX));
        let (number, started, ended) = (run.number.to_string(), run.started.clone(), run.ended.clone());
        vec![number, started, ended, ran, or_dash(run.exit_code), run.why.clone()]
    }));
    _ = write!(text, "\nlatest runs:\n{}", table(&rows));
}

fn section(text: &mut String, title: &str, value: Option<&Value>) {
    let Some(Value::Object(parts)) = value else { return };
    _ = writeln!(text, "\n{title}:");
    for (name, value) in parts.iter().filter(|(_, value)| is_said(value)) {
        _ = writeln!(text, "  {name} = {}", cut(&plain(value)));
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}... (all with --json)", &text[..end]),
        None => text.to_owned(),
    }
}

fn is_said(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(parts) => parts.values().any(is_said),
        _ => true,
    }
}

fn pairs(parts: &Map<String, Value>) -> String {
    parts.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

/// The table of `audit`.
pub(super) fn audit(trail: &AuditTrail) -> String {
    if trail.entries.is_empty() {
        return "no commands\n".to_owned();
    }
    let columns = ["SEQUENCE", "TIME", "CALLER", "ACTION", "PLUGIN", "OUTCOME"];
    let mut rows = vec![columns.map(str::to_owned).to_vec()];
    rows.extend(trail.entries.iter().map(|entry| {
        let AuditEntry { sequence, time, caller, action, plugin, outcome, .. } = entry.clone();
        vec![sequence.to_string(), time, caller, action.into_owned(), or_dash(plugin), outcome]
    }));
    table(&rows)
}

/// What a rescan changed.
pub(super) fn reload(answer: &Reloaded) -> String {
    let Reloaded { added, changed, removed } = answer;
    let mut text = String::new();
    for (word, names) in [("added", added), ("changed", changed), ("removed", removed)] {
        for name in names {
            _ = writeln!(text, "{word}: {name}");
        }
    }
    if text.is_empty() { "nothing changed\n".to_owned() } else { text }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Rows of cells in columns as wide as their widest cell, two spaces apart.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(answer: Value) -> T {
        serde_json::from_value(answer).unwrap()
    }

    fn answer() -> Value {
        json!({
            "plugins": [
                {"name": "beat", "path": "p/beat.sh", "state": "ready", "since": "2020-01-01T00:00:00.000Z", "pid": 7, "starts": 1, "last_exit_code": null,
                 "lines": {"stdout": 3, "stderr": 1, "suppressed": 0}},
                {"name": "long_name", "path": "p/long_name.py", "state": "failed", "cause": "crash_loop", "pid": null,
                 "starts": 5, "last_exit_code": -9, "lines": {"stdout": 0, "stderr": 0, "suppressed": 12}},
            ],
            "skipped": [{"path": "p/_x.py", "text": "name begins with an underscore"}],
        })
    }

    #[test]
    fn a_list() {
        let days = moments::ago("2020-01-01T00:00:00.000Z").unwrap();
        let expected = "\
NAME       STATE                SINCE   PID  STARTS  LAST EXIT  LINES  SUPPRESSED  PATH
beat       ready                DAYS  7    1       -          4      0           p/beat.sh
long_name  failed (crash loop)  -       -    5       -9         0      12          p/long_name.py

not run:
p/_x.py  name begins with an underscore
";
        assert_eq!(list(&read(answer())), expected.replace("DAYS", &days));
        assert_eq!(list(&PluginList::default()), "no plugins\n");
    }

    #[test]
    fn one_plugin() {
        let mut plugin = answer()["plugins"][1].clone();
        plugin["manifest"] =
            json!({"restart": "always", "after": [], "limits": {"cpu_s": null}, "file": null});
        plugin["runs"] = json!([
            {"number": 1, "started": "s1", "ended": "e1", "ran_ms": 61_000, "exit_code": 7, "why": "failed"},
            {"number": 2, "started": "s2", "ended": "e2", "ran_ms": 5, "exit_code": null, "why": "not started"},
        ]);
        plugin["environment"] = json!({"A": "1", "LONG": "x".repeat(VALUE_CHARS_MAX + 1)});
        let expected = "\
name: long_name
path: p/long_name.py
state: failed (crash loop)
starts: 5
last_exit_code: -9
lines: stdout 0, stderr 0, suppressed 12
hint: `larder plugin start long_name` after the fix, or save its file

latest runs:
RUN  STARTED  ENDED  RAN    EXIT  WHY
2    s2       e2     0 s    -     not started
1    s1       e1     1 min  7     failed

manifest:
  restart = always
";
        assert_eq!(show(&plugin), expected);
        let environment = format!(
            "\nenvironment:\n  A = 1\n  LONG = {}... (all with --json)\n",
            "x".repeat(VALUE_CHARS_MAX)
        );
        assert_eq!(show_with_environment(&plugin), format!("{expected}{environment}"));
    }

    #[test]
    fn a_trail_and_a_rescan() {
        let trail = json!({"entries": [{"sequence": 1, "time": "t", "caller": "SIGHUP", "action": "reload",
                                        "plugin": null, "outcome": "1 added, 0 changed, 0 removed"}]});
        assert_eq!(
            audit(&read(trail)),
            "SEQUENCE  TIME  CALLER  ACTION  PLUGIN  OUTCOME\n\
             1         t     SIGHUP  reload  -       1 added, 0 changed, 0 removed\n"
        );
        assert_eq!(audit(&AuditTrail::default()), "no commands\n");
        assert_eq!(
            reload(&read(json!({"added": ["a"], "changed": [], "removed": ["b"]}))),
            "added: a\nremoved: b\n"
        );
        assert_eq!(reload(&Reloaded::default()), "nothing changed\n");
    }
}
