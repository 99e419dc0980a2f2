//! What this process takes from the machine, under the names that every exporter has for it.

use std::fs;

/// A look at `/proc/self`. What can't be read is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// Seconds of processor time.
    pub cpu_seconds: Option<f64>,
    /// When it started, in seconds since 1970.
    pub start_time_seconds: Option<f64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Bytes of memory, shared ones included.
    pub resident_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Most of them that it may open.
    pub max_fds: Option<u64>,
}

impl ProcessUsage {
    /// What it is now.
    #[must_use]
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = machine.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
            max_fds: limit.current,
            ..Self::of(&stat, boot)
        }
    }

    /// From the line in `/proc/self/stat` and the time of the boot.
    fn of(stat: &str, boot_seconds: Option<f64>) -> Self {
        // The second field is the name, in parentheses, and may hold anything.
        let fields: Vec<u64> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect())
            .unwrap_or_default();
        // Counted from the third field of the line, the state.
        let field = |number: usize| fields.get(number - 3).copied();
        let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
        let seconds = |ticks_taken: u64| ticks_taken as f64 / ticks;
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| seconds(user + system)),
            start_time_seconds: field(22).zip(boot_seconds).map(|(start, boot)| boot + seconds(start)),
            threads: field(20),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * rustix::param::page_size() as u64),
            open_fds: None,
            max_fds: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_shifts_nothing() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 1000 8192 2 18446744073709551615";
        let usage = ProcessUsage::of(stat, Some(100.0));
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(usage.cpu_seconds, Some(200.0 / ticks));
        assert_eq!(usage.start_time_seconds, Some(100.0 + 1000.0 / ticks));
        assert_eq!((usage.threads, usage.virtual_bytes), (Some(3), Some(8192)));
        assert_eq!(usage.resident_bytes, Some(2 * rustix::param::page_size() as u64));
        assert_eq!(ProcessUsage::of("", None), ProcessUsage::default());
    }

    #[test]
    fn this_process_is_seen() {
        let usage = ProcessUsage::now();
        assert!(
            usage.resident_bytes.is_some_and(|bytes| bytes > 0) && usage.open_fds.is_some_and(|fds| fds > 2)
        );
        assert!(usage.start_time_seconds.is_some_and(|start| start > 1e9), "{usage:?}");
    }
}
