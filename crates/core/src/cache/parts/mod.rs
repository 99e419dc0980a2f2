//! What the object table is made of: data, each part with its own invariants, none of which knows the table.

mod advice;
mod changes;
mod entry;
mod removals;
mod scopes;
mod stats;
mod tenants;

pub use advice::{ADVISED_CHUNKS_MAX, ADVISED_SCOPES_MAX, AdviceStats, Selector, Wish};
pub use changes::Slot;
pub use entry::{EntryRef, ScopeId};
pub use removals::Removed;
pub use stats::CacheStats;

pub(crate) use advice::Advice;
pub(crate) use changes::Changes;
pub(crate) use entry::{Entries, Entry, State};
pub(crate) use removals::Removals;
pub(crate) use scopes::Scopes;
pub(crate) use tenants::Tenants;
