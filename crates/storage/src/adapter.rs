//! The contract between the cache and whatever keeps its objects outside memory.
//!
//! Narrow on purpose: an adapter may be code in this crate, a native extension or another process. It reads
//! and fills buffers it is lent and knows nothing of where they come from. It never retries; it bounds a
//! single step of its I/O, and decorators bound a call.

use std::fmt;
use std::pin::Pin;

use larder_core::key::ObjectKey;

use crate::buffer::Lent;
use crate::error::{Error, Failure, FailureKind};
use crate::names::{fingerprint, wire_name};
use crate::report::{Health, Usage};

/// What an adapter's calls return. Boxed so that adapters can be chosen at run time.
pub type AdapterFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The outcome for one key of a batch.
pub type KeyResult<T> = Result<T, Error>;

/// A place that keeps objects.
///
/// # For implementers
///
/// - A batch answers with one outcome per key, in the order given, even when everything failed.
/// - A buffer may be touched for as long as the adapter holds its `Arc`, also after the caller stopped
///   waiting. Every clone is dropped *before* the outcome of that key is reported.
/// - An object is visible to lookups only when it is complete.
/// - Dropping a future abandons the call, not the adapter: a dropped lookup leaves no lock behind; a dropped
///   store or load may still run to its end.
/// - Calls come from any thread and any number at once; none may block the thread that polls.
/// - `load` does not require a lock, but only a locked object is certain to be there.
pub trait Adapter: Send + Sync + fmt::Debug {
    /// The type as configuration spells it, such as `fs`.
    fn kind(&self) -> &'static str;

    /// Stores a batch. Storing a key that is already held is a success of 0 bytes.
    fn store(&self, batch: Vec<StoreItem>) -> AdapterFuture<'_, Vec<KeyResult<Stored>>>;

    /// Says which keys are held and locks those: a locked object is not deleted until as many
    /// [`unlock`](Self::unlock)s as locks were made. Keys not held answer [`Error::Absent`] and are not
    /// locked.
    fn lookup_and_lock(&self, keys: Vec<ObjectKey>) -> AdapterFuture<'_, Vec<KeyResult<Found>>>;

    /// Fills each buffer with its object. What a failed load leaves in the buffer is unspecified.
    fn load(&self, batch: Vec<LoadItem>) -> AdapterFuture<'_, Vec<KeyResult<Loaded>>>;

    /// Releases one lock per key. Must succeed; unknown keys are ignored.
    fn unlock(&self, keys: &[ObjectKey]);

    /// Removes objects. A locked one answers [`Busy::Locked`](crate::Busy::Locked) unless the mode overrides
    /// it.
    fn delete(&self, keys: Vec<ObjectKey>, mode: DeleteMode) -> AdapterFuture<'_, Vec<KeyResult<Deleted>>>;

    /// One page of what is held, in an order that only pages agree on.
    fn list(&self, request: ListRequest) -> AdapterFuture<'_, Result<ListPage, Failure>>;

    /// Tries with real I/O whether objects can be stored: writes a small one of its own and removes it again.
    /// That it can't be removed is no failure; not every login may delete.
    fn probe(&self) -> AdapterFuture<'_, Result<(), Failure>>;

    /// Resolves once stores are not refused for want of an index
    /// ([`Busy::Rebuilding`](crate::Busy::Rebuilding)); at once where they never are, and when the adapter is
    /// closed.
    fn ready_to_store(&self) -> AdapterFuture<'_, ()>;

    /// Room taken and left. Cheap; never does I/O.
    fn usage(&self) -> Usage;

    /// Whether it works and, if not, why. Cheap; never does I/O.
    fn health(&self) -> Health;

    /// Refuses further work, lets what runs come to its end and releases what it holds. Idempotent.
    fn close(&self) -> AdapterFuture<'_, ()>;
}

/// The operations of an adapter, for counters, limits and faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// [`Adapter::store`].
    Store,
    /// [`Adapter::lookup_and_lock`].
    Lookup,
    /// [`Adapter::load`].
    Load,
    /// [`Adapter::delete`].
    Delete,
    /// [`Adapter::list`].
    List,
}

impl Op {
    /// Every operation, in the order counters list them.
    pub const ALL: [Self; 5] = [Self::Store, Self::Lookup, Self::Load, Self::Delete, Self::List];

    /// Its place in [`ALL`](Self::ALL).
    pub(crate) fn position(self) -> usize {
        match self {
            Self::Store => 0,
            Self::Lookup => 1,
            Self::Load => 2,
            Self::Delete => 3,
            Self::List => 4,
        }
    }

    /// The label metrics use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Lookup => "lookup",
            Self::Load => "load",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }
}

/// What a writer knew about an object's bytes, kept beside them so that a reader can check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// XXH3-64 of the bytes.
    pub checksum: u64,
    /// Fingerprint of the layout the bytes are to be read with; 0 when the writer had none.
    pub layout: u64,
}

impl Seal {
    /// Bytes of the encoded form.
    pub const ENCODED_LEN: usize = 20;
    const MAGIC: [u8; 4] = *b"LSL2";
    /// Of seals that are not bound to a key.
    const MAGIC_UNBOUND: [u8; 4] = *b"LSL1";

    /// The form backends keep: a version mark, then both numbers in little endian. The checksum is bound to
    /// the key, so that bytes which come back under another one, from files that changed places say, are not
    /// taken for its own.
    #[must_use]
    pub fn encode(&self, key: &ObjectKey) -> [u8; Self::ENCODED_LEN] {
        let mut bytes = [0; Self::ENCODED_LEN];
        bytes[..4].copy_from_slice(&Self::MAGIC);
        bytes[4..12].copy_from_slice(&(self.checksum ^ fingerprint(key)).to_le_bytes());
        bytes[12..].copy_from_slice(&self.layout.to_le_bytes());
        bytes
    }

    /// Reads the form that [`encode`](Self::encode) writes, or wrote when seals were not bound to keys; none
    /// for anything else. A seal of another key is read as one of other bytes.
    #[must_use]
    pub fn decode(bytes: &[u8], key: &ObjectKey) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let binding = match *magic {
            Self::MAGIC => fingerprint(key),
            Self::MAGIC_UNBOUND => 0,
            _ => return None,
        };
        let (checksum, layout) = rest.split_first_chunk::<8>()?;
        let layout: [u8; 8] = layout.try_into().ok()?;
        let checksum = u64::from_le_bytes(*checksum) ^ binding;
        Some(Self { checksum, layout: u64::from_le_bytes(layout) })
    }
}

/// One object to store.
#[derive(Clone, Debug)]
pub struct StoreItem {
    /// Its name.
    pub key: ObjectKey,
    /// Its bytes, all of the buffer. The caller keeps them unchanged until the outcome.
    pub buffer: Lent,
    /// What to keep beside it, where the backend can.
    pub seal: Option<Seal>,
}

/// One object to load.
#[derive(Clone, Debug)]
pub struct LoadItem {
    /// Its name.
    pub key: ObjectKey,
    /// Where its bytes go; the buffer's length is the length expected.
    pub buffer: Lent,
}

impl LoadItem {
    /// The failure of a load whose object, of `held` bytes, has another length than its buffer.
    #[must_use]
    pub fn length_mismatch(&self, held: u64) -> Failure {
        let (name, wanted) = (wire_name(&self.key), self.buffer.len());
        let text = format!("object `{name}` holds {held} bytes, the buffer wants {wanted}");
        Failure::permanent(FailureKind::Mismatch, text)
    }
}

/// An object that is now held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Bytes that travelled; 0 when it was there already.
    pub bytes_written: u64,
}

/// An object that is held and now locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its size, where the backend knows without reading it.
    pub bytes: Option<u64>,
    /// The most by which that may exceed the length of the object: some writers pad.
    pub padding_bytes_max: u64,
    /// Whether the answer was remembered: it then says nothing about the backend.
    pub is_remembered: bool,
}

impl Found {
    /// An answer of the backend itself, about an object that is not padded.
    #[must_use]
    pub fn asked(bytes: Option<u64>) -> Self {
        Self { bytes, padding_bytes_max: 0, is_remembered: false }
    }

    /// Whether an object of `len` bytes may be what was found.
    #[must_use]
    pub fn fits(&self, len: u64) -> bool {
        self.bytes.is_none_or(|bytes| (len..=len.saturating_add(self.padding_bytes_max)).contains(&bytes))
    }
}

/// A buffer that is now filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What was kept beside the object; none when its writer kept nothing.
    pub seal: Option<Seal>,
}

/// An object that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Room it took, where known; 0 otherwise.
    pub bytes_freed: u64,
}

/// How far a delete goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteMode {
    /// Leave locked objects alone.
    IfUnlocked,
    /// Take locked objects as well; their pending loads become misses.
    Forced,
    /// As forced, and keep the bytes aside for inspection where the backend can.
    Quarantine,
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only objects of this model.
    pub model_name: Option<String>,
    /// Where the last page ended, as it said.
    pub page_token: Option<String>,
    /// Entries wanted on the page. A backend that pages by itself may give some more.
    pub entries_max: usize,
}

/// A page of a listing. It may hold fewer entries than asked for, even none, and still have a successor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects on this page.
    pub entries: Vec<Listed>,
    /// The token of the next page; none on the last.
    pub next_page_token: Option<String>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: ObjectKey,
    /// Its size.
    pub bytes: u64,
}

/// The same error for every key of a batch.
pub(crate) fn all_failed<T>(count: usize, error: &Error) -> Vec<KeyResult<T>> {
    (0..count).map(|_| Err(error.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::object_key;

    #[test]
    fn what_is_found_fits_its_length_and_the_padding_its_writer_may_have_added() {
        let unknown = Found::asked(None);
        assert!(unknown.fits(1) && unknown.fits(u64::MAX));
        let exact = Found::asked(Some(8));
        assert!(exact.fits(8) && !exact.fits(7) && !exact.fits(9));
        let padded = Found { padding_bytes_max: 2, ..exact };
        assert_eq!([5, 6, 7, 8, 9].map(|len| padded.fits(len)), [false, true, true, true, false]);
    }

    #[test]
    fn seals_come_back_and_nothing_else_is_one() {
        let key = object_key(0);
        let seal = Seal { checksum: 0x0123_4567_89ab_cdef, layout: 42 };
        let bytes = seal.encode(&key);
        assert_eq!((&bytes[..4], bytes[12]), (&b"LSL2"[..], 42), "little endian after the mark");
        assert_eq!(Seal::decode(&bytes, &key), Some(seal));
        for len in 0..bytes.len() {
            assert_eq!(Seal::decode(&bytes[..len], &key), None);
        }
        assert_eq!(Seal::decode(&[0; Seal::ENCODED_LEN], &key), None);
    }

    #[test]
    fn the_seal_of_one_key_vouches_for_no_bytes_of_another() {
        let seal = Seal { checksum: 7, layout: 42 };
        let bytes = seal.encode(&object_key(0));
        let others = Seal::decode(&bytes, &object_key(1)).unwrap();
        assert_eq!(others.layout, 42);
        assert_ne!(others.checksum, 7);
    }

    #[test]
    fn seals_from_before_they_were_bound_to_keys_are_still_read() {
        let bytes = b"LSL1\x07\0\0\0\0\0\0\0\x2a\0\0\0\0\0\0\0";
        assert_eq!(Seal::decode(bytes, &object_key(3)), Some(Seal { checksum: 7, layout: 42 }));
    }
}
