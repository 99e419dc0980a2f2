//! The process table as `/proc` shows it: who descends from whom.

use std::collections::{HashMap, HashSet};
use std::fs;

/// One row of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// All processes that can be seen. Not a snapshot: the table changes while it is read.
pub fn process_table() -> Vec<Process> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    listing
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| parse_stat(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// The children of a process, by its threads' own lists. `None` where the kernel does not keep them.
///
/// For the calling process the list is exact, since nobody else can collect its children; for others it is a moment's view.
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
        found.extend(fs::read(format!("/proc/{pid}/stat")).ok().and_then(|stat| parse_stat(pid, &stat)));
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
pub fn marked(pid: i32, mark: &[u8]) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|text| text.split(|b| *b == 0).any(|entry| entry.starts_with(mark)))
}

/// Fields 3 to 6 of `/proc/<pid>/stat`; the second is in brackets and may contain anything.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|b| *b == b')')?;
    let mut fields = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let mut number = || fields.next()?.parse().ok();
    Some(Process { pid, parent: number()?, group: number()?, session: number()?, zombie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_contain_anything() {
        let row = parse_stat(7, b"7 (a) R 1 (b) S 3 4 5 0 -1").unwrap();
        assert_eq!(row, Process { pid: 7, parent: 3, group: 4, session: 5, zombie: false });
        assert!(parse_stat(7, b"7 (x) Z 3 4 5").unwrap().zombie);
        assert_eq!(parse_stat(7, b"7 (x"), None);
        assert_eq!(parse_stat(7, b"7 (x) S 3"), None);
    }

    #[test]
    fn descent_is_transitive_and_survives_loops() {
        let row = |pid, parent| Process { pid, parent, group: 0, session: 0, zombie: false };
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
