//! Signals that end the server, and the one that does not.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::StartError;

/// Listens for SIGTERM and SIGINT, and keeps SIGHUP from ending the server.
pub(super) struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Shutdown {
    /// Takes over the signals from now on.
    pub(super) fn listen() -> Result<Self, StartError> {
        let system = |source| StartError::System { what: "signal handler", source };
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(system)?,
            interrupt: signal(SignalKind::interrupt()).map_err(system)?,
            hangup: Some(signal(SignalKind::hangup()).map_err(system)?),
        })
    }

    /// The SIGHUPs from the first on. To be taken once; until then they wait.
    pub(super) fn take_hangups(&mut self) -> Option<Signal> {
        self.hangup.take()
    }

    /// Resolves to the name of the next signal.
    pub(super) async fn signalled(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
