//! How one run tells that it is ready and alive, as far as that does not come with its output.

use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::notify::{HealthSign, NotifySocket};
use super::probe;
use super::probe::Probe;
use crate::manifest::{Account, Readiness, Watchdog};

/// How often a watchdog's address is asked within its limit.
const PROBES_PER_LIMIT: u32 = 3;

/// The socket, the probe and the watchdog's clock of one run.
pub(crate) struct HealthChecks {
    notify: Option<NotifySocket>,
    probe: Option<Probe>,
    /// Tries the watchdog's address again and again; ends with each success.
    pulse: Option<WatchdogProbe>,
    watchdog: Watchdog,
    alive_at: Instant,
}

/// What is asked for signs of life, and the pause between two questions.
struct WatchdogProbe {
    target: Readiness,
    pause: Duration,
    attempt: Probe,
}

impl WatchdogProbe {
    fn of(watchdog: &Watchdog) -> Option<Self> {
        let (limit, target) = match watchdog {
            Watchdog::Socket(limit, address) => (*limit, Readiness::Socket(address.clone())),
            Watchdog::Http(limit, address) => (*limit, Readiness::Http(address.clone())),
            _ => return None,
        };
        let pause = limit / PROBES_PER_LIMIT;
        Some(Self { attempt: Box::pin(probe::until_ready(target.clone())), target, pause })
    }

    /// Returns with the next success. May be dropped at any time.
    async fn answered(&mut self) {
        (&mut self.attempt).await;
        let (target, pause) = (self.target.clone(), self.pause);
        self.attempt = Box::pin(async move {
            sleep(pause).await;
            probe::until_ready(target).await;
        });
    }
}

impl HealthChecks {
    /// Binds a socket at `path` if the run may use one.
    pub(crate) fn new(
        readiness: &Readiness,
        watchdog: &Watchdog,
        probe: Option<Probe>,
        path: PathBuf,
    ) -> std::io::Result<Self> {
        let wants_socket = *readiness == Readiness::Notify || matches!(watchdog, Watchdog::Notify(_));
        let notify = if wants_socket { Some(NotifySocket::bind(path)?) } else { None };
        let pulse = WatchdogProbe::of(watchdog);
        Ok(Self { notify, probe, pulse, watchdog: watchdog.clone(), alive_at: Instant::now() })
    }

    /// Lets another user report.
    pub(crate) fn give_to(&self, Account { user, group }: Account) -> std::io::Result<()> {
        let path = self.notify.as_ref().map(NotifySocket::path);
        path.map_or(Ok(()), |path| std::os::unix::fs::chown(path, Some(user), Some(group)))
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
    pub(crate) async fn next(&mut self) -> HealthSign {
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
        let pulse = async {
            match &mut self.pulse {
                Some(pulse) => pulse.answered().await,
                None => pending().await,
            }
        };
        let notice = tokio::select! {
            notice = notice => notice,
            () = pulse => HealthSign { alive: true, ..HealthSign::default() },
            () = probe => {
                self.probe = None;
                HealthSign { ready: true, ..HealthSign::default() }
            }
        };
        if notice.alive || notice.ready {
            self.alive_at = Instant::now();
        }
        notice
    }

    /// Tells that the plugin has printed something; whether that is the sign of life that is expected.
    pub(crate) fn note_output(&mut self) -> bool {
        let is_sign = matches!(self.watchdog, Watchdog::Output(_));
        if is_sign {
            self.alive_at = Instant::now();
        }
        is_sign
    }

    /// Expects no more signs of life.
    pub(crate) fn retire(&mut self) {
        self.watchdog = Watchdog::Off;
        self.pulse = None;
    }

    /// When the plugin counts as hanging, if it gives no sign before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        // One beyond all times never comes.
        self.alive_at.checked_add(self.watchdog.limit()?)
    }

    /// Begins the watchdog's time anew.
    pub(crate) fn forgive(&mut self) {
        self.alive_at = Instant::now();
    }
}
