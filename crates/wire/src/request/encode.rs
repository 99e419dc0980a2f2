//! Requests to payload frames, as an unmodified client sends them.

use super::types::{Request, Store};
use crate::error::WireError;
use crate::ids::IdArray;
use crate::key::CacheKey;
use crate::msgpack::Writer;
use crate::p2p::{ObjectKey, write_layouts};
use crate::registration::TensorRegistration;

/// Encodes the payload frames of `request`; the operation frame is [`crate::operation::Operation::to_frame`].
///
/// # Errors
/// [`WireError::TooLarge`].
pub fn encode_request(request: &Request<'_>) -> Result<Vec<Vec<u8>>, WireError> {
    let mut f = Frames(Vec::with_capacity(request.operation().payload_count()));
    match request {
        Request::RegisterKvCache(it) | Request::RegisterQCache(it) => tensors(&mut f, it)?,
        Request::UnregisterKvCache { instance_id }
        | Request::UnregisterQCache { instance_id }
        | Request::UnregisterKvCacheEngineDrivenContext { instance_id }
        | Request::CbUnregisterRope { instance_id } => f.int(*instance_id)?,
        Request::StoreQ(it) | Request::Store(it) => store(&mut f, it)?,
        Request::Retrieve(it) => {
            f.key(&it.key)?.int(it.instance_id)?;
            f.blocks(&it.block_ids)?.bin(it.event_handle)?.int(it.skip_first_n_tokens)?
        }
        Request::Lookup { key, tp_size }
        | Request::FreeLookupLocks { key, tp_size }
        | Request::CbUnifiedLookup { key, tp_size } => f.key(key)?.int(*tp_size)?,
        Request::QueryPrefetchStatus { request_id } | Request::EndSession { request_id } => {
            f.str(request_id)?
        }
        Request::WaitPrefetchStatus { request_id, timeout_s } => {
            f.str(request_id)?.frame(|w| w.float(*timeout_s))?
        }
        Request::RegisterKvCacheEngineDrivenContext(it) => f.frame(|w| it.write(w))?,
        Request::PrepareStore { key, instance_id }
        | Request::PrepareRetrieve { key, instance_id }
        | Request::CommitRetrieve { key, instance_id } => f.key(key)?.int(*instance_id)?,
        Request::CommitStore { key, instance_id, data } => f.key(key)?.int(*instance_id)?.bin(data)?,
        Request::Clear { force } => f.frame(|w| w.bool(*force))?,
        Request::GetChunkSize | Request::Noop | Request::GetExperimental => &mut f,
        Request::Ping { instance_id } => f.frame(|w| w.optional(*instance_id, Writer::int))?,
        Request::ReportBlockAllocation { instance_id, model_name, records } => {
            f.int(*instance_id)?.str(model_name)?;
            f.frame(|w| w.list(records, |w, record| record.write(w)))?
        }
        Request::CbRegisterRope(it) => {
            f.int(it.instance_id)?;
            f.frame(|w| w.list(&it.cos_sin_caches, |w, tensor| tensor.write(w)))?;
            f.int(i64::from(it.head_size))?.frame(|w| w.bool(it.is_neox_style))?;
            f.numbers(&it.group_to_cache)?;
            f.frame(|w| w.list(&it.group_rotations, |w, range| write_numbers(w, range)))?;
            f.numbers(&it.group_head_sizes)?.str(it.kv_quant)?
        }
        Request::CbRetrievePreComputed(it) => {
            f.key(&it.key)?.frame(|w| w.list(&it.matches, |w, segment| segment.write(w)))?;
            f.blocks(&it.block_ids)?.int(it.instance_id)?.bin(it.event_handle)?
        }
        Request::P2pLookupAndLock { keys, layouts } => {
            f.objects(keys)?.frame(|w| write_layouts(w, layouts))?
        }
        Request::P2pQueryLookupResults { task_id } => f.int(*task_id)?,
        Request::P2pUnlockObjects { keys } => f.objects(keys)?,
        Request::CbProtocolHandshake { client_version } => f.int(*client_version)?,
        Request::CbReorderPlan { key, keep_prefix, budget_ms } => {
            f.key(key)?.int(*keep_prefix)?.int(*budget_ms)?
        }
        Request::SubscribeKvEvents { instance_id, model_name, cursor, max_events } => {
            f.int(*instance_id)?.str(model_name)?.int(*cursor)?.int(*max_events)?
        }
        Request::ServerModuleCall(it) => f.frame(|w| it.write(w))?,
    };
    Ok(f.0)
}

fn tensors<'f>(f: &'f mut Frames, it: &TensorRegistration<'_>) -> Result<&'f mut Frames, WireError> {
    f.int(it.instance_id)?;
    f.frame(|w| w.list(&it.tensors, |w, tensor| tensor.write(w)))?;
    f.str(it.model_name)?.int(i64::from(it.world_size))?.str(it.engine_type.name())?;
    f.frame(|w| it.layout_hints.write(w))?;
    f.frame(|w| w.list(&it.engine_groups, |w, group| group.write(w)))
}

fn store<'f>(f: &'f mut Frames, it: &Store<'_>) -> Result<&'f mut Frames, WireError> {
    f.key(&it.key)?.int(it.instance_id)?.blocks(&it.block_ids)?.bin(it.event_handle)
}

fn write_numbers(writer: &mut Writer<'_>, numbers: &[u32]) {
    writer.list(numbers, |w, number| w.uint(u64::from(*number)));
}

/// Frames written so far.
struct Frames(Vec<Vec<u8>>);

impl Frames {
    fn frame(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> Result<&mut Self, WireError> {
        self.0.push(Writer::document(write)?);
        Ok(self)
    }

    fn key(&mut self, key: &CacheKey<'_>) -> Result<&mut Self, WireError> {
        self.frame(|w| key.write(w))
    }

    fn int(&mut self, value: i64) -> Result<&mut Self, WireError> {
        self.frame(|w| w.int(value))
    }

    fn str(&mut self, text: &str) -> Result<&mut Self, WireError> {
        self.frame(|w| w.str(text))
    }

    fn bin(&mut self, bytes: &[u8]) -> Result<&mut Self, WireError> {
        self.frame(|w| w.bin(bytes))
    }

    fn blocks(&mut self, lists: &[IdArray<'_>]) -> Result<&mut Self, WireError> {
        self.frame(|w| w.list(lists, |w, list| list.write(w)))
    }

    fn numbers(&mut self, numbers: &[u32]) -> Result<&mut Self, WireError> {
        self.frame(|w| write_numbers(w, numbers))
    }

    fn objects(&mut self, keys: &[ObjectKey<'_>]) -> Result<&mut Self, WireError> {
        self.frame(|w| w.list(keys, |w, key| key.write(w)))
    }
}
