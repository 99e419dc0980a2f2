//! Why a server does not start.

use std::io::ErrorKind;
use std::net::SocketAddr;

use larder_pool::PoolError;

use larder_tier::TierError;

/// A server that could not start. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The pool can't be had.
    #[error("L1: {0}{hint}", hint = pool_hint(.0))]
    Pool(#[from] PoolError),
    /// The RPC port can't be bound.
    #[error("RPC: {0}{hint}", hint = rpc_hint(.0))]
    Rpc(#[from] larder_zmtp::Error),
    /// The HTTP port can't be bound.
    #[error(
        "HTTP: can't listen on `{address}`: {source}{hint}",
        hint = hint(source, "--http-host", "--http-port")
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
    #[error("L2: {0}{hint}", hint = tier_hint(.0))]
    Tier(#[from] TierError),
}

fn pool_hint(error: &PoolError) -> String {
    error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default()
}

fn rpc_hint(error: &larder_zmtp::Error) -> String {
    match error {
        larder_zmtp::Error::Bind { source, .. } => hint(source, "--host", "--port"),
        _ => String::new(),
    }
}

/// What to do about an address that can't be listened on.
fn hint(error: &std::io::Error, host: &str, port: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "\nhint: choose another with {port}; is another server running? (`ss -ltnp` shows who listens)"
        ),
        ErrorKind::PermissionDenied => format!("\nhint: choose a port from 1024 on with {port}"),
        _ => format!("\nhint: {host} takes an address or name of this machine, or `0.0.0.0` for all of them"),
    }
}

/// Adapters are built by the first who asks for them; what is wrong with one shows where it is configured.
fn tier_hint(error: &TierError) -> &'static str {
    match error {
        TierError::At { source, .. } if matches!(**source, TierError::Adapter(_)) => {
            "\nhint: `larder config check --environment` with the same flags tries what a start needs of this machine"
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
