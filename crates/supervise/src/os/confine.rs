//! Applies a [`Confinement`] to the process that is about to become a plugin.
//!
//! What can fail or allocate is done in the guardian before the fork; afterwards only system calls are left.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr,
};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit, umask};

use super::raw;
use crate::manifest::{Account, Confinement, IoClass, Limits};

/// Newest Landlock interface this code knows; older kernels enforce what they can.
const LANDLOCK: ABI = ABI::V5;

/// A step on the way to a confined process that failed.
#[derive(Debug)]
pub(super) struct StepError {
    /// Which; empty for running the program itself.
    pub(super) step: String,
    pub(super) source: io::Error,
}

/// The step that failed in the new process, as far as it was a step of its confinement.
pub(super) struct FailedStep(OwnedFd);

impl FailedStep {
    /// To be asked after a failed start.
    pub(super) fn name(&self) -> String {
        let mut name = [0; 64];
        let length = rustix::io::read(&self.0, &mut name).unwrap_or(0);
        String::from_utf8_lossy(&name[..length]).into_owned()
    }
}

/// A confinement whose names are resolved and whose files are open.
pub(super) struct PreparedConfinement {
    /// Takes the name of the step that fails.
    failed_step: OwnedFd,
    umask: Option<Mode>,
    nice: Option<i32>,
    io: Option<(i32, u8)>,
    no_new_privs: bool,
    limits: Vec<(Resource, u64)>,
    cgroup: Option<File>,
    /// Taken by the first, and only, process that applies it.
    files: Mutex<Option<RulesetCreated>>,
}

impl PreparedConfinement {
    /// Resolves names, opens paths, and has `command` change user and group.
    pub(super) fn new(
        confinement: &Confinement,
        command: &mut Command,
    ) -> Result<(Self, FailedStep), StepError> {
        let at = |step: String| move |source| StepError { step, source };
        if let Some(user) = &confinement.user {
            let (uid, gid) = user_named(user).map_err(at(format!("user `{user}`")))?;
            command.uid(uid).gid(gid);
        }
        if let Some(group) = &confinement.group {
            command.gid(group_named(group).map_err(at(format!("group `{group}`")))?);
        }
        let files = if confinement.restricts_files() { Some(ruleset(confinement)?) } else { None };
        let join = |path: &PathBuf| {
            let opened = File::options().append(true).create(true).open(path);
            opened.map_err(at(format!("control group `{}`", path.display())))
        };
        let cgroup = confinement.cgroup_procs.as_ref().map(join).transpose()?;
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (reading, failed_step) = pipe_with(flags).map_err(|e| at("a pipe".to_owned())(e.into()))?;
        let prepared = Self {
            failed_step,
            umask: confinement.umask.map(Mode::from_raw_mode),
            nice: confinement.nice,
            io: io_priority(confinement),
            no_new_privs: confinement.no_new_privs || files.is_some(),
            limits: limits(&confinement.limits),
            cgroup,
            files: Mutex::new(files),
        };
        Ok((prepared, FailedStep(reading)))
    }

    /// To be called in the new process.
    pub(super) fn apply(&self) -> io::Result<()> {
        if let Some(procs) = &self.cgroup {
            // Zero is whoever writes it.
            self.step("joining its control group", rustix::io::write(procs, b"0"))?;
        }
        if let Some(mask) = self.umask {
            umask(mask);
        }
        if let Some(nice) = self.nice {
            self.step("`nice`", setpriority_process(None, nice))?;
        }
        if let Some((class, priority)) = self.io {
            self.step("`io_class`", raw::set_io_priority(class, priority))?;
        }
        for (resource, value) in &self.limits {
            let limit = Rlimit { current: Some(*value), maximum: Some(*value) };
            self.step("`limits`", setrlimit(*resource, limit))?;
        }
        if self.no_new_privs {
            self.step("`no_new_privs`", rustix::thread::set_no_new_privs(true))?;
        }
        let files = self.files.try_lock().ok().and_then(|mut slot| slot.take());
        if let Some(files) = files {
            let restricted = files.restrict_self().map_err(|_| rustix::io::Errno::ACCESS);
            self.step("`read_paths` and `write_paths`", restricted)?;
        }
        Ok(())
    }

    /// Only system calls, as everything after the fork.
    fn step<T>(&self, name: &str, done: rustix::io::Result<T>) -> io::Result<T> {
        done.map_err(|errno| {
            // Who waits is told the reason without the step, if need be.
            _ = rustix::io::write(&self.failed_step, name.as_bytes());
            errno.into()
        })
    }
}

impl Confinement {
    /// What of it cannot be had on this machine, whoever starts the plugin: users, groups and paths that do
    /// not exist. Reads files.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(user) = &self.user
            && let Err(error) = user_named(user)
        {
            found.push(format!("user `{user}`: {error}"));
        }
        if let Some(group) = &self.group
            && let Err(error) = group_named(group)
        {
            found.push(format!("group `{group}`: {error}"));
        }
        for (key, paths) in [("read_paths", &self.read_paths), ("write_paths", &self.write_paths)] {
            for path in paths.iter().flatten() {
                if let Err(error) = path.metadata() {
                    found.push(format!("`{}` in `{key}`: {error}", path.display()));
                }
            }
        }
        found
    }

    /// The account it becomes, if it is another one than this. Reads files.
    pub(crate) fn account(&self) -> Option<Account> {
        // A name that does not exist is found again, and told, by the launch.
        let (user, own_group) = user_named(self.user.as_deref()?).ok()?;
        let group = self.group.as_deref().and_then(|group| group_named(group).ok()).unwrap_or(own_group);
        Some(Account { user, group }).filter(|_| user != rustix::process::geteuid().as_raw())
    }
}

/// Whether this kernel can restrict files at all.
pub(crate) fn has_landlock() -> bool {
    raw::landlock_version() > 0
}

/// Class and place in the numbers of the kernel; a place alone is one among the usual.
fn io_priority(confinement: &Confinement) -> Option<(i32, u8)> {
    let Confinement { io_class, io_priority, .. } = confinement;
    let class = match (io_class, io_priority) {
        (None, None) => return None,
        (Some(IoClass::Realtime), _) => 1,
        (Some(IoClass::BestEffort) | None, _) => 2,
        (Some(IoClass::Idle), _) => 3,
    };
    Some((class, io_priority.unwrap_or(4)))
}

fn limits(limits: &Limits) -> Vec<(Resource, u64)> {
    let all = [
        (Resource::Nofile, limits.open_files),
        (Resource::As, limits.memory_bytes),
        (Resource::Nproc, limits.processes),
        (Resource::Fsize, limits.file_size_bytes),
        (Resource::Cpu, limits.cpu_s),
        (Resource::Core, limits.core_bytes),
    ];
    all.into_iter().filter_map(|(resource, value)| Some((resource, value?))).collect()
}

fn ruleset(confinement: &Confinement) -> Result<RulesetCreated, StepError> {
    let failed = |e: landlock::RulesetError| StepError {
        step: format!("`read_paths` and `write_paths` ({e})"),
        source: rustix::io::Errno::NOTSUP.into(),
    };
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .map_err(failed)?
        .create()
        .map_err(failed)?;
    let read = AccessFs::from_read(LANDLOCK);
    let all = AccessFs::from_all(LANDLOCK);
    let granted =
        [("read_paths", &confinement.read_paths, read), ("write_paths", &confinement.write_paths, all)];
    for (key, paths, access) in granted {
        for path in paths.iter().flatten() {
            let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let fd = opened.map_err(|errno| StepError {
                step: format!("`{}` in `{key}`", path.display()),
                source: errno.into(),
            })?;
            rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(failed)?;
        }
    }
    Ok(rules)
}

/// A user and its group, by name or number.
fn user_named(user: &str) -> io::Result<(u32, u32)> {
    lookup("/etc/passwd", user, true)
}

fn group_named(group: &str) -> io::Result<u32> {
    Ok(lookup("/etc/group", group, false)?.0)
}

/// The third and fourth field of the line for `name` in a file like `/etc/passwd`; a number needs no line.
fn lookup(file: &str, name: &str, with_group: bool) -> io::Result<(u32, u32)> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("not in `{file}`"));
    let text = std::fs::read_to_string(file)?;
    let matching = |line: &&str| {
        let mut fields = line.split(':');
        fields.next() == Some(name) || fields.nth(1) == Some(name)
    };
    if let Some(line) = text.lines().find(matching) {
        let mut numbers = line.split(':').skip(2).map(|field| field.parse().ok());
        let first = numbers.next().flatten();
        let second = if with_group { numbers.next().flatten() } else { Some(0) };
        return first.zip(second).ok_or_else(unknown);
    }
    name.parse().map(|number| (number, number)).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_by_name_and_number() {
        assert_eq!(lookup("/etc/passwd", "root", true).unwrap(), (0, 0));
        assert_eq!(lookup("/etc/passwd", "0", true).unwrap(), (0, 0));
        assert_eq!(lookup("/etc/passwd", "54321", true).unwrap(), (54321, 54321));
        assert!(lookup("/etc/passwd", "no such user", true).is_err());
    }
}
