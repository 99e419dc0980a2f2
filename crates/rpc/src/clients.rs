//! Which process of this machine is at the other end of a connection, as far as `/proc` tells.

use std::fs;

use larder_zmtp::PeerAddress;

use super::local_socket::LocalSocket;

/// The processes that hold the other end of a connection; none where that can't be known: on another machine,
/// in another container, under another user. Looks at the open files of all processes.
pub(super) fn processes_at(address: PeerAddress) -> Vec<u32> {
    match address {
        PeerAddress::Ipc { pid, .. } => pid.and_then(|pid| pid.try_into().ok()).into_iter().collect(),
        PeerAddress::Tcp(address) => LocalSocket::at(address).map(holders_of).unwrap_or_default(),
    }
}

fn holders_of(socket: LocalSocket) -> Vec<u32> {
    let socket = format!("socket:[{}]", socket.inode);
    let holds = |pid: &u32| {
        let mut files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == &*socket))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(holds).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, TcpListener, TcpStream};

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
