//! The process that starts all plugins, and the one between it and each of them.

mod children;
mod command;
mod process;
mod sweep;
mod warden;

pub use self::command::GuardianCommand;
pub use self::process::run_guardian_if_asked;
