//! Transfers whose bytes come in messages, as pickled tensors (`spec/transfer-modes.md` 3). Copies are made
//! by workers.

use bytes::Bytes;
use larder_core::layout::ObjectLayout;
use larder_wire::engine_driven::PrepareRetrieveResult;
use larder_wire::pickle::{PickledTensor, Piece, TensorSpec, read_tensors, write_tensors};
use larder_wire::{Operation, Response};

use super::answer::Answer;
use super::outcome::{Job, Outcome};
use larder_engine::{ConnectionId, EngineError, OwnedKey, PromptKey, Requests, RetrievePlan};

/// Stores the tensors of `data`, one per chunk of the key's range. `on_stored` is called when that is done.
pub(super) fn store(
    engine: Requests,
    key: &PromptKey<'_>,
    instance_id: i64,
    connection: ConnectionId,
    tokens: Option<Vec<u32>>,
    data: Bytes,
    on_stored: impl FnOnce() + Send + 'static,
) -> Outcome {
    let key = OwnedKey::from(key);
    let work = Box::new(move || {
        let stored = read_tensors(&data).map_err(|error| error.to_string()).and_then(|tensors| {
            let mut packed = Vec::new();
            let write = |index: usize, offset: u64, layout: &ObjectLayout| {
                let bytes = chunk_bytes(&tensors, index, layout, &mut packed)?;
                engine.pool().write_at(offset, bytes).map_err(EngineError::from)
            };
            let tokens = tokens.as_deref();
            let stored = engine.store_bytes(&key.borrow(), instance_id, connection, tokens, write);
            stored.map_err(|error| error.to_string())
        });
        let stored = stored.unwrap_or_else(|reason| {
            tracing::warn!("{} of instance {instance_id}: {reason}", Operation::CommitStore);
            false
        });
        if stored {
            on_stored();
        }
        Answer::of(&Response::Bool(stored))
    });
    Outcome::Job(Job { work, answers_with_chunks: false })
}

/// Answers with the chunks of `plan` as pickled tensors and gives their leases back. Copies all of them: for
/// a worker thread.
pub(super) fn retrieve(
    engine: &Requests,
    key: &PromptKey<'_>,
    instance_id: i64,
    connection: ConnectionId,
    plan: &RetrievePlan,
) -> Answer {
    let body = pickle(engine, plan);
    if let Err(error) = engine.commit_retrieve(key, instance_id, connection) {
        tracing::warn!("{} of instance {instance_id}: {error}", Operation::PrepareRetrieve);
    }
    body.unwrap_or_else(|reason| {
        tracing::warn!("{} of instance {instance_id}: {reason}", Operation::PrepareRetrieve);
        Answer::of(&Response::PrepareRetrieve(PrepareRetrieveResult::miss()))
    })
}

/// The bytes of the chunk at `index`, checked against what the worker registered; packed into `packed` if
/// they are not so already.
fn chunk_bytes<'t>(
    tensors: &'t [PickledTensor<'t>],
    index: usize,
    layout: &ObjectLayout,
    packed: &'t mut Vec<u8>,
) -> Result<&'t [u8], EngineError> {
    let wrong = |got: String| EngineError::WrongChunk {
        index,
        got,
        want: format!("{:?} of {}", layout.shape(), layout.dtype()),
    };
    let Some(tensor) = tensors.get(index) else {
        return Err(wrong(format!("missing: {} tensors came", tensors.len())));
    };
    if tensor.shape() != layout.shape() || tensor.dtype() != layout.dtype() {
        return Err(wrong(format!("{:?} of {}", tensor.shape(), tensor.dtype().name())));
    }
    if let Some(bytes) = tensor.as_packed() {
        return Ok(bytes);
    }
    packed.resize(usize::try_from(layout.bytes()).unwrap_or(usize::MAX), 0);
    tensor.copy_to(tensor.dtype(), packed).map_err(|error| wrong(error.to_string()))?;
    Ok(packed)
}

fn pickle(engine: &Requests, plan: &RetrievePlan) -> Result<Answer, String> {
    let tensor = TensorSpec { dtype: plan.layout.dtype(), shape: plan.layout.shape() };
    let pieces = write_tensors(&vec![tensor; plan.slots.len()]).map_err(|error| error.to_string())?;
    let length = pieces.iter().map(Piece::len).sum();
    let (head, tail) = PrepareRetrieveResult::around_data(length).map_err(|error| error.to_string())?;
    let mut body = Vec::with_capacity(head.len() + length + tail.len());
    body.extend_from_slice(&head);
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => body.extend_from_slice(&bytes),
            Piece::Tensor { index, length } => {
                let offset = plan.slots[index].offset;
                engine.pool().append_to(offset, length, &mut body).map_err(|error| error.to_string())?;
            }
        }
    }
    body.extend_from_slice(&tail);
    Ok(Answer::Body(body.into()))
}
