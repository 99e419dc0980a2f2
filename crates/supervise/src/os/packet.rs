//! The messages between server, guardian and wardens: packets over `SOCK_SEQPACKET` pairs.
//!
//! What does not fit travels beside a packet as a descriptor: the program to run in a memory file, the
//! standard streams as they are.

use super::spawner::EXTRA_FDS_MAX;

/// Bytes of the longest packet.
pub(super) const PACKET_MAX_BYTES: usize = 256;
/// Bytes of a packet without text.
const HEAD_BYTES: usize = 24;
/// Descriptors that come with every launch: description, stdin, stdout, stderr.
pub(super) const STANDARD_FDS: usize = 4;
/// Descriptors that come with one packet at most.
pub(super) const HANDED_FDS: usize = STANDARD_FDS + EXTRA_FDS_MAX;

/// Server to guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Run the program described by the first descriptor, with the next three as its standard streams and
    /// the rest as further ones.
    Launch { id: u64 },
    /// Send a signal to every process of a run.
    Signal { id: u64, signal: i32 },
    /// Answer with the same number.
    Ping { id: u64 },
}

/// Warden to guardian, and guardian to server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Launched {
        id: u64,
        pid: i32,
    },
    /// It was not run; the text says at which step, and is empty where that was running the program itself.
    /// Without a number the text says all.
    Refused {
        id: u64,
        errno: i32,
        step: String,
    },
    ExitedCode {
        id: u64,
        code: i32,
    },
    ExitedSignal {
        id: u64,
        signal: i32,
    },
    Gone {
        id: u64,
    },
    Pong {
        id: u64,
    },
}

impl Request {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self::Launch { id } => pack(1, id, 0, ""),
            Self::Signal { id, signal } => pack(2, id, signal, ""),
            Self::Ping { id } => pack(3, id, 0, ""),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match unpack(bytes)? {
            (1, id, _, _) => Some(Self::Launch { id }),
            (2, id, signal, _) => Some(Self::Signal { id, signal }),
            (3, id, _, _) => Some(Self::Ping { id }),
            _ => None,
        }
    }
}

impl Report {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Launched { id, pid } => pack(1, *id, *pid, ""),
            Self::Refused { id, errno, step } => pack(2, *id, *errno, step),
            Self::ExitedCode { id, code } => pack(3, *id, *code, ""),
            Self::ExitedSignal { id, signal } => pack(4, *id, *signal, ""),
            Self::Gone { id } => pack(5, *id, 0, ""),
            Self::Pong { id } => pack(6, *id, 0, ""),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(match unpack(bytes)? {
            (1, id, pid, _) => Self::Launched { id, pid },
            (2, id, errno, step) => Self::Refused { id, errno, step },
            (3, id, code, _) => Self::ExitedCode { id, code },
            (4, id, signal, _) => Self::ExitedSignal { id, signal },
            (5, id, _, _) => Self::Gone { id },
            (6, id, _, _) => Self::Pong { id },
            _ => return None,
        })
    }
}

fn pack(tag: u32, id: u64, number: i32, text: &str) -> Vec<u8> {
    let mut packet = vec![0; HEAD_BYTES];
    packet[..4].copy_from_slice(&tag.to_le_bytes());
    packet[8..16].copy_from_slice(&id.to_le_bytes());
    packet[16..20].copy_from_slice(&number.to_le_bytes());
    packet.extend(text.bytes().take(PACKET_MAX_BYTES - HEAD_BYTES));
    packet
}

fn unpack(bytes: &[u8]) -> Option<(u32, u64, i32, String)> {
    let (head, text) = bytes.split_at_checked(HEAD_BYTES)?;
    let tag = u32::from_le_bytes(head[..4].try_into().ok()?);
    let id = u64::from_le_bytes(head[8..16].try_into().ok()?);
    let number = i32::from_le_bytes(head[16..20].try_into().ok()?);
    Some((tag, id, number, String::from_utf8_lossy(text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refusals() {
        for request in
            [Request::Launch { id: 7 }, Request::Signal { id: u64::MAX, signal: 15 }, Request::Ping { id: 3 }]
        {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for report in [
            Report::Launched { id: 1, pid: 42 },
            Report::Refused { id: 2, errno: 2, step: "user `nobody`".into() },
            Report::ExitedCode { id: 3, code: -1 },
            Report::ExitedSignal { id: 4, signal: 9 },
            Report::Gone { id: 5 },
            Report::Pong { id: 6 },
        ] {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        assert_eq!(Report::decode(&[0; HEAD_BYTES]), None);
        assert_eq!(Report::decode(&[1; 3]), None);
        let long = Report::Refused { id: 1, errno: 1, step: "ä".repeat(500) }.encode();
        assert_eq!(long.len(), PACKET_MAX_BYTES);
        assert!(Report::decode(&long).is_some(), "a text cut within a character is still one");
    }
}
