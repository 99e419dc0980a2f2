//! The kinds of events and their JSON form.

use serde::Serialize;

/// What there is to know of one kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindDoc {
    /// The kind, as `event` says it.
    pub kind: &'static str,
    /// When it comes.
    pub meaning: &'static [&'static str],
    /// Its members, each with what it says.
    pub fields: &'static [FieldDoc],
}

/// What there is to know of one member of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldDoc {
    /// Its name.
    pub name: &'static str,
    /// Its type, as this code has it.
    pub kind: &'static str,
    /// What it says.
    pub meaning: &'static [&'static str],
}

/// The events, once: the type, the list of kinds and the reference page are all made of this.
macro_rules! events {
    ($($(#[doc = $meaning:literal])+ $tag:literal = $name:ident {
        $($(#[doc = $says:literal])+ $field:ident: $type:ty,)+
    },)+) => {
        /// One thing that happened. Serialised as an object whose `event` names the kind.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "event")]
        pub enum Event<'a> {
            $($(#[doc = $meaning])+ #[serde(rename = $tag)] $name {
                $($(#[doc = $says])+ $field: $type,)+
            },)+
        }

        impl Event<'_> {
            /// Every kind, as [`Event::kind`] has them.
            pub const KINDS: &'static [&'static str] = &[$($tag),+];

            /// Every kind with its members.
            pub const DOCS: &'static [KindDoc] = &[$(KindDoc {
                kind: $tag,
                meaning: &[$($meaning),+],
                fields: &[$(FieldDoc {
                    name: stringify!($field),
                    kind: stringify!($type),
                    meaning: &[$($says),+],
                }),+],
            }),+];

            /// The kind, as `event` says it.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $tag,)+
                }
            }
        }
    };
}

events! {
    /// A worker committed chunks.
    "store" = Store {
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
    "lookup" = Lookup {
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
    "retrieve" = Retrieve {
        /// The model.
        model_name: &'a str,
        /// The request.
        request_id: &'a str,
        /// Rank of the worker.
        worker_id: u32,
        /// Chunks.
        chunks: usize,
    },
    /// Memory is above its watermark: a pass of eviction begins. It waits for nobody; hints that come
    /// meanwhile count for what is still to go.
    "pressure" = Pressure {
        /// Bytes in use.
        used_bytes: u64,
        /// Bytes there are.
        capacity_bytes: u64,
        /// Objects that can be read.
        objects: u64,
    },
    /// Objects left memory to make room.
    "evict" = Evict {
        /// How many.
        objects: usize,
        /// Bytes in use after it.
        used_bytes: u64,
    },
    /// Chunks came back from the second tier for a lookup.
    "l2_load" = L2Load {
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
    "corrupt" = Corrupt {
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
    "instance" = Instance {
        /// Its id.
        instance_id: i64,
        /// `registered`, `unregistered` or `reaped`.
        change: &'a str,
        /// The model, where known.
        model_name: &'a str,
    },
    /// L1 was cleared.
    "clear" = Clear {
        /// Whether objects in use were cleared, too.
        force: bool,
    },
    /// The list of second-tier adapters changed.
    "adapter" = Adapter {
        /// Its id.
        adapter: &'a str,
        /// `attached`, `paused`, `resumed`, `breaker_reset`, `draining` or `detached`.
        change: &'a str,
    },
    /// Settings were changed while the server ran.
    "config" = Config {
        /// The version of the configuration now.
        version: u64,
    },
    /// A tenant's quota changed.
    "quota" = Quota {
        /// The tenant.
        cache_salt: &'a str,
        /// What it may have; `None` leaves it to the default.
        limit_bytes: Option<u64>,
    },
    /// Readiness changed.
    "health" = Health {
        /// Whether everything critical runs.
        healthy: bool,
        /// What does not.
        missing: &'a [&'a str],
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_the_tag_and_members_are_as_documented() {
        let event = Event::Quota { cache_salt: "a", limit_bytes: None };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event"], event.kind());
        let doc = Event::DOCS.iter().find(|doc| doc.kind == "quota").unwrap();
        for field in doc.fields {
            assert!(json.get(field.name).is_some(), "{field:?}");
        }
        assert_eq!(json.as_object().unwrap().len(), doc.fields.len() + 1);
        assert!(Event::KINDS.contains(&"quota"));
    }
}
