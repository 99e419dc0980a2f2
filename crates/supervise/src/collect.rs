//! The folder in which one plugin leaves its metrics, in files ending in `.prom`.
//!
//! The plugin finds it in `LMCACHE_RUNTIME_PLUGIN_METRICS_DIR` and renames finished files into it; they are read when somebody scrapes.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::regular;

/// Names the folder.
pub(crate) const METRICS_DIR: &str = "LMCACHE_RUNTIME_PLUGIN_METRICS_DIR";
/// Files read from one folder, in order of their names.
const FILES_MAX: usize = 16;
/// Bytes read from one file; a line that is cut there is not taken.
const FILE_MAX_BYTES: u64 = 256 * 1024;

/// The folder of the plugin of this name.
pub(crate) fn folder(scratch: &Path, plugin: &str) -> PathBuf {
    // Names may contain anything but have to stay one component.
    scratch.join(format!("metrics-{}", plugin.replace('/', "\u{2215}")))
}

/// Makes the folder empty, for a new run.
pub(crate) fn prepare(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::fs::create_dir(folder)
}

/// All the folder holds; nothing where there is none.
pub(crate) fn read(folder: &Path) -> String {
    let Ok(listing) = std::fs::read_dir(folder) else { return String::new() };
    let mut files: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "prom"));
    files.sort();
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
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_files_only_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), "a/b");
        assert_eq!(read(&folder), "");
        prepare(&folder).unwrap();
        std::fs::write(folder.join("b.prom"), "b 1\n").unwrap();
        std::fs::write(folder.join("a.prom"), "a 1").unwrap();
        std::fs::write(folder.join("c.prom.tmp"), "c 1").unwrap();
        assert_eq!(read(&folder), "a 1\nb 1\n\n");
        std::fs::write(folder.join("a.prom"), "x 1\n".repeat(1 << 20)).unwrap();
        assert!(read(&folder).len() < 300_000);
        prepare(&folder).unwrap();
        assert_eq!(read(&folder), "");
    }
}
