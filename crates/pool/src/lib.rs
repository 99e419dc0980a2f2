//! L1 memory: shared-memory segments, mapping, reclaim, preparation, and the slot directory beside them.
//!
//! Owns the one range of memory all cached objects live in: its name in `/dev/shm`, the proof that its server
//! is alive, its mapping and its pages. Hands out offsets and copies, never pointers or slices: clients can
//! write to a shared segment at any moment, so no Rust reference to it may exist. Must not know what is
//! stored where.

// Tests count small things and may cast them.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_lossless,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

mod claim;
mod directory;
mod error;
mod hugepages;
mod mapper;
mod mapping;
mod memory;
mod name;
mod options;
mod owner;
mod processes;
mod reclaim;
mod room;
mod segment;
mod space;

pub use directory::{Contents, Directory, DirectoryOptions, SCOPE_BYTES_MAX, SCOPES_MAX, SlotRecord};
pub use error::PoolError;
pub use hugepages::Pages;
pub use mapper::Mapper;
pub use memory::{check_memory, check_shared_memory, memory_room};
pub use name::NAME_PREFIX;
pub(crate) use name::SegmentName;
pub use options::SegmentOptions;
pub use reclaim::{Stale, reclaim_stale};
pub use room::{MemoryBound, MemoryRoom, Size};
pub use segment::Segment;
