//! The protocol without I/O: bytes in, events out.
//!
//! Knows RFC 37 (ZMTP 3.1): greeting, NULL handshake, commands, frames. Knows no sockets, clocks or tasks.

mod command;
mod decoder;
#[cfg(test)]
mod decoder_tests;
mod encoder;
mod frame;
mod greeting;
mod handshake;

pub use command::{Command, Ready, SocketType};
pub use decoder::{Decoder, Event, FrameLimits};
pub use encoder::Encoder;
pub use frame::FrameHeader;
pub use greeting::GREETING;
pub use handshake::Handshake;
