//! The settings of an engine that embeds LMCache 0.5.6, as its file, its variables and its plugins know them
//! (spec/runtime-plugins.md 9): names, kinds, defaults and older names.
//!
//! Left out are defaults that JSON has no form for (`pd_allocation_timeout_sec`, infinite) or that are drawn
//! at start (`lmcache_instance_id`).

use serde_json::{Map, Value};

/// What a setting's variable is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Switch,
    Int,
    Float,
    Text,
    /// Numbers or words between commas.
    Ints,
    Floats,
    Texts,
    /// Paths between commas, each with or without `file://`.
    Folders,
    /// An object.
    Json,
    /// The whole value is one path; read elsewhere.
    Path,
}

/// Older names and their successors.
const OLDER: [(&str, &str); 11] = [
    ("enable_xpyd", "enable_pd"),
    ("nixl_peer_host", "pd_peer_host"),
    ("nixl_peer_init_port", "pd_peer_init_port"),
    ("nixl_peer_alloc_port", "pd_peer_alloc_port"),
    ("nixl_proxy_host", "pd_proxy_host"),
    ("nixl_proxy_port", "pd_proxy_port"),
    ("nixl_buffer_size", "pd_buffer_size"),
    ("nixl_role", "pd_role"),
    ("controller_url", "controller_pull_url"),
    ("lmcache_worker_port", "lmcache_worker_ports"),
    ("external_backends", "storage_plugins"),
];

/// All settings in the order in which they are written: name, kind, default as JSON.
#[rustfmt::skip]
const SETTINGS: &[(&str, Kind, &str)] = &[
    ("chunk_size", Kind::Int, "256"),
    ("local_cpu", Kind::Switch, "true"),
    ("max_local_cpu_size", Kind::Float, "5.0"),
    ("local_cpu_use_hugepages", Kind::Switch, "false"),
    ("reserve_local_cpu_size", Kind::Float, "0.0"),
    ("local_disk", Kind::Folders, "null"),
    ("local_disk_path_sharding", Kind::Text, r#""by_gpu""#),
    ("max_local_disk_size", Kind::Float, "0.0"),
    ("remote_url", Kind::Text, "null"),
    ("remote_serde", Kind::Text, r#""naive""#),
    ("use_layerwise", Kind::Switch, "false"),
    ("save_decode_cache", Kind::Switch, "false"),
    ("pre_caching_hash_algorithm", Kind::Text, r#""builtin""#),
    ("enable_blending", Kind::Switch, "false"),
    ("blend_recompute_ratios", Kind::Floats, "null"),
    ("blend_thresholds", Kind::Floats, "null"),
    ("blend_check_layers", Kind::Ints, "null"),
    ("blend_min_tokens", Kind::Int, "256"),
    ("blend_special_str", Kind::Text, "\" # # \""),
    ("retrieve_locations", Kind::Texts, "null"),
    ("store_location", Kind::Text, "null"),
    ("enable_p2p", Kind::Switch, "false"),
    ("p2p_host", Kind::Text, "null"),
    ("p2p_init_ports", Kind::Ints, "null"),
    ("p2p_lookup_ports", Kind::Ints, "null"),
    ("mp_host", Kind::Text, "null"),
    ("mp_port", Kind::Int, "5555"),
    ("enable_controller", Kind::Switch, "false"),
    ("lmcache_instance_id", Kind::Text, "null"),
    ("controller_pull_url", Kind::Text, "null"),
    ("controller_reply_url", Kind::Text, "null"),
    ("lmcache_worker_ports", Kind::Ints, "null"),
    ("lmcache_worker_ids", Kind::Ints, "null"),
    ("lmcache_worker_heartbeat_delay_time", Kind::Int, "10"),
    ("lmcache_worker_heartbeat_time", Kind::Int, "null"),
    ("enable_pd", Kind::Switch, "false"),
    ("pd_role", Kind::Text, "null"),
    ("pd_buffer_size", Kind::Int, "null"),
    ("pd_buffer_device", Kind::Text, "null"),
    ("pd_peer_host", Kind::Text, "null"),
    ("pd_peer_init_port", Kind::Ints, "null"),
    ("pd_peer_alloc_port", Kind::Ints, "null"),
    ("pd_peer_query_port", Kind::Ints, "null"),
    ("pd_proxy_host", Kind::Text, "null"),
    ("pd_proxy_port", Kind::Int, "null"),
    ("pd_allocation_timeout_sec", Kind::Float, "null"),
    ("pd_shutdown_timeout_sec", Kind::Float, "5.0"),
    ("pd_condition_poll_interval_sec", Kind::Float, "0.005"),
    ("pd_max_prefill_len", Kind::Int, "0"),
    ("pd_backend_mode", Kind::Text, r#""async""#),
    ("pd_skip_proxy_notification", Kind::Switch, "false"),
    ("pd_bidirectional", Kind::Switch, "false"),
    ("transfer_channel", Kind::Text, "null"),
    ("nixl_backends", Kind::Texts, "null"),
    ("nixl_buffer_size", Kind::Int, "null"),
    ("nixl_buffer_device", Kind::Text, "null"),
    ("gds_path", Kind::Text, "null"),
    ("gds_path_sharding", Kind::Text, r#""by_gpu""#),
    ("gds_buffer_size", Kind::Int, "null"),
    ("maru_path", Kind::Text, "null"),
    ("maru_pool_size", Kind::Float, "4.0"),
    ("use_gds", Kind::Switch, "true"),
    ("gds_backend", Kind::Text, r#""cufile""#),
    ("audit_actual_remote_url", Kind::Text, "null"),
    ("internal_api_server_host", Kind::Text, r#""127.0.0.1""#),
    ("extra_config", Kind::Json, "null"),
    ("save_unfull_chunk", Kind::Switch, "false"),
    ("blocking_timeout_secs", Kind::Int, "10"),
    ("external_lookup_client", Kind::Text, "null"),
    ("py_enable_gc", Kind::Switch, "true"),
    ("cache_policy", Kind::Text, r#""LRU""#),
    ("numa_mode", Kind::Text, "null"),
    ("enable_async_loading", Kind::Switch, "false"),
    ("internal_api_server_enabled", Kind::Switch, "false"),
    ("internal_api_server_port_start", Kind::Int, "6999"),
    ("priority_limit", Kind::Int, "null"),
    ("internal_api_server_include_index_list", Kind::Ints, "null"),
    ("internal_api_server_socket_path_prefix", Kind::Text, "null"),
    ("runtime_plugin_locations", Kind::Path, "null"),
    ("storage_plugins", Kind::Texts, "null"),
    ("remote_storage_plugins", Kind::Texts, "null"),
    ("lookup_timeout_ms", Kind::Int, "3000"),
    ("min_retrieve_tokens", Kind::Int, "0"),
    ("hit_miss_ratio", Kind::Float, "null"),
    ("lookup_server_worker_ids", Kind::Ints, "null"),
    ("enable_scheduler_bypass_lookup", Kind::Switch, "false"),
    ("script_allowed_imports", Kind::Texts, "null"),
    ("run_script_api_enabled", Kind::Switch, "false"),
    ("enable_lazy_memory_allocator", Kind::Switch, "false"),
    ("lazy_memory_initial_ratio", Kind::Float, "0.2"),
    ("lazy_memory_expand_trigger_ratio", Kind::Float, "0.5"),
    ("lazy_memory_step_ratio", Kind::Float, "0.1"),
    ("lazy_memory_safe_size", Kind::Float, "0.0"),
    ("enable_chunk_statistics", Kind::Switch, "false"),
    ("chunk_statistics_auto_start_statistics", Kind::Switch, "false"),
    ("chunk_statistics_auto_exit_timeout_hours", Kind::Float, "0.0"),
    ("chunk_statistics_auto_exit_target_unique_chunks", Kind::Int, "0"),
    ("chunk_statistics_strategy", Kind::Text, r#""memory_bloom_filter""#),
    ("enable_kv_events", Kind::Switch, "false"),
    ("use_gpu_connector_v3", Kind::Switch, "false"),
    ("pin_timeout_sec", Kind::Int, "300"),
    ("pin_check_interval_sec", Kind::Int, "30"),
    ("remote_config_url", Kind::Text, "null"),
    ("app_id", Kind::Text, "null"),
    ("enable_hidden_state_cache", Kind::Switch, "false"),
    ("max_hidden_state_cpu_size", Kind::Float, "2.0"),
    ("hidden_state_layers", Kind::Ints, "null"),
    ("hidden_states_retrieve_mode", Kind::Text, r#""prefix_strict""#),
];

/// The settings of a file with their defaults, under their present names, and the variables on top. `notices`
/// get what the operator should know.
pub(super) fn effective(
    mut file: Map<String, Value>,
    variable: impl Fn(&str) -> Option<String>,
    notices: &mut Vec<String>,
) -> Map<String, Value> {
    for (old, new) in OLDER {
        // One of them is a setting of its own as well.
        if let Some(value) = file.shift_remove(old).filter(|value| !value.is_null()) {
            notices.push(format!("`{old}` is the older name of `{new}`"));
            if file.get(new).is_none_or(Value::is_null) {
                file.insert(new.to_owned(), value);
            }
        }
    }
    let mut settings = Map::new();
    for (name, kind, default) in SETTINGS {
        let written = file.shift_remove(*name);
        // A table test reads every default.
        let value = written.unwrap_or_else(|| serde_json::from_str(default).unwrap_or_default());
        let given = from_variables(name, *kind, &variable, notices);
        settings.insert((*name).to_owned(), given.unwrap_or(value));
    }
    // What is no setting of the engine may be one of a plugin.
    settings.extend(file);
    settings.retain(|name, value| !(value.is_null() && LEFT_OUT.contains(&name.as_str())));
    settings
}

/// Absent rather than null: a reader takes its own default.
const LEFT_OUT: [&str; 2] = ["pd_allocation_timeout_sec", "lmcache_instance_id"];

/// The value from the setting's variable; one under an older name goes first, as the peer has it.
fn from_variables(
    name: &str,
    kind: Kind,
    variable: impl Fn(&str) -> Option<String>,
    notices: &mut Vec<String>,
) -> Option<Value> {
    if kind == Kind::Path {
        return None;
    }
    let older = OLDER.iter().filter(|(_, new)| *new == name).map(|(old, _)| *old);
    for spelling in older.chain([name]) {
        let variable_name = format!("LMCACHE_{}", spelling.to_ascii_uppercase());
        let Some(text) = variable(&variable_name) else { continue };
        if spelling != name {
            notices.push(format!(
                "`{variable_name}` is the older name of `LMCACHE_{}`",
                name.to_ascii_uppercase()
            ));
        }
        let value = read(kind, unquoted(text.trim()));
        if value.is_none() {
            notices.push(format!("`{variable_name}` is left out: it is no {}", wanted(kind)));
        }
        return value;
    }
    None
}

fn unquoted(text: &str) -> &str {
    let within = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

/// `None` if the text is not of this kind.
fn read(kind: Kind, text: &str) -> Option<Value> {
    let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Some(match kind {
        Kind::Switch => ["true", "1"].contains(&text.to_ascii_lowercase().as_str()).into(),
        Kind::Int => text.parse::<i64>().ok()?.into(),
        Kind::Float => float(text)?,
        Kind::Text | Kind::Path => text.into(),
        Kind::Ints => items().map(|item| item.parse::<i64>().ok()).collect::<Option<Vec<_>>>()?.into(),
        Kind::Floats => items().map(float).collect::<Option<Vec<_>>>()?.into(),
        Kind::Texts => items().collect(),
        Kind::Folders => items()
            .map(|item| item.strip_prefix("file://").unwrap_or(item))
            .collect::<Vec<_>>()
            .join(",")
            .into(),
        Kind::Json if text.is_empty() => Value::Null,
        Kind::Json => serde_json::from_str(text).ok().filter(Value::is_object)?,
    })
}

fn float(text: &str) -> Option<Value> {
    serde_json::Number::from_f64(text.parse().ok()?).map(Value::Number)
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "switch",
        Kind::Int => "whole number",
        Kind::Float => "number",
        Kind::Text => "text",
        Kind::Path => "path",
        Kind::Ints => "list of whole numbers",
        Kind::Floats => "list of numbers",
        Kind::Texts => "list of words",
        Kind::Folders => "list of folders",
        Kind::Json => "JSON object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(file: Value, variables: &[(&str, &str)]) -> (Map<String, Value>, Vec<String>) {
        let mut notices = Vec::new();
        let file = file.as_object().unwrap().clone();
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        (effective(file, variable, &mut notices), notices)
    }

    #[test]
    fn every_default_can_be_read_and_fits_its_kind() {
        for (name, kind, default) in SETTINGS {
            let value: Value = serde_json::from_str(default).unwrap();
            let fits = match kind {
                _ if value.is_null() => true,
                Kind::Switch => value.is_boolean(),
                Kind::Int => value.is_i64(),
                Kind::Float => value.is_f64(),
                Kind::Text => value.is_string(),
                _ => false,
            };
            assert!(fits, "{name}");
        }
        for (old, new) in OLDER {
            assert!(SETTINGS.iter().any(|(name, ..)| *name == new), "{old} -> {new}");
        }
    }

    #[test]
    fn defaults_then_file_then_variables() {
        let (settings, notices) = with(
            json!({ "chunk_size": 128, "own": 1, "local_cpu": true }),
            &[
                ("LMCACHE_CHUNK_SIZE", "64"),
                ("LMCACHE_LOCAL_CPU", "False"),
                ("LMCACHE_MAX_LOCAL_CPU_SIZE", "2"),
            ],
        );
        assert_eq!((&settings["chunk_size"], &settings["local_cpu"]), (&json!(64), &json!(false)));
        assert_eq!((&settings["max_local_cpu_size"], &settings["own"]), (&json!(2.0), &json!(1)));
        assert_eq!((&settings["cache_policy"], &settings["remote_url"]), (&json!("LRU"), &Value::Null));
        assert_eq!(settings.keys().next().unwrap(), "chunk_size");
        assert!(!settings.contains_key("pd_allocation_timeout_sec"));
        assert!(notices.is_empty(), "{notices:?}");
    }

    #[test]
    fn variables_of_every_kind() {
        let (settings, notices) = with(
            json!({}),
            &[
                ("LMCACHE_REMOTE_URL", "'redis://h'"),
                ("LMCACHE_P2P_INIT_PORTS", "1, 2,"),
                ("LMCACHE_BLEND_THRESHOLDS", "0.5"),
                ("LMCACHE_STORAGE_PLUGINS", "a,b"),
                ("LMCACHE_LOCAL_DISK", "file:///a/,/b"),
                ("LMCACHE_EXTRA_CONFIG", "{\"plugin.x.y\": 1}"),
                ("LMCACHE_RUNTIME_PLUGIN_LOCATIONS", "/elsewhere"),
            ],
        );
        assert_eq!(settings["remote_url"], "redis://h");
        assert_eq!(settings["p2p_init_ports"], json!([1, 2]));
        assert_eq!(settings["blend_thresholds"], json!([0.5]));
        assert_eq!(settings["storage_plugins"], json!(["a", "b"]));
        assert_eq!(settings["local_disk"], "/a/,/b");
        assert_eq!(settings["extra_config"], json!({ "plugin.x.y": 1 }));
        assert_eq!(settings["runtime_plugin_locations"], Value::Null, "read elsewhere");
        assert!(notices.is_empty(), "{notices:?}");
    }

    #[test]
    fn what_does_not_fit_keeps_the_value_and_is_said() {
        let (settings, notices) = with(
            json!({ "chunk_size": 8 }),
            &[("LMCACHE_CHUNK_SIZE", "many"), ("LMCACHE_EXTRA_CONFIG", "[1]")],
        );
        assert_eq!((&settings["chunk_size"], &settings["extra_config"]), (&json!(8), &Value::Null));
        assert_eq!(
            notices,
            [
                "`LMCACHE_CHUNK_SIZE` is left out: it is no whole number",
                "`LMCACHE_EXTRA_CONFIG` is left out: it is no JSON object"
            ]
        );
    }

    #[test]
    fn older_names_are_understood() {
        let (settings, notices) = with(
            json!({ "enable_xpyd": true, "nixl_buffer_size": 7 }),
            &[("LMCACHE_EXTERNAL_BACKENDS", "x")],
        );
        assert_eq!((&settings["enable_pd"], &settings["pd_buffer_size"]), (&json!(true), &json!(7)));
        assert_eq!(
            (&settings["nixl_buffer_size"], &settings["storage_plugins"]),
            (&Value::Null, &json!(["x"]))
        );
        assert_eq!(notices.len(), 3, "{notices:?}");
    }
}
