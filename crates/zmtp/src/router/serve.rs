//! The router itself: binding, accepting, stopping.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::budget::{Budget, OutgoingBudget};
use super::connection::{Connection, Disconnect};
use super::peer::{Message, Peer, PeerId};
use crate::endpoint::Endpoint;
use crate::error::{LimitKind, Result};
use crate::limits::Limits;
use crate::lock::lock;
use crate::net::{Accepted, Listener, PeerAddress};
use crate::stats::Stats;

/// Pause after a failure to accept, such as too many open files. A connection that ends cuts it short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server does with its peers. All calls come from the connections' tasks and should not block: while
/// one runs, no other connection of the same thread is served.
pub trait Handler: 'static {
    /// A peer has finished its handshake.
    fn connected(&self, peer: &Peer) {
        _ = peer;
    }

    /// A whole message has arrived. Answering inside the call is the fast way; the message may also be kept.
    fn message(&self, peer: &Peer, message: Message);

    /// A peer that was announced by [`Handler::connected`] is gone. Called exactly once for each.
    fn disconnected(&self, peer: &Peer, reason: &Disconnect) {
        _ = (peer, reason);
    }
}

/// A bound ROUTER socket. Connections wait in the kernel until [`Router::serve`] runs.
#[derive(Debug)]
pub struct Router {
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
}

/// What the tasks of a router have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) stats: Stats,
    pub(super) budget: Budget,
    pub(super) outgoing_budget: OutgoingBudget,
    registry: Mutex<Registry>,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Registry {
    peers: HashMap<PeerId, Peer>,
    /// Connections by the IP address they come from.
    by_address: HashMap<IpAddr, usize>,
    last_id: u64,
    /// The accepting task.
    waker: Option<Waker>,
}

impl Router {
    /// Binds all `endpoints`, or none. Needs a tokio runtime with I/O and time enabled.
    ///
    /// A name bound to several addresses (such as `localhost`) listens on all that exist on this machine,
    /// with the same port. The ipc path of a dead server is taken over.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`](crate::Error::Bind), [`Error::InUse`](crate::Error::InUse) or
    /// [`Error::NotASocket`](crate::Error::NotASocket) for the first endpoint that cannot be bound.
    pub fn bind(endpoints: &[Endpoint], limits: Limits) -> Result<Self> {
        let mut listeners = Vec::new();
        for endpoint in endpoints {
            listeners.extend(Listener::bind(endpoint, &limits)?);
        }
        Ok(Self { listeners, shared: Shared::new(limits) })
    }

    /// The same router with other limits, of which those of the listening sockets stay as they were bound. To
    /// be called before [`Router::handle`].
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { shared: Shared::new(limits), ..self }
    }

    /// Where it listens: one entry for each address, with the port the system chose.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.listeners.iter().map(|listener| listener.endpoint().clone()).collect()
    }

    /// A handle that stays valid while the router serves.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Accepts and serves until [`Handle::close`]; then returns when queued output is written. Dropping the
    /// future ends all connections at once. Each connection is a task of the current runtime.
    pub async fn serve<H: Handler + Send + Sync>(self, handler: Arc<H>) {
        self.run(handler, |tasks, connection| {
            tasks.spawn(connection);
        })
        .await;
    }

    /// As [`Router::serve`], for handlers bound to their thread. Needs a [`tokio::task::LocalSet`].
    pub async fn serve_local<H: Handler>(self, handler: Arc<H>) {
        self.run(handler, |tasks, connection| {
            tasks.spawn_local(connection);
        })
        .await;
    }

    async fn run<H: Handler>(self, handler: Arc<H>, spawn: impl Fn(&mut JoinSet<()>, Connection<H>)) {
        let mut tasks = JoinSet::new();
        let mut pause: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if self.reap(&mut tasks, cx) {
                pause = None;
            }
            self.shared.registry().waker = Some(cx.waker().clone());
            if self.shared.is_closing() {
                return if tasks.is_empty() { Poll::Ready(()) } else { Poll::Pending };
            }
            if let Some(timer) = &mut pause {
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                pause = None;
            }
            for listener in &self.listeners {
                loop {
                    match listener.poll_accept(cx) {
                        Poll::Pending => break,
                        Poll::Ready(Ok(accepted)) => {
                            if let Some(connection) = self.shared.admit(accepted, &handler) {
                                spawn(&mut tasks, connection);
                            }
                        }
                        Poll::Ready(Err(error)) if error.kind() == ErrorKind::ConnectionAborted => {}
                        Poll::Ready(Err(_)) => {
                            self.shared.stats.accept_error();
                            let timer = pause.get_or_insert_with(|| Box::pin(sleep(ACCEPT_PAUSE)));
                            if timer.as_mut().poll(cx).is_ready() {
                                cx.waker().wake_by_ref();
                            }
                            break;
                        }
                    }
                }
            }
            // A task spawned now is not yet among those that wake this one.
            self.reap(&mut tasks, cx);
            Poll::Pending
        })
        .await;
    }

    /// Collects connections that ended and asks to be woken for the next one; true if there were any.
    fn reap(&self, tasks: &mut JoinSet<()>, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready(Some(ended)) = tasks.poll_join_next(cx) {
            any = true;
            if ended.is_err_and(|error| error.is_panic()) {
                self.shared.stats.handler_panic();
            }
        }
        any
    }
}

/// A view of a running router from anywhere.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// The router's counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// The router's limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Bytes received on all connections and not yet answered, as `Limits::total_budget_bytes` counts them.
    #[must_use]
    pub fn charged_bytes(&self) -> usize {
        self.shared.budget.used()
    }

    /// Bytes queued for all connections, as `Limits::total_outgoing_bytes_max` counts them.
    #[must_use]
    pub fn outgoing_bytes(&self) -> usize {
        self.shared.outgoing_budget.used()
    }

    /// The connection with this number, if it is open.
    #[must_use]
    pub fn peer(&self, id: PeerId) -> Option<Peer> {
        self.shared.registry().peers.get(&id).cloned()
    }

    /// All open connections, those in the handshake included, in no particular order.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.shared.registry().peers.values().cloned().collect()
    }

    /// Stops accepting and reading; connections end when what is queued for them is written (or
    /// `Limits::write_stall_timeout` has passed), then [`Router::serve`] returns.
    pub fn close(&self) {
        self.shared.closing.store(true, SeqCst);
        let waker = self.shared.registry().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
        for peer in self.peers() {
            peer.wake();
        }
    }
}

impl Shared {
    fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(limits.total_budget_bytes),
            outgoing_budget: OutgoingBudget::new(limits.total_outgoing_bytes_max),
            limits,
            stats: Stats::default(),
            registry: Mutex::default(),
            closing: AtomicBool::new(false),
        })
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    pub(super) fn opened(&self, peer: &Peer) {
        self.stats.opened();
        let mut registry = self.registry();
        registry.peers.insert(peer.id(), peer.clone());
        if let PeerAddress::Tcp(address) = peer.address() {
            *registry.by_address.entry(address.ip()).or_default() += 1;
        }
    }

    pub(super) fn closed(&self, peer: &Peer) {
        self.stats.closed();
        self.budget.forget(peer);
        let mut registry = self.registry();
        registry.peers.remove(&peer.id());
        if let PeerAddress::Tcp(address) = peer.address()
            && let Entry::Occupied(mut open) = registry.by_address.entry(address.ip())
        {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }

    /// A connection for what was accepted, unless too many are open.
    fn admit<H: Handler>(self: &Arc<Self>, accepted: Accepted, handler: &Arc<H>) -> Option<Connection<H>> {
        let id = {
            let mut registry = self.registry();
            let from_there = match accepted.address {
                PeerAddress::Tcp(address) => registry.by_address.get(&address.ip()).copied().unwrap_or(0),
                PeerAddress::Ipc { .. } => 0,
            };
            if self.stats.connections_open() >= self.limits.connections_max as u64 {
                self.stats.refused(LimitKind::Connections);
                return None;
            }
            if from_there >= self.limits.connections_per_address_max {
                self.stats.refused(LimitKind::ConnectionsPerAddress);
                return None;
            }
            registry.last_id += 1;
            PeerId(registry.last_id)
        };
        let peer = Peer::new(id, accepted.address, Arc::clone(self));
        Some(Connection::new(accepted.stream, peer, Arc::clone(handler), Arc::clone(self)))
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }
}
