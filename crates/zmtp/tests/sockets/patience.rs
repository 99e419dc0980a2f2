//! Peers that take their time: as long as nobody waits for them they get some, and small messages always
//! pass.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use larder_zmtp::codec::{Decoder, Event};
use larder_zmtp::{Handler, LimitKind, Limits, Message, Peer};

use crate::common::{Echo, PATIENCE, Raw, Server, eventually, message};

/// Long enough that a test which waits for it fails.
const NEVER: Duration = Duration::from_secs(3600);

fn half(payload_bytes: usize) -> Vec<u8> {
    let mut whole = message(&vec![1; payload_bytes]);
    whole.truncate(payload_bytes / 2);
    whole
}

/// Sends a byte now and then until it is dropped.
struct Trickle {
    stops: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Trickle {
    fn start(raw: &Raw) -> Self {
        let mut stream = raw.stream.try_clone().unwrap();
        let stops = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stops);
        let thread = std::thread::spawn(move || {
            while !stop.load(SeqCst) && stream.write_all(&[1]).is_ok() {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        Self { stops, thread: Some(thread) }
    }
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.stops.store(true, SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_message_has_a_deadline_from_its_first_byte_however_it_trickles() {
    let limits = Limits {
        read_stall_timeout: Duration::from_millis(200),
        contested_stall_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = Server::start(limits, Echo);
    let mut raw = server.raw().shake_hands(b"");
    raw.send(&half(1 << 20));
    let _trickle = Trickle::start(&raw);
    raw.expect_closed();
    server.wait_for("it is counted", |stats| stats.violations(LimitKind::ReadStallTimeout) == 1);
}

#[test]
fn a_message_that_comes_on_has_all_the_time_it_needs() {
    let limits = Limits {
        read_stall_timeout: Duration::from_secs(1),
        contested_stall_timeout: Duration::from_millis(50),
        progress_bytes_min: 1000,
        ..Limits::default()
    };
    let server = Server::start(limits, Echo);
    let mut raw = server.raw().shake_hands(b"");
    let whole = message(&[1; 100_000]);
    for piece in whole.chunks(8000) {
        raw.send(piece);
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let event = raw.recv(&mut Decoder::new(Limits::default().frames()));
    assert!(matches!(event, Event::Message { parts, .. } if parts[0].len() == 100_000));
}

/// Two unfinished messages use up the budget and trickle on. Small messages of others pass at once, although
/// nobody is ended; as soon as a large one waits, those that keep it waiting are ended.
#[test]
fn unfinished_messages_stop_nobody_and_end_when_somebody_waits() {
    let limits = Limits {
        read_stall_timeout: NEVER,
        contested_stall_timeout: Duration::from_millis(200),
        reserve_bytes: 4096,
        total_budget_bytes: 300_000,
        ..Limits::default()
    };
    let server = Server::start(limits, Echo);
    let mut holders: Vec<Raw> = (0..2).map(|_| server.raw().shake_hands(b"")).collect();
    for holder in &mut holders {
        holder.send(&half(1 << 20));
    }
    let _trickles: Vec<_> = holders.iter().map(Trickle::start).collect();
    eventually("the budget is used up", || server.handle.charged_bytes() >= 300_000);
    server.probe();
    server.probe();

    let mut large = server.raw().shake_hands(b"");
    large.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    large.stream.write_all(&message(&[2; 200_000])).unwrap();
    let event = large.recv(&mut Decoder::new(Limits::default().frames()));
    assert!(matches!(event, Event::Message { parts, .. } if parts[0].len() == 200_000));
    assert!(server.stats().violations(LimitKind::ReadStallTimeout) >= 1);
}

/// Answers each message with a large one, after asking for room; keeps the peers.
#[derive(Clone, Default)]
struct Generous(Arc<Mutex<Vec<Peer>>>);

const ANSWER_BYTES: usize = 8 << 20;

impl Handler for Generous {
    fn message(&self, peer: &Peer, message: Message) {
        if message.parts[0] == "probe" {
            return message.permit.reply(message.parts).unwrap();
        }
        self.0.lock().unwrap().push(peer.clone());
        let peer = peer.clone();
        tokio::spawn(async move {
            if peer.room().await.is_ok() {
                _ = message.permit.reply([Bytes::from(vec![7; ANSWER_BYTES])]);
            }
        });
    }
}

#[test]
fn peers_that_do_not_read_share_one_budget_and_keep_nobody_from_an_answer() {
    let limits = Limits {
        write_stall_timeout: NEVER,
        contested_stall_timeout: Duration::from_millis(200),
        total_outgoing_bytes_max: 2 * ANSWER_BYTES,
        ..Limits::default()
    };
    let server = Server::start(limits, Generous::default());
    let mut deaf: Vec<Raw> = (0..6).map(|_| server.raw().shake_hands(b"")).collect();
    for peer in &mut deaf {
        peer.send(&message(b"more"));
    }
    eventually("the budget is used up", || server.handle.outgoing_bytes() >= ANSWER_BYTES);
    server.probe();
    let mut reader = server.raw().shake_hands(b"");
    reader.send(&message(b"more"));
    // One byte of flags and eight of length come before the payload.
    let mut answer = vec![0; 9 + ANSWER_BYTES];
    std::io::Read::read_exact(&mut reader.stream, &mut answer).unwrap();
    let queued = server.handle.outgoing_bytes();
    assert!(queued <= 5 * ANSWER_BYTES, "{queued}");
    server.wait_for("somebody was ended", |stats| stats.violations(LimitKind::WriteStallTimeout) > 0);
    drop(deaf);
    server.wait_for("they are gone", |stats| stats.connections_open <= 1);
    drop(reader);
    eventually("nothing is queued", || server.handle.outgoing_bytes() == 0);
}

#[test]
fn whoever_waits_for_room_learns_that_the_peer_has_gone() {
    let limits = Limits { write_stall_timeout: NEVER, outgoing_bytes_max: 1 << 20, ..Limits::default() };
    let handler = Generous::default();
    let server = Server::start(limits, handler.clone());
    let mut raw = server.raw().shake_hands(b"");
    raw.send(&message(b"more").repeat(3));
    eventually("the answer is queued", || {
        handler.0.lock().unwrap().first().is_some_and(|peer| peer.outgoing_bytes() > 1 << 20)
    });
    let peer = handler.0.lock().unwrap()[0].clone();
    assert!(peer.outgoing_bytes() <= ANSWER_BYTES * 3);
    drop(raw);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let room = runtime.block_on(async { tokio::time::timeout(PATIENCE, peer.room()).await });
    assert!(room.unwrap().is_err());
}
