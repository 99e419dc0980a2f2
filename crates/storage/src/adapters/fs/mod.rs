//! `fs` and `fs_native`: one file per object in a local or shared directory.
//!
//! A file is named after its key and holds the object's raw bytes, nothing else, so that the peer's adapters
//! read ours and ours read theirs (`spec/cache-semantics.md` 11.3). What else is kept about an object (its
//! [seal](crate::Seal)) is an extended attribute, where the file system has them.

mod adapter;
mod disk;
mod files;
mod object;
mod options;
mod scan;
mod scan_state;
mod space;
mod store;

pub use adapter::FsAdapter;
pub use options::{FsOptions, FsyncPolicy, PathShards};
