//! What is not run, and why.

use serde::Serialize;

use super::eligibility::Ineligible;

/// A path that is not run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Skipped {
    /// The path, escaped for display.
    pub path: String,
    /// Why it is not run.
    pub reason: SkipReason,
}

/// Why a path is not run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum SkipReason {
    /// The configured location is not there.
    #[error("location does not exist")]
    Missing,
    /// The path could not be looked at.
    #[error("cannot be read: {cause}")]
    Unreadable {
        /// The system's words.
        cause: String,
    },
    /// The name begins with a dot.
    #[error("hidden")]
    Hidden,
    /// The name begins with an underscore: `__init__.py`, `__pycache__` or a helper module.
    #[error("name begins with an underscore")]
    Underscore,
    /// The name ends as editors and downloads name what is not the file itself: `~`, `.bak`, `.orig`, `.tmp`,
    /// `.part`, `.swp`.
    #[error("a backup or a file in the making")]
    Backup,
    /// A line of the folder's `.pluginignore` matches.
    #[error("excluded by `.pluginignore`")]
    Ignored,
    /// A folder whose name looks like a script's.
    #[error("a directory named like a script")]
    DirectoryNamedLikeScript,
    /// A symbolic link to a folder is not entered.
    #[error("symbolic link to a directory")]
    LinkToDirectory,
    /// A symbolic link that leads nowhere.
    #[error("broken symbolic link")]
    BrokenLink,
    /// A pipe, a socket or a device.
    #[error("not a regular file")]
    NotRegular,
    /// No extension of the interpreter table, and not a program either.
    #[error("neither a known script type nor a program")]
    NotAProgram,
    /// The same file (device and inode) is already there under another path.
    #[error("same file as `{first}`")]
    Duplicate {
        /// The path that runs.
        first: String,
    },
    /// The name asks for another process.
    #[error("{requires}")]
    Name {
        /// What the name asks for.
        requires: Ineligible,
    },
    /// The folder lies deeper than `DEPTH_MAX`.
    #[error("nested too deep")]
    TooDeep,
    /// `ENTRIES_MAX` or `PLUGINS_MAX` was reached.
    #[error("too many entries")]
    TooMany,
    /// The location gave no answer in time; what is known of it is what it was before.
    #[error("location does not answer")]
    Unanswering,
    /// `NOTABLE_MAX` or `UNREMARKABLE_MAX` was reached; stands for those that are not listed.
    #[error("and {count} more that are not run")]
    More {
        /// How many.
        count: usize,
    },
}

impl SkipReason {
    /// Whether an operator would have expected the file to run, so that the log should mention it.
    #[must_use]
    pub fn is_notable(&self) -> bool {
        !matches!(self, Self::NotAProgram | Self::Hidden | Self::Backup | Self::More { .. })
    }
}
