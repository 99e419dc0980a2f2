//! The effective manifest, in the words of the manifest file: its keys are those of `GET /plugins/schema`.

use std::path::PathBuf;
use std::time::Duration;

use larder_supervise::{
    CgroupLimits, Cron, EffectiveManifest, IoClass, Limits, Manifest, Readiness, Restart, Schema, Severity,
    StopSignal, Watchdog, WatchdogAction,
};
use serde::Serialize;
use serde_json::Value;

/// Every key with the value that holds now, or the mistake that keeps the plugin from being started.
pub(super) fn view(effective: &EffectiveManifest) -> Value {
    let file = effective.file.as_ref().map(|file| file.to_string_lossy().into_owned());
    let held = match &effective.manifest {
        Ok(manifest) => Held::Keys {
            runs: runs(manifest),
            readiness: readiness(manifest),
            watchdog: watchdog(manifest),
            ends: ends(manifest),
            given: given(manifest),
            confined: confined(manifest),
        },
        Err(error) => Held::Mistake {
            mistake: Mistake { line: error.line, message: &error.message, hint: error.hint.as_deref() },
        },
    };
    // Plain data.
    serde_json::to_value(View { held, file }).unwrap_or_default()
}

#[derive(Serialize)]
struct View<'m> {
    #[serde(flatten)]
    held: Held<'m>,
    file: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "made to be written at once")]
enum Held<'m> {
    Keys {
        #[serde(flatten)]
        runs: Runs<'m>,
        #[serde(flatten)]
        readiness: Ready<'m>,
        #[serde(flatten)]
        watchdog: Watched<'m>,
        #[serde(flatten)]
        ends: Ends<'m>,
        #[serde(flatten)]
        given: Given<'m>,
        #[serde(flatten)]
        confined: Confined<'m>,
    },
    Mistake {
        mistake: Mistake<'m>,
    },
}

#[derive(Serialize)]
struct Mistake<'m> {
    line: usize,
    message: &'m str,
    hint: Option<&'m str>,
}

#[derive(Serialize)]
struct Runs<'m> {
    description: &'m Option<String>,
    enabled: bool,
    after: &'m [String],
    restart: Restart,
    restart_delay_ms: u64,
    restart_delay_max_ms: u64,
    restart_stable_after_s: u64,
    start_limit_burst: u32,
    start_limit_interval_s: u64,
    interval_s: Option<u64>,
    cron: &'m Option<Cron>,
    run_timeout_s: Option<u64>,
}

fn runs(manifest: &Manifest) -> Runs<'_> {
    let policy = &manifest.policy;
    Runs {
        description: &manifest.description,
        enabled: manifest.enabled,
        after: &manifest.after,
        restart: policy.restart,
        restart_delay_ms: ms(policy.delay),
        restart_delay_max_ms: ms(policy.delay_max),
        restart_stable_after_s: policy.stable_after.as_secs(),
        start_limit_burst: policy.start_limit_burst,
        start_limit_interval_s: policy.start_limit_interval.as_secs(),
        interval_s: policy.interval.map(|limit| limit.as_secs()),
        cron: &policy.cron,
        run_timeout_s: policy.run_timeout.map(|limit| limit.as_secs()),
    }
}

#[derive(Serialize)]
struct Ready<'m> {
    ready: &'static str,
    ready_log: Option<&'m str>,
    ready_address: Option<&'m str>,
    ready_file: Option<String>,
    ready_timeout_s: Option<u64>,
}

fn readiness(manifest: &Manifest) -> Ready<'_> {
    let ready_timeout_s = manifest.policy.ready_timeout.map(|limit| limit.as_secs());
    let bare = Ready { ready: "", ready_log: None, ready_address: None, ready_file: None, ready_timeout_s };
    match &manifest.readiness {
        Readiness::Immediate => Ready { ready: "immediate", ..bare },
        Readiness::FirstLine => Ready { ready: "first-line", ..bare },
        Readiness::Log(text) => Ready { ready: "log", ready_log: Some(text), ..bare },
        Readiness::Notify => Ready { ready: "notify", ..bare },
        Readiness::Socket(address) => Ready { ready: "socket", ready_address: Some(address), ..bare },
        Readiness::Http(address) => Ready { ready: "http", ready_address: Some(address), ..bare },
        Readiness::File(file) => {
            Ready { ready: "file", ready_file: Some(file.to_string_lossy().into_owned()), ..bare }
        }
    }
}

#[derive(Serialize)]
struct Watched<'m> {
    watchdog: Option<&'static str>,
    watchdog_s: Option<u64>,
    watchdog_address: Option<&'m str>,
    watchdog_action: WatchdogAction,
}

fn watchdog(manifest: &Manifest) -> Watched<'_> {
    let (watchdog, watchdog_address) = match &manifest.watchdog {
        Watchdog::Off => (None, None),
        Watchdog::Notify(_) => (Some("notify"), None),
        Watchdog::Output(_) => (Some("output"), None),
        Watchdog::Socket(_, address) => (Some("socket"), Some(address.as_str())),
        Watchdog::Http(_, address) => (Some("http"), Some(address.as_str())),
    };
    let watchdog_s = manifest.watchdog.limit().map(|limit| limit.as_secs());
    Watched { watchdog, watchdog_s, watchdog_address, watchdog_action: manifest.watchdog_action }
}

#[derive(Serialize)]
struct Ends<'m> {
    stop_signal: StopSignal,
    stop_timeout_s: u64,
    dump_signal: Option<StopSignal>,
    dump_timeout_s: u64,
    success_codes: &'m [i32],
    stderr_level: Severity,
    lines_per_second: u32,
    lines_burst: u32,
    line_max_bytes: usize,
}

fn ends(manifest: &Manifest) -> Ends<'_> {
    let Manifest { policy, output, .. } = manifest;
    Ends {
        stop_signal: policy.stop_signal,
        stop_timeout_s: policy.stop_timeout.as_secs(),
        dump_signal: policy.dump_signal,
        dump_timeout_s: policy.dump_timeout.as_secs(),
        success_codes: &policy.success_codes,
        stderr_level: output.stderr_severity,
        lines_per_second: output.rate.per_second,
        lines_burst: output.rate.burst,
        line_max_bytes: output.line_max_bytes,
    }
}

#[derive(Serialize)]
struct Given<'m> {
    events: &'m [String],
    metrics: bool,
    metrics_fd: bool,
    metrics_url: &'m Option<String>,
    control: bool,
    hooks: &'m [String],
    secrets: bool,
    config: &'m Option<Schema>,
    restart_on_config: bool,
    inherit: &'m Option<Vec<String>>,
    inherit_secrets: &'m [String],
    /// Names alone: values may be credentials; the environment of the running process shows the harmless
    /// ones.
    environment: Vec<&'m String>,
}

fn given(manifest: &Manifest) -> Given<'_> {
    Given {
        events: &manifest.events,
        metrics: manifest.metrics,
        metrics_fd: manifest.metrics_fd,
        metrics_url: &manifest.metrics_url,
        control: manifest.control,
        hooks: &manifest.hooks,
        secrets: manifest.secrets,
        config: &manifest.config,
        restart_on_config: manifest.restart_on_config,
        inherit: &manifest.inherit,
        inherit_secrets: &manifest.inherit_secrets,
        environment: manifest.environment.keys().collect(),
    }
}

#[derive(Serialize)]
struct Confined<'m> {
    user: &'m Option<String>,
    group: &'m Option<String>,
    umask: Option<u32>,
    nice: Option<i32>,
    io_class: Option<IoClass>,
    io_priority: Option<u8>,
    no_new_privs: bool,
    read_paths: &'m Option<Vec<PathBuf>>,
    write_paths: &'m Option<Vec<PathBuf>>,
    limits: &'m Limits,
    cgroup: CgroupLimits,
}

fn confined(manifest: &Manifest) -> Confined<'_> {
    let confinement = &manifest.confinement;
    Confined {
        user: &confinement.user,
        group: &confinement.group,
        umask: confinement.umask,
        nice: confinement.nice,
        io_class: confinement.io_class,
        io_priority: confinement.io_priority,
        no_new_privs: confinement.no_new_privs,
        read_paths: &confinement.read_paths,
        write_paths: &confinement.write_paths,
        limits: &confinement.limits,
        cgroup: confinement.cgroup,
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use larder_supervise::{ManifestError, manifest_schema};
    use serde_json::json;

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
