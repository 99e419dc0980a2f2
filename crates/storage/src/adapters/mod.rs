//! The adapters, one file or folder each.

pub mod fs;
pub mod mock;
mod remote;
pub mod resp;
mod stream;

pub use stream::TlsOptions;
