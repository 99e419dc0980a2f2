//! The front behind a socket: what waits for what, what is refused, and what a client that misbehaves gets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use larder_core::hash::{ChunkHasher, HashAlgorithm};
use larder_wire::engine_driven::EngineContext;
use larder_wire::reply::decode_reply;
use larder_wire::{CacheKey, IdBuffer, Operation, Request, Response, encode_request};
use larder_zmtp::{Dealer, Endpoint, Limits, PeerAddress, Router};
use tracing::field::Field;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::answer::Answer;
use super::chunk_sizes::ChunkSizes;
use super::operations::{Operations, patience};
use super::outcome::Outcome;
use super::prompts::NoMemo;
use super::request::{EncodedRequest, Origin};
use super::{Front, FrontConfig, RpcStats};
use larder_engine::Engine;
use larder_engine::fixtures::{CHUNK, PAGE, bare_engine, config};
use larder_telemetry::tasks::{TaskLevel, Tasks};

mod events;
mod prompts;
mod transfers;

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn hasher() -> ChunkHasher {
    ChunkHasher::new(HashAlgorithm::Blake3, CHUNK as usize).unwrap()
}

fn engine() -> Arc<Engine> {
    bare_engine(16, config())
}

fn front_config() -> FrontConfig {
    FrontConfig {
        shm_name: String::new(),
        pool_bytes: 16 * PAGE,
        experimental: Vec::new(),
        log_transfers: true,
    }
}

/// A client of a front that serves on this thread.
struct Client {
    dealer: Dealer,
    sent: u32,
}

impl Client {
    /// Queues a request, and returns the uid its answer will have.
    fn queue(&mut self, request: &Request<'_>) -> Bytes {
        self.sent += 1;
        let uid = Bytes::copy_from_slice(&self.sent.to_be_bytes());
        let operation = Bytes::from(request.operation().to_frame());
        let payloads = encode_request(request).unwrap().into_iter().map(Bytes::from);
        self.dealer.queue([uid.clone(), operation].into_iter().chain(payloads));
        uid
    }

    async fn answer(&mut self) -> Vec<Bytes> {
        tokio::time::timeout(PATIENCE, self.dealer.recv()).await.expect("an answer").unwrap()
    }

    /// Asks, and has `read` look at the answer.
    async fn ask<T>(&mut self, request: &Request<'_>, read: impl FnOnce(Response<'_>) -> T) -> T {
        let uid = self.queue(request);
        let answer = self.answer().await;
        assert_eq!(answer[0], uid);
        let body = answer.get(2).map(|body| &body[..]);
        read(decode_reply(request.operation(), &answer[1], body).unwrap())
    }

    /// What comes back, or the reason why nothing does.
    async fn call(&mut self, request: &Request<'_>) -> Result<Option<String>, String> {
        let uid = self.queue(request);
        let answer = self.answer().await;
        assert_eq!(answer[0], uid);
        match decode_reply(request.operation(), &answer[1], answer.get(2).map(|body| &body[..])) {
            Ok(Response::None) => Ok(None),
            Ok(response) => Ok(Some(format!("{response:?}"))),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A front that serves on this thread, and what is around it.
struct Rig {
    client: Client,
    engine: Arc<Engine>,
    stats: Arc<RpcStats>,
    endpoint: Endpoint,
}

impl Rig {
    /// Another connection to the same front.
    async fn connect(&self) -> Client {
        Client { dealer: Dealer::connect(&self.endpoint).await.unwrap(), sent: 0 }
    }
}

/// Runs `test` as a client of a front with these `limits`.
fn with_front(limits: Limits, test: impl AsyncFnOnce(Client, Arc<RpcStats>)) {
    with_engine(engine(), front_config(), limits, async |rig| test(rig.client, rig.stats).await);
}

/// The same for a front of this engine, which has one thread for what takes long.
fn with_engine(engine: Arc<Engine>, config: FrontConfig, limits: Limits, test: impl AsyncFnOnce(Rig)) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let endpoint = format!("ipc://@larder-front-{}-{number}", std::process::id()).parse().unwrap();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let stats = Arc::new(RpcStats::default());
        let router = Router::bind(&[endpoint], limits).unwrap();
        let endpoint = router.endpoints().remove(0);
        let front = Front::new(engine.requests(), hasher(), config, Arc::clone(&stats));
        let task = Tasks::default().register("events", TaskLevel::High);
        let pumping = tokio::task::spawn_local(Arc::clone(&front).pump_events(task));
        let serving = tokio::task::spawn_local(router.serve_local(front));
        let client = Client { dealer: Dealer::connect(&endpoint).await.unwrap(), sent: 0 };
        test(Rig { client, engine, stats, endpoint }).await;
        serving.abort();
        pumping.abort();
    });
}

/// The lines that a part of the server wrote to the log.
#[derive(Clone)]
pub(super) struct Lines {
    target: &'static str,
    kept: Arc<Mutex<Vec<String>>>,
}

impl Lines {
    /// Runs `work`, and returns what the module `target` says meanwhile on this thread.
    pub(super) fn of(target: &'static str, work: impl FnOnce()) -> Vec<String> {
        let lines = Self { target, kept: Arc::default() };
        tracing::subscriber::with_default(Registry::default().with(lines.clone()), work);
        lines.kept.lock().unwrap().clone()
    }
}

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let write = &mut |field: &Field, value: &dyn std::fmt::Debug| {
            if field.name() == "message" && event.metadata().target().ends_with(self.target) {
                self.kept.lock().unwrap().push(format!("{value:?}"));
            }
        };
        event.record(write);
    }
}

fn key<'a>(ids: &'a IdBuffer, request_id: &'a str) -> CacheKey<'a> {
    CacheKey {
        model_name: "m",
        world_size: 1,
        worker_id: None,
        token_ids: ids.as_array(),
        start: 0,
        end: ids.as_array().len() as u64,
        request_id,
        cache_salt: "",
        request_configs: None,
        num_kv_readers: 1,
    }
}

/// A prompt so long that a worker hashes it.
fn long_prompt(seed: u32) -> IdBuffer {
    IdBuffer::new(&vec![seed; 200_000])
}

#[test]
fn requests_behind_work_on_other_threads_are_all_answered_in_the_order_sent() {
    with_front(Limits::default(), async |mut client, stats| {
        let prompts: Vec<IdBuffer> = (0..6).map(long_prompt).collect();
        let mut sent = Vec::new();
        for (round, prompt) in prompts.iter().enumerate() {
            sent.push(client.queue(&Request::Clear { force: false }));
            sent.push(client.queue(&Request::Noop));
            let request_id = format!("r{round}");
            sent.push(client.queue(&Request::Lookup { key: key(prompt, &request_id), tp_size: 1 }));
            // More than are served in one turn.
            sent.extend((0..20).map(|_| client.queue(&Request::Ping { instance_id: None })));
            sent.push(client.queue(&Request::QueryPrefetchStatus { request_id: &request_id }));
        }
        let mut answered = Vec::new();
        for _ in &sent {
            answered.push(client.answer().await.remove(0));
        }
        assert_eq!(answered, sent);
        assert_eq!((stats.requests(), stats.refused(), stats.panics()), (sent.len() as u64, 0, 0));
    });
}

#[test]
fn a_request_with_a_part_too_large_to_keep_is_not_done_and_the_connection_goes_on() {
    let limits = Limits { message_bytes_max: 10_000, ..Limits::default() };
    with_front(limits, async |mut client, stats| {
        let ids = IdBuffer::new(&[1; 16]);
        let data = vec![0; 1 << 20];
        let commit = Request::CommitStore { key: key(&ids, "r"), instance_id: 1, data: &data };
        assert_eq!(client.call(&commit).await, Ok(Some("Bool(false)".into())));
        let long = long_prompt(1);
        let refused = client.call(&Request::Lookup { key: key(&long, "r"), tp_size: 1 }).await.unwrap_err();
        assert!(refused.contains("message too large"), "{refused}");
        assert_eq!(client.call(&Request::Noop).await, Ok(Some("Str(\"OK\")".into())));
        assert_eq!(stats.cut(), 2);
    });
}

#[test]
fn a_request_whose_answer_could_not_be_recognised_is_refused() {
    with_front(Limits::default(), async |mut client, _| {
        for (length, is_served) in [(4096, true), (4097, false)] {
            let uid = Bytes::from(vec![7; length]);
            let noop = Bytes::from(Operation::Noop.to_frame());
            client.dealer.queue([uid.clone(), noop.clone()]);
            let answer = client.answer().await;
            assert_eq!((&answer[0], answer[1] == noop), (&uid, is_served));
        }
    });
}

#[test]
fn waits_that_are_no_time_are_refused_and_endless_ones_end_with_the_lookup() {
    with_front(Limits::default(), async |mut client, _| {
        for timeout_s in [-1.0, 0.0, f64::NEG_INFINITY, f64::INFINITY, 1e300] {
            let wait = Request::WaitPrefetchStatus { request_id: "nobody", timeout_s };
            assert_eq!(client.call(&wait).await, Ok(Some("Int(0)".into())));
        }
    });
    let wait = |timeout_s| patience(timeout_s).ok();
    assert_eq!(wait(f64::NAN), None);
    assert_eq!(wait(f64::INFINITY), Some(Duration::MAX));
    assert_eq!(wait(f64::MAX), Some(Duration::MAX));
    assert_eq!(wait(-0.5), Some(Duration::ZERO));
    assert_eq!(wait(1.5), Some(Duration::from_millis(1500)));
}

#[test]
fn one_connection_can_not_take_all_streams() {
    with_front(Limits::default(), async |mut client, _| {
        let mut refused = 0;
        for instance_id in 0..100 {
            let subscribe =
                Request::SubscribeKvEvents { instance_id, model_name: "m", cursor: 0, max_events: 1 };
            refused += usize::from(client.call(&subscribe).await.is_err());
        }
        assert_eq!(refused, 36);
    });
}

fn operations() -> Operations {
    Operations {
        engine: engine().requests(),
        config: front_config(),
        hasher: hasher(),
        chunk_sizes: ChunkSizes::default(),
        transfers: Arc::new(super::transfer_log::TransferLog::new(true)),
    }
}

fn encoded(request: &Request<'_>, address: PeerAddress) -> EncodedRequest {
    let payloads = encode_request(request).unwrap().into_iter().map(Bytes::from).collect();
    EncodedRequest { operation: request.operation(), payloads, origin: Origin { connection: 1, address } }
}

fn tcp(address: &str) -> PeerAddress {
    PeerAddress::Tcp(SocketAddr::new(address.parse().unwrap(), 1))
}

#[test]
fn what_is_in_use_is_cleared_only_from_this_machine() {
    let operations = operations();
    let local = PeerAddress::Ipc { pid: None, uid: 0 };
    for (address, force, is_done) in [
        (tcp("127.0.0.1"), true, true),
        (tcp("::ffff:127.0.0.1"), true, true),
        (local, true, true),
        (tcp("192.0.2.1"), false, true),
        (tcp("192.0.2.1"), true, false),
        (tcp("2001:db8::1"), true, false),
    ] {
        let request = encoded(&Request::Clear { force }, address);
        let outcome = operations.handle_guarded(&request, true, &mut NoMemo::default());
        assert_eq!(matches!(outcome, Outcome::Job(_)), is_done, "{address}, force {force}");
        assert_eq!(matches!(outcome, Outcome::Now(Answer::Refused(_))), !is_done);
    }
}

#[test]
fn an_engine_that_knows_another_chunk_size_is_kept_from_hits_until_it_asks() {
    let (operations, mut memo) = (operations(), NoMemo::default());
    let context = EngineContext {
        instance_id: 1,
        model_name: "m",
        world_size: 1,
        block_size: 16,
        num_layers: 1,
        hidden_dim_size: 16,
        dtype: "uint8",
        use_mla: true,
        num_physical_slots: Some(CHUNK * 4),
    };
    let register = encoded(&Request::RegisterKvCacheEngineDrivenContext(context), tcp("::1"));
    let mut ask = |request: &EncodedRequest| operations.handle_guarded(request, true, &mut memo);
    assert!(
        matches!(ask(&register), Outcome::Now(Answer::Refused(text)) if text.contains("restart the engine"))
    );
    ask(&encoded(&Request::GetChunkSize, tcp("::1")));
    assert!(matches!(ask(&register), Outcome::Now(Answer::Body(_))));
}

#[test]
fn only_what_takes_long_to_decode_goes_to_another_thread() {
    let ids = IdBuffer::new(&[70_000; 20_000]);
    let long_ids = IdBuffer::new(&[70_000; 30_000]);
    let data = vec![0; 1 << 20];
    let lookup = |ids| encoded(&Request::Lookup { key: key(ids, "r"), tp_size: 1 }, tcp("::1"));
    assert!(!lookup(&ids).is_long(|_| false));
    assert!(lookup(&long_ids).is_long(|_| false));
    assert!(!lookup(&long_ids).is_long(|_| true));
    let commit = Request::CommitStore { key: key(&ids, "r"), instance_id: 1, data: &data };
    assert!(!encoded(&commit, tcp("::1")).is_long(|_| false));
    let mut padded = lookup(&ids);
    padded.payloads = [&padded.payloads[..], &[Bytes::from(data)]].concat();
    assert!(padded.is_long(|_| true));
}

#[test]
fn the_lines_of_this_crate_are_among_those_that_clients_are_bounded_in() {
    assert!(larder_telemetry::CLIENT_CRATES.iter().any(|name| module_path!().starts_with(name)));
}
