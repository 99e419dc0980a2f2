//! The client's side of an endpoint.

use std::io;
use std::os::linux::net::SocketAddrExt;

use tokio::net::{TcpStream, UnixStream};

use super::stream::Stream;
use crate::endpoint::{Endpoint, Host};
use crate::error::{Error, Result};

/// Connects to the first address that answers. `*` stands for the loopback address here.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Stream> {
    let connected = match endpoint {
        Endpoint::Tcp { host, port } => connect_tcp(host, *port).await,
        Endpoint::Ipc(path) => UnixStream::connect(path).await.map(Stream::Unix),
        Endpoint::Abstract(name) => connect_abstract(name),
    };
    connected.map_err(|source| Error::Connect { endpoint: endpoint.to_string(), source })
}

async fn connect_tcp(host: &Host, port: u16) -> io::Result<Stream> {
    let stream = match host {
        Host::Any => TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await?,
        Host::Ip(ip) => TcpStream::connect((*ip, port)).await?,
        Host::Name(name) => TcpStream::connect((name.as_str(), port)).await?,
    };
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}

fn connect_abstract(name: &str) -> io::Result<Stream> {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream).map(Stream::Unix)
}
