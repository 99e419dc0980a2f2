//! The object table: what is in L1, who may touch it, and what leaves when room is needed.
//!
//! # Life of an object
//!
//! ```text
//! absent --reserve, adopt--> staging --commit--> resident --evict, clear--> absent
//!                               |                   |
//!                               +--abort--> absent  +--leased, cleared--> condemned --last release--> absent
//! ```
//!
//! * A *staging* object is memory handed to one writer. It is in no index, so nobody reads what was not
//!   committed. [`Cache::abort`] takes it back; time alone never publishes it.
//! * A *resident* object is in the index. A lease keeps its memory in place; leases are counts here and
//!   owned by a [`LeaseSet`](crate::lease::LeaseSet), which belongs to the request that looked it up.
//! * A *condemned* object was cleared by force, discarded or given up while somebody may still touch its
//!   memory: no longer in the index, and its memory is free for reuse only after the last lease or the writer
//!   let go.
//!
//! [`Cache`] is a plain state machine. It knows no clock and no thread: callers pass the time and
//! serialise access, and everything long (eviction of many objects, clearing) is offered in bounded steps.

mod abandon;
mod adopt;
mod advice;
mod changes;
mod inventory;
mod lookup;
mod order;
mod parts;
mod quotas;
mod reading;
mod room;
mod table;
mod transitions;

#[cfg(test)]
mod tests;

pub use inventory::{Listed, NamedRemoval};
pub use lookup::{Lookup, Row};
pub use parts::{
    ADVISED_CHUNKS_MAX, ADVISED_SCOPES_MAX, AdviceStats, CacheStats, EntryRef, Removed, ScopeId, Selector,
    Slot, Wish,
};
pub use table::{Cache, CacheConfig, Commit, Reservation, Reserved};
