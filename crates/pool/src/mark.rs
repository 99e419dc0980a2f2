//! The mark by which a segment made by Larder is recognised after its owner died.
//!
//! A lock says whether the owner lives, the mark says whose the segment was. It sits on the file itself, so that no stray
//! file is ever left: an extended attribute with the owner's pid or, where tmpfs has none (before Linux 6.6), the sticky
//! bit, which means nothing on a regular file and which no other maker of segments sets.

use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, XattrFlags, fchmod, fgetxattr, fsetxattr, fstat};

const ATTRIBUTE: &str = "user.larder.owner";
/// Digits of the largest pid.
const PID_DIGITS_MAX: usize = 10;

/// What a segment says of its maker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Made by a Larder server, which left its pid where the file system can keep it.
    Larder {
        /// As seen in the owner's own pid namespace.
        pid: Option<u32>,
    },
    /// Made by something else.
    Unknown,
}

/// Marks the file as made by this process.
pub(crate) fn write(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let pid = std::process::id().to_string();
    fsetxattr(file, ATTRIBUTE, pid.as_bytes(), XattrFlags::empty()).or_else(|_| write_sticky(file))
}

fn write_sticky(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    fchmod(file, Mode::RUSR | Mode::WUSR | Mode::SVTX)
}

/// Reads the mark of a file.
pub(crate) fn read(file: BorrowedFd<'_>) -> rustix::io::Result<Mark> {
    let mut value = [0_u8; PID_DIGITS_MAX];
    if let Ok(len) = fgetxattr(file, ATTRIBUTE, &mut value) {
        let pid = std::str::from_utf8(&value[..len]).ok().and_then(|text| text.parse().ok());
        return Ok(Mark::Larder { pid });
    }
    let sticky = Mode::from_raw_mode(fstat(file)?.st_mode).contains(Mode::SVTX);
    Ok(if sticky { Mark::Larder { pid: None } } else { Mark::Unknown })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_marked_file_is_told_from_another() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        assert_eq!(read(file.as_fd()).unwrap(), Mark::Unknown);
        write(file.as_fd()).unwrap();
        assert!(matches!(read(file.as_fd()).unwrap(),
            Mark::Larder { pid } if pid.is_none_or(|pid| pid == std::process::id())));
    }

    #[test]
    fn the_sticky_bit_is_a_mark_of_its_own() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        write_sticky(file.as_fd()).unwrap();
        assert_eq!(read(file.as_fd()).unwrap(), Mark::Larder { pid: None });
    }
}
