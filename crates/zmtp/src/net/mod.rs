//! TCP and unix sockets behind one face, and the scratch buffer they are read into.

mod address;
mod connect;
mod listener;
mod scratch;
mod stream;

pub use address::PeerAddress;
pub(crate) use connect::connect;
pub(crate) use listener::{Accepted, Listener};
pub(crate) use scratch::{SCRATCH_BYTES, Scratch};
pub(crate) use stream::Stream;
