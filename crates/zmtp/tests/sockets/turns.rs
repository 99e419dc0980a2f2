//! How long one connection may keep the others waiting.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::rc::Rc;
use std::sync::Arc;

use larder_zmtp::{Disconnect, Handle, Handler, Limits, Message, Peer, Router};

use crate::common::{PATIENCE, handshake, message};

/// Messages the busy peer sends, were it never interrupted.
const BUSY_MESSAGES: usize = 2000;

/// Messages of one read, which takes 64 KiB, and of the reads of one turn.
const READ_MESSAGES: usize = 8;
const TURN_MESSAGES: usize = 8 * READ_MESSAGES;

/// A busy peer, to which each message that is served gives another one, and a quiet one, which speaks as soon
/// as the busy one does.
struct Scene {
    busy: RefCell<UnixStream>,
    quiet: RefCell<UnixStream>,
    connected: Cell<usize>,
    served: Cell<usize>,
    served_before_quiet: Cell<Option<usize>>,
    router: Handle,
}

/// What the busy peer sends.
fn busy_message() -> Vec<u8> {
    message(&[b'b'; 8000])
}

/// The scene on its one thread.
struct OnStage(Rc<Scene>);

impl Handler for OnStage {
    fn connected(&self, _: &Peer) {
        self.0.connected.set(self.0.connected.get() + 1);
    }

    fn message(&self, _: &Peer, message: Message) {
        let scene = &self.0;
        if message.parts[0] == "quiet" {
            scene.served_before_quiet.set(Some(scene.served.get()));
            scene.router.close();
            return;
        }
        scene.served.set(scene.served.get() + 1);
        if scene.served.get() == 1 {
            scene.quiet.borrow_mut().write_all(&crate::common::message(b"quiet")).unwrap();
        }
        if scene.served.get() < BUSY_MESSAGES && scene.served_before_quiet.get().is_none() {
            scene.busy.borrow_mut().write_all(&busy_message()).unwrap();
        }
    }

    fn disconnected(&self, _: &Peer, _: &Disconnect) {}
}

#[tokio::test]
async fn a_peer_whose_messages_never_end_is_interrupted_for_others() {
    let name = format!("larder-zmtp-turns-{}", std::process::id());
    let endpoint = format!("ipc://@{name}").parse().unwrap();
    let router = Router::bind(&[endpoint], Limits::default()).unwrap();
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let connect = || RefCell::new(UnixStream::connect_addr(&address).unwrap());
    let scene = Rc::new(Scene {
        busy: connect(),
        quiet: connect(),
        connected: Cell::new(0),
        served: Cell::new(0),
        served_before_quiet: Cell::new(None),
        router: router.handle(),
    });
    #[expect(
        clippy::arc_with_non_send_sync,
        reason = "the sockets are written to by the thread that reads them"
    )]
    let handler = Arc::new(OnStage(Rc::clone(&scene)));
    let set = tokio::task::LocalSet::new();
    set.spawn_local(router.serve_local(handler));
    let play = set.run_until(async {
        for peer in [&scene.quiet, &scene.busy] {
            peer.borrow_mut().write_all(&handshake(b"")).unwrap();
        }
        while scene.connected.get() < 2 {
            tokio::task::yield_now().await;
        }
        // A read that takes all there is makes the runtime look at the socket again.
        let first = busy_message().repeat(2 * READ_MESSAGES);
        scene.busy.borrow_mut().write_all(&first).unwrap();
        while scene.served_before_quiet.get().is_none() {
            tokio::task::yield_now().await;
        }
    });
    tokio::time::timeout(PATIENCE, play).await.expect("both are served");
    tokio::time::timeout(PATIENCE, set).await.expect("the router ends");
    let served = scene.served_before_quiet.get().unwrap();
    assert!(served <= 4 * TURN_MESSAGES, "{served} messages before the other peer's only one");
}
