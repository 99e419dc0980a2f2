//! Where a value of the configuration came from.

use std::fmt;
use std::sync::Arc;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The flag's default.
    Default,
    /// A configuration file.
    File {
        /// Path as given.
        path: Arc<str>,
        /// Line of the value, counted from 1; 0 when the file as a whole is meant.
        line: usize,
    },
    /// An environment variable of this name.
    Environment(String),
    /// A flag on the command line.
    CommandLine,
    /// A change while the server ran.
    Runtime {
        /// The version it made.
        version: u64,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line: 0 } => write!(formatter, "file {path}"),
            Self::File { path, line } => write!(formatter, "file {path}:{line}"),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::CommandLine => formatter.write_str("command line"),
            Self::Runtime { version } => write!(formatter, "run time, version {version}"),
        }
    }
}
