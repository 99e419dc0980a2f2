//! Connections of clients: which are open, and when each was last heard.

use hashbrown::HashMap;

/// Names a client connection; never reused while the server runs.
pub type ConnectionId = u64;

/// When each live connection was last heard.
#[derive(Debug, Default)]
pub(crate) struct LastSeen {
    at_ms: HashMap<ConnectionId, u64>,
}

impl LastSeen {
    /// Notes a sign of life; false for a connection that is not open (any more).
    pub(crate) fn note(&mut self, connection: ConnectionId, now_ms: u64) -> bool {
        self.at_ms.get_mut(&connection).map(|at_ms| *at_ms = now_ms).is_some()
    }

    /// When a connection was last heard, while it is open.
    pub(crate) fn at_ms(&self, connection: ConnectionId) -> Option<u64> {
        self.at_ms.get(&connection).copied()
    }

    pub(crate) fn open(&mut self, connection: ConnectionId, now_ms: u64) {
        self.at_ms.insert(connection, now_ms);
    }

    pub(crate) fn forget(&mut self, connection: ConnectionId) -> bool {
        self.at_ms.remove(&connection).is_some()
    }
}
