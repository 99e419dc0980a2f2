//! How one run tells that it is ready and alive, as far as that does not come with its output.

use std::future::pending;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::time::Instant;

use crate::manifest::{Readiness, Watchdog};
use crate::notify::{Notice, NotifySocket};
use crate::probe;

/// The socket, the probe and the watchdog's clock of one run.
pub(crate) struct Senses {
    notify: Option<NotifySocket>,
    probe: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    watchdog: Watchdog,
    alive_at: Instant,
}

impl Senses {
    /// Binds a socket at `path` if the run may use one.
    pub(crate) fn new(readiness: &Readiness, watchdog: &Watchdog, path: PathBuf) -> std::io::Result<Self> {
        let wants_socket = *readiness == Readiness::Notify || matches!(watchdog, Watchdog::Notify(_));
        let notify = if wants_socket { Some(NotifySocket::bind(path)?) } else { None };
        let probe: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = match readiness {
            Readiness::Socket(_) | Readiness::Http(_) => {
                Some(Box::pin(probe::until_ready(readiness.clone())))
            }
            _ => None,
        };
        Ok(Self { notify, probe, watchdog: watchdog.clone(), alive_at: Instant::now() })
    }

    /// Variables that tell the plugin where to report.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let Some(socket) = &self.notify else { return Vec::new() };
        let mut variables = vec![("NOTIFY_SOCKET", socket.path().to_string_lossy().into_owned())];
        if let Watchdog::Notify(limit) = self.watchdog {
            variables.push(("WATCHDOG_USEC", limit.as_micros().to_string()));
        }
        variables
    }

    /// The next sign from the plugin. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Notice {
        let notice = async {
            match &self.notify {
                Some(socket) => socket.next().await,
                None => pending().await,
            }
        };
        let probe = async {
            match &mut self.probe {
                Some(probe) => probe.await,
                None => pending().await,
            }
        };
        let notice = tokio::select! {
            notice = notice => notice,
            () = probe => {
                self.probe = None;
                Notice { ready: true, ..Notice::default() }
            }
        };
        if notice.alive || notice.ready {
            self.alive_at = Instant::now();
        }
        notice
    }

    /// Tells that the plugin has printed something.
    pub(crate) fn heard_output(&mut self) {
        if let Watchdog::Output(_) = self.watchdog {
            self.alive_at = Instant::now();
        }
    }

    /// When the plugin counts as hanging, if it gives no sign before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.watchdog {
            Watchdog::Off => None,
            Watchdog::Notify(limit) | Watchdog::Output(limit) => Some(self.alive_at + limit),
        }
    }
}
