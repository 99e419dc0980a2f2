//! All flags together.

use super::{fleet, framework, larder, observability, server, storage};
use crate::flag::Flag;

/// Every flag, in the order of [`Group`](crate::flag::Group) and, inside a group, of the help text.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    [larder::FLAGS, server::FLAGS, storage::FLAGS, observability::FLAGS, fleet::FLAGS, framework::FLAGS]
        .into_iter()
        .flatten()
}

/// The flag called `name` (without dashes), if there is one.
#[must_use]
pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}
