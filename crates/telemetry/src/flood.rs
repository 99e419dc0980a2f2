//! Lines that clients can cause are bounded: what one of them does a hundred thousand times a second is not
//! told as often.
//!
//! Each place in the code has an allowance of its own, so that a flood of one kind of line keeps no other
//! kind back.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use crate::lock::lock;
use tracing::{Level, Metadata, callsite};

use super::allowance::Allowance;

/// Crates whose lines are about what clients ask. Each has a test that it is still called so.
pub const CLIENT_CRATES: [&str; 2] = ["larder_engine", "larder_rpc"];

/// The allowances. There is one for each place in the code that has written a line.
#[derive(Debug, Default)]
pub(super) struct Flood(Mutex<HashMap<callsite::Identifier, Allowance>>);

impl Flood {
    /// Whether a line of this place is to be written, and how many were not since the last one. Debugging is
    /// not bounded.
    pub(super) fn pass(&self, metadata: &Metadata<'static>, now: Instant) -> Option<u64> {
        let is_bounded = *metadata.level() <= Level::INFO
            && CLIENT_CRATES.iter().any(|name| metadata.target().starts_with(name));
        if !is_bounded {
            return Some(0);
        }
        let mut allowances = lock(&self.0);
        allowances.entry(metadata.callsite()).or_insert_with(|| Allowance::new(now)).pass(now)
    }
}
