//! Endpoint texts.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;

/// Longest path of a unix socket, its final zero byte not counted.
const IPC_PATH_BYTES_MAX: usize = 107;

/// Where a socket listens or connects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `tcp://HOST:PORT`; port 0 (or `*`) lets the system choose when binding.
    Tcp {
        /// The host.
        host: Host,
        /// The port.
        port: u16,
    },
    /// `ipc://PATH`: a unix socket in the file system.
    Ipc(PathBuf),
    /// `ipc://@NAME`: a unix socket in Linux' abstract namespace.
    Abstract(String),
}

/// The host of a TCP endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// `*`: every address of this machine, IPv4 and IPv6.
    Any,
    /// An address; IPv6 is written in brackets.
    Ip(IpAddr),
    /// A name, which may stand for several addresses.
    Name(String),
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let result = match text.split_once("://") {
            Some(("tcp", rest)) => parse_tcp(rest),
            Some(("ipc", rest)) => parse_ipc(rest),
            Some(_) => Err("unknown transport"),
            None => Err("transport is missing"),
        };
        result.map_err(|reason| Error::Endpoint { text: text.to_owned(), reason })
    }
}

fn parse_tcp(text: &str) -> Result<Endpoint, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("port is missing")?;
    let port = match port {
        "*" => 0,
        // `u16::from_str` would let a sign through.
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| "port is not a number from 0 to 65535")?
        }
        _ => return Err("port is not a number from 0 to 65535"),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match (host, bracketed) {
        ("*", _) => Host::Any,
        ("", _) => return Err("host is missing"),
        (_, Some(inner)) => Host::Ip(inner.parse().map(IpAddr::V6).map_err(|_| "invalid IPv6 address")?),
        (name, None) if name.contains(':') => return Err("an IPv6 address is written in brackets"),
        (name, None) => name.parse().map_or_else(|_| Host::Name(name.to_owned()), Host::Ip),
    };
    Ok(Endpoint::Tcp { host, port })
}

fn parse_ipc(text: &str) -> Result<Endpoint, &'static str> {
    match text.strip_prefix('@') {
        _ if text.len() > IPC_PATH_BYTES_MAX => Err("path is longer than 107 bytes"),
        _ if text.contains('\0') => Err("path contains a zero byte"),
        Some("") => Err("name is missing"),
        Some(name) => Ok(Endpoint::Abstract(name.to_owned())),
        None if text.is_empty() => Err("path is missing"),
        None => Ok(Endpoint::Ipc(PathBuf::from(text))),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Ipc(path) => write!(f, "ipc://{}", path.display()),
            Self::Abstract(name) => write!(f, "ipc://@{name}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_endpoints_print_as_they_were_read() {
        for text in [
            "tcp://127.0.0.1:5555",
            "tcp://*:0",
            "tcp://localhost:1",
            "tcp://[::1]:65535",
            "ipc:///tmp/a b.sock",
            "ipc://relative",
            "ipc://@larder",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("tcp://*:*".parse::<Endpoint>().unwrap().to_string(), "tcp://*:0");
    }

    #[test]
    fn invalid_endpoints_name_the_reason() {
        let long = format!("ipc://{}", "x".repeat(108));
        for (text, expected) in [
            ("localhost:5555", "transport is missing"),
            ("udp://x:1", "unknown transport"),
            ("tcp://localhost", "port is missing"),
            ("tcp://:5555", "host is missing"),
            ("tcp://x:65536", "port is not a number from 0 to 65535"),
            ("tcp://x:+1", "port is not a number from 0 to 65535"),
            ("tcp://x:", "port is not a number from 0 to 65535"),
            ("tcp://::1:5", "an IPv6 address is written in brackets"),
            ("tcp://[x]:5", "invalid IPv6 address"),
            ("ipc://", "path is missing"),
            ("ipc://@", "name is missing"),
            ("ipc://a\0b", "path contains a zero byte"),
            (&long, "path is longer than 107 bytes"),
        ] {
            match text.parse::<Endpoint>() {
                Err(Error::Endpoint { reason, .. }) => assert_eq!(reason, expected, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
