//! What the second tier works with: lookups to extend, memory to fill, objects to store.

pub(crate) mod prefetch;
pub(crate) mod stores;
