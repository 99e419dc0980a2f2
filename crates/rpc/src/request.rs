//! A request as it came, before anybody has looked into it.

use bytes::Bytes;
use larder_wire::Operation;
use larder_zmtp::{Peer, PeerAddress};

use larder_engine::ConnectionId;

/// Encoded requests longer than this are decoded by a worker thread. What is shorter takes less than a
/// millisecond.
const SHORT_REQUEST_BYTES_MAX: usize = 128 << 10;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// The connection.
    pub(super) connection: ConnectionId,
    /// Where it comes from.
    pub(super) address: PeerAddress,
}

impl Origin {
    /// The origin of what `peer` sends.
    pub(super) fn of(peer: &Peer) -> Self {
        Self { connection: peer.id().0, address: peer.address() }
    }

    /// Whether it comes from this machine, as far as the address tells.
    pub(super) fn is_local(&self) -> bool {
        match self.address {
            PeerAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            PeerAddress::Ipc { .. } => true,
        }
    }
}

/// An operation and its encoded arguments. Cloning copies no bytes.
#[derive(Clone, Debug)]
pub(super) struct EncodedRequest {
    /// What is asked.
    pub(super) operation: Operation,
    /// Its payload frames, whatever their number.
    pub(super) payloads: Vec<Bytes>,
    /// Who asks.
    pub(super) origin: Origin,
}

impl EncodedRequest {
    /// Whether decoding it may take too long for the RPC thread. A long key does not if its prompt
    /// `is_known`, nor do the tensors of a commit: decoding them is a job of its own.
    pub(super) fn is_long(&self, is_known: impl FnOnce(&[u8]) -> bool) -> bool {
        let Some((key, others)) = self.payloads.split_first() else { return false };
        let others = match self.operation {
            Operation::CommitStore => others.first().map_or(0, Bytes::len),
            _ => others.iter().map(Bytes::len).sum(),
        };
        others > SHORT_REQUEST_BYTES_MAX || key.len() > SHORT_REQUEST_BYTES_MAX && !is_known(key)
    }
}
