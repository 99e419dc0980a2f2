//! What a handler is told, and how connections and routers end.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use larder_zmtp::{
    Dealer, Disconnect, Error, Handler, LimitKind, Limits, Message, Peer, PeerAddress, PeerId, Router,
};

use crate::common::{Echo, PATIENCE, Server, handshake, message};

/// Tells the test of everything that happens.
struct Tell(Sender<(PeerId, String)>);

impl Tell {
    fn new() -> (Self, Receiver<(PeerId, String)>) {
        let (sender, receiver) = channel();
        (Self(sender), receiver)
    }

    fn tell(&self, peer: &Peer, text: String) {
        // The test may have seen enough.
        _ = self.0.send((peer.id(), text));
    }
}

impl Handler for Tell {
    fn connected(&self, peer: &Peer) {
        self.tell(peer, format!("connected {}", peer.identity().escape_ascii()));
    }

    fn message(&self, peer: &Peer, message: Message) {
        match &message.parts[0][..] {
            b"panic" => panic!("asked to"),
            b"kick" => peer.disconnect(),
            _ => {
                // A peer that left does not need its answer.
                _ = message.permit.reply(message.parts);
            }
        }
    }

    fn disconnected(&self, peer: &Peer, reason: &Disconnect) {
        let reason = match reason {
            Disconnect::Failed(Error::Limit { limit, .. }) => limit.to_string(),
            Disconnect::Failed(Error::Closed { partial_bytes }) => format!("cut after {partial_bytes}"),
            other => format!("{other:?}"),
        };
        self.tell(peer, reason);
    }
}

#[test]
fn every_connection_ends_with_its_reason_once() {
    let (tell, told) = Tell::new();
    let server = Server::start(Limits::default(), tell);
    let next = || told.recv_timeout(PATIENCE).unwrap();
    let cases: [(&[u8], &str); 5] = [
        (b"", "Closed"),
        (&[0, 9, 1, 2], "cut after 2"),
        (&[2, 255, 0, 0, 0, 0, 0, 0, 0], LimitKind::FrameBytes.name()),
        (&message(b"kick"), "Kicked"),
        (&message(b"panic"), "Panicked"),
    ];
    let mut last_id = PeerId(0);
    for (bytes, reason) in cases {
        let mut raw = server.raw().shake_hands(b"who");
        let (id, text) = next();
        assert_eq!(text, "connected who");
        assert!(id > last_id);
        last_id = id;
        raw.send(bytes);
        drop(raw);
        assert_eq!(next(), (id, reason.to_owned()));
    }
    server.wait_for("the panic is counted", |stats| stats.handler_panics == 1);
    server.probe();
}

#[test]
fn failed_handshakes_are_not_announced() {
    let (tell, told) = Tell::new();
    let server = Server::start(Limits::default(), tell);
    let mut raw = server.raw();
    raw.send(&handshake(b"")[..70]);
    drop(raw);
    server.wait_for("it is counted", |stats| stats.handshakes_failed == 1);
    drop(server);
    assert!(told.recv().is_err());
}

#[tokio::test]
async fn closing_writes_what_is_queued_and_says_so() {
    let (tell, told) = Tell::new();
    let server = Server::start(Limits::default(), tell);
    let mut dealer = Dealer::connect(&server.endpoints[0]).await.unwrap();
    let (id, _) = told.recv_timeout(PATIENCE).unwrap();
    let payload = Bytes::from(vec![1; 10_000_000]);
    server.handle.peer(id).unwrap().send([payload.clone()]).unwrap();
    server.handle.close();
    assert!(dealer.recv().await.unwrap() == [payload]);
    assert!(dealer.recv().await.is_err());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (id, "Shutdown".to_owned()));
}

#[tokio::test]
async fn ipc_peers_are_known_by_process() {
    let name = format!("ipc://@larder-zmtp-credentials-{}", std::process::id());
    let server = Server::start_at(&[&name], Limits::default(), Echo);
    let _dealer = Dealer::connect_with(&server.endpoints[0], b"me", Limits::default()).await.unwrap();
    server.wait_for("it is there", |stats| stats.connections_open == 1);
    match server.handle.peers()[0].address() {
        PeerAddress::Ipc { pid, .. } => assert_eq!(pid, Some(std::process::id() as i32)),
        other => panic!("{other}"),
    }
}

/// A handler that must not leave its thread.
struct Local(Rc<Cell<u32>>);

impl Handler for Local {
    fn message(&self, _: &Peer, message: Message) {
        self.0.set(self.0.get() + 1);
        message.permit.reply(message.parts).unwrap();
    }
}

#[tokio::test]
async fn a_handler_bound_to_its_thread_is_served_locally() {
    let router = Router::bind(&["tcp://127.0.0.1:0".parse().unwrap()], Limits::default()).unwrap();
    let (endpoints, handle) = (router.endpoints(), router.handle());
    let count = Rc::default();
    #[expect(clippy::arc_with_non_send_sync, reason = "this is what the test is about")]
    let handler = Arc::new(Local(Rc::clone(&count)));
    let set = tokio::task::LocalSet::new();
    set.spawn_local(router.serve_local(handler));
    set.run_until(async {
        let mut dealer = Dealer::connect(&endpoints[0]).await.unwrap();
        for _ in 0..3 {
            dealer.send([Bytes::from_static(b"x")]).await.unwrap();
            dealer.recv().await.unwrap();
        }
        handle.close();
    })
    .await;
    set.await;
    assert_eq!(count.get(), 3);
    assert_eq!(handle.stats().snapshot().connections_open, 0);
}

/// Times the serving thread has gone to sleep.
fn sleeps(server: &Server) -> u64 {
    let path = format!("/proc/self/task/{}/status", server.thread_id);
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_idle_server_does_not_wake_up() {
    let limits = Limits { handshake_timeout: PATIENCE, ..Limits::default() };
    let server = Server::start(limits, Echo);
    let _peers: Vec<_> = (0..10).map(|_| server.raw().shake_hands(b"")).collect();
    server.probe();
    server.wait_for("the probe is gone", |stats| stats.connections_open == 10);
    // The thread may not have fallen asleep yet; after that, nothing wakes it within the time looked at.
    crate::common::eventually("the thread sleeps", || {
        let before = sleeps(&server);
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        sleeps(&server) == before
    });
}
