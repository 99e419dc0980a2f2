//! Which process of this machine is at the other end of a connection, as far as `/proc` tells.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use larder_zmtp::PeerAddress;

/// Times the table of connections is read until one is in it: connections that come and go meanwhile may hide
/// it from a reader. The process behind one that is in none of them then stays unknown.
const READS_MAX: usize = 5;

/// State of an open connection in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// The processes that hold the other end of a connection; none where that can't be known: on another machine,
/// in another container, under another user. Looks at the open files of all processes.
pub(super) fn processes_at(address: PeerAddress) -> Vec<u32> {
    match address {
        PeerAddress::Ipc { pid, .. } => pid.and_then(|pid| pid.try_into().ok()).into_iter().collect(),
        PeerAddress::Tcp(address) => {
            let socket = (0..READS_MAX).find_map(|_| socket_at(address));
            socket.map(holders_of).unwrap_or_default()
        }
    }
}

/// The inode of the only socket with this address of its own.
fn socket_at(address: SocketAddr) -> Option<String> {
    let (v4, v6) = match address.ip() {
        IpAddr::V4(ip) => (Some(ip), ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => (ip.to_ipv4_mapped(), ip),
    };
    let port = address.port();
    let mut inodes = Vec::new();
    if let Some(v4) = v4 {
        find_sockets("/proc/net/tcp", &local_address(&v4.octets(), port), &mut inodes);
    }
    find_sockets("/proc/net/tcp6", &local_address(&v6.octets(), port), &mut inodes);
    inodes.pop().filter(|_| inodes.is_empty())
}

/// An address as these files print it: each word of four bytes as the number that this machine takes it for.
fn local_address(octets: &[u8], port: u16) -> String {
    let words = octets.as_chunks::<4>().0.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
    format!("{}:{port:04X}", words.collect::<String>())
}

fn find_sockets(table: &str, local_address: &str, inodes: &mut Vec<String>) {
    let Ok(text) = fs::read_to_string(table) else { return };
    inodes.extend(text.lines().filter_map(|line| {
        // <number>: <local address> <remote address> <state> <queues> <timer> <retransmits> <user> <timeout> <inode>
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = fields.next()? == local_address && fields.nth(1)? == ESTABLISHED;
        fields.nth(5).filter(|_| is_it).map(str::to_owned)
    }));
}

fn holders_of(inode: String) -> Vec<u32> {
    let socket = format!("socket:[{inode}]");
    let holds = |pid: &u32| {
        let mut files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == &*socket))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(holds).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_at_the_other_end_is_found_while_it_is_there() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_served, address) = listener.accept().unwrap();
            let mut mapped = address;
            if let IpAddr::V4(ip) = address.ip() {
                mapped.set_ip(ip.to_ipv6_mapped().into());
            }
            for address in [address, mapped] {
                // The kernel's table is no snapshot, and other tests connect.
                let found = (0..100).any(|_| processes_at(PeerAddress::Tcp(address)) == [std::process::id()]);
                assert!(found, "{address}");
            }
            drop(client);
            assert!(processes_at(PeerAddress::Tcp(address)).is_empty());
        }
        assert!(processes_at(PeerAddress::Tcp("192.0.2.1:5555".parse().unwrap())).is_empty());
        assert_eq!(processes_at(PeerAddress::Ipc { pid: Some(7), uid: 0 }), [7]);
        assert!(processes_at(PeerAddress::Ipc { pid: None, uid: 0 }).is_empty());
    }
}
