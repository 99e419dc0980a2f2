//! What a plugin is told, in the words of the peer's contract: environment variables, the configuration in
//! the forms in which plugins meet it, and events on its standard input.

pub(crate) mod environment;
mod feed;
pub(crate) mod names;
mod publisher;

pub(crate) use self::environment::Surroundings;
pub(crate) use self::feed::Feed;
pub(crate) use self::publisher::{ConfigForm, ConfigPublisher, ConfigText};
