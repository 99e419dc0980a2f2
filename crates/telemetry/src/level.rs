//! The levels of the log, by the words of `--log-level`.

use tracing::level_filters::LevelFilter;

/// The least severe level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a defect.
    Debug,
    /// What happens in the life of a server.
    Info,
    /// What someone should look at.
    Warning,
    /// What went wrong.
    Error,
    /// Nothing.
    Off,
}

impl LogLevel {
    /// Every word.
    pub const WORDS: &[&'static str] = &["trace", "debug", "info", "warning", "error", "off"];

    const ALL: [Self; 6] = [Self::Trace, Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Off];

    /// The level of this word; `None` for one that is not among [`Self::WORDS`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let index = Self::WORDS.iter().position(|known| *known == word)?;
        Self::ALL.get(index).copied()
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::TRACE,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info => Self::INFO,
            LogLevel::Warning => Self::WARN,
            LogLevel::Error => Self::ERROR,
            LogLevel::Off => Self::OFF,
        }
    }
}
