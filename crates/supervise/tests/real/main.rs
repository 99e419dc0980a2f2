//! Tests with real processes: a host binary that embeds the supervisor, real scripts, real signals.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![expect(unreachable_pub, reason = "modules of one test binary")]

mod contract;
mod control;
mod examples;
mod floods;
mod locations;
mod manifests;
mod orphans;
mod roles;
mod support;
