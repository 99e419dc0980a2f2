//! The messages between server, guardian and wardens: packets over `SOCK_SEQPACKET` pairs.
//!
//! What does not fit travels beside a packet as a descriptor: the program to run in a memory file, the
//! standard streams as they are.

use serde::{Deserialize, Serialize};

use super::spawner::EXTRA_FDS_MAX;

/// Bytes of the longest packet.
pub(super) const PACKET_MAX_BYTES: usize = 2_048;
/// Bytes of a text in one; the rest is cut off. Each is up to six in a packet.
const TEXT_MAX_BYTES: usize = 232;
/// Descriptors that come with every launch: description, stdin, stdout, stderr.
pub(super) const STANDARD_FDS: usize = 4;
/// Descriptors that come with one packet at most.
pub(super) const HANDED_FDS: usize = STANDARD_FDS + EXTRA_FDS_MAX;

/// Server to guardian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        encoded(&self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl Report {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Refused { id, errno, step } if step.len() > TEXT_MAX_BYTES => {
                let step = step[..step.floor_char_boundary(TEXT_MAX_BYTES)].to_owned();
                encoded(&Self::Refused { id: *id, errno: *errno, step })
            }
            _ => encoded(self),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

fn encoded(message: &impl Serialize) -> Vec<u8> {
    // Numbers and texts always serialize.
    serde_json::to_vec(message).unwrap_or_default()
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
        assert_eq!(Report::decode(&[0; 24]), None);
        assert_eq!(Report::decode(&[1; 3]), None);
        for text in ["ä", "\u{1}"] {
            let long = Report::Refused { id: 1, errno: 1, step: text.repeat(500) }.encode();
            assert!(long.len() <= PACKET_MAX_BYTES, "{text:?}");
            assert!(Report::decode(&long).is_some(), "a text cut within a character is still one");
        }
    }
}
