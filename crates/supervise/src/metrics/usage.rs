//! What plugins use: processor time, memory, processes, summed over everything a plugin has started.

use std::collections::HashMap;

use serde::Serialize;

use crate::os::{descendants, is_warden, process_table};

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
        let mut total = Usage::default();
        for process in below.iter().filter(|process| !process.zombie) {
            total.processes += 1;
            total.cpu_s += process.cpu_ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
            total.resident_bytes += process.resident_pages * rustix::param::page_size() as u64;
        }
        total
    };
    leaders.iter().map(|leader| (*leader, sum(*leader))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let me = std::process::id();
        let all = usage(&[me, u32::MAX >> 1]);
        assert!(all[&me].resident_bytes > 0 && all[&me].processes >= 1);
        assert_eq!(all[&(u32::MAX >> 1)], Usage::default());
    }
}
