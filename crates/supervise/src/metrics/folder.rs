//! The folder in which one plugin leaves its metrics, in files ending in `.prom`.
//!
//! The plugin is told where it is, and renames finished files into it; they are
//! read when somebody scrapes.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::os::{REMOVAL_MAX, remove_tree};
use crate::regular;

/// Files read from one folder, in order of their names; the rest is counted as left out.
const FILES_MAX: usize = 16;
/// Entries of one folder that are looked at.
const ENTRIES_MAX: usize = 1_024;
/// Bytes read from one file; a line that is cut there is not taken.
const FILE_MAX_BYTES: u64 = 256 * 1024;

/// The folder of the plugin of this name.
pub(crate) fn folder(scratch: &Path, plugin: &str) -> PathBuf {
    // Names may contain anything but have to stay one component.
    scratch.join(format!("metrics-{}", plugin.replace('/', "\u{2215}")))
}

/// Makes the folder empty, for a new run.
pub(crate) fn prepare(folder: &Path) -> io::Result<()> {
    discard(folder)?;
    std::fs::create_dir(folder)
}

/// Takes the folder away. One that would take long goes out of the way, until the private directory goes.
pub(crate) fn discard(folder: &Path) -> io::Result<()> {
    remove_tree(folder, REMOVAL_MAX).or_else(|_| move_aside(folder))
}

fn move_aside(folder: &Path) -> io::Result<()> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let aside = format!("left-{}", SERIAL.fetch_add(1, Ordering::Relaxed));
    std::fs::rename(folder, folder.with_file_name(aside))
}

/// All the folder holds, and how many files of it were left out; nothing where there is none.
pub(crate) fn read(folder: &Path) -> (String, u64) {
    let Ok(mut listing) = std::fs::read_dir(folder) else { return (String::new(), 0) };
    let entries = listing.by_ref().take(ENTRIES_MAX).filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "prom")).collect();
    files.sort();
    // How many more there are takes a look at each of them.
    let left_out = files.len().saturating_sub(FILES_MAX) as u64 + u64::from(listing.next().is_some());
    let mut text = String::new();
    for path in files.iter().take(FILES_MAX) {
        let mut bytes = Vec::new();
        // The server may be able to read what the plugin is not.
        let Ok(file) = regular::open_unlinked(path) else { continue };
        if file.take(FILE_MAX_BYTES).read_to_end(&mut bytes).is_ok() {
            if bytes.len() as u64 == FILE_MAX_BYTES {
                bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1));
            }
            text.push_str(&String::from_utf8_lossy(&bytes));
            text.push('\n');
        }
    }
    (text, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_files_only_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), "a/b");
        assert_eq!(read(&folder), (String::new(), 0));
        prepare(&folder).unwrap();
        std::fs::write(folder.join("b.prom"), "b 1\n").unwrap();
        std::fs::write(folder.join("a.prom"), "a 1").unwrap();
        std::fs::write(folder.join("c.prom.tmp"), "c 1").unwrap();
        assert_eq!(read(&folder).0, "a 1\nb 1\n\n");
        std::fs::write(folder.join("a.prom"), "x 1\n".repeat(1 << 20)).unwrap();
        assert!(read(&folder).0.len() < 300_000);
        prepare(&folder).unwrap();
        assert_eq!(read(&folder), (String::new(), 0));
    }

    #[test]
    fn a_crowd_of_files_is_not_read_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..ENTRIES_MAX + 100 {
            std::fs::write(dir.path().join(format!("{name}.prom")), "x 1").unwrap();
        }
        let (text, left_out) = read(dir.path());
        assert_eq!((text.lines().count(), left_out), (FILES_MAX, (ENTRIES_MAX - FILES_MAX) as u64 + 1));
    }

    #[test]
    fn a_folder_that_takes_long_to_remove_is_out_of_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), "a");
        std::fs::create_dir_all(folder.join("in/deep")).unwrap();
        prepare(&folder).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        move_aside(&folder).unwrap();
        assert!(!folder.exists() && std::fs::read_dir(dir.path()).unwrap().count() == 1);
    }
}
