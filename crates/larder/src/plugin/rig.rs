//! One plugin file beside a server that is not there: what `run` and `test` start.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};
use larder_config::json::{Resolved, plugin_config_json, plugin_extra_config_json};
use larder_config::{Environment, ServerConfig, load, with_server_flags};
use larder_supervise::{Host, PluginStatus, Role, Supervisor, SupervisorConfig};

/// A plugin file and the server it believes to run beside.
#[derive(Clone, Debug)]
pub(super) struct Rig {
    pub(super) file: PathBuf,
    pub(super) host: Host,
    server: ServerConfig,
    /// The configuration as a server with these settings hands it over.
    config: String,
    extra_config: Option<String>,
}

impl Rig {
    /// From the options of `run` and `test`. The text says what is wrong with them.
    pub(super) fn new(matches: &ArgMatches) -> Result<Self, String> {
        let file = matches.get_one::<PathBuf>("file").cloned().unwrap_or_default();
        if file.is_dir() {
            let shown = file.display();
            return Err(format!(
                "`{shown}` is a folder\nhint: name one of the files that `larder plugin validate {shown}` lists"
            ));
        }
        let server = server(std::slice::from_ref(&file), matches)?;
        Ok(Self {
            host: host(matches),
            config: plugin_config_json(&server, &Resolved::requested(&server)),
            extra_config: plugin_extra_config_json(&server),
            server,
            file,
        })
    }

    /// What a supervisor of this plugin alone needs.
    pub(super) fn supervisor_config(&self) -> SupervisorConfig {
        let plugins = &self.server.plugins;
        let mut config = SupervisorConfig::new(vec![self.file.clone()], self.config.clone());
        config.extra_config = self.extra_config.clone();
        config.host = self.host.clone();
        config.defaults = plugins.defaults.clone();
        config.interpreters = plugins.interpreters.clone();
        config.redact_secrets = plugins.redact_secrets;
        config
    }
}

/// The flags of the server that say how plugins run, for the tools that do as it does.
pub(super) fn server_flags() -> [Arg; 2] {
    [
        Arg::new("runtime-plugin-defaults")
            .long("runtime-plugin-defaults")
            .value_name("JSON")
            .help("As the server's flag: keys of manifests that hold where a manifest is silent"),
        Arg::new("runtime-plugin-interpreters")
            .long("runtime-plugin-interpreters")
            .value_name("JSON")
            .help("As the server's flag: programs for plugins without a `#!` line, by file extension"),
    ]
}

/// The options of `matches` again, as words for another run of this program.
pub(super) fn words(matches: &ArgMatches) -> Vec<String> {
    let text = |name: &str| matches.get_one::<String>(name).map(|value| format!("--{name}={value}"));
    let mut words: Vec<String> =
        ["extra-config", "role", "runtime-plugin-defaults", "runtime-plugin-interpreters"]
            .into_iter()
            .filter_map(text)
            .collect();
    words.extend(matches.get_one::<i64>("worker-id").map(|id| format!("--worker-id={id}")));
    words
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
pub(super) fn server(locations: &[PathBuf], matches: &ArgMatches) -> Result<ServerConfig, String> {
    let mut words: Vec<String> = ["--l1-size-gb", "4", "--eviction-policy", "LRU"].map(str::to_owned).into();
    words.push("--runtime-plugin-locations".into());
    words.extend(locations.iter().map(|path| path.to_string_lossy().into_owned()));
    let given = |name: &str| matches.get_one::<String>(name).cloned();
    for (ours, flag) in [
        ("extra-config", "runtime-plugin-config"),
        ("runtime-plugin-defaults", "runtime-plugin-defaults"),
        ("runtime-plugin-interpreters", "runtime-plugin-interpreters"),
    ] {
        words.extend(given(ours).map(|value| format!("--{flag}={value}")));
    }
    let matches = with_server_flags(Command::new("server").no_binary_name(true))
        .try_get_matches_from(words)
        .map_err(|error| error.to_string())?;
    load(&matches, &Environment::new()).config.map_err(|error| error.to_string())
}
