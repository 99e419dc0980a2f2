//! What an operator sees of the engine and does with it by hand.

pub(crate) mod hints;
pub(crate) mod inventory;
pub(crate) mod leases;
mod quotas;
mod settings;
pub(crate) mod status;
pub(crate) mod warm;
