//! A blocking connection, plain or encrypted, that fills and empties lent buffers.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::buffer::LentBuffer;
use crate::error::{Failure, FailureKind};

/// Bytes decrypted or encrypted at a time.
const BOUNCE_BYTES: usize = 64 * 1024;
/// Slowest transfer that is borne, in bytes per second. A peer that always sends a little would else hold its
/// thread for ever.
const BYTES_PER_S_MIN: u64 = 1 << 20;
/// Pauses without any progress that an exchange may have, each of the longest length.
const PAUSES_MAX: u32 = 4;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Names being resolved at once: a resolver may take its time, and can't be called off.
const RESOLVING_MAX: usize = 8;

/// Whom to trust when connections are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// A PEM file with the certificate authorities to trust; none for those of the system, or of
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    pub ca_file: Option<PathBuf>,
}

/// How connections are made.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tls: Option<Arc<ClientConfig>>,
    connect_limit: Duration,
    progress_limit: Duration,
    resolving: Arc<AtomicUsize>,
}

impl Connector {
    /// Connections are encrypted when there are TLS options.
    pub(super) fn new(
        tls: Option<&TlsOptions>,
        connect_timeout_ms: u64,
        progress_timeout_ms: u64,
    ) -> Result<Self, Failure> {
        Ok(Self {
            tls: tls.map(client_config).transpose()?,
            connect_limit: Duration::from_millis(connect_timeout_ms.max(1)),
            progress_limit: Duration::from_millis(progress_timeout_ms.max(1)),
            resolving: Arc::default(),
        })
    }

    /// Tries every address of a name in turn.
    pub(super) fn connect(&self, host: &str, port: u16) -> io::Result<Stream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "name has no address");
        for address in self.resolve(host, port)?.iter().take(ADDRESSES_MAX) {
            match TcpStream::connect_timeout(address, self.connect_limit) {
                Ok(stream) => return self.prepare(stream, host),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The addresses of a name, or what the resolver says, within the time to connect.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let resolving = Resolving::enter(&self.resolving)?;
        let (answer, resolved) = mpsc::channel();
        let name = host.to_owned();
        thread::Builder::new().name("l2-resolve".to_owned()).spawn(move || {
            let addresses = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
            drop(resolving);
            _ = answer.send(addresses);
        })?;
        resolved
            .recv_timeout(self.connect_limit)
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "name is not resolved in time")))
    }

    fn prepare(&self, stream: TcpStream, host: &str) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.progress_limit))?;
        stream.set_write_timeout(Some(self.progress_limit))?;
        let wire = match &self.tls {
            None => Wire::Plain(stream),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Wire::Tls(Box::new(StreamOwned::new(connection, stream)))
            }
        };
        let pauses_limit = self.progress_limit * PAUSES_MAX;
        Ok(Stream { wire, pauses_limit, deadline: Instant::now() + pauses_limit })
    }
}

/// A name being resolved, one of a few.
struct Resolving(Arc<AtomicUsize>);

impl Resolving {
    fn enter(count: &Arc<AtomicUsize>) -> io::Result<Self> {
        let one_more = |count| (count < RESOLVING_MAX).then_some(count + 1);
        match count.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(Self(Arc::clone(count))),
            Err(_) => {
                let text = format!("{RESOLVING_MAX} names are being resolved already");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn client_config(options: &TlsOptions) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    match &options.ca_file {
        Some(file) => {
            let unreadable = |error: rustls::pki_types::pem::Error| {
                let text = format!("read certificate authorities `{}`: {error}", file.display());
                Failure::permanent(FailureKind::Invalid, text)
            };
            let found = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
            roots.add_parsable_certificates(found.collect::<Result<Vec<_>, _>>().map_err(unreadable)?);
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        let text = "no certificate authority to trust\nhint: install `ca-certificates` or name a file";
        return Err(Failure::permanent(FailureKind::Invalid, text));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::permanent(FailureKind::Invalid, error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// A connection. What is exchanged on it has to get on: no pause may be too long, nor all of them together.
#[derive(Debug)]
pub(super) struct Stream {
    wire: Wire,
    pauses_limit: Duration,
    deadline: Instant,
}

#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Begins an exchange; its time runs from here.
    pub(super) fn begin(&mut self) {
        self.deadline = Instant::now() + self.pauses_limit;
    }

    /// Gives the exchange the time that more bytes take.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.deadline += Duration::from_secs(bytes as u64 / BYTES_PER_S_MIN);
    }

    fn check_time(&self) -> io::Result<()> {
        if Instant::now() <= self.deadline {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "exchange is too slow"))
    }

    /// Whether the other side has closed, or sent something nobody asked for.
    pub(super) fn is_stale(&self) -> bool {
        let tcp = self.tcp();
        let peeked = tcp.set_nonblocking(true).and_then(|()| tcp.peek(&mut [0]));
        let is_restored = tcp.set_nonblocking(false).is_ok();
        match peeked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => !is_restored,
            // Session tickets may be waiting at any time.
            Ok(1..) if matches!(self.wire, Wire::Tls(_)) => !is_restored,
            Ok(_) | Err(_) => true,
        }
    }

    /// Fills a range of a buffer, once; 0 at the end of the stream.
    pub(super) fn recv_into(&mut self, buffer: &dyn LentBuffer, range: Range<usize>) -> io::Result<usize> {
        self.check_time()?;
        match &mut self.wire {
            Wire::Plain(stream) => buffer.recv_into(stream.as_fd(), range),
            Wire::Tls(stream) => {
                let mut bounce = vec![0; range.len().min(BOUNCE_BYTES)];
                let count = stream.read(&mut bounce)?;
                buffer.write_at(range.start, &bounce[..count])?;
                Ok(count)
            }
        }
    }

    /// Sends a whole range of a buffer.
    pub(super) fn send_all(&mut self, buffer: &dyn LentBuffer, range: Range<usize>) -> io::Result<()> {
        let mut done = range.start;
        while done < range.end {
            self.check_time()?;
            let sent = match &mut self.wire {
                Wire::Plain(stream) => buffer.send_from(stream.as_fd(), done..range.end),
                Wire::Tls(stream) => {
                    let mut bounce = vec![0; (range.end - done).min(BOUNCE_BYTES)];
                    buffer.read_at(done, &mut bounce)?;
                    stream.write(&bounce)
                }
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.flush()
    }

    fn tcp(&self) -> &TcpStream {
        match &self.wire {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.check_time()?;
        match &mut self.wire {
            Wire::Plain(stream) => stream.read(into),
            Wire::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.check_time()?;
        match &mut self.wire {
            Wire::Plain(stream) => stream.write(from),
            Wire::Tls(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.wire {
            Wire::Plain(stream) => stream.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}
