//! Hostile peers. After each attack (and during it, where it lasts) a healthy client is served.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use larder_zmtp::codec::{Command, Decoder, Event, GREETING};
use larder_zmtp::{Handler, LimitKind, Limits, Message, Peer};

use crate::common::{Echo, Raw, Server, eventually, handshake, message, random_bytes, resident_bytes};

fn long_frame(flags: u8, len: u64) -> Vec<u8> {
    [&[flags][..], &len.to_be_bytes()].concat()
}

#[test]
fn random_bytes_before_and_after_the_handshake() {
    let server = Server::start(Limits::default(), Echo);
    for seed in 0..300 {
        server.raw().send(&random_bytes(seed, 500));
    }
    for seed in 300..400 {
        server.raw().shake_hands(b"").send(&random_bytes(seed, 500));
    }
    server.probe();
    server.wait_for("all attackers are gone", |stats| stats.connections_open == 0);
    assert!(server.stats().protocol_violations >= 300);
}

#[test]
fn clients_of_other_protocols_are_closed_at_once() {
    let server = Server::start(Limits::default(), Echo);
    for opening in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"\xff\0\0\0\0\0\0\0\x01\x7f\x01"] {
        let mut raw = server.raw();
        raw.send(opening);
        raw.expect_closed();
    }
    assert_eq!(server.stats().handshakes_failed, 3);
}

#[test]
fn absurd_lengths_are_refused_at_the_header() {
    let server = Server::start(Limits::default(), Echo);
    let lengths = [1 << 40, 1 << 62, u64::MAX - 100, u64::MAX];
    for len in lengths {
        let mut raw = server.raw().shake_hands(b"");
        raw.send(&long_frame(2, len));
        raw.expect_closed();
    }
    assert_eq!(server.stats().violations(LimitKind::FrameBytes), lengths.len() as u64);
    for len in lengths {
        let mut raw = server.raw();
        raw.send(&[&GREETING[..], &long_frame(6, len)].concat());
        raw.expect_closed();
    }
    assert_eq!(server.stats().violations(LimitKind::CommandBytes), lengths.len() as u64);
    server.probe();
}

#[test]
fn claims_take_no_memory() {
    let server = Server::start(Limits::default(), Echo);
    let before = resident_bytes();
    let mut peers: Vec<Raw> = (0..20).map(|_| server.raw().shake_hands(b"")).collect();
    for peer in &mut peers {
        peer.send(&long_frame(2, 1 << 30));
        peer.send(&[0; 100_000]);
    }
    eventually("all bytes are there", || server.handle.charged_bytes() == 20 * 100_000);
    server.probe();
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown}");
}

#[test]
fn half_open_connections_are_reaped() {
    let limits = Limits { handshake_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = Server::start(limits, Echo);
    let whole = handshake(b"");
    let mut peers: Vec<Raw> = (0..200).map(|_| server.raw()).collect();
    for (index, peer) in peers.iter_mut().enumerate() {
        peer.send(&whole[..index % whole.len()]);
    }
    for peer in &mut peers {
        peer.expect_closed();
    }
    server.wait_for("all are counted", |stats| stats.violations(LimitKind::HandshakeTimeout) == 200);
    server.probe();
}

#[test]
fn unfinished_messages_are_reaped_and_idle_peers_are_not() {
    let limits = Limits { read_stall_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = Server::start(limits, Echo);
    let mut idle = server.raw().shake_hands(b"");
    for unfinished in [&[0][..], &[0, 9, 1], &[1, 0], &[2, 0, 0, 0, 0, 0, 16, 0, 0, 1]] {
        let mut raw = server.raw().shake_hands(b"");
        raw.send(unfinished);
        raw.expect_closed();
    }
    server.wait_for("all are counted", |stats| stats.violations(LimitKind::ReadStallTimeout) == 4);
    idle.send(&message(b"still here"));
    let event = idle.recv(&mut Decoder::new(Limits::default().frames()));
    assert!(matches!(event, Event::Message { parts, .. } if parts == ["still here"]));
}

#[test]
fn endless_multipart_ends_at_the_limit() {
    let server = Server::start(Limits::default(), Echo);
    let mut raw = server.raw().shake_hands(b"");
    for _ in 0..3000 {
        raw.send(&[1, 0].repeat(1000));
    }
    raw.expect_closed();
    assert_eq!(server.stats().violations(LimitKind::Parts), 1);
    server.probe();
}

#[test]
fn a_session_cut_off_anywhere_ends_cleanly() {
    let server = Server::start(Limits::default(), Echo);
    let session = [handshake(b"cut"), vec![1, 3, 1, 2, 3], message(&[5; 300])].concat();
    for len in 0..session.len() {
        server.raw().send(&session[..len]);
    }
    server.wait_for("all are gone", |stats| {
        stats.connections_accepted == session.len() as u64 && stats.connections_open == 0
    });
    assert_eq!(server.handle.charged_bytes(), 0);
    server.probe();
}

#[test]
fn a_session_in_single_bytes_is_served() {
    let server = Server::start(Limits::default(), Echo);
    let mut raw = server.raw();
    for byte in [handshake(b""), message(b"slow")].concat() {
        raw.send(&[byte]);
    }
    let mut decoder = Decoder::new(Limits::default().frames());
    std::io::Read::read_exact(&mut raw.stream, &mut [0; 64]).unwrap();
    assert!(matches!(raw.recv(&mut decoder), Event::Command(body) if body.starts_with(b"\x05READY")));
    assert!(matches!(raw.recv(&mut decoder), Event::Message { parts, .. } if parts == ["slow"]));
}

#[test]
fn two_peers_with_the_same_identity_are_both_served() {
    let server = Server::start(Limits::default(), Echo);
    let mut peers = [server.raw().shake_hands(b"twin"), server.raw().shake_hands(b"twin")];
    let mut decoder = Decoder::new(Limits::default().frames());
    for _ in 0..2 {
        for (peer, text) in peers.iter_mut().zip(["first", "second"]) {
            peer.send(&message(text.as_bytes()));
            let event = peer.recv(&mut decoder);
            assert!(matches!(event, Event::Message { parts, .. } if parts == [text]));
        }
    }
    let ids: Vec<_> =
        server.handle.peers().iter().map(|peer| (peer.id(), peer.identity().to_vec())).collect();
    assert!(ids[0].0 != ids[1].0 && ids[0].1 == b"twin" && ids[1].1 == b"twin", "{ids:?}");
}

#[test]
fn heartbeats_are_answered_even_within_a_message() {
    let server = Server::start(Limits::default(), Echo);
    let mut raw = server.raw().shake_hands(b"");
    raw.send(b"\x01\x01a\x04\x0a\x04PING\x00\x0actx");
    raw.send(b"\x00\x01b");
    let mut decoder = Decoder::new(Limits::default().frames());
    assert_eq!(raw.recv(&mut decoder), Event::Command(Command::pong(b"ctx").into()));
    assert!(matches!(raw.recv(&mut decoder), Event::Message { parts, .. } if parts == ["a", "b"]));
    raw.send(b"\x04\x04\x04PING");
    raw.expect_closed();
}

#[test]
fn a_flood_of_heartbeats_from_a_peer_that_never_reads_is_bounded() {
    let limits = Limits { outgoing_bytes_max: 1 << 20, ..Limits::default() };
    let server = Server::start(limits, Echo);
    let mut raw = server.raw().shake_hands(b"");
    let pings = b"\x04\x0a\x04PING\x00\x0actx".repeat(10_000);
    raw.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let sent = (0..2000).take_while(|_| std::io::Write::write_all(&mut raw.stream, &pings).is_ok()).count();
    assert!(sent < 2000, "the server reads on");
    server.probe();
    let attacker = server.handle.peers().into_iter().next().unwrap();
    assert!(attacker.outgoing_bytes() < 2 << 20, "{}", attacker.outgoing_bytes());
    drop(raw);
}

#[test]
fn thousands_of_idle_connections_cost_little_and_refusals_are_counted() {
    let limits = Limits { connections_max: 4000, ..Limits::default() };
    let server = Server::start(limits, Echo);
    // The probe touches all that the first connection touches.
    server.probe();
    server.wait_for("the probe is gone", |stats| stats.connections_open == 0);
    let before = resident_bytes();
    let peers: Vec<Raw> = (0..3999).map(|_| server.raw().shake_hands(b"")).collect();
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 3999 * (8 << 10), "{grown}");
    server.probe();
    server.wait_for("the probe is gone", |stats| stats.connections_open == 3999);
    let last = server.raw().shake_hands(b"");
    server.raw().expect_closed();
    server.wait_for("the refusal is counted", |stats| {
        stats.connections_refused == 1 && stats.violations(LimitKind::Connections) == 1
    });
    drop((peers, last));
    server.wait_for("all are gone", |stats| stats.connections_open == 0);
    server.probe();
}

#[test]
fn reconnect_storms_leave_nothing_behind() {
    let server = Server::start(Limits::default(), Echo);
    for round in 0..2000u32 {
        let mut raw = server.raw();
        raw.send(&handshake(b"storm"));
        if round % 2 == 0 {
            raw.send(&message(b"unread"));
        }
    }
    server
        .wait_for("all are gone", |stats| stats.connections_accepted == 2000 && stats.connections_open == 0);
    server.probe();
}

/// Has the other client speak while the first of many slow messages is served, and counts how many are before
/// it has its turn.
struct Slow {
    other: Mutex<Option<Raw>>,
    served_before: Mutex<(usize, Option<usize>)>,
}

struct Shared(Arc<Slow>);

impl Handler for Shared {
    fn message(&self, _: &Peer, message: Message) {
        self.0.message(message);
    }
}

impl Slow {
    fn message(&self, message: Message) {
        let mut served = self.served_before.lock().unwrap();
        if message.parts[0] == "other" {
            served.1 = Some(served.0);
            return;
        }
        served.0 += 1;
        if let Some(mut other) = self.other.lock().unwrap().take() {
            other.send(&crate::common::message(b"other"));
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(200) {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn many_messages_that_take_long_hold_up_nobody_for_longer_than_a_few_of_them() {
    const MESSAGES: usize = 2000;
    let handler = Arc::new(Slow { other: Mutex::default(), served_before: Mutex::default() });
    let server = Server::start(Limits::default(), Shared(Arc::clone(&handler)));
    *handler.other.lock().unwrap() = Some(server.raw().shake_hands(b""));
    let mut attacker = server.raw().shake_hands(b"");
    attacker.send(&message(b"slow").repeat(MESSAGES));
    eventually("all are served", || handler.served_before.lock().unwrap().0 == MESSAGES);
    eventually("the other one is served", || handler.served_before.lock().unwrap().1.is_some());
    let before = handler.served_before.lock().unwrap().1.unwrap();
    assert!(before < MESSAGES / 20, "{before} of {MESSAGES} slow messages came first");
}
