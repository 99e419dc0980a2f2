//! Which process holds a file, as far as `/proc` tells.

use std::fs;

use rustix::fs::Stat;

/// Device as `/proc/*/maps` and `/proc/locks` print it.
fn device(stat: &Stat) -> String {
    format!("{:02x}:{:02x}", rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev))
}

/// The process that holds a lock on the file.
pub(crate) fn lock_holder(stat: &Stat) -> Option<u32> {
    let file = format!("{}:{}", device(stat), stat.st_ino);
    fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
        // <number>: FLOCK ADVISORY WRITE <pid> <device>:<inode> <start> <end>
        let mut fields = line.split_ascii_whitespace().skip(4);
        let pid = fields.next()?.parse().ok()?;
        (fields.next()? == file).then_some(pid)
    })
}

/// A process other than this one that has the file mapped. Processes whose maps this one may not read are
/// passed over.
pub(crate) fn mapper(stat: &Stat) -> Option<u32> {
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id()).find(|pid| maps(*pid, stat))
}

/// Whether a process has the file mapped; false for one whose maps this one may not read.
pub(crate) fn maps(pid: u32, stat: &Stat) -> bool {
    let (device, inode) = (device(stat), stat.st_ino.to_string());
    fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| {
        maps.lines().any(|line| {
            // <range> <rights> <offset> <device> <inode> <path>
            let mut fields = line.split_ascii_whitespace().skip(3);
            fields.next() == Some(device.as_str()) && fields.next() == Some(inode.as_str())
        })
    })
}
