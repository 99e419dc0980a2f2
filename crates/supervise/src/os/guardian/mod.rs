//! The process that starts all plugins, and the one between it and each of them.

mod children;
mod process;
mod warden;

pub use self::process::run_guardian_if_asked;
pub(super) use self::process::{GUARDIAN_ARGUMENT, HANDED_FDS};
pub(super) use self::warden::WARDEN_NAME;
