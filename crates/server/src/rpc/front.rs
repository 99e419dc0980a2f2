//! From messages to answers: who may be answered now, who has to wait for whom, and what a bad message costs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use larder_core::hash::ChunkHasher;
use larder_wire::Operation;
use larder_zmtp::{Disconnect, Handler, Message, Peer, PeerId, Permit};

use super::answer::{Answer, Ticket};
use super::operations::{Outcome, Subscription, found};
use super::prompts::Prompts;
use super::stats::RpcStats;
use super::streams::{STREAMS_MAX, Streams};
use crate::controllers::Task;
use crate::engine::Engine;

/// How long a store waits for a pool that is being prepared before it takes what there is.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);

/// Longest a client may wait for a lookup in one request.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// What the front tells clients about the server.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// Name of the shared-memory segment without a slash; empty when payloads travel in messages.
    pub shm_name: String,
    /// Bytes of the segment.
    pub pool_bytes: u64,
    /// Names of optional features, as `get_experimental` gives them.
    pub experimental: Vec<String>,
}

/// The RPC front of one node. Lives on one thread, inside a [`tokio::task::LocalSet`].
pub struct Front {
    pub(super) engine: Arc<Engine>,
    pub(super) config: FrontConfig,
    pub(super) prompts: RefCell<Prompts>,
    streams: RefCell<Streams>,
    /// Connections with a request at a worker, and what they sent since.
    busy: RefCell<HashMap<PeerId, VecDeque<Message>>>,
    stats: Arc<RpcStats>,
    me: Weak<Self>,
}

impl Front {
    /// A front for `engine`, naming chunks with `hasher`.
    pub fn new(
        engine: Arc<Engine>,
        hasher: ChunkHasher,
        config: FrontConfig,
        stats: Arc<RpcStats>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            engine,
            config,
            prompts: RefCell::new(Prompts::new(hasher)),
            streams: RefCell::default(),
            busy: RefCell::default(),
            stats,
            me: Weak::clone(me),
        })
    }

    /// Sends KV events to subscribers whenever there are new ones. Ends never.
    pub async fn pump_events(self: Arc<Self>, task: Arc<Task>) {
        loop {
            self.engine.events_due().await;
            task.count_run();
            self.streams.borrow_mut().pump(&self.engine);
        }
    }

    fn receive(&self, peer: &Peer, message: Message) {
        if let Some(waiting) = self.busy.borrow_mut().get_mut(&peer.id()) {
            waiting.push_back(message);
            return;
        }
        self.serve(peer, message);
    }

    fn serve(&self, peer: &Peer, message: Message) {
        let Message { parts, permit } = message;
        let mut parts = parts.into_iter();
        let (Some(uid), Some(operation)) = (parts.next(), parts.next()) else {
            self.stats.count_malformed();
            tracing::debug!("dropped a message of one frame from {:?}", peer.address());
            return;
        };
        let payloads: Vec<Bytes> = parts.collect();
        if operation.is_empty() {
            self.streams.borrow_mut().control(&self.engine, peer.id(), &uid, &payloads);
            return;
        }
        let ticket = Ticket { uid, operation };
        match Operation::from_frame(&ticket.operation) {
            Ok(operation) => self.answer(peer, ticket, permit, operation, payloads),
            Err(error) => self.refuse(ticket, permit, error.to_string()),
        }
    }

    fn answer(
        &self,
        peer: &Peer,
        ticket: Ticket,
        permit: Permit,
        operation: Operation,
        payloads: Vec<Bytes>,
    ) {
        let outcome = self.guarded(operation, &payloads, peer.id().0, true);
        match outcome {
            Outcome::Now(answer) => self.finish(ticket, permit, answer),
            Outcome::Subscribed(subscription) => self.subscribe(peer, ticket, permit, subscription),
            Outcome::Job(job) => self.start_job(peer, ticket, permit, job),
            Outcome::WaitForLookup(request_id, timeout_s) => {
                self.wait_for_lookup(peer, ticket, permit, request_id, timeout_s);
            }
            Outcome::RoomIsComing => self.wait_for_room(peer, ticket, permit, operation, payloads),
        }
    }

    /// Handles a request; a panic fails this request alone.
    fn guarded(&self, operation: Operation, payloads: &[Bytes], connection: u64, patient: bool) -> Outcome {
        let handled =
            catch_unwind(AssertUnwindSafe(|| self.handle(operation, payloads, connection, patient)));
        handled.unwrap_or_else(|_| {
            self.stats.count_panic();
            tracing::error!("{operation}: the handler panicked; the request was refused");
            Outcome::Now(Answer::Refused(format!("{operation}: internal error")))
        })
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

    fn subscribe(&self, peer: &Peer, ticket: Ticket, permit: Permit, subscription: Subscription) {
        let mut streams = self.streams.borrow_mut();
        if !streams.has_room() {
            drop(streams);
            let text = format!("subscribe_kv_events: {STREAMS_MAX} streams are open already");
            return self.refuse(ticket, permit, text);
        }
        self.stats.count_request(false);
        drop(permit);
        streams.open(&self.engine, peer.clone(), ticket, subscription);
    }

    /// Runs a copy on a worker. The connection's later requests wait for it: a client may rely on their order.
    fn start_job(
        &self,
        peer: &Peer,
        ticket: Ticket,
        permit: Permit,
        job: Box<dyn FnOnce() -> Answer + Send>,
    ) {
        let Some(front) = self.me.upgrade() else { return };
        let peer = peer.clone();
        self.busy.borrow_mut().insert(peer.id(), VecDeque::new());
        self.stats.job_started();
        let running = tokio::task::spawn_blocking(job);
        tokio::task::spawn_local(async move {
            let answer = running.await.unwrap_or_else(|error| {
                front.stats.count_panic();
                tracing::error!("a copy failed: {error}");
                Answer::Refused("internal error".into())
            });
            front.stats.job_ended();
            front.finish(ticket, permit, answer);
            front.resume(&peer);
        });
    }

    /// Answers when the lookup is answered, or with nothing when the client's patience is over. Nobody waits for it, not even the
    /// connection's own later requests.
    fn wait_for_lookup(
        &self,
        peer: &Peer,
        ticket: Ticket,
        permit: Permit,
        request_id: Box<str>,
        timeout_s: f64,
    ) {
        let Some(front) = self.me.upgrade() else { return };
        let connection = peer.id().0;
        let patience = Duration::try_from_secs_f64(timeout_s).unwrap_or_default().min(WAIT_MAX);
        tokio::task::spawn_local(async move {
            let answered = front.engine.collect_when_answered(&request_id, connection);
            let chunks = tokio::time::timeout(patience, answered).await.ok();
            front.finish(ticket, permit, Answer::of(&found(chunks)));
        });
    }

    /// Asks again whenever the pool has grown, and a last time when patience is over. Later requests of the connection wait.
    fn wait_for_room(
        &self,
        peer: &Peer,
        ticket: Ticket,
        permit: Permit,
        operation: Operation,
        payloads: Vec<Bytes>,
    ) {
        let Some(front) = self.me.upgrade() else { return };
        let peer = peer.clone();
        self.busy.borrow_mut().insert(peer.id(), VecDeque::new());
        tokio::task::spawn_local(async move {
            let deadline = tokio::time::Instant::now() + ROOM_PATIENCE;
            let outcome = loop {
                let patient = tokio::time::timeout_at(deadline, front.engine.has_grown()).await.is_ok();
                match front.guarded(operation, &payloads, peer.id().0, patient) {
                    Outcome::RoomIsComing if patient => {}
                    outcome => break outcome,
                }
            };
            let Outcome::Now(answer) = outcome else { return };
            front.finish(ticket, permit, answer);
            front.resume(&peer);
        });
    }

    /// Serves what a connection sent while it waited, until it has to wait again.
    fn resume(&self, peer: &Peer) {
        let Some(mut waiting) = self.busy.borrow_mut().remove(&peer.id()) else { return };
        while let Some(message) = waiting.pop_front() {
            self.serve(peer, message);
            if let Some(queue) = self.busy.borrow_mut().get_mut(&peer.id()) {
                queue.append(&mut waiting);
                return;
            }
        }
    }
}

impl Handler for Front {
    fn connected(&self, peer: &Peer) {
        self.engine.connected(peer.id().0);
    }

    fn message(&self, peer: &Peer, message: Message) {
        self.receive(peer, message);
    }

    fn disconnected(&self, peer: &Peer, _reason: &Disconnect) {
        self.busy.borrow_mut().remove(&peer.id());
        self.streams.borrow_mut().forget(&self.engine, peer.id());
        self.engine.disconnected(peer.id().0);
    }
}
