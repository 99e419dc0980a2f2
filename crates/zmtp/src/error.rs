//! What can go wrong, as far as callers tell it apart.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// Result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a socket could not be opened, or why a connection ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not an endpoint this crate knows.
    #[error(
        "invalid endpoint `{text}`: {reason}\nhint: use `tcp://HOST:PORT`, `ipc://PATH` or `ipc://@NAME`"
    )]
    Endpoint {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing could be bound at this endpoint.
    #[error("bind `{endpoint}`: {source}")]
    Bind {
        /// The endpoint as given.
        endpoint: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A live server answers on this ipc path.
    #[error(
        "bind `{endpoint}`: a running server already listens there\nhint: stop it or choose another path"
    )]
    InUse {
        /// The endpoint as given.
        endpoint: String,
    },
    /// The ipc path exists and is no socket; it is left alone.
    #[error("bind `{endpoint}`: the path exists and is not a socket\nhint: remove it or choose another path")]
    NotASocket {
        /// The endpoint as given.
        endpoint: String,
    },
    /// No connection could be made to this endpoint.
    #[error("connect `{endpoint}`: {source}")]
    Connect {
        /// The endpoint as given.
        endpoint: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The connection broke.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// The peer closed the connection, in the middle of a message if `partial_bytes` is not 0.
    #[error("peer closed the connection with `{partial_bytes}` bytes of an unfinished message")]
    Closed {
        /// Bytes of the unfinished message which had arrived.
        partial_bytes: u64,
    },
    /// The peer does not speak the protocol.
    #[error("protocol violation: {0}")]
    Protocol(#[from] Violation),
    /// The peer went over a limit.
    #[error("limit `{limit}` exceeded: `{value}` is more than `{max}`")]
    Limit {
        /// Which limit.
        limit: LimitKind,
        /// What the peer asked for, in the limit's unit.
        value: u64,
        /// What is allowed.
        max: u64,
    },
    /// The peer made no progress for too long.
    #[error("limit `{limit}` exceeded: no progress within `{after:?}`")]
    Timeout {
        /// Which limit.
        limit: LimitKind,
        /// The time allowed.
        after: Duration,
    },
    /// The peer answered the handshake with an ERROR command.
    #[error("peer refused the connection: `{reason}`")]
    Refused {
        /// The peer's reason, with unprintable bytes replaced.
        reason: String,
    },
}

/// A limit of [`Limits`](crate::Limits) which a peer can run into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitKind {
    /// `Limits::frame_bytes_max`
    FrameBytes,
    /// `Limits::message_bytes_max`
    MessageBytes,
    /// `Limits::parts_max`
    Parts,
    /// `Limits::command_bytes_max`
    CommandBytes,
    /// `Limits::connections_max`
    Connections,
    /// `Limits::connections_per_address_max`
    ConnectionsPerAddress,
    /// `Limits::handshake_timeout`
    HandshakeTimeout,
    /// `Limits::read_stall_timeout`
    ReadStallTimeout,
    /// `Limits::write_stall_timeout`
    WriteStallTimeout,
}

impl LimitKind {
    /// Every kind, in the order of [`LimitKind::index`].
    pub const ALL: [Self; 9] = [
        Self::FrameBytes,
        Self::MessageBytes,
        Self::Parts,
        Self::CommandBytes,
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::HandshakeTimeout,
        Self::ReadStallTimeout,
        Self::WriteStallTimeout,
    ];

    /// Position in [`LimitKind::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Name of the field of [`Limits`](crate::Limits).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FrameBytes => "frame_bytes_max",
            Self::MessageBytes => "message_bytes_max",
            Self::Parts => "parts_max",
            Self::CommandBytes => "command_bytes_max",
            Self::Connections => "connections_max",
            Self::ConnectionsPerAddress => "connections_per_address_max",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::ReadStallTimeout => "read_stall_timeout",
            Self::WriteStallTimeout => "write_stall_timeout",
        }
    }
}

impl std::fmt::Display for LimitKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes that are not ZMTP 3.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// The first ten bytes are not the signature of ZMTP 3.
    #[error("byte `{index}` of the greeting is `{value:#04x}`, so the peer does not speak ZMTP 3")]
    Signature {
        /// Position in the greeting.
        index: usize,
        /// The byte found there.
        value: u8,
    },
    /// The peer speaks an older ZMTP.
    #[error("ZMTP `{0}` is too old, at least 3.0 is needed")]
    Version(u8),
    /// The peer wants a security mechanism other than NULL.
    #[error("security mechanism `{0}` is not supported, only `NULL`")]
    Mechanism(String),
    /// Reserved bits are set in a frame's flags, or a command claims to have more parts.
    #[error("frame flags `{0:#04x}` are not allowed")]
    Flags(u8),
    /// A command that cannot be read.
    #[error("malformed command: {0}")]
    Command(&'static str),
    /// Something else than the expected command during the handshake.
    #[error("`{0}` instead of `READY` in the handshake")]
    Handshake(String),
    /// A socket of this type has no business with ours.
    #[error("socket type `{0}` cannot talk to this socket")]
    SocketType(String),
}

/// Why a message was not queued for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is gone.
    #[error("peer is gone")]
    Gone,
    /// The peer does not read: its outgoing queue is full.
    #[error("`{queued}` bytes are queued for the peer already, `{max}` are allowed")]
    Full {
        /// Bytes waiting in the queue.
        queued: usize,
        /// `Limits::outgoing_bytes_max`.
        max: usize,
    },
    /// A message needs at least one frame.
    #[error("message without frames")]
    Empty,
}
