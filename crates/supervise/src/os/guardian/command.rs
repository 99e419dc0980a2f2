//! How this binary is started as a guardian.

use std::ffi::OsString;
use std::path::PathBuf;

/// First argument with which the binary becomes the guardian.
pub(super) const GUARDIAN_ARGUMENT: &str = "__guardian";

/// How to start this binary as a guardian.
#[derive(Clone, Debug)]
pub struct GuardianCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, `__guardian` among them.
    pub arguments: Vec<OsString>,
}

impl GuardianCommand {
    /// The running binary, even if its file has been replaced since.
    #[must_use]
    pub fn this_binary() -> Self {
        Self { program: "/proc/self/exe".into(), arguments: vec![GUARDIAN_ARGUMENT.into()] }
    }
}
