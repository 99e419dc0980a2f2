//! A client of one server's admin API: one request a connection, blocking.
//!
//! Owns the limits of what is taken from a server and the words for what goes wrong.

use std::error::Error;
use std::io;
use std::net::ToSocketAddrs as _;
use std::time::Duration;

use clap::{Arg, ArgMatches};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use larder_admin_api::errors::Detail;
use larder_admin_api::health::Health;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an answer, and for the next piece of it. Stopping a plugin takes as long as its manifest
/// allows.
const READ_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of an answer's head.
const HEAD_MAX_BYTES: usize = 1024 * 1024;
/// Lines of an answer's head; one with more is refused.
const HEAD_LINES_MAX: usize = 100;
/// Bytes of one line of an event.
const LINE_MAX_BYTES: usize = 1024 * 1024;
/// Bytes of a whole answer.
const BODY_MAX_BYTES: usize = 64 * 1024 * 1024;

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

type AnyError = Box<dyn Error + Send + Sync>;

/// What went wrong between this process and the server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("`{0}` is no server address\nhint: write it as `http://127.0.0.1:8080`")]
    Address(String),
    #[error(
        "no server at `{url}`: {source}\nhint: is it running? name another one with `--url` or LARDER_URL"
    )]
    Connect { url: String, source: io::Error },
    #[error("`{url}` does not answer as a server does: {}", with_causes(source.as_ref()))]
    Answer { url: String, source: AnyError },
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
        let address: Uri = url.parse().map_err(|_| wrong())?;
        match address.authority().map(ToString::to_string) {
            Some(authority) if address.scheme_str() == Some("http") && !authority.contains('@') => {
                let prefix = address.path().trim_end_matches('/').to_owned();
                Ok(Self { url: url.to_owned(), authority, prefix })
            }
            _ => Err(wrong()),
        }
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
        self.run(async {
            let body = body.map(serde_json::to_vec).transpose()?;
            let answer = whole(self.request(method, path, body.unwrap_or_default()).await?).await?;
            Ok(serde_json::from_slice(&answer)?)
        })
    }

    /// Server-sent events at `path`, each with its name and data, until the server ends them or `each`
    /// returns false.
    pub(crate) fn events(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &str) -> bool,
    ) -> Result<(), ClientError> {
        let (mut line, mut name, mut data) = (Vec::new(), String::new(), String::new());
        let mut take = |line: &str| {
            match line.split_once(':') {
                Some(("event", value)) => value.trim_start().clone_into(&mut name),
                Some(("data", value)) => value.strip_prefix(' ').unwrap_or(value).clone_into(&mut data),
                _ if line.is_empty() => {
                    let goes_on = data.is_empty() || each(&name, &data);
                    name.clear();
                    data.clear();
                    return goes_on;
                }
                _ => {}
            }
            true
        };
        self.run(async {
            let mut body = self.request("GET", path, Vec::new()).await?;
            while let Some(piece) = next(&mut body).await? {
                for part in piece.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(part);
                    if line.len() > LINE_MAX_BYTES {
                        return Err("a line is too long".into());
                    }
                    let Some(whole) = line.strip_suffix(b"\n") else { continue };
                    if !take(std::str::from_utf8(whole.strip_suffix(b"\r").unwrap_or(whole))?) {
                        return Ok(());
                    }
                    line.clear();
                }
            }
            Ok(())
        })
    }

    /// Carries out an exchange. What goes wrong in it and has no words of its own is the server's answer.
    fn run<T>(&self, exchange: impl Future<Output = Result<T, AnyError>>) -> Result<T, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| self.unreachable(source))?;
        runtime.block_on(exchange).map_err(|error| match error.downcast() {
            Ok(told) => *told,
            Err(source) => ClientError::Answer { url: self.url.clone(), source },
        })
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        ClientError::Connect { url: self.url.clone(), source }
    }

    /// Sends a request and reads the head of the answer.
    async fn request(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Incoming, AnyError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(HOST, &self.authority)
            .header(CONNECTION, "close")
            .header(ACCEPT, "*/*")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let stream = connect(&self.authority).await.map_err(|source| self.unreachable(source))?;
        let mut http = http1::Builder::new();
        http.title_case_headers(true).max_headers(HEAD_LINES_MAX).max_buf_size(HEAD_MAX_BYTES);
        let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await?;
        // What goes wrong with it is told by the answer, too.
        tokio::spawn(connection);
        let (head, body) = timeout(READ_TIMEOUT, sender.send_request(request)).await??.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let detail = match serde_json::from_slice(&whole(body).await?) {
            Ok(Told::Detail(Detail { detail })) => detail,
            Ok(Told::Unhealthy(Health { reason: Some(reason), .. })) => reason,
            _ => format!("`{}` answered with status {}", self.url, head.status.as_u16()),
        };
        Err(ClientError::Refused(detail).into())
    }
}

/// All of a body.
async fn whole(body: Incoming) -> Result<Vec<u8>, AnyError> {
    let (mut body, mut whole) = (Limited::new(body, BODY_MAX_BYTES), Vec::new());
    while let Some(piece) = next(&mut body).await? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// What comes next of a body; none at its end, where there may be trailers.
async fn next<B>(body: &mut B) -> Result<Option<Bytes>, AnyError>
where
    B: Body<Data = Bytes, Error: Into<AnyError>> + Unpin,
{
    let frame = timeout(READ_TIMEOUT, body.frame()).await?.transpose().map_err(Into::into)?;
    Ok(frame.and_then(|frame| frame.into_data().ok()))
}

/// An error in its words and in those of what caused it: hyper's own say no more than which step failed.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What a server says of a request that it does not carry out.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Detail(Detail),
    Unhealthy(Health),
}

/// Waits for the first of a host's addresses that takes a connection.
async fn connect(authority: &str) -> io::Result<TcpStream> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let target = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in target.to_socket_addrs()? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "connection timed out"),
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
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
        while reader.read_line(&mut request).unwrap() > 2 {}
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
            assert!(request.starts_with("GET /pre/x HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
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
    fn what_is_wrong_with_an_answer_is_said() {
        for (answer, said) in [
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "invalid chunk size"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "end of file before message length reached"),
        ] {
            let (got, _) = exchange(answer, |client| client.get::<Value>("/"));
            let text = got.unwrap_err().to_string();
            assert!(text.to_lowercase().contains(said), "{text}");
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
