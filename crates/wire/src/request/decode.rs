//! Payload frames to requests.

use super::payload::Payloads;
use super::types::{Request, Retrieve, SegmentRetrieve, Store};
use crate::allocation::AllocationRecord;
use crate::blend::{RopeRegistration, SegmentMatch, read_group_numbers};
use crate::device::TensorDescriptor;
use crate::engine_driven::EngineContext;
use crate::error::{ValueError, WireError};
use crate::ids::IdArray;
use crate::key::KnownIds;
use crate::limits;
use crate::module_call::ModuleCall;
use crate::msgpack::{Reader, narrow};
use crate::name;
use crate::operation::Operation;
use crate::p2p::{ObjectKey, read_layouts};
use crate::registration::{EngineGroup, EngineType, LayoutHints, TensorRegistration};

/// Decodes the payload frames of `operation`.
///
/// # Errors
/// [`WireError::PayloadCount`] and [`WireError::Payload`].
pub fn decode_request<T: AsRef<[u8]>>(
    operation: Operation,
    payloads: &[T],
) -> Result<Request<'_>, WireError> {
    decode_request_with(operation, payloads, &mut |_, _| None)
}

/// Decodes the payload frames of `operation`, asking `known` about the token ids of a key; see
/// [`crate::key::CacheKey::decode_with`].
///
/// # Errors
/// As [`decode_request`].
pub fn decode_request_with<'a, T: AsRef<[u8]>>(
    operation: Operation,
    payloads: &'a [T],
    known: KnownIds<'_, 'a>,
) -> Result<Request<'a>, WireError> {
    let mut p = Payloads::new(operation, payloads, known)?;
    Ok(match operation {
        Operation::RegisterKvCache => Request::RegisterKvCache(tensors(&mut p)?),
        Operation::UnregisterKvCache => Request::UnregisterKvCache { instance_id: p.int()? },
        Operation::RegisterQCache => Request::RegisterQCache(tensors(&mut p)?),
        Operation::UnregisterQCache => Request::UnregisterQCache { instance_id: p.int()? },
        Operation::StoreQ => Request::StoreQ(store(&mut p)?),
        Operation::Store => Request::Store(store(&mut p)?),
        Operation::Retrieve => Request::Retrieve(retrieve(&mut p)?),
        Operation::Lookup => Request::Lookup { key: p.key()?, tp_size: p.int()? },
        Operation::QueryPrefetchStatus => {
            Request::QueryPrefetchStatus { request_id: p.read(name::request_id)? }
        }
        Operation::WaitPrefetchStatus => Request::WaitPrefetchStatus {
            request_id: p.read(name::request_id)?,
            timeout_s: p.read(Reader::float)?,
        },
        Operation::FreeLookupLocks => Request::FreeLookupLocks { key: p.key()?, tp_size: p.int()? },
        Operation::EndSession => Request::EndSession { request_id: p.read(name::request_id)? },
        Operation::RegisterKvCacheEngineDrivenContext => {
            Request::RegisterKvCacheEngineDrivenContext(p.read(EngineContext::read)?)
        }
        Operation::UnregisterKvCacheEngineDrivenContext => {
            Request::UnregisterKvCacheEngineDrivenContext { instance_id: p.int()? }
        }
        Operation::PrepareStore => Request::PrepareStore { key: p.key()?, instance_id: p.int()? },
        Operation::CommitStore => {
            Request::CommitStore { key: p.key()?, instance_id: p.int()?, data: p.bin()? }
        }
        Operation::PrepareRetrieve => Request::PrepareRetrieve { key: p.key()?, instance_id: p.int()? },
        Operation::CommitRetrieve => Request::CommitRetrieve { key: p.key()?, instance_id: p.int()? },
        Operation::Clear => Request::Clear { force: p.bool()? },
        Operation::GetChunkSize => Request::GetChunkSize,
        // `int | None` is checked strictly by the peer.
        Operation::Ping => Request::Ping { instance_id: p.read(|r| r.optional(Reader::int_as))? },
        Operation::ReportBlockAllocation => Request::ReportBlockAllocation {
            instance_id: p.int()?,
            model_name: p.read(name::model)?,
            records: p.read(|r| r.list(limits::ALLOCATION_RECORDS_MAX, AllocationRecord::read))?,
        },
        Operation::Noop => Request::Noop,
        Operation::CbRegisterRope => Request::CbRegisterRope(rope(&mut p)?),
        Operation::CbUnregisterRope => Request::CbUnregisterRope { instance_id: p.int()? },
        Operation::CbRetrievePreComputed => Request::CbRetrievePreComputed(segment_retrieve(&mut p)?),
        Operation::CbUnifiedLookup => Request::CbUnifiedLookup { key: p.key()?, tp_size: p.int()? },
        Operation::P2pLookupAndLock => {
            Request::P2pLookupAndLock { keys: p.read(object_keys)?, layouts: p.read(read_layouts)? }
        }
        Operation::P2pQueryLookupResults => Request::P2pQueryLookupResults { task_id: p.int()? },
        Operation::P2pUnlockObjects => Request::P2pUnlockObjects { keys: p.read(object_keys)? },
        Operation::GetExperimental => Request::GetExperimental,
        Operation::CbProtocolHandshake => Request::CbProtocolHandshake { client_version: p.int()? },
        Operation::CbReorderPlan => {
            Request::CbReorderPlan { key: p.key()?, keep_prefix: p.int()?, budget_ms: p.int()? }
        }
        Operation::SubscribeKvEvents => Request::SubscribeKvEvents {
            instance_id: p.int()?,
            model_name: p.read(name::model)?,
            cursor: p.int()?,
            max_events: p.int()?,
        },
        Operation::ServerModuleCall => Request::ServerModuleCall(p.read(ModuleCall::read)?),
    })
}

fn tensors<'a, T: AsRef<[u8]>>(p: &mut Payloads<'a, '_, T>) -> Result<TensorRegistration<'a>, WireError> {
    Ok(TensorRegistration {
        instance_id: p.int()?,
        tensors: p.read(tensor_list)?,
        model_name: p.read(name::model)?,
        world_size: p.read(lenient_count)?,
        engine_type: p.read(EngineType::read)?,
        layout_hints: p.read(LayoutHints::read)?,
        engine_groups: p.read(|r| r.list(limits::ENGINE_GROUPS_MAX, EngineGroup::read))?,
    })
}

fn store<'a, T: AsRef<[u8]>>(p: &mut Payloads<'a, '_, T>) -> Result<Store<'a>, WireError> {
    Ok(Store {
        key: p.key()?,
        instance_id: p.int()?,
        block_ids: p.read(block_lists)?,
        event_handle: p.bin()?,
    })
}

fn retrieve<'a, T: AsRef<[u8]>>(p: &mut Payloads<'a, '_, T>) -> Result<Retrieve<'a>, WireError> {
    Ok(Retrieve {
        key: p.key()?,
        instance_id: p.int()?,
        block_ids: p.read(block_lists)?,
        event_handle: p.bin()?,
        skip_first_n_tokens: p.int()?,
    })
}

fn segment_retrieve<'a, T: AsRef<[u8]>>(
    p: &mut Payloads<'a, '_, T>,
) -> Result<SegmentRetrieve<'a>, WireError> {
    Ok(SegmentRetrieve {
        key: p.key()?,
        matches: p.read(SegmentMatch::read_list)?,
        block_ids: p.read(block_lists)?,
        instance_id: p.int()?,
        event_handle: p.bin()?,
    })
}

fn rope<'a, T: AsRef<[u8]>>(p: &mut Payloads<'a, '_, T>) -> Result<RopeRegistration<'a>, WireError> {
    Ok(RopeRegistration {
        instance_id: p.int()?,
        cos_sin_caches: p.read(tensor_list)?,
        head_size: p.read(lenient_count)?,
        is_neox_style: p.bool()?,
        group_to_cache: p.read(read_group_numbers)?,
        group_rotations: p.read(|r| r.list(limits::ROPE_GROUPS_MAX, read_group_numbers))?,
        group_head_sizes: p.read(read_group_numbers)?,
        kv_quant: p.read(name::short)?,
    })
}

fn lenient_count(reader: &mut Reader<'_>) -> Result<u32, ValueError> {
    narrow(i128::from(super::payload::lenient_int(reader)?))
}

fn tensor_list<'a>(reader: &mut Reader<'a>) -> Result<Vec<TensorDescriptor<'a>>, ValueError> {
    reader.list(limits::TENSORS_MAX, TensorDescriptor::read)
}

fn block_lists<'a>(reader: &mut Reader<'a>) -> Result<Vec<IdArray<'a>>, ValueError> {
    reader.list(limits::BLOCK_LISTS_MAX, IdArray::read)
}

fn object_keys<'a>(reader: &mut Reader<'a>) -> Result<Vec<ObjectKey<'a>>, ValueError> {
    reader.list(limits::OBJECTS_MAX, ObjectKey::read)
}
