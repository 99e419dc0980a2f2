//! Requests: the operations with their payloads.

mod decode;
mod encode;
mod payload;
mod types;

pub use decode::{decode_request, decode_request_with};
pub use encode::encode_request;
pub use types::{Request, Retrieve, SegmentRetrieve, Store};
