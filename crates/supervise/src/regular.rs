//! Files that others put in place, opened so that none of them can hold the reader up.
//!
//! Opening a pipe waits for its other end, and a device does what it likes: whatever is no regular file is
//! refused, after an opening that waits for nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file for reading; a link to one is followed.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(path, 0)
}

/// As [`open`], but refuses a link.
pub(crate) fn open_unlinked(path: &Path) -> io::Result<File> {
    open_with(path, libc::O_NOFOLLOW)
}

/// At most the first `limit` bytes of a regular file.
pub(crate) fn read_head(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open_with(path: &Path, flags: i32) -> io::Result<File> {
    let file =
        File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};

    #[test]
    fn only_regular_files_are_opened_and_a_pipe_does_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let (file, pipe, link) = (dir.path().join("file"), dir.path().join("pipe"), dir.path().join("link"));
        std::fs::write(&file, "text").unwrap();
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read_head(&file, 3).unwrap(), b"tex");
        assert_eq!(read_head(&link, 9).unwrap(), b"text");
        assert!(open_unlinked(&link).is_err());
        for other in [pipe.as_path(), dir.path(), Path::new("/dev/null")] {
            assert_eq!(open(other).unwrap_err().to_string(), "not a regular file");
        }
        assert_eq!(open(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
