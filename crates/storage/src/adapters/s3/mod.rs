//! `s3`: objects in a bucket of Amazon S3 or anything that speaks its interface.
//!
//! Objects are named as by the peer's adapter (`spec/cache-semantics.md` 11.3) and hold raw bytes; a
//! [seal](crate::Seal) is user metadata. Threads own blocking connections, so that payloads go straight
//! between socket and lent buffer; a request is HTTP/1.1 signed with version 4 of the signature.

mod adapter;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod http;
mod options;
mod refusal;
mod response;
mod session;
mod sign;
mod xml;

pub use adapter::S3Adapter;
pub use options::{Credentials, S3Options};
