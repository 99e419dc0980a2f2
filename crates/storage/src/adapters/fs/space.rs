//! Room: the capacity limit and the disk that may fill up before it. Pure; the clock is an argument.

use std::time::{Duration, Instant};

use crate::error::{Busy, Error, Failure, FailureKind};

/// Tracks what writes under way will take, and whether the disk took the last one.
#[derive(Debug)]
pub(super) struct Space {
    capacity_bytes: Option<u64>,
    reserved_bytes: u64,
    probe_pause: Duration,
    full: Option<Full>,
}

#[derive(Clone, Copy, Debug)]
struct Full {
    since: Instant,
    /// When a write was refused last.
    refused_at: Instant,
    next_probe: Instant,
    /// What was deleted since then: as much may be written without another probe.
    freed_bytes: u64,
}

impl Space {
    pub(super) fn new(capacity_bytes: Option<u64>, probe_pause: Duration) -> Self {
        Self { capacity_bytes, reserved_bytes: 0, probe_pause, full: None }
    }

    /// Sets aside `bytes` for a write, given what objects take already and whether that number is final.
    ///
    /// A full disk refuses everything except one write per probe pause, which finds out whether it still is,
    /// and as much as was deleted meanwhile.
    pub(super) fn reserve(
        &mut self,
        bytes: u64,
        used_bytes: u64,
        is_used_known: bool,
        now: Instant,
    ) -> Result<(), Error> {
        if let Some(capacity) = self.capacity_bytes {
            if !is_used_known {
                return Err(Error::Busy(Busy::Rebuilding));
            }
            let taken = used_bytes.saturating_add(self.reserved_bytes);
            if taken.saturating_add(bytes) > capacity {
                let text = format!("{bytes} bytes do not fit: `{taken}` of `{capacity}` are in use");
                return Err(Failure::permanent(FailureKind::Full, text).into());
            }
        }
        if let Some(full) = &mut self.full {
            if let Some(left) = full.freed_bytes.checked_sub(bytes) {
                full.freed_bytes = left;
            } else if now < full.next_probe {
                return Err(Failure::permanent(FailureKind::Full, "disk is full").into());
            } else {
                full.next_probe = now + self.probe_pause;
            }
        }
        self.reserved_bytes += bytes;
        Ok(())
    }

    /// Ends a write: the reservation is gone whatever came of it.
    pub(super) fn release(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.reserved_bytes, "only what was reserved is released");
        self.reserved_bytes -= bytes;
    }

    /// The disk refused a write for lack of room. True when that is news.
    pub(super) fn note_full(&mut self, now: Instant) -> bool {
        let is_news = self.full.is_none();
        let since = self.full.map_or(now, |full| full.since);
        self.full = Some(Full { since, refused_at: now, next_probe: now + self.probe_pause, freed_bytes: 0 });
        is_news
    }

    /// The disk took a write that began at some time; one that was under way when another was refused shows
    /// nothing. True when that there is room is news.
    pub(super) fn note_room(&mut self, began: Instant) -> bool {
        self.full.take_if(|full| began >= full.refused_at).is_some()
    }

    /// Objects were deleted. That the disk has room is for the next write to show: others may have taken it.
    pub(super) fn note_freed(&mut self, bytes: u64, now: Instant) {
        if let Some(full) = &mut self.full {
            full.freed_bytes = full.freed_bytes.saturating_add(bytes);
            full.next_probe = now;
        }
    }

    /// How long the disk has been full; none when it is not.
    pub(super) fn full_for(&self, now: Instant) -> Option<Duration> {
        self.full.map(|full| now.saturating_duration_since(full.since))
    }

    pub(super) fn capacity_bytes(&self) -> Option<u64> {
        self.capacity_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn is_full(result: Result<(), Error>) -> bool {
        matches!(result, Err(Error::Failed(failure)) if failure.kind == FailureKind::Full)
    }

    #[test]
    fn writes_under_way_count_towards_the_capacity() {
        let now = Instant::now();
        let mut space = Space::new(Some(100), PAUSE);
        space.reserve(40, 30, true, now).unwrap();
        assert!(is_full(space.reserve(31, 30, true, now)));
        space.reserve(30, 30, true, now).unwrap();
        space.release(40);
        space.reserve(40, 30, true, now).unwrap();
    }

    #[test]
    fn a_limit_is_not_guessed_at_before_the_index_is_known() {
        let now = Instant::now();
        assert_eq!(
            Space::new(Some(100), PAUSE).reserve(1, 0, false, now),
            Err(Error::Busy(Busy::Rebuilding))
        );
        assert_eq!(Space::new(None, PAUSE).reserve(1, 0, false, now), Ok(()));
    }

    #[test]
    fn a_full_disk_is_probed_once_per_pause() {
        let start = Instant::now();
        let mut space = Space::new(None, PAUSE);
        assert!(space.note_full(start));
        assert!(is_full(space.reserve(1, 0, true, start)));
        let later = start + PAUSE;
        space.reserve(1, 0, true, later).unwrap();
        assert!(is_full(space.reserve(1, 0, true, later)), "one probe at a time");
        assert!(!space.note_full(later), "still full is no news");
        assert_eq!(space.full_for(later), Some(PAUSE));
        assert!(space.note_room(later));
        space.reserve(1, 0, true, later).unwrap();
        assert_eq!(space.full_for(later), None);
    }

    #[test]
    fn a_write_that_began_before_another_was_refused_shows_no_room() {
        let start = Instant::now();
        let mut space = Space::new(None, PAUSE);
        space.note_full(start + PAUSE);
        assert!(!space.note_room(start));
        assert!(space.full_for(start + PAUSE).is_some());
        assert!(space.note_room(start + PAUSE * 2));
    }

    #[test]
    fn as_much_as_was_deleted_may_be_written_to_a_full_disk() {
        let now = Instant::now();
        let mut space = Space::new(None, PAUSE);
        space.note_full(now);
        space.note_freed(25, now);
        for _ in 0..2 {
            space.reserve(10, 0, true, now).unwrap();
        }
        space.reserve(10, 0, true, now).unwrap();
        assert!(is_full(space.reserve(10, 0, true, now)), "the rest was a probe");
        assert!(space.full_for(now).is_some(), "no write has shown that there is room");
        space.note_freed(25, now);
        space.note_full(now);
        assert!(is_full(space.reserve(10, 0, true, now)), "somebody else took what was freed");
    }
}
