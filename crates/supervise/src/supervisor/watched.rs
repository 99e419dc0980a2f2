//! What is watched of the locations, and whom a change concerns.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::discover::{Interpreters, Survey, survey};
use crate::manifest::MANIFEST_SUFFIX;
use crate::os::{Change, Watcher};

/// What is watched, by the number of the watch.
#[derive(Debug, Default)]
pub(super) struct Watched {
    roles: HashMap<i32, Vec<Role>>,
    plugins: HashSet<PathBuf>,
}

/// Why a folder is watched.
#[derive(Debug)]
enum Role {
    /// Plugins are in it: the folder, and the index of the location.
    Holds(PathBuf, usize),
    /// A location is or would be in it, under this name.
    Leads(OsString),
}

/// What a change means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Concern {
    Nobody,
    Plugins,
    /// Only a look at the file of this location tells.
    Perhaps(usize, PathBuf),
}

impl Watched {
    pub(super) fn of(surveys: &[Arc<Survey>], plugins: &[PathBuf]) -> Self {
        let mut watched = Self { roles: HashMap::new(), plugins: plugins.iter().cloned().collect() };
        let mut add = |watch: Option<i32>, role: Role| {
            if let Some(watch) = watch {
                watched.roles.entry(watch).or_default().push(role);
            }
        };
        for (index, survey) in surveys.iter().enumerate() {
            for folder in &survey.folders {
                add(folder.watch, Role::Holds(folder.path.clone(), index));
            }
            if let Some(anchor) = &survey.anchor {
                add(anchor.watch, Role::Leads(anchor.name.clone()));
            }
        }
        watched
    }

    /// Watches no longer what is not in `next` either.
    pub(super) fn forget_but(&self, next: &Self, watcher: &Watcher) {
        for watch in self.roles.keys().filter(|watch| !next.roles.contains_key(watch)) {
            watcher.forget(*watch);
        }
    }

    /// Whom a change concerns, as far as the name of what changed tells.
    pub(super) fn concern(&self, change: &Change, interpreters: &Interpreters) -> Concern {
        let Change::Entry { watch, name, is_folder } = change else { return Concern::Plugins };
        let mut concern = Concern::Nobody;
        // The last changes of a folder that is no longer watched find no role.
        for role in self.roles.get(watch).into_iter().flatten() {
            match role {
                Role::Leads(wanted) if name.as_os_str() == wanted => return Concern::Plugins,
                Role::Leads(wanted) => {
                    let mut manifest = wanted.clone();
                    manifest.push(MANIFEST_SUFFIX);
                    if name.as_os_str() == manifest {
                        return Concern::Plugins;
                    }
                }
                Role::Holds(folder, location) => {
                    let path = folder.join(name);
                    match survey::name_matters(name, interpreters) {
                        Some(false) => {}
                        None if !is_folder && !self.plugins.contains(&path) => {
                            concern = Concern::Perhaps(*location, path);
                        }
                        _ => return Concern::Plugins,
                    }
                }
            }
        }
        concern
    }
}
