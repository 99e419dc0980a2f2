//! The HTTP connections: how many there may be, and how long a request may take to come.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hashbrown::HashMap;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tower_service::Service as _;

use larder_telemetry::Throttle;

/// Connections from this machine at a time. They have places of their own, so that nobody outside can keep
/// its probes and operators out.
pub const LOCAL_CONNECTIONS_MAX: usize = 256;

/// Connections from elsewhere, all together.
pub const REMOTE_CONNECTIONS_MAX: usize = 256;

/// Longest that the head of a request may take, and that a connection may lie idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// Pause after a connection could not be accepted, mostly for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What became of connections.
#[derive(Debug, Default)]
pub struct HttpStats {
    local: AtomicUsize,
    remote: AtomicUsize,
    displaced: AtomicU64,
    timed_out: AtomicU64,
}

impl HttpStats {
    /// Connections now: from this machine, and from elsewhere.
    pub fn connections(&self) -> (usize, usize) {
        (self.local.load(Ordering::Relaxed), self.remote.load(Ordering::Relaxed))
    }

    /// Connections that made way for newer ones because there were too many.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// Connections closed because the head of a request did not come.
    pub fn timed_out(&self) -> u64 {
        self.timed_out.load(Ordering::Relaxed)
    }

    fn open(&self, is_local: bool) -> &AtomicUsize {
        if is_local { &self.local } else { &self.remote }
    }
}

/// The connections of one kind of caller. One too many takes the place of the one that has asked for nothing
/// for longest, so that whoever opens many, or takes no answers, keeps nobody out.
#[derive(Debug)]
struct Places {
    max: usize,
    taken: RefCell<HashMap<u64, Taken>>,
}

#[derive(Debug)]
struct Taken {
    asked: Rc<Cell<Instant>>,
    task: AbortHandle,
}

impl Places {
    fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { max, taken: RefCell::default() })
    }

    /// Makes room for one more; true if another connection had to go.
    fn make_room(&self) -> bool {
        let gone = {
            let mut taken = self.taken.borrow_mut();
            let idlest = taken.iter().min_by_key(|(_, place)| place.asked.get()).map(|(&number, _)| number);
            idlest.filter(|_| taken.len() >= self.max).and_then(|number| taken.remove(&number))
        };
        gone.inspect(|gone| gone.task.abort()).is_some()
    }
}

/// A connection's place, given back when it ends.
struct Place {
    places: Rc<Places>,
    number: u64,
    stats: Arc<HttpStats>,
    is_local: bool,
}

impl Place {
    fn new(places: &Rc<Places>, number: u64, stats: &Arc<HttpStats>, is_local: bool) -> Self {
        stats.open(is_local).fetch_add(1, Ordering::Relaxed);
        Self { places: Rc::clone(places), number, stats: Arc::clone(stats), is_local }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stats.open(self.is_local).fetch_sub(1, Ordering::Relaxed);
        self.places.taken.borrow_mut().remove(&self.number);
    }
}

/// Answers requests, for ever. Runs in a [`tokio::task::LocalSet`].
pub async fn serve(listener: TcpListener, router: Router, stats: Arc<HttpStats>) {
    let (full, failing) = (Throttle::default(), Throttle::default());
    let (local, remote) = (Places::new(LOCAL_CONNECTIONS_MAX), Places::new(REMOTE_CONNECTIONS_MAX));
    for number in 0.. {
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
        let is_local = caller.ip().to_canonical().is_loopback();
        let places = if is_local { &local } else { &remote };
        if places.make_room() {
            stats.displaced.fetch_add(1, Ordering::Relaxed);
            if let Some(kept_back) = full.pass() {
                tracing::warn!(
                    "HTTP: too many connections, the one that was idle for longest makes way for {caller}{kept_back}"
                );
            }
        }
        let asked = Rc::new(Cell::new(Instant::now()));
        let connection = connection(stream, caller, router.clone(), Arc::clone(&stats), Rc::clone(&asked));
        let place = Place::new(places, number, &stats, is_local);
        let task = tokio::task::spawn_local(async move {
            connection.await;
            drop(place);
        });
        places.taken.borrow_mut().insert(number, Taken { asked, task: task.abort_handle() });
    }
}

async fn connection(
    stream: TcpStream,
    caller: SocketAddr,
    router: Router,
    stats: Arc<HttpStats>,
    asked: Rc<Cell<Instant>>,
) {
    // Without it an answer in two parts waits for the other side; what can't have it is only slower.
    _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        asked.set(Instant::now());
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
