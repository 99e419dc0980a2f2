//! A process that has the pool mapped, and whether it has ended.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{Segment, processes};

/// A process that has a segment mapped: until it has ended it may write there.
#[derive(Debug)]
pub struct Mapper {
    pid: u32,
    handle: OwnedFd,
}

impl Mapper {
    /// The process with this id, if it has the segment mapped and this one may know that. Reads the whole
    /// list of what it has mapped, which may take milliseconds.
    pub fn find(segment: &Segment, pid: u32) -> Option<Self> {
        let stat = segment.stat()?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        // Opened before the look: if it has not ended after it, it is the one that was looked at.
        let found = Self { pid, handle: pidfd_open(raw, PidfdFlags::empty()).ok()? };
        (processes::maps(pid, &stat) && !found.has_ended()).then_some(found)
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended, with all of its threads. What it started may live on.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(&self.handle, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}
