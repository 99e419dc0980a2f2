//! Counters of a router, readable from any thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Error, LimitKind};

/// Live counters; see [`StatsSnapshot`] for their meaning.
#[derive(Debug, Default)]
pub struct Stats {
    connections_open: AtomicU64,
    connections_accepted: AtomicU64,
    connections_refused: AtomicU64,
    accept_errors: AtomicU64,
    handshakes_failed: AtomicU64,
    protocol_violations: AtomicU64,
    limit_violations: [AtomicU64; LimitKind::ALL.len()],
    messages_in: AtomicU64,
    messages_cut: AtomicU64,
    messages_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    budget_waits: AtomicU64,
    handler_panics: AtomicU64,
}

/// The counters at one moment. All but `connections_open` only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatsSnapshot {
    /// Connections open now, those in the handshake included.
    pub connections_open: u64,
    /// Connections accepted so far.
    pub connections_accepted: u64,
    /// Connections closed at once because `connections_max` were open, or as many of one address as it may
    /// have.
    pub connections_refused: u64,
    /// Failures to accept, such as too many open files.
    pub accept_errors: u64,
    /// Connections that ended before their handshake did, for any reason.
    pub handshakes_failed: u64,
    /// Connections ended for bytes that are not ZMTP.
    pub protocol_violations: u64,
    /// Connections ended (or refused) for each limit, in the order of [`LimitKind::ALL`].
    pub limit_violations: [u64; LimitKind::ALL.len()],
    /// Messages received.
    pub messages_in: u64,
    /// Messages received of which a part was too large to keep.
    pub messages_cut: u64,
    /// Messages queued for peers.
    pub messages_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Times a connection stopped being read for lack of budget.
    pub budget_waits: u64,
    /// Connections ended by a panic in the handler.
    pub handler_panics: u64,
}

impl StatsSnapshot {
    /// Connections ended (or refused) for this limit.
    #[must_use]
    pub fn violations(&self, limit: LimitKind) -> u64 {
        self.limit_violations[limit.index()]
    }
}

impl Stats {
    /// Reads all counters. They are read one after the other, so they may be apart by what happens meanwhile.
    pub fn snapshot(&self) -> StatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        StatsSnapshot {
            connections_open: self.connections_open(),
            connections_accepted: read(&self.connections_accepted),
            connections_refused: read(&self.connections_refused),
            accept_errors: read(&self.accept_errors),
            handshakes_failed: read(&self.handshakes_failed),
            protocol_violations: read(&self.protocol_violations),
            limit_violations: std::array::from_fn(|index| read(&self.limit_violations[index])),
            messages_in: read(&self.messages_in),
            messages_cut: read(&self.messages_cut),
            messages_out: read(&self.messages_out),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            budget_waits: read(&self.budget_waits),
            handler_panics: read(&self.handler_panics),
        }
    }

    pub(crate) fn connections_open(&self) -> u64 {
        self.connections_open.load(Relaxed)
    }

    pub(crate) fn opened(&self) {
        self.connections_open.fetch_add(1, Relaxed);
        self.connections_accepted.fetch_add(1, Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.connections_open.fetch_sub(1, Relaxed);
    }

    pub(crate) fn refused(&self, limit: LimitKind) {
        self.connections_refused.fetch_add(1, Relaxed);
        self.limit_violations[limit.index()].fetch_add(1, Relaxed);
    }

    pub(crate) fn accept_error(&self) {
        self.accept_errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Relaxed);
    }

    pub(crate) fn error(&self, error: &Error) {
        match error {
            Error::Limit { limit, .. } | Error::Timeout { limit, .. } => {
                self.limit_violations[limit.index()].fetch_add(1, Relaxed);
            }
            Error::Protocol(_) => {
                self.protocol_violations.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }

    pub(crate) fn message_in(&self, dropped_bytes: u64) {
        self.messages_in.fetch_add(1, Relaxed);
        if dropped_bytes > 0 {
            self.messages_cut.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn message_out(&self) {
        self.messages_out.fetch_add(1, Relaxed);
    }

    pub(crate) fn bytes_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn bytes_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn budget_wait(&self) {
        self.budget_waits.fetch_add(1, Relaxed);
    }

    pub(crate) fn handler_panic(&self) {
        self.handler_panics.fetch_add(1, Relaxed);
    }
}
