//! What happens on the node, for whoever wants to watch: one bounded stream with cursors.
//!
//! Publishing never blocks and costs nothing while nobody listens. A reader that is slow loses the oldest
//! events and is told how many. Plugins get the same lines on their standard input, HTTP callers as
//! server-sent events.

mod bus;
mod event;
mod stream;

pub use bus::EventBus;
pub use event::{Event, FieldDoc, KindDoc};
pub use stream::{
    Bookmark, Delivery, EventLine, EventLog, EventPage, KeptBookmark, LINE_BYTES_MAX, LINES_MAX, Listener,
    Listening,
};
