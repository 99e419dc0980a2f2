//! What clients ask for.

mod lookup;
pub(crate) mod members;
pub(crate) mod transfer;
