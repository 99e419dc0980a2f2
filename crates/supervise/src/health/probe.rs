//! Asks from outside whether a plugin is ready: something accepts connections, or an HTTP address answers
//! well.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use crate::discover::Location;
use crate::http;
use crate::manifest::Readiness;

/// Between two attempts.
const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// For one attempt.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of an answer that are read; the status line is in them.
const ANSWER_BYTES: u64 = 64;

/// Returns with the first success.
pub(crate) type Probe = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What tells one state of a file from the next: where it is, and when it was changed.
pub(crate) type Stamp = (u64, u64, i64, i64);

/// The stamp of a file that is there. Waits for its file system.
pub(crate) fn stamp(file: &Path) -> Option<Stamp> {
    file.metadata().ok().map(|meta| (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

/// The probe of a readiness that needs one. A file is looked at by the reader of `location`, and counts if it
/// is not as it was `before`.
pub(crate) fn of(readiness: &Readiness, location: &Arc<Location>, before: Option<Stamp>) -> Option<Probe> {
    match readiness {
        Readiness::Socket(_) | Readiness::Http(_) => Some(Box::pin(until_ready(readiness.clone()))),
        Readiness::File(file) => Some(Box::pin(until_changed(file.clone(), Arc::clone(location), before))),
        _ => None,
    }
}

async fn until_changed(file: PathBuf, location: Arc<Location>, before: Option<Stamp>) {
    loop {
        let file = file.clone();
        let now = location.ask(move |_| stamp(&file)).await;
        if now.is_ok_and(|now| now.is_some() && now != before) {
            return;
        }
        sleep(PROBE_PAUSE).await;
    }
}

/// Returns once the probe succeeds. For a readiness that needs no probe it never returns.
pub(crate) async fn until_ready(readiness: Readiness) {
    loop {
        let attempt = timeout(PROBE_TIMEOUT, attempt(&readiness)).await;
        if matches!(attempt, Ok(Ok(true))) {
            return;
        }
        sleep(PROBE_PAUSE).await;
    }
}

async fn attempt(readiness: &Readiness) -> io::Result<bool> {
    match readiness {
        Readiness::Socket(path) if path.starts_with('/') => UnixStream::connect(path).await.map(|_| true),
        Readiness::Socket(address) => TcpStream::connect(address).await.map(|_| true),
        Readiness::Http(address) => {
            Ok(is_success(&http::get(address, "HTTP/1.1", "Connection: close\r\n", ANSWER_BYTES).await?))
        }
        _ => std::future::pending().await,
    }
}

/// Whether an answer begins like `HTTP/1.1 204`.
fn is_success(answer: &[u8]) -> bool {
    let status = answer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    status.is_some_and(|status| status[0] == b'2' && status.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_hundreds() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.0 204\r\n", true),
            ("HTTP/1.1 503 x", false),
            ("HTTP/1.1 20", false),
            ("garbage", false),
            ("", false),
        ] {
            assert_eq!(is_success(answer.as_bytes()), expected, "{answer}");
        }
    }
}
