//! The bounds on what peers may make this process hold or wait for.

use std::time::Duration;

use crate::codec::FrameLimits;

/// Bounds of a socket. [`Limits::default`] gives the values named at each field. A budget or count of 0 still
/// lets one message through at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time from accept (or connect) to the end of the handshake. Default: 10 s.
    pub handshake_timeout: Duration,
    /// A peer in the middle of a frame or multi-part message, which neither ends it nor brings it on by
    /// `progress_bytes_min` within this time of being read, is disconnected: a smaller message has so long
    /// from its first byte. Default: 60 s.
    pub read_stall_timeout: Duration,
    /// A peer that has output waiting and takes none of it for this long is disconnected. Default: 60 s.
    pub write_stall_timeout: Duration,
    /// The shorter patience with a peer that holds up others: while somebody waits for a common budget,
    /// whoever has more than `reserve_bytes` of it and moves less than `progress_bytes_min` in this time is
    /// disconnected. Default: 5 s.
    pub contested_stall_timeout: Duration,
    /// What counts as moving on, for the two timeouts above. Default: 32 MiB.
    pub progress_bytes_min: usize,
    /// Largest frame that is kept. Default: 1 GiB.
    pub frame_bytes_max: u64,
    /// Largest sum of the frames of one message that is kept. Default: 1 GiB.
    pub message_bytes_max: u64,
    /// A frame or message over the two limits above and up to this one is read past without keeping it, and
    /// told of by
    /// [`Message::dropped_bytes`](crate::Message::dropped_bytes); more ends the connection. Default: 5 GiB.
    pub dropped_bytes_max: u64,
    /// Most frames in one message. Default: 1024.
    pub parts_max: usize,
    /// Largest command frame, the handshake's `READY` included. Default: 8 KiB.
    pub command_bytes_max: u64,
    /// Connections open at once, those in the handshake included; more are closed at once and counted.
    /// Default: 10 000.
    pub connections_max: usize,
    /// The same for the connections of one IP address, so that one host leaves some to others. Default: 6000.
    pub connections_per_address_max: usize,
    /// Messages of one connection received and not yet answered; over it the connection is not read.
    /// Default: 4096.
    pub messages_in_flight_max: usize,
    /// Bytes of one connection received and not yet answered; over it the connection is not read. A message
    /// larger than the budget is still received while it is the only one. Default: 256 MiB.
    pub connection_budget_bytes: usize,
    /// Bytes received and not yet answered on all connections together; over it only one connection at a time
    /// is read for more than its `reserve_bytes`, for one message. Default: 1 GiB.
    pub total_budget_bytes: usize,
    /// What a connection may have received and not yet answered, however much others hold: small messages
    /// pass while large ones wait. Default: 64 KiB.
    pub reserve_bytes: usize,
    /// Bytes queued for one peer: over it the connection is not read, [`Peer::send`](crate::Peer::send) is
    /// refused and [`Peer::room`](crate::Peer::room) waits. Default: 64 MiB.
    pub outgoing_bytes_max: usize,
    /// Bytes queued for all peers: over it a connection is read only while nothing is queued for it, and
    /// [`Peer::room`](crate::Peer::room) lets one peer at a time pass. Default: 256 MiB.
    pub total_outgoing_bytes_max: usize,
    /// Connections the kernel keeps until they are accepted. Default: 1024.
    pub backlog: u32,
    /// Idle time after which the kernel probes a TCP peer, so that a peer whose host vanished is noticed.
    /// `None` leaves it off. Default: 30 s, then 3 probes 10 s apart.
    pub tcp_keepalive: Option<Duration>,
    /// How long the kernel waits for a TCP peer to acknowledge what was sent, which keepalive does not cover.
    /// Default: 60 s.
    pub tcp_user_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            read_stall_timeout: Duration::from_secs(60),
            write_stall_timeout: Duration::from_secs(60),
            contested_stall_timeout: Duration::from_secs(5),
            progress_bytes_min: 32 << 20,
            frame_bytes_max: 1 << 30,
            message_bytes_max: 1 << 30,
            dropped_bytes_max: 5 << 30,
            parts_max: 1024,
            command_bytes_max: 8 << 10,
            connections_max: 10_000,
            connections_per_address_max: 6_000,
            messages_in_flight_max: 4096,
            connection_budget_bytes: 256 << 20,
            total_budget_bytes: 1 << 30,
            reserve_bytes: 64 << 10,
            outgoing_bytes_max: 64 << 20,
            total_outgoing_bytes_max: 256 << 20,
            backlog: 1024,
            tcp_keepalive: Some(Duration::from_secs(30)),
            tcp_user_timeout: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// The part of the limits that the codec checks.
    #[must_use]
    pub fn frames(&self) -> FrameLimits {
        FrameLimits {
            frame_bytes_max: self.frame_bytes_max,
            message_bytes_max: self.message_bytes_max,
            dropped_bytes_max: self.dropped_bytes_max,
            parts_max: self.parts_max,
            command_bytes_max: self.command_bytes_max,
        }
    }
}
