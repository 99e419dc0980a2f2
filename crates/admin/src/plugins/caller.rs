//! Who sent a request from this machine: the address alone says nothing an hour later.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};
use larder_rpc::LocalSocket;

/// Characters of the program's own words that are kept.
const AGENT_CHARS_MAX: usize = 60;

/// The user whose program holds the other end, as the kernel has it, the address, and what the program calls
/// itself. Blocks.
pub(super) fn describe(address: SocketAddr, headers: &HeaderMap) -> String {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .map(|agent| format!(" ({})", agent.escape_debug().take(AGENT_CHARS_MAX).collect::<String>()));
    let user = LocalSocket::at(address).map(|socket| format!("uid {} at ", socket.uid)).unwrap_or_default();
    format!("{user}{address}{}", agent.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_owner_of_a_connection_is_told() {
        let us = format!("uid {} at ", rustix::process::getuid().as_raw());
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let address = client.local_addr().unwrap();
            // The kernel's table is no snapshot, and other tests connect.
            assert!((0..100).any(|_| describe(address, &HeaderMap::new()).starts_with(&us)), "{host}");
        }
    }

    #[test]
    fn a_program_s_own_words_stay_short_and_on_their_line() {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, "x".repeat(500).parse().unwrap());
        let shown = describe(SocketAddr::from(([192, 0, 2, 1], 9)), &headers);
        assert_eq!(shown, format!("192.0.2.1:9 ({})", "x".repeat(AGENT_CHARS_MAX)));
    }
}
