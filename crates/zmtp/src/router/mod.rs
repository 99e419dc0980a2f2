//! The ROUTER socket: accepting, one task per connection, budgets, handles to peers.

mod budget;
mod connection;
mod deadlines;
mod outgoing;
mod peer;
mod serve;

pub use connection::Disconnect;
pub use peer::{Message, Peer, PeerId, Permit};
pub use serve::{Handle, Handler, Router};
