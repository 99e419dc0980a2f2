//! The optional file beside a plugin, `<file>.plugin.toml`: how it is kept running, in systemd's vocabulary.
//!
//! Owns names, units, defaults and the explanation of mistakes. A plugin whose manifest is wrong is not
//! started: its author asked for something that it would not get.

use std::path::Path;

use super::error::{DefaultsError, ManifestError};
use super::keys::Keys;
use super::model::Manifest;
use super::schema::Schema;
use crate::regular;
use crate::text::escaped;

/// Bytes of a manifest that are read.
const MANIFEST_MAX_BYTES: u64 = 256 * 1024;

impl Manifest {
    /// Defaults for all plugins, from a JSON object with the keys of a manifest; what it leaves out is as in
    /// `self`.
    ///
    /// # Errors
    /// [`DefaultsError`], with the key that is wrong.
    pub fn with_defaults(self, keys: &serde_json::Value) -> Result<Self, DefaultsError> {
        // A list would be taken for the keys in their order.
        if !keys.is_object() {
            return Err(DefaultsError::Key("no object of manifest keys".to_owned()));
        }
        let keys: Keys =
            serde_json::from_value(keys.clone()).map_err(|e| DefaultsError::Key(e.to_string()))?;
        keys.check().map_err(|(key, message, hint)| DefaultsError::Value {
            key: key.to_owned(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        })?;
        if let Some((kind, hint)) = keys.unknown_event(self.known_events) {
            let message = format!("asks for `{}`, and no event is of that kind", escaped(kind));
            return Err(DefaultsError::Value { key: "events".to_owned(), message, hint });
        }
        if let Some(key) = keys.of_one_plugin() {
            return Err(DefaultsError::OnePlugin(key));
        }
        Ok(keys.apply(&self))
    }

    /// Reads the manifest of `plugin`, or returns `bare` where there is none.
    ///
    /// # Errors
    /// [`ManifestError`], with the line that is wrong, or 1 for a file that cannot be read.
    pub fn load(plugin: &Path, bare: &Self) -> Result<Self, ManifestError> {
        let path = Self::path_for(plugin);
        let read = match regular::read_head(&path, MANIFEST_MAX_BYTES + 1) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(bare.clone()),
            read => read,
        };
        let in_file = |error: ManifestError| ManifestError { file: Some(crate::text::shown(&path)), ..error };
        let broken = |message| in_file(ManifestError { file: None, line: 1, message, hint: None });
        let bytes = read.map_err(|e| broken(e.to_string()))?;
        if bytes.len() as u64 > MANIFEST_MAX_BYTES {
            return Err(broken(format!("longer than {MANIFEST_MAX_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| broken("not UTF-8 text".to_owned()))?;
        Self::parse(&text, bare).map_err(in_file)
    }

    /// Reads a manifest; what it leaves out is as in `bare`.
    ///
    /// # Errors
    /// [`ManifestError`], with the line that is wrong.
    pub fn parse(text: &str, bare: &Self) -> Result<Self, ManifestError> {
        let keys: Keys = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| line_at(text, span.start));
            ManifestError { file: None, line, message: e.message().replace('\n', " "), hint: None }
        })?;
        let mistake = |key: &str, message: &str, hint: &str| ManifestError {
            file: None,
            line: line_of(text, key),
            message: format!("`{key}` {message}"),
            hint: Some(hint.to_owned()),
        };
        keys.check().map_err(|(key, message, hint)| mistake(key, message, hint))?;
        if let Some((kind, hint)) = keys.unknown_event(bare.known_events) {
            return Err(mistake(
                "events",
                &format!("asks for `{}`, and no event is of that kind", escaped(kind)),
                &hint,
            ));
        }
        if let Some((hook, hint)) = keys.unknown_hook(bare.known_hooks) {
            return Err(mistake(
                "hooks",
                &format!("asks for `{}`, and there is no such hook", escaped(hook)),
                &hint,
            ));
        }
        if let Some((key, message, hint)) = keys.config.as_ref().and_then(Schema::contradiction) {
            return Err(mistake(&key, &message, &hint));
        }
        Ok(keys.apply(bare))
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1
}

fn line_of(text: &str, key: &str) -> usize {
    let sets = |line: &str| {
        let line = line.trim();
        let as_table = line.strip_prefix("[config.").is_some_and(|rest| rest.trim_end_matches(']') == key);
        as_table || line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().position(sets).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests;
