//! The effective manifest, in the words of the manifest file.

use std::time::Duration;

use larder_supervise::{EffectiveManifest, Manifest, Readiness, Watchdog};
use serde_json::{Value, json};

/// Every key with the value that holds now, or the mistake that keeps the plugin from being started.
pub(super) fn view(effective: &EffectiveManifest) -> Value {
    let mut view = match &effective.manifest {
        Ok(manifest) => keys(manifest),
        Err(error) => {
            json!({ "mistake": { "line": error.line, "message": error.message, "hint": error.hint } })
        }
    };
    view["file"] = effective.file.as_ref().map(|file| file.to_string_lossy().into_owned()).into();
    view
}

fn keys(manifest: &Manifest) -> Value {
    let Manifest { policy, output, .. } = manifest;
    let (ready, ready_log, ready_address, ready_file) = match &manifest.readiness {
        Readiness::Immediate => ("immediate", None, None, None),
        Readiness::FirstLine => ("first-line", None, None, None),
        Readiness::Log(text) => ("log", Some(text), None, None),
        Readiness::Notify => ("notify", None, None, None),
        Readiness::Socket(address) => ("socket", None, Some(address), None),
        Readiness::Http(address) => ("http", None, Some(address), None),
        Readiness::File(file) => ("file", None, None, Some(file.to_string_lossy().into_owned())),
    };
    let (watchdog, watchdog_address) = match &manifest.watchdog {
        Watchdog::Off => (None, None),
        Watchdog::Notify(_) => (Some("notify"), None),
        Watchdog::Output(_) => (Some("output"), None),
        Watchdog::Socket(_, address) => (Some("socket"), Some(address)),
        Watchdog::Http(_, address) => (Some("http"), Some(address)),
    };
    let mut view = json!({
        "description": manifest.description,
        "enabled": manifest.enabled,
        "after": manifest.after,
        "restart": policy.restart,
        "restart_delay_ms": ms(policy.delay),
        "restart_delay_max_ms": ms(policy.delay_max),
        "restart_stable_after_s": policy.stable_after.as_secs(),
        "start_limit_burst": policy.start_limit_burst,
        "start_limit_interval_s": policy.start_limit_interval.as_secs(),
        "interval_s": policy.interval.map(|limit| limit.as_secs()),
        "cron": policy.cron,
        "run_timeout_s": policy.run_timeout.map(|limit| limit.as_secs()),
        "ready": ready,
        "ready_log": ready_log,
        "ready_address": ready_address,
        "ready_file": ready_file,
        "ready_timeout_s": policy.ready_timeout.map(|limit| limit.as_secs()),
        "watchdog": watchdog,
        "watchdog_s": manifest.watchdog.limit().map(|limit| limit.as_secs()),
        "watchdog_address": watchdog_address,
        "watchdog_action": manifest.watchdog_action,
        "stop_signal": policy.stop_signal,
        "stop_timeout_s": policy.stop_timeout.as_secs(),
        "dump_signal": policy.dump_signal,
        "dump_timeout_s": policy.dump_timeout.as_secs(),
        "success_codes": policy.success_codes,
        "stderr_level": output.stderr_severity,
        "lines_per_second": output.rate.per_second,
        "lines_burst": output.rate.burst,
        "line_max_bytes": output.line_max_bytes,
    });
    let given = json!({
        "events": manifest.events,
        "metrics": manifest.metrics,
        "metrics_fd": manifest.metrics_fd,
        "metrics_url": manifest.metrics_url,
        "control": manifest.control,
        "hooks": manifest.hooks,
        "secrets": manifest.secrets,
        "config": manifest.config,
        "restart_on_config": manifest.restart_on_config,
        "inherit": manifest.inherit,
        "inherit_secrets": manifest.inherit_secrets,
        // Values may be credentials; the environment of the running process shows the harmless ones.
        "environment": manifest.environment.keys().collect::<Vec<_>>(),
    });
    // Confinement keeps the manifest's names; `cgroup_procs` belongs to one run.
    if let (Value::Object(view), Value::Object(given), Ok(Value::Object(mut confinement))) =
        (&mut view, given, serde_json::to_value(&manifest.confinement))
    {
        view.extend(given);
        confinement.remove("cgroup_procs");
        view.extend(confinement);
    }
    view
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use larder_supervise::{ManifestError, manifest_schema};

    use super::*;

    fn shown(text: &str) -> Value {
        view(&EffectiveManifest { file: None, manifest: Manifest::parse(text, &Manifest::default()) })
    }

    #[test]
    fn every_key_of_a_manifest_is_there() {
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let mut known = names(&manifest_schema()["properties"]);
        known.insert("file".to_owned());
        assert_eq!(names(&shown("")), known);
    }

    #[test]
    fn defaults_are_those_of_the_schema() {
        let bare = shown("");
        for (key, rule) in manifest_schema()["properties"].as_object().unwrap() {
            if let Some(default) = rule.get("default") {
                assert_eq!(bare[key], *default, "{key}");
            }
        }
    }

    #[test]
    fn values_are_the_effective_ones() {
        let text = "description = \"d\"\ncron = \"0 6 * * 1\"\nmetrics_fd = true\ncontrol = true\n\
             watchdog = \"output\"\nwatchdog_s = 9\ncgroup = { pids = 7 }\nenvironment = { TOKEN = \"t0k\" }\n\
             [config]\nx = { type = \"integer\", default = 3 }\n";
        let view = shown(text);
        assert_eq!(view["description"], "d");
        assert_eq!(view["cron"], "0 6 * * 1");
        assert_eq!((&view["metrics_fd"], &view["control"]), (&json!(true), &json!(true)));
        assert_eq!((&view["watchdog"], &view["watchdog_s"]), (&json!("output"), &json!(9)));
        assert_eq!(
            view["cgroup"],
            json!({ "memory_bytes": null, "cpu_percent": null, "pids": 7, "io_weight": null })
        );
        assert_eq!(view["config"], json!({ "x": { "type": "integer", "default": 3 } }));
        assert_eq!(view["environment"], json!(["TOKEN"]));
    }

    #[test]
    fn a_mistake_is_shown_instead() {
        let error = ManifestError { file: None, line: 2, message: "m".into(), hint: Some("h".into()) };
        let view = view(&EffectiveManifest { file: Some("/p.sh.plugin.toml".into()), manifest: Err(error) });
        assert_eq!(view["mistake"], json!({ "line": 2, "message": "m", "hint": "h" }));
        assert_eq!(view["file"], "/p.sh.plugin.toml");
    }
}
