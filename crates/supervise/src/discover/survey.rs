//! What one location holds.
//!
//! Owns the walk and its limits. Looks at names, types and first bytes; runs nothing.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::ignore::IgnoreList;
use super::interpreter::{self, Format, Interpreters};
use super::skipped::{SkipReason, Skipped};
use crate::manifest::MANIFEST_SUFFIX;
use crate::os::Watcher;
use crate::text::shown;

/// Folders below a location that are entered, counted from the location.
pub(crate) const DEPTH_MAX: usize = 16;
/// Directory entries of one location that are looked at; what lies beyond is not seen, and said so.
pub(crate) const ENTRIES_MAX: usize = 20_000;
/// Files of one location passed over for a reason that an operator should know which are listed one by one;
/// the rest is counted.
pub(crate) const NOTABLE_MAX: usize = 1_000;
/// The same for files that nobody would take for plugins.
pub(crate) const UNREMARKABLE_MAX: usize = 100;
/// Device and inode.
pub(crate) type Identity = (u64, u64);

/// What one location holds, whoever runs it and whatever other locations hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    pub(crate) folders: Vec<Folder>,
    /// In start order.
    pub(super) candidates: Vec<Candidate>,
    pub(super) skipped: Vec<(Option<usize>, Skipped)>,
    /// Skips that are not listed.
    pub(super) more: usize,
    /// The nearest folder above the location, and the name in it that leads there.
    pub(crate) anchor: Option<Anchor>,
    /// What kept a folder from being watched.
    pub(crate) unwatched: Option<String>,
}

/// A folder that was entered.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    /// Index of the folder it lies in, within the location.
    pub(super) parent: Option<usize>,
    /// Number of the watch on it.
    pub(crate) watch: Option<i32>,
}

/// A file that can be run.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    /// Index of its folder; a file named as a location has none.
    pub(super) folder: Option<usize>,
}

/// Where a location would appear, or be replaced.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    pub(crate) folder: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) name: OsString,
    pub(crate) watch: Option<i32>,
}

/// Looks through one location, calls `step` between any two looks, and has the folders watched before they
/// are read.
pub(crate) fn survey(
    location: &Path,
    interpreters: &Interpreters,
    watcher: Option<&Watcher>,
    step: &dyn Fn(),
) -> Survey {
    let path = tidy(location);
    let found = Survey::default();
    let mut scan =
        Scan { interpreters, watcher, step, found, entered: HashMap::new(), unremarkable: 0, entries: 0 };
    scan.location(&path);
    let rank = |c: &Candidate| (interpreters.rank(&c.path), c.path.as_os_str().as_bytes().to_vec());
    scan.found.candidates.sort_by_cached_key(rank);
    scan.found
}

impl Survey {
    /// Whether the folders are still the ones that were looked through. Waits for their file system.
    pub(crate) fn is_in_place(&self) -> bool {
        let is = |path: &Path, identity: Identity| {
            fs::metadata(in_place(path)).is_ok_and(|meta| (meta.dev(), meta.ino()) == identity)
        };
        self.folders.iter().all(|folder| is(&folder.path, folder.identity))
            && self.anchor.as_ref().is_none_or(|anchor| is(&anchor.folder, anchor.identity))
    }
}

struct Scan<'a> {
    interpreters: &'a Interpreters,
    watcher: Option<&'a Watcher>,
    step: &'a dyn Fn(),
    found: Survey,
    /// Index of every folder entered.
    entered: HashMap<Identity, usize>,
    /// Skips listed that nobody would wonder about.
    unremarkable: usize,
    entries: usize,
}

impl Scan<'_> {
    fn location(&mut self, path: &Path) {
        let at = in_place(path);
        self.found.anchor = self.anchor(path);
        match fs::metadata(at) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && fs::symlink_metadata(at).is_err() => {
                self.skip(None, path, SkipReason::Missing);
            }
            Err(e) => self.skip(None, path, unreadable(at, &e)),
            Ok(meta) if meta.is_dir() => self.folder(path, &meta, 0, None),
            Ok(meta) => self.candidate(path, &meta, None),
        }
    }

    /// The nearest folder above `path` that exists, watched for what leads to `path`.
    fn anchor(&mut self, path: &Path) -> Option<Anchor> {
        let steps = path.ancestors().zip(path.ancestors().skip(1));
        let (child, folder) = steps.into_iter().find(|(_, above)| in_place(above).is_dir())?;
        let name = child.file_name()?.to_owned();
        let meta = fs::metadata(in_place(folder)).ok()?;
        // A file named outright and its manifest change in place.
        let is_file = child == path && child.is_file();
        let watch = self.watch(|watcher| match is_file {
            true => watcher.watch(in_place(folder)),
            false => watcher.watch_names(in_place(folder)),
        });
        Some(Anchor { folder: folder.to_path_buf(), identity: (meta.dev(), meta.ino()), name, watch })
    }

    fn watch(&mut self, add: impl Fn(&Watcher) -> std::io::Result<i32>) -> Option<i32> {
        match add(self.watcher?) {
            Ok(number) => Some(number),
            Err(error) => {
                self.found.unwatched.get_or_insert_with(|| error.to_string());
                None
            }
        }
    }

    /// Collects the files of a folder and of those below it.
    fn folder(&mut self, path: &Path, meta: &Metadata, depth: usize, parent: Option<usize>) {
        if depth > DEPTH_MAX {
            return self.skip(parent, path, SkipReason::TooDeep);
        }
        let identity = (meta.dev(), meta.ino());
        if let Some(first) = self.entered.get(&identity) {
            let first = shown(&self.found.folders[*first].path);
            return self.skip(parent, path, SkipReason::Duplicate { first });
        }
        let at = in_place(path);
        let watch = self.watch(|watcher| watcher.watch(at));
        let listing = match fs::read_dir(at) {
            Ok(listing) => listing,
            Err(e) => return self.skip(parent, path, unreadable(at, &e)),
        };
        let own = self.found.folders.len();
        self.entered.insert(identity, own);
        self.found.folders.push(Folder { path: path.to_path_buf(), identity, parent, watch });
        let ignore = IgnoreList::of_folder(at);
        let mut names: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in &names {
            (self.step)();
            if self.entries >= ENTRIES_MAX {
                return self.skip(Some(own), path, SkipReason::TooMany);
            }
            self.entries += 1;
            let child = path.join(name);
            if let Some(reason) = excluded_by_name(name.as_bytes(), &ignore) {
                let manifest_of = name.as_bytes().strip_suffix(MANIFEST_SUFFIX.as_bytes());
                let beside = |plugin| names.binary_search_by(|n| n.as_bytes().cmp(plugin)).is_ok();
                // A manifest is where it belongs if its plugin is beside it.
                if name.as_bytes() != super::ignore::FILE_NAME.as_bytes() && !manifest_of.is_some_and(beside)
                {
                    self.skip(Some(own), &child, reason);
                }
                continue;
            }
            self.entry(&child, depth, own);
        }
    }

    fn entry(&mut self, path: &Path, depth: usize, folder: usize) {
        let link = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) => return self.skip(Some(folder), path, unreadable(path, &e)),
        };
        let meta = match if link.is_symlink() { fs::metadata(path) } else { Ok(link.clone()) } {
            Ok(meta) => meta,
            Err(e) => return self.skip(Some(folder), path, unreadable(path, &e)),
        };
        if !meta.is_dir() {
            self.candidate(path, &meta, Some(folder));
        } else if link.is_symlink() {
            self.skip(Some(folder), path, SkipReason::LinkToDirectory);
        } else if self.interpreters.for_path(path).is_some() {
            self.skip(Some(folder), path, SkipReason::DirectoryNamedLikeScript);
        } else {
            self.folder(path, &meta, depth + 1, Some(folder));
        }
    }

    /// Checks the type and content of a file. One named as a location needs no executable bit to be tried.
    fn candidate(&mut self, path: &Path, meta: &Metadata, folder: Option<usize>) {
        let kind = meta.file_type();
        let runs = if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            Err(SkipReason::NotRegular)
        } else if self.interpreters.for_path(path).is_some() {
            Ok(())
        } else if folder.is_some() && !interpreter::is_executable(path) {
            Err(SkipReason::NotAProgram)
        } else {
            match interpreter::format_of(path) {
                Ok(Format::Script(_) | Format::Native) => Ok(()),
                Ok(Format::Plain) => Err(SkipReason::NotAProgram),
                Err(e) => Err(unreadable(path, &e)),
            }
        };
        match runs {
            Ok(()) => {
                let identity = (meta.dev(), meta.ino());
                self.found.candidates.push(Candidate { path: path.to_path_buf(), identity, folder });
            }
            Err(reason) => self.skip(folder, path, reason),
        }
    }

    fn skip(&mut self, folder: Option<usize>, path: &Path, reason: SkipReason) {
        let listed = self.found.skipped.len() - self.unremarkable;
        let full = match reason.is_notable() {
            true => listed >= NOTABLE_MAX,
            false => self.unremarkable >= UNREMARKABLE_MAX,
        };
        // What says that the list ends must be in it.
        if full && !matches!(reason, SkipReason::TooMany) {
            self.found.more += 1;
            return;
        }
        self.unremarkable += usize::from(!reason.is_notable());
        self.found.skipped.push((folder, Skipped { path: shown(path), reason }));
    }
}

/// A path as the file system takes it: the empty one is this folder.
pub(crate) fn in_place(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Whether a change of the file `name` can change what is run, as far as its name tells; `None` where only a
/// look at it does.
pub(crate) fn name_matters(name: &Path, interpreters: &Interpreters) -> Option<bool> {
    let bytes = name.as_os_str().as_bytes();
    if bytes == super::ignore::FILE_NAME.as_bytes() || bytes.ends_with(MANIFEST_SUFFIX.as_bytes()) {
        return Some(true);
    }
    match bytes.first() {
        Some(b'.' | b'_') => Some(false),
        _ if is_backup(bytes) => Some(false),
        _ if interpreters.for_path(name).is_some() => Some(true),
        _ => None,
    }
}

fn excluded_by_name(name: &[u8], ignore: &IgnoreList) -> Option<SkipReason> {
    match name.first() {
        Some(b'.') => Some(SkipReason::Hidden),
        Some(b'_') => Some(SkipReason::Underscore),
        _ if name.ends_with(MANIFEST_SUFFIX.as_bytes()) => Some(SkipReason::NotAProgram),
        _ if is_backup(name) => Some(SkipReason::Backup),
        _ if ignore.matches(name) => Some(SkipReason::Ignored),
        _ => None,
    }
}

/// Such a file has the permissions and the `#!` line of the plugin that it stands beside.
fn is_backup(name: &[u8]) -> bool {
    const ENDS: [&str; 6] = ["~", ".bak", ".orig", ".tmp", ".part", ".swp"];
    ENDS.iter().any(|end| name.ends_with(end.as_bytes()))
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
pub(super) fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|c| *c != Component::CurDir).collect()
}
