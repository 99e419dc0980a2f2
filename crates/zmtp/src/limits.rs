//! The bounds on what peers may make this process hold or wait for.

use std::time::Duration;

use crate::codec::FrameLimits;

/// Bounds of a socket. [`Limits::default`] gives the values named at each field. A budget or count of 0 still lets
/// one message through at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time from accept (or connect) to the end of the handshake. Default: 10 s.
    pub handshake_timeout: Duration,
    /// A peer in the middle of a frame or multi-part message, which sends nothing for this long while it is being
    /// read, is disconnected. Default: 60 s.
    pub read_stall_timeout: Duration,
    /// A peer that has output waiting and takes none of it for this long is disconnected. Default: 60 s.
    pub write_stall_timeout: Duration,
    /// Largest frame. Default: 1 GiB.
    pub frame_bytes_max: u64,
    /// Largest sum of the frames of one message. Default: 1 GiB.
    pub message_bytes_max: u64,
    /// Most frames in one message. Default: 1024.
    pub parts_max: usize,
    /// Largest command frame, the handshake's `READY` included. Default: 8 KiB.
    pub command_bytes_max: u64,
    /// Connections open at once, those in the handshake included; more are closed at once and counted.
    /// Default: 10 000.
    pub connections_max: usize,
    /// Messages of one connection received and not yet answered; over it the connection is not read.
    /// Default: 4096.
    pub messages_in_flight_max: usize,
    /// Bytes of one connection received and not yet answered; over it the connection is not read. A message larger
    /// than the budget is still received while it is the only one. Default: 256 MiB.
    pub connection_budget_bytes: usize,
    /// Bytes received and not yet answered on all connections together; over it only one connection at a time is
    /// read, for one message. Default: 1 GiB.
    pub total_budget_bytes: usize,
    /// Bytes queued for one peer: over it the connection is not read and [`Peer::send`](crate::Peer::send) is
    /// refused. Replies are never refused, their number is bounded by `messages_in_flight_max`. Default: 256 MiB.
    pub outgoing_bytes_max: usize,
    /// Connections the kernel keeps until they are accepted. Default: 1024.
    pub backlog: u32,
    /// Idle time after which the kernel probes a TCP peer, so that a peer whose host vanished is noticed. `None`
    /// leaves it off. Default: 60 s, then 3 probes 10 s apart.
    pub tcp_keepalive: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            handshake_timeout: Duration::from_secs(10),
            read_stall_timeout: Duration::from_secs(60),
            write_stall_timeout: Duration::from_secs(60),
            frame_bytes_max: 1 << 30,
            message_bytes_max: 1 << 30,
            parts_max: 1024,
            command_bytes_max: 8 << 10,
            connections_max: 10_000,
            messages_in_flight_max: 4096,
            connection_budget_bytes: 256 << 20,
            total_budget_bytes: 1 << 30,
            outgoing_bytes_max: 256 << 20,
            backlog: 1024,
            tcp_keepalive: Some(Duration::from_secs(60)),
        }
    }
}

impl Limits {
    /// The part of the limits that the codec checks.
    pub fn frames(&self) -> FrameLimits {
        FrameLimits {
            frame_bytes_max: self.frame_bytes_max,
            message_bytes_max: self.message_bytes_max,
            parts_max: self.parts_max,
            command_bytes_max: self.command_bytes_max,
        }
    }
}
