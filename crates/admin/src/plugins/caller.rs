//! Who sent a request from this machine: the address alone says nothing an hour later.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};

/// Characters of the program's own words that are kept.
const AGENT_CHARS_MAX: usize = 60;
/// Bytes of the kernel's table that are read.
const TABLE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The user whose program holds the other end, as the kernel has it, the address, and what the program calls
/// itself. Blocks.
pub(super) fn describe(address: SocketAddr, headers: &HeaderMap) -> String {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .map(|agent| format!(" ({})", agent.escape_debug().take(AGENT_CHARS_MAX).collect::<String>()));
    let user = user(address).map(|user| format!("uid {user} at ")).unwrap_or_default();
    format!("{user}{address}{}", agent.unwrap_or_default())
}

fn user(address: SocketAddr) -> Option<u32> {
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|table| {
        let mut text = String::new();
        std::fs::File::open(table).ok()?.take(TABLE_MAX_BYTES).read_to_string(&mut text).ok()?;
        user_in(&text, address)
    })
}

/// The owner of the socket that is bound to this address.
fn user_in(table: &str, address: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        (parse(local)? == (address.ip().to_canonical(), address.port()))
            .then(|| fields.nth(5)?.parse().ok())
            .flatten()
    })
}

/// `0100007F:1F90`: the words of an address in the machine's order, then the port.
fn parse(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            IpAddr::from(bytes)
        }
        _ => return None,
    };
    Some((ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_owner_of_a_connection_is_found() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(host) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let us = rustix::process::getuid().as_raw();
            assert_eq!(user(client.local_addr().unwrap()), Some(us), "{host}");
        }
        assert_eq!(user_in("head\nnonsense\n  0: zz:1 x\n", SocketAddr::from(([127, 0, 0, 1], 1))), None);
    }

    #[test]
    fn a_program_s_own_words_stay_short_and_on_their_line() {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, "x".repeat(500).parse().unwrap());
        let shown = describe(SocketAddr::from(([192, 0, 2, 1], 9)), &headers);
        assert_eq!(shown, format!("192.0.2.1:9 ({})", "x".repeat(AGENT_CHARS_MAX)));
    }
}
