//! The names that the peer's contract with plugins has (spec/runtime-plugins.md 5), and those added to it:
//! all that this crate knows of the server that it is made for.

/// Beginning of all variables of the peer.
pub(super) const OF_PEER: &str = "LMCACHE_";
/// Current and older prefix; the same four names follow either.
pub(super) const PREFIXES: [&str; 2] = ["LMCACHE_RUNTIME_PLUGIN_", "LMCACHE_PLUGIN_"];
/// Variables with such a prefix that configure a host of plugins and are no part of the contract.
pub(super) const LOCATIONS: [&str; 2] = ["LMCACHE_RUNTIME_PLUGIN_LOCATIONS", "LMCACHE_PLUGIN_LOCATIONS"];
/// Has Python programs print without delay.
pub(super) const UNBUFFERED: &str = "PYTHONUNBUFFERED";
/// The extra configuration, which the host may have.
pub(super) const EXTRA_CONFIG: &str = "LMCACHE_RUNTIME_PLUGIN_EXTRA_CONFIG";
/// Members of a configuration that hold the extra configuration, with and without roles.
pub(super) const EXTRA_MEMBERS: [&str; 2] = ["runtime_plugin_extra_config", "extra_config"];
/// The file that holds the whole configuration.
pub(crate) const CONFIG_FILE: &str = "LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE";
/// The process that a plugin runs beside, which is not its parent.
pub(super) const SERVER_PID: &str = "LMCACHE_RUNTIME_PLUGIN_SERVER_PID";
/// The plugin's own keys with their values, defaults filled in.
pub(crate) const SETTINGS: &str = "LMCACHE_RUNTIME_PLUGIN_SETTINGS";
/// The folder for metrics.
pub(crate) const METRICS_DIR: &str = "LMCACHE_RUNTIME_PLUGIN_METRICS_DIR";
/// The descriptor for metrics.
pub(crate) const METRICS_FD: &str = "LMCACHE_RUNTIME_PLUGIN_METRICS_FD";
/// The descriptor of the control channel.
pub(crate) const CONTROL_FD: &str = "LMCACHE_RUNTIME_PLUGIN_CONTROL_FD";
/// The newest version of the control channel that this server speaks.
pub(crate) const API_VERSION: &str = "LMCACHE_RUNTIME_PLUGIN_API_VERSION";
