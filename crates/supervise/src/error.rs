//! What can go wrong in this crate, as callers tell it apart.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::manifest::{ManifestError, Misfit};
use crate::text::shown;

/// Failures of discovery, launch and supervision.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// A plugin file could not be opened or read.
    #[error("cannot read `{}`: {source}", shown(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No program to run the file with was found.
    #[error(
        "no interpreter for `{}`: tried {}\nhint: give it a `#!` line naming a program that exists",
        shown(path),
        listed(tried)
    )]
    NoInterpreter {
        /// The file.
        path: PathBuf,
        /// Program names in the order they were looked up.
        tried: Vec<String>,
    },
    /// A plugin's manifest has a mistake.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The plugin's own keys in the extra configuration are not as its manifest has them.
    #[error("its configuration does not fit: {}", joined(.0))]
    Settings(Vec<Misfit>),
    /// The guardian process could not be started or did not answer.
    #[error("cannot start the plugin guardian: {0}")]
    Guardian(#[source] io::Error),
    /// The private directory for configuration files and sockets could not be made.
    #[error("cannot prepare the plugin directory `{}`: {source}", shown(path))]
    RuntimeDir {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The operating system refused to start a plugin's program.
    #[error("cannot run `{}`: {source}", shown(program))]
    Launch {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system has not started a program in time.
    #[error(
        "`{}` was not started within {} s\nhint: do the file system it lies on, and whatever knows the user it runs as, answer?",
        shown(program),
        limit.as_secs()
    )]
    Stalled {
        /// The program.
        program: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A step on the way to the program failed: what its manifest asks for cannot be had.
    #[error("cannot run `{}`: {step}{}", shown(program), source.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    Confine {
        /// The program.
        program: PathBuf,
        /// Which step, naming the key and its value.
        step: String,
        /// The cause, where the step does not name it.
        source: Option<io::Error>,
    },
    /// Others than this server's user could change what would be run.
    #[error(
        "it is not run because others could change it: {0}\nhint: take the permission to write from them"
    )]
    Untrusted(String),
    /// There is no plugin of this name.
    #[error("no plugin named `{0}`")]
    Unknown(String),
    /// The file system that holds a location gives no answer.
    #[error("plugin location `{}` does not answer\nhint: is what it lies on mounted and reachable?", shown(.0))]
    Unanswering(PathBuf),
    /// The supervisor is stopping or has stopped.
    #[error("the plugin supervisor has stopped")]
    Stopped,
}

fn joined(misfits: &[Misfit]) -> String {
    misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn listed(tried: &[String]) -> String {
    if tried.is_empty() {
        return "nothing, the extension is unknown".to_owned();
    }
    tried.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
