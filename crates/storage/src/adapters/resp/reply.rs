//! Replies of a server, read from any byte source, and the errors among them.

use std::io::{self, BufRead, Read};

use super::options::Node;
use crate::adapters::quote::quote;
use crate::error::{Failure, FailureKind};

/// What to do about a server that does not take us for whom we should be.
pub(super) const LOGIN_HINT: &str = "check `username` and `password`, and what the server lets that user do";

/// Longest line of a reply; errors and numbers are far shorter.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Longest string inside a reply that is not an object, and most bytes of all its strings and lines.
const BULK_BYTES_MAX: usize = 16 << 20;
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Most elements of an array.
const ARRAY_MAX: usize = 1 << 20;
/// Deepest nesting of arrays.
const DEPTH_MAX: usize = 8;

/// A reply that is not an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Text(String),
    Error(String),
    Integer(i64),
    Bytes(Vec<u8>),
    Nil,
    Array(Vec<Self>),
}

impl Reply {
    /// The reply in a few words, for messages: it may be large.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Error(text) => format!("error {}", quote(text)),
            Self::Integer(number) => number.to_string(),
            Self::Bytes(bytes) => format!("string of {} bytes", bytes.len()),
            Self::Nil => "nil".to_owned(),
            Self::Array(items) => format!("array of {} elements", items.len()),
        }
    }
}

/// What precedes a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BulkHeader {
    Length(usize),
    Nil,
}

/// Reads one reply.
pub(super) fn read_reply(source: &mut impl BufRead) -> io::Result<Reply> {
    let mut room = REPLY_BYTES_MAX;
    read_nested(source, 0, &mut room)
}

fn read_nested(source: &mut impl BufRead, depth: usize, room: &mut usize) -> io::Result<Reply> {
    let line = read_line(source)?;
    take(room, line.len() + size_of::<Reply>())?;
    let (kind, rest) = split(&line)?;
    Ok(match kind {
        '+' => Reply::Text(rest.to_owned()),
        '-' => Reply::Error(rest.to_owned()),
        ':' => Reply::Integer(rest.parse().map_err(|_| protocol("integer", rest))?),
        '$' => match length(rest, BULK_BYTES_MAX)? {
            None => Reply::Nil,
            Some(len) => {
                take(room, len)?;
                let mut bytes = Vec::new();
                // Grows with what arrives, not with what is announced.
                if source.by_ref().take(len as u64).read_to_end(&mut bytes)? < len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                read_end(source)?;
                Reply::Bytes(bytes)
            }
        },
        '*' if depth < DEPTH_MAX => match length(rest, ARRAY_MAX)? {
            None => Reply::Nil,
            Some(count) => {
                let items = (0..count).map(|_| read_nested(source, depth + 1, room));
                Reply::Array(items.collect::<io::Result<_>>()?)
            }
        },
        _ => return Err(protocol("reply", &line)),
    })
}

fn take(room: &mut usize, bytes: usize) -> io::Result<()> {
    *room = room.checked_sub(bytes).ok_or_else(|| protocol("reply beyond", &REPLY_BYTES_MAX.to_string()))?;
    Ok(())
}

/// Reads what precedes an object; its bytes and [`read_end`] follow.
pub(super) fn read_bulk_header(source: &mut impl BufRead) -> io::Result<BulkHeader> {
    let line = read_line(source)?;
    match split(&line)? {
        ('$', rest) => Ok(length(rest, usize::MAX)?.map_or(BulkHeader::Nil, BulkHeader::Length)),
        _ => Err(protocol("string", &line)),
    }
}

/// Reads what precedes the elements of an array that has `len` of them, or the error there is instead.
pub(super) fn read_array_header(source: &mut impl BufRead, len: usize) -> io::Result<Result<(), String>> {
    let line = read_line(source)?;
    match split(&line)? {
        ('*', rest) if length(rest, ARRAY_MAX)? == Some(len) => Ok(Ok(())),
        ('-', rest) => Ok(Err(rest.to_owned())),
        _ => Err(protocol("array", &line)),
    }
}

/// Reads the line end after a string.
pub(super) fn read_end(source: &mut impl Read) -> io::Result<()> {
    let mut end = [0; 2];
    source.read_exact(&mut end)?;
    if end == *b"\r\n" { Ok(()) } else { Err(protocol("end of string", &String::from_utf8_lossy(&end))) }
}

fn read_line(source: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    source.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        None => Err(protocol("line", &String::from_utf8_lossy(&line))),
    }
}

fn split(line: &str) -> io::Result<(char, &str)> {
    let mut chars = line.chars();
    chars.next().map(|kind| (kind, chars.as_str())).ok_or_else(|| protocol("line", line))
}

fn length(text: &str, max: usize) -> io::Result<Option<usize>> {
    if text == "-1" {
        return Ok(None);
    }
    text.parse().ok().filter(|length| *length <= max).map(Some).ok_or_else(|| protocol("length", text))
}

fn protocol(what: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed {what} `{}`", quote(text)))
}

/// Where a cluster says a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// For good.
    Moved(Node),
    /// This once, while it migrates.
    Ask(Node),
}

/// Reads `MOVED <slot> <host:port>` and `ASK <slot> <host:port>`; an empty host means the one that answered.
pub(super) fn redirect(error: &str, answered: &Node) -> Option<Redirect> {
    let mut words = error.split(' ');
    let kind = words.next()?;
    let address = words.nth(1)?;
    let node = match address.strip_prefix(':') {
        Some(port) => Node { host: answered.host.clone(), port: port.parse().ok()? },
        None => Node::parse(address)?,
    };
    match kind {
        "MOVED" => Some(Redirect::Moved(node)),
        "ASK" => Some(Redirect::Ask(node)),
        _ => None,
    }
}

/// What a server's error means to a caller.
pub(super) fn server_failure(attempt: &str, error: &str) -> Failure {
    let text = format!("{attempt}: server answered `{}`", quote(error));
    match error.split(' ').next().unwrap_or_default() {
        "OOM" => Failure::permanent(FailureKind::Full, text),
        "NOAUTH" | "WRONGPASS" | "NOPERM" => {
            Failure::permanent(FailureKind::Refused, format!("{text}\nhint: {LOGIN_HINT}"))
        }
        "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "MOVED" | "ASK" => {
            Failure::retryable(FailureKind::Unavailable, text)
        }
        _ => Failure::permanent(FailureKind::Io, text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replies_of_every_kind_are_read() {
        let mut source = &b"+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*2\r\n:1\r\n*-1\r\n$0\r\n\r\n"[..];
        let expected = [
            Reply::Text("OK".into()),
            Reply::Error("ERR no".into()),
            Reply::Integer(-7),
            Reply::Bytes(b"a\r\n".to_vec()),
            Reply::Nil,
            Reply::Array(vec![Reply::Integer(1), Reply::Nil]),
            Reply::Bytes(Vec::new()),
        ];
        for reply in expected {
            assert_eq!(read_reply(&mut source).unwrap(), reply);
        }
        assert_eq!(read_reply(&mut source).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn malformed_replies_are_errors() {
        let deep = "*1\r\n".repeat(20);
        for text in
            ["?\r\n", "\r\n", ":x\r\n", "$-2\r\n", "$99999999999\r\n", "$1\r\nab\r\n", "+no end", &deep]
        {
            assert!(read_reply(&mut text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_reply_of_many_long_strings_is_refused() {
        let string = format!("${}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
        assert!(read_reply(&mut format!("*3\r\n{}", string.repeat(3)).as_bytes()).is_ok());
        assert!(read_reply(&mut format!("*64\r\n{}", string.repeat(64)).as_bytes()).is_err());
    }

    #[test]
    fn redirects_name_a_node() {
        let here = Node { host: "here".into(), port: 1 };
        let node = |host: &str, port| Node { host: host.into(), port };
        assert_eq!(
            redirect("MOVED 3999 127.0.0.1:6381", &here),
            Some(Redirect::Moved(node("127.0.0.1", 6381)))
        );
        assert_eq!(redirect("ASK 1 :6381", &here), Some(Redirect::Ask(node("here", 6381))));
        for other in ["ERR unknown", "MOVED", "MOVED 1 nowhere", ""] {
            assert_eq!(redirect(other, &here), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            _ = read_reply(&mut bytes.as_slice());
            _ = read_bulk_header(&mut bytes.as_slice());
            _ = read_array_header(&mut bytes.as_slice(), 2);
        }
    }
}
