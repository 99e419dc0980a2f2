//! The kinds of events and their JSON form.

use serde::Serialize;

/// One thing that happened. Serialised as an object whose `event` names the kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A worker committed chunks.
    Store {
        /// The model.
        model_name: &'a str,
        /// The tenant.
        cache_salt: &'a str,
        /// The request.
        request_id: &'a str,
        /// Rank of the worker.
        worker_id: u32,
        /// Chunks that are readable now and were not before.
        chunks: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// A scheduler asked for a prompt.
    Lookup {
        /// The model.
        model_name: &'a str,
        /// The tenant.
        cache_salt: &'a str,
        /// The request.
        request_id: &'a str,
        /// Whole chunks of the prompt.
        requested_chunks: usize,
        /// Those that memory can serve.
        hit_chunks: usize,
        /// Whether the second tier is asked for the rest.
        asks_l2: bool,
    },
    /// A worker has read chunks.
    Retrieve {
        /// The model.
        model_name: &'a str,
        /// The request.
        request_id: &'a str,
        /// Rank of the worker.
        worker_id: u32,
        /// Chunks.
        chunks: usize,
    },
    /// Objects left memory to make room.
    Evict {
        /// How many.
        objects: usize,
        /// Bytes in use after it.
        used_bytes: u64,
    },
    /// Chunks came back from the second tier for a lookup.
    L2Load {
        /// The model.
        model_name: &'a str,
        /// The request.
        request_id: &'a str,
        /// Objects loaded.
        objects: usize,
        /// Chunks the lookup can be served with now.
        hit_chunks: usize,
    },
    /// An object was not what it should be; it was dropped and not served.
    Corrupt {
        /// Where it was found: `store` to L2, `load` from it, or `retrieve`.
        at: &'a str,
        /// `bytes` or `layout`.
        cause: &'a str,
        /// The model.
        model_name: &'a str,
        /// The tenant.
        cache_salt: &'a str,
        /// The chunk, in hexadecimal.
        chunk_hash: &'a str,
        /// The adapter it came from; empty for memory.
        adapter: &'a str,
    },
    /// A worker came or went.
    Instance {
        /// Its id.
        instance_id: i64,
        /// `registered`, `unregistered` or `reaped`.
        change: &'a str,
        /// The model, where known.
        model_name: &'a str,
    },
    /// L1 was cleared.
    Clear {
        /// Whether objects in use were cleared, too.
        force: bool,
    },
    /// The list of second-tier adapters changed.
    Adapter {
        /// Its id.
        adapter: &'a str,
        /// `attached`, `paused`, `resumed`, `breaker_reset`, `draining` or `detached`.
        change: &'a str,
    },
    /// Settings were changed while the server ran.
    Config {
        /// The version of the configuration now.
        version: u64,
    },
    /// A tenant's quota changed.
    Quota {
        /// The tenant.
        cache_salt: &'a str,
        /// What it may have; `None` leaves it to the default.
        limit_bytes: Option<u64>,
    },
    /// Readiness changed.
    Health {
        /// Whether everything critical runs.
        healthy: bool,
        /// What does not.
        missing: &'a [&'a str],
    },
}

impl Event<'_> {
    /// Every kind, as [`Event::kind`] has them.
    pub const KINDS: [&'static str; 11] = [
        "store", "lookup", "retrieve", "evict", "l2_load", "corrupt", "instance", "clear", "adapter",
        "config", "health",
    ];

    /// The kind, as `event` says it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Store { .. } => "store",
            Self::Lookup { .. } => "lookup",
            Self::Retrieve { .. } => "retrieve",
            Self::Evict { .. } => "evict",
            Self::L2Load { .. } => "l2_load",
            Self::Corrupt { .. } => "corrupt",
            Self::Instance { .. } => "instance",
            Self::Clear { .. } => "clear",
            Self::Adapter { .. } => "adapter",
            Self::Config { .. } => "config",
            Self::Quota { .. } => "quota",
            Self::Health { .. } => "health",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_the_tag_and_listed() {
        let (model_name, cache_salt, request_id, worker_id, chunks) = ("m", "", "r", 0, 1);
        let all = [
            Event::Store { model_name, cache_salt, request_id, worker_id, chunks, bytes: 2 },
            Event::Lookup {
                model_name,
                cache_salt,
                request_id,
                requested_chunks: 1,
                hit_chunks: 1,
                asks_l2: false,
            },
            Event::Retrieve { model_name, request_id, worker_id, chunks },
            Event::Evict { objects: 1, used_bytes: 2 },
            Event::L2Load { model_name, request_id, objects: 1, hit_chunks: 1 },
            Event::Corrupt {
                at: "load",
                cause: "bytes",
                model_name,
                cache_salt,
                chunk_hash: "00",
                adapter: "fs-0",
            },
            Event::Instance { instance_id: 1, change: "reaped", model_name },
            Event::Clear { force: false },
            Event::Adapter { adapter: "a", change: "paused" },
            Event::Config { version: 1 },
            Event::Health { healthy: false, missing: &["rpc"] },
        ];
        for event in &all {
            assert_eq!(serde_json::to_value(event).unwrap()["event"], event.kind());
        }
        assert_eq!(all.map(|event| event.kind()), Event::KINDS);
    }
}
