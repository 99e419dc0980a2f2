//! `/cache/*` and `/leases`: what is cached, and taking it out or bringing it in by hand (`spec/http-api.md`
//! 2).

mod clear;
mod keys;
mod leases;
mod objects;
mod prefetches;

pub(super) use clear::clear;
pub(super) use leases::{list as leases, release};
pub(super) use objects::{delete, list};
pub(super) use prefetches::{status as prefetch_status, submit as prefetch};
