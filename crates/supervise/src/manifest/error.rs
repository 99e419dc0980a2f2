//! What can be wrong with a manifest.

/// A mistake in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}line {line}: {message}{}", file.as_deref().map(|f| format!("{f}: ")).unwrap_or_default(),
    hint.as_deref().map(|h| format!("\nhint: {h}")).unwrap_or_default())]
pub struct ManifestError {
    /// The manifest, as shown.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// A mistake in the defaults for all plugins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefaultsError {
    /// The text is no object, or a key or the kind of its value is unknown.
    #[error("{0}")]
    Key(String),
    /// A value that the key does not take.
    #[error("`{key}` {message}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it.
        message: String,
        /// What would be right.
        hint: String,
    },
    /// A key that says something about one plugin only.
    #[error("`{0}` cannot hold for all plugins")]
    OnePlugin(&'static str),
}

impl DefaultsError {
    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Key(_) => None,
            Self::Value { hint, .. } => Some(hint),
            Self::OnePlugin(_) => Some("write it into the manifest of the plugin it is for"),
        }
    }
}
