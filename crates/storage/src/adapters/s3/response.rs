//! Responses of HTTP/1.1, read from any byte source.

use std::io::{self, BufRead, Read as _};

use crate::adapters::quote::quote;

/// Longest line of a response head.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// Most header lines, and most lines after a chunked body.
const HEADERS_MAX: usize = 200;
/// Longest body that is no object.
const BODY_BYTES_MAX: u64 = 16 << 20;
/// Most interim responses before the real one.
const INTERIM_MAX: usize = 8;

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Body,
    /// Whether another response may follow on the connection.
    pub(crate) is_kept_open: bool,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Response {
    /// The value of a header; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the head of a response, past interim ones. The response to a `HEAD` is bodiless whatever it says.
pub(crate) fn read_head(source: &mut impl BufRead, is_bodiless: bool) -> io::Result<Response> {
    for _ in 0..=INTERIM_MAX {
        let response = read_one_head(source, is_bodiless)?;
        if response.status >= 200 {
            return Ok(response);
        }
    }
    Err(malformed("head", "interim responses only"))
}

fn read_one_head(source: &mut impl BufRead, is_bodiless: bool) -> io::Result<Response> {
    let line = read_line(source)?;
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
        let line = read_line(source)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("header", &line))?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        if headers.len() > HEADERS_MAX {
            return Err(malformed("head of too many lines", &line));
        }
    }
    let mut response = Response { status, headers, body: Body::Length(0), is_kept_open: false };
    if !(is_bodiless || status == 204 || status == 304 || status < 200) {
        response.body = match (response.header("transfer-encoding"), response.header("content-length")) {
            (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Body::Chunked,
            (Some(coding), _) => return Err(malformed("transfer coding", coding)),
            (None, Some(len)) => Body::Length(len.parse().map_err(|_| malformed("length", len))?),
            (None, None) => Body::UntilClose,
        };
    }
    let connection = response.header("connection").unwrap_or_default().to_ascii_lowercase();
    let is_closing = connection.contains("close") || (is_http_1_0 && !connection.contains("keep-alive"));
    response.is_kept_open = !is_closing && response.body != Body::UntilClose;
    Ok(response)
}

/// Reads a body that is no object.
pub(crate) fn read_text(source: &mut impl BufRead, body: Body) -> io::Result<String> {
    let mut bytes = Vec::new();
    match body {
        Body::Length(len) => append(source, len, &mut bytes)?,
        Body::UntilClose => {
            source.take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            check_room(bytes.len(), 0)?;
        }
        Body::Chunked => loop {
            let line = read_line(source)?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let len = u64::from_str_radix(digits, 16).map_err(|_| malformed("chunk", &line))?;
            if len == 0 {
                skip_trailers(source)?;
                break;
            }
            append(source, len, &mut bytes)?;
            let end = read_line(source)?;
            if !end.is_empty() {
                return Err(malformed("end of chunk", &end));
            }
        },
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn append(source: &mut impl BufRead, len: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    check_room(bytes.len(), len)?;
    if (source.take(len).read_to_end(bytes)? as u64) < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn check_room(held: usize, len: u64) -> io::Result<()> {
    if len.saturating_add(held as u64) > BODY_BYTES_MAX {
        return Err(malformed("body beyond", &BODY_BYTES_MAX.to_string()));
    }
    Ok(())
}

fn skip_trailers(source: &mut impl BufRead) -> io::Result<()> {
    for _ in 0..HEADERS_MAX {
        if read_line(source)?.is_empty() {
            return Ok(());
        }
    }
    Err(malformed("trailer", "too many lines"))
}

fn read_line(source: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    source.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text = String::from_utf8_lossy(&line);
    match text.strip_suffix('\n') {
        Some(text) => Ok(text.strip_suffix('\r').unwrap_or(text).to_owned()),
        None => Err(malformed("line", &text)),
    }
}

fn malformed(what: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed response: {what} `{}`", quote(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> io::Result<Response> {
        read_head(&mut text.as_bytes(), false)
    }

    #[test]
    fn heads_say_how_the_body_ends_and_whether_the_connection_is_kept() {
        for (text, body, is_kept_open) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Body::Length(5), true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Body::Chunked, true),
            ("HTTP/1.1 200 OK\nServer: x\n\n", Body::UntilClose, false),
            ("HTTP/1.1 204 No\r\n\r\n", Body::Length(0), true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", Body::Length(1), false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\n", Body::Length(1), true),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\nConnection: close\r\n\r\n",
                Body::UntilClose,
                false,
            ),
        ] {
            let response = head(text).unwrap();
            assert_eq!((response.body, response.is_kept_open), (body, is_kept_open), "{text}");
        }
        assert_eq!(head("HTTP/1.1 200 OK\r\nETag:  \"a\" \r\n\r\n").unwrap().header("etag"), Some("\"a\""));
        let bodiless = read_head(&mut &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"[..], true).unwrap();
        assert_eq!((bodiless.body, bodiless.header("content-length")), (Body::Length(0), Some("9")));
    }

    #[test]
    fn heads_without_end_or_sense_are_errors() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(INTERIM_MAX + 1);
        let headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        let line = format!("HTTP/1.1 200 {}", "x".repeat(20_000));
        for text in [
            "",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 x\r\n\r\n",
            "HTTP/1.1 70000 x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            &interim,
            &headers,
            &line,
        ] {
            assert!(head(text).is_err(), "{text:.60}");
        }
    }

    #[test]
    fn bodies_end_where_they_say() {
        let text = |body, text: &str| read_text(&mut text.as_bytes(), body);
        assert_eq!(text(Body::Length(3), "abcd").unwrap(), "abc");
        assert_eq!(text(Body::UntilClose, "abcd").unwrap(), "abcd");
        assert_eq!(text(Body::Chunked, "3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nt: u\r\n\r\n").unwrap(), "abcd");
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        for bad in ["3\r\nab", "x\r\n", "3\r\nabcd\r\n0\r\n\r\n", "1\r\na\r\nffffffffffffffff\r\n", &trailers]
        {
            assert!(text(Body::Chunked, bad).is_err(), "{bad:.40}");
        }
        assert!(text(Body::Length(4), "abc").is_err());
        assert!(text(Body::Length(BODY_BYTES_MAX + 1), "abc").is_err());
    }
}
