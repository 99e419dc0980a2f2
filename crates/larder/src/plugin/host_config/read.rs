//! The configuration of an engine that embeds LMCache, as far as plugins are concerned
//! (spec/runtime-plugins.md 9).

use std::io::Read as _;
use std::path::{Path, PathBuf};

use larder_config::json::{Layout, to_python_json};
use serde_json::{Map, Value};

/// Bytes of a configuration file.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// The key, and the variable after its prefix, that lists plugins.
const LOCATIONS: &str = "runtime_plugin_locations";
/// What older releases called it.
const LOCATIONS_OLD: &str = "plugin_locations";
/// Variables of the same meaning; the peer lets the older one win.
const LOCATION_VARIABLES: [&str; 2] = ["LMCACHE_PLUGIN_LOCATIONS", "LMCACHE_RUNTIME_PLUGIN_LOCATIONS"];
/// The variable that names the file.
pub(crate) const FILE_VARIABLE: &str = "LMCACHE_CONFIG_FILE";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostConfigError {
    #[error("`{path}` cannot be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("`{0}` is longer than {FILE_MAX_BYTES} bytes")]
    TooLong(String),
    #[error("`{path}` is neither YAML nor JSON: {cause}")]
    Malformed { path: String, cause: String },
    #[error("`{0}` holds no settings\nhint: write `chunk_size: 256`, one setting a line")]
    NoMapping(String),
    #[error("`{name}` is `{value}`\nhint: a path or a list of paths")]
    Locations { name: &'static str, value: String },
}

/// What plugins of such an engine get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostConfig {
    pub(crate) locations: Vec<PathBuf>,
    /// The whole configuration as JSON over several lines.
    pub(crate) json: String,
    /// Its `extra_config`, on one line, where there is any.
    pub(crate) extra_config: Option<String>,
    /// What the operator should know.
    pub(crate) notices: Vec<String>,
}

impl HostConfig {
    /// Defaults, then a file, if one is named, then the variables that `variable` returns.
    pub(crate) fn load(
        file: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, HostConfigError> {
        let written = file.map(read).transpose()?.unwrap_or_default();
        let mut notices = Vec::new();
        let mut settings = super::settings::effective(written, &variable, &mut notices);
        let given = LOCATION_VARIABLES
            .into_iter()
            .find_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)));
        let (name, value) = match given {
            Some((name, text)) => (name, from_variable(&text)),
            None if is_given(&settings, LOCATIONS) => (LOCATIONS, settings[LOCATIONS].clone()),
            None => (LOCATIONS_OLD, settings.get(LOCATIONS_OLD).cloned().unwrap_or_default()),
        };
        settings.shift_remove(LOCATIONS_OLD);
        if !value.is_null() && [LOCATIONS_OLD, LOCATION_VARIABLES[0]].contains(&name) {
            notices.push(format!("`{name}` is the older name of `{}`", name.replace(OLD_PART, NEW_PART)));
        }
        let locations = paths(name, &value)?;
        if !locations.is_empty() {
            settings.insert(LOCATIONS.to_owned(), locations.iter().map(|p| p.to_string_lossy()).collect());
        }
        let extra =
            settings.get("extra_config").filter(|extra| extra.as_object().is_some_and(|e| !e.is_empty()));
        let extra_config = extra.map(|extra| to_python_json(extra, Layout::Line));
        Ok(Self {
            locations,
            json: to_python_json(&Value::Object(settings), Layout::Indented),
            extra_config,
            notices,
        })
    }
}

const OLD_PART: &str = "plugin_locations";
const NEW_PART: &str = "runtime_plugin_locations";

fn is_given(settings: &Map<String, Value>, key: &str) -> bool {
    settings.get(key).is_some_and(|value| !value.is_null())
}

fn read(path: &Path) -> Result<Map<String, Value>, HostConfigError> {
    let shown = path.display().to_string();
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|source| HostConfigError::Unreadable { path: shown.clone(), source })?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(HostConfigError::TooLong(shown));
    }
    let parsed: Result<Value, String> = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text)
            .or_else(|json| serde_saphyr::from_str(&text).map_err(|_| json.to_string()))
    } else {
        serde_saphyr::from_str(&text).map_err(|error| error.to_string())
    };
    match parsed.map_err(|cause| HostConfigError::Malformed { path: shown.clone(), cause })? {
        Value::Object(settings) => Ok(settings),
        Value::Null => Ok(Map::new()),
        _ => Err(HostConfigError::NoMapping(shown)),
    }
}

/// The peer takes a variable's whole value as one path; a JSON list is a list here, since no path looks like
/// one.
fn from_variable(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(list @ Value::Array(_)) => list,
        _ => Value::from(text),
    }
}

fn paths(name: &'static str, value: &Value) -> Result<Vec<PathBuf>, HostConfigError> {
    let wrong = || HostConfigError::Locations { name, value: value.to_string() };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(path) => Ok(vec![path.into()]),
        Value::Array(items) => items.iter().map(|item| Ok(item.as_str().ok_or_else(wrong)?.into())).collect(),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<HostConfig, HostConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lmcache.yaml");
        std::fs::write(&file, text).unwrap();
        HostConfig::load(Some(&file), |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn yaml_becomes_json_over_several_lines() {
        let config = load(
            "chunk_size: 256\nlocal_cpu: true\nremote_url: null\nruntime_plugin_locations: [\"/a\", b]\n\
             extra_config:\n  plugin.x.url: \"http://h\"\n",
            &[],
        )
        .unwrap();
        assert!(
            config.json.starts_with("{\n  \"chunk_size\": 256,\n  \"local_cpu\": true,\n"),
            "{}",
            config.json
        );
        for part in [
            "\n  \"remote_url\": null,\n",
            "\n  \"runtime_plugin_locations\": [\n    \"/a\",\n    \"b\"\n  ],\n",
            "\n  \"extra_config\": {\n    \"plugin.x.url\": \"http://h\"\n  },\n",
        ] {
            assert!(config.json.contains(part), "{part} in {}", config.json);
        }
        assert_eq!(config.locations, [PathBuf::from("/a"), "b".into()]);
        assert_eq!(config.extra_config.as_deref(), Some("{\"plugin.x.url\": \"http://h\"}"));
        assert!(config.notices.is_empty());
    }

    #[test]
    fn json_is_taken_as_well() {
        let config = load("{\"chunk_size\": 8, \"runtime_plugin_locations\": \"one\"}", &[]).unwrap();
        assert_eq!(config.locations, [PathBuf::from("one")]);
        assert!(load("", &[]).unwrap().json.contains("\"chunk_size\": 256"));
    }

    #[test]
    fn older_names_are_understood_and_mentioned() {
        let config = load("plugin_locations: [old]\n", &[]).unwrap();
        assert_eq!(config.locations, [PathBuf::from("old")]);
        assert_eq!(config.notices, ["`plugin_locations` is the older name of `runtime_plugin_locations`"]);
        assert!(config.json.contains("\"runtime_plugin_locations\": [\n    \"old\"\n  ]"), "{}", config.json);
        assert!(!config.json.contains("\"plugin_locations\""), "{}", config.json);
        let both = load("plugin_locations: [old]\nruntime_plugin_locations: [new]\n", &[]).unwrap();
        assert_eq!(both.locations, [PathBuf::from("new")]);
    }

    #[test]
    fn variables_go_before_the_file_and_the_older_one_first() {
        let new = ("LMCACHE_RUNTIME_PLUGIN_LOCATIONS", "/a, b");
        let config = load("runtime_plugin_locations: [x]\n", &[new]).unwrap();
        assert_eq!(config.locations, [PathBuf::from("/a, b")]);
        let config = load("", &[new, ("LMCACHE_PLUGIN_LOCATIONS", "[\"c\", \"d\"]")]).unwrap();
        assert_eq!(config.locations, [PathBuf::from("c"), "d".into()]);
        assert_eq!(config.notices.len(), 1);
    }

    #[test]
    fn mistakes_are_explained() {
        assert!(matches!(load("- a\n- b\n", &[]), Err(HostConfigError::NoMapping(_))));
        assert!(matches!(load("a: [1\n", &[]), Err(HostConfigError::Malformed { .. })));
        assert!(matches!(load("{\"a\": ", &[]), Err(HostConfigError::Malformed { .. })));
        let wrong = load("runtime_plugin_locations: [1]\n", &[]).unwrap_err();
        assert_eq!(wrong.to_string(), "`runtime_plugin_locations` is `[1]`\nhint: a path or a list of paths");
        let missing = HostConfig::load(Some(Path::new("/no/such")), |_| None);
        assert!(matches!(missing, Err(HostConfigError::Unreadable { .. })));
        let bomb = format!("a: &a [{}]\n", "x,".repeat(1 << 20));
        assert!(matches!(load(&bomb, &[]), Err(HostConfigError::TooLong(_))));
    }
}
