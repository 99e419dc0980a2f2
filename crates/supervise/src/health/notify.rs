//! The `NOTIFY_SOCKET` of one run: a plugin says that it is ready, alive, or what it is doing, as it would to
//! systemd.

use std::io;
use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;

/// Bytes of one message that are looked at.
const MESSAGE_MAX_BYTES: usize = 4096;
/// Characters kept of a status text.
const STATUS_MAX_CHARS: usize = 200;

/// What one message says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HealthSign {
    pub(crate) ready: bool,
    pub(crate) alive: bool,
    /// It is about to end by itself.
    pub(crate) leaving: bool,
    pub(crate) status: Option<String>,
}

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    pub(crate) fn bind(path: PathBuf) -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::bind(&path)?, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next message. May be dropped at any time.
    pub(crate) async fn next(&self) -> HealthSign {
        let mut bytes = [0; MESSAGE_MAX_BYTES];
        match self.socket.recv(&mut bytes).await {
            Ok(length) => parse(&bytes[..length]),
            // A datagram socket of one's own cannot fail for good; an empty message changes nothing.
            Err(_) => HealthSign::default(),
        }
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

fn parse(message: &[u8]) -> HealthSign {
    let mut notice = HealthSign::default();
    for line in message.split(|b| *b == b'\n') {
        match line {
            b"READY=1" => notice.ready = true,
            b"WATCHDOG=1" => notice.alive = true,
            b"STOPPING=1" => notice.leaving = true,
            _ => {
                if let Some(text) = line.strip_prefix(b"STATUS=") {
                    let text: String = String::from_utf8_lossy(text).chars().take(STATUS_MAX_CHARS).collect();
                    notice.status = Some(crate::text::escaped(&text).into_owned());
                }
            }
        }
    }
    notice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_arrive_and_the_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let socket = NotifySocket::bind(dir.path().join("n")).unwrap();
        let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
        sender.send_to(b"READY=1\nSTATUS=warm\x1b\nMAINPID=1\n", socket.path()).unwrap();
        assert_eq!(
            socket.next().await,
            HealthSign { ready: true, status: Some("warm\\x1b".into()), ..HealthSign::default() }
        );
        sender.send_to(b"WATCHDOG=1", socket.path()).unwrap();
        assert!(socket.next().await.alive);
        sender.send_to(b"", socket.path()).unwrap();
        assert_eq!(socket.next().await, HealthSign::default());
        drop(socket);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
