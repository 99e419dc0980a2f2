//! Slot bookkeeping for one contiguous arena: which byte ranges are taken, by whom, and which are free.
//!
//! Owns block boundaries, free lists and their accounting. All of it lies outside the arena, so nobody who
//! can write to the arena can corrupt it. Must not know what owners are, when they may be evicted or how
//! the memory is mapped.

mod blocks;
mod classes;
mod space;
mod window;

pub use space::{Arena, ArenaBlock, Extent};
