//! The four layers of settings, merged: default < file < environment < command line.
//!
//! Owns which value wins and where it came from. Knows nothing of what a value means.

use std::collections::BTreeMap;

use super::flag::Flag;
use super::flags;
use super::mistake::Mistake;
use super::source::Source;
use super::value::{self, Unfit, Value};

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

    /// The word of a choice as what it stands for. For checked settings only.
    pub(crate) fn choice<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        self.text(name).and_then(parse).expect("a word of the flag's table")
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
