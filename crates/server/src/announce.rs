//! What a server that has started says of itself: what runs, and how an engine is pointed at it.

use std::net::IpAddr;

use larder_pool::{Size, memory_room};
use larder_zmtp::{Endpoint, Host};

use larder_config::ServerConfig;
use larder_telemetry::BuildInfo;

/// What is only known once it runs.
pub(super) struct Running<'r> {
    pub(super) build: BuildInfo,
    /// Name of the pool in `/dev/shm`; none if it is private memory.
    pub(super) shared_as: Option<&'r str>,
    /// Ids of the second tier's adapters, in their order.
    pub(super) adapters: &'r [&'r str],
    pub(super) endpoints: &'r [Endpoint],
    pub(super) http_url: &'r str,
}

/// One line: build, memory, policy, tiers, addresses.
pub(super) fn summary(config: &ServerConfig, running: &Running<'_>) -> String {
    let pool = Size(config.l1.size_bytes);
    let place = match running.shared_as {
        Some(name) => format!("in /dev/shm/{name}"),
        None => "of private memory".to_owned(),
    };
    let free = memory_room().map_or("unknown".to_owned(), |room| Size(room.free_bytes).to_string());
    let tiers = if running.adapters.is_empty() { "none".to_owned() } else { running.adapters.join(", ") };
    let engines: Vec<String> = running.endpoints.iter().map(ToString::to_string).collect();
    format!(
        "{} serves: pool {pool} {place} (free memory: {free}), policy {}, tiers {tiers}, engines at {}, HTTP at {}",
        running.build,
        config.eviction.policy.as_str(),
        engines.join(" and "),
        running.http_url,
    )
}

/// The option that points a vLLM on this machine here; none where engines don't come by TCP.
pub(super) fn vllm_option(endpoints: &[Endpoint]) -> Option<String> {
    let (host, port) = endpoints.iter().find_map(|endpoint| match endpoint {
        Endpoint::Tcp { host, port } => Some((reachable(host), *port)),
        _ => None,
    })?;
    Some(format!(
        "--kv-transfer-config '{{\"kv_connector\": \"LMCacheMPConnector\", \"kv_role\": \"kv_both\", \
         \"kv_connector_extra_config\": {{\"lmcache.mp.host\": \"tcp://{host}\", \"lmcache.mp.port\": {port}, \
         \"lmcache.mp.mp_transfer_mode\": \"engine_driven\"}}}}'"
    ))
}

fn reachable(host: &Host) -> String {
    match host {
        Host::Any => "127.0.0.1".to_owned(),
        Host::Ip(IpAddr::V4(ip)) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        Host::Ip(IpAddr::V6(ip)) if ip.is_unspecified() => "[::1]".to_owned(),
        Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_json_with_the_port_that_was_bound() {
        for (endpoint, host) in [
            ("tcp://0.0.0.0:5601", "tcp://127.0.0.1"),
            ("tcp://[::1]:5601", "tcp://[::1]"),
            ("tcp://10.0.0.7:5601", "tcp://10.0.0.7"),
        ] {
            let option = vllm_option(&[endpoint.parse().unwrap()]).unwrap();
            let json = option.strip_prefix("--kv-transfer-config '").and_then(|json| json.strip_suffix('\''));
            let json: serde_json::Value = serde_json::from_str(json.unwrap()).unwrap();
            let extra = &json["kv_connector_extra_config"];
            assert_eq!((&extra["lmcache.mp.host"], &extra["lmcache.mp.port"]), (&host.into(), &5601.into()));
        }
        assert_eq!(vllm_option(&["ipc:///run/x".parse().unwrap()]), None);
    }
}
