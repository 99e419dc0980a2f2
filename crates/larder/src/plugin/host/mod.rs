//! `larder plugin host`: plugins beside any process, for engines that embed LMCache.
//!
//! The process comes first: it is started before the plugins, nothing a plugin does touches it, and its end
//! ends them.

mod companion;
mod run;

pub(super) use run::run;
