//! The file: made under a name of its own, published in one step, read by the next server.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64;

use super::names::{NAME_PREFIX, UNPUBLISHED_PREFIX, path_of};
use super::record::{RECORD_BYTES, SlotRecord};
use crate::mapping::Mapping;
use crate::options::SegmentOptions;
use crate::{PoolError, Segment, owner};

/// First bytes of a directory; the last one is the version of the format.
const MAGIC: [u8; 8] = *b"LARDSLT\x02";

const HEADER_BYTES: usize = 4096;

/// Most scopes that are written down; objects of more are not, and are not kept for a successor.
pub const SCOPES_MAX: u32 = 4_096;

/// Bytes of one scope with its head.
const SCOPE_SLOT_BYTES: usize = 1_024;

/// Length and checksum before the bytes of a scope.
const SCOPE_HEAD_BYTES: usize = 16;

/// Most bytes of one scope; a longer one is not written down.
pub const SCOPE_BYTES_MAX: usize = SCOPE_SLOT_BYTES - SCOPE_HEAD_BYTES;

/// Bytes of the header and all scopes, after which the records start.
const HEAD_BYTES: usize = HEADER_BYTES + SCOPES_MAX as usize * SCOPE_SLOT_BYTES;
const RECORDS_START: u64 = HEAD_BYTES as u64;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Most records, 2 GiB of them.
const RECORDS_MAX: u32 = 1 << 24;

/// Memory taken at a time: the system is asked once for so many bytes of records.
const BACKING_STEP_BYTES: u64 = 1 << 20;

/// Where in the header it says that records are missing; before it is what `names` writes.
const INCOMPLETE_AT: usize = 24;

/// Bytes of the header that mean something.
const HEADER_USED_BYTES: usize = 32;

/// What a directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryOptions {
    /// Stands for everything that must be the same for the contents to make sense. Another stamp, and there
    /// are none.
    pub stamp: u64,
    /// Records there may ever be.
    pub records_max: u64,
}

/// A directory that is being written.
#[derive(Debug)]
pub struct Directory {
    mapping: Mapping,
    file: File,
    /// Where it is until it is published, and where it is then.
    path: PathBuf,
    published_path: PathBuf,
    is_published: bool,
    records_max: u32,
    backed_bytes: u64,
}

/// What a dead server's directory says.
#[derive(Debug, Default)]
pub struct Contents {
    /// Scopes by number.
    pub scopes: Vec<(u32, Vec<u8>)>,
    /// Records, in order of their sequence.
    pub records: Vec<SlotRecord>,
    /// Records that were neither empty nor whole.
    pub torn: usize,
    /// When it was read, in seconds since the boot.
    pub read_at_s: u64,
}

impl Directory {
    /// An empty directory of this segment. The one that is there stays until [`Self::publish`].
    ///
    /// # Errors
    /// [`PoolError::InvalidName`] for a segment without a name, [`PoolError::System`] for what the system
    /// refuses.
    pub fn create(segment: &Segment, options: DirectoryOptions) -> Result<Self, PoolError> {
        let name = segment.locked_name().ok_or_else(|| PoolError::InvalidName(String::new()))?;
        let (path, published_path) = (path_of(UNPUBLISHED_PREFIX, name), path_of(NAME_PREFIX, name));
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let file: File = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(PoolError::system("create the slot directory"))?
            .into();
        let records_max = u32::try_from(options.records_max).unwrap_or(u32::MAX).min(RECORDS_MAX);
        let len = RECORDS_START + u64::from(records_max) * RECORD_BYTES as u64;
        rustix::fs::ftruncate(&file, len).map_err(PoolError::system("size the slot directory"))?;
        let len = usize::try_from(len).map_err(|_| PoolError::InvalidSize(len))?;
        let mapping = Mapping::shared(file.as_fd(), len, false)?;
        let mut directory =
            Self { mapping, file, path, published_path, is_published: false, records_max, backed_bytes: 0 };
        if !directory.back(RECORDS_START) {
            return Err(PoolError::Exhausted { offset: 0, len: RECORDS_START });
        }
        let mut header = [0; HEADER_USED_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&options.stamp.to_le_bytes());
        directory.mapping.write(0, &header)?;
        Ok(directory)
    }

    /// Takes the place of the directory that is there. From now on a dead server's successor finds this one;
    /// it goes with its segment.
    ///
    /// # Errors
    /// [`PoolError::System`] for what the system refuses.
    pub fn publish(&mut self) -> Result<(), PoolError> {
        rustix::fs::rename(&self.path, &self.published_path)
            .map_err(PoolError::system("publish the slot directory"))?;
        self.is_published = true;
        Ok(())
    }

    /// Notes whether somebody may be writing memory of which there is no record. A successor then finds no
    /// directory: it must not take such memory for free.
    pub fn set_incomplete(&mut self, is_incomplete: bool) {
        // Inside the mapping, whose header is backed.
        _ = self.mapping.write(INCOMPLETE_AT as u64, &u64::from(is_incomplete).to_le_bytes());
    }

    /// Writes a record down, over what was there; false if there is no room for it.
    pub fn put(&mut self, slot: u32, record: &SlotRecord) -> bool {
        let at = record_at(slot);
        slot < self.records_max
            && self.back(at + RECORD_BYTES as u64)
            && self.mapping.write(at, &record.encode()).is_ok()
    }

    /// Empties a record.
    pub fn clear(&mut self, slot: u32) {
        let at = record_at(slot);
        if slot < self.records_max && at < self.backed_bytes {
            // Inside the mapping, as the bound before says.
            _ = self.mapping.write(at, &[0; RECORD_BYTES]);
        }
    }

    /// Writes a scope down; false if it is too long or its number too high.
    pub fn put_scope(&mut self, scope: u32, bytes: &[u8]) -> bool {
        if scope >= SCOPES_MAX || bytes.len() > SCOPE_BYTES_MAX {
            return false;
        }
        let mut slot = [0; SCOPE_SLOT_BYTES];
        slot[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        slot[SCOPE_HEAD_BYTES..SCOPE_HEAD_BYTES + bytes.len()].copy_from_slice(bytes);
        let check = scope_check(&slot);
        slot[8..16].copy_from_slice(&check.to_le_bytes());
        self.mapping.write(scope_at(scope), &slot).is_ok()
    }

    /// Has the system back the file up to `end`, so that writing there never finds `/dev/shm` full.
    fn back(&mut self, end: u64) -> bool {
        if end <= self.backed_bytes {
            return true;
        }
        let from = self.backed_bytes;
        let end = end.next_multiple_of(BACKING_STEP_BYTES).min(self.mapping.len() as u64);
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), from, end - from) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        self.backed_bytes = end;
        true
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.is_published {
            // Without the name there is nothing to remove.
            _ = rustix::fs::unlink(&self.path);
        }
    }
}

impl Segment {
    /// The segment of this name that a dead server left, with what its slot directory says; a new one if
    /// there is none of this size whose directory makes sense with `stamp`.
    ///
    /// # Errors
    /// As for [`Self::adopt`] and [`Self::create`].
    pub fn adopt_or_create(
        options: SegmentOptions,
        stamp: u64,
    ) -> Result<(Self, Option<Contents>), PoolError> {
        if let Some(adopted) = Self::adopt(&options)?
            && let Some(contents) = Contents::read(&adopted, stamp)?
        {
            return Ok((adopted, Some(contents)));
        }
        Ok((Self::create(options)?, None))
    }
}

impl Contents {
    /// What the directory of this segment says; none if there is none that is complete and makes sense with
    /// this stamp.
    ///
    /// # Errors
    /// [`PoolError::System`] when it can't be read.
    pub fn read(segment: &Segment, stamp: u64) -> Result<Option<Self>, PoolError> {
        let Some(name) = segment.locked_name() else { return Ok(None) };
        let open = owner::open_regular(&path_of(NAME_PREFIX, name));
        let Some((file, stat)) = open.map_err(PoolError::system("open the slot directory"))? else {
            return Ok(None);
        };
        let mut reader = std::io::BufReader::with_capacity(READ_BYTES, &file);
        let mut head = vec![0; HEAD_BYTES];
        let read = PoolError::system("read the slot directory");
        match reader.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(read(error)),
        }
        let incomplete = head[INCOMPLETE_AT..HEADER_USED_BYTES] != [0; 8];
        if head[..8] != MAGIC || head[8..16] != stamp.to_le_bytes() || incomplete {
            return Ok(None);
        }
        let read_at_s = u64::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec);
        let mut contents =
            Self { scopes: scopes(&head), read_at_s: read_at_s.unwrap_or_default(), ..Self::default() };
        // What was never written is a hole, and reads as zeros up to the end: the records end with the last
        // page of data.
        let end =
            (u64::try_from(stat.st_blocks).unwrap_or_default() * 512).next_multiple_of(BACKING_STEP_BYTES);
        let mut record = [0; RECORD_BYTES];
        let mut at = RECORDS_START;
        while at < end && reader.read_exact(&mut record).is_ok() {
            match SlotRecord::decode(&record) {
                Some(record) => contents.records.push(record),
                None => contents.torn += usize::from(record != [0; RECORD_BYTES]),
            }
            at += RECORD_BYTES as u64;
        }
        contents.records.sort_unstable_by_key(|record| record.sequence);
        Ok(Some(contents))
    }
}

fn scopes(head: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let slots = head[HEADER_BYTES..].chunks_exact(SCOPE_SLOT_BYTES).zip(0..);
    let scope = |(slot, number): (&[u8], u32)| {
        let word = |at: usize| u64::from_le_bytes(slot[at..at + 8].try_into().expect("8 bytes"));
        let len = usize::try_from(word(0)).ok().filter(|len| (1..=SCOPE_BYTES_MAX).contains(len))?;
        let slot: &[u8; SCOPE_SLOT_BYTES] = slot.try_into().expect("a whole slot");
        (word(8) == scope_check(slot))
            .then(|| (number, slot[SCOPE_HEAD_BYTES..SCOPE_HEAD_BYTES + len].to_vec()))
    };
    slots.filter_map(scope).collect()
}

fn scope_check(slot: &[u8; SCOPE_SLOT_BYTES]) -> u64 {
    xxh3_64(&slot[SCOPE_HEAD_BYTES..]) ^ xxh3_64(&slot[..8])
}

fn record_at(slot: u32) -> u64 {
    RECORDS_START + u64::from(slot) * RECORD_BYTES as u64
}

fn scope_at(scope: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(scope) * SCOPE_SLOT_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::super::names::{KEPT_SECONDS, is_kept};
    use super::*;
    use crate::SegmentOptions;

    fn segment(test: &str) -> Segment {
        let share = Some(format!("test-{}-{test}", std::process::id()));
        Segment::create(SegmentOptions { share, bytes: 4096, hugepages: false }).unwrap()
    }

    fn records(segment: &Segment) -> Vec<SlotRecord> {
        Contents::read(segment, OPTIONS.stamp).unwrap().unwrap().records
    }

    const OPTIONS: DirectoryOptions = DirectoryOptions { stamp: 42, records_max: 100_000 };

    fn record(sequence: u64) -> SlotRecord {
        SlotRecord {
            sequence,
            offset: sequence * 4096,
            bytes: 4000,
            hash: [sequence as u8; 32],
            scope: 1,
            position: 2,
            seal: Some(sequence),
            is_being_written: false,
            left_at_s: None,
        }
    }

    #[test]
    fn what_was_written_is_read_in_order_of_its_writing() {
        let segment = segment("order");
        let mut directory = Directory::create(&segment, OPTIONS).unwrap();
        assert!(directory.put_scope(1, b"one") && directory.put_scope(SCOPES_MAX - 1, &[7; SCOPE_BYTES_MAX]));
        assert!(!directory.put_scope(SCOPES_MAX, b"x") && !directory.put_scope(2, &[0; SCOPE_BYTES_MAX + 1]));
        for (slot, sequence) in [(99_999, 2), (0, 3), (5, 1), (6, 4)] {
            assert!(directory.put(slot, &record(sequence)));
        }
        assert!(!directory.put(100_000, &record(9)));
        directory.clear(6);
        assert!(Contents::read(&segment, 42).unwrap().is_none(), "it is not published yet");
        directory.publish().unwrap();
        drop(directory);
        let contents = Contents::read(&segment, 42).unwrap().unwrap();
        assert_eq!(contents.records, [record(1), record(2), record(3)]);
        assert_eq!(contents.scopes, [(1, b"one".to_vec()), (SCOPES_MAX - 1, vec![7; SCOPE_BYTES_MAX])]);
        assert_eq!(contents.torn, 0);
        assert!(Contents::read(&segment, 43).unwrap().is_none(), "another stamp");
    }

    #[test]
    fn a_directory_that_lacks_a_writer_is_none() {
        let segment = segment("incomplete");
        let mut directory = Directory::create(&segment, OPTIONS).unwrap();
        directory.publish().unwrap();
        directory.set_incomplete(true);
        assert!(Contents::read(&segment, 42).unwrap().is_none());
        directory.set_incomplete(false);
        assert!(Contents::read(&segment, 42).unwrap().is_some());
    }

    #[test]
    fn the_old_directory_stays_until_the_new_one_is_published() {
        let segment = segment("publish");
        let mut old = Directory::create(&segment, OPTIONS).unwrap();
        old.put(0, &record(1));
        old.publish().unwrap();
        drop(old);
        let mut new = Directory::create(&segment, OPTIONS).unwrap();
        new.put(0, &record(2));
        assert_eq!(records(&segment), [record(1)]);
        new.publish().unwrap();
        assert_eq!(records(&segment), [record(2)]);
        let failed = Directory::create(&segment, OPTIONS).unwrap();
        let path = failed.path.clone();
        assert!(path.exists());
        drop(failed);
        assert!(!path.exists(), "it was not published");
        assert_eq!(records(&segment), [record(2)]);
    }

    #[test]
    fn torn_records_are_counted_and_left_out() {
        let segment = segment("torn");
        let mut directory = Directory::create(&segment, OPTIONS).unwrap();
        directory.publish().unwrap();
        for slot in 0..RECORD_BYTES as u32 {
            directory.put(slot, &record(7));
            // A writer that died in the middle: the rest of the record is that of another.
            let cut = slot as usize;
            directory.mapping.write(record_at(slot) + cut as u64, &record(8).encode()[cut..]).unwrap();
        }
        let contents = Contents::read(&segment, 42).unwrap().unwrap();
        assert!(contents.records.iter().all(|found| *found == record(7) || *found == record(8)));
        assert_eq!(contents.records.len() + contents.torn, RECORD_BYTES);
        assert!(contents.torn > 0);
    }

    #[test]
    fn a_dead_servers_directory_is_kept_for_a_while() {
        let segment = segment("kept");
        let name = segment.locked_name().unwrap();
        assert!(!is_kept(name, 1000));
        let mut directory = Directory::create(&segment, OPTIONS).unwrap();
        directory.publish().unwrap();
        assert!(is_kept(name, 1000) && is_kept(name, 1000 + KEPT_SECONDS - 1));
        assert!(!is_kept(name, 1000 + KEPT_SECONDS));
        std::fs::write(path_of(NAME_PREFIX, name), b"short").unwrap();
        assert!(!is_kept(name, 0) && Contents::read(&segment, 42).unwrap().is_none());
    }
}
