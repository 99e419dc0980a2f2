//! Signals that end the server.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::StartError;

/// Listens for SIGTERM and SIGINT.
pub(super) struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Takes over both signals from now on.
    pub(super) fn listen() -> Result<Self, StartError> {
        let system = |source| StartError::System { what: "signal handler", source };
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(system)?,
            interrupt: signal(SignalKind::interrupt()).map_err(system)?,
        })
    }

    /// Resolves to the name of the next signal.
    pub(super) async fn signalled(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
