//! One blocking connection to one server.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};

use super::command::Command;
use super::options::{Node, RespOptions};
use super::reply::{
    BulkHeader, LOGIN_HINT, Reply, read_array_header, read_bulk_header, read_end, read_reply,
};
use crate::adapters::quote::quote_without;
use crate::adapters::stream::{Connector, Stream};
use crate::buffer::LentBuffer;
use crate::secret::Secret;

/// Bytes read ahead of a reply: enough for many small ones, little to copy of a large one.
const READ_AHEAD_BYTES: usize = 8192;

/// Longest object of a wrong length that is read past; a longer one costs the connection.
const DROPPED_BYTES_MAX: usize = 512 << 20;

/// A connection that is authenticated and has its database selected.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<Stream>,
}

/// How an object arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    Filled,
    Nil,
    /// Of another length than the buffer; its bytes were dropped.
    OtherLength(u64),
}

impl Connection {
    pub(super) fn open(node: &Node, connector: &Connector, options: &RespOptions) -> io::Result<Self> {
        let stream = connector.connect(&node.host, node.port)?;
        let mut connection = Self { stream: BufReader::with_capacity(READ_AHEAD_BYTES, stream) };
        let password = &options.password;
        if !password.is_empty() {
            let auth = if options.username.is_empty() {
                Command::new("AUTH").arg(password.expose())
            } else {
                Command::new("AUTH").arg(&options.username).arg(password.expose())
            };
            connection.authenticate(&auth, password)?;
        }
        if options.database != 0 {
            connection.select(options.database)?;
        }
        Ok(connection)
    }

    /// Whether the server has closed the connection, or sent something nobody asked for.
    pub(super) fn is_stale(&self) -> bool {
        !self.stream.buffer().is_empty() || self.stream.get_ref().is_stale()
    }

    /// Begins an exchange; its time runs from here.
    pub(super) fn begin(&mut self) {
        self.stream.get_mut().begin();
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    pub(super) fn send_buffer(&mut self, buffer: &dyn LentBuffer) -> io::Result<()> {
        self.stream.get_mut().expect(buffer.len());
        self.stream.get_mut().send_all(buffer, 0..buffer.len())
    }

    /// Reads what precedes the objects of a reply with several; an error says why there are none.
    pub(super) fn array(&mut self, len: usize) -> io::Result<Result<(), String>> {
        read_array_header(&mut self.stream, len)
    }

    pub(super) fn reply(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.stream)
    }

    /// Reads an object into a buffer, what was read ahead first and the rest straight from the socket.
    pub(super) fn fetch(&mut self, buffer: &dyn LentBuffer) -> io::Result<Fetched> {
        let len = match read_bulk_header(&mut self.stream)? {
            BulkHeader::Length(len) => len,
            BulkHeader::Nil => return Ok(Fetched::Nil),
        };
        if len != buffer.len() {
            if len > DROPPED_BYTES_MAX {
                let text = format!("object of `{len}` bytes where `{}` were expected", buffer.len());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            self.stream.get_mut().expect(len);
            let dropped = io::copy(&mut self.stream.by_ref().take(len as u64), &mut io::sink())?;
            if dropped < len as u64 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            read_end(&mut self.stream)?;
            return Ok(Fetched::OtherLength(len as u64));
        }
        self.stream.get_mut().expect(len);
        let ahead = self.stream.buffer().len().min(len);
        buffer.write_at(0, &self.stream.buffer()[..ahead])?;
        self.stream.consume(ahead);
        let mut done = ahead;
        while done < len {
            match self.stream.get_mut().recv_into(buffer, done..len) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        read_end(&mut self.stream)?;
        Ok(Fetched::Filled)
    }

    fn authenticate(&mut self, auth: &Command, password: &Secret) -> io::Result<()> {
        self.send(&auth.encode())?;
        let answered = match self.reply()? {
            Reply::Text(_) => return Ok(()),
            Reply::Error(error) => {
                format!("server answered `{}`\nhint: {LOGIN_HINT}", quote_without(&error, password))
            }
            other => format!("unexpected reply `{}`", quote_without(&other.summary(), password)),
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("authenticate: {answered}")))
    }

    fn select(&mut self, database: u32) -> io::Result<()> {
        self.send(&Command::new("SELECT").arg(database.to_string()).encode())?;
        match self.reply()? {
            Reply::Text(_) => Ok(()),
            other => {
                let text = format!("select database {database}: server answered `{}`", other.summary());
                Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
        }
    }
}
