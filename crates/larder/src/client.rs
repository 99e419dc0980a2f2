//! A small HTTP/1.1 client for one server: one request a connection, blocking.
//!
//! Owns the wire format and its limits. Understands what the admin API sends: a length, chunks, or an end by
//! closing.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::{Arg, ArgMatches};
use larder_admin_api::errors::Detail;
use larder_admin_api::health::Health;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the next byte of an answer. Stopping a plugin takes as long as its manifest allows.
const READ_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of one line of an answer's head, or of an event.
const LINE_MAX_BYTES: u64 = 1024 * 1024;
/// Lines of an answer's head.
const HEAD_LINES_MAX: usize = 100;
/// Bytes of a whole answer.
const BODY_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Where a server is looked for when neither `--url` nor the variable says.
const URL_DEFAULT: &str = "http://127.0.0.1:8080";
/// The variable that names the server.
const URL_VARIABLE: &str = "LARDER_URL";

/// `--url`, for commands to a server.
pub(crate) fn url_arg() -> Arg {
    Arg::new("url")
        .long("url")
        .value_name("URL")
        .help(format!("The server's HTTP address [default: {URL_VARIABLE}, then {URL_DEFAULT}]"))
}

/// The server's address as given, or where it usually is.
pub(crate) fn url(matches: &ArgMatches) -> String {
    matches
        .get_one::<String>("url")
        .cloned()
        .or_else(|| std::env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty()))
        .unwrap_or_else(|| URL_DEFAULT.to_owned())
}

/// What went wrong between this process and the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("`{0}` is no server address\nhint: write it as `http://127.0.0.1:8080`")]
    Address(String),
    #[error(
        "no server at `{url}`: {source}\nhint: is it running? name another one with `--url` or LARDER_URL"
    )]
    Connect { url: String, source: io::Error },
    #[error("`{url}` does not answer as a server does: {source}")]
    Answer { url: String, source: io::Error },
    /// The server's own words.
    #[error("{0}")]
    Refused(String),
}

/// A server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    url: String,
    /// Host and port, as in the request.
    authority: String,
    prefix: String,
}

impl Client {
    /// Takes `http://host[:port][/prefix]`.
    pub(crate) fn new(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, prefix) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
        let odd = |text: &str| text.contains(|c: char| c.is_control() || c.is_whitespace());
        if authority.is_empty() || authority.contains('@') || odd(rest) {
            return Err(wrong());
        }
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Ok(Self { url: url.to_owned(), authority: authority.to_owned(), prefix })
    }

    /// What is at `path`.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send("GET", path, None::<&()>)
    }

    /// What a command answers.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send("POST", path, None::<&()>)
    }

    /// What a request answers, sent with a body if there is one.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let body = body.map(serde_json::to_string).transpose().map_err(|error| self.odd(error.into()))?;
        let text = self.text(self.request(method, path, &body.unwrap_or_default())?)?;
        serde_json::from_str(&text).map_err(|error| self.odd(error.into()))
    }

    /// Server-sent events at `path`, each with its name and data, until the server ends them or `each`
    /// returns false.
    pub(crate) fn events(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &str) -> bool,
    ) -> Result<(), ClientError> {
        let mut body = BufReader::new(self.request("GET", path, "")?);
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = match read_line(&mut body).map_err(|source| self.odd(source))? {
                Some(line) => line,
                None => return Ok(()),
            };
            match line.split_once(':') {
                Some(("event", value)) => value.trim_start().clone_into(&mut name),
                Some(("data", value)) => value.strip_prefix(' ').unwrap_or(value).clone_into(&mut data),
                _ if line.is_empty() => {
                    if !data.is_empty() && !each(&name, &data) {
                        return Ok(());
                    }
                    name.clear();
                    data.clear();
                }
                _ => {}
            }
        }
    }

    fn text(&self, body: Body) -> Result<String, ClientError> {
        let mut text = String::new();
        body.take(BODY_MAX_BYTES).read_to_string(&mut text).map_err(|source| self.odd(source))?;
        Ok(text)
    }

    fn odd(&self, source: io::Error) -> ClientError {
        ClientError::Answer { url: self.url.clone(), source }
    }

    /// Sends a request and reads the head of the answer.
    fn request(&self, method: &str, path: &str, body: &str) -> Result<Body, ClientError> {
        let failed = |source| ClientError::Connect { url: self.url.clone(), source };
        let mut stream = connect(&self.authority).map_err(failed)?;
        let (authority, prefix) = (&self.authority, &self.prefix);
        let head = format!(
            "{method} {prefix}{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\
             Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).map_err(failed)?;
        let (status, body) = answer(BufReader::new(stream)).map_err(|source| self.odd(source))?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let text = self.text(body)?;
        let detail = match serde_json::from_str(&text) {
            Ok(Told::Detail(Detail { detail })) => detail,
            Ok(Told::Unhealthy(Health { reason: Some(reason), .. })) => reason,
            _ => format!("`{}` answered with status {status}", self.url),
        };
        Err(ClientError::Refused(detail))
    }
}

/// What a server says of a request that it does not carry out.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Detail(Detail),
    Unhealthy(Health),
}

fn connect(authority: &str) -> io::Result<TcpStream> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let target = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in target.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(READ_TIMEOUT))?;
                stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The body of an answer, without its framing.
#[derive(Debug)]
struct Body {
    stream: BufReader<TcpStream>,
    framing: Framing,
}

#[derive(Debug)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes are left of the current chunk.
    Chunk(u64),
    /// Until the server closes.
    Close,
    /// The last chunk has come.
    Done,
}

fn answer(mut stream: BufReader<TcpStream>) -> io::Result<(u16, Body)> {
    let odd = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let first = read_line(&mut stream)?.ok_or_else(|| odd("it closed the connection"))?;
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| odd("this is not HTTP"))?;
    let mut framing = Framing::Close;
    for _ in 0..HEAD_LINES_MAX {
        let line = read_line(&mut stream)?.ok_or_else(|| odd("it closed the connection"))?;
        if line.is_empty() {
            return Ok((status, Body { stream, framing }));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| odd("a header without a colon"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            framing = Framing::Chunk(0);
        } else if name.eq_ignore_ascii_case("content-length") && matches!(framing, Framing::Close) {
            framing = Framing::Length(value.parse().map_err(|_| odd("a length that is no number"))?);
        }
    }
    Err(odd("too many headers"))
}

/// One line without its end; `None` at the end of the stream.
fn read_line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    stream.take(LINE_MAX_BYTES).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop_if(|byte| *byte == b'\n').is_none() && line.len() as u64 == LINE_MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
    }
    line.pop_if(|byte| *byte == b'\r');
    String::from_utf8(line).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

impl Body {
    /// Reads the size line of the next chunk; after the first one an empty line comes before it.
    fn next_chunk(&mut self) -> io::Result<u64> {
        let odd = || io::Error::new(io::ErrorKind::InvalidData, "a chunk without its size");
        let mut line = read_line(&mut self.stream)?.ok_or_else(odd)?;
        if line.is_empty() {
            line = read_line(&mut self.stream)?.ok_or_else(odd)?;
        }
        let size = line.split(';').next().unwrap_or_default().trim();
        u64::from_str_radix(size, 16).map_err(|_| odd())
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunk(0) = self.framing {
            self.framing = match self.next_chunk()? {
                0 => Framing::Done,
                size => Framing::Chunk(size),
            };
        }
        let left = match &mut self.framing {
            Framing::Done | Framing::Length(0) => return Ok(0),
            Framing::Close => return self.stream.read(buffer),
            Framing::Length(left) | Framing::Chunk(left) => left,
        };
        let room = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let count = self.stream.read(&mut buffer[..room])?;
        if count == 0 && room > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use serde_json::Value;

    use super::*;

    /// Answers one connection with `answer` and returns the client's result and its request.
    fn exchange<T: Send + 'static>(
        answer: &'static str,
        ask: impl FnOnce(Client) -> T + Send + 'static,
    ) -> (T, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(&format!("http://{}/pre/", listener.local_addr().unwrap())).unwrap();
        let asking = thread::spawn(move || ask(client));
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut request = String::new();
        while let Some(line) = read_line(&mut reader).unwrap().filter(|line| !line.is_empty()) {
            request.push_str(&line);
            request.push('\n');
        }
        // Byte by byte, so that nothing depends on how it arrives.
        for byte in answer.bytes() {
            if reader.get_mut().write_all(&[byte]).is_err() {
                break;
            }
        }
        drop(reader);
        (asking.join().unwrap(), request)
    }

    #[test]
    fn three_framings_of_a_body() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\": 1}and more",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n{\"a\r\n5\r\n\": 1}\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\n{\"a\": 1}",
        ] {
            let (got, request) = exchange(answer, |client| client.get::<Value>("/x"));
            assert_eq!(got.unwrap(), serde_json::json!({"a": 1}), "{answer}");
            assert!(request.starts_with("GET /pre/x HTTP/1.1\nHost: 127.0.0.1:"), "{request}");
        }
    }

    #[test]
    fn the_server_s_words_are_passed_on() {
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\n{\"detail\": \"no cat\"}";
        let (got, _) = exchange(answer, |client| client.post::<Value>("/x"));
        assert!(matches!(got, Err(ClientError::Refused(detail)) if detail == "no cat"));
        let (got, _) = exchange("HTTP/1.1 500 x\r\n\r\noops", |client| client.post::<Value>("/x"));
        assert!(got.unwrap_err().to_string().ends_with("answered with status 500"));
    }

    #[test]
    fn answers_that_are_none() {
        for answer in [
            "",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}",
            "HTTP/1.1 200 OK\r\n\r\nno json",
        ] {
            let (got, _) = exchange(answer, |client| client.get::<Value>("/"));
            assert!(matches!(got, Err(ClientError::Answer { .. })), "{answer:?}: {got:?}");
        }
    }

    #[test]
    fn events_are_told_apart() {
        let answer = "HTTP/1.1 200 OK\r\n\r\n: still here\n\nid: 1\nevent: line\ndata: {\"a\":1}\n\n\
                      event: gap\ndata: 2\n\ndata: 3\n\nevent: cut";
        let (seen, _) = exchange(answer, |client| {
            let mut seen = Vec::new();
            client.events("/e", |name, data| {
                seen.push(format!("{name}={data}"));
                seen.len() < 3
            })?;
            Ok::<_, ClientError>(seen)
        });
        assert_eq!(seen.unwrap(), ["line={\"a\":1}", "gap=2", "=3"]);
    }

    #[test]
    fn addresses() {
        for wrong in [
            "",
            "127.0.0.1:1",
            "https://x",
            "http://",
            "http:///x",
            "http://u@h",
            "http://a b",
            "http://a\r\nX: y",
        ] {
            assert!(matches!(Client::new(wrong), Err(ClientError::Address(_))), "{wrong:?}");
        }
        assert_eq!(Client::new("http://h:1/a/").unwrap().prefix, "/a");
    }
}
