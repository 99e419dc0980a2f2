//! HTTP/1.1, as far as an object store needs it: one request at a time on a kept connection.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};

use crate::adapters::stream::{Connector, Stream};
use crate::buffer::LentBuffer;

/// Bytes read ahead of a body: little to copy of a large one.
const READ_AHEAD_BYTES: usize = 8192;
/// Longest line of a response head.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// Most header lines.
const HEADERS_MAX: usize = 200;
/// Longest body that is no object.
const BODY_BYTES_MAX: u64 = 16 << 20;

/// A connection to the endpoint.
#[derive(Debug)]
pub(super) struct HttpConnection {
    stream: BufReader<Stream>,
    is_reusable: bool,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Body,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What a request carries.
pub(super) enum Payload<'a> {
    Bytes(&'a [u8]),
    Lent(&'a dyn LentBuffer, std::ops::Range<usize>),
}

impl Response {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
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
        stream.write_all(head.as_bytes())?;
        match payload {
            Payload::Bytes(bytes) => stream.write_all(bytes)?,
            Payload::Lent(buffer, range) => stream.send_all(buffer, range)?,
        }
        stream.flush()?;
        loop {
            let response = self.head(method == "HEAD")?;
            // Interim responses precede the real one.
            if response.status >= 200 {
                return Ok(response);
            }
        }
    }

    fn head(&mut self, is_bodiless: bool) -> io::Result<Response> {
        let line = self.line()?;
        let mut words = line.split(' ');
        let is_http_1_0 = match words.next() {
            Some("HTTP/1.1") => false,
            Some("HTTP/1.0") => true,
            _ => return Err(malformed("status line", &line)),
        };
        let status =
            words.next().and_then(|status| status.parse().ok()).ok_or_else(|| malformed("status", &line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("header", &line))?;
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            if headers.len() > HEADERS_MAX {
                return Err(malformed("head of too many lines", &line));
            }
        }
        let mut response = Response { status, headers, body: Body::Length(0) };
        let connection = response.header("connection").unwrap_or_default().to_ascii_lowercase();
        let is_closing = connection.contains("close") || (is_http_1_0 && !connection.contains("keep-alive"));
        if !(is_bodiless || status == 204 || status == 304 || status < 200) {
            response.body = match (response.header("transfer-encoding"), response.header("content-length")) {
                (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Body::Chunked,
                (Some(coding), _) => return Err(malformed("transfer coding", coding)),
                (None, Some(len)) => Body::Length(len.parse().map_err(|_| malformed("length", len))?),
                (None, None) => Body::UntilClose,
            };
        }
        self.is_reusable = !is_closing && response.body != Body::UntilClose;
        Ok(response)
    }

    /// Reads a body that is no object.
    pub(super) fn text(&mut self, body: Body) -> io::Result<String> {
        let mut bytes = Vec::new();
        match body {
            Body::Length(len) if len > BODY_BYTES_MAX => return Err(malformed("body of", &len.to_string())),
            Body::Length(len) => {
                self.stream.by_ref().take(len).read_to_end(&mut bytes)?;
                if (bytes.len() as u64) < len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Body::UntilClose => {
                self.stream.by_ref().take(BODY_BYTES_MAX).read_to_end(&mut bytes)?;
            }
            Body::Chunked => loop {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let len = u64::from_str_radix(digits, 16).map_err(|_| malformed("chunk", &line))?;
                if bytes.len() as u64 + len > BODY_BYTES_MAX {
                    return Err(malformed("body beyond", &BODY_BYTES_MAX.to_string()));
                }
                if len == 0 {
                    while !self.line()?.is_empty() {}
                    break;
                }
                if (self.stream.by_ref().take(len).read_to_end(&mut bytes)? as u64) < len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.line()?;
            },
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads a body of known length into a range of a buffer.
    pub(super) fn fill(&mut self, buffer: &dyn LentBuffer, range: std::ops::Range<usize>) -> io::Result<()> {
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

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&line);
        match text.strip_suffix('\n') {
            Some(text) => Ok(text.trim_end_matches('\r').to_owned()),
            None => Err(malformed("line", &text.chars().take(40).collect::<String>())),
        }
    }
}

fn malformed(what: &str, text: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("malformed response: {what} `{}`", text.escape_debug()),
    )
}
