//! Peers that take more than they give back: each blocks itself and nobody else.

use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use larder_zmtp::codec::{Decoder, Event};
use larder_zmtp::{Dealer, Disconnect, Error, Handler, LimitKind, Limits, Message, Peer, SendError};

use crate::common::{Echo, PATIENCE, Server, eventually, message};

#[test]
fn a_peer_that_never_reads_blocks_itself_and_loses_nothing() {
    let limits = Limits {
        connection_budget_bytes: 1 << 20,
        outgoing_bytes_max: 1 << 20,
        total_budget_bytes: 64 << 20,
        ..Limits::default()
    };
    let server = Server::start(limits.clone(), Echo);
    let mut raw = server.raw().shake_hands(b"");
    let request = message(&[3; 100_000]);
    raw.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut sent = 0;
    let mut partial = 0;
    while sent < 3000 {
        match raw.stream.write(&request[partial..]) {
            Ok(written) => partial += written,
            Err(_) => break,
        }
        if partial == request.len() {
            partial = 0;
            sent += 1;
        }
    }
    assert!(sent < 3000, "the server reads on");
    let charged = server.handle.charged_bytes();
    assert!(charged < 2 << 20, "{charged}");
    assert!(server.stats().budget_waits > 0);
    server.probe();

    let mut writer = raw.stream.try_clone().unwrap();
    let finish = std::thread::spawn(move || {
        writer.set_write_timeout(Some(PATIENCE)).unwrap();
        writer.write_all(&request[partial..]).unwrap();
    });
    let mut decoder = Decoder::new(limits.frames());
    let mut answered = 0;
    let mut buffer = vec![0; 1 << 16];
    while answered <= sent {
        let read = std::io::Read::read(&mut raw.stream, &mut buffer).unwrap();
        assert!(read > 0, "the server closed the connection");
        let mut input = &buffer[..read];
        while let Some(event) = decoder.decode(&mut input).unwrap() {
            assert!(matches!(event, Event::Message { parts, .. } if parts[0].len() == 100_000));
            answered += 1;
        }
    }
    finish.join().unwrap();
}

#[test]
fn a_peer_that_never_reads_is_dropped_in_the_end() {
    let limits = Limits { write_stall_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(limits, Echo);
    let mut raw = server.raw().shake_hands(b"");
    let request = message(&[3; 1 << 20]);
    while raw.stream.write_all(&request).is_ok() {}
    server.wait_for("the peer is dropped", |stats| stats.violations(LimitKind::WriteStallTimeout) == 1);
    server.probe();
}

/// Keeps every message until told to answer.
#[derive(Default)]
struct Keep {
    kept: &'static Kept,
}

#[derive(Default)]
struct Kept {
    messages: Mutex<Vec<Message>>,
    gone: AtomicUsize,
}

impl Default for &'static Kept {
    fn default() -> Self {
        Box::leak(Box::default())
    }
}

impl Kept {
    fn len(&self) -> usize {
        self.messages.lock().unwrap().len()
    }

    fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.messages.lock().unwrap())
    }
}

impl Handler for Keep {
    fn message(&self, peer: &Peer, message: Message) {
        if message.parts[0] == "probe" {
            return message.permit.reply(message.parts).unwrap();
        }
        assert_eq!(message.permit.peer(), peer);
        self.kept.messages.lock().unwrap().push(message);
    }

    fn disconnected(&self, _: &Peer, _: &Disconnect) {
        self.kept.gone.fetch_add(1, SeqCst);
    }
}

#[test]
fn unanswered_messages_stop_the_reader_and_answers_from_another_thread_start_it() {
    let limits = Limits { messages_in_flight_max: 4, ..Limits::default() };
    let keep = Keep::default();
    let kept = keep.kept;
    let server = Server::start(limits.clone(), keep);
    let mut raw = server.raw().shake_hands(b"");
    let numbers: Vec<Vec<u8>> = (0..10u8).map(|number| message(&[number])).collect();
    raw.send(&numbers.concat());
    let mut decoder = Decoder::new(limits.frames());
    for batch in [0..4, 4..8, 8..10] {
        eventually("a batch has arrived", || kept.len() == batch.len());
        server.probe();
        assert_eq!(kept.len(), batch.len());
        for (message, number) in kept.take().into_iter().zip(batch) {
            assert_eq!(message.parts, [&[number][..]]);
            message.permit.reply(message.parts).unwrap();
            let event = raw.recv(&mut decoder);
            assert!(matches!(event, Event::Message { parts, .. } if parts == [&[number][..]]));
        }
    }
}

#[test]
fn a_dropped_permit_gives_its_room_back_without_an_answer() {
    let limits = Limits { messages_in_flight_max: 1, ..Limits::default() };
    let keep = Keep::default();
    let kept = keep.kept;
    let server = Server::start(limits, keep);
    let mut raw = server.raw().shake_hands(b"");
    for _ in 0..3 {
        raw.send(&message(b"x"));
    }
    for _ in 0..3 {
        eventually("a message has arrived", || kept.len() == 1);
        assert!(server.handle.charged_bytes() > 0);
        kept.take();
    }
    assert_eq!(server.handle.charged_bytes(), 0);
}

#[test]
fn replies_to_a_gone_peer_are_errors() {
    let keep = Keep::default();
    let kept = keep.kept;
    let server = Server::start(Limits::default(), keep);
    let mut raw = server.raw().shake_hands(b"");
    raw.send(&message(b"question"));
    eventually("it has arrived", || kept.len() == 1);
    drop(raw);
    eventually("the peer is gone", || kept.gone.load(SeqCst) == 1);
    let message = kept.take().remove(0);
    let peer = message.permit.peer().clone();
    assert!(peer.is_gone());
    assert!(server.handle.peer(peer.id()).is_none());
    assert_eq!(message.permit.reply(message.parts), Err(SendError::Gone));
    assert_eq!(peer.send([Bytes::from_static(b"x")]), Err(SendError::Gone));
}

#[test]
fn unsolicited_messages_are_refused_when_the_queue_is_full() {
    let limits = Limits { outgoing_bytes_max: 1 << 20, ..Limits::default() };
    let server = Server::start(limits, Echo);
    let raw = server.raw().shake_hands(b"");
    eventually("the handshake is done", || !server.handle.peers().is_empty());
    let peer = server.handle.peers().remove(0);
    assert_eq!(peer.send([]), Err(SendError::Empty));
    let payload = Bytes::from(vec![0; 100_000]);
    let refused = (0..3000).find_map(|_| peer.send([payload.clone()]).err());
    assert!(matches!(refused, Some(SendError::Full { queued, max }) if queued >= max), "{refused:?}");
    assert!(peer.outgoing_bytes() < 2 << 20);
    server.probe();
    drop(raw);
}

/// Eight messages, each larger than the common budget, arrive in halves. Without the overdraft they would use
/// up the budget and wait for each other.
#[test]
fn half_messages_do_not_block_each_other() {
    let limits = Limits { total_budget_bytes: 100_000, connection_budget_bytes: 50_000, ..Limits::default() };
    let server = Server::start(limits, Echo);
    let payload = message(&[1; 300_000]);
    let (first, second) = payload.split_at(payload.len() / 2);
    let mut peers: Vec<_> = (0..8).map(|_| server.raw().shake_hands(b"")).collect();
    let senders: Vec<_> = peers
        .iter_mut()
        .map(|peer| {
            peer.send(first);
            let mut stream = peer.stream.try_clone().unwrap();
            let second = second.to_vec();
            std::thread::spawn(move || stream.write_all(&second).unwrap())
        })
        .collect();
    let readers: Vec<_> = peers
        .into_iter()
        .map(|peer| {
            let mut stream = peer.stream;
            let mut answer = vec![0; payload.len()];
            std::thread::spawn(move || std::io::Read::read_exact(&mut stream, &mut answer).unwrap())
        })
        .collect();
    senders.into_iter().chain(readers).for_each(|thread| thread.join().unwrap());
    assert!(server.stats().budget_waits > 0);
    server.probe();
}

/// While one peer's kept messages use up the common budget, others are served one message at a time.
#[test]
fn a_used_up_budget_slows_others_and_does_not_stop_them() {
    let limits = Limits { total_budget_bytes: 50_000, reserve_bytes: 0, ..Limits::default() };
    let keep = Keep::default();
    let kept = keep.kept;
    let server = Server::start(limits, keep);
    let mut raw = server.raw().shake_hands(b"");
    raw.send(&message(&[1; 60_000]));
    eventually("it has arrived", || kept.len() == 1);
    server.probe();
    server.probe();
    kept.take();
}

/// Every way of blocking at once, and every release from another thread: a wake-up lost anywhere stops this
/// test.
#[test]
fn no_wake_up_is_lost_between_threads() {
    let limits = Limits {
        messages_in_flight_max: 3,
        connection_budget_bytes: 3_000,
        total_budget_bytes: 10_000,
        reserve_bytes: 1_000,
        outgoing_bytes_max: 5_000,
        total_outgoing_bytes_max: 20_000,
        ..Limits::default()
    };
    let (sender, receiver) = std::sync::mpsc::channel::<Message>();
    let receiver = std::sync::Arc::new(Mutex::new(receiver));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let receiver = Arc::clone(&receiver);
            std::thread::spawn(move || {
                loop {
                    let Ok(message) = receiver.lock().unwrap().recv() else { return };
                    message.permit.reply(message.parts).unwrap();
                }
            })
        })
        .collect();
    let server = Server::start(limits, Forward(sender));
    let clients: Vec<_> = (0..8usize)
        .map(|client| {
            let endpoint = server.endpoints[0].clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut dealer = Dealer::connect(&endpoint).await.unwrap();
                    let mut left: std::collections::VecDeque<usize> = (0..3000).collect();
                    let sizes = left.clone();
                    for _ in 0..20 {
                        dealer.queue([Bytes::from(vec![1; size(client, left.pop_front().unwrap())])]);
                    }
                    let mut missing = sizes.len();
                    // Workers overtake each other, so answers are counted by size.
                    let mut expected: usize = sizes.into_iter().map(|number| size(client, number)).sum();
                    while missing > 0 {
                        let answer = tokio::time::timeout(PATIENCE, dealer.recv()).await.unwrap().unwrap();
                        expected -= answer[0].len();
                        missing -= 1;
                        if let Some(number) = left.pop_front() {
                            dealer.queue([Bytes::from(vec![1; size(client, number)])]);
                        }
                    }
                    assert_eq!(expected, 0);
                });
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(server.stats().budget_waits > 0);
    drop(server);
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

fn size(client: usize, number: usize) -> usize {
    if number % 97 == client { 90_000 } else { (number * 37 + client) % 2000 }
}

struct Forward(std::sync::mpsc::Sender<Message>);

impl Handler for Forward {
    fn message(&self, _: &Peer, message: Message) {
        self.0.send(message).unwrap();
    }
}

/// The smallest limits that make sense still let messages through, one at a time.
#[test]
fn budgets_of_nothing_serve_one_message_at_a_time() {
    let limits = Limits {
        messages_in_flight_max: 0,
        connection_budget_bytes: 0,
        total_budget_bytes: 0,
        reserve_bytes: 0,
        outgoing_bytes_max: 0,
        total_outgoing_bytes_max: 0,
        ..Limits::default()
    };
    let server = Server::start(limits, Echo);
    server.probe();
    let mut raw = server.raw().shake_hands(b"");
    raw.send(&message(&[7; 1000]).repeat(200));
    let mut decoder = Decoder::new(Limits::default().frames());
    for _ in 0..200 {
        assert!(matches!(raw.recv(&mut decoder), Event::Message { parts, .. } if parts[0].len() == 1000));
    }
}

/// Answers with how much of a message was dropped, and its first part.
struct Measure;

impl Handler for Measure {
    fn message(&self, _: &Peer, message: Message) {
        let dropped = message.dropped_bytes.to_string();
        let first = message.parts.first().cloned().unwrap_or_default();
        message.permit.reply([first, dropped.into()]).unwrap();
    }
}

#[tokio::test]
async fn a_message_too_large_to_keep_is_answered_and_costs_no_memory() {
    let limits = Limits { message_bytes_max: 1000, dropped_bytes_max: 64 << 20, ..Limits::default() };
    let server = Server::start(limits, Measure);
    let mut dealer = Dealer::connect(&server.endpoints[0]).await.unwrap();
    for (parts, dropped) in [([600, 401, 0], "402"), ([3, 32 << 20, 5], "33554437"), ([3, 4, 5], "0")] {
        dealer.send(parts.map(|length| Bytes::from(vec![b'x'; length]))).await.unwrap();
        let answer = dealer.recv().await.unwrap();
        assert_eq!((answer[0].len(), &answer[1]), (parts[0], &Bytes::from(dropped)));
    }
    dealer.send([Bytes::from(vec![0; 2000])]).await.unwrap();
    assert_eq!(dealer.recv().await.unwrap(), ["", "2000"]);
    assert_eq!(server.stats().messages_cut, 3);
}

#[tokio::test]
async fn messages_far_over_the_limit_end_the_connection() {
    let limits = Limits { message_bytes_max: 1000, dropped_bytes_max: 2000, ..Limits::default() };
    let server = Server::start(limits, Echo);
    let mut dealer = Dealer::connect(&server.endpoints[0]).await.unwrap();
    dealer.send([Bytes::from(vec![0; 1600]), Bytes::from(vec![0; 401])]).await.unwrap();
    assert!(matches!(dealer.recv().await, Err(Error::Closed { .. } | Error::Io(_))));
    assert_eq!(server.stats().violations(LimitKind::MessageBytes), 1);
}

#[test]
fn one_address_leaves_connections_to_others() {
    let limits = Limits { connections_per_address_max: 3, ..Limits::default() };
    let server = Server::start_at(&["tcp://127.0.0.1:0", "ipc://@larder-zmtp-test-address"], limits, Echo);
    let kept: Vec<_> = (0..3).map(|_| server.raw().shake_hands(b"")).collect();
    server.raw().expect_closed();
    assert_eq!(server.stats().violations(LimitKind::ConnectionsPerAddress), 1);
    drop(kept);
    server.wait_for("they are gone", |stats| stats.connections_open == 0);
    server.probe();
}
