//! What plugins use: processor time, memory, processes, summed over everything a plugin has started.

use std::collections::{HashMap, HashSet};
use std::fs;

use serde::Serialize;

use crate::os::{MARK_NAME, Process, descendants, marked, process_table};

/// Use of one plugin at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Seconds of processor time of its processes, and of those of their children that have ended.
    pub cpu_s: f64,
    /// Bytes of memory its processes hold; shared pages count for each.
    pub resident_bytes: u64,
    /// Its processes.
    pub processes: u64,
}

/// The use of each of `leaders` with all that it has started, from one pass over the process table.
pub(crate) fn usage(leaders: &[u32]) -> HashMap<u32, Usage> {
    let table = process_table();
    let strays = strays(leaders, &table);
    let sum = |leader: u32| {
        let root = leader.cast_signed();
        let roots = strays.iter().filter(|(_, owner)| *owner == root).map(|(stray, _)| *stray).chain([root]);
        let tree = |root: i32| {
            let own: Vec<_> = table.iter().filter(|p| p.pid == root).copied().collect();
            own.into_iter().chain(descendants(&table, root))
        };
        let all: Vec<Process> = roots.flat_map(tree).filter(|p| !p.zombie).collect();
        let mut total = Usage { processes: all.len() as u64, ..Usage::default() };
        for stat in all.iter().filter_map(|p| fs::read_to_string(format!("/proc/{}/stat", p.pid)).ok()) {
            let (ticks, pages) = ticks_and_pages(&stat).unwrap_or_default();
            total.cpu_s += ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
            total.resident_bytes += pages * rustix::param::page_size() as u64;
        }
        total
    };
    leaders.iter().map(|leader| (*leader, sum(*leader))).collect()
}

/// Processes that have left their leader, by fork and exit, each with that leader: they are where the leaders are, below the guardian.
fn strays(leaders: &[u32], table: &[Process]) -> Vec<(i32, i32)> {
    let is_leader = |pid: i32| leaders.contains(&pid.cast_unsigned());
    let above: HashSet<i32> = table.iter().filter(|p| is_leader(p.pid)).map(|p| p.parent).collect();
    let mut marks: Option<Vec<(i32, Vec<u8>)>> = None;
    let mut owner = |stray: &Process| {
        let tied = [stray.group, stray.session].into_iter().find(|id| is_leader(*id));
        tied.or_else(|| {
            let marks = marks.get_or_insert_with(|| leaders.iter().filter_map(|pid| mark(*pid)).collect());
            marks.iter().find(|(_, mark)| marked(stray.pid, mark)).map(|(leader, _)| *leader)
        })
    };
    let candidates = table.iter().filter(|p| above.contains(&p.parent) && !is_leader(p.pid) && !p.zombie);
    candidates.filter_map(|stray| Some((stray.pid, owner(stray)?))).collect()
}

/// The mark in a leader's environment.
fn mark(leader: u32) -> Option<(i32, Vec<u8>)> {
    let environment = fs::read(format!("/proc/{leader}/environ")).ok()?;
    let name = format!("{MARK_NAME}=");
    let mark = environment.split(|byte| *byte == 0).find(|entry| entry.starts_with(name.as_bytes()))?;
    Some((leader.cast_signed(), mark.to_vec()))
}

/// Fields 14 to 17 (own and children's time) and 24 (resident pages) of a stat line.
fn ticks_and_pages(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some((ticks, fields.get(21)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1 0 99 1000 55 18446744073709551615";
        assert_eq!(ticks_and_pages(stat), Some((127, 55)));
        assert_eq!(ticks_and_pages("7 (x) S 1"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let me = std::process::id();
        let all = usage(&[me, u32::MAX >> 1]);
        assert!(all[&me].resident_bytes > 0 && all[&me].processes >= 1);
        assert_eq!(all[&(u32::MAX >> 1)], Usage::default());
    }
}
