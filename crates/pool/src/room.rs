//! How much memory there is, what bounds it, and how sizes are told.

use std::fmt;

/// Memory that is free now, and what bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRoom {
    /// Bytes that can be had without swapping.
    pub free_bytes: u64,
    /// What allows no more.
    pub bound: MemoryBound,
}

/// What bounds the memory of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryBound {
    /// The memory of the machine.
    Machine,
    /// The limit of a control group, as containers have it.
    ControlGroup,
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Machine => "on this machine",
            Self::ControlGroup => "in this control group (the container's memory limit)",
        })
    }
}

/// A number of bytes for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        let (unit, name) = match self.0 {
            0..1_024 => return write!(formatter, "{} bytes", self.0),
            1_024..1_048_576 => (1_024.0, "KiB"),
            1_048_576..1_073_741_824 => (1_048_576.0, "MiB"),
            _ => (1_073_741_824.0, "GiB"),
        };
        // Two decimals at most, and none that say nothing.
        let text = format!("{:.2}", bytes / unit);
        write!(formatter, "{} {name}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_exact_enough() {
        for (bytes, text) in
            [(5, "5 bytes"), (4 << 30, "4 GiB"), (1_610_612_736, "1.5 GiB"), (600 << 20, "600 MiB")]
        {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
