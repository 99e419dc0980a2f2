//! The slot directory: what the pool holds, written down beside it, so that the server after a dead one can
//! tell.
//!
//! A file of its own in `/dev/shm`, never shared with clients. The server writes a record for every piece of
//! memory it hands out, in place and without system calls; its death at any moment leaves every record either
//! whole or recognisably torn. A reader trusts nothing in it: a record counts only if its checksum is right,
//! and whoever takes the memory over checks the bytes themselves by the seal. It belongs to whoever holds the
//! segment's lock: only the holder reads it, writes it or removes it, so what is read is what the dead server
//! last wrote.
//!
//! ```text
//! header 4 KiB | scopes, 1 KiB each | records, 128 bytes each
//! ```
//!
//! Numbers are little endian. Holds no meaning: scopes are bytes to it, seals are numbers.

mod file;
mod names;
mod record;

pub use file::{Contents, Directory, DirectoryOptions, SCOPE_BYTES_MAX, SCOPES_MAX};
pub use record::SlotRecord;

pub(crate) use names::{is_kept, remove, segment_of};
