//! The HTTP connections: how many there may be, and how long a request may take to come.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service as _;

use crate::telemetry::Throttle;

/// Connections from this machine. They have places of their own, so that nobody outside can keep its probes and operators out.
pub const LOCAL_CONNECTIONS_MAX: usize = 256;

/// Connections from elsewhere, all together.
pub const REMOTE_CONNECTIONS_MAX: usize = 256;

/// Longest that the head of a request may take, and that a connection may lie idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// Pause after a connection could not be accepted, mostly for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What became of connections.
#[derive(Debug)]
pub struct HttpStats {
    local: Arc<Semaphore>,
    remote: Arc<Semaphore>,
    refused: AtomicU64,
    timed_out: AtomicU64,
}

impl Default for HttpStats {
    fn default() -> Self {
        Self {
            local: Arc::new(Semaphore::new(LOCAL_CONNECTIONS_MAX)),
            remote: Arc::new(Semaphore::new(REMOTE_CONNECTIONS_MAX)),
            refused: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
        }
    }
}

impl HttpStats {
    /// Connections now: from this machine, and from elsewhere.
    pub fn connections(&self) -> (usize, usize) {
        let local = LOCAL_CONNECTIONS_MAX.saturating_sub(self.local.available_permits());
        (local, REMOTE_CONNECTIONS_MAX.saturating_sub(self.remote.available_permits()))
    }

    /// Connections closed at once because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections closed because the head of a request did not come.
    pub fn timed_out(&self) -> u64 {
        self.timed_out.load(Ordering::Relaxed)
    }

    fn place(&self, caller: SocketAddr) -> Option<OwnedSemaphorePermit> {
        let places = if caller.ip().to_canonical().is_loopback() { &self.local } else { &self.remote };
        let place = Arc::clone(places).try_acquire_owned().ok();
        if place.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        place
    }
}

/// Answers requests, for ever. Runs in a [`tokio::task::LocalSet`].
pub async fn serve(listener: TcpListener, router: Router, stats: Arc<HttpStats>) {
    let (full, failing) = (Throttle::default(), Throttle::default());
    loop {
        let (stream, caller) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(kept_back) = failing.pass() {
                    tracing::warn!("HTTP: a connection can't be accepted: {error}{kept_back}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = stats.place(caller) else {
            if let Some(kept_back) = full.pass() {
                tracing::warn!("HTTP: too many connections, one from {caller} is refused{kept_back}");
            }
            continue;
        };
        let connection = connection(stream, caller, router.clone(), Arc::clone(&stats));
        tokio::task::spawn_local(async move {
            connection.await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, caller: SocketAddr, router: Router, stats: Arc<HttpStats>) {
    // Without it an answer in two parts waits for the other side; what can't have it is only slower.
    _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(caller));
            Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {}))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if served.is_err_and(|error| error.is_timeout()) {
        stats.timed_out.fetch_add(1, Ordering::Relaxed);
    }
}
