//! The four layers of settings, merged: default < file < environment < command line.
//!
//! Owns which value wins and where it came from. Knows nothing of what a value means.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::flag::Flag;
use super::mistake::Mistake;
use super::value::{self, Unfit, Value};
use super::{file, flags, quoted};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The flag's default.
    Default,
    /// A configuration file.
    File {
        /// Path as given.
        path: Arc<str>,
        /// Line of the value, counted from 1; 0 when the file as a whole is meant.
        line: usize,
    },
    /// An environment variable of this name.
    Environment(String),
    /// A flag on the command line.
    CommandLine,
    /// A change while the server ran.
    Runtime {
        /// The version it made.
        version: u64,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line: 0 } => write!(formatter, "file {path}"),
            Self::File { path, line } => write!(formatter, "file {path}:{line}"),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::CommandLine => formatter.write_str("command line"),
            Self::Runtime { version } => write!(formatter, "run time, version {version}"),
        }
    }
}

/// A value with its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The effective value.
    pub value: Value,
    /// The layer it came from.
    pub source: Source,
}

/// The effective value of every flag. A value that could not be read is replaced by the flag's default, so
/// that the rules between flags can still be checked and reported in the same run.
#[derive(Clone, Debug)]
pub struct Settings {
    by_name: BTreeMap<&'static str, Setting>,
}

impl Settings {
    /// Every flag at its default.
    #[must_use]
    pub fn defaults() -> Self {
        let by_name = flags::all()
            .map(|flag| (flag.name, Setting { value: default_value(flag), source: Source::Default }))
            .collect();
        Self { by_name }
    }

    /// Puts a layer's reading of `flag` on top, or notes why it cannot be used.
    pub(crate) fn put(
        &mut self,
        flag: &'static Flag,
        source: Source,
        read: Result<Value, Unfit>,
        mistakes: &mut Vec<Mistake>,
    ) {
        match read {
            Ok(Value::Absent) => {}
            Ok(value) => {
                self.by_name.insert(flag.name, Setting { value, source });
            }
            Err(unfit) => {
                let usage = unfit.mistyped && source == Source::CommandLine;
                let mut mistake =
                    Mistake::new(flag.key(), source.clone(), unfit.problem).accepted(flag.kind.accepted());
                mistake.hint = unfit.hint;
                mistake.usage = usage;
                mistakes.push(mistake);
                self.by_name.insert(flag.name, Setting { value: default_value(flag), source });
            }
        }
    }

    /// Replaces the setting of a flag.
    pub(crate) fn replace(&mut self, flag: &'static Flag, setting: Setting) {
        self.by_name.insert(flag.name, setting);
    }

    /// Fixes a value that the server chose for itself.
    pub(crate) fn pin(&mut self, name: &'static str, value: Value) {
        self.by_name.insert(name, Setting { value, source: Source::Default });
    }

    /// The setting of the flag called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> &Setting {
        static UNKNOWN: Setting = Setting { value: Value::Absent, source: Source::Default };
        let found = self.by_name.get(name);
        debug_assert!(found.is_some(), "no flag is called {name}");
        found.unwrap_or(&UNKNOWN)
    }

    /// Whether any layer gave the flag called `name`, rightly or not.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.get(name).source != Source::Default
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        matches!(self.get(name).value, Value::Bool(true))
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.get(name).value {
            Value::Int(value) => Some(value),
            _ => None,
        }
    }

    /// An integer of a narrower type; the flag's range makes it fit.
    pub(crate) fn narrow<T: TryFrom<i64> + Default>(&self, name: &str) -> T {
        self.int(name).and_then(|value| T::try_from(value).ok()).unwrap_or_default()
    }

    pub(crate) fn float(&self, name: &str) -> Option<f64> {
        match self.get(name).value {
            Value::Float(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.float(name).unwrap_or_default()
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name).value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn string(&self, name: &str) -> String {
        self.text(name).unwrap_or_default().to_owned()
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        match &self.get(name).value {
            Value::List(items) => items.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn objects(&self, name: &str) -> &[serde_json::Value] {
        match &self.get(name).value {
            Value::Objects(objects) => objects,
            _ => &[],
        }
    }

    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        self.get(name).value.to_json()
    }
}

/// A table test makes sure that every default can be read.
pub(crate) fn default_value(flag: &Flag) -> Value {
    match flag.default {
        Some(text) => value::from_text(flag, text).unwrap_or(Value::Absent),
        None => Value::Absent,
    }
}

/// The environment a configuration is read from: names and values, in no order.
pub type Environment = BTreeMap<String, String>;

/// The environment of this process; names and values that are not UTF-8 are left out.
#[must_use]
pub fn process_environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads the environment layer: `LARDER_<FLAG>` first, then the peer's names.
pub(crate) fn read_environment(
    settings: &mut Settings,
    environment: &Environment,
    mistakes: &mut Vec<Mistake>,
    notices: &mut Vec<String>,
) {
    for flag in flags::all() {
        let ours = flag.variable();
        let names = std::iter::once(ours.as_str()).chain(flag.peer_environment.iter().copied());
        for name in names {
            let Some(text) = environment.get(name) else { continue };
            if is_service_link(text) {
                notices.push(format!("{name} is a Kubernetes service link, not a setting, and is ignored"));
                continue;
            }
            settings.put(flag, Source::Environment(name.to_owned()), value::from_text(flag, text), mistakes);
            break;
        }
    }
    for name in environment.keys().filter(|name| is_unknown_variable(name)) {
        let meant = file::meant(name, flags::all().map(Flag::variable))
            .map_or_else(String::new, |known| format!("\nhint: did you mean `{known}`?"));
        notices
            .push(format!("environment variable `{}` is not a setting and is ignored{meant}", quoted(name)));
    }
}

/// A Kubernetes service called `larder` puts variables such as `LARDER_PORT=tcp://10.0.0.1:5555` into every
/// pod.
fn is_service_link(text: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}

/// For `larder plugin` and its like: where a server is.
const CLIENT_VARIABLE: &str = "LARDER_URL";

fn is_unknown_variable(name: &str) -> bool {
    name.starts_with("LARDER_")
        && name != CLIENT_VARIABLE
        && !name.contains("_SERVICE_")
        && !name.contains("_PORT_")
        && !flags::all().any(|flag| flag.variable() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Settings, Vec<Mistake>, Vec<String>) {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut settings = Settings::defaults();
        let (mut mistakes, mut notices) = (Vec::new(), Vec::new());
        read_environment(&mut settings, &environment, &mut mistakes, &mut notices);
        (settings, mistakes, notices)
    }

    #[test]
    fn our_variable_goes_before_the_peers() {
        let (settings, ..) = read(&[("LMCACHE_LOG_LEVEL", "DEBUG"), ("LARDER_LOG_LEVEL", "error")]);
        assert_eq!(settings.text("log-level"), Some("error"));
        let (settings, ..) = read(&[("LMCACHE_LOG_LEVEL", "DEBUG")]);
        assert_eq!(settings.get("log-level").source, Source::Environment("LMCACHE_LOG_LEVEL".into()));
        assert_eq!(settings.text("log-level"), Some("debug"));
    }

    #[test]
    fn a_service_link_is_not_a_port() {
        let (settings, mistakes, notices) =
            read(&[("LARDER_PORT", "tcp://10.0.0.1:5555"), ("LARDER_SERVICE_HOST", "10.0.0.1")]);
        assert_eq!(settings.int("port"), Some(5555));
        assert!(mistakes.is_empty());
        assert_eq!(notices.len(), 1);
    }

    #[test]
    fn an_unknown_variable_is_mentioned() {
        let (_, _, notices) = read(&[("LARDER_CHUNKSIZE", "16")]);
        assert!(
            notices[0].contains("LARDER_CHUNKSIZE")
                && notices[0].contains("did you mean `LARDER_CHUNK_SIZE`?")
        );
        assert!(read(&[("LARDER_L1_SIZE", "4")]).2[0].contains("did you mean `LARDER_L1_SIZE_GB`?"));
        assert!(!read(&[("LARDER_NONSENSE", "4")]).2[0].contains("did you mean"));
    }

    #[test]
    fn the_variable_of_commands_is_not_complained_of() {
        assert!(read(&[("LARDER_URL", "http://127.0.0.1:8080")]).2.is_empty());
    }

    #[test]
    fn a_bad_value_is_reported_and_replaced_by_the_default() {
        let (settings, mistakes, _) = read(&[("LARDER_CHUNK_SIZE", "0")]);
        assert_eq!(settings.int("chunk-size"), Some(256));
        assert!(settings.is_given("chunk-size"));
        assert_eq!(
            mistakes[0].to_string(),
            "chunk_size (environment LARDER_CHUNK_SIZE): `0` is out of range; accepted: a whole number from 1 to 65536"
        );
    }
}
