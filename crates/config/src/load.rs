//! From the raw layers to a checked, typed configuration.

use clap::ArgMatches;

use super::environment::Environment;
use super::mistake::{InvalidConfig, Mistake};
use super::model::ServerConfig;
use super::notice::Notice;
use super::settings::Settings;
use super::source::Source;
use super::{adapters, build, check, command, environment, file};

/// Everything that came out of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// Every flag with its effective value and source.
    pub settings: Settings,
    /// The typed configuration, or every mistake.
    pub config: Result<ServerConfig, InvalidConfig>,
    /// Remarks about settings that are accepted but do not do what one might expect.
    pub notices: Vec<Notice>,
    /// The same about adapters, which are told again when they are attached.
    pub adapter_warnings: Vec<Notice>,
}

/// Reads default < file < environment < command line and checks the whole.
///
/// The file is the one named by `--config`, or else by `LARDER_CONFIG`.
#[must_use]
pub fn load(matches: &ArgMatches, variables: &Environment) -> Loaded {
    let mut settings = Settings::defaults();
    let mut mistakes: Vec<Mistake> = Vec::new();
    let mut notices = Vec::new();

    if let Some((path, given_by)) = config_file(matches, variables) {
        file::read_file(&path, &given_by, &mut settings, &mut mistakes);
    }
    environment::read(&mut settings, variables, &mut mistakes, &mut notices);
    command::read_matches(matches, &mut settings, &mut mistakes);

    check::check(&settings, &mut mistakes, &mut notices);
    let mut adapter_warnings = Vec::new();
    adapters::check(&settings, variables, &mut mistakes, &mut adapter_warnings);
    let config = if mistakes.is_empty() {
        Ok(build::server_config(&settings, variables))
    } else {
        Err(InvalidConfig { mistakes })
    };
    Loaded { settings, config, notices, adapter_warnings }
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
