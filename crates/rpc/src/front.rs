//! From messages to answers: who may be answered now, who has to wait for whom, and what a bad message costs.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_core::hash::ChunkHasher;
use larder_wire::Operation;
use larder_wire::limits::REQUEST_UID_BYTES_MAX;
use larder_zmtp::{Disconnect, Handler, Message, Peer, Permit};

use super::answer::{Answer, Ticket};
use super::chunk_sizes::ChunkSizes;
use super::config::FrontConfig;
use super::lanes::Lanes;
use super::operations::Operations;
use super::outcome::{Job, Outcome, Subscription};
use super::prompts::{NoMemo, PromptSource, Prompts};
use super::request::{EncodedRequest, Origin};
use super::stats::RpcStats;
use super::streams::Streams;
use super::transfer_log::TransferLog;
use larder_engine::Requests;
use larder_telemetry::tasks::Task;

/// How long a store waits for a pool that is being prepared before it takes what there is.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);

/// Longest a client may wait for a lookup in one request. The answer is nothing then.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How long requests of one connection are served after a wait. The rest comes when others had their turn.
const TURN_MAX: Duration = Duration::from_micros(500);

/// The RPC front of one node. Lives on one thread, inside a [`tokio::task::LocalSet`].
pub struct Front {
    operations: Arc<Operations>,
    prompts: RefCell<Prompts>,
    streams: RefCell<Streams>,
    lanes: RefCell<Lanes>,
    stats: Arc<RpcStats>,
    me: Weak<Self>,
}

/// A request and the right to answer it.
struct Call {
    request: EncodedRequest,
    ticket: Ticket,
    permit: Permit,
}

impl Front {
    /// A front for `engine`, naming chunks with `hasher`.
    pub fn new(
        engine: Requests,
        hasher: ChunkHasher,
        config: FrontConfig,
        stats: Arc<RpcStats>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            operations: Arc::new(Operations {
                transfers: Arc::new(TransferLog::new(config.log_transfers)),
                chunk_sizes: ChunkSizes::default(),
                engine,
                config,
                hasher,
            }),
            prompts: RefCell::default(),
            streams: RefCell::default(),
            lanes: RefCell::default(),
            stats,
            me: Weak::clone(me),
        })
    }

    /// Sends KV events to subscribers whenever there are new ones. Ends never.
    pub async fn pump_events(self: Arc<Self>, task: Arc<Task>) {
        loop {
            self.operations.engine.events_due().await;
            task.count_run();
            self.streams.borrow_mut().pump(&self.operations.engine);
        }
    }

    fn serve(&self, peer: &Peer, message: Message) {
        let Message { parts: mut payloads, permit, dropped_bytes, .. } = message;
        let Some([uid, operation]) = payloads.first_chunk_mut().map(std::mem::take::<[Bytes; 2]>) else {
            self.stats.count_malformed();
            tracing::debug!("dropped a message of one frame from {:?}", peer.address());
            return;
        };
        payloads.drain(..2);
        if operation.is_empty() {
            self.streams.borrow_mut().control(&self.operations.engine, peer.id(), &uid, &payloads);
            return;
        }
        let (uid_bytes, ticket) = (uid.len(), Ticket { uid, operation });
        let operation = match Operation::from_frame(&ticket.operation) {
            Ok(operation) => operation,
            Err(error) => return self.refuse(ticket, permit, error.to_string()),
        };
        if uid_bytes > REQUEST_UID_BYTES_MAX {
            let text =
                format!("{operation}: request uid of `{uid_bytes}` bytes, at most {REQUEST_UID_BYTES_MAX}");
            return self.refuse(ticket, permit, text);
        }
        if dropped_bytes > 0 {
            let answer = self.too_large(peer, operation, dropped_bytes);
            return self.finish(ticket, permit, answer);
        }
        let request = EncodedRequest { operation, payloads, origin: Origin::of(peer) };
        self.answer(peer, Call { request, ticket, permit });
    }

    /// The answer to a request of which a part was too large to be kept.
    fn too_large(&self, peer: &Peer, operation: Operation, dropped_bytes: u64) -> Answer {
        if self.stats.count_cut() {
            tracing::warn!(
                "{operation} from {}: `{dropped_bytes}` bytes are more than a message may have, so it was not done \
                 (this is said once a minute)\nhint: share memory with the engine, or have it store fewer tokens at once \
                 (vLLM: --max-num-batched-tokens)",
                peer.address()
            );
        }
        let text = format!("{operation}: message too large by `{dropped_bytes}` bytes");
        operation
            .negative_result()
            .and_then(|negative| Answer::encode(&negative).ok())
            .unwrap_or(Answer::Refused(text))
    }

    fn answer(&self, peer: &Peer, call: Call) {
        if call.request.is_long(|key| self.prompts.borrow().has(key)) {
            return self.handle_elsewhere(peer, call);
        }
        let outcome = self.handle(&call.request, true);
        self.conclude(peer, call, outcome);
    }

    fn handle(&self, request: &EncodedRequest, patient: bool) -> Outcome {
        self.operations.handle_guarded(request, patient, &mut *self.prompts.borrow_mut())
    }

    fn conclude(&self, peer: &Peer, call: Call, outcome: Outcome) {
        match outcome {
            Outcome::Now(answer) => self.finish(call.ticket, call.permit, answer),
            Outcome::Subscribed(subscription) => self.subscribe(peer, call, subscription),
            Outcome::Job(job) => self.start_job(peer, call, job),
            Outcome::WaitForLookup(request_id, patience) => {
                self.wait_for_lookup(peer, call, request_id, patience);
            }
            Outcome::RoomIsComing => self.wait_for_room(peer, call),
            Outcome::Panicked => self.refuse_broken(call.request.operation, call.ticket, call.permit),
        }
    }

    fn refuse_broken(&self, operation: Operation, ticket: Ticket, permit: Permit) {
        self.stats.count_panic();
        self.refuse(ticket, permit, format!("{operation}: internal error"));
    }

    fn finish(&self, ticket: Ticket, permit: Permit, answer: Answer) {
        let refused = matches!(answer, Answer::Refused(_));
        if let Answer::Refused(text) = &answer {
            tracing::debug!("refused: {text}");
        }
        self.stats.count_request(refused);
        ticket.reply(permit, answer);
    }

    fn refuse(&self, ticket: Ticket, permit: Permit, text: String) {
        self.finish(ticket, permit, Answer::Refused(text));
    }

    fn subscribe(&self, peer: &Peer, call: Call, subscription: Subscription) {
        let Call { ticket, permit, .. } = call;
        let mut streams = self.streams.borrow_mut();
        if let Err(reason) = streams.check_room(peer.id()) {
            drop(streams);
            return self.refuse(ticket, permit, format!("subscribe_kv_events: {reason}"));
        }
        self.stats.count_request(false);
        drop(permit);
        streams.open(&self.operations.engine, peer.clone(), ticket, subscription);
    }

    /// Runs `work`, and what it comes to, while the connection's later requests wait: a client may rely on
    /// their order.
    fn hold_while(&self, peer: &Peer, work: impl AsyncFnOnce(&Arc<Self>, &Peer) + 'static) {
        let Some(front) = self.me.upgrade() else { return };
        let peer = peer.clone();
        self.lanes.borrow_mut().hold(peer.id());
        tokio::task::spawn_local(async move {
            work(&front, &peer).await;
            front.resume(&peer).await;
        });
    }

    /// Runs work on a worker thread; nothing if it panicked.
    async fn run_elsewhere<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.stats.job_started();
        let done = tokio::task::spawn_blocking(work).await;
        self.stats.job_ended();
        done.inspect_err(|error| tracing::error!("work on another thread failed: {error}")).ok()
    }

    fn start_job(&self, peer: &Peer, call: Call, job: Job) {
        let Call { request: EncodedRequest { operation, .. }, ticket, permit } = call;
        self.hold_while(peer, async move |front, peer| {
            if job.answers_with_chunks {
                // A peer that is gone needs no answer, but what was reserved for it has to be given back.
                _ = peer.room().await;
            }
            let answer = front.run_elsewhere(job.work).await;
            front.lanes.borrow_mut().release(peer.id());
            match answer {
                Some(answer) => front.finish(ticket, permit, answer),
                None => front.refuse_broken(operation, ticket, permit),
            }
        });
    }

    /// Handles a long request on a worker thread, where decoding and hashing it hold up nobody.
    fn handle_elsewhere(&self, peer: &Peer, call: Call) {
        let (operations, request) = (Arc::clone(&self.operations), call.request.clone());
        let work = move |patient| {
            let mut prompts = NoMemo::default();
            (operations.handle_guarded(&request, patient, &mut prompts), prompts.hashed)
        };
        self.hold_while(peer, async move |front, peer| {
            let deadline = tokio::time::Instant::now() + ROOM_PATIENCE;
            let mut patient = true;
            let outcome = loop {
                let work = work.clone();
                let Some((outcome, hashed)) = front.run_elsewhere(move || work(patient)).await else {
                    break Outcome::Panicked;
                };
                if let Some(prompt) = hashed {
                    front.prompts.borrow_mut().remember(prompt);
                }
                match outcome {
                    Outcome::RoomIsComing => {
                        patient = tokio::time::timeout_at(deadline, front.operations.engine.has_grown())
                            .await
                            .is_ok();
                    }
                    outcome => break outcome,
                }
            };
            front.lanes.borrow_mut().release(peer.id());
            front.conclude(peer, call, outcome);
            // Giving tens of megabytes back takes milliseconds, too.
            tokio::task::spawn_blocking(move || drop(work));
        });
    }

    /// Answers when the lookup is answered, or with nothing when the client's patience is over. Nobody waits
    /// for it, not even the connection's own later requests.
    fn wait_for_lookup(&self, peer: &Peer, call: Call, request_id: Box<str>, patience: Duration) {
        let Some(front) = self.me.upgrade() else { return };
        let connection = peer.id().0;
        let patience = patience.min(WAIT_MAX);
        let Call { ticket, permit, .. } = call;
        tokio::task::spawn_local(async move {
            let answered = front.operations.engine.collect_when_answered(&request_id, connection);
            let chunks = tokio::time::timeout(patience, answered).await.ok();
            front.finish(ticket, permit, Answer::of(&front.operations.lookup_answer(&request_id, chunks)));
        });
    }

    /// Asks again whenever the pool has grown, and a last time when patience is over. Later requests of the
    /// connection wait.
    fn wait_for_room(&self, peer: &Peer, call: Call) {
        self.hold_while(peer, async move |front, peer| {
            let deadline = tokio::time::Instant::now() + ROOM_PATIENCE;
            let outcome = loop {
                let patient =
                    tokio::time::timeout_at(deadline, front.operations.engine.has_grown()).await.is_ok();
                match front.handle(&call.request, patient) {
                    Outcome::RoomIsComing => {}
                    outcome => break outcome,
                }
            };
            front.lanes.borrow_mut().release(peer.id());
            front.conclude(peer, call, outcome);
        });
    }

    /// Serves what a connection sent while it waited, until it has to wait again: for one of these, or
    /// because it does not read its answers.
    async fn resume(&self, peer: &Peer) {
        let mut turn = Instant::now();
        loop {
            if !peer.has_room() && peer.room().await.is_err() {
                return;
            }
            let Some(message) = self.lanes.borrow_mut().next(peer.id()) else { return };
            self.serve(peer, message);
            if turn.elapsed() >= TURN_MAX {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
        }
    }
}

impl Handler for Front {
    fn connected(&self, peer: &Peer) {
        self.operations.engine.connected(peer.id().0);
    }

    fn message(&self, peer: &Peer, message: Message) {
        let message = self.lanes.borrow_mut().pass(peer.id(), message);
        if let Some(message) = message {
            self.serve(peer, message);
        }
    }

    fn disconnected(&self, peer: &Peer, reason: &Disconnect) {
        self.lanes.borrow_mut().forget(peer.id());
        self.operations.chunk_sizes.forget(peer.id().0, Instant::now());
        self.streams.borrow_mut().forget(&self.operations.engine, peer.id());
        match reason.is_by_peer() {
            true => self.operations.engine.disconnected(peer.id().0),
            false => self.operations.engine.expelled(peer.id().0),
        }
    }
}
