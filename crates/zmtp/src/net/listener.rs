//! Listening sockets: binding, what an ipc path on disk means, accepting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};

use super::address::PeerAddress;
use super::stream::Stream;
use crate::endpoint::{Endpoint, Host};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Time between two probes of a peer that is silent, and how many may stay without an answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// A socket that accepts connections. Dropping it removes its ipc path.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: ListenerSocket,
    endpoint: Endpoint,
    keepalive: Option<TcpKeepalive>,
    user_timeout: Duration,
}

#[derive(Debug)]
enum ListenerSocket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _path: Option<BoundPath> },
}

/// A connection just accepted.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) address: PeerAddress,
}

impl Listener {
    /// Binds every address the endpoint stands for.
    pub(crate) fn bind(endpoint: &Endpoint, limits: &Limits) -> Result<Vec<Self>> {
        let failed = |source| Error::Bind { endpoint: endpoint.to_string(), source };
        match endpoint {
            Endpoint::Tcp { host, port } => bind_tcp(host, *port, limits).map_err(failed),
            Endpoint::Ipc(path) => {
                clear_dead_path(path, endpoint)?;
                let address = SockAddr::unix(path).map_err(failed)?;
                let socket = bind_unix(&address, limits).map_err(failed)?;
                let bound = BoundPath::new(path).map_err(failed)?;
                Ok(vec![Self::unix(socket, Some(bound), endpoint)])
            }
            Endpoint::Abstract(name) => {
                // A path that starts with a zero byte is an abstract name.
                let address = SockAddr::unix(format!("\0{name}")).map_err(failed)?;
                let socket = bind_unix(&address, limits).map_err(failed)?;
                Ok(vec![Self::unix(socket, None, endpoint)])
            }
        }
    }

    fn unix(socket: UnixListener, path: Option<BoundPath>, endpoint: &Endpoint) -> Self {
        Self {
            socket: ListenerSocket::Unix { listener: socket, _path: path },
            endpoint: endpoint.clone(),
            keepalive: None,
            user_timeout: Duration::ZERO,
        }
    }

    /// Where it listens, with the port the system chose.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match &self.socket {
            ListenerSocket::Tcp(listener) => {
                let (stream, address) = ready!(listener.poll_accept(cx))?;
                // A socket whose peer has gone refuses options; reading it will tell.
                _ = stream.set_nodelay(true);
                let socket = socket2::SockRef::from(&stream);
                _ = socket.set_tcp_user_timeout(Some(self.user_timeout));
                if let Some(keepalive) = &self.keepalive {
                    _ = socket.set_tcp_keepalive(keepalive);
                }
                Poll::Ready(Ok(Accepted { stream: Stream::Tcp(stream), address: PeerAddress::Tcp(address) }))
            }
            ListenerSocket::Unix { listener, .. } => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                let credentials = stream.peer_cred()?;
                let address = PeerAddress::Ipc { pid: credentials.pid(), uid: credentials.uid() };
                Poll::Ready(Ok(Accepted { stream: Stream::Unix(stream), address }))
            }
        }
    }
}

/// Binds what works: an address family this machine lacks is passed over as long as another one is there,
/// anything else (such as a port in use) is an error, since clients might reach the wrong server.
fn bind_tcp(host: &Host, port: u16, limits: &Limits) -> io::Result<Vec<Listener>> {
    let addresses: Vec<IpAddr> = match host {
        Host::Any => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        Host::Ip(ip) => vec![*ip],
        Host::Name(name) => {
            let mut addresses: Vec<IpAddr> =
                (name.as_str(), port).to_socket_addrs()?.map(|a| a.ip()).collect();
            // IPv4 first: it is what clients use, and it chooses the port if there is a choice.
            addresses.sort();
            addresses.dedup();
            addresses
        }
    };
    let mut listeners: Vec<Listener> = Vec::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let port = match listeners.first().map(|listener| &listener.endpoint) {
            Some(Endpoint::Tcp { port, .. }) => *port,
            _ => port,
        };
        match bind_tcp_address(SocketAddr::new(address, port), limits) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_family_missing(&error) => failure = error,
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() { Err(failure) } else { Ok(listeners) }
}

fn bind_tcp_address(address: SocketAddr, limits: &Limits) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog(limits))?;
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    let endpoint = Endpoint::Tcp { host: Host::Ip(bound.ip()), port: bound.port() };
    let keepalive = limits.tcp_keepalive.map(|idle| {
        TcpKeepalive::new().with_time(idle).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES)
    });
    let user_timeout = limits.tcp_user_timeout;
    Ok(Listener { socket: ListenerSocket::Tcp(listener), endpoint, keepalive, user_timeout })
}

fn is_family_missing(error: &io::Error) -> bool {
    // No portable kind exists for EAFNOSUPPORT.
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn bind_unix(address: &SockAddr, limits: &Limits) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(address)?;
    socket.listen(backlog(limits))?;
    UnixListener::from_std(socket.into())
}

fn backlog(limits: &Limits) -> i32 {
    i32::try_from(limits.backlog).unwrap_or(i32::MAX)
}

/// Removes the socket a dead server left at `path`. A living server or a file of another kind is an error.
fn clear_dead_path(path: &Path, endpoint: &Endpoint) -> Result<()> {
    let failed = |source| Error::Bind { endpoint: endpoint.to_string(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::NotASocket { endpoint: endpoint.to_string() });
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(failed)?;
    match probe.connect(&SockAddr::unix(path).map_err(failed)?) {
        // A full backlog answers WouldBlock: somebody lives there.
        Ok(()) => Err(Error::InUse { endpoint: endpoint.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Error::InUse { endpoint: endpoint.to_string() })
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The file of a bound unix socket, removed on drop if it is still the same file.
#[derive(Debug)]
struct BoundPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl BoundPath {
    fn new(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Self { path: std::path::absolute(path)?, device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        let same = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode));
        if same {
            // Nobody is left to tell; the next start clears a path that stays.
            _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens to a host that vanishes is the kernel's; that it is asked to look is ours.
    #[tokio::test]
    async fn the_kernel_is_told_to_notice_hosts_that_vanish() {
        let limits = Limits { tcp_user_timeout: Duration::from_secs(7), ..Limits::default() };
        let listener = Listener::bind(&"tcp://127.0.0.1:0".parse().unwrap(), &limits).unwrap().remove(0);
        let Endpoint::Tcp { port, .. } = *listener.endpoint() else { panic!("not TCP") };
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let accepted = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        let Stream::Tcp(stream) = accepted.stream else { panic!("not TCP") };
        let socket = socket2::SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), limits.tcp_keepalive.unwrap());
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
    }
}
