//! The process table as `/proc` shows it: who descends from whom.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Variable that marks every process of a run, so that daemons which cut all ties are found.
pub(super) const MARK_NAME: &str = "LARDER_PLUGIN_RUN";
/// Name of a warden's process, by which it is told from what it watches over.
pub(super) const WARDEN_NAME: &str = "larder-warden";

/// One row of the process table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// Whether it has ended and waits to be collected.
    pub zombie: bool,
    /// When it started, in ticks since the machine did.
    pub started: u64,
    /// Processor time of its own and of children that it has collected, in ticks.
    pub cpu_ticks: u64,
    /// Pages of memory that it holds.
    pub resident_pages: u64,
}

impl Process {
    /// What no two processes have in common.
    pub(super) fn identity(&self) -> (i32, u64) {
        (self.pid, self.started)
    }
}

/// All processes that can be seen. Not a snapshot: the table changes while it is read.
pub fn process_table() -> Vec<Process> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    listing
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(row)
        .collect()
}

/// The children of a process, by its threads' own lists. `None` where the kernel does not keep them.
///
/// For the calling process the list is exact, since nobody else can collect its children; for others it is a
/// moment's view.
pub(super) fn children(pid: i32) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let list = fs::read_to_string(thread.ok()?.path().join("children")).ok()?;
        found.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Some(found)
}

/// `root` and everything below it, by lists of children: cheap where the tree is small.
pub(super) fn tree(root: i32) -> Vec<Process> {
    if children(root).is_none() {
        // It is gone, or the kernel keeps no lists.
        let table = process_table();
        let own = table.iter().filter(|p| p.pid == root).copied();
        return own.chain(descendants(&table, root)).collect();
    }
    let mut found = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        found.extend(row(pid));
        open.extend(children(pid).unwrap_or_default().into_iter().filter(|child| seen.insert(*child)));
    }
    found
}

/// The processes of `table` below `root`, in no order, `root` left out.
pub fn descendants(table: &[Process], root: i32) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in table {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut found = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).map(Vec::as_slice).unwrap_or_default() {
            if seen.insert(child.pid) {
                found.push(*child);
                open.push(child.pid);
            }
        }
    }
    found
}

/// Whether the environment a process was started with holds a string that begins with `mark`.
#[must_use]
pub fn has_mark(pid: i32, mark: &[u8]) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|text| text.split(|b| *b == 0).any(|entry| entry.starts_with(mark)))
}

/// Whether the process keeps a run together, and is no part of it. Plugins may take its name: to be asked
/// only of who is a guardian's child or a plugin's parent.
pub(crate) fn is_warden(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == WARDEN_NAME)
}

/// Sends a signal to a process, unless it is gone: its id may have passed to another one since it was seen.
pub(super) fn signal_process(process: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    // The descriptor pins whoever has the id now; if that started at the same time, it is the one that was
    // seen.
    let Ok(pinned) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if row(process.pid).is_some_and(|now| now.identity() == process.identity()) {
        _ = pidfd_send_signal(pinned, signal);
    }
}

fn row(pid: i32) -> Option<Process> {
    parse_stat(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 3 to 6, 14 to 17 (time of its own and of children), 22 and 24 of `/proc/<pid>/stat`; the second is
/// in brackets and may contain anything.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|b| *b == b')')?;
    let mut fields = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let mut number = || fields.next()?.parse().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    let fields: Vec<u64> = fields.skip(7).map(|field| field.parse().unwrap_or_default()).collect();
    let cpu_ticks = fields.get(..4)?.iter().sum();
    let (started, resident_pages) = (*fields.get(8)?, fields.get(10).copied().unwrap_or_default());
    Some(Process { pid, parent, group, session, zombie, started, cpu_ticks, resident_pages })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_contain_anything() {
        let row = parse_stat(7, b"7 (a) R 1 (b) S 3 4 5 0 -1 7 8 9 10 11 12 13 14 15 16 17 18 0 4711 23 9")
            .unwrap();
        let expected = Process {
            pid: 7,
            parent: 3,
            group: 4,
            session: 5,
            zombie: false,
            started: 4711,
            cpu_ticks: 12 + 13 + 14 + 15,
            resident_pages: 9,
        };
        assert_eq!(row, expected);
        let stat = b"7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1 0 99 1000 55 18446744073709551615";
        let row = parse_stat(7, stat).unwrap();
        assert_eq!((row.cpu_ticks, row.started, row.resident_pages), (127, 99, 55));
        let zombie = b"7 (x) Z 3 4 5 0 -1 7 8 9 10 11 12 13 14 15 16 17 18 19 0 1";
        assert!(parse_stat(7, zombie).unwrap().zombie);
        assert_eq!(parse_stat(7, b"7 (x"), None);
        assert_eq!(parse_stat(7, b"7 (x) S 3"), None);
    }

    #[test]
    fn whoever_has_got_the_id_of_a_process_since_gets_no_signal_for_it() {
        let mut sleeper = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let now = super::row(sleeper.id() as i32).unwrap();
        signal_process(&Process { started: now.started - 1, ..now }, Signal::KILL);
        signal_process(&now, Signal::TERM);
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(sleeper.wait().unwrap().signal(), Some(15), "not killed");
    }

    #[test]
    fn descent_is_transitive_and_survives_loops() {
        let row = |pid, parent| Process { pid, parent, ..Process::default() };
        let table = [row(2, 1), row(3, 2), row(4, 3), row(5, 1), row(6, 7), row(7, 6)];
        let mut pids: Vec<_> = descendants(&table, 2).into_iter().map(|p| p.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [3, 4]);
        assert_eq!(descendants(&table, 6).len(), 1);
    }

    #[test]
    fn both_ways_of_looking_agree() {
        let mut shell =
            std::process::Command::new("sh").args(["-c", "sleep 100 & sleep 100 & wait"]).spawn().unwrap();
        let pid = shell.id() as i32;
        let pids = |list: Vec<Process>| list.into_iter().map(|p| p.pid).collect::<HashSet<_>>();
        while descendants(&process_table(), pid).len() < 2 {
            std::thread::yield_now();
        }
        let below = descendants(&process_table(), pid);
        let mut expected = pids(below.clone());
        expected.insert(pid);
        assert_eq!(pids(tree(pid)), expected);
        assert!(children(std::process::id() as i32).unwrap().contains(&pid));
        assert_eq!(children(i32::MAX), None);
        for process in below {
            let pid = rustix::process::Pid::from_raw(process.pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
    }

    #[test]
    fn this_process_is_in_the_table() {
        let me = std::process::id() as i32;
        let parent = std::os::unix::process::parent_id() as i32;
        assert!(process_table().iter().any(|p| p.pid == me && p.parent == parent && !p.zombie));
    }
}
