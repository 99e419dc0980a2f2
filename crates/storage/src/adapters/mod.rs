//! The adapters, one file or folder each.

pub mod fs;
mod link;
pub mod mock;
mod quote;
mod remote;
pub mod resp;
pub mod s3;
mod stream;

pub use stream::TlsOptions;
