//! Larder's own flags.

use larder_telemetry::LogLevel;

use crate::flag::{Choice, Flag, Group, Kind};

const LEVELS: &[Choice] = &Choice::all::<{ LogLevel::WORDS.len() }>(LogLevel::WORDS);

pub(super) const FLAGS: &[Flag] = &[
    Flag::new(
        "config",
        Group::Larder,
        Kind::Text,
        "TOML file with settings; its keys are the flag names with `_` for `-`.",
    )
    .ours(),
    Flag::new(
        "log-level",
        Group::Larder,
        Kind::Choice(LEVELS),
        "Least severe log level that is written. Case does not matter; `warn` and `critical` are understood.",
    )
    .default("info")
    .peer_environment(&["LMCACHE_LOG_LEVEL"])
    .ours()
    .hot(),
    Flag::new(
        "log-format",
        Group::Larder,
        Kind::Choice(&[Choice::works("text"), Choice::works("json")]),
        "Shape of the log on standard error: the field's usual line, or one JSON object a line.",
    )
    .default("text")
    .ours(),
];
