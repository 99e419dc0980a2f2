//! Bytes received and not yet answered: how many all connections together may hold.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use super::peer::{Peer, PeerId};

/// The budget of all connections. Charging never fails: a connection asks [`Budget::admits`] before it reads, and
/// what it then reads is charged, so the budget is overrun by at most a scratch buffer for each reader, and by the
/// one message of the connection that holds the overdraft.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: AtomicUsize,
    /// Connection allowed to go on although the budget is used up, or 0. Without it, connections each holding half
    /// a message could use up the budget and wait for each other.
    overdraft: AtomicU64,
    waiting: AtomicUsize,
    waiters: Mutex<Vec<Peer>>,
}

impl Budget {
    pub(super) fn new(max: usize) -> Budget {
        Budget {
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

    /// Registers a peer to be unblocked at the next release. The caller asks again afterwards, since a release in
    /// between is not noticed.
    pub(super) fn wait(&self, peer: &Peer) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiters.contains(peer) {
            waiters.push(peer.clone());
        }
        self.waiting.store(waiters.len(), SeqCst);
    }

    /// Takes back [`Budget::wait`] for a connection that ends.
    pub(super) fn forget(&self, peer: &Peer) {
        if self.waiting.load(SeqCst) > 0 {
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            waiters.retain(|waiter| waiter != peer);
            self.waiting.store(waiters.len(), SeqCst);
        }
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
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            self.waiting.store(0, SeqCst);
            std::mem::take(&mut *waiters)
        };
        for peer in waiters {
            peer.unblock();
        }
    }
}
