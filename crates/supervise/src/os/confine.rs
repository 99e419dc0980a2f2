//! Applies a [`Confinement`] to the process that is about to become a plugin.
//!
//! What can fail or allocate is done in the guardian before the fork; afterwards only system calls are left.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr,
};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit, umask};

use crate::confinement::{Confinement, Limits};

/// Newest Landlock interface this code knows; older kernels enforce what they can.
const LANDLOCK: ABI = ABI::V5;

/// A confinement whose names are resolved and whose files are open.
pub(super) struct Prepared {
    umask: Option<Mode>,
    nice: Option<i32>,
    no_new_privs: bool,
    limits: Vec<(Resource, u64)>,
    cgroup: Option<File>,
    /// Taken by the first, and only, process that applies it.
    files: Mutex<Option<RulesetCreated>>,
}

impl Prepared {
    /// Resolves names, opens paths, and has `command` change user and group.
    pub(super) fn new(confinement: &Confinement, command: &mut Command) -> io::Result<Self> {
        if let Some(user) = &confinement.user {
            let (uid, gid) = lookup("/etc/passwd", user, true)?;
            command.uid(uid).gid(gid);
        }
        if let Some(group) = &confinement.group {
            command.gid(lookup("/etc/group", group, false)?.0);
        }
        let files = if confinement.restricts_files() { Some(ruleset(confinement)?) } else { None };
        let join = |path| File::options().append(true).create(true).open(path);
        let cgroup = confinement.cgroup_procs.as_ref().map(join).transpose()?;
        Ok(Self {
            umask: confinement.umask.map(Mode::from_raw_mode),
            nice: confinement.nice,
            no_new_privs: confinement.no_new_privs || files.is_some(),
            limits: limits(&confinement.limits),
            cgroup,
            files: Mutex::new(files),
        })
    }

    /// To be called in the new process.
    pub(super) fn apply(&self) -> io::Result<()> {
        if let Some(procs) = &self.cgroup {
            // Zero is whoever writes it.
            rustix::io::write(procs, b"0")?;
        }
        if let Some(mask) = self.umask {
            umask(mask);
        }
        if let Some(nice) = self.nice {
            setpriority_process(None, nice)?;
        }
        for (resource, value) in &self.limits {
            setrlimit(*resource, Rlimit { current: Some(*value), maximum: Some(*value) })?;
        }
        if self.no_new_privs {
            rustix::thread::set_no_new_privs(true)?;
        }
        let files = self.files.try_lock().ok().and_then(|mut slot| slot.take());
        if let Some(files) = files {
            files.restrict_self().map_err(|_| io::Error::from(io::ErrorKind::PermissionDenied))?;
        }
        Ok(())
    }
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

fn ruleset(confinement: &Confinement) -> io::Result<RulesetCreated> {
    let failed = |e: landlock::RulesetError| io::Error::other(e.to_string());
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .map_err(failed)?
        .create()
        .map_err(failed)?;
    let read = AccessFs::from_read(LANDLOCK);
    let granted = [(&confinement.read_paths, read), (&confinement.write_paths, AccessFs::from_all(LANDLOCK))];
    for (paths, access) in granted {
        for path in paths.iter().flatten() {
            let fd = PathFd::new(path).map_err(|e| io::Error::other(e.to_string()))?;
            rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(failed)?;
        }
    }
    Ok(rules)
}

/// The third and fourth field of the line for `name` in a file like `/etc/passwd`; a number needs no line.
fn lookup(file: &str, name: &str, with_group: bool) -> io::Result<(u32, u32)> {
    let text = std::fs::read_to_string(file)?;
    let matching = |line: &&str| {
        let mut fields = line.split(':');
        fields.next() == Some(name) || fields.nth(1) == Some(name)
    };
    if let Some(line) = text.lines().find(matching) {
        let mut numbers = line.split(':').skip(2).map(|field| field.parse().ok());
        let first = numbers.next().flatten();
        let second = if with_group { numbers.next().flatten() } else { Some(0) };
        return first.zip(second).ok_or_else(|| io::ErrorKind::InvalidData.into());
    }
    match name.parse() {
        Ok(number) => Ok((number, number)),
        Err(_) => Err(io::ErrorKind::NotFound.into()),
    }
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
