//! What plugins use: processor time, memory, processes, summed over everything a plugin has started.

use std::collections::HashMap;
use std::fs;

use serde::Serialize;

use crate::os::{Process, descendants, is_warden, process_table};

/// Use of one plugin at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
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
    let sum = |leader: u32| {
        let leader = leader.cast_signed();
        let own = table.iter().find(|process| process.pid == leader).copied();
        // Whatever a plugin has started is below its warden, also what has left its first process.
        let below = match own.filter(|own| is_warden(own.parent)) {
            Some(own) => descendants(&table, own.parent),
            None => descendants(&table, leader).into_iter().chain(own).collect(),
        };
        let all: Vec<Process> = below.into_iter().filter(|process| !process.zombie).collect();
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
