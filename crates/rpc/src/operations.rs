//! What each operation does: from a decoded request to an answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_core::hash::ChunkHasher;
use larder_core::key::TokenRange;
use larder_core::layout::EngineGeometry;
use larder_wire::engine_driven::{EngineContext, PoolLocation, PrepareRetrieveResult, PrepareStoreResult};
use larder_wire::{CacheKey, Operation, Request, Response};

use super::answer::Answer;
use super::chunk_sizes::ChunkSizes;
use super::config::FrontConfig;
use super::hashing::{Hashing, tokens_to_end, unhashed};
use super::outcome::{Job, Outcome, Refusal, Subscription};
use super::payload;
use super::prompts::PromptSource;
use super::request::{EncodedRequest, Origin};
use super::retrieve::{self, wire_slots};
use super::transfer_log::{Direction, TransferLog};
use larder_engine::{ConnectionId, EngineError, Geometry, PromptKey, Requests, Slot};

/// Most events in one batch of a stream (`spec/cache-semantics.md` 12).
const EVENTS_PER_BATCH_MAX: usize = 1_024;

/// Prompts longer than this are hashed only for a model that somebody has registered.
const LONG_PROMPT_TOKENS: usize = 16 << 10;

/// What operations work with. Any thread may do one.
pub(super) struct Operations {
    pub(super) engine: Requests,
    pub(super) config: FrontConfig,
    pub(super) hasher: ChunkHasher,
    pub(super) chunk_sizes: ChunkSizes,
    pub(super) transfers: Arc<TransferLog>,
}

impl Operations {
    /// As [`Self::handle`]; a panic fails this request alone.
    pub(super) fn handle_guarded(
        &self,
        request: &EncodedRequest,
        patient: bool,
        prompts: &mut dyn PromptSource,
    ) -> Outcome {
        let handled = catch_unwind(AssertUnwindSafe(|| self.handle(request, patient, prompts)));
        handled.unwrap_or_else(|_| {
            tracing::error!("{}: the handler panicked; the request was refused", request.operation);
            Outcome::Panicked
        })
    }

    /// Does what is asked. Every failure is an answer of the operation's own type where it has one that says
    /// so, else a refusal that lets the client fail at once.
    ///
    /// A store for which the pool is about to grow is answered with [`Outcome::RoomIsComing`] if the caller
    /// is `patient`.
    fn handle(&self, request: &EncodedRequest, patient: bool, prompts: &mut dyn PromptSource) -> Outcome {
        let operation = request.operation;
        let refusal = match self.try_handle(request, patient, prompts) {
            Ok(outcome) => return outcome,
            Err(refusal) => refusal,
        };
        let text = match &refusal {
            Refusal::Engine(error) => format!("{operation}: {error}"),
            Refusal::Unsupported(hint) => {
                tracing::warn!("{operation}: {hint}");
                format!("{operation}: {hint}")
            }
            Refusal::Argument(text) => format!("{operation}: {text}"),
            Refusal::Wire(error) => error.to_string(),
        };
        let answer = match refusal {
            Refusal::Engine(error) => self.soft_answer(operation, &error),
            Refusal::Unsupported(_) => operation.negative_result().and_then(|negative| body(&negative).ok()),
            Refusal::Argument(_) | Refusal::Wire(_) => None,
        };
        Outcome::Now(answer.unwrap_or(Answer::Refused(text)))
    }

    /// The answer that tells an unmodified client "not done" without stopping its engine.
    fn soft_answer(&self, operation: Operation, error: &EngineError) -> Option<Answer> {
        if let EngineError::UnknownInstance(_) = error {
            tracing::warn!("{operation}: {error}; it is told so at its next ping");
            if operation == Operation::PrepareStore {
                self.engine.counters().unknown_instance_stores.add(1);
                let nothing =
                    PrepareStoreResult::Slots { slots: Vec::new(), chunk_indices: (&[][..]).into() };
                return body(&Response::PrepareStore(nothing)).ok();
            }
        }
        operation.negative_result().and_then(|negative| body(&negative).ok())
    }

    fn try_handle(
        &self,
        encoded: &EncodedRequest,
        patient: bool,
        prompts: &mut dyn PromptSource,
    ) -> Result<Outcome, Refusal> {
        let EncodedRequest { payloads, origin, .. } = encoded;
        let (engine, connection) = (&self.engine, origin.connection);
        let (request, mut prompts) = Hashing::decode(&self.hasher, encoded, prompts)?;
        Ok(match request {
            Request::Noop => now(&Response::OK)?,
            Request::GetChunkSize => {
                self.chunk_sizes.note_asked(connection);
                now(&Response::Int(engine.config().chunk_size.into()))?
            }
            Request::GetExperimental => {
                now(&Response::StrList(self.config.experimental.iter().map(String::as_str).collect()))?
            }
            Request::Ping { instance_id } => now(&Response::Bool(engine.ping(instance_id, connection)))?,
            Request::RegisterKvCacheEngineDrivenContext(context) => self.register(&context, connection)?,
            Request::UnregisterKvCacheEngineDrivenContext { instance_id } => {
                engine.unregister(instance_id, connection);
                DONE
            }
            Request::Lookup { key, .. } => self.lookup(&key, connection, &mut prompts)?,
            Request::QueryPrefetchStatus { request_id } => {
                now(&self.lookup_answer(request_id, engine.collect(request_id, connection)))?
            }
            Request::WaitPrefetchStatus { request_id, timeout_s } => {
                match engine.collect(request_id, connection) {
                    None => Outcome::WaitForLookup(request_id.into(), patience(timeout_s)?),
                    answered => now(&self.lookup_answer(request_id, answered))?,
                }
            }
            Request::FreeLookupLocks { key, .. } => {
                engine.free_leases(&unhashed(&key)?, connection);
                DONE
            }
            Request::EndSession { request_id } => {
                engine.end_session(request_id, connection);
                prompts.forget(request_id);
                DONE
            }
            Request::PrepareStore { key, instance_id } => {
                self.prepare_store(&prompts.key(&key)?, instance_id, connection, patient)?
            }
            Request::CommitStore { key, instance_id, data } => {
                let data = (!data.is_empty()).then(|| payloads[2].slice_ref(data));
                self.commit_store(&key, &prompts.key(&key)?, instance_id, connection, data)?
            }
            Request::PrepareRetrieve { key, instance_id } => {
                self.prepare_retrieve(&prompts.key(&key)?, instance_id, connection)?
            }
            Request::CommitRetrieve { key, instance_id } => {
                engine.commit_retrieve(&prompts.key(&key)?, instance_id, connection)?;
                self.transfers.end(Direction::Retrieve, instance_id, key.request_id, self.tokens(&key));
                now(&Response::Bool(true))?
            }
            Request::Clear { force } => self.clear(force, origin)?,
            Request::ReportBlockAllocation { records, .. } => {
                let blocks: usize = records.iter().map(|record| record.new_block_ids.len()).sum();
                engine.counters().reported_blocks.add(blocks as u64);
                DONE
            }
            Request::SubscribeKvEvents { instance_id, model_name, cursor, max_events } => {
                subscription(instance_id, model_name, cursor, max_events)?
            }
            other => return Err(Refusal::Unsupported(unsupported(other.operation()))),
        })
    }

    fn lookup(
        &self,
        key: &CacheKey<'_>,
        connection: ConnectionId,
        prompts: &mut Hashing<'_>,
    ) -> Result<Outcome, Refusal> {
        let key = if self.is_in_vain(key, connection) {
            PromptKey { range: TokenRange { start: 0, end: 0 }, ..unhashed(key)? }
        } else {
            let token_ids = self.engine.wants_tokens_of_loads().then(|| tokens_to_end(key).into());
            PromptKey { token_ids, ..prompts.key(key)? }
        };
        self.engine.lookup(&key, connection)?;
        Ok(DONE)
    }

    /// Whether a lookup comes to nothing whatever its tokens are, so that they need not be hashed.
    fn is_in_vain(&self, key: &CacheKey<'_>, connection: ConnectionId) -> bool {
        if self.chunk_sizes.misleads(connection, key.model_name) {
            self.engine.counters().misled_lookups.add(1);
            return true;
        }
        key.token_ids.len() > LONG_PROMPT_TOKENS && !self.engine.has_model(key.model_name, key.world_size)
    }

    /// The answer to who asks what a lookup found, and a line of the log about it.
    pub(super) fn lookup_answer(&self, request_id: &str, chunks: Option<usize>) -> Response<'static> {
        if let Some(chunks) = chunks {
            let tokens = chunks as u64 * u64::from(self.engine.config().chunk_size);
            tracing::debug!("lookup of request `{}` found {tokens} tokens", request_id.escape_debug());
        }
        found(chunks)
    }

    /// Tokens of the whole chunks in a key's range.
    fn tokens(&self, key: &CacheKey<'_>) -> u64 {
        let chunk = u64::from(self.engine.config().chunk_size);
        key.end.saturating_sub(key.start) / chunk * chunk
    }

    fn shares_memory(&self) -> bool {
        !self.config.shm_name.is_empty()
    }

    fn register(&self, context: &EngineContext<'_>, connection: ConnectionId) -> Result<Outcome, Refusal> {
        let EngineContext { instance_id, model_name, world_size, num_physical_slots, .. } = *context;
        let chunk_size = self.engine.config().chunk_size;
        if !self.chunk_sizes.admits(connection, model_name, num_physical_slots, chunk_size, Instant::now()) {
            tracing::warn!(
                "instance {instance_id} of model `{model_name}` comes back with {} slots a chunk, which has {chunk_size} \
                 tokens here; it is refused, and as long as it is connected no engine that did not ask finds anything of this \
                 model\nhint: the engine asked for the chunk size when it started, before this server \
                 did: restart it, or start the server with the --chunk-size it knows",
                num_physical_slots.unwrap_or_default()
            );
            let text = format!("the chunk size is {chunk_size} now; restart the engine");
            return Err(Refusal::Argument(text));
        }
        let chunk = EngineGeometry {
            layers: context.num_layers.into(),
            slots: num_physical_slots.unwrap_or(chunk_size).into(),
            hidden: context.hidden_dim_size.into(),
            mla: context.use_mla,
        };
        let geometry = Geometry { block_size: context.block_size, dtype: context.dtype, chunk };
        self.engine.register(instance_id, model_name, world_size, geometry, connection)?;
        let location = if self.shares_memory() {
            PoolLocation { shm_name: &self.config.shm_name, pool_size: self.config.pool_bytes }
        } else {
            PoolLocation::default()
        };
        now(&Response::Pool(location))
    }

    fn prepare_store(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
        patient: bool,
    ) -> Result<Outcome, Refusal> {
        let engine = &self.engine;
        if patient && engine.room_is_coming(key, instance_id) {
            return Ok(Outcome::RoomIsComing);
        }
        let answer = if !self.shares_memory() || engine.sends_bytes(instance_id) {
            engine.check_transfer(key, instance_id, connection)?;
            PrepareStoreResult::InMessage
        } else {
            let plan = engine.prepare_store(key, instance_id, connection)?;
            let index = |slot: &Slot| u32::try_from(slot.index).unwrap_or(u32::MAX);
            let chunk_indices: Vec<u32> = plan.slots.iter().map(index).collect();
            let slots = wire_slots(&plan.slots, &plan.layout);
            PrepareStoreResult::Slots { slots, chunk_indices: chunk_indices.into() }
        };
        self.transfers.begin(Direction::Store, instance_id, key.request_id);
        now(&Response::PrepareStore(answer))
    }

    /// `data` is what comes with the message instead of through memory.
    fn commit_store(
        &self,
        key: &CacheKey<'_>,
        prompt: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
        data: Option<Bytes>,
    ) -> Result<Outcome, Refusal> {
        let engine = &self.engine;
        let tokens = engine.wants_tokens().then(|| tokens_to_end(key));
        let (log, stored_tokens) = (Arc::clone(&self.transfers), self.tokens(key));
        if let Some(data) = data {
            let request_id: Box<str> = key.request_id.into();
            let log = move || log.end(Direction::Store, instance_id, &request_id, stored_tokens);
            return Ok(payload::store(engine.clone(), prompt, instance_id, connection, tokens, data, log));
        }
        let is_stored = engine.commit_store(prompt, instance_id, connection, tokens.as_deref())?;
        if is_stored {
            log.end(Direction::Store, instance_id, key.request_id, stored_tokens);
        }
        now(&Response::Bool(is_stored))
    }

    fn prepare_retrieve(
        &self,
        key: &PromptKey<'_>,
        instance_id: i64,
        connection: ConnectionId,
    ) -> Result<Outcome, Refusal> {
        let engine = &self.engine;
        let Some(plan) = engine.prepare_retrieve(key, instance_id, connection)? else {
            return now(&Response::PrepareRetrieve(PrepareRetrieveResult::miss()));
        };
        self.transfers.begin(Direction::Retrieve, instance_id, key.request_id);
        let shares_memory = self.shares_memory() && !engine.sends_bytes(instance_id);
        Ok(retrieve::hand_out(engine, key, instance_id, connection, plan, shares_memory))
    }

    fn clear(&self, force: bool, origin: &Origin) -> Result<Outcome, Refusal> {
        if !origin.is_local() {
            tracing::warn!("{} (force: {force}) from {}", Operation::Clear, origin.address);
            if force {
                let text = "what is in use may be cleared from the server's own machine only";
                return Err(Refusal::Argument(text.into()));
            }
        }
        let engine = self.engine.clone();
        let work = Box::new(move || {
            engine.clear(force);
            Answer::Done
        });
        Ok(Outcome::Job(Job { work, answers_with_chunks: false }))
    }
}

/// How long a client wants to wait.
pub(super) fn patience(timeout_s: f64) -> Result<Duration, Refusal> {
    if timeout_s.is_nan() {
        return Err(Refusal::Argument("`timeout_s` is not a number".into()));
    }
    // More than there is room for is for ever, less than nothing is nothing.
    Ok(Duration::try_from_secs_f64(timeout_s.max(0.0)).unwrap_or(Duration::MAX))
}

fn subscription(
    instance_id: i64,
    model_name: &str,
    cursor: i64,
    max_events: i64,
) -> Result<Outcome, Refusal> {
    let is_sane = |max: &usize| (1..=EVENTS_PER_BATCH_MAX).contains(max);
    let Some(max_events) = usize::try_from(max_events).ok().filter(is_sane) else {
        let text = format!("`max_events` is `{max_events}`; it must be 1 to {EVENTS_PER_BATCH_MAX}");
        return Err(Refusal::Argument(text));
    };
    let cursor = u64::try_from(cursor)
        .map_err(|_| Refusal::Argument(format!("`cursor` is `{cursor}`; it must not be negative")))?;
    Ok(Outcome::Subscribed(Subscription { instance_id, model_name: model_name.into(), cursor, max_events }))
}

/// What the operator has to change for an operation of a part that is not here.
fn unsupported(operation: Operation) -> &'static str {
    match operation {
        Operation::RegisterKvCache
        | Operation::Store
        | Operation::Retrieve
        | Operation::UnregisterKvCache => {
            "server-driven transfer is not available; \
             set `lmcache.mp.mp_transfer_mode` (or LMCACHE_MP_TRANSFER_MODE) to `engine_driven` in the engine"
        }
        Operation::RegisterQCache | Operation::UnregisterQCache | Operation::StoreQ => {
            "query transfer is not available"
        }
        Operation::P2pLookupAndLock | Operation::P2pQueryLookupResults | Operation::P2pUnlockObjects => {
            "peer-to-peer transfer is not available"
        }
        Operation::ServerModuleCall => "no server module is loaded",
        _ => "blending is not available",
    }
}

const DONE: Outcome = Outcome::Now(Answer::Done);

/// What a lookup found; no result while it is not known.
fn found(chunks: Option<usize>) -> Response<'static> {
    chunks.map_or(Response::None, |chunks| Response::Int(i64::try_from(chunks).unwrap_or(i64::MAX)))
}

fn now(response: &Response<'_>) -> Result<Outcome, Refusal> {
    body(response).map(Outcome::Now)
}

/// The answer with this result.
fn body(response: &Response<'_>) -> Result<Answer, Refusal> {
    Answer::encode(response).map_err(Refusal::Wire)
}
