//! Where a connection comes from.

use std::fmt;
use std::net::SocketAddr;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process of this machine, as the kernel saw it when it connected.
    Ipc {
        /// Its process id; `None` where the kernel does not tell.
        pid: Option<i32>,
        /// Its effective user id.
        uid: u32,
    },
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Ipc { pid: Some(pid), uid } => write!(f, "pid {pid} uid {uid}"),
            Self::Ipc { pid: None, uid } => write!(f, "uid {uid}"),
        }
    }
}
