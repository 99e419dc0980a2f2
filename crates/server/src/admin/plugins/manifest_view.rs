//! The effective manifest, in the words of the manifest file.

use std::path::Path;
use std::time::Duration;

use larder_supervise::{Manifest, OutputLimits, Policy, Readiness, Watchdog};
use serde_json::{Map, Value, json};

use crate::config::json::redact;

/// What the plugin at `path` would be started with now: its manifest over the defaults, or the mistake in it. Reads the file.
pub(super) fn effective(path: &Path) -> Value {
    let file = Manifest::path_for(path);
    let present = file.exists();
    match Manifest::load(path, &Manifest::bare(Policy::default(), OutputLimits::default())) {
        Ok(manifest) => {
            let mut view = keys(&manifest);
            if let Value::Object(view) = &mut view {
                add_as_written(view, &file);
                view.insert("file".into(), present.then(|| file.to_string_lossy().into_owned()).into());
            }
            view
        }
        Err(error) => json!({
            "file": file.to_string_lossy(),
            "mistake": { "line": error.line, "message": error.message, "hint": error.hint },
        }),
    }
}

/// Keys that have no effective form of their own, such as the description, are shown as the file has them.
fn add_as_written(view: &mut Map<String, Value>, file: &Path) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let written: Map<String, Value> = toml::from_str(&text).unwrap_or_default();
    for (key, mut value) in written.into_iter().filter(|(key, _)| !view.contains_key(key)).collect::<Vec<_>>()
    {
        redact(&mut value);
        view.insert(key, value);
    }
}

fn keys(manifest: &Manifest) -> Value {
    let Manifest { policy, output, .. } = manifest;
    let (ready, ready_log, ready_address) = match &manifest.readiness {
        Readiness::Immediate => ("immediate", None, None),
        Readiness::FirstLine => ("first-line", None, None),
        Readiness::Log(text) => ("log", Some(text), None),
        Readiness::Notify => ("notify", None, None),
        Readiness::Socket(address) => ("socket", None, Some(address)),
        Readiness::Http(address) => ("http", None, Some(address)),
    };
    let (watchdog, watchdog_s) = match &manifest.watchdog {
        Watchdog::Off => (None, None),
        Watchdog::Notify(limit) => (Some("notify"), Some(limit.as_secs())),
        Watchdog::Output(limit) => (Some("output"), Some(limit.as_secs())),
    };
    let mut view = json!({
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
        "ready_timeout_s": policy.ready_timeout.map(|limit| limit.as_secs()),
        "watchdog": watchdog,
        "watchdog_s": watchdog_s,
        "stop_signal": policy.stop_signal,
        "stop_timeout_s": policy.stop_timeout.as_secs(),
        "success_codes": policy.success_codes,
        "stderr_level": output.stderr_severity,
        "lines_per_second": output.rate.per_second,
        "lines_burst": output.rate.burst,
        "line_max_bytes": output.line_max_bytes,
        "events": manifest.events,
        "metrics": manifest.metrics,
        "metrics_fd": manifest.metrics_fd,
        "secrets": manifest.secrets,
        "config": manifest.config,
        "inherit": manifest.inherit,
        // Values may be credentials; the environment of the running process shows the harmless ones.
        "environment": manifest.environment.keys().collect::<Vec<_>>(),
    });
    // Confinement keeps the manifest's names.
    if let (Value::Object(view), Ok(Value::Object(confinement))) =
        (&mut view, serde_json::to_value(&manifest.confinement))
    {
        view.extend(confinement);
    }
    view
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_manifest_and_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let plugin = folder.path().join("p.sh");
        let bare = effective(&plugin);
        assert_eq!((&bare["file"], &bare["restart"]), (&Value::Null, &json!("never")));

        let file = folder.path().join("p.sh.plugin.toml");
        std::fs::write(
            &file,
            "description = \"d\"\nrestart = \"always\"\nwatchdog = \"output\"\nwatchdog_s = 9\n",
        )
        .unwrap();
        let given = effective(&plugin);
        assert_eq!((&given["restart"], &given["watchdog_s"]), (&json!("always"), &json!(9)));
        assert_eq!(given["description"], "d");
        assert_eq!(given["file"], file.to_str().unwrap());

        std::fs::write(&file, "\nrestrat = 1\n").unwrap();
        assert_eq!(effective(&plugin)["mistake"]["line"], 2);
    }
}
