//! Which files of the configured locations are plugins, in the order they start, and why the others are not.
//!
//! Puts together what the locations hold. Order: locations as given; inside one, the extensions of the
//! interpreter table (`.py` before `.sh`, as the peer does) before other programs, then by path.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::eligibility::{self, Host};
use super::interpreter::Interpreters;
use super::skipped::{SkipReason, Skipped};
use super::survey::{Candidate, Identity, Survey, survey};
use crate::text::shown;

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

/// Scans `locations` for plugins that run beside `host`. Blocks for as long as the file system does.
#[must_use]
pub fn discover(locations: &[PathBuf], host: &Host, interpreters: &Interpreters) -> Discovery {
    let surveys: Vec<_> =
        locations.iter().map(|location| survey(location, interpreters, None, &|| {})).collect();
    merge(surveys.iter(), host)
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

#[cfg(test)]
mod tests;
