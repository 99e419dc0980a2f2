//! Which processes map a file: how a segment that carries no lock is seen to be in use.

use std::fs;
use std::io::{BufRead, BufReader};

use rustix::fs::{Stat, major, minor};

/// A process that maps a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mapper {
    pub(crate) pid: u32,
    pub(crate) command: String,
}

/// The first process found that maps the file, this one included.
///
/// Processes of other users and of other pid namespaces are invisible unless the caller is privileged, so `None` is no
/// proof of absence; the file's own permissions (0600) keep those of other users apart in the first place.
pub(crate) fn find(file: &Stat) -> Option<Mapper> {
    let device = format!("{:02x}:{:02x}", major(file.st_dev), minor(file.st_dev));
    let inode = file.st_ino.to_string();
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let pid = pids
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| maps(*pid, &device, &inode))?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned();
    Some(Mapper { pid, command })
}

fn maps(pid: u32, device: &str, inode: &str) -> bool {
    let Ok(maps) = fs::File::open(format!("/proc/{pid}/maps")) else { return false };
    BufReader::new(maps).split(b'\n').map_while(Result::ok).any(|line| {
        String::from_utf8_lossy(&line).split_ascii_whitespace().skip(3).take(2).eq([device, inode])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_maps_its_own_file_and_nobody_maps_a_fresh_one() {
        let exe = rustix::fs::stat(std::env::current_exe().unwrap()).unwrap();
        assert!(find(&exe).is_some_and(|mapper| !mapper.command.is_empty()));
        let fresh = tempfile::tempfile_in("/dev/shm").unwrap();
        assert_eq!(find(&rustix::fs::fstat(&fresh).unwrap()), None);
    }
}
