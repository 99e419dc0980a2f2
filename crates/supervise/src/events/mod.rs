//! What happens in the server, as a bounded stream that plugins and others read at their own pace.

mod event_log;
mod feed;

#[cfg(test)]
pub(crate) use self::event_log::LINES_MAX;
pub(crate) use self::event_log::{Bookmark, Delivery, KeptBookmark, Listener};
pub use self::event_log::{EventLine, EventLog, EventPage, Listening};
pub(crate) use self::feed::Feed;
