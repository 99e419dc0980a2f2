//! Who may talk to the admin server, and who may change state: the one place where that is decided, for every
//! route.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Extension, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::bodies::{self, Bodies};
use super::reply::Refusal;
use larder_config::HttpConfig;

/// Stands for any name in the list of allowed ones.
const ANY: &str = "*";

/// Headers that a proxy adds: what comes through one comes from somebody else than its address says.
const FORWARDED: [HeaderName; 5] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-real-ip"),
];

/// What a browser says of the page that a request comes from.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Names under which the server may be addressed.
#[derive(Clone, Debug)]
pub(super) struct HostNames(Arc<[String]>);

impl HostNames {
    /// Those of the configuration and the machine's own.
    pub(super) fn new(config: &HttpConfig) -> Self {
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let names = config.allowed_hosts.iter().cloned().chain([config.host.clone(), machine]);
        Self(names.map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether this is one of them. An address always is: a page can make a name of its own mean this
    /// machine, not an address.
    fn allow(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        is_address(&host)
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.0.iter().any(|name| *name == host || name == ANY)
    }
}

/// Lets a request through that calls this server by a name it has. One without a name comes from no browser.
pub(super) async fn by_known_names_only(
    State(names): State<HostNames>,
    request: Request,
    next: Next,
) -> Response {
    let named = request.headers().get_all(header::HOST).iter().map(|name| name.to_str().unwrap_or_default());
    let named = named.chain(request.uri().authority().map(Authority::as_str));
    if let Some(stranger) = named.into_iter().find(|name| !names.allow(name)) {
        let stranger = stranger.escape_debug().take(100).collect::<String>();
        let text = format!("`{stranger}` is no name of this server; start it with `--http-allowed-hosts`");
        return Refusal::new(StatusCode::FORBIDDEN, text).into_response();
    }
    next.run(request).await
}

/// Lets a request through that comes from this machine and from no web page, with a body that this server
/// takes.
///
/// A page in a browser on this machine could otherwise empty the cache: browsers send such requests without
/// asking, but they always say where they come from.
pub(super) async fn local_callers_only(
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    Extension(bodies): Extension<Bodies>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(reason) = stranger(caller.ip(), request.headers()) {
        return Refusal::new(StatusCode::FORBIDDEN, reason).into_response();
    }
    match bodies::received(&bodies, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Whether the caller is a program on this machine: what may change state, and has called this server by an
/// address or as `localhost`. A page in a browser can make a name of its own lead here, and ask for what it
/// may not see without saying where it comes from.
pub(super) fn is_local(caller: IpAddr, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let is_here = host.is_some_and(|authority| {
        let host = authority.host();
        is_address(host) || host.eq_ignore_ascii_case("localhost")
    });
    is_here && stranger(caller, headers).is_none()
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// Why this caller may change nothing.
fn stranger(caller: IpAddr, headers: &HeaderMap) -> Option<&'static str> {
    if !caller.to_canonical().is_loopback() {
        return Some("this route changes state and is for callers on the server's own machine");
    }
    if FORWARDED.iter().any(|name| headers.contains_key(name)) {
        return Some("this route changes state and is not for what comes through a proxy");
    }
    let site = headers.get(FETCH_SITE).map(|site| site.as_bytes());
    let is_foreign = site.is_some_and(|site| site != b"none" && site != b"same-origin");
    if is_foreign || headers.contains_key(header::ORIGIN) {
        return Some("this route changes state and is not for web pages");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(allowed: &[&str]) -> HostNames {
        HostNames::new(&HttpConfig {
            allowed_hosts: allowed.iter().map(|name| (*name).to_owned()).collect(),
            host: "Cache-1.example".into(),
            port: 8080,
        })
    }

    #[test]
    fn a_server_knows_its_names_and_takes_every_address() {
        let names = names(&["larder.svc"]);
        for name in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.:80",
            "a.localhost",
            "127.0.0.1:8080",
            "[::1]:8080",
            "10.0.0.7",
            "cache-1.example:8080",
            "larder.svc",
        ] {
            assert!(names.allow(name), "{name}");
        }
        for name in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "", "a b", "larder.svc.evil"]
        {
            assert!(!names.allow(name), "{name}");
        }
        assert!(self::names(&["*"]).allow("evil.example"));
    }

    #[test]
    fn only_what_is_here_itself_and_no_page_may_change_state() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let with = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
        };
        assert_eq!(stranger(here, &HeaderMap::new()), None);
        assert_eq!(stranger("::ffff:127.0.0.1".parse().unwrap(), &HeaderMap::new()), None);
        assert!(stranger(IpAddr::from([10, 0, 0, 1]), &HeaderMap::new()).is_some());
        for (name, value) in [
            ("origin", "http://127.0.0.1:8080"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("x-forwarded-for", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
            ("via", "1.1 proxy"),
        ] {
            assert!(stranger(here, &with(name, value)).is_some(), "{name}: {value}");
        }
        for value in ["none", "same-origin"] {
            assert_eq!(stranger(here, &with("sec-fetch-site", value)), None);
        }
    }

    #[test]
    fn local_means_this_machine_and_no_web_page() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let host = |host: &str| HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
        for name in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "10.0.0.7"] {
            assert!(is_local(here, &host(name)), "{name}");
        }
        for name in ["rebound.example:8080", "127.0.0.1.example", "", "localhost.example:1"] {
            assert!(!is_local(here, &host(name)), "{name}");
        }
        assert!(!is_local(IpAddr::from([10, 0, 0, 7]), &host("localhost")));
        for (name, value) in [("origin", "http://localhost"), ("via", "1.1 proxy")] {
            let mut headers = host("localhost");
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
            assert!(!is_local(here, &headers), "{name}");
        }
    }
}
