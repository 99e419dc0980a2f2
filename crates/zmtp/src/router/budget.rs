//! How many bytes all connections together may hold: received and not yet answered, and queued and not yet
//! written.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::peer::{Peer, PeerId};
use crate::lock::lock;

/// The budget of all connections. Charging never fails: a connection asks [`Budget::admits`] before it reads,
/// and what it then reads is charged, so the budget is overrun by at most a scratch buffer for each reader,
/// and by the one message of the connection that holds the overdraft.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: AtomicUsize,
    /// Connection allowed to go on although the budget is used up, or 0. Without it, connections each holding
    /// half a message could use up the budget and wait for each other.
    overdraft: AtomicU64,
    waiting: AtomicUsize,
    waiters: Mutex<Vec<Peer>>,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            used: AtomicUsize::new(0),
            overdraft: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::new(Vec::new()),
        }
    }

    /// Whether there is room, so that anybody may read.
    pub(super) fn admits(&self) -> bool {
        self.used.load(SeqCst) < self.max
    }

    /// Takes the overdraft for the message which `peer` is about to read.
    pub(super) fn take_overdraft(&self, peer: PeerId) -> bool {
        self.overdraft.compare_exchange(0, peer.0, SeqCst, SeqCst).is_ok()
    }

    /// Registers a peer to be unblocked at the next release. The caller asks again afterwards, since a
    /// release in between is not noticed.
    pub(super) fn wait(&self, peer: &Peer) {
        let mut waiters = lock(&self.waiters);
        if !waiters.contains(peer) {
            waiters.push(peer.clone());
        }
        self.waiting.store(waiters.len(), SeqCst);
    }

    /// Takes back [`Budget::wait`] for a connection that ends.
    pub(super) fn forget(&self, peer: &Peer) {
        if self.waiting.load(SeqCst) > 0 {
            let mut waiters = lock(&self.waiters);
            waiters.retain(|waiter| waiter != peer);
            self.waiting.store(waiters.len(), SeqCst);
        }
    }

    /// Whether somebody waits to be admitted.
    pub(super) fn is_contested(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(SeqCst)
    }

    pub(super) fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, SeqCst);
    }

    pub(super) fn release(&self, bytes: usize, overdraft: bool) {
        let used = self.used.fetch_sub(bytes, SeqCst) - bytes;
        if overdraft {
            self.overdraft.store(0, SeqCst);
        }
        if self.waiting.load(SeqCst) > 0 && (overdraft || used < self.max) {
            self.wake_waiters();
        }
    }

    #[cold]
    fn wake_waiters(&self) {
        let waiters = {
            let mut waiters = lock(&self.waiters);
            self.waiting.store(0, SeqCst);
            std::mem::take(&mut *waiters)
        };
        for peer in waiters {
            peer.unblock();
        }
    }
}

/// The bytes queued for all connections. Charging never fails: who is about to queue much asks
/// [`OutgoingBudget::admits`] first, so the budget is overrun by at most what is made at the same time, and
/// by what the one connection that holds the overdraft is sent.
#[derive(Debug)]
pub(super) struct OutgoingBudget {
    max: usize,
    used: AtomicUsize,
    /// Connection that is sent something although the budget is used up, until it has taken all of it; or 0.
    /// Without it, peers that do not read could keep all others from their answers.
    overdraft: AtomicU64,
    waiting: AtomicUsize,
    changed: Notify,
}

impl OutgoingBudget {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            used: AtomicUsize::new(0),
            overdraft: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.used.load(SeqCst) < self.max
    }

    /// Whether `peer` may be sent more; it may be by taking the overdraft.
    pub(super) fn admits(&self, peer: PeerId) -> bool {
        self.has_room()
            || self.overdraft.load(SeqCst) == peer.0
            || self.overdraft.compare_exchange(0, peer.0, SeqCst, SeqCst).is_ok()
    }

    /// Whether somebody waits for room.
    pub(super) fn is_contested(&self) -> bool {
        self.waiting.load(SeqCst) > 0 && !self.has_room()
    }

    /// Resolves when something was released after this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Announces somebody who waits, until the guard is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, SeqCst);
        Waiting(self)
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(SeqCst)
    }

    pub(super) fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, SeqCst);
    }

    /// Takes bytes of `peer` off, which has nothing left to take if it `is_empty`.
    pub(super) fn release(&self, peer: PeerId, bytes: usize, is_empty: bool) {
        self.used.fetch_sub(bytes, SeqCst);
        if is_empty && self.overdraft.load(SeqCst) == peer.0 {
            _ = self.overdraft.compare_exchange(peer.0, 0, SeqCst, SeqCst);
        }
        if self.waiting.load(SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }
}

/// Somebody who waits for room.
pub(super) struct Waiting<'b>(&'b OutgoingBudget);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}
