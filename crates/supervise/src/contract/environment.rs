//! The environment and the configuration text a plugin receives.
//!
//! Owns which variables are set, kept or withheld, and what happens when a value exceeds what the kernel
//! takes. The configuration is an opaque text here; only its size is of interest, and its outermost shape
//! when it has to shrink.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use serde_json::Value;

use super::names::{CONFIG_FILE, EXTRA_CONFIG, LOCATIONS, OF_PEER, PREFIXES, SERVER_PID, UNBUFFERED};
use crate::discover::Host;
use larder_telemetry::redaction::has_secret;

/// Longest `NAME=value` string Linux passes to a program, its final NUL included (`MAX_ARG_STRLEN`).
const VARIABLE_MAX_BYTES: usize = 128 * 1024;
/// Key under which a reduced configuration says so.
const REDUCED_KEY: &str = "larder_reduced";
/// Paths of left-out values that a reduced configuration lists; further ones are counted.
const OMITTED_LISTED_MAX: usize = 32;

/// What every plugin of one supervisor is told, whatever the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// The process plugins run beside.
    pub(crate) host: Host,
    /// Id of that process.
    pub(crate) server_pid: u32,
    /// Workers in the cluster; 1 for the multiprocess server.
    pub(crate) worker_count: u32,
    /// The environment plugins inherit.
    pub(crate) inherited: Vec<(OsString, OsString)>,
}

/// The configuration that plugins are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Briefing<'a> {
    /// The configuration text.
    pub(super) config: &'a str,
    /// The extra configuration alone; `None` leaves its variable out.
    pub(super) extra_config: Option<&'a str>,
    /// The file that holds the whole configuration.
    pub(super) config_file: &'a Path,
}

/// The environment of a plugin: what is inherited, with the variables of the contract on top.
pub(super) fn build(around: &Surroundings, briefing: Briefing<'_>) -> Vec<(OsString, OsString)> {
    let Briefing { config, extra_config, config_file } = briefing;
    let role = around.host.role.as_ref().map_or("", |r| r.as_str());
    let mut own: Vec<(String, OsString)> = Vec::new();
    for prefix in PREFIXES {
        let name = format!("{prefix}CONFIG");
        let config = fitting(&name, config, config_file);
        own.push((name, config.into()));
        own.push((format!("{prefix}ROLE"), role.into()));
        own.push((format!("{prefix}WORKER_ID"), around.host.worker_id.to_string().into()));
        own.push((format!("{prefix}WORKER_COUNT"), around.worker_count.to_string().into()));
    }
    if let Some(extra) = extra_config {
        own.push((EXTRA_CONFIG.to_owned(), fitting(EXTRA_CONFIG, extra, config_file).into()));
    }
    own.push((CONFIG_FILE.to_owned(), config_file.into()));
    own.push((SERVER_PID.to_owned(), around.server_pid.to_string().into()));
    own.push((UNBUFFERED.to_owned(), "1".into()));

    let is_taken = |name: &OsStr| is_contract(name) || is_of_service_manager(name);
    let inherited = around.inherited.iter().filter(|(name, _)| !is_taken(name)).cloned();
    inherited.chain(own.into_iter().map(|(name, value)| (name.into(), value))).collect()
}

/// Whether a variable belongs to the contract: no list of inherited names takes it away, and none of another
/// supervisor is passed on.
pub(crate) fn is_contract(name: &OsStr) -> bool {
    name == UNBUFFERED
        || name.to_str().is_some_and(|name| {
            !LOCATIONS.contains(&name) && PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        })
}

/// Whether a variable is between the server and its service manager. A library in a plugin would speak in the
/// server's name.
fn is_of_service_manager(name: &OsStr) -> bool {
    name == "NOTIFY_SOCKET"
        || name == "MAINPID"
        || name.to_str().is_some_and(|name| name.starts_with("WATCHDOG_") || name.starts_with("LISTEN_"))
}

/// Whether a variable of the server is withheld from plugins that do not ask for it by name: it looks like a
/// secret, or has one in it. Those of LMCache are configuration, which plugins are given.
pub(crate) fn is_withheld(name: &OsStr, value: &OsStr) -> bool {
    let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
    !name.starts_with(OF_PEER) && has_secret(&name, &value)
}

/// The text itself where the kernel takes it, or else a smaller JSON object that names the file with the
/// whole.
fn fitting(name: &str, text: &str, file: &Path) -> String {
    // `=` and the final NUL.
    let room = VARIABLE_MAX_BYTES - name.len() - 2;
    // A NUL cannot be in a variable; the file still has it.
    if text.len() <= room && !text.contains('\0') { text.to_owned() } else { reduced(text, file, room) }
}

/// Leaves out the bulkiest parts of a JSON object until what remains, with the note about it, fits into
/// `room` bytes.
fn reduced(text: &str, file: &Path, room: usize) -> String {
    let mut omitted = Vec::new();
    let mut root = match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Value::Object(map),
        _ => {
            omitted.push("/".to_owned());
            Value::Object(serde_json::Map::new())
        }
    };
    loop {
        if let Value::Object(map) = &mut root {
            map.insert(REDUCED_KEY.to_owned(), note(&omitted, file));
        }
        let text = root.to_string();
        if text.len() <= room {
            return text;
        }
        if let Value::Object(map) = &mut root {
            map.remove(REDUCED_KEY);
        }
        match bulkiest(&root) {
            Some(path) => {
                remove(&mut root, &path);
                omitted.push(format!("/{}", path.join("/")));
            }
            None => return text,
        }
    }
}

fn note(omitted: &[String], file: &Path) -> Value {
    let listed: Vec<String> =
        omitted.iter().take(OMITTED_LISTED_MAX).map(|path| path.chars().take(200).collect()).collect();
    serde_json::json!({
        "reason": "the configuration exceeds the size of an environment variable",
        "config_file": file.to_string_lossy(),
        "omitted": listed,
        "omitted_count": omitted.len(),
    })
}

/// Follows the heaviest member of each object as long as it makes up half of the object or more.
fn bulkiest(root: &Value) -> Option<Vec<String>> {
    let mut path = Vec::new();
    let mut node = root;
    while let Value::Object(map) = node {
        let Some((key, child, weight)) =
            map.iter().map(|(k, v)| (k, v, v.to_string().len())).max_by_key(|(_, _, weight)| *weight)
        else {
            break;
        };
        if !path.is_empty() && weight * 2 < node.to_string().len() {
            break;
        }
        path.push(key.clone());
        node = child;
    }
    (!path.is_empty()).then_some(path)
}

fn remove(root: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(root, |node, key| node.get_mut(key));
    if let Some(map) = parent.and_then(Value::as_object_mut) {
        map.shift_remove(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::Role;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn built(host: &Host, config: &str, extra: Option<&str>) -> BTreeMap<String, String> {
        let inherited =
            [("PATH", "/bin"), ("PYTHONUNBUFFERED", ""), ("LMCACHE_PLUGIN_ROLE", "stale"), ("TOKEN", "x")];
        let inherited = inherited.map(|(n, v)| (OsString::from(n), OsString::from(v)));
        let around = Surroundings {
            host: host.clone(),
            server_pid: 4711,
            worker_count: 8,
            inherited: inherited.into(),
        };
        let config_file = Path::new("/run/p/config.json");
        let list = build(&around, Briefing { config, extra_config: extra, config_file });
        let count = list.len();
        let map: BTreeMap<_, _> =
            list.into_iter().map(|(n, v)| (n.into_string().unwrap(), v.into_string().unwrap())).collect();
        assert_eq!(map.len(), count, "no name twice");
        map
    }

    #[test]
    fn both_generations_in_a_multiprocess_server() {
        let env = built(&Host { role: None, worker_id: 0 }, "{\"mp_config\": {}}", Some("{\"a\": 1}"));
        for prefix in PREFIXES {
            assert_eq!(env[&format!("{prefix}ROLE")], "");
            assert_eq!(env[&format!("{prefix}CONFIG")], "{\"mp_config\": {}}");
            assert_eq!(env[&format!("{prefix}WORKER_ID")], "0");
            assert_eq!(env[&format!("{prefix}WORKER_COUNT")], "8");
        }
        assert_eq!(env["LMCACHE_RUNTIME_PLUGIN_EXTRA_CONFIG"], "{\"a\": 1}");
        assert_eq!(env["LMCACHE_RUNTIME_PLUGIN_CONFIG_FILE"], "/run/p/config.json");
        assert_eq!(env["LMCACHE_RUNTIME_PLUGIN_SERVER_PID"], "4711");
        assert_eq!(env["PYTHONUNBUFFERED"], "1");
        assert_eq!((env["PATH"].as_str(), env["TOKEN"].as_str()), ("/bin", "x"));
    }

    #[test]
    fn what_is_between_the_server_and_others_stays_there() {
        let names = [
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "LISTEN_FDS",
            "LISTEN_PID",
            "MAINPID",
            "LMCACHE_RUNTIME_PLUGIN_CONTROL_FD",
            "LMCACHE_RUNTIME_PLUGIN_SETTINGS",
        ];
        let inherited = names.into_iter().chain(["LMCACHE_RUNTIME_PLUGIN_LOCATIONS", "LISTENER"]);
        let around = Surroundings {
            host: Host { role: None, worker_id: 0 },
            server_pid: 1,
            worker_count: 1,
            inherited: inherited.map(|name| (name.into(), "x".into())).collect(),
        };
        let briefing = Briefing { config: "", extra_config: None, config_file: Path::new("/c") };
        let environment = build(&around, briefing);
        let has = |name: &str| environment.iter().any(|(have, _)| have == name);
        assert!(!names.iter().any(|name| has(name)), "{environment:?}");
        assert!(has("LMCACHE_RUNTIME_PLUGIN_LOCATIONS") && has("LISTENER"));
    }

    #[test]
    fn secrets_are_withheld_and_configuration_is_not() {
        let withheld = |name: &str, value: &str| is_withheld(name.as_ref(), value.as_ref());
        assert!(withheld("AWS_SECRET_ACCESS_KEY", "x") && withheld("HF_TOKEN", "x"));
        assert!(withheld("DATABASE_URL", "postgres://me:pw@host/"));
        for (name, value) in
            [("PATH", "/bin"), ("PWD", "/"), ("LMCACHE_REMOTE_PASSWORD", "x"), ("HF_TOKEN", "")]
        {
            assert!(!withheld(name, value), "{name}");
        }
    }

    #[test]
    fn a_role_is_shown_as_given() {
        let env = built(&Host { role: Some(Role::new("WORKER")), worker_id: 3 }, "", None);
        assert_eq!(env["LMCACHE_RUNTIME_PLUGIN_ROLE"], "WORKER");
        assert_eq!(env["LMCACHE_PLUGIN_WORKER_ID"], "3");
        assert!(!env.contains_key("LMCACHE_RUNTIME_PLUGIN_EXTRA_CONFIG"));
    }

    #[test]
    fn the_bulk_goes_and_the_rest_stays() {
        let bulk = "é".repeat(100_000);
        let config = serde_json::json!({
            "mp_config": {"port": 5555, "runtime_plugin_config": {"extra_config": {"big": bulk, "small": 1}}},
            "storage_manager_config": {"store_policy": "default"},
            "runtime_plugin_extra_config": {"big": bulk, "small": 1},
        });
        let text = reduced(&config.to_string(), Path::new("/run/c.json"), 131_000);
        let seen: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(seen["mp_config"]["port"], 5555);
        assert_eq!(seen["mp_config"]["runtime_plugin_config"]["extra_config"]["small"], 1);
        assert_eq!(seen["storage_manager_config"]["store_policy"], "default");
        assert_eq!(seen[REDUCED_KEY]["config_file"], "/run/c.json");
        assert_eq!(seen[REDUCED_KEY]["omitted_count"], 2);
        let omitted = seen[REDUCED_KEY]["omitted"].to_string();
        assert!(omitted.contains("/runtime_plugin_extra_config/big"), "{omitted}");
    }

    #[test]
    fn the_limit_itself_still_fits() {
        let name = "LMCACHE_RUNTIME_PLUGIN_CONFIG";
        let room = VARIABLE_MAX_BYTES - name.len() - 2;
        let file = Path::new("/c");
        assert_eq!(fitting(name, &"x".repeat(room), file).len(), room);
        let shrunk: Value = serde_json::from_str(&fitting(name, &"x".repeat(room + 1), file)).unwrap();
        assert_eq!(shrunk[REDUCED_KEY]["omitted"][0], "/", "text that is no JSON goes whole");
    }

    proptest! {
        #[test]
        fn reduction_always_fits_and_stays_json(sizes in proptest::collection::vec(0usize..3000, 0..20), room in 700usize..5000) {
            let members = sizes.iter().enumerate().map(|(i, size)| (format!("k{i}"), Value::from("x".repeat(*size))));
            let config = serde_json::json!({ "a": members.collect::<serde_json::Map<_, _>>(), "b": [1, 2, 3] });
            let text = reduced(&config.to_string(), Path::new("/c"), room);
            prop_assert!(text.len() <= room + 1500, "{} > {room}", text.len());
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        }
    }
}
