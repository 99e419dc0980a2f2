//! A router on a thread of its own, and clients of several kinds.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_zmtp::codec::{Decoder, Encoder, Event, GREETING, Ready, SocketType};
use larder_zmtp::{Dealer, Endpoint, Handle, Handler, Limits, Message, Peer, Router, StatsSnapshot};

/// Long enough for any machine; only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Answers every message with itself.
pub(crate) struct Echo;

impl Handler for Echo {
    fn message(&self, _: &Peer, message: Message) {
        // A peer that left does not need its answer.
        _ = message.permit.reply(message.parts);
    }
}

/// A serving router. Dropping it closes it and checks that nothing is left behind.
pub(crate) struct Server {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) handle: Handle,
    /// Kernel id of the serving thread.
    pub(crate) thread_id: u32,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(limits: Limits, handler: impl Handler + Send + Sync) -> Self {
        Self::start_at(&["tcp://127.0.0.1:0"], limits, handler)
    }

    pub(crate) fn start_at(endpoints: &[&str], limits: Limits, handler: impl Handler + Send + Sync) -> Self {
        let endpoints: Vec<Endpoint> = endpoints.iter().map(|text| text.parse().unwrap()).collect();
        let (started, starts) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let router = Router::bind(&endpoints, limits).unwrap();
                let thread_id = std::fs::read_link("/proc/thread-self").unwrap();
                let thread_id = thread_id.file_name().unwrap().to_str().unwrap().parse().unwrap();
                started.send((router.endpoints(), router.handle(), thread_id)).unwrap();
                router.serve(Arc::new(handler)).await;
            });
        });
        let (endpoints, handle, thread_id) = starts.recv().unwrap();
        Self { endpoints, handle, thread_id, thread: Some(thread) }
    }

    pub(crate) fn stats(&self) -> StatsSnapshot {
        self.handle.stats().snapshot()
    }

    /// Waits until the counters are as expected.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&StatsSnapshot) -> bool) {
        eventually(what, || condition(&self.stats()));
    }

    /// A healthy client comes, is served, and leaves.
    pub(crate) fn probe(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let probe = async {
                let mut dealer = Dealer::connect(&self.endpoints[0]).await.unwrap();
                dealer.send([Bytes::from_static(b"probe")]).await.unwrap();
                assert_eq!(dealer.recv().await.unwrap(), ["probe"]);
            };
            tokio::time::timeout(PATIENCE, probe).await.expect("a healthy client is served");
        });
    }

    /// A raw connection to the first endpoint.
    pub(crate) fn raw(&self) -> Raw {
        let Endpoint::Tcp { host, port } = &self.endpoints[0] else { panic!("not a TCP endpoint") };
        let stream = TcpStream::connect(format!("{host}:{port}")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.close();
        let ended = self.thread.take().unwrap().join();
        if std::thread::panicking() {
            return;
        }
        ended.unwrap();
        assert_eq!(self.stats().connections_open, 0);
        assert_eq!(self.handle.charged_bytes(), 0);
    }
}

/// Waits for a condition that another thread brings about.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A client that may do everything wrong.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    /// Goes through the handshake and reads the server's part of it.
    pub(crate) fn shake_hands(mut self, identity: &[u8]) -> Self {
        self.send(&handshake(identity));
        let mut answer = [0; 64 + 43];
        self.stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..64], GREETING);
        self
    }

    /// Writes what the server is willing to take.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // A server that has closed the connection already is what some tests are after.
        _ = self.stream.write_all(bytes);
    }

    /// Waits until the server closes the connection.
    pub(crate) fn expect_closed(&mut self) {
        let mut sink = [0; 4096];
        loop {
            match self.stream.read(&mut sink) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the server keeps the connection open: {error}"),
            }
        }
    }

    /// The next message or command.
    pub(crate) fn recv(&mut self, decoder: &mut Decoder) -> Event {
        loop {
            // One byte at a time leaves nothing over for the next call.
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            if let Some(event) = decoder.decode(&mut &byte[..]).unwrap() {
                return event;
            }
        }
    }
}

/// All that a DEALER sends before its first message.
pub(crate) fn handshake(identity: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.raw(&GREETING);
    encoder.command(Ready { socket_type: SocketType::Dealer, identity: identity.to_vec() }.encode());
    encoded(&mut encoder)
}

/// A message of one part.
pub(crate) fn message(part: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.message([Bytes::copy_from_slice(part)]);
    encoded(&mut encoder)
}

fn encoded(encoder: &mut Encoder) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !encoder.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[])];
        encoder.slices(&mut slices);
        bytes.extend_from_slice(&slices[0]);
        let written = slices[0].len();
        encoder.advance(written);
    }
    bytes
}

/// Random bytes from a seed (xorshift), so that a failure can be repeated.
pub(crate) fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Resident memory of this process.
pub(crate) fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}
