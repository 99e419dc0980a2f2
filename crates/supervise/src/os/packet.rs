//! The messages between server and guardian: fixed-size packets over a `SOCK_SEQPACKET` pair.
//!
//! What does not fit travels beside a packet as a descriptor: the program to run in a memory file, the standard streams as they are.

/// Bytes of every packet.
pub(super) const PACKET_BYTES: usize = 24;

pub(super) type Packet = [u8; PACKET_BYTES];

/// Server to guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Run the program described by the first descriptor, with the next three as its standard streams and
    /// the rest as further ones.
    Launch { id: u64 },
    /// Send a signal to every process of a run.
    Signal { id: u64, signal: i32 },
}

/// Guardian to server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    Launched { id: u64, pid: i32 },
    Refused { id: u64, errno: i32 },
    ExitedCode { id: u64, code: i32 },
    ExitedSignal { id: u64, signal: i32 },
    Gone { id: u64 },
}

impl Request {
    pub(super) fn encode(self) -> Packet {
        match self {
            Self::Launch { id } => pack(1, id, 0),
            Self::Signal { id, signal } => pack(2, id, signal),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match unpack(bytes)? {
            (1, id, _) => Some(Self::Launch { id }),
            (2, id, signal) => Some(Self::Signal { id, signal }),
            _ => None,
        }
    }
}

impl Report {
    pub(super) fn encode(self) -> Packet {
        match self {
            Self::Launched { id, pid } => pack(1, id, pid),
            Self::Refused { id, errno } => pack(2, id, errno),
            Self::ExitedCode { id, code } => pack(3, id, code),
            Self::ExitedSignal { id, signal } => pack(4, id, signal),
            Self::Gone { id } => pack(5, id, 0),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(match unpack(bytes)? {
            (1, id, pid) => Self::Launched { id, pid },
            (2, id, errno) => Self::Refused { id, errno },
            (3, id, code) => Self::ExitedCode { id, code },
            (4, id, signal) => Self::ExitedSignal { id, signal },
            (5, id, _) => Self::Gone { id },
            _ => return None,
        })
    }
}

fn pack(tag: u32, id: u64, number: i32) -> Packet {
    let mut packet = [0; PACKET_BYTES];
    packet[..4].copy_from_slice(&tag.to_le_bytes());
    packet[8..16].copy_from_slice(&id.to_le_bytes());
    packet[16..20].copy_from_slice(&number.to_le_bytes());
    packet
}

fn unpack(bytes: &[u8]) -> Option<(u32, u64, i32)> {
    let bytes: &Packet = bytes.try_into().ok()?;
    let tag = u32::from_le_bytes(bytes[..4].try_into().ok()?);
    let id = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    let number = i32::from_le_bytes(bytes[16..20].try_into().ok()?);
    Some((tag, id, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refusals() {
        for request in [Request::Launch { id: 7 }, Request::Signal { id: u64::MAX, signal: 15 }] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for report in [
            Report::Launched { id: 1, pid: 42 },
            Report::Refused { id: 2, errno: 2 },
            Report::ExitedCode { id: 3, code: -1 },
            Report::ExitedSignal { id: 4, signal: 9 },
            Report::Gone { id: 5 },
        ] {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        assert_eq!(Report::decode(&[0; PACKET_BYTES]), None);
        assert_eq!(Report::decode(&[1; 3]), None);
    }
}
