//! Which objects leave first: one trait, one file per policy.
//!
//! # Contract
//!
//! Ids are dense and reused; a policy keeps its order in vectors indexed by them. The caller guarantees that an id is inserted before it is
//! touched or removed, and never twice at a time. The policy guarantees that an id it names as a victim is one the
//! caller called evictable, and keeps it until the caller removes it.
//!
//! A chunk is useless without the chunks before it. Callers therefore apply a prompt's chunks in reverse, last chunk first,
//! and touch the whole prefix with every lookup and store. Then no chunk is ever colder than its continuation, and any policy
//! that evicts by recency shortens a prompt from its end instead of hollowing it out.

mod arc;
mod ghosts;
mod lru;
mod noop;
mod s3fifo;

pub use arc::Arc;
pub use lru::Lru;
pub use noop::Noop;
pub use s3fifo::S3Fifo;

/// Dense id of an object.
pub type EntryId = u32;

/// Why an object is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The policy named it. It may be remembered.
    Evicted,
    /// It was cleared or replaced, which says nothing about its use.
    Dropped,
}

/// An order of objects from the first to leave to the last.
pub trait Policy: Send {
    /// The name operators choose the policy by.
    fn name(&self) -> &'static str;

    /// A new object. `fingerprint` is the same whenever the same object comes again, under whatever id.
    fn insert(&mut self, id: EntryId, fingerprint: u64);

    /// An object was used by a request.
    fn touch(&mut self, id: EntryId);

    /// The request that uses an object goes on: it is recent, but not used once more.
    fn refresh(&mut self, id: EntryId) {
        self.touch(id);
    }

    /// An object is gone.
    fn remove(&mut self, id: EntryId, removal: Removal);

    /// Up to `want` objects to evict now, first to leave first, all of them `evictable`. Nothing changes until the
    /// caller removes them.
    ///
    /// Objects that are not evictable are passed over. A policy bounds how many it looks at in one call, and does not begin
    /// each call with the same ones.
    fn victims(&mut self, evictable: &mut dyn FnMut(EntryId) -> bool, want: usize) -> Vec<EntryId>;

    /// Objects in the order.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
