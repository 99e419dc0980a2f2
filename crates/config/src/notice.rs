//! Remarks about a configuration that is accepted.

use std::fmt;

/// What deserves a word, and what the operator can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A phrase.
    pub text: String,
    /// What the operator can do.
    pub hint: Option<String>,
}

impl Notice {
    /// A remark alone.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }

    /// Adds what the operator can do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(formatter, "\nhint: {hint}"))
    }
}
