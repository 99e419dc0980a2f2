//! Which files of the configured locations are plugins, in the order they start, and why the others are not.
//!
//! Owns the walk and its limits. Looks at names, types and first bytes; runs nothing. Order: locations as
//! given; inside one, the extensions of the interpreter table (`.py` before `.sh`, as the peer does) before
//! other programs, then by path.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use super::eligibility::{Host, Ineligible};
use super::ignore::IgnoreList;
use super::interpreter::{Format, Interpreters};
use super::{eligibility, interpreter};
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
/// Plugins that one scan yields.
pub(crate) const PLUGINS_MAX: usize = 1_024;

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Files to run, in start order.
    pub plugins: Vec<PathBuf>,
    /// Index of the location of each.
    pub(crate) location_of: Vec<usize>,
    /// Files and locations passed over, each with its reason, in the order met.
    pub skipped: Vec<Skipped>,
}

/// A path that is not run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Skipped {
    /// The path, escaped for display.
    pub path: String,
    /// Why it is not run.
    pub reason: SkipReason,
}

/// Why a path is not run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
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
    /// The name ends as editors and downloads name what is not the file itself: `~`, `.bak`, `.orig`, `.tmp`,
    /// `.part`, `.swp`.
    #[error("a backup or a file in the making")]
    Backup,
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
    /// The location gave no answer in time; what is known of it is what it was before.
    #[error("location does not answer")]
    Unanswering,
    /// [`NOTABLE_MAX`] or [`UNREMARKABLE_MAX`] was reached; stands for those that are not listed.
    #[error("and {count} more that are not run")]
    More {
        /// How many.
        count: usize,
    },
}

impl SkipReason {
    /// Whether an operator would have expected the file to run, so that the log should mention it.
    #[must_use]
    pub fn is_notable(&self) -> bool {
        !matches!(self, Self::NotAProgram | Self::Hidden | Self::Backup | Self::More { .. })
    }
}

/// Scans `locations` for plugins that run beside `host`. Blocks for as long as the file system does.
#[must_use]
pub fn discover(locations: &[PathBuf], host: &Host, interpreters: &Interpreters) -> Discovery {
    let surveys: Vec<_> =
        locations.iter().map(|location| survey(location, interpreters, None, &|| {})).collect();
    merge(surveys.iter(), host)
}

/// Device and inode.
pub(crate) type Identity = (u64, u64);

/// What one location holds, whoever runs it and whatever other locations hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    pub(crate) folders: Vec<Folder>,
    /// In start order.
    candidates: Vec<Candidate>,
    skipped: Vec<(Option<usize>, Skipped)>,
    /// Skips that are not listed.
    more: usize,
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
    parent: Option<usize>,
    /// Number of the watch on it.
    pub(crate) watch: Option<i32>,
}

/// A file that can be run.
#[derive(Clone, Debug)]
struct Candidate {
    path: PathBuf,
    identity: Identity,
    /// Index of its folder; a file named as a location has none.
    folder: Option<usize>,
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

/// What of all surveys is run beside `host`: no file twice, whatever path leads to it.
pub(crate) fn merge<'a>(surveys: impl Iterator<Item = &'a Survey>, host: &Host) -> Discovery {
    let mut merger = Merger { host, found: Discovery::default(), seen: HashMap::new() };
    for (index, survey) in surveys.enumerate() {
        merger.take(index, survey);
    }
    merger.found
}

struct Merger<'a> {
    host: &'a Host,
    found: Discovery,
    /// Every file and folder taken, with the path it was taken under.
    seen: HashMap<Identity, PathBuf>,
}

impl Merger<'_> {
    fn take(&mut self, location: usize, survey: &Survey) {
        // A folder that an earlier location has brought counts once, with all below it.
        let mut known = vec![false; survey.folders.len()];
        for (index, folder) in survey.folders.iter().enumerate() {
            let below_known = folder.parent.is_some_and(|parent| known[parent]);
            if let Some(first) = self.seen.get(&folder.identity).filter(|_| !below_known) {
                let first = shown(first);
                self.skip(&folder.path, SkipReason::Duplicate { first });
                known[index] = true;
            } else if below_known {
                known[index] = true;
            } else {
                self.seen.insert(folder.identity, folder.path.clone());
            }
        }
        let counts = |folder: Option<usize>| folder.is_none_or(|index| !known[index]);
        let skipped = survey.skipped.iter().filter(|(folder, _)| counts(*folder));
        self.found.skipped.extend(skipped.map(|(_, skipped)| skipped.clone()));
        if survey.more > 0
            && counts(survey.folders.first().map(|_| 0))
            && let Some(folder) = survey.folders.first()
        {
            self.skip(&folder.path, SkipReason::More { count: survey.more });
        }
        for candidate in survey.candidates.iter().filter(|candidate| counts(candidate.folder)) {
            self.accept(location, candidate);
        }
    }

    /// Takes a file unless its name, its identity or the limit speaks against it.
    fn accept(&mut self, location: usize, Candidate { path, identity, .. }: &Candidate) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if let Err(requires) = eligibility::eligible(&stem, self.host) {
            return self.skip(path, SkipReason::Name { requires });
        }
        if let Some(first) = self.seen.get(identity) {
            let first = shown(first);
            return self.skip(path, SkipReason::Duplicate { first });
        }
        if self.found.plugins.len() >= PLUGINS_MAX {
            return self.skip(path, SkipReason::TooMany);
        }
        self.seen.insert(*identity, path.clone());
        self.found.plugins.push(path.clone());
        self.found.location_of.push(location);
    }

    fn skip(&mut self, path: &Path, reason: SkipReason) {
        self.found.skipped.push(Skipped { path: shown(path), reason });
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
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|c| *c != Component::CurDir).collect()
}

#[cfg(test)]
mod tests;
