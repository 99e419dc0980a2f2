//! The parts of the engine: data with invariants of their own, without knowledge of the engine or of each
//! other's users.

pub(crate) mod adoption;
pub(crate) mod checks;
pub(crate) mod connections;
pub(crate) mod counter;
pub(crate) mod counters;
pub(crate) mod held;
pub(crate) mod instances;
pub(crate) mod layouts;
pub(crate) mod lifetimes;
pub(crate) mod pending;
pub(crate) mod prefetches;
pub(crate) mod processes;
pub(crate) mod registration;
pub(crate) mod seals;
pub(crate) mod sessions;
pub(crate) mod set_aside;
pub(crate) mod slots;
pub(crate) mod stores;
pub(crate) mod warm;
