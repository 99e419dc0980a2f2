//! Control groups (version 2) for plugins whose manifest asks for limits on everything they start together.
//!
//! Where no group is delegated to the server the plugin runs all the same, and its status says which limits
//! are not in force and why.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::manifest::CgroupLimits;

/// Beginning of the names of groups made here; the process id follows.
const FOLDER_PREFIX: &str = "larder-plugins-";
/// Period of the processor quota in microseconds; the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// Groups of one process, which may have several supervisors.
static FOLDERS: AtomicU64 = AtomicU64::new(0);

/// What a plugin's control group amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CgroupStatus {
    /// The group's folder, if there is one.
    pub path: Option<String>,
    /// The limits that hold.
    pub in_force: CgroupLimits,
    /// Why others do not.
    pub notices: Vec<String>,
}

impl CgroupLimits {
    /// Controller, file and text of each limit.
    fn writes(&self) -> [(&'static str, &'static str, Option<String>); 4] {
        let quota = |percent: u32| format!("{} {CPU_PERIOD_US}", u64::from(percent) * CPU_PERIOD_US / 100);
        [
            ("memory", "memory.max", self.memory_bytes.map(|bytes| bytes.to_string())),
            ("cpu", "cpu.max", self.cpu_percent.map(quota)),
            ("pids", "pids.max", self.pids.map(|count| count.to_string())),
            ("io", "io.weight", self.io_weight.map(|weight| weight.to_string())),
        ]
    }

    fn forget(&mut self, controller: &str) {
        match controller {
            "memory" => self.memory_bytes = None,
            "cpu" => self.cpu_percent = None,
            "io" => self.io_weight = None,
            _ => self.pids = None,
        }
    }
}

/// The groups of one supervisor. Nothing is looked for before the first plugin asks.
#[derive(Debug)]
pub(crate) struct Cgroups {
    root: Option<PathBuf>,
    /// The folder of this supervisor's groups, or why there is none.
    folder: OnceLock<Result<PathBuf, String>>,
}

impl Cgroups {
    /// Groups below `root`, or below the group this process is in.
    pub(crate) fn new(root: Option<PathBuf>) -> Self {
        Self { root, folder: OnceLock::new() }
    }

    /// A group for a run of this number with these limits; `None` if it limits nothing.
    pub(crate) fn group(&self, run: u64, limits: CgroupLimits) -> Option<RunGroup> {
        if limits.is_none() {
            return None;
        }
        let made =
            self.folder.get_or_init(|| self.prepare()).as_ref().map_err(Clone::clone).and_then(|folder| {
                let path = folder.join(run.to_string());
                fs::create_dir(&path).map_err(|e| describe(&path, &e)).map(|()| path)
            });
        let path = match made {
            Ok(path) => path,
            Err(notice) => {
                return Some(RunGroup {
                    path: None,
                    status: CgroupStatus { notices: vec![notice], ..CgroupStatus::default() },
                });
            }
        };
        let mut status = CgroupStatus {
            path: Some(path.display().to_string()),
            in_force: limits,
            ..CgroupStatus::default()
        };
        for (controller, file, text) in limits.writes() {
            let Some(text) = text else { continue };
            if let Err(error) = fs::write(path.join(file), text) {
                status.in_force.forget(controller);
                status
                    .notices
                    .push(format!("no limit on {controller}: {}", describe(&path.join(file), &error)));
            }
        }
        Some(RunGroup { path: Some(path), status })
    }

    fn prepare(&self) -> Result<PathBuf, String> {
        let candidates = match &self.root {
            Some(root) => vec![root.clone()],
            None => own_group()?,
        };
        let mut reason = String::new();
        for parent in candidates {
            match self.prepare_below(&parent) {
                Ok(folder) => return Ok(folder),
                Err(error) => reason = error,
            }
        }
        Err(format!("no control group is delegated to this process: {reason}"))
    }

    fn prepare_below(&self, parent: &Path) -> Result<PathBuf, String> {
        let offered = parent.join("cgroup.controllers");
        let offered = fs::read_to_string(&offered).map_err(|e| describe(&offered, &e))?;
        let offered: Vec<&str> = ["memory", "cpu", "pids", "io"]
            .into_iter()
            .filter(|c| offered.split_whitespace().any(|o| o == *c))
            .collect();
        if offered.is_empty() {
            return Err(format!("`{}` offers none of memory, cpu, pids and io", parent.display()));
        }
        sweep(parent);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("{FOLDER_PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&folder).map_err(|e| describe(&folder, &e))?;
        let mut failed = None;
        for controller in &offered {
            for place in [parent, &folder] {
                let file = place.join("cgroup.subtree_control");
                if let Err(error) = append(&file, &format!("+{controller}")) {
                    failed = Some(describe(&file, &error));
                }
            }
        }
        // Some may work; what does not shows when the limit is set.
        match failed.filter(|_| !has_controllers(&folder)) {
            Some(reason) => {
                _ = fs::remove_dir(&folder);
                Err(reason)
            }
            None => Ok(folder),
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Some(Ok(folder)) = self.folder.get() {
            remove(folder);
        }
    }
}

/// The group of one run; ends with it.
#[derive(Debug)]
pub(crate) struct RunGroup {
    path: Option<PathBuf>,
    status: CgroupStatus,
}

impl RunGroup {
    pub(crate) fn status(&self) -> &CgroupStatus {
        &self.status
    }

    /// The file through which a process joins.
    pub(crate) fn procs(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.join("cgroup.procs"))
    }

    /// Ends every process in the group at once, also those that nothing else connects with the plugin.
    pub(crate) fn kill(&self) {
        if let Some(path) = &self.path {
            // Kernels before 5.14 have no such file; the guardian's signals do without.
            _ = append(&path.join("cgroup.kill"), "1");
        }
    }
}

impl Drop for RunGroup {
    fn drop(&mut self) {
        self.kill();
        if let Some(path) = &self.path {
            // What the kill has not emptied yet is removed with the supervisor, or by the next one.
            _ = fs::remove_dir(path);
        }
    }
}

/// The group this process is in, and before that the one around it, which a service manager may have
/// delegated (`DelegateSubgroup=`).
fn own_group() -> Result<Vec<PathBuf>, String> {
    let file = Path::new("/proc/self/cgroup");
    let groups = fs::read_to_string(file).map_err(|e| describe(file, &e))?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let folder = fields.next()?;
        (fields.next()? == "cgroup2").then_some(folder)
    });
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let (Some(mount), Some(own)) = (mount, own) else {
        return Err("this system has no control groups of version 2, and those of version 1 are not used; `limits`, `nice` and `io_class` do without".to_owned());
    };
    let group = Path::new(mount).join(own);
    let around = group.parent().filter(|_| !own.is_empty()).map(Path::to_path_buf);
    Ok(around.into_iter().chain([group]).collect())
}

/// Whether groups below `folder` have any controller.
fn has_controllers(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.subtree_control")).is_ok_and(|text| !text.trim().is_empty())
}

/// Removes what processes that are gone have left.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|n| n.strip_prefix(FOLDER_PREFIX)).and_then(|n| n.split('-').next());
        let Some(pid) = number.and_then(|n| n.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            remove(&entry.path());
        }
    }
}

/// Removes a folder of groups, as far as they are empty.
fn remove(folder: &Path) {
    for group in fs::read_dir(folder).into_iter().flatten().flatten() {
        _ = fs::remove_dir(group.path());
    }
    _ = fs::remove_dir(folder);
}

/// Control files take one write each.
fn append(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    fs::File::options().append(true).create(true).open(file)?.write_all(text.as_bytes())
}

fn describe(path: &Path, error: &io::Error) -> String {
    format!("`{}`: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CgroupLimits = CgroupLimits {
        memory_bytes: Some(1 << 20),
        cpu_percent: Some(150),
        pids: Some(7),
        io_weight: Some(50),
    };

    fn root(controllers: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), controllers).unwrap();
        root
    }

    #[test]
    fn limits_are_written_and_the_rest_removed() {
        let root = root("cpuset cpu io memory pids\n");
        let dead = root.path().join(format!("{FOLDER_PREFIX}{}-0", u32::MAX));
        fs::create_dir_all(dead.join("3")).unwrap();
        let groups = Cgroups::new(Some(root.path().to_path_buf()));
        assert!(groups.group(1, CgroupLimits::default()).is_none());
        assert!(groups.folder.get().is_none(), "nothing is made for nobody");
        let group = groups.group(2, LIMITS).unwrap();
        assert!(!dead.exists(), "left by a process that is gone");
        assert_eq!((group.status().in_force, group.status().notices.len()), (LIMITS, 0));
        let path = PathBuf::from(group.status().path.clone().unwrap());
        let text = |file: &str| fs::read_to_string(path.join(file)).unwrap();
        assert_eq!(
            [text("memory.max"), text("cpu.max"), text("pids.max"), text("io.weight")],
            ["1048576", "150000 100000", "7", "50"]
        );
        let control = fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(control, "+memory+cpu+pids+io");
        group.kill();
        assert_eq!(text("cgroup.kill"), "1");
        // A control file vanishes with its group; here they are plain files.
        for file in fs::read_dir(&path).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        fs::remove_file(path.with_file_name("cgroup.subtree_control")).unwrap();
        group_is_removed(group, groups, &path);
    }

    fn group_is_removed(mut group: RunGroup, groups: Cgroups, path: &Path) {
        // Without the kill file that a drop would make in a plain folder.
        group.path = None;
        drop(group);
        drop(groups);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }

    #[test]
    fn what_is_not_in_force_is_said() {
        for (root, expected) in [
            (root("cpuset misc"), "offers none of memory, cpu, pids and io"),
            (tempfile::tempdir().unwrap(), "cgroup.controllers"),
        ] {
            let group = Cgroups::new(Some(root.path().to_path_buf())).group(1, LIMITS).unwrap();
            let status = group.status();
            assert!(status.notices[0].contains(expected), "{status:?}");
            assert_eq!((status.path.as_ref(), status.in_force), (None, CgroupLimits::default()));
            assert_eq!(group.procs(), None);
        }
    }

    #[test]
    fn a_limit_that_cannot_be_set_is_named() {
        let root = root("memory pids");
        let groups = Cgroups::new(Some(root.path().to_path_buf()));
        groups.group(1, LIMITS).unwrap();
        let folder = groups.folder.get().unwrap().clone().unwrap();
        // A folder where the control file would be.
        fs::create_dir(folder.join("2")).unwrap_or_default();
        let group = groups.group(2, LIMITS).unwrap();
        assert!(group.status().notices[0].contains("File exists"), "{:?}", group.status());
    }

    #[test]
    fn this_system_has_an_answer() {
        let group = Cgroups::new(None).group(1, LIMITS).unwrap();
        let status = group.status();
        assert_eq!(status.in_force == LIMITS, status.notices.is_empty(), "{status:?}");
    }
}
