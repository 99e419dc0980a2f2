//! Which files of the configured locations are plugins, in the order they start, and why the others are not.
//!
//! Owns the walk and its limits. Looks at names, types and first bytes; runs nothing. Order: locations as given; inside one, the
//! extensions of the interpreter table (`.py` before `.sh`, as the peer does) before other programs, then by path.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use crate::eligibility::{self, Host, Ineligible};
use crate::ignore::IgnoreList;
use crate::interpreter::{self, Format, Interpreters};
use crate::text::shown;

/// Folders below a location that are entered, counted from the location.
pub const DEPTH_MAX: usize = 16;
/// Directory entries looked at in one scan; what lies beyond is not seen, and said so.
pub const ENTRIES_MAX: usize = 20_000;
/// Plugins that one scan yields.
pub const PLUGINS_MAX: usize = 1_024;
/// Name endings of the optional manifest beside a plugin file.
pub const MANIFEST_SUFFIX: &str = ".plugin.toml";

/// What a scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Files to run, in start order.
    pub plugins: Vec<PathBuf>,
    /// Files and locations passed over, each with its reason, in the order met.
    pub skipped: Vec<Skipped>,
    /// Folders in which a change can change the result.
    pub folders: Vec<PathBuf>,
}

/// A path that is not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The path, escaped for display.
    pub path: String,
    /// Why it is not run.
    pub reason: SkipReason,
}

/// Why a path is not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum SkipReason {
    /// The configured location is not there.
    #[error("location does not exist")]
    Missing,
    /// The path could not be looked at.
    #[error("cannot be read: {cause}")]
    Unreadable {
        /// The system's words.
        cause: String,
    },
    /// The name begins with a dot.
    #[error("hidden")]
    Hidden,
    /// The name begins with an underscore: `__init__.py`, `__pycache__` or a helper module.
    #[error("name begins with an underscore")]
    Underscore,
    /// A line of the folder's `.pluginignore` matches.
    #[error("excluded by `.pluginignore`")]
    Ignored,
    /// A folder whose name looks like a script's.
    #[error("a directory named like a script")]
    DirectoryNamedLikeScript,
    /// A symbolic link to a folder is not entered.
    #[error("symbolic link to a directory")]
    LinkToDirectory,
    /// A symbolic link that leads nowhere.
    #[error("broken symbolic link")]
    BrokenLink,
    /// A pipe, a socket or a device.
    #[error("not a regular file")]
    NotRegular,
    /// No extension of the interpreter table, and not a program either.
    #[error("neither a known script type nor a program")]
    NotAProgram,
    /// The same file (device and inode) is already there under another path.
    #[error("same file as `{first}`")]
    Duplicate {
        /// The path that runs.
        first: String,
    },
    /// The name asks for another process.
    #[error("{requires}")]
    Name {
        /// What the name asks for.
        requires: Ineligible,
    },
    /// The folder lies deeper than [`DEPTH_MAX`].
    #[error("nested too deep")]
    TooDeep,
    /// [`ENTRIES_MAX`] or [`PLUGINS_MAX`] was reached.
    #[error("too many entries")]
    TooMany,
}

impl SkipReason {
    /// Whether an operator would have expected the file to run, so that the log should mention it.
    pub fn is_notable(&self) -> bool {
        !matches!(self, Self::NotAProgram | Self::Hidden)
    }
}

/// Scans `locations` for plugins that run beside `host`.
pub fn discover(locations: &[PathBuf], host: &Host, interpreters: &Interpreters) -> Discovery {
    let mut scan = Scan { host, interpreters, found: Discovery::default(), seen: HashMap::new(), entries: 0 };
    for location in locations {
        scan.location(&tidy(location));
    }
    scan.found
}

struct Scan<'a> {
    host: &'a Host,
    interpreters: &'a Interpreters,
    found: Discovery,
    /// Device and inode of every file and folder taken, with the path it was taken under.
    seen: HashMap<(u64, u64), PathBuf>,
    entries: usize,
}

impl Scan<'_> {
    fn location(&mut self, path: &Path) {
        let at = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        if !at.is_dir() {
            // Where it is, or may appear.
            self.found.folders.extend(
                path.parent().filter(|p| p.as_os_str().is_empty() || p.is_dir()).map(Path::to_path_buf),
            );
        }
        match fs::metadata(at) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && fs::symlink_metadata(at).is_err() => {
                self.skip(path, SkipReason::Missing);
            }
            Err(e) => self.skip(path, unreadable(at, &e)),
            Ok(meta) if meta.is_dir() => {
                let mut batch = Vec::new();
                self.folder(path, &meta, 0, &mut batch);
                batch.sort_by_cached_key(|(p, _)| {
                    (self.interpreters.rank(p), p.as_os_str().as_bytes().to_vec())
                });
                for (file, meta) in batch {
                    self.accept(&file, &meta);
                }
            }
            Ok(meta) => self.candidate(path, &meta, true).into_iter().for_each(|(p, m)| self.accept(&p, &m)),
        }
    }

    /// Collects the files of a folder and of those below it.
    fn folder(&mut self, path: &Path, meta: &Metadata, depth: usize, batch: &mut Vec<(PathBuf, Metadata)>) {
        if depth > DEPTH_MAX {
            return self.skip(path, SkipReason::TooDeep);
        }
        if let Some(first) = self.seen.insert((meta.dev(), meta.ino()), path.to_path_buf()) {
            return self.skip(path, SkipReason::Duplicate { first: shown(&first) });
        }
        let at = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let listing = match fs::read_dir(at) {
            Ok(listing) => listing,
            Err(e) => return self.skip(path, unreadable(at, &e)),
        };
        self.found.folders.push(path.to_path_buf());
        let ignore = IgnoreList::of_folder(at);
        let mut names: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            if self.entries >= ENTRIES_MAX {
                return self.skip(path, SkipReason::TooMany);
            }
            self.entries += 1;
            let child = path.join(&name);
            if let Some(reason) = excluded_by_name(name.as_bytes(), &ignore) {
                if name.as_bytes() != crate::ignore::FILE_NAME.as_bytes() {
                    self.skip(&child, reason);
                }
                continue;
            }
            self.entry(&child, depth, batch);
        }
    }

    fn entry(&mut self, path: &Path, depth: usize, batch: &mut Vec<(PathBuf, Metadata)>) {
        let link = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) => return self.skip(path, unreadable(path, &e)),
        };
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(e) => return self.skip(path, unreadable(path, &e)),
        };
        if !meta.is_dir() {
            batch.extend(self.candidate(path, &meta, false));
        } else if link.is_symlink() {
            self.skip(path, SkipReason::LinkToDirectory);
        } else if self.interpreters.for_path(path).is_some() {
            self.skip(path, SkipReason::DirectoryNamedLikeScript);
        } else {
            self.folder(path, &meta, depth + 1, batch);
        }
    }

    /// Checks the type and content of a file. One named as a location needs no executable bit to be tried.
    fn candidate(&mut self, path: &Path, meta: &Metadata, named: bool) -> Option<(PathBuf, Metadata)> {
        let kind = meta.file_type();
        let reason = if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device()
        {
            SkipReason::NotRegular
        } else if self.interpreters.for_path(path).is_some() {
            return Some((path.to_path_buf(), meta.clone()));
        } else if !named && !interpreter::is_executable(path) {
            SkipReason::NotAProgram
        } else {
            match interpreter::format_of(path) {
                Ok(Format::Script(_) | Format::Native) => return Some((path.to_path_buf(), meta.clone())),
                Ok(Format::Plain) => SkipReason::NotAProgram,
                Err(e) => unreadable(path, &e),
            }
        };
        self.skip(path, reason);
        None
    }

    /// Takes a file unless its name, its identity or the limit speaks against it.
    fn accept(&mut self, path: &Path, meta: &Metadata) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if let Err(requires) = eligibility::eligible(&stem, self.host) {
            return self.skip(path, SkipReason::Name { requires });
        }
        if let Some(first) = self.seen.get(&(meta.dev(), meta.ino())) {
            let first = shown(first);
            return self.skip(path, SkipReason::Duplicate { first });
        }
        if self.found.plugins.len() >= PLUGINS_MAX {
            return self.skip(path, SkipReason::TooMany);
        }
        self.seen.insert((meta.dev(), meta.ino()), path.to_path_buf());
        self.found.plugins.push(path.to_path_buf());
    }

    fn skip(&mut self, path: &Path, reason: SkipReason) {
        self.found.skipped.push(Skipped { path: shown(path), reason });
    }
}

fn excluded_by_name(name: &[u8], ignore: &IgnoreList) -> Option<SkipReason> {
    match name.first() {
        Some(b'.') => Some(SkipReason::Hidden),
        Some(b'_') => Some(SkipReason::Underscore),
        _ if name.ends_with(MANIFEST_SUFFIX.as_bytes()) => Some(SkipReason::NotAProgram),
        _ if ignore.matches(name) => Some(SkipReason::Ignored),
        _ => None,
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> SkipReason {
    if error.kind() == std::io::ErrorKind::NotFound
        && fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink())
    {
        return SkipReason::BrokenLink;
    }
    SkipReason::Unreadable { cause: error.to_string() }
}

/// Drops `.` components and doubled slashes, as the peer's paths have none; `..` and links stay.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|c| *c != Component::CurDir).collect()
}

#[cfg(test)]
mod tests;
