//! What is wrong with a configuration: every mistake at once, each with its place and its remedy.

use std::fmt;

use super::source::Source;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The setting, as a key of the configuration file, or the file's own path.
    pub key: String,
    /// Where the value came from.
    pub source: Source,
    /// What is wrong, starting with the value in backticks where there is one.
    pub problem: String,
    /// What would be accepted.
    pub accepted: Option<String>,
    /// What the operator can do.
    pub hint: Option<String>,
    /// The command line itself is malformed (exit code 2 instead of 1).
    pub usage: bool,
}

impl Mistake {
    /// A mistake in the value of `key`.
    pub fn new(key: impl Into<String>, source: Source, problem: impl Into<String>) -> Self {
        Self { key: key.into(), source, problem: problem.into(), accepted: None, hint: None, usage: false }
    }

    /// Adds what would be accepted.
    #[must_use]
    pub fn accepted(mut self, accepted: impl Into<String>) -> Self {
        self.accepted = Some(accepted.into());
        self
    }

    /// Adds what the operator can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            // Only the flag is spelled as a flag; what is inside its JSON is not.
            Source::CommandLine => {
                let (flag, inside) = self.key.split_at(self.key.find('[').unwrap_or(self.key.len()));
                write!(formatter, "--{}{inside} (command line)", flag.replace('_', "-"))?;
            }
            Source::Default => write!(formatter, "{}", self.key)?,
            source => write!(formatter, "{} ({source})", self.key)?,
        }
        write!(formatter, ": {}", self.problem)?;
        if let Some(accepted) = &self.accepted {
            write!(formatter, "; accepted: {accepted}")?;
        }
        if let Some(hint) = &self.hint {
            write!(formatter, "\n    hint: {hint}")?;
        }
        Ok(())
    }
}

/// The configuration cannot be used. Nothing has been started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidConfig {
    /// Every mistake that was found, at least one.
    pub mistakes: Vec<Mistake>,
}

impl InvalidConfig {
    /// Whether something that must be given is not.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.mistakes.iter().any(|mistake| mistake.source == Source::Default)
    }

    /// Whether the command line itself is malformed, which has an exit code of its own.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        self.mistakes.iter().any(|mistake| mistake.usage)
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        write!(formatter, "invalid configuration: {count} mistake{}", if count == 1 { "" } else { "s" })?;
        for mistake in &self.mistakes {
            write!(formatter, "\n  {mistake}")?;
        }
        Ok(())
    }
}
