//! Sockets of this machine by their address, as `/proc` lists them.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};

/// Times the tables are read until the socket is in one: connections that come and go meanwhile may hide it
/// from a reader. One that is in none of them then is not found.
const READS_MAX: usize = 5;

/// Bytes of a table that are read, a hundred thousand connections. Those beyond are not found.
const TABLE_BYTES_MAX: u64 = 16 << 20;

/// State of an open connection in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// An end of a TCP connection that is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSocket {
    /// The user it belongs to.
    pub uid: u32,
    pub(super) inode: u64,
}

impl LocalSocket {
    /// The only socket with this address of its own; none where that can't be known: on another machine, in
    /// another container. Blocks.
    #[must_use]
    pub fn at(address: SocketAddr) -> Option<Self> {
        (0..READS_MAX).find_map(|_| listed(address))
    }
}

fn listed(address: SocketAddr) -> Option<LocalSocket> {
    let (v4, v6) = match address.ip() {
        IpAddr::V4(ip) => (Some(ip), ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => (ip.to_ipv4_mapped(), ip),
    };
    let port = address.port();
    let mut found = Vec::new();
    if let Some(v4) = v4 {
        find("/proc/net/tcp", &local_address(&v4.octets(), port), &mut found);
    }
    find("/proc/net/tcp6", &local_address(&v6.octets(), port), &mut found);
    found.pop().filter(|_| found.is_empty())
}

/// An address as these files print it: each word of four bytes as the number that this machine takes it for.
fn local_address(octets: &[u8], port: u16) -> String {
    let words = octets.as_chunks::<4>().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
    format!("{}:{port:04X}", words.collect::<String>())
}

fn find(table: &str, local_address: &str, found: &mut Vec<LocalSocket>) {
    let mut text = String::new();
    let table = File::open(table).and_then(|table| table.take(TABLE_BYTES_MAX).read_to_string(&mut text));
    if table.is_err() {
        return;
    }
    found.extend(text.lines().filter_map(|line| {
        // <number>: <local address> <remote address> <state> <queues> <timer> <retransmits> <user> <timeout>
        // <inode>
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = fields.next()? == local_address && fields.nth(1)? == ESTABLISHED;
        let mut numbers = fields.skip(3).filter(|_| is_it);
        Some(LocalSocket { uid: numbers.next()?.parse().ok()?, inode: numbers.nth(1)?.parse().ok()? })
    }));
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_owner_of_a_connection_is_found() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let us = std::fs::metadata("/proc/self").unwrap().uid();
            let address = client.local_addr().unwrap();
            let found = (0..100).find_map(|_| LocalSocket::at(address));
            assert_eq!(found.map(|socket| socket.uid), Some(us), "{host}");
        }
        assert_eq!(LocalSocket::at(SocketAddr::from(([192, 0, 2, 1], 5555))), None);
    }
}
