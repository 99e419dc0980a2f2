//! The adapters, one file or folder each.

pub mod fs;
pub mod mock;
pub mod resp;
