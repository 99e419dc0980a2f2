//! The configuration of a running server: what it is now, how it came to be, and changing it.
//!
//! A change is read and checked as a whole, by the rules of the start, before anything of it is done. Every
//! change is a version; going back to an earlier one is a change like any other. Owns no effect: whoever
//! commits a change says how it is carried out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value as Json};

use super::environment::Environment;
use super::flag::Flag;
use super::load::Loaded;
use super::mistake::{InvalidConfig, Mistake};
use super::model::ServerConfig;
use super::settings::{Settings, default_value};
use super::source::Source;
use super::spelling::unknown_key;
use super::value::{self, Value};
use super::{adapters, build, check, file, flags};

/// Versions remembered, and so what can be gone back to.
pub const VERSIONS_MAX: usize = 64;

/// The configuration and its history. Changes exclude each other; readers never wait for one to take effect.
#[derive(Debug)]
pub struct Live {
    environment: Environment,
    now: Mutex<Now>,
    /// Held while a change takes effect.
    changing: Mutex<()>,
}

#[derive(Debug)]
struct Now {
    settings: Settings,
    config: Arc<ServerConfig>,
    versions: VecDeque<Arc<Version>>,
}

/// One version of the configuration.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its number; the start is 1.
    pub number: u64,
    /// Who asked for it and why, and when.
    pub origin: Origin,
    /// What it changed.
    pub changes: Vec<Change>,
    settings: Settings,
}

/// Where a version came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// When, as an RFC 3339 timestamp.
    pub time: String,
    /// Who: an address.
    pub caller: String,
    /// Why, as the caller put it.
    pub reason: String,
}

/// One setting that another version has otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The setting, as a key of the configuration file.
    pub key: String,
    /// Its value before.
    pub from: Json,
    /// Its value after.
    pub to: Json,
}

/// A change that is fit to be made, on top of the version it was made for.
#[derive(Debug)]
pub struct Proposal {
    base: u64,
    settings: Settings,
    /// The configuration it leads to.
    pub config: ServerConfig,
    /// What it changes.
    pub changes: Vec<Change>,
}

/// What the configuration file says by now.
#[derive(Debug)]
pub struct Reread {
    /// What of it can be changed while the server runs.
    pub proposal: Proposal,
    /// Keys of what else it says otherwise than the server has it.
    pub later: Vec<String>,
}

/// Why a change is not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Somebody else was quicker.
    #[error("the configuration is at version {now}, not {expected}; read it again")]
    Conflict {
        /// The version the caller looked at.
        expected: u64,
        /// The version there is.
        now: u64,
    },
    /// A version that is not remembered.
    #[error("version {0} is not remembered")]
    UnknownVersion(u64),
    /// What is wrong with it.
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
}

impl Live {
    /// The configuration a server starts with, as version 1.
    ///
    /// # Errors
    /// The mistakes that were found when it was loaded.
    pub fn start(loaded: Loaded, environment: Environment) -> Result<Self, InvalidConfig> {
        let Loaded { mut settings, config, .. } = loaded;
        let config = config?;
        // What the server chose for itself stays as it is when the configuration is made anew.
        settings.pin("instance-id", Value::Text(config.mp.instance_id.clone()));
        let first =
            Version { number: 1, origin: Origin::default(), changes: Vec::new(), settings: settings.clone() };
        let now = Now { settings, config: Arc::new(config), versions: VecDeque::from([Arc::new(first)]) };
        Ok(Self { environment, now: Mutex::new(now), changing: Mutex::new(()) })
    }

    /// The configuration now.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.now().config)
    }

    /// The number of the version now.
    pub fn version(&self) -> u64 {
        self.now().version()
    }

    /// The versions remembered, oldest first.
    pub fn versions(&self) -> Vec<Arc<Version>> {
        self.now().versions.iter().cloned().collect()
    }

    /// The settings that can be changed at run time, each with its value and where that came from.
    pub fn settings(&self) -> Vec<(&'static Flag, Json, Source)> {
        let now = self.now();
        let hot = flags::all().filter(|flag| flag.is_hot);
        hot.map(|flag| {
            let setting = now.settings.get(flag.name);
            (flag, setting.value.to_json(), setting.source.clone())
        })
        .collect()
    }

    /// Reads and checks new values, by keys of the configuration file; `null` is the default.
    ///
    /// # Errors
    /// [`ChangeError::Invalid`] with every mistake, [`ChangeError::Conflict`] if `expected` is not the
    /// version there is.
    pub fn propose(
        &self,
        values: &Map<String, Json>,
        expected: Option<u64>,
    ) -> Result<Proposal, ChangeError> {
        let (base, before) = self.base(expected)?;
        let mut settings = before.clone();
        let mut mistakes = Vec::new();
        let source = Source::Runtime { version: base + 1 };
        for (key, value) in values {
            match flags::all().find(|flag| flag.key() == *key) {
                Some(flag) if flag.is_hot => {
                    let read = match value {
                        Json::Null => Ok(default_value(flag)),
                        value => value::from_json(flag, value.clone()),
                    };
                    settings.put(flag, source.clone(), read, &mut mistakes);
                }
                Some(_) => mistakes.push(
                    Mistake::new(key.as_str(), source.clone(), "cannot be changed while the server runs")
                        .hint("change the configuration and restart the server"),
                ),
                None => mistakes.push(unknown_key(key, source.clone())),
            }
        }
        self.check(base, &before, settings, mistakes)
    }

    /// Reads the configuration file again, where there is one. The command line, the environment and changes
    /// while the server ran go before it. Blocks.
    ///
    /// # Errors
    /// [`ChangeError::Invalid`] with every mistake in the file.
    pub fn propose_file(&self) -> Result<Option<Reread>, ChangeError> {
        let (base, before) = self.base(None)?;
        let Some(path) = before.text("config").filter(|path| !path.is_empty()) else { return Ok(None) };
        let (mut said, mut mistakes) = (Settings::defaults(), Vec::new());
        file::read_file(path, &before.get("config").source, &mut said, &mut mistakes);
        let (mut settings, mut later) = (before.clone(), Vec::new());
        for flag in flags::all() {
            let (now, then) = (before.get(flag.name), said.get(flag.name));
            let is_the_file_s = matches!(now.source, Source::File { .. })
                || now.source == Source::Default && then.source != Source::Default;
            if !is_the_file_s || now.value == then.value {
                continue;
            }
            if flag.is_hot {
                settings.replace(flag, then.clone());
            } else {
                later.push(flag.key());
            }
        }
        let proposal = self.check(base, &before, settings, mistakes)?;
        Ok(Some(Reread { proposal, later }))
    }

    /// As [`Self::propose`], with the values of an earlier version.
    ///
    /// # Errors
    /// As for [`Self::propose`], and [`ChangeError::UnknownVersion`].
    pub fn propose_rollback(&self, number: u64, expected: Option<u64>) -> Result<Proposal, ChangeError> {
        let (base, before) = self.base(expected)?;
        let version = self.now().versions.iter().find(|version| version.number == number).cloned();
        let version = version.ok_or(ChangeError::UnknownVersion(number))?;
        self.check(base, &before, version.settings.clone(), Vec::new())
    }

    /// Makes a change: `apply` carries it out, given the configuration before and after. Nothing else changes
    /// meanwhile. The number of the version it is; that of the present one if the change changes nothing.
    ///
    /// # Errors
    /// [`ChangeError::Conflict`] if another change was made since the proposal.
    pub fn commit(
        &self,
        proposal: Proposal,
        origin: Origin,
        apply: impl FnOnce(&ServerConfig, &ServerConfig),
    ) -> Result<u64, ChangeError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, before) = {
            let now = self.now();
            (now.version(), Arc::clone(&now.config))
        };
        let Proposal { base, settings, config, changes } = proposal;
        if number != base {
            return Err(ChangeError::Conflict { expected: base, now: number });
        }
        if changes.is_empty() {
            return Ok(number);
        }
        apply(&before, &config);
        let version = Version { number: number + 1, origin, changes, settings: settings.clone() };
        let mut now = self.now();
        now.settings = settings;
        now.config = Arc::new(config);
        if now.versions.len() == VERSIONS_MAX {
            now.versions.pop_front();
        }
        now.versions.push_back(Arc::new(version));
        Ok(number + 1)
    }

    fn base(&self, expected: Option<u64>) -> Result<(u64, Settings), ChangeError> {
        let now = self.now();
        match expected {
            Some(expected) if expected != now.version() => {
                Err(ChangeError::Conflict { expected, now: now.version() })
            }
            _ => Ok((now.version(), now.settings.clone())),
        }
    }

    fn check(
        &self,
        base: u64,
        before: &Settings,
        settings: Settings,
        mut mistakes: Vec<Mistake>,
    ) -> Result<Proposal, ChangeError> {
        let mut notices = Vec::new();
        check::check(&settings, &mut mistakes, &mut notices);
        adapters::check(&settings, &self.environment, &mut mistakes, &mut notices);
        if !mistakes.is_empty() {
            return Err(InvalidConfig { mistakes }.into());
        }
        let changes = changes(before, &settings);
        let config = build::server_config(&settings, &self.environment);
        Ok(Proposal { base, settings, config, changes })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn version(&self) -> u64 {
        self.versions.back().map_or(1, |version| version.number)
    }
}

fn changes(before: &Settings, after: &Settings) -> Vec<Change> {
    let hot = flags::all().filter(|flag| flag.is_hot);
    hot.filter_map(|flag| {
        let (from, to) = (&before.get(flag.name).value, &after.get(flag.name).value);
        (from != to).then(|| Change { key: flag.key(), from: from.to_json(), to: to.to_json() })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{load, with_server_flags};

    fn live() -> Live {
        let command = with_server_flags(clap::Command::new("server"));
        let line = ["server", "--l1-size-gb", "1", "--eviction-policy", "LRU"];
        let matches = command.try_get_matches_from(line).unwrap();
        let environment = Environment::new();
        let loaded = load(&matches, &environment);
        Live::start(loaded, environment).unwrap()
    }

    fn values(value: Json) -> Map<String, Json> {
        value.as_object().unwrap().clone()
    }

    fn set(live: &Live, value: Json) -> Result<u64, ChangeError> {
        let proposal = live.propose(&values(value), None)?;
        live.commit(proposal, Origin::default(), |_, _| {})
    }

    #[test]
    fn a_change_is_a_version_and_keeps_what_it_does_not_name() {
        let live = live();
        let before = live.config();
        let change = values(json!({ "eviction_trigger_watermark": 0.5, "l1_read_ttl_seconds": 7 }));
        let proposal = live.propose(&change, Some(1)).unwrap();
        assert_eq!(live.version(), 1, "a proposal changes nothing");
        let mut seen = None;
        let version = live.commit(proposal, Origin::default(), |old, new| {
            seen = Some((old.eviction.trigger_watermark, new.eviction.trigger_watermark));
        });
        assert_eq!((version.unwrap(), seen), (2, Some((0.8, 0.5))));
        let after = live.config();
        assert_eq!((after.l1.read_ttl_seconds, after.eviction.ratio), (7, before.eviction.ratio));
        assert_eq!(after.mp, before.mp, "the instance keeps its name");
        assert_eq!(after.l1.shared_memory, before.l1.shared_memory);
    }

    #[test]
    fn every_mistake_is_told_and_nothing_is_done() {
        let live = live();
        let wrong = json!({
            "eviction_trigger_watermark": 5, "eviction_policy": "MRU", "l1_size_gb": 2, "colour": "red",
        });
        let Err(ChangeError::Invalid(InvalidConfig { mistakes })) = set(&live, wrong) else {
            panic!("it was accepted")
        };
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told.iter().any(|text| text.contains("cannot be changed while the server runs")), "{told:?}");
        assert_eq!(live.version(), 1);
    }

    #[test]
    fn the_file_is_read_again_and_goes_before_nothing_but_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("larder.toml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("eviction_trigger_watermark = 0.7\nl1_read_ttl_seconds = 5\n");
        let command = with_server_flags(clap::Command::new("server"));
        let line =
            ["server", "--l1-size-gb", "1", "--eviction-policy", "LRU", "--config", path.to_str().unwrap()];
        let loaded = load(&command.try_get_matches_from(line).unwrap(), &Environment::new());
        let live = Live::start(loaded, Environment::new()).unwrap();
        set(&live, json!({ "l1_read_ttl_seconds": 9 })).unwrap();
        write(
            "eviction_policy = \"ARC\"\nl1_read_ttl_seconds = 6\nport = 1\n[runtime_plugin_config]\na = 1\n",
        );
        let Reread { proposal, later } = live.propose_file().unwrap().unwrap();
        let keys: Vec<&str> = proposal.changes.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(
            (keys, later),
            (vec!["runtime_plugin_config", "eviction_trigger_watermark"], vec!["port".to_owned()])
        );
        live.commit(proposal, Origin::default(), |_, _| {}).unwrap();
        let config = live.config();
        assert_eq!((config.eviction.trigger_watermark, config.l1.read_ttl_seconds), (0.8, 9));
        assert_eq!(config.plugins.extra_config, json!({ "a": 1 }));
        write("eviction_trigger_watermark = 7\n");
        assert!(matches!(live.propose_file(), Err(ChangeError::Invalid(_))));
        assert!(self::live().propose_file().unwrap().is_none(), "there is no file");
    }

    #[test]
    fn the_slower_of_two_changes_is_refused() {
        let live = live();
        let slow = live.propose(&values(json!({ "eviction_ratio": 0.5 })), Some(1)).unwrap();
        assert_eq!(set(&live, json!({ "eviction_ratio": 0.4 })).unwrap(), 2);
        let refused = live.commit(slow, Origin::default(), |_, _| panic!("it was carried out"));
        assert!(matches!(refused, Err(ChangeError::Conflict { expected: 1, now: 2 })));
        let stale = live.propose(&values(json!({})), Some(1));
        assert!(matches!(stale, Err(ChangeError::Conflict { .. })));
    }

    #[test]
    fn going_back_is_a_change_like_any_other() {
        let live = live();
        set(&live, json!({ "eviction_ratio": 0.4 })).unwrap();
        set(&live, json!({ "eviction_ratio": null, "l2_prefetch_max_in_flight": 3 })).unwrap();
        let back = live.propose_rollback(2, Some(3)).unwrap();
        assert_eq!(back.changes.len(), 2);
        assert_eq!(live.commit(back, Origin::default(), |_, _| {}).unwrap(), 4);
        assert_eq!(live.config().eviction.ratio, 0.4);
        let unknown = live.propose_rollback(9, None);
        assert!(matches!(unknown, Err(ChangeError::UnknownVersion(9))));
    }

    #[test]
    fn the_history_is_bounded_and_counts_on() {
        let live = live();
        for ttl in 1..=VERSIONS_MAX as u64 + 3 {
            set(&live, json!({ "l1_read_ttl_seconds": ttl })).unwrap();
        }
        let versions = live.versions();
        assert_eq!((versions.len(), live.version()), (VERSIONS_MAX, VERSIONS_MAX as u64 + 4));
        assert_eq!(set(&live, json!({ "l1_read_ttl_seconds": VERSIONS_MAX + 3 })).unwrap(), live.version());
    }
}
