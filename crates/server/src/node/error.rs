//! Why a server does not start.

use std::net::SocketAddr;

use larder_core::hash::UnknownAlgorithm;
use larder_pool::PoolError;

use crate::controllers::l2::TierError;

/// A server that could not start. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration names a hash this server does not have.
    #[error(transparent)]
    Hash(#[from] UnknownAlgorithm),
    /// The pool can't be had.
    #[error("L1: {0}")]
    Pool(#[from] PoolError),
    /// The RPC port can't be bound.
    #[error("RPC: {0}{hint}", hint = rpc_hint(.0))]
    Rpc(#[from] larder_zmtp::Error),
    /// The HTTP port can't be bound.
    #[error(
        "HTTP: can't listen on `{address}`: {source}\nhint: choose another with --http-host and --http-port"
    )]
    Http {
        /// Host and port as configured.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no thread, runtime or signal handler.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The RPC thread ended before it served.
    #[error("the RPC thread ended during start")]
    RpcThread,
    /// An adapter of the second tier can't work as configured.
    #[error("L2: {0}")]
    Tier(#[from] TierError),
}

/// What to do about a port that is taken.
fn rpc_hint(error: &larder_zmtp::Error) -> &'static str {
    match error {
        larder_zmtp::Error::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            "\nhint: choose another with --port; is another server running? (`ss -ltnp` shows who listens)"
        }
        _ => "",
    }
}

impl StartError {
    /// The process's exit code: 3 when an address is taken, as the peer's, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Rpc(_) | Self::Http { .. } => 3,
            _ => 1,
        }
    }
}

/// An address for messages.
pub(super) fn http_url(address: SocketAddr) -> String {
    format!("http://{address}")
}
