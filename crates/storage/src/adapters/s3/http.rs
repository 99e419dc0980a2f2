//! HTTP/1.1, as far as an object store needs it: one request at a time on a kept connection.

use std::io::{self, BufRead as _, BufReader, Write as _};

use super::response::{Body, Response, read_head, read_text};
use crate::adapters::stream::{Connector, Stream};
use crate::buffer::LentBuffer;

/// Bytes read ahead of a body: little to copy of a large one.
const READ_AHEAD_BYTES: usize = 8192;

/// A connection to the endpoint.
#[derive(Debug)]
pub(super) struct HttpConnection {
    stream: BufReader<Stream>,
    is_reusable: bool,
}

/// What a request carries.
pub(super) enum Payload<'a> {
    Bytes(&'a [u8]),
    Lent(&'a dyn LentBuffer, std::ops::Range<usize>),
}

impl HttpConnection {
    pub(super) fn open(connector: &Connector, host: &str, port: u16) -> io::Result<Self> {
        let stream = BufReader::with_capacity(READ_AHEAD_BYTES, connector.connect(host, port)?);
        Ok(Self { stream, is_reusable: true })
    }

    /// Whether another request can follow.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_reusable && self.stream.buffer().is_empty() && !self.stream.get_ref().is_stale()
    }

    /// Sends a request and reads the head of its response; the body follows.
    pub(super) fn exchange(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&'static str, String)],
        payload: Payload<'_>,
    ) -> io::Result<Response> {
        let len = match &payload {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Lent(_, range) => range.len(),
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {len}\r\n\r\n"));
        let stream = self.stream.get_mut();
        stream.begin();
        stream.expect(len);
        stream.write_all(head.as_bytes())?;
        match payload {
            Payload::Bytes(bytes) => stream.write_all(bytes)?,
            Payload::Lent(buffer, range) => stream.send_all(buffer, range)?,
        }
        stream.flush()?;
        let response = read_head(&mut self.stream, method == "HEAD")?;
        self.is_reusable = response.is_kept_open;
        Ok(response)
    }

    /// Reads a body that is no object.
    pub(super) fn text(&mut self, body: Body) -> io::Result<String> {
        read_text(&mut self.stream, body)
    }

    /// Reads a body of known length into a range of a buffer.
    pub(super) fn fill(&mut self, buffer: &dyn LentBuffer, range: std::ops::Range<usize>) -> io::Result<()> {
        self.stream.get_mut().expect(range.len());
        let ahead = self.stream.buffer().len().min(range.len());
        buffer.write_at(range.start, &self.stream.buffer()[..ahead])?;
        self.stream.consume(ahead);
        let mut done = range.start + ahead;
        while done < range.end {
            match self.stream.get_mut().recv_into(buffer, done..range.end) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives up on the rest of a body; the connection can't be used again.
    pub(super) fn abandon(&mut self) {
        self.is_reusable = false;
    }
}
