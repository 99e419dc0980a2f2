//! The operations of the protocol: names, numbers, and what kind of answer each has.

use std::fmt;

macro_rules! operations {
    ($(
        $(#[doc = $doc:literal])*
        $variant:ident, $name:literal, $id:expr, $payloads:literal, $result:ident, $order:ident;
    )*) => {
        /// An operation a client may ask for (`spec/wire.md 2`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Operation {
            /// Every operation, in the order of the specification's table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            const fn facts(self) -> Facts {
                match self {
                    $(Self::$variant => Facts {
                        name: $name,
                        legacy_id: $id,
                        payloads: $payloads,
                        result: ResultKind::$result,
                        order: Order::$order,
                    },)*
                }
            }

            pub(crate) fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

struct Facts {
    name: &'static str,
    legacy_id: Option<u8>,
    payloads: usize,
    result: ResultKind,
    order: Order,
}

/// What the answer to an operation looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultKind {
    /// Never a result frame: the response has two frames.
    None,
    /// Always a result frame.
    Body,
    /// A result frame, or none for "nothing".
    Optional,
    /// Any number of result frames, then a two-frame message that ends the stream.
    Stream,
}

/// What a client may rely on when it has several requests in flight on one connection (`spec/wire.md 1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Executed in the order sent, among the ordered operations of that connection.
    Sent,
    /// No order is promised.
    Any,
}

operations! {
    /// Register an engine's KV tensors.
    RegisterKvCache, "register_kv_cache", Some(1), 7, None, Any;
    /// Forget an engine's KV tensors.
    UnregisterKvCache, "unregister_kv_cache", Some(2), 1, None, Any;
    /// Register an engine's query tensors.
    RegisterQCache, "register_q_cache", Some(3), 7, None, Any;
    /// Forget an engine's query tensors.
    UnregisterQCache, "unregister_q_cache", Some(4), 1, None, Any;
    /// Store query tensors.
    StoreQ, "store_q", Some(5), 4, Body, Sent;
    /// Store blocks of registered tensors.
    Store, "store", Some(6), 4, Body, Sent;
    /// Retrieve into blocks of registered tensors.
    Retrieve, "retrieve", Some(7), 5, Body, Sent;
    /// Look a prompt up and lock what is found.
    Lookup, "lookup", Some(8), 2, None, Any;
    /// The result of a lookup so far.
    QueryPrefetchStatus, "query_prefetch_status", Some(9), 1, Optional, Any;
    /// The result of a lookup, waited for.
    WaitPrefetchStatus, "wait_prefetch_status", Some(10), 2, Optional, Any;
    /// Release locks a lookup took.
    FreeLookupLocks, "free_lookup_locks", Some(12), 2, None, Any;
    /// Forget a request.
    EndSession, "end_session", Some(13), 1, None, Any;
    /// Register an engine that copies by itself.
    RegisterKvCacheEngineDrivenContext, "register_kv_cache_engine_driven_context", Some(14), 1, Body, Any;
    /// Forget an engine that copies by itself.
    UnregisterKvCacheEngineDrivenContext, "unregister_kv_cache_engine_driven_context", Some(15), 1, None, Any;
    /// Reserve slots to write.
    PrepareStore, "prepare_store", Some(16), 2, Body, Sent;
    /// Publish written slots, or store the data carried along.
    CommitStore, "commit_store", Some(17), 3, Body, Sent;
    /// Where to read what a lookup locked.
    PrepareRetrieve, "prepare_retrieve", Some(18), 2, Body, Sent;
    /// Release what was read.
    CommitRetrieve, "commit_retrieve", Some(19), 2, Body, Sent;
    /// Drop everything cached.
    Clear, "clear", Some(20), 1, None, Any;
    /// Tokens per chunk.
    GetChunkSize, "get_chunk_size", Some(21), 0, Body, Any;
    /// Heartbeat.
    Ping, "ping", Some(22), 1, Body, Any;
    /// Tell which engine blocks were allocated.
    ReportBlockAllocation, "report_block_allocation", Some(23), 3, None, Any;
    /// Nothing, answered with `OK`.
    Noop, "noop", Some(24), 0, Body, Any;
    /// Register rotary embedding tables for blending.
    CbRegisterRope, "cb_register_rope", Some(25), 8, None, Any;
    /// Forget rotary embedding tables.
    CbUnregisterRope, "cb_unregister_rope", Some(26), 1, None, Any;
    /// Retrieve chunks matched out of order.
    CbRetrievePreComputed, "cb_retrieve_pre_computed", Some(27), 5, Body, Sent;
    /// Look up prefix and other matches at once.
    CbUnifiedLookup, "cb_unified_lookup", Some(28), 2, Optional, Any;
    /// Look objects up for another node and lock them.
    P2pLookupAndLock, "p2p_lookup_and_lock", Some(29), 2, Body, Any;
    /// Addresses of looked up objects.
    P2pQueryLookupResults, "p2p_query_lookup_results", Some(30), 1, Optional, Any;
    /// Release locked objects.
    P2pUnlockObjects, "p2p_unlock_objects", Some(31), 1, None, Any;
    /// Names of optional features that are on.
    GetExperimental, "get_experimental", Some(32), 0, Body, Any;
    /// Agree on a version of the blending operations.
    CbProtocolHandshake, "cb_protocol_handshake", Some(33), 1, Body, Any;
    /// Ask in which order to fill segments.
    CbReorderPlan, "cb_reorder_plan", None, 3, Body, Any;
    /// Follow what is stored and removed.
    SubscribeKvEvents, "subscribe_kv_events", None, 4, Stream, Any;
    /// Call a server-side extension.
    ServerModuleCall, "server_module_call", None, 1, Body, Any;
}

/// Operation by legacy id; the index is the id.
const BY_ID: [Option<Operation>; 34] = {
    let mut by_id = [None; 34];
    let mut index = 0;
    while index < Operation::ALL.len() {
        let operation = Operation::ALL[index];
        if let Some(id) = operation.facts().legacy_id {
            by_id[id as usize] = Some(operation);
        }
        index += 1;
    }
    by_id
};

impl Operation {
    pub(crate) fn from_id(id: i128) -> Option<Self> {
        *BY_ID.get(usize::try_from(id).ok()?)?
    }

    /// The name, as sent on the wire and used in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The number, for operations old enough to have one.
    #[must_use]
    pub const fn legacy_id(self) -> Option<u8> {
        self.facts().legacy_id
    }

    /// How many payload frames a request has.
    #[must_use]
    pub const fn payload_count(self) -> usize {
        self.facts().payloads
    }

    /// What the answer looks like.
    #[must_use]
    pub const fn result_kind(self) -> ResultKind {
        self.facts().result
    }

    /// What order a client relies on.
    #[must_use]
    pub const fn order(self) -> Order {
        self.facts().order
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
