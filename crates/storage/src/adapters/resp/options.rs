//! Which servers, and how to talk to them.

use std::fmt;

use crate::adapters::TlsOptions;
use crate::secret::Secret;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Node {
    /// Reads `host:port`; the host of an IPv6 address may be in brackets.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port: u16 = port.parse().ok()?;
        let is_name = !host.is_empty() && !host.contains(['@', '/', ' ']);
        (is_name && port > 0).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Servers and the way they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RespOptions {
    /// The type as configured: `resp` or `valkey`.
    pub kind: &'static str,
    /// Servers to start from: the one server, or any of a cluster.
    pub nodes: Vec<Node>,
    /// Encryption; none for plain connections.
    pub tls: Option<TlsOptions>,
    /// Whether they form a cluster.
    pub is_cluster: bool,
    /// User to authenticate as; empty for the default user.
    pub username: String,
    /// Password; empty for none.
    pub password: Secret,
    /// Put before every name, with `@` between; empty for nothing. Never contains `@`.
    pub key_prefix: String,
    /// Logical database; a cluster has only 0.
    pub database: u32,
    /// Threads that move objects; each has its own connection to each server.
    pub workers: usize,
    /// Transfers waiting for a thread, in groups of objects; more are answered busy.
    pub queued_jobs_max: usize,
    /// Longest time without any progress on a connection, in milliseconds.
    pub request_timeout_ms: u64,
    /// Longest time to connect, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Seconds after which the server forgets an object; none for never.
    pub ttl_s: Option<u64>,
    /// The most this server's objects shall take, for the controller that evicts; none for no limit.
    pub capacity_bytes: Option<u64>,
}

impl RespOptions {
    /// One server, used as the peer uses it.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self {
            kind: "resp",
            nodes: vec![node],
            tls: None,
            is_cluster: false,
            username: String::new(),
            password: Secret::default(),
            key_prefix: String::new(),
            database: 0,
            workers: 8,
            queued_jobs_max: 16_384,
            request_timeout_ms: 5000,
            connect_timeout_ms: 10_000,
            ttl_s: None,
            capacity_bytes: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in ["localhost:6379", "10.0.0.1:1", "[::1]:6379"] {
            assert_eq!(Node::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "host",
            "host:",
            ":1",
            "host:0",
            "host:65536",
            "host:x",
            "user:password@host:1",
            "redis://host:1",
        ] {
            assert_eq!(Node::parse(text), None, "{text}");
        }
    }
}
