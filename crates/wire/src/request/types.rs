//! A request as a value.

use crate::allocation::AllocationRecord;
use crate::blend::{RopeRegistration, SegmentMatch};
use crate::engine_driven::EngineContext;
use crate::ids::IdArray;
use crate::key::CacheKey;
use crate::module_call::ModuleCall;
use crate::operation::Operation;
use crate::p2p::{MemoryLayout, ObjectKey};
use crate::registration::TensorRegistration;

/// One request, borrowing from its payload frames (`spec/wire.md 2`).
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "variants mean the operation of the same name, fields are its parameters there"
)]
pub enum Request<'a> {
    RegisterKvCache(TensorRegistration<'a>),
    UnregisterKvCache { instance_id: i64 },
    RegisterQCache(TensorRegistration<'a>),
    UnregisterQCache { instance_id: i64 },
    StoreQ(Store<'a>),
    Store(Store<'a>),
    Retrieve(Retrieve<'a>),
    Lookup { key: CacheKey<'a>, tp_size: i64 },
    QueryPrefetchStatus { request_id: &'a str },
    WaitPrefetchStatus { request_id: &'a str, timeout_s: f64 },
    FreeLookupLocks { key: CacheKey<'a>, tp_size: i64 },
    EndSession { request_id: &'a str },
    RegisterKvCacheEngineDrivenContext(EngineContext<'a>),
    UnregisterKvCacheEngineDrivenContext { instance_id: i64 },
    PrepareStore { key: CacheKey<'a>, instance_id: i64 },
    CommitStore { key: CacheKey<'a>, instance_id: i64, data: &'a [u8] },
    PrepareRetrieve { key: CacheKey<'a>, instance_id: i64 },
    CommitRetrieve { key: CacheKey<'a>, instance_id: i64 },
    Clear { force: bool },
    GetChunkSize,
    Ping { instance_id: Option<i64> },
    ReportBlockAllocation { instance_id: i64, model_name: &'a str, records: Vec<AllocationRecord<'a>> },
    Noop,
    CbRegisterRope(RopeRegistration<'a>),
    CbUnregisterRope { instance_id: i64 },
    CbRetrievePreComputed(SegmentRetrieve<'a>),
    CbUnifiedLookup { key: CacheKey<'a>, tp_size: i64 },
    P2pLookupAndLock { keys: Vec<ObjectKey<'a>>, layouts: Vec<(u32, MemoryLayout<'a>)> },
    P2pQueryLookupResults { task_id: i64 },
    P2pUnlockObjects { keys: Vec<ObjectKey<'a>> },
    GetExperimental,
    CbProtocolHandshake { client_version: i64 },
    CbReorderPlan { key: CacheKey<'a>, keep_prefix: i64, budget_ms: i64 },
    SubscribeKvEvents { instance_id: i64, model_name: &'a str, cursor: i64, max_events: i64 },
    ServerModuleCall(ModuleCall<'a>),
}

/// Store blocks of registered tensors.
#[derive(Clone, Debug)]
pub struct Store<'a> {
    /// The range stored.
    pub key: CacheKey<'a>,
    /// The engine worker.
    pub instance_id: i64,
    /// Blocks that hold the range, one list per kernel group.
    pub block_ids: Vec<IdArray<'a>>,
    /// What must have happened on the device before the blocks are read. Opaque, may be empty.
    pub event_handle: &'a [u8],
}

/// Retrieve into blocks of registered tensors.
#[derive(Clone, Debug)]
pub struct Retrieve<'a> {
    /// The range retrieved.
    pub key: CacheKey<'a>,
    /// The engine worker.
    pub instance_id: i64,
    /// Blocks to fill, one list per kernel group.
    pub block_ids: Vec<IdArray<'a>>,
    /// What must have happened on the device before the blocks are written. Opaque, may be empty.
    pub event_handle: &'a [u8],
    /// Tokens at the start of the range that are not wanted.
    pub skip_first_n_tokens: i64,
}

/// Retrieve segments matched by a blend lookup.
#[derive(Clone, Debug)]
pub struct SegmentRetrieve<'a> {
    /// The prompt.
    pub key: CacheKey<'a>,
    /// The segments.
    pub matches: Vec<SegmentMatch<'a>>,
    /// Blocks to fill, one list per kernel group.
    pub block_ids: Vec<IdArray<'a>>,
    /// The engine worker.
    pub instance_id: i64,
    /// What must have happened on the device before the blocks are written. Opaque, may be empty.
    pub event_handle: &'a [u8],
}

impl Request<'_> {
    /// The operation asked for.
    #[must_use]
    pub fn operation(&self) -> Operation {
        match self {
            Self::RegisterKvCache(_) => Operation::RegisterKvCache,
            Self::UnregisterKvCache { .. } => Operation::UnregisterKvCache,
            Self::RegisterQCache(_) => Operation::RegisterQCache,
            Self::UnregisterQCache { .. } => Operation::UnregisterQCache,
            Self::StoreQ(_) => Operation::StoreQ,
            Self::Store(_) => Operation::Store,
            Self::Retrieve(_) => Operation::Retrieve,
            Self::Lookup { .. } => Operation::Lookup,
            Self::QueryPrefetchStatus { .. } => Operation::QueryPrefetchStatus,
            Self::WaitPrefetchStatus { .. } => Operation::WaitPrefetchStatus,
            Self::FreeLookupLocks { .. } => Operation::FreeLookupLocks,
            Self::EndSession { .. } => Operation::EndSession,
            Self::RegisterKvCacheEngineDrivenContext(_) => Operation::RegisterKvCacheEngineDrivenContext,
            Self::UnregisterKvCacheEngineDrivenContext { .. } => {
                Operation::UnregisterKvCacheEngineDrivenContext
            }
            Self::PrepareStore { .. } => Operation::PrepareStore,
            Self::CommitStore { .. } => Operation::CommitStore,
            Self::PrepareRetrieve { .. } => Operation::PrepareRetrieve,
            Self::CommitRetrieve { .. } => Operation::CommitRetrieve,
            Self::Clear { .. } => Operation::Clear,
            Self::GetChunkSize => Operation::GetChunkSize,
            Self::Ping { .. } => Operation::Ping,
            Self::ReportBlockAllocation { .. } => Operation::ReportBlockAllocation,
            Self::Noop => Operation::Noop,
            Self::CbRegisterRope(_) => Operation::CbRegisterRope,
            Self::CbUnregisterRope { .. } => Operation::CbUnregisterRope,
            Self::CbRetrievePreComputed(_) => Operation::CbRetrievePreComputed,
            Self::CbUnifiedLookup { .. } => Operation::CbUnifiedLookup,
            Self::P2pLookupAndLock { .. } => Operation::P2pLookupAndLock,
            Self::P2pQueryLookupResults { .. } => Operation::P2pQueryLookupResults,
            Self::P2pUnlockObjects { .. } => Operation::P2pUnlockObjects,
            Self::GetExperimental => Operation::GetExperimental,
            Self::CbProtocolHandshake { .. } => Operation::CbProtocolHandshake,
            Self::CbReorderPlan { .. } => Operation::CbReorderPlan,
            Self::SubscribeKvEvents { .. } => Operation::SubscribeKvEvents,
            Self::ServerModuleCall(_) => Operation::ServerModuleCall,
        }
    }
}
