//! Flags of the peer's command-line framework.

use crate::flag::{Flag, Group, Kind};

pub(super) const FLAGS: &[Flag] = &[
    Flag::new("format", Group::Framework, Kind::Text, "Output format of the peer's other commands.")
        .no_effect("a server prints no report"),
    Flag::new("output", Group::Framework, Kind::Text, "Report file of the peer's other commands.")
        .no_effect("a server prints no report"),
    Flag::new("quiet", Group::Framework, Kind::Switch, "Silences reports of the peer's other commands.")
        .default("false")
        .no_effect("a server prints no report"),
];
