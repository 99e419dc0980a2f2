//! The manifest's own JSON Schema, for editors and for whoever writes manifests by machine.

use serde_json::{Map, Value, json};

use super::schema::DIALECT;

/// A JSON Schema of manifests. Relations between keys are left to [`super::Manifest::parse`].
#[must_use]
pub fn manifest_schema() -> Value {
    let mut properties = Map::new();
    for group in [starting(), running(), output(), giving(), confining()] {
        properties.extend(group.into_iter().map(|(key, mut rule, description)| {
            if let Value::Object(rule) = &mut rule {
                rule.insert("description".to_owned(), description.into());
            }
            (key.to_owned(), rule)
        }));
    }
    json!({
        "$schema": DIALECT,
        "title": "Manifest of a runtime plugin, <file>.plugin.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

type Entry = (&'static str, Value, &'static str);

fn text() -> Value {
    json!({ "type": "string" })
}

fn texts() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn switch(default: bool) -> Value {
    json!({ "type": "boolean", "default": default })
}

fn count(minimum: u64) -> Value {
    json!({ "type": "integer", "minimum": minimum })
}

fn count_or(default: u64, minimum: u64) -> Value {
    json!({ "type": "integer", "minimum": minimum, "default": default })
}

fn starting() -> Vec<Entry> {
    vec![
        ("description", text(), "What the plugin is for."),
        ("enabled", switch(true), "Whether it is started without being asked."),
        ("after", texts(), "Plugins that are ready, have ended or have failed before this one starts."),
        (
            "interval_s",
            count(1),
            "Seconds from one start to the next of a plugin that does its work and ends.",
        ),
        ("cron", text(), "Local times of its starts: minute, hour, day, month, weekday."),
        ("run_timeout_s", count(1), "Longest run in seconds."),
        (
            "ready",
            json!({ "enum": ["immediate", "first-line", "log", "notify", "socket", "http", "file"], "default": "immediate" }),
            "How it says that it is ready.",
        ),
        ("ready_log", text(), "Text of the line that says so; `*` stands for anything."),
        ("ready_address", text(), "Address, socket path or `http://` address that is probed."),
        ("ready_file", text(), "File that it makes, or changes, once it is ready."),
        ("ready_timeout_s", count(0), "Longest time in seconds to become ready."),
    ]
}

fn running() -> Vec<Entry> {
    let signals = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"];
    vec![
        (
            "restart",
            json!({ "enum": ["never", "on-failure", "always"], "default": "never" }),
            "When a run that ended by itself is followed by another.",
        ),
        (
            "restart_delay_ms",
            count_or(500, 0),
            "Milliseconds before the first restart; doubled with each failure.",
        ),
        ("restart_delay_max_ms", count_or(60_000, 0), "Longest such wait in milliseconds."),
        (
            "restart_stable_after_s",
            count_or(30, 0),
            "Seconds of a run that clears the counts of failures and starts.",
        ),
        ("start_limit_burst", count_or(5, 1), "Starts allowed within `start_limit_interval_s`."),
        ("start_limit_interval_s", count_or(60, 0), "Seconds for `start_limit_burst`."),
        (
            "watchdog",
            json!({ "enum": ["notify", "output", "socket", "http"] }),
            "How it shows that it is alive, or where it is asked.",
        ),
        ("watchdog_address", text(), "Address, socket path or `http://` address that is probed."),
        (
            "watchdog_action",
            json!({ "enum": ["end", "alert", "log"], "default": "end" }),
            "What follows when it does not: the run is ended as failed; or it counts as degraded and an alert is raised, or the log says so.",
        ),
        ("watchdog_s", count(1), "Seconds within which it has to."),
        ("stop_signal", json!({ "enum": signals, "default": "SIGTERM" }), "How it is asked to end."),
        (
            "stop_timeout_s",
            count_or(5, 0),
            "Seconds until SIGKILL, or until `dump_signal` where there is one.",
        ),
        (
            "dump_signal",
            json!({ "enum": signals }),
            "Sent before SIGKILL, for a trace of what hangs: `SIGQUIT` for most runtimes.",
        ),
        ("dump_timeout_s", count_or(2, 0), "Seconds from `dump_signal` to SIGKILL."),
        (
            "success_codes",
            json!({ "type": "array", "items": { "type": "integer" } }),
            "Exit codes that are no failure, besides 0.",
        ),
    ]
}

fn output() -> Vec<Entry> {
    vec![
        (
            "stderr_level",
            json!({ "enum": ["debug", "info", "warn", "error"], "default": "warn" }),
            "Severity of lines on standard error that do not say themselves.",
        ),
        ("lines_per_second", count_or(1_000, 0), "Lines logged a second."),
        ("lines_burst", count_or(10_000, 0), "Lines logged at once."),
        (
            "line_max_bytes",
            json!({ "type": "integer", "minimum": 64, "maximum": 1 << 20, "default": 16_384 }),
            "Bytes of a line; the rest is cut off.",
        ),
    ]
}

fn giving() -> Vec<Entry> {
    vec![
        ("events", texts(), "Kinds of events it gets; `*` is all."),
        ("metrics", switch(false), "Whether it has a folder for metrics."),
        ("metrics_fd", switch(false), "Whether it can write metrics to a descriptor."),
        (
            "metrics_url",
            text(),
            "`http://` address at which it serves metrics of its own; asked every 15 seconds.",
        ),
        ("control", switch(false), "Whether it has a control channel; its events then come through that."),
        (
            "hooks",
            texts(),
            "Points at which it gives hints over its control channel: `admission`, `eviction`.",
        ),
        ("secrets", switch(false), "Whether it sees masked values of the configuration."),
        (
            "restart_on_config",
            switch(false),
            "Whether it is restarted when the server's configuration changes while it runs.",
        ),
        (
            "inherit",
            texts(),
            "Inherited variables it gets; where left out, all that do not look like secrets.",
        ),
        (
            "inherit_secrets",
            texts(),
            "Inherited variables it gets although they look like secrets; `*` stands for all.",
        ),
        (
            "environment",
            json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            "Variables on top.",
        ),
        (
            "config",
            json!({ "type": "object", "additionalProperties": rule() }),
            "Rules for the plugin's keys in the extra configuration, `plugin.<name>.<key>`.",
        ),
    ]
}

fn rule() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "type": { "enum": ["string", "integer", "number", "boolean", "array", "object"] },
            "enum": { "type": "array", "minItems": 1 },
            "minimum": { "type": "number" },
            "maximum": { "type": "number" },
            "required": { "type": "boolean", "default": false },
            "default": {},
            "description": { "type": "string" },
        },
    })
}

fn confining() -> Vec<Entry> {
    let limits = ["open_files", "memory_bytes", "processes", "file_size_bytes", "cpu_s", "core_bytes"];
    let limits: Map<String, Value> = limits.iter().map(|key| ((*key).to_owned(), count(0))).collect();
    let cgroup: Map<String, Value> = ["memory_bytes", "cpu_percent", "pids", "io_weight"]
        .iter()
        .map(|key| ((*key).to_owned(), count(1)))
        .collect();
    vec![
        ("user", text(), "User it runs as, by name or number."),
        ("group", text(), "Group it runs as."),
        (
            "umask",
            json!({ "type": "integer", "minimum": 0, "maximum": 0o777 }),
            "Permission bits that its files do not get.",
        ),
        ("nice", json!({ "type": "integer", "minimum": -20, "maximum": 19 }), "Scheduling priority."),
        (
            "io_class",
            json!({ "enum": ["realtime", "best-effort", "idle"] }),
            "How its reading and writing comes to its turn, as `ionice` has it.",
        ),
        (
            "io_priority",
            json!({ "type": "integer", "minimum": 0, "maximum": 7 }),
            "Its place within the class; 0 is the first.",
        ),
        ("no_new_privs", switch(false), "Whether it and its children can never gain privileges."),
        ("read_paths", texts(), "Files and folders it can read and execute."),
        ("write_paths", texts(), "Files and folders it can change."),
        (
            "limits",
            json!({ "type": "object", "additionalProperties": false, "properties": limits }),
            "Kernel limits of a process.",
        ),
        (
            "cgroup",
            json!({ "type": "object", "additionalProperties": false, "properties": cgroup }),
            "Limits on everything it starts together, where the server has a control group of its own.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::model::Manifest;
    use super::*;

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(text, &Manifest::default()).map_err(|error| error.message)
    }

    /// The names that a message about an unknown one lists.
    fn offered(message: &str) -> Vec<String> {
        let (_, listed) = message.split_once("expected one of ").unwrap();
        let mut names: Vec<String> =
            listed.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_has_exactly_the_keys_that_manifests_have() {
        let schema = manifest_schema();
        let keys = |value: &Value| {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&schema["properties"]), offered(&parse("no_such_key = 1").unwrap_err()));
        for (table, text, properties) in [
            ("limits", "limits = { no_such_key = 1 }", &schema["properties"]["limits"]["properties"]),
            ("cgroup", "cgroup = { no_such_key = 1 }", &schema["properties"]["cgroup"]["properties"]),
            ("config", "[config]\nx = { no_such_key = 1 }", &rule()["properties"]),
        ] {
            assert_eq!(keys(properties), offered(&parse(text).unwrap_err()), "{table}");
        }
    }

    #[test]
    fn its_choices_and_defaults_are_those_of_manifests() {
        let schema = manifest_schema();
        for (key, rule) in schema["properties"].as_object().unwrap() {
            if let Some(values) = rule["enum"].as_array() {
                let error = parse(&format!("{key} = \"no such value\"")).unwrap_err();
                let mut known: Vec<_> = values.iter().map(|v| v.as_str().unwrap().to_owned()).collect();
                known.sort();
                let listed =
                    offered(&error.replace("expected `", "expected one of `").replace("` or `", "`, `"));
                assert_eq!(known, listed, "{key}");
            }
            if let Some(default) = rule.get("default") {
                assert_eq!(parse(&format!("{key} = {default}")), parse(""), "{key}");
            }
        }
    }
}
