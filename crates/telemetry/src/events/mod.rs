//! What happens on the node, for whoever wants to watch: one bounded stream with cursors.
//!
//! Publishing never blocks and costs nothing while nobody listens. A reader that is slow loses the oldest
//! events and is told how many. Plugins get the same lines on their standard input, HTTP callers as
//! server-sent events.

mod bus;
mod event;

pub use bus::{EventBus, Page};
pub use event::{Event, FieldDoc, KindDoc};
