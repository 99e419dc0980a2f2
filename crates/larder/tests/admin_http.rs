//! The admin API against callers it should not serve, or not for long.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod plugin_rig;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use plugin_rig::{Running, larder};

/// Longest wait for an answer; only a failing test reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

fn server(flags: &[&str]) -> (Running, SocketAddr) {
    let mut command =
        larder(["server", "--l1-size-gb", "0.01", "--eviction-policy", "LRU", "--shm-name", ""]);
    command.args(["--port", "0", "--http-port", "0"]).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let running = Running::start(command);
    let line = running.line("(HTTP on http://");
    let address = line.split("(HTTP on http://").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
    let address = address.parse().unwrap();
    (running, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The whole answer to a request whose connection is closed after it.
fn answer(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = connect(address);
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    stream.write_all(format!("{head}\r\n{length}Connection: close\r\n\r\n").as_bytes()).unwrap();
    // A server that has seen enough answers and closes; what it did not read may be reset.
    _ = stream.write_all(body);
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[test]
fn an_address_that_others_reach_is_told_once_and_with_what_to_do() {
    let (server, _) = server(&["--host", "0.0.0.0", "--http-host", "0.0.0.0", "--http-allowed-hosts", "*"]);
    server.line(" serves: pool ");
    let log = server.log();
    let told =
        |what: &str| log.lines().filter(|line| line.contains("WARNING") && line.contains(what)).count();
    let about = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!((told("engines are served on `0.0.0.0`"), about("without authentication")), (1, 1), "{log}");
    assert_eq!((told("hint: use --host 127.0.0.1"), told("hint: keep it on a trusted")), (1, 1), "{log}");
    assert_eq!((told("HTTP server on `0.0.0.0`"), about("has no authentication")), (1, 1), "{log}");
}

#[test]
fn a_running_server_is_shown_on_one_screen_and_none_is_an_error() {
    let (server, address) =
        server(&["--l2-adapter", r#"{"type": "mock", "max_size_gb": 0.01, "mock_bandwidth_gb": 1}"#]);
    let url = format!("http://{address}");
    server.line("10.24 MiB of the pool");
    let shown = larder(["status", "--url", &url]).output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success(), "{text}");
    let endpoint = server.line("ZMQ cache server is running on ");
    let endpoint = endpoint.split("running on ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    for part in [&format!("at {url}: ready\n"), endpoint, "policy LRU", "mock-0", "no plugins", "10.24 MiB"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let json = larder(["status", "--json", "--url", &url]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["trouble"], &json["adapters"]["adapters"][0]["id"]),
        (&serde_json::Value::Null, &"mock-0".into())
    );

    drop(server);
    let gone = larder(["status", "--url", &url]).output().unwrap();
    let text = String::from_utf8(gone.stderr).unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(
        text.starts_with(&format!("error: no server at `{url}`")) && text.contains("hint: is it running?"),
        "{text}"
    );
}

#[test]
fn a_page_that_gives_its_name_this_servers_address_reads_nothing() {
    let (_server, address) = server(&["--http-allowed-hosts", "larder.svc"]);
    for route in ["/config", "/status", "/cache/objects", "/metrics", "/plugins", "/no-such-route"] {
        let refused = answer(address, &format!("GET {route} HTTP/1.1\r\nHost: evil.example"), b"");
        assert_eq!(status(&refused), "403", "{route}: {refused}");
        assert!(refused.contains("{\"detail\":\"`evil.example` is no name of this server"), "{refused}");
    }
    for name in ["localhost:1", "127.0.0.1", "[::1]:8080", "larder.svc:8080"] {
        let answered = answer(address, &format!("GET /livez HTTP/1.1\r\nHost: {name}"), b"");
        assert_eq!(status(&answered), "200", "{name}: {answered}");
    }
    let twice = answer(address, "GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example", b"");
    assert_ne!(status(&twice), "200", "{twice}");
    let absolute = answer(address, "GET http://evil.example/livez HTTP/1.1\r\nHost: localhost", b"");
    assert_ne!(status(&absolute), "200", "{absolute}");
}

#[test]
fn what_comes_through_a_proxy_or_from_a_page_changes_nothing() {
    let (_server, address) = server(&[]);
    let routes = [
        "POST /cache/clear",
        "PATCH /config/live",
        "POST /config/adapters",
        "PUT /quota/a",
        "POST /plugins/reload",
    ];
    let headers = [
        "Origin: http://localhost",
        "Sec-Fetch-Site: cross-site",
        "X-Forwarded-For: 203.0.113.9",
        "Forwarded: for=203.0.113.9",
    ];
    for route in routes {
        for header in headers {
            let refused = answer(address, &format!("{route} HTTP/1.1\r\nHost: localhost\r\n{header}"), b"");
            assert_eq!(status(&refused), "403", "{route} {header}: {refused}");
        }
    }
    let done = answer(address, "POST /cache/clear HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: none", b"");
    assert_eq!(status(&done), "200", "{done}");
}

#[test]
fn a_million_token_ids_and_ten_thousand_keys_are_taken_and_more_is_refused_in_words() {
    let (_server, address) = server(&[]);
    let ids = vec!["4294967295"; 1_000_000].join(",");
    let body = format!(r#"{{"model_name": "m", "token_ids": [{ids}]}}"#);
    assert!(body.len() > 10 << 20);
    let answered = answer(address, "POST /cache/prefetches HTTP/1.1\r\nHost: localhost", body.as_bytes());
    assert_ne!(status(&answered), "413", "{answered}");
    let name = "an-ordinary-name/of-a-model-with-many-words-in-it".repeat(2);
    let key = format!(
        r#"{{"model_name": "{name}", "chunk_hash": "{}", "kv_rank": 0, "cache_salt": ""}}"#,
        "ab".repeat(32)
    );
    let body = format!(r#"{{"keys": [{}]}}"#, vec![key; 10_000].join(","));
    assert!(body.len() > 2 << 20);
    let answered = answer(address, "DELETE /cache/objects HTTP/1.1\r\nHost: localhost", body.as_bytes());
    assert_ne!(status(&answered), "413", "{answered}");
    let refused = answer(address, "POST /cache/clear HTTP/1.1\r\nHost: localhost", &vec![b' '; 3 << 20]);
    assert_eq!(status(&refused), "413", "{refused}");
    assert!(refused.contains(r#"{"detail":"the body is longer than 2097152 bytes"#), "{refused}");
}

#[test]
fn connections_that_say_nothing_or_read_nothing_keep_nobody_out() {
    let (server, address) = server(&[]);
    let deaf = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(400);
    let mut idle: Vec<TcpStream> = (0..600).map(|_| connect(address)).collect();
    for (index, stream) in idle.iter_mut().enumerate() {
        // A server that has more of them than it takes may have closed it already.
        _ = stream.write_all(if index % 2 == 0 { b"GET /livez HT" } else { &deaf });
    }
    server.line("too many connections");
    let alive = answer(address, "GET /livez HTTP/1.1\r\nHost: localhost", b"");
    assert_eq!(status(&alive), "200", "{alive}");
    let scrape = answer(address, "GET /metrics HTTP/1.1\r\nHost: localhost", b"");
    let displaced =
        scrape.lines().find_map(|line| line.strip_prefix("larder_http_displaced_connections_total "));
    assert!(displaced.is_some_and(|count| count.parse::<u64>().unwrap() > 0), "{displaced:?}");
    drop(idle);
}
