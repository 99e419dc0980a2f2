//! From the first byte to the end of the NULL handshake.

use super::command::{Command, Ready, SocketType};
use super::decoder::{Decoder, Event, FrameLimits};
use super::encoder::Encoder;
use super::greeting::{GREETING, GreetingReader};
use crate::error::{Error, Result, Violation};

/// One side of a handshake: our greeting goes out at once, our READY after the peer's greeting, and the peer's READY
/// ends it.
#[derive(Debug)]
pub struct Handshake {
    local: Ready,
    greeting: Option<GreetingReader>,
    decoder: Decoder,
}

impl Handshake {
    /// Starts a handshake and puts our greeting into `out`.
    pub fn start(local: Ready, command_bytes_max: u64, out: &mut Encoder) -> Handshake {
        out.raw(&GREETING);
        // No message is allowed before READY, so its limits do not matter here.
        let limits =
            FrameLimits { frame_bytes_max: 0, message_bytes_max: 0, parts_max: 1, command_bytes_max };
        Handshake { local, greeting: Some(GreetingReader::default()), decoder: Decoder::new(limits) }
    }

    /// Takes bytes from `input` and puts answers into `out`. The peer's properties, once they are there, end the
    /// handshake; what is left of `input` is traffic.
    ///
    /// # Errors
    ///
    /// The peer is no ZMTP 3 peer with NULL security, its socket type does not fit (an ERROR command for it is then
    /// in `out`), or it refused us.
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
    pub fn socket_type(&self) -> SocketType {
        self.local.socket_type
    }
}
