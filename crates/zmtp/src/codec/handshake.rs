//! From the first byte to the end of the NULL handshake.

use super::command::{Command, Ready, SocketType};
use super::decoder::{Decoder, Event, FrameLimits};
use super::encoder::Encoder;
use super::greeting::{GREETING, GreetingReader};
use crate::error::{Error, Result, Violation};

/// One side of a handshake: our greeting goes out at once, our READY after the peer's greeting, and the
/// peer's READY ends it.
#[derive(Debug)]
pub struct Handshake {
    local: Ready,
    greeting: Option<GreetingReader>,
    decoder: Decoder,
}

impl Handshake {
    /// Starts a handshake and puts our greeting into `out`.
    pub fn start(local: Ready, command_bytes_max: u64, out: &mut Encoder) -> Self {
        out.raw(&GREETING);
        // No message is allowed before READY, so its limits do not matter here.
        let limits = FrameLimits {
            frame_bytes_max: 0,
            message_bytes_max: 0,
            dropped_bytes_max: 0,
            parts_max: 1,
            command_bytes_max,
        };
        Self { local, greeting: Some(GreetingReader::default()), decoder: Decoder::new(limits) }
    }

    /// Takes bytes from `input` and puts answers into `out`. The peer's properties, once they are there, end
    /// the handshake; what is left of `input` is traffic.
    ///
    /// # Errors
    ///
    /// The peer is no ZMTP 3 peer with NULL security, its socket type does not fit (an ERROR command for it
    /// is then in `out`), or it refused us.
    pub fn advance(&mut self, input: &mut &[u8], out: &mut Encoder) -> Result<Option<Ready>> {
        if let Some(greeting) = &mut self.greeting {
            if !greeting.advance(input)? {
                return Ok(None);
            }
            self.greeting = None;
            out.command(self.local.encode());
        }
        let body = match self.decoder.decode(input)? {
            None => return Ok(None),
            Some(Event::Message { .. }) => return Err(Violation::Handshake("a message".to_owned()).into()),
            Some(Event::Command(body)) => body,
        };
        match Command::parse(&body)? {
            Command::Ready(ready) if self.local.socket_type.accepts(ready.socket_type) => Ok(Some(ready)),
            Command::Ready(ready) => {
                let violation = Violation::SocketType(ready.socket_type.name().to_owned());
                out.command(Command::error(&violation.to_string()));
                Err(violation.into())
            }
            Command::Error(reason) => Err(Error::Refused { reason: reason.escape_ascii().to_string() }),
            Command::Ping { .. } => Err(Violation::Handshake("PING".to_owned()).into()),
            Command::Pong(_) => Err(Violation::Handshake("PONG".to_owned()).into()),
            Command::Other(name) => Err(Violation::Handshake(name.escape_ascii().to_string()).into()),
        }
    }

    /// Our own socket type.
    #[must_use]
    pub fn socket_type(&self) -> SocketType {
        self.local.socket_type
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(socket_type: SocketType, identity: &[u8]) -> Ready {
        Ready { socket_type, identity: identity.to_vec() }
    }

    fn take(out: &mut Encoder) -> Vec<u8> {
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        let used = out.slices(&mut slices);
        let bytes = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
        out.advance(bytes.len());
        bytes
    }

    /// A router fed with `input`, after the greeting.
    fn router(input: &[u8]) -> (Result<Option<Ready>>, Vec<u8>) {
        let mut out = Encoder::default();
        let mut handshake = Handshake::start(ready(SocketType::Router, b""), 1000, &mut out);
        let input = [&GREETING[..], input].concat();
        let result = handshake.advance(&mut &input[..], &mut out);
        (result, take(&mut out))
    }

    fn command(body: Vec<u8>) -> Vec<u8> {
        let mut out = Encoder::default();
        out.command(body);
        take(&mut out)
    }

    #[test]
    fn two_sides_byte_by_byte() {
        let mut outs = [Encoder::default(), Encoder::default()];
        let locals = [ready(SocketType::Router, b""), ready(SocketType::Dealer, b"me")];
        let mut sides: Vec<Handshake> = std::iter::zip(&locals, &mut outs)
            .map(|(local, out)| Handshake::start(local.clone(), 1000, out))
            .collect();
        let mut done = [None, None];
        while done.iter().any(Option::is_none) {
            for from in [0, 1] {
                let to = 1 - from;
                for byte in take(&mut outs[from]) {
                    if let Some(peer) = sides[to].advance(&mut &[byte][..], &mut outs[to]).unwrap() {
                        done[to] = Some(peer);
                    }
                }
            }
        }
        assert_eq!(done, [Some(locals[1].clone()), Some(locals[0].clone())]);
    }

    #[test]
    fn a_socket_type_that_does_not_fit_is_told_so() {
        let (result, out) = router(&command(ready(SocketType::Pub, b"").encode()));
        assert!(matches!(result, Err(Error::Protocol(Violation::SocketType(name))) if name == "PUB"));
        let expected = command(Command::error("socket type `PUB` cannot talk to this socket"));
        assert!(out.ends_with(&expected));
    }

    #[test]
    fn anything_but_ready_is_refused() {
        assert!(matches!(router(&[0, 0]).0, Err(Error::Protocol(Violation::Handshake(_)))));
        assert!(matches!(router(&[0, 1]).0, Err(Error::Limit { .. })));
        let ping = command(b"\x04PING\x00\x00".to_vec());
        assert!(
            matches!(router(&ping).0, Err(Error::Protocol(Violation::Handshake(name))) if name == "PING")
        );
        let refused = command(Command::error("go away"));
        assert!(matches!(router(&refused).0, Err(Error::Refused { reason }) if reason == "go away"));
        let long = [&[6][..], &1001u64.to_be_bytes()].concat();
        assert!(matches!(router(&long).0, Err(Error::Limit { value: 1001, max: 1000, .. })));
    }
}
