//! ZMTP 3.1: a sans-I/O codec, and ROUTER and DEALER sockets on tokio.
//!
//! The crate owns framing, the NULL handshake, connection lifetimes and the memory a peer can make this
//! process hold. It must not know what a message means.
//!
//! # How a request travels
//!
//! Each connection is one task. When its socket is readable the task reads once into a scratch buffer shared
//! by all connections of the thread, decodes what is there and calls [`Handler::message`] inline for every
//! whole message. Replies given inside the call are collected and leave in one write after the last message
//! of the batch: a lone request costs one read and one write. A handler may also keep the message and answer
//! later, from any thread; the reply is queued and the connection's task woken.
//!
//! Small frames are copied out of the scratch buffer, so that a kept frame never pins more than itself and an
//! idle connection holds no buffer. A frame larger than the scratch buffer is read straight into memory of
//! its own.
//!
//! # What a peer can cost
//!
//! A [`Permit`] comes with every message. It charges the message to the connection's budget and to the budget
//! of all connections until the reply has been *written* (or the permit is dropped). A connection over its
//! budget is not read any more, so a client that never reads its replies blocks itself, through TCP, and
//! nobody else.
//!
//! Nor can a client that begins messages and does not end them. A message has to move on from its first byte.
//! A small share of the common budget is every connection's own, so small messages pass whatever others hold.
//! One connection at a time may overdraw the budget by one message, so that half-received messages cannot
//! block each other; and while somebody waits, those who hold much and hardly move are ended first. Answers
//! are bounded in the same way: who makes a large one asks for [`Peer::room`] before.
//!
//! A message too large to keep is read past and handed over cut, so that it can be answered. All bounds are
//! in [`Limits`], everything refused is counted in [`Stats`].

// Tests count small things and may cast them.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_lossless,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

pub mod codec;
mod dealer;
mod endpoint;
mod error;
mod limits;
mod lock;
mod net;
mod router;
mod stats;

pub use dealer::Dealer;
pub use endpoint::{Endpoint, Host};
pub use error::{Error, LimitKind, Result, SendError, Violation};
pub use limits::Limits;
pub use net::PeerAddress;
pub use router::{Disconnect, Handle, Handler, Message, Peer, PeerId, Permit, Router};
pub use stats::{Stats, StatsSnapshot};
