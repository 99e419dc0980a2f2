//! Handles to a connection: its identity, its outgoing queue, and the permits of its messages.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Waker};

use bytes::Bytes;

use super::outgoing::Outgoing;
use super::serve::Shared;
use crate::error::SendError;
use crate::lock::lock;
use crate::net::PeerAddress;

/// Number of a connection, given in order of acceptance from 1 and never reused by the same router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message as received.
#[derive(Debug)]
pub struct Message {
    /// Its frames, at least one of a whole message. Each owns its memory alone, so keeping one keeps nothing
    /// else.
    pub parts: Vec<Bytes>,
    /// Bytes of its last frames that were too large to keep and are not among `parts`
    /// ([`Limits::message_bytes_max`](crate::Limits)); 0 for a whole message.
    pub dropped_bytes: u64,
    /// The right to answer, and the charge for the message until the answer is written.
    pub permit: Permit,
}

/// A cheap handle to a connection; it may outlive the connection and go to other threads.
#[derive(Clone)]
pub struct Peer(Arc<PeerShared>);

struct PeerShared {
    id: PeerId,
    address: PeerAddress,
    identity: OnceLock<Bytes>,
    router: Arc<Shared>,
    queue: Mutex<Queue>,
    /// Bytes queued or being written.
    outgoing_bytes: AtomicUsize,
    /// Messages received and not answered, and their bytes.
    in_flight: AtomicUsize,
    charged_bytes: AtomicUsize,
    /// The connection's task waits for a charge to be released.
    blocked: AtomicBool,
    kicked: AtomicBool,
}

#[derive(Default)]
struct Queue {
    outgoing: Outgoing,
    waker: Option<Waker>,
    /// The connection's task sleeps and has to be woken for new output.
    parked: bool,
    gone: bool,
}

impl Peer {
    pub(super) fn new(id: PeerId, address: PeerAddress, router: Arc<Shared>) -> Self {
        Self(Arc::new(PeerShared {
            id,
            address,
            identity: OnceLock::new(),
            router,
            queue: Mutex::default(),
            outgoing_bytes: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            charged_bytes: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            kicked: AtomicBool::new(false),
        }))
    }

    /// The connection's number.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.0.id
    }

    /// Where the connection comes from.
    #[must_use]
    pub fn address(&self) -> PeerAddress {
        self.0.address
    }

    /// The identity the peer gave in its handshake, possibly empty. Nothing keeps two peers from giving the
    /// same one; connections are told apart by [`Peer::id`] alone.
    #[must_use]
    pub fn identity(&self) -> &[u8] {
        self.0.identity.get().map_or(&[], |identity| identity)
    }

    /// Queues a message that answers nothing. Never blocks.
    ///
    /// # Errors
    ///
    /// The peer is gone, `Limits::outgoing_bytes_max` bytes are queued already, or there are no parts.
    pub fn send(&self, parts: impl IntoIterator<Item = Bytes>) -> Result<(), SendError> {
        let max = self.outgoing_bytes_max();
        let queued = self.outgoing_bytes();
        if queued >= max {
            return Err(SendError::Full { queued, max });
        }
        self.queue(parts, None)
    }

    /// Ends the connection. What is queued for it is lost.
    pub fn disconnect(&self) {
        self.0.kicked.store(true, SeqCst);
        self.wake();
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.lock().gone
    }

    /// Waits until there is room for another answer, which is to be asked before a large one is made or a
    /// kept message is served: while much is queued for this peer it waits, and while much is queued for all
    /// peers, one at a time passes.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub async fn room(&self) -> Result<(), SendError> {
        let budget = &self.0.router.outgoing_budget;
        loop {
            // Both announced before the question, so that no release goes unnoticed.
            let _waiting = budget.wait();
            let changed = budget.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_gone() {
                return Err(SendError::Gone);
            }
            if self.outgoing_bytes() < self.outgoing_bytes_max() && budget.admits(self.id()) {
                return Ok(());
            }
            changed.await;
        }
    }

    /// Whether so little is queued for the peer, or for all, that it may ask for more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let queued = self.outgoing_bytes();
        queued == 0 || queued < self.outgoing_bytes_max() && self.0.router.outgoing_budget.has_room()
    }

    fn outgoing_bytes_max(&self) -> usize {
        self.0.router.limits.outgoing_bytes_max.max(1)
    }

    /// Bytes queued for the peer and not yet written.
    #[must_use]
    pub fn outgoing_bytes(&self) -> usize {
        self.0.outgoing_bytes.load(SeqCst)
    }

    fn queue(&self, parts: impl IntoIterator<Item = Bytes>, permit: Option<Permit>) -> Result<(), SendError> {
        let mut queue = self.lock();
        if queue.gone {
            return Err(SendError::Gone);
        }
        let bytes = queue.outgoing.message(parts);
        if bytes == 0 {
            return Err(SendError::Empty);
        }
        if let Some(permit) = permit {
            queue.outgoing.hold(permit);
        }
        self.add_outgoing(bytes);
        let waker = if queue.parked { queue.waker.clone() } else { None };
        queue.parked = false;
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.0.router.stats.message_out();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.0.queue)
    }
}

/// What the connection's task needs.
impl Peer {
    pub(super) fn set_identity(&self, identity: Vec<u8>) {
        // The handshake happens once.
        _ = self.0.identity.set(Bytes::from(identity));
    }

    pub(super) fn add_outgoing(&self, bytes: usize) {
        self.0.outgoing_bytes.fetch_add(bytes, SeqCst);
        self.0.router.outgoing_budget.charge(bytes);
    }

    pub(super) fn sub_outgoing(&self, bytes: usize) {
        let left = self.0.outgoing_bytes.fetch_sub(bytes, SeqCst) - bytes;
        self.0.router.outgoing_budget.release(self.id(), bytes, left == 0);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.0.in_flight.load(SeqCst)
    }

    pub(super) fn charged_bytes(&self) -> usize {
        self.0.charged_bytes.load(SeqCst)
    }

    pub(super) fn is_kicked(&self) -> bool {
        self.0.kicked.load(SeqCst)
    }

    /// Exchanges the queued output with `empty` and marks the task as running; false if nothing is queued.
    pub(super) fn take_outgoing(&self, empty: &mut Outgoing) -> bool {
        let mut queue = self.lock();
        queue.parked = false;
        if queue.outgoing.is_empty() {
            return false;
        }
        std::mem::swap(&mut queue.outgoing, empty);
        true
    }

    /// Announces that the task waits for a charge to be released.
    pub(super) fn set_blocked(&self) {
        self.0.blocked.store(true, SeqCst);
    }

    pub(super) fn clear_blocked(&self) {
        self.0.blocked.store(false, SeqCst);
    }

    /// Puts the task to sleep unless something has come up: output (unless `writing` already waits for the
    /// socket), or a release since [`Peer::set_blocked`]. True if the task may sleep.
    pub(super) fn park(&self, cx: &Context<'_>, writing: bool, blocked: bool) -> bool {
        let mut queue = self.lock();
        let output = !writing && !queue.outgoing.is_empty();
        let released = blocked && !self.0.blocked.load(SeqCst);
        if output || released {
            return false;
        }
        match &mut queue.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        queue.parked = true;
        true
    }

    /// Wakes the task if it waits for a charge to be released.
    pub(super) fn unblock(&self) {
        if self.0.blocked.load(SeqCst) && self.0.blocked.swap(false, SeqCst) {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        // Taken out of the lock first: a waker may run anything.
        let waker = self.lock().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Marks the connection as ended; what is queued is dropped, its permits too.
    pub(super) fn set_gone(&self) {
        let mut queue = self.lock();
        queue.gone = true;
        queue.waker = None;
        let outgoing = std::mem::take(&mut queue.outgoing);
        drop(queue);
        drop(outgoing);
        let queued = self.0.outgoing_bytes.swap(0, SeqCst);
        self.0.router.outgoing_budget.release(self.id(), queued, true);
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Peer {}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({}, {})", self.0.id, self.0.address)
    }
}

/// The right to answer one message. It holds the message's charge on the budgets; dropping it unused gives
/// the charge back and leaves the peer without an answer.
#[derive(Debug)]
pub struct Permit(Charge);

impl Permit {
    pub(super) fn new(charge: Charge) -> Self {
        charge.peer.0.in_flight.fetch_add(1, SeqCst);
        Self(charge)
    }

    /// Who asked.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Memory charged for the message: its bytes and a fixed amount for each part.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// Queues the answer, from whatever thread. Never blocks, and is never refused for want of room.
    ///
    /// # Errors
    ///
    /// The peer is gone or there are no parts.
    pub fn reply(self, parts: impl IntoIterator<Item = Bytes>) -> Result<(), SendError> {
        let peer = self.peer().clone();
        peer.queue(parts, Some(self))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.peer.0.in_flight.fetch_sub(1, SeqCst);
    }
}

/// Bytes charged to a connection and to all of them, given back on drop.
#[derive(Debug)]
pub(super) struct Charge {
    peer: Peer,
    bytes: usize,
    overdraft: bool,
}

impl Charge {
    pub(super) fn new(peer: &Peer) -> Self {
        Self { peer: peer.clone(), bytes: 0, overdraft: false }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Raises the charge to `bytes`; it never falls before the drop.
    pub(super) fn raise(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            self.peer.0.charged_bytes.fetch_add(more, SeqCst);
            self.peer.0.router.budget.charge(more);
            self.bytes += more;
        }
    }

    pub(super) fn has_overdraft(&self) -> bool {
        self.overdraft
    }

    pub(super) fn take_overdraft(&mut self) -> bool {
        self.overdraft = self.overdraft || self.peer.0.router.budget.take_overdraft(self.peer.id());
        self.overdraft
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.peer.0.charged_bytes.fetch_sub(self.bytes, SeqCst);
        self.peer.0.router.budget.release(self.bytes, self.overdraft);
        self.peer.unblock();
    }
}
