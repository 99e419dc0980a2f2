//! From the raw layers to a checked, typed configuration.

use clap::ArgMatches;
use larder_storage::AdapterConfig;
use serde_json::Value as Json;

use super::mistake::{InvalidConfig, Mistake};
use super::model::ServerConfig;
use super::settings::{self, Environment, Settings, Source};
use super::{build, check, command, file};
use crate::controllers::l2::is_unlimited;

/// What this build can do beyond the flag table, asked during checks.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// Whether an L2 adapter can be used as configured; `Err` says why not, as a phrase.
    pub l2_adapter: fn(&Json) -> Result<(), String>,
    /// Whether an L2 adapter that can be used is told to evict, and could never find a reason to.
    pub l2_is_unlimited: fn(&Json) -> bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            l2_adapter: |adapter| {
                AdapterConfig::from_value(adapter, &|name| std::env::var(name).ok())
                    .map(drop)
                    .map_err(|error| error.to_string())
            },
            l2_is_unlimited: |adapter| {
                AdapterConfig::from_value(adapter, &|name| std::env::var(name).ok())
                    .is_ok_and(|adapter| is_unlimited(&adapter))
            },
        }
    }
}

/// Everything that came out of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// Every flag with its effective value and source.
    pub settings: Settings,
    /// The typed configuration, or every mistake.
    pub config: Result<ServerConfig, InvalidConfig>,
    /// Remarks about settings that are accepted but do not do what one might expect.
    pub notices: Vec<String>,
}

/// Reads default < file < environment < command line and checks the whole.
///
/// The file is the one named by `--config`, or else by `LARDER_CONFIG`.
pub fn load(matches: &ArgMatches, environment: &Environment, capabilities: &Capabilities) -> Loaded {
    let mut settings = Settings::defaults();
    let mut mistakes: Vec<Mistake> = Vec::new();
    let mut notices = Vec::new();

    if let Some((path, given_by)) = config_file(matches, environment) {
        file::read_file(&path, &given_by, &mut settings, &mut mistakes);
    }
    settings::read_environment(&mut settings, environment, &mut mistakes, &mut notices);
    command::read_matches(matches, &mut settings, &mut mistakes);

    check::check(&settings, capabilities, &mut mistakes, &mut notices);
    let config = if mistakes.is_empty() {
        Ok(build::server_config(&settings, environment))
    } else {
        Err(InvalidConfig { mistakes })
    };
    Loaded { settings, config, notices }
}

fn config_file(matches: &ArgMatches, environment: &Environment) -> Option<(String, Source)> {
    const VARIABLE: &str = "LARDER_CONFIG";
    command::config_file(matches)
        .map(|path| (path, Source::CommandLine))
        .or_else(|| {
            environment.get(VARIABLE).map(|path| (path.clone(), Source::Environment(VARIABLE.into())))
        })
        .filter(|(path, _)| !path.is_empty())
}
