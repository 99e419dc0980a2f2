//! What a plugin's process may use: privileges, resources, files. Applied by the guardian between `fork` and
//! `exec`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Numbers of a user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// How a plugin's reading and writing comes to its turn, as `ionice` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoClass {
    /// Before all others. Needs a privileged server.
    Realtime,
    /// By its priority.
    BestEffort,
    /// When nobody else wants the disk.
    Idle,
}

/// Restrictions on one plugin; the default restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// User to become, by name or number. Needs a privileged server.
    pub user: Option<String>,
    /// Group to become; with a user, that user's own where left out.
    pub group: Option<String>,
    /// Permission bits that files it makes do not get.
    pub umask: Option<u32>,
    /// Scheduling priority, -20 to 19.
    pub nice: Option<i32>,
    /// How its reading and writing comes to its turn.
    pub io_class: Option<IoClass>,
    /// Its place within the class, 0 (first) to 7.
    pub io_priority: Option<u8>,
    /// Whether it and its children can never gain privileges.
    pub no_new_privs: bool,
    /// Files and folders it can read and execute; all where neither list is given. Enforced with Landlock.
    pub read_paths: Option<Vec<PathBuf>>,
    /// Files and folders it can change.
    pub write_paths: Option<Vec<PathBuf>>,
    /// Kernel limits.
    pub limits: Limits,
    /// Limits on everything it starts together, where the server has a control group of its own.
    pub cgroup: CgroupLimits,
    /// The `cgroup.procs` file of its group, once there is one.
    pub cgroup_procs: Option<PathBuf>,
}

/// Kernel limits, soft and hard at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Descriptors open at once.
    pub open_files: Option<u64>,
    /// Bytes of address space of one process.
    pub memory_bytes: Option<u64>,
    /// Processes of the user.
    pub processes: Option<u64>,
    /// Bytes of one written file.
    pub file_size_bytes: Option<u64>,
    /// Seconds of CPU time of one process.
    pub cpu_s: Option<u64>,
    /// Bytes of a core dump.
    pub core_bytes: Option<u64>,
}

impl Limits {
    /// These limits, and those of `other` where these are silent.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            open_files: self.open_files.or(other.open_files),
            memory_bytes: self.memory_bytes.or(other.memory_bytes),
            processes: self.processes.or(other.processes),
            file_size_bytes: self.file_size_bytes.or(other.file_size_bytes),
            cpu_s: self.cpu_s.or(other.cpu_s),
            core_bytes: self.core_bytes.or(other.core_bytes),
        }
    }
}

impl Confinement {
    /// Whether it restricts nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether file access is restricted.
    #[must_use]
    pub fn restricts_files(&self) -> bool {
        self.read_paths.is_some() || self.write_paths.is_some()
    }
}

/// Limits on a plugin and everything it starts, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CgroupLimits {
    /// Bytes of memory; beyond them the kernel ends processes of the group.
    pub memory_bytes: Option<u64>,
    /// Processor time, in hundredths of one processor.
    pub cpu_percent: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of the disks' time beside other groups, 1 to 10000; 100 is usual.
    pub io_weight: Option<u32>,
}

impl CgroupLimits {
    /// Whether it limits nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// These limits, and those of `other` where these are silent.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.or(other.memory_bytes),
            cpu_percent: self.cpu_percent.or(other.cpu_percent),
            pids: self.pids.or(other.pids),
            io_weight: self.io_weight.or(other.io_weight),
        }
    }
}
