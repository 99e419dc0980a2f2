//! What the service manager that started this server hears of it: that it serves, what it is doing, that it
//! is alive (sd_notify(3), systemd's `Type=notify` and `WatchdogSec=`).
//!
//! One datagram is one message. A server that was started by hand has nobody to tell.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder_rpc::RpcStats;
use tokio::net::UnixDatagram;

/// Longest that a message may wait for a service manager that reads none. One it does not take is logged.
const SEND_WAIT_MAX: Duration = Duration::from_secs(1);

/// Longest wait at a time for the RPC thread's first answer.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Pause before it is asked again.
const FIRST_ANSWER_PAUSE: Duration = Duration::from_millis(10);

/// Signs of life in the time after which a server without any is ended: enough that one may come late.
const BEATS: u32 = 3;

/// The service manager, as the environment names it.
#[derive(Debug)]
pub(super) struct ServiceManager {
    /// Where it listens, if it wants to hear anything.
    address: Option<SocketAddr>,
    /// It ends a server of which it hears nothing for this long.
    patience: Option<Duration>,
}

impl ServiceManager {
    /// Reads what a service manager left in the environment of process `pid`.
    pub(super) fn of(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let number = |name| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        let is_meant = number("WATCHDOG_PID").is_none_or(|meant| meant == u64::from(pid));
        let patience = number("WATCHDOG_USEC").filter(|&us| is_meant && us > 0).map(Duration::from_micros);
        let address = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            parse(&name).inspect_err(|error| tracing::warn!("NOTIFY_SOCKET={}: {error}", name.display())).ok()
        });
        Self { address, patience }
    }

    /// Says that the server is ready, and `status`, when its RPC thread answers; from then on that it is
    /// alive, each time that thread has answered again. A server whose RPC thread is stuck says nothing.
    pub(super) async fn follow(self: Arc<Self>, rpc: Arc<RpcStats>, status: String) {
        if self.address.is_none() {
            return;
        }
        while rpc.round_trip(FIRST_ANSWER_WAIT).await.is_none() {
            tokio::time::sleep(FIRST_ANSWER_PAUSE).await;
        }
        self.tell(&format!("READY=1\nSTATUS={status}")).await;
        let Some(patience) = self.patience else { return };
        loop {
            match rpc.round_trip(patience).await {
                Some(_) => self.tell("WATCHDOG=1").await,
                None => tracing::error!("no sign of life: the RPC thread did not answer within {patience:?}"),
            }
            tokio::time::sleep(patience / BEATS).await;
        }
    }

    /// Says that the server begins to stop, and why.
    pub(super) async fn tell_stopping(&self, why: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS=stopping: {why}")).await;
    }

    async fn tell(&self, message: &str) {
        let Some(address) = &self.address else { return };
        let sent = tokio::time::timeout(SEND_WAIT_MAX, send(address, message)).await;
        if let Err(error) = sent.unwrap_or_else(|late| Err(late.into())) {
            tracing::warn!("the service manager can't be told `{}`: {error}", message.escape_debug());
        }
    }
}

/// A path, or a name in the abstract namespace after `@`.
fn parse(name: &OsString) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract socket")),
    }
}

/// Each message from a socket of its own: the manager may have been replaced since the one before.
async fn send(address: &SocketAddr, message: &str) -> io::Result<()> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(address)?;
    UnixDatagram::from_std(socket)?.send(message.as_bytes()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc;

    use larder_zmtp::{Limits, Router};
    use tokio::sync::oneshot;

    use super::*;

    /// Only a failing test waits so long.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn manager(variables: &[(&str, &str)]) -> ServiceManager {
        ServiceManager::of(7, |name| {
            variables.iter().find(|(there, _)| *there == name).map(|(_, value)| value.into())
        })
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_environment_says_where_and_how_often() {
        let told =
            manager(&[("NOTIFY_SOCKET", "/run/n"), ("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "7")]);
        assert_eq!(told.address.unwrap().as_pathname().unwrap().to_str(), Some("/run/n"));
        assert_eq!(told.patience, Some(Duration::from_secs(2)));
        let other = manager(&[("NOTIFY_SOCKET", "@n"), ("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "8")]);
        assert_eq!(other.address.unwrap().as_abstract_name(), Some(&b"n"[..]));
        assert_eq!(other.patience, None, "meant for another process");
        for refused in ["", "vsock:2:1", "n", &format!("/{}", "n".repeat(200))] {
            assert!(manager(&[("NOTIFY_SOCKET", refused)]).address.is_none(), "{refused}");
        }
        assert!(manager(&[("WATCHDOG_USEC", "0")]).patience.is_none());
    }

    #[tokio::test]
    async fn a_manager_that_is_gone_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let gone = manager(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        gone.tell_stopping("SIGTERM").await;
        let listener = UnixDatagram::bind(&path).unwrap();
        gone.tell_stopping("SIGTERM").await;
        assert_eq!(received(&listener), "STOPPING=1\nSTATUS=stopping: SIGTERM");
    }

    #[tokio::test]
    async fn signs_of_life_come_from_the_rpc_thread() {
        let stats = Arc::new(RpcStats::default());
        let served = Arc::clone(&stats);
        let (attached, is_attached) = mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let rpc_thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let endpoint = format!("ipc://@larder-signs-{}", std::process::id()).parse().unwrap();
                let router = Router::bind(&[endpoint], Limits::default()).unwrap();
                served.attach(tokio::runtime::Handle::current(), router.handle());
                attached.send(tokio::runtime::Handle::current()).unwrap();
                _ = ended.await;
            });
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        let told = manager(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "50000")]);
        let following = tokio::spawn(Arc::new(told).follow(Arc::clone(&stats), "serves".to_owned()));
        let listener = tokio::task::spawn_blocking(move || {
            assert_eq!(received(&listener), "READY=1\nSTATUS=serves");
            assert_eq!([received(&listener), received(&listener)], ["WATCHDOG=1"; 2]);
            listener
        })
        .await
        .unwrap();

        let (release, released) = mpsc::channel::<()>();
        let rpc = is_attached.recv_timeout(PATIENCE).unwrap();
        rpc.spawn(async move { _ = released.recv_timeout(PATIENCE) });
        let late = |times| {
            let stats = Arc::clone(&stats);
            async move {
                while stats.late_round_trips() < times {
                    tokio::task::yield_now().await;
                }
            }
        };
        let before = stats.late_round_trips();
        tokio::time::timeout(PATIENCE, late(before + 1)).await.unwrap();
        listener.set_nonblocking(true).unwrap();
        while listener.recv(&mut [0; 1024]).is_ok() {}
        tokio::time::timeout(PATIENCE, late(before + 3)).await.unwrap();
        assert!(listener.recv(&mut [0; 1024]).is_err(), "a stuck RPC thread gives no sign of life");

        release.send(()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let again = tokio::task::spawn_blocking(move || received(&listener)).await.unwrap();
        assert_eq!(again, "WATCHDOG=1");
        following.abort();
        end.send(()).unwrap();
        rpc_thread.join().unwrap();
    }
}
