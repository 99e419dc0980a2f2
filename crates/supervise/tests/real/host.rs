//! A server reduced to its plugin supervisor: tests start it, talk to it over its standard streams, and kill
//! it.
//!
//! Arguments are locations. Standard input takes one command a line, standard output shows one JSON answer a
//! line behind `= `, and between them the log, one event a line behind its level.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use larder_supervise::{Host, Policy, Role, Supervisor, SupervisorConfig, WritableByOthers};
use tokio::sync::mpsc;

fn main() {
    larder_supervise::run_guardian_if_asked();
    let locations = std::env::args_os().skip(1).map(Into::into).collect();
    let config = std::env::var("HOST_CONFIG_FILE").map_or_else(
        |_| "{\"mp_config\": {}}".to_owned(),
        |path| std::fs::read_to_string(path).unwrap_or_default(),
    );
    let mut config = SupervisorConfig::new(locations, config);
    config.environment.retain(|(name, _)| !name.to_string_lossy().starts_with("HOST_"));
    if let Some(dir) = std::env::var_os("HOST_RUNTIME_DIR") {
        config.runtime_dir = dir.into();
    }
    config.cgroup_root = std::env::var_os("HOST_CGROUP_ROOT").map(Into::into);
    config.control = Some(std::sync::Arc::new(Answers));
    config.sole_parent = true;
    if std::env::var_os("HOST_REFUSES_WRITABLE").is_some() {
        config.writable_by_others = WritableByOthers::Refuse;
    }
    config.stop_budget = number("HOST_STOP_BUDGET_MS", 10_000);
    config.redact_secrets = true;
    if let Ok(role) = std::env::var("HOST_ROLE") {
        let worker_id = std::env::var("HOST_WORKER_ID").ok().and_then(|id| id.parse().ok()).unwrap_or(-1);
        config.host = Host { role: Some(Role::new(role)), worker_id };
        config.worker_count = 8;
    }
    config.defaults.policy =
        Policy { stop_timeout: number("HOST_STOP_TIMEOUT_MS", 5_000), ..Policy::default() };
    if let Err(error) = tracing::subscriber::set_global_default(Printer) {
        eprintln!("{error}");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return eprintln!("{error}"),
    };
    runtime.block_on(serve(config));
}

fn number(name: &str, default: u64) -> Duration {
    Duration::from_millis(std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default))
}

/// Answers on control channels.
#[derive(Debug)]
struct Answers;

impl larder_supervise::ControlHost for Answers {
    fn status(&self, plugin: &str) -> serde_json::Value {
        serde_json::json!({ "healthy": true, "asked_by": plugin })
    }
}

async fn serve(config: SupervisorConfig) {
    let (sender, mut commands) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            _ = sender.send(line);
        }
    });
    let supervisor = match Supervisor::start(config).await {
        Ok(supervisor) => std::sync::Arc::new(supervisor),
        Err(error) => return answer(&error.to_string()),
    };
    if std::env::var_os("HOST_WATCH").is_some() {
        let watched = Arc::clone(&supervisor);
        tokio::spawn(async move { watched.watch(|_| ()).await });
    }
    while let Some(line) = commands.recv().await {
        let (verb, name) = line.split_once(' ').unwrap_or((&line, ""));
        let result = match verb {
            "status" => Ok(serde_json::json!(supervisor.snapshot())),
            "skipped" => Ok(serde_json::json!(supervisor.skipped())),
            "guardian" => Ok(serde_json::json!(supervisor.guardian_pid())),
            "usage" => Ok(serde_json::json!(supervisor.usage())),
            "metrics" => Ok(serde_json::json!(supervisor.plugin_metrics(&["larder_*"]).text)),
            "reload" => Ok(serde_json::json!(supervisor.reload().await)),
            "evict" => Ok(serde_json::json!(supervisor.events().publish("evict", |_| Some(name.to_owned())))),
            "publish" => {
                Ok(serde_json::json!(supervisor.events().publish("test", |_| Some(name.to_owned()))))
            }
            "tail" => supervisor.tail(name, 1000).map(|lines| serde_json::json!(lines)),
            "schema" => supervisor.schema(name).await.map(|s| serde_json::json!(s)),
            "start" => supervisor.start_plugin(name).await.map(|s| serde_json::json!(s)),
            "stop" => supervisor.stop_plugin(name).await.map(|s| serde_json::json!(s)),
            "restart" => supervisor.restart(name).await.map(|s| serde_json::json!(s)),
            "disable" => supervisor.disable(name).await.map(|s| serde_json::json!(s)),
            "enable" => supervisor.enable(name).await.map(|s| serde_json::json!(s)),
            "drop" => {
                drop(supervisor);
                answer("\"dropped\"");
                // The runtime goes on, as a server's would.
                return std::future::pending().await;
            }
            "end" => break,
            "abort" => std::process::abort(),
            other => Ok(serde_json::json!(format!("unknown command {other}"))),
        };
        match result {
            Ok(value) => answer(&value.to_string()),
            Err(error) => answer(&serde_json::json!({ "error": error.to_string() }).to_string()),
        }
    }
    let report = supervisor.stop().await;
    answer(&serde_json::json!(report).to_string());
}

fn answer(text: &str) {
    print(&format!("= {text}"));
}

fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    // A test that no longer reads has seen enough.
    _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints events as `LEVEL message`.
struct Printer;

impl tracing::Subscriber for Printer {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        print(&format!("{} {}", event.metadata().level(), message.0));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
