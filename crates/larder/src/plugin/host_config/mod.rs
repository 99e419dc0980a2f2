//! The configuration of an engine that embeds LMCache, as far as plugins are concerned
//! (spec/runtime-plugins.md 9).

mod read;
mod settings;

pub(super) use read::{FILE_VARIABLE, HostConfig};
