//! What plugins get where their manifests are silent, and what runs their scripts.

use std::time::Duration;

use larder_supervise::{DefaultsError, Interpreters, Manifest, OutputLimits, WritableByOthers};
use larder_telemetry::LineRate;
use serde_json::Value as Json;

use super::model::PluginsConfig;
use super::settings::Settings;
use larder_core::hooks::HOOKS;
use larder_telemetry::events::Event;

/// Lines a plugin may log: all of what a script prints that means it, not all of what one prints in a loop.
const LINES: LineRate = LineRate { per_second: 20_000, burst: 250_000 };

/// The settings, checked before.
pub(super) fn plugins(settings: &Settings) -> PluginsConfig {
    PluginsConfig {
        locations: settings.list("runtime-plugin-locations"),
        extra_config: settings.json("runtime-plugin-config"),
        defaults: defaults(&settings.json("runtime-plugin-defaults")).unwrap_or_default(),
        interpreters: interpreters(&settings.json("runtime-plugin-interpreters")).unwrap_or_default(),
        redact_secrets: settings.bool("runtime-plugin-redact-secrets"),
        writable_by_others: settings.choice("runtime-plugin-writable-by-others", writable_by_others),
        stop_budget: Duration::from_secs_f64(settings.number("runtime-plugin-stop-budget")),
    }
}

fn writable_by_others(word: &str) -> Option<WritableByOthers> {
    match word {
        "allow" => Some(WritableByOthers::Allow),
        "warn" => Some(WritableByOthers::Warn),
        "refuse" => Some(WritableByOthers::Refuse),
        _ => None,
    }
}

/// The bare contract with the server's limits and these keys on top.
pub(super) fn defaults(keys: &Json) -> Result<Manifest, DefaultsError> {
    let output = OutputLimits { rate: LINES, ..OutputLimits::default() };
    Manifest { output, known_events: Event::KINDS, known_hooks: HOOKS, ..Manifest::default() }
        .with_defaults(keys)
}

/// The built-in table with these entries on top; `None` if they are no table.
pub(super) fn interpreters(entries: &Json) -> Option<Interpreters> {
    let mut table = Interpreters::default();
    for (extension, programs) in entries.as_object()? {
        let programs: Vec<String> = match programs {
            Json::String(program) => vec![program.clone()],
            Json::Array(programs) => {
                programs.iter().map(|program| program.as_str().map(str::to_owned)).collect::<Option<_>>()?
            }
            _ => return None,
        };
        if extension.is_empty() || programs.is_empty() || programs.iter().any(String::is_empty) {
            return None;
        }
        table.set(extension.trim_start_matches('.'), programs);
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_stand_on_the_server_s_own() {
        let manifest =
            defaults(&json!({ "restart": "on-failure", "inherit": ["PATH"], "lines_burst": 5 })).unwrap();
        assert_eq!(manifest.inherit.as_deref(), Some(&["PATH".to_owned()][..]));
        assert_eq!((manifest.output.rate.per_second, manifest.output.rate.burst), (LINES.per_second, 5));
        assert_eq!(defaults(&json!({})).unwrap().output.rate, LINES);
    }

    #[test]
    fn what_cannot_be_a_default_is_explained() {
        let told = |keys: Json| defaults(&keys).unwrap_err().to_string();
        assert!(told(json!({ "restrat": "always" })).starts_with("unknown field `restrat`"));
        assert_eq!(told(json!({ "after": ["db"] })), "`after` cannot hold for all plugins");
        let error = defaults(&json!({ "start_limit_burst": 0 })).unwrap_err();
        assert_eq!(error.to_string(), "`start_limit_burst` is zero, so it would never start");
        assert_eq!(error.hint(), Some("use 1 or more"));
        assert_eq!(told(json!([])), "no object of manifest keys");
    }

    #[test]
    fn interpreters_add_up() {
        let table = interpreters(&json!({ ".rb": "ruby", "py": ["/opt/python", "python3"] })).unwrap();
        let known = |name: &str| table.for_path(std::path::Path::new(name)).unwrap().to_vec();
        assert_eq!(known("a.rb"), ["ruby"]);
        assert_eq!(known("a.py"), ["/opt/python", "python3"]);
        assert_eq!(known("a.sh"), ["bash"]);
        for wrong in
            [json!([]), json!({ "py": 1 }), json!({ "py": [] }), json!({ "": "x" }), json!({ "py": "" })]
        {
            assert_eq!(interpreters(&wrong), None, "{wrong}");
        }
    }
}
