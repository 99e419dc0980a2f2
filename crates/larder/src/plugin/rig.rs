//! One plugin file beside a server that is not there: what `run` and `test` start.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use larder_server::config::json::{Resolved, plugin_config_json, plugin_extra_config_json};
use larder_server::config::{Capabilities, Environment, ServerConfig, load, with_server_flags};
use larder_supervise::{Host, PluginStatus, Role, Supervisor, SupervisorConfig};

/// A plugin file and the server it believes to run beside.
#[derive(Debug, Clone)]
pub(super) struct Rig {
    pub(super) file: PathBuf,
    pub(super) host: Host,
    /// The configuration as a server with these settings hands it over.
    pub(super) config: String,
    pub(super) extra_config: Option<String>,
}

impl Rig {
    /// From the options of `run` and `test`. The text says what is wrong with them.
    pub(super) fn new(matches: &ArgMatches) -> Result<Self, String> {
        let file = matches.get_one::<PathBuf>("file").cloned().unwrap_or_default();
        let extra = matches.get_one::<String>("extra-config").cloned();
        let config = server(&file, extra)?;
        Ok(Self {
            host: host(matches),
            config: plugin_config_json(&config, &Resolved::requested(&config)),
            extra_config: plugin_extra_config_json(&config),
            file,
        })
    }

    /// What a supervisor of this plugin alone needs.
    pub(super) fn supervisor_config(&self) -> SupervisorConfig {
        let mut config = SupervisorConfig::new(vec![self.file.clone()], self.config.clone());
        config.extra_config = self.extra_config.clone();
        config.host = self.host.clone();
        config
    }
}

/// The role and worker that the options name. A scheduler is no worker.
pub(super) fn host(matches: &ArgMatches) -> Host {
    let role = matches.get_one::<String>("role").cloned();
    let is_scheduler = role.as_deref().is_some_and(|role| role.eq_ignore_ascii_case("scheduler"));
    let worker_id = matches.get_one("worker-id").copied().unwrap_or(if is_scheduler { -1 } else { 0 });
    Host { role: role.map(Role::new), worker_id }
}

/// The plugin, or why the file is none.
pub(super) fn the_plugin(supervisor: &Supervisor) -> Result<PluginStatus, String> {
    supervisor.snapshot().pop().ok_or_else(|| {
        let skipped = supervisor.skipped();
        skipped.first().map_or_else(
            || "nothing to run".to_owned(),
            |skip| format!("`{}` is not run: {}", skip.path, skip.reason),
        )
    })
}

/// A server's effective configuration, by the server's own rules.
fn server(file: &Path, extra_config: Option<String>) -> Result<ServerConfig, String> {
    let mut words: Vec<String> = ["--l1-size-gb", "4", "--eviction-policy", "LRU"].map(str::to_owned).into();
    words.push("--runtime-plugin-locations".into());
    words.push(file.to_string_lossy().into_owned());
    words.extend(extra_config.map(|extra| format!("--runtime-plugin-config={extra}")));
    let matches = with_server_flags(Command::new("server").no_binary_name(true))
        .try_get_matches_from(words)
        .map_err(|error| error.to_string())?;
    load(&matches, &Environment::new(), &Capabilities::default()).config.map_err(|error| error.to_string())
}
