//! Bytes to values and back for every operation of the MP protocol, sans-I/O.
//!
//! Owns MessagePack, the strict reader of pickles, the operation numbers and the shapes of payloads and
//! results, and nothing else: no sockets, no clock, no meaning of a request. A server decodes with
//! [`decode_request`] and encodes a [`Response`]; a client does the reverse with [`encode_request`] and
//! [`reply::decode_reply`]. Everything decoded borrows from the frames.

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

pub mod allocation;
pub mod blend;
pub mod device;
pub mod engine_driven;
pub mod error;
pub mod events;
pub mod ids;
pub mod key;
pub mod limits;
pub mod module_call;
mod msgpack;
mod name;
pub mod operation;
mod operation_frame;
pub mod p2p;
pub mod pickle;
pub mod registration;
pub mod reply;
pub mod request;
pub mod response;
mod text;

pub use error::{Fault, ValueError, WireError};
pub use ids::{IdArray, IdBuffer, TokenIds};
pub use key::CacheKey;
pub use operation::Operation;
pub use reply::Incoming;
pub use request::{Request, decode_request, decode_request_with, encode_request};
pub use response::Response;
