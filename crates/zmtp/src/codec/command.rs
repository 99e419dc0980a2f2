//! Command bodies: a name of known length, then data whose form depends on the name.

use std::fmt;

use crate::error::Violation;

/// Longest context of a PING (RFC 37).
const PING_CONTEXT_BYTES_MAX: usize = 16;

/// A command this crate acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// End of the NULL handshake, with the peer's properties.
    Ready(Ready),
    /// The peer ends the connection, with a reason.
    Error(&'a [u8]),
    /// Heartbeat; to be answered by a PONG with the same context.
    Ping {
        /// Tenths of a second after which the peer may be given up. Not used: connections end by TCP.
        ttl: u16,
        /// Opaque bytes to send back.
        context: &'a [u8],
    },
    /// Answer to a heartbeat.
    Pong(&'a [u8]),
    /// Any other command, by name; to be ignored.
    Other(&'a [u8]),
}

impl<'a> Command<'a> {
    /// Reads a command frame's payload.
    ///
    /// # Errors
    ///
    /// The name, a property or a PING is cut off or too long.
    pub fn parse(body: &'a [u8]) -> Result<Self, Violation> {
        let (name, data) = short_string(body).ok_or(Violation::Command("its name is cut off"))?;
        match name {
            b"READY" => Ready::parse(data).map(Command::Ready),
            b"ERROR" => {
                let (reason, _) = short_string(data).ok_or(Violation::Command("the reason is cut off"))?;
                Ok(Command::Error(reason))
            }
            b"PING" => {
                let (ttl, context) =
                    data.split_first_chunk::<2>().ok_or(Violation::Command("PING without a time to live"))?;
                if context.len() > PING_CONTEXT_BYTES_MAX {
                    return Err(Violation::Command("PING with more than 16 bytes of context"));
                }
                Ok(Command::Ping { ttl: u16::from_be_bytes(*ttl), context })
            }
            b"PONG" => Ok(Command::Pong(data)),
            name => Ok(Command::Other(name)),
        }
    }

    /// The payload of a PONG.
    #[must_use]
    pub fn pong(context: &[u8]) -> Vec<u8> {
        [b"\x04PONG", context].concat()
    }

    /// The payload of an ERROR; the reason is cut at 255 bytes.
    #[must_use]
    pub fn error(reason: &str) -> Vec<u8> {
        let length = u8::try_from(reason.len()).unwrap_or(u8::MAX);
        [b"\x05ERROR", &[length][..], &reason.as_bytes()[..usize::from(length)]].concat()
    }
}

/// The properties of a READY command which matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Type of the peer's socket.
    pub socket_type: SocketType,
    /// The routing id the peer asks for; empty if it does not care. At most 255 bytes.
    pub identity: Vec<u8>,
}

impl Ready {
    fn parse(mut data: &[u8]) -> Result<Self, Violation> {
        let mut socket_type = None;
        let mut identity = Vec::new();
        while !data.is_empty() {
            let (name, rest) =
                short_string(data).ok_or(Violation::Command("a property's name is cut off"))?;
            let (value, rest) =
                long_string(rest).ok_or(Violation::Command("a property's value is cut off"))?;
            if name.eq_ignore_ascii_case(b"Socket-Type") {
                socket_type = Some(SocketType::parse(value)?);
            } else if name.eq_ignore_ascii_case(b"Identity") {
                if value.len() > 255 {
                    return Err(Violation::Command("the identity is longer than 255 bytes"));
                }
                identity = value.to_vec();
            }
            data = rest;
        }
        let socket_type = socket_type.ok_or(Violation::Command("READY without a socket type"))?;
        Ok(Self { socket_type, identity })
    }

    /// The payload of this READY command.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = b"\x05READY".to_vec();
        push_property(&mut body, "Socket-Type", self.socket_type.name().as_bytes());
        push_property(&mut body, "Identity", &self.identity);
        body
    }
}

/// The socket types of ZMTP 3 that use plain messages both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum SocketType {
    Req,
    Rep,
    Dealer,
    Router,
    Pair,
    Pub,
    Sub,
    Xpub,
    Xsub,
    Push,
    Pull,
}

impl SocketType {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Req, "REQ"),
        (Self::Rep, "REP"),
        (Self::Dealer, "DEALER"),
        (Self::Router, "ROUTER"),
        (Self::Pair, "PAIR"),
        (Self::Pub, "PUB"),
        (Self::Sub, "SUB"),
        (Self::Xpub, "XPUB"),
        (Self::Xsub, "XSUB"),
        (Self::Push, "PUSH"),
        (Self::Pull, "PULL"),
    ];

    fn parse(name: &[u8]) -> Result<Self, Violation> {
        let found = Self::ALL.iter().find(|(_, known)| known.as_bytes() == name);
        let known = found.map(|&(socket_type, _)| socket_type);
        known.ok_or_else(|| Violation::SocketType(name.escape_ascii().to_string()))
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Whether the protocol lets these two types talk, for the types this crate implements.
    #[must_use]
    pub fn accepts(self, peer: Self) -> bool {
        match self {
            Self::Router => matches!(peer, Self::Dealer | Self::Req | Self::Router),
            Self::Dealer => matches!(peer, Self::Dealer | Self::Rep | Self::Router),
            _ => false,
        }
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn push_property(body: &mut Vec<u8>, name: &str, value: &[u8]) {
    body.push(u8::try_from(name.len()).expect("names of properties are short"));
    body.extend_from_slice(name.as_bytes());
    let length = u32::try_from(value.len()).expect("so are their values");
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(value);
}

/// A string after one byte of length, and what follows it.
fn short_string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = data.split_first()?;
    rest.split_at_checked(usize::from(len))
}

/// A string after four bytes of length, and what follows it.
fn long_string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_round_trip_and_every_truncation() {
        let ready = Ready { socket_type: SocketType::Dealer, identity: b"abc".to_vec() };
        let body = ready.encode();
        assert_eq!(Command::parse(&body), Ok(Command::Ready(ready.clone())));
        let whole_properties = ready.encode().len() - (1 + 8 + 4 + 3);
        for len in 0..body.len() {
            let parsed = Command::parse(&body[..len]);
            assert_eq!(parsed.is_ok(), len == whole_properties, "{len}: {parsed:?}");
        }
    }

    #[test]
    fn property_names_have_no_case_and_unknown_ones_are_skipped() {
        let mut body = b"\x05READY".to_vec();
        push_property(&mut body, "X-Thing", b"1");
        push_property(&mut body, "socket-type", b"REQ");
        let ready = Ready { socket_type: SocketType::Req, identity: Vec::new() };
        assert_eq!(Command::parse(&body), Ok(Command::Ready(ready)));
    }

    #[test]
    fn heartbeats() {
        assert_eq!(Command::parse(b"\x04PING\x00\x0aabc"), Ok(Command::Ping { ttl: 10, context: b"abc" }));
        assert!(Command::parse(b"\x04PING\x00").is_err());
        assert!(Command::parse(b"\x04PING\x00\x0a12345678901234567").is_err());
        assert_eq!(Command::parse(&Command::pong(b"abc")), Ok(Command::Pong(b"abc")));
    }

    #[test]
    fn names() {
        for (index, (socket_type, name)) in SocketType::ALL.into_iter().enumerate() {
            assert_eq!(socket_type as usize, index);
            assert_eq!(SocketType::parse(name.as_bytes()), Ok(socket_type));
        }
        assert_eq!(SocketType::parse(b"X\xff"), Err(Violation::SocketType("X\\xff".to_owned())));
        assert_eq!(Command::parse(b"\x09SUBSCRIBEabc"), Ok(Command::Other(b"SUBSCRIBE")));
        assert_eq!(Command::parse(&Command::error("no")), Ok(Command::Error(b"no")));
    }
}
