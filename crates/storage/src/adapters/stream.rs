//! A blocking connection, plain or encrypted, that fills and empties lent buffers.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::buffer::LentBuffer;
use crate::error::{Failure, FailureKind};

/// Bytes decrypted or encrypted at a time.
const BOUNCE_BYTES: usize = 64 * 1024;

/// Whom to trust when connections are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// A PEM file with the certificate authorities to trust; none for those of the system, or of `SSL_CERT_FILE`
    /// and `SSL_CERT_DIR`.
    pub ca_file: Option<PathBuf>,
}

/// How connections are made.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tls: Option<Arc<ClientConfig>>,
    connect_limit: Duration,
    progress_limit: Duration,
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
        })
    }

    /// Tries every address of a name in turn.
    pub(super) fn connect(&self, host: &str, port: u16) -> io::Result<Stream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "name has no address");
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.connect_limit) {
                Ok(stream) => return self.prepare(stream, host),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn prepare(&self, stream: TcpStream, host: &str) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.progress_limit))?;
        stream.set_write_timeout(Some(self.progress_limit))?;
        let Some(config) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, stream))))
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

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Whether the other side has closed, or sent something nobody asked for.
    pub(super) fn is_stale(&self) -> bool {
        let tcp = self.tcp();
        let peeked = tcp.set_nonblocking(true).and_then(|()| tcp.peek(&mut [0]));
        let is_restored = tcp.set_nonblocking(false).is_ok();
        match peeked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => !is_restored,
            // Session tickets may be waiting at any time.
            Ok(1..) if matches!(self, Self::Tls(_)) => !is_restored,
            Ok(_) | Err(_) => true,
        }
    }

    /// Fills a range of a buffer, once; 0 at the end of the stream.
    pub(super) fn recv_into(&mut self, buffer: &dyn LentBuffer, range: Range<usize>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => buffer.recv_into(stream.as_fd(), range),
            Self::Tls(stream) => {
                let mut bounce = vec![0; range.len().min(BOUNCE_BYTES)];
                let count = stream.read(&mut bounce)?;
                buffer.write_at(range.start, &bounce[..count])?;
                Ok(count)
            }
        }
    }

    /// Sends a whole buffer.
    pub(super) fn send_all(&mut self, buffer: &dyn LentBuffer, range: Range<usize>) -> io::Result<()> {
        let mut done = range.start;
        while done < range.end {
            let sent = match self {
                Self::Plain(stream) => buffer.send_from(stream.as_fd(), done..range.end),
                Self::Tls(stream) => {
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
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(from),
            Self::Tls(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
