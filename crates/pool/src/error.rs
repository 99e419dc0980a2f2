//! What can go wrong with the pool, as callers tell it apart.

use std::io;

use thiserror::Error;

use crate::room::{MemoryBound, Size};

/// A pool that can't be had, or an access that was refused.
#[derive(Debug, Error)]
pub enum PoolError {
    /// The name can't be that of a segment.
    #[error("`{0}` cannot name a shared-memory segment")]
    InvalidName(String),
    /// A size of zero, or one that no address space holds.
    #[error("a pool of `{0}` bytes cannot be mapped")]
    InvalidSize(u64),
    /// A running server of ours holds the segment.
    #[error(
        "segment `{name}` belongs to a running server{}",
        process(.pid)
    )]
    InUse {
        /// The segment, without a slash.
        name: String,
        /// The server, where the system tells.
        pid: Option<u32>,
    },
    /// The segment was made by another program and a running process has it mapped.
    #[error("segment `{name}` is mapped by process `{pid}`")]
    Mapped {
        /// The segment, without a slash.
        name: String,
        /// A process that has it mapped.
        pid: u32,
    },
    /// `/dev/shm` is smaller than the pool.
    #[error(
        "a pool of `{}` does not fit in /dev/shm: `{}` of `{}` are free",
        Size(*asked_bytes), Size(*free_bytes), Size(*total_bytes)
    )]
    NoSpace {
        /// Size of the pool.
        asked_bytes: u64,
        /// Bytes not in use.
        free_bytes: u64,
        /// Size of the file system.
        total_bytes: u64,
    },
    /// The machine, or the control group of this process, has less memory than the pool takes.
    #[error(
        "a pool of `{}` does not fit in memory: `{}` are free {bound}",
        Size(*asked_bytes), Size(*free_bytes)
    )]
    NoMemory {
        /// Size of the pool.
        asked_bytes: u64,
        /// Bytes that can be had.
        free_bytes: u64,
        /// What allows no more.
        bound: MemoryBound,
    },
    /// The machine has no memory left for a part of the pool.
    #[error("no memory for bytes `{offset}` to `{end}` of the pool", end = offset + len)]
    Exhausted {
        /// First byte of the part.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// An access beyond the end of the pool.
    #[error("`{len}` bytes at `{offset}` lie outside a pool of `{pool_bytes}` bytes")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// Size of the pool.
        pool_bytes: u64,
    },
    /// The operating system refused.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl PoolError {
    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InvalidName(_) => Some("use up to 239 bytes without `/`"),
            Self::InUse { .. } => Some("choose another --shm-name, or stop that server"),
            Self::Mapped { .. } => {
                Some("choose another --shm-name, or stop that process if it has no right to the segment")
            }
            Self::NoSpace { .. } => Some(
                "lower --l1-size-gb, remove stale files from /dev/shm, or enlarge it (in a container: --shm-size, or a \
                 memory-backed volume at /dev/shm)",
            ),
            Self::NoMemory { .. } => {
                Some("lower --l1-size-gb or allow more memory; --l1-overcommit starts all the same")
            }
            _ => None,
        }
    }

    /// For `map_err` on system calls.
    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}

fn process(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(", process `{pid}`")).unwrap_or_default()
}
