//! What servers that died left in `/dev/shm`.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;

use crate::name::{DIRECTORY, NAME_PREFIX};
use crate::{Segment, SegmentName, SegmentOptions, directory, owner};

/// A file that a dead server of ours left, and that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Its name in `/dev/shm`.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Stale {
    fn new(name: String, stat: &Stat) -> Self {
        Self { name, bytes: u64::try_from(stat.st_size).unwrap_or(0) }
    }
}

/// Removes every segment in `/dev/shm` that carries our mark and whose server is dead, and slot directories
/// without a segment.
///
/// Files of living servers, of other programs and of other users are never touched. A segment with a slot
/// directory is kept for the server that may take it over: for an hour from the first time it is found dead.
#[must_use]
pub fn reclaim_stale() -> Vec<Stale> {
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else { return Vec::new() };
    let now_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| match directory::segment_of(&name) {
            Some(segment) => reclaim_orphan(&segment, name),
            None => reclaim_segment(name, now_seconds),
        })
        .collect()
}

fn reclaim_segment(name: String, now_seconds: u64) -> Option<Stale> {
    if !name.starts_with(NAME_PREFIX) {
        return None;
    }
    let path = Path::new(DIRECTORY).join(&name);
    let (file, stat) = owner::open_regular(&path).ok()??;
    let dead = owner::is_marked(&stat) && owner::lock(&file).ok()? && owner::is_same_file(&path, &stat);
    let segment = SegmentName::new(&name).ok()?;
    if !dead || directory::is_kept(&segment, now_seconds) {
        return None;
    }
    directory::remove(&segment);
    rustix::fs::unlink(&path).ok()?;
    Some(Stale::new(name, &stat))
}

/// Removes a slot directory whose segment is gone. It belongs to the holder of the segment's name, so the
/// name is taken for a moment.
fn reclaim_orphan(segment: &SegmentName, name: String) -> Option<Stale> {
    let path = Path::new(DIRECTORY).join(&name);
    let (_, stat) = owner::open_regular(&path).ok()??;
    let ours = stat.st_uid == rustix::process::geteuid().as_raw();
    let directory = Path::new(DIRECTORY);
    if !ours || owner::open_regular(&segment.path_in(directory)).ok()?.is_some() {
        return None;
    }
    let options = SegmentOptions { share: Some(segment.as_str().to_owned()), bytes: 1, hugepages: false };
    Segment::create(options).ok()?;
    Some(Stale::new(name, &stat))
}
