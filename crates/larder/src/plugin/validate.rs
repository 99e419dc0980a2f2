//! `larder plugin validate`: which files would run, how, and what is wrong. Runs nothing.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgMatches;
use larder_supervise::{
    Discovery, Host, Interpreters, MANIFEST_SUFFIX, Manifest, Readiness, Restart, SkipReason, Watchdog,
    WatchdogAction, choose_interpreter, discover,
};
use serde_json::Value;

use super::rig;
use crate::exit;

/// Explains the files; the exit code says whether all is well.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let paths: Vec<PathBuf> = matches.get_many("path").into_iter().flatten().cloned().collect();
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let extra = match matches.get_one::<String>("extra-config").map(|text| serde_json::from_str(text)) {
        None => None,
        Some(Ok(extra @ Value::Object(_))) => Some(extra),
        Some(_) => {
            eprintln!("error: `--extra-config` is no JSON object\nhint: write `{{\"plugin.NAME.key\": 1}}`");
            return ExitCode::from(exit::USAGE);
        }
    };
    let server = match rig::server(&paths, matches) {
        Ok(server) => server.plugins,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(exit::USAGE);
        }
    };
    let beside =
        Beside { host: rig::host(matches), interpreters: server.interpreters, defaults: server.defaults };
    let report = explain(&paths, &beside, &search_path, extra.as_ref());
    // Nothing can be done when nobody reads; the exit code says it too.
    _ = io::stdout().write_all(report.text.as_bytes());
    if report.mistakes == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) }
}

/// The explanation of all files.
#[derive(Debug, Default)]
pub(super) struct Report {
    text: String,
    mistakes: usize,
}

impl Report {
    fn say(&mut self, kind: &str, text: &str) {
        let mut lines = text.lines();
        // Writing to a string cannot fail.
        _ = writeln!(self.text, "  {kind}: {}", lines.next().unwrap_or_default());
        for line in lines {
            _ = writeln!(self.text, "    {line}");
        }
    }

    fn mistake(&mut self, text: &str) {
        self.mistakes += 1;
        self.say("mistake", text);
    }
}

/// The process that plugins would run beside.
struct Beside {
    host: Host,
    interpreters: Interpreters,
    defaults: Manifest,
}

/// Explains what a process like `beside` would do with `paths`.
fn explain(paths: &[PathBuf], beside: &Beside, search_path: &OsStr, extra: Option<&Value>) -> Report {
    let Beside { host, interpreters: table, defaults: bare } = beside;
    let Discovery { plugins, skipped, .. } = discover(paths, host, table);
    let mut report = Report::default();
    let stems: Vec<String> = plugins.iter().map(|plugin| stem(plugin)).collect();
    for plugin in &plugins {
        _ = writeln!(report.text, "{}", plugin.display().to_string().escape_debug());
        command(&mut report, plugin, table, search_path);
        manifest(&mut report, plugin, bare, &stems, extra);
    }
    let named: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    for skip in &skipped {
        let is_manifest = skip.path.ends_with(MANIFEST_SUFFIX);
        if is_manifest && has_plugin(&skip.path, &plugins) {
            continue;
        }
        _ = writeln!(report.text, "{}", skip.path);
        match &skip.reason {
            _ if is_manifest => report.mistake("a manifest without a plugin beside it"),
            SkipReason::Name { .. } => report.say("not run here", &skip.reason.to_string()),
            reason if named.contains(&skip.path) => report.mistake(&reason.to_string()),
            SkipReason::BrokenLink
            | SkipReason::Unreadable { .. }
            | SkipReason::TooMany
            | SkipReason::TooDeep => {
                report.mistake(&skip.reason.to_string());
            }
            reason => report.say("not run", &reason.to_string()),
        }
    }
    let (files, mistakes) = (plugins.len(), report.mistakes);
    _ = writeln!(report.text, "{files} to run, {mistakes} with mistakes");
    report
}

fn has_plugin(manifest: &str, plugins: &[PathBuf]) -> bool {
    plugins.iter().any(|plugin| Manifest::path_for(plugin) == Path::new(manifest))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn command(report: &mut Report, plugin: &Path, table: &Interpreters, search_path: &OsStr) {
    match choose_interpreter(plugin, table, search_path) {
        Ok(chosen) => {
            let words: Vec<_> =
                chosen.argv.iter().map(|word| word.to_string_lossy().escape_debug().to_string()).collect();
            report.say("command", &words.join(" "));
            if let Some(wanted) = chosen.passed_over {
                report.say("note", &format!("its `#!` line asks for `{wanted}`, which is not there"));
            }
        }
        Err(error) => report.mistake(&error.to_string()),
    }
}

fn manifest(report: &mut Report, plugin: &Path, bare: &Manifest, stems: &[String], extra: Option<&Value>) {
    let manifest = match Manifest::load(plugin, bare) {
        Ok(manifest) => manifest,
        Err(error) => return report.mistake(&error.to_string()),
    };
    let present = Manifest::path_for(plugin).exists();
    report.say(if present { "manifest" } else { "no manifest" }, &summary(&manifest));
    for mistake in manifest.confinement.mistakes() {
        report.mistake(&mistake);
    }
    for name in manifest.after.iter().filter(|name| !stems.contains(name)) {
        report.say("note", &format!("it starts after `{name}`, which is not among these files"));
    }
    if let Some((rules, extra)) = manifest.config.as_ref().zip(extra)
        && let Err(misfits) = rules.settings(&stem(plugin), extra)
    {
        for misfit in misfits {
            report.mistake(&misfit.to_string());
        }
    }
}

/// How it is kept running, in a phrase.
fn summary(manifest: &Manifest) -> String {
    let policy = &manifest.policy;
    let mut parts = Vec::new();
    if !manifest.enabled {
        parts.push("not started without being asked".to_owned());
    }
    if let Some(cron) = &policy.cron {
        let times = serde_json::to_value(cron).unwrap_or_default();
        parts.push(format!("runs at `{}`", times.as_str().unwrap_or_default()));
    }
    parts.push(match (policy.interval, policy.restart) {
        (None, Restart::Never) if policy.cron.is_some() => "once each time".to_owned(),
        (Some(interval), _) => format!("runs every {} s", interval.as_secs()),
        (None, Restart::Never) => "runs once".to_owned(),
        (None, Restart::OnFailure) => "restarted after a failure".to_owned(),
        (None, Restart::Always) => "restarted whenever it ends".to_owned(),
    });
    parts.push(match &manifest.readiness {
        Readiness::Immediate => "ready at once".to_owned(),
        Readiness::FirstLine => "ready with its first line".to_owned(),
        Readiness::Log(text) => format!("ready with a line like `{text}`"),
        Readiness::File(file) => format!("ready when it has made or changed `{}`", file.display()),
        Readiness::Notify => "ready when it says so on `NOTIFY_SOCKET`".to_owned(),
        Readiness::Socket(address) | Readiness::Http(address) => format!("ready when `{address}` answers"),
    });
    if let Some(limit) = manifest.watchdog.limit() {
        let done = match manifest.watchdog_action {
            WatchdogAction::End => "ended",
            WatchdogAction::Alert => "alerted about",
            WatchdogAction::Log => "mentioned",
        };
        let silent = match &manifest.watchdog {
            Watchdog::Output(_) => "when silent".to_owned(),
            Watchdog::Socket(_, address) | Watchdog::Http(_, address) => {
                format!("when `{address}` does not answer")
            }
            _ => "without a sign of life".to_owned(),
        };
        parts.push(format!("{done} {silent} for {} s", limit.as_secs()));
    }
    if !manifest.events.is_empty() {
        parts.push(format!("hears {}", manifest.events.join(", ")));
    }
    let signal = serde_json::to_value(policy.stop_signal).unwrap_or_default();
    parts.push(format!(
        "{} s to end after {}",
        policy.stop_timeout.as_secs(),
        signal.as_str().unwrap_or("a signal")
    ));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_supervise::Role;
    use larder_telemetry::events::Event;
    use std::fs;

    fn beside(host: Host) -> Beside {
        let defaults = Manifest { known_events: Event::KINDS, ..Manifest::default() };
        Beside { host, interpreters: Interpreters::default(), defaults }
    }

    fn explained(folder: &Path, host: Host) -> (String, usize) {
        let programs = folder.join("bin");
        fs::create_dir_all(&programs).unwrap();
        std::os::unix::fs::symlink("/bin/sh", programs.join("bash")).unwrap();
        let Report { text, mistakes } =
            explain(&[folder.join("plugins")], &beside(host), programs.as_os_str(), None);
        (text.replace(&format!("{}/", folder.display()), ""), mistakes)
    }

    #[test]
    fn everything_is_explained_and_nothing_runs() {
        let folder = tempfile::tempdir().unwrap();
        let plugins = folder.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        let write = |name: &str, text: &str| fs::write(plugins.join(name), text).unwrap();
        write("a.sh", &format!("touch {}/ran\n", folder.path().display()));
        write("b.sh", "#!/no/such/shell -x\n");
        write("b.sh.plugin.toml", "restart = \"always\"\nafter = [\"a\", \"zzz\"]\nstop_timeout_s = 2\n");
        write("c.sh", "");
        write("c.sh.plugin.toml", "\nready = \"log\"\n");
        write("d.py", "");
        write("_helper.sh", "");
        write("gone.sh.plugin.toml", "");
        let (text, mistakes) = explained(folder.path(), Host { role: None, worker_id: 0 });
        let expected = "\
plugins/d.py
  mistake: no interpreter for `plugins/d.py`: tried `python`, `python3`
    hint: give it a `#!` line naming a program that exists
  no manifest: runs once; ready at once; 5 s to end after SIGTERM
plugins/a.sh
  command: bin/bash plugins/a.sh
  no manifest: runs once; ready at once; 5 s to end after SIGTERM
plugins/b.sh
  command: bin/bash plugins/b.sh
  note: its `#!` line asks for `/no/such/shell`, which is not there
  manifest: restarted whenever it ends; ready at once; 2 s to end after SIGTERM
  note: it starts after `zzz`, which is not among these files
plugins/c.sh
  command: bin/bash plugins/c.sh
  mistake: plugins/c.sh.plugin.toml: line 2: `ready` is `log` without a text to wait for
    hint: set `ready_log = \"listening\"`
plugins/_helper.sh
  not run: name begins with an underscore
plugins/gone.sh.plugin.toml
  mistake: a manifest without a plugin beside it
4 to run, 3 with mistakes
";
        assert_eq!(text, expected);
        assert_eq!(mistakes, 3);
        assert!(!folder.path().join("ran").exists());
    }

    #[test]
    fn own_keys_are_held_against_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let plugin = folder.path().join("a.sh");
        fs::write(&plugin, "").unwrap();
        let rules = "[config]\nurl = { type = \"string\", required = true }\nn = { type = \"integer\" }\n";
        fs::write(Manifest::path_for(&plugin), rules).unwrap();
        let host = beside(Host { role: None, worker_id: 0 });
        let mistakes = |extra: Option<Value>| {
            explain(std::slice::from_ref(&plugin), &host, OsStr::new("/bin:/usr/bin"), extra.as_ref())
                .mistakes
        };
        assert_eq!(mistakes(Some(serde_json::json!({"plugin.a.n": "x", "plugin.b.n": "x"}))), 2);
        assert_eq!(mistakes(Some(serde_json::json!({"plugin.a.url": "u"}))), 0);
        assert_eq!(mistakes(None), 0);
    }

    #[test]
    fn events_that_never_come_are_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let plugin = folder.path().join("a.sh");
        fs::write(&plugin, "").unwrap();
        fs::write(Manifest::path_for(&plugin), "events = [\"*\", \"store\", \"evcit\"]\n").unwrap();
        let host = beside(Host { role: None, worker_id: 0 });
        let report = explain(&[plugin], &host, OsStr::new("/bin:/usr/bin"), None);
        assert_eq!(report.mistakes, 1);
        assert!(report.text.contains("line 1: `events` asks for `evcit`"), "{}", report.text);
    }

    #[test]
    fn a_role_leaves_files_out_without_blame() {
        let folder = tempfile::tempdir().unwrap();
        let plugins = folder.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        for name in ["worker_0_x.sh", "worker_1_x.sh", "all_x.sh"] {
            fs::write(plugins.join(name), "").unwrap();
        }
        let (text, mistakes) =
            explained(folder.path(), Host { role: Some(Role::new("worker")), worker_id: 0 });
        assert!(text.contains("plugins/worker_1_x.sh\n  not run here: "), "{text}");
        assert!(text.ends_with("2 to run, 0 with mistakes\n"), "{text}");
        assert_eq!(mistakes, 0);
    }

    #[test]
    fn a_path_that_was_named_must_run() {
        let missing = [PathBuf::from("/no/such/place.sh")];
        let report = explain(&missing, &beside(Host { role: None, worker_id: 0 }), OsStr::new(""), None);
        assert_eq!(report.mistakes, 1);
        assert!(report.text.contains("location does not exist"), "{}", report.text);
    }
}
