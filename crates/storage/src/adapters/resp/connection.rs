//! One blocking connection to one server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::commands::Command;
use super::options::{Node, RespOptions};
use super::reply::{BulkHeader, Reply, read_bulk_header, read_end, read_reply};
use crate::buffer::LentBuffer;

/// Bytes read ahead of a reply: enough for many small ones, little to copy of a large one.
const READ_AHEAD_BYTES: usize = 8192;

/// A connection that is authenticated and has its database selected.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
}

/// How an object arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    Filled,
    Nil,
    /// Of another length than the buffer; its bytes were dropped.
    OtherLength(u64),
    Error(String),
}

impl Connection {
    pub(super) fn open(node: &Node, options: &RespOptions) -> io::Result<Self> {
        let stream = connect(node, Duration::from_millis(options.connect_timeout_ms.max(1)))?;
        let progress = Some(Duration::from_millis(options.request_timeout_ms.max(1)));
        stream.set_nodelay(true)?;
        stream.set_read_timeout(progress)?;
        stream.set_write_timeout(progress)?;
        let mut connection = Self { stream: BufReader::with_capacity(READ_AHEAD_BYTES, stream) };
        let password = options.password.expose();
        if !password.is_empty() {
            let auth = if options.username.is_empty() {
                Command::new("AUTH").arg(password)
            } else {
                Command::new("AUTH").arg(&options.username).arg(password)
            };
            connection.expect_ok("authenticate", &auth)?;
        }
        if options.database != 0 {
            connection
                .expect_ok("select database", &Command::new("SELECT").arg(options.database.to_string()))?;
        }
        Ok(connection)
    }

    /// Whether the server has closed the connection, or sent something nobody asked for.
    pub(super) fn is_stale(&self) -> bool {
        let stream = self.stream.get_ref();
        let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
        let is_quiet = matches!(&peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        !is_quiet || !self.stream.buffer().is_empty() || stream.set_nonblocking(false).is_err()
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub(super) fn send_buffer(&mut self, buffer: &dyn LentBuffer) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match buffer.send_from(self.stream.get_ref().as_fd(), done..buffer.len()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn reply(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.stream)
    }

    /// Reads an object into a buffer, what was read ahead first and the rest straight from the socket.
    pub(super) fn fetch(&mut self, buffer: &dyn LentBuffer) -> io::Result<Fetched> {
        let len = match read_bulk_header(&mut self.stream)? {
            BulkHeader::Length(len) => len,
            BulkHeader::Nil => return Ok(Fetched::Nil),
            BulkHeader::Error(error) => return Ok(Fetched::Error(error)),
        };
        if len != buffer.len() {
            let dropped = io::copy(&mut self.stream.by_ref().take(len as u64), &mut io::sink())?;
            if dropped < len as u64 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            read_end(&mut self.stream)?;
            return Ok(Fetched::OtherLength(len as u64));
        }
        let ahead = self.stream.buffer().len().min(len);
        buffer.write_at(0, &self.stream.buffer()[..ahead])?;
        self.stream.consume(ahead);
        let mut done = ahead;
        while done < len {
            match buffer.recv_into(self.stream.get_ref().as_fd(), done..len) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        read_end(&mut self.stream)?;
        Ok(Fetched::Filled)
    }

    fn expect_ok(&mut self, attempt: &str, command: &Command) -> io::Result<()> {
        self.send(&command.encode())?;
        match self.reply()? {
            Reply::Text(_) => Ok(()),
            Reply::Error(error) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{attempt}: server answered `{error}`"),
            )),
            other => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{attempt}: unexpected reply `{other:?}`"),
            )),
        }
    }
}

/// Tries every address of a name in turn.
fn connect(node: &Node, limit: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "name has no address");
    for address in (node.host.as_str(), node.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
