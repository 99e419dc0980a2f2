//! The log: which records are written, and its handle.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::lock::lock;
use jiff::Zoned;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::{Registry, reload};

use super::flood::Flood;
use super::level::LogLevel;
use super::line::{LogFormat, Place, Record, Style};
use super::writer::{LineQueue, QUEUE_BYTES_MAX};

/// Larder's own settings: the log and where settings came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Least severe level written.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
    /// The configuration file that was read.
    pub config_file: Option<PathBuf>,
}

/// Loggers that can have a level of their own.
pub const LOGGERS_MAX: usize = 256;
/// Longest time that the end of the process waits for the log's output.
const FLUSH_BUDGET: Duration = Duration::from_millis(250);

/// Why the log cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The output cannot be used or the writer thread cannot start.
    #[error("the log cannot be started: {0}")]
    Start(io::Error),
    /// Another log is installed in this process.
    #[error("a log is installed already")]
    Installed,
    /// Too many loggers have a level of their own.
    #[error("more than `{LOGGERS_MAX}` loggers with a level of their own")]
    TooManyLoggers,
    /// The log that the handle belongs to is gone.
    #[error("the log has ended")]
    Ended,
}

/// Writes every record of this process to standard error as `config` says, panics included.
///
/// # Errors
/// When standard error is closed, or a log is installed already.
pub fn install_log(config: &LogConfig) -> Result<LogGuard, LogError> {
    // A descriptor of its own: the writer may sit in a blocked write without holding the standard library's
    // lock.
    let output = own_stderr().map_err(LogError::Start)?;
    let color = io::stderr().is_terminal()
        && wants_color(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let (dispatch, handle) = new_log(config.format, color, config.level.into(), Box::new(output))?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| LogError::Installed)?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(LogGuard { handle })
}

#[cfg(unix)]
fn own_stderr() -> io::Result<std::fs::File> {
    use std::os::fd::AsFd as _;
    io::stderr().as_fd().try_clone_to_owned().map(Into::into)
}

#[cfg(not(unix))]
fn own_stderr() -> io::Result<io::Stderr> {
    Ok(io::stderr())
}

fn wants_color(is_set: impl Fn(&str) -> bool) -> bool {
    !is_set("NO_COLOR") && is_set("TERM")
}

/// A log that writes to `output` and is not installed anywhere yet.
///
/// # Errors
/// When the writer thread cannot start.
pub fn new_log(
    format: LogFormat,
    color: bool,
    level: LevelFilter,
    output: Box<dyn Write + Send>,
) -> Result<(Dispatch, LogHandle), LogError> {
    let style = Style { format, color };
    let queue = LineQueue::start(output, Box::new(move |count| drop_report(count, style)))
        .map_err(LogError::Start)?;
    let (filter, reload) = reload::Layer::new(Targets::new().with_default(level));
    let layer = LogLayer { queue: queue.clone(), style, flood: Flood::default() }.with_filter(filter);
    let levels = Arc::new(Mutex::new(Levels { default: level, loggers: BTreeMap::new() }));
    Ok((Dispatch::new(Registry::default().with(layer)), LogHandle { queue, reload, levels }))
}

fn drop_report(count: u64, style: Style) -> String {
    Record {
        time: Zoned::now(),
        level: Level::WARN,
        place: Place { file: "writer.rs", line: 0, module: module_path!() },
        message: format!(
            "{count} log lines were dropped: the output is not read fast enough and {QUEUE_BYTES_MAX} bytes already wait"
        ),
        fields: Vec::new(),
    }
    .to_line(style)
}

struct LogLayer {
    queue: LineQueue,
    style: Style,
    flood: Flood,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(left_out) = self.flood.pass(event.metadata(), Instant::now()) else { return };
        let mut record = Record::of(event);
        if left_out > 0 {
            record.message += &format!(" ({left_out} lines like this were left out before it)");
        }
        self.queue.push(&record.to_line(self.style));
    }
}

struct Levels {
    default: LevelFilter,
    loggers: BTreeMap<String, LevelFilter>,
}

impl Levels {
    fn to_targets(&self) -> Targets {
        let loggers = self.loggers.iter().map(|(name, level)| (name.clone(), *level));
        Targets::new().with_default(self.default).with_targets(loggers)
    }
}

/// Control over a running log. Clones control the same log.
#[derive(Clone)]
pub struct LogHandle {
    queue: LineQueue,
    reload: reload::Handle<Targets, Registry>,
    levels: Arc<Mutex<Levels>>,
}

impl LogHandle {
    /// The level of everything that has none of its own.
    #[must_use]
    pub fn level(&self) -> LevelFilter {
        lock(&self.levels).default
    }

    /// Loggers with a level of their own, by module path.
    #[must_use]
    pub fn logger_levels(&self) -> Vec<(String, LevelFilter)> {
        let levels = lock(&self.levels);
        levels.loggers.iter().map(|(name, level)| (name.clone(), *level)).collect()
    }

    /// Changes the level of one logger (a module path, which covers what is below it), or the general level.
    ///
    /// # Errors
    /// When too many loggers have a level of their own, or the log has ended.
    pub fn set_level(&self, logger: Option<&str>, level: LevelFilter) -> Result<(), LogError> {
        let mut levels = lock(&self.levels);
        match logger {
            None => levels.default = level,
            Some(name) => {
                if levels.loggers.len() >= LOGGERS_MAX && !levels.loggers.contains_key(name) {
                    return Err(LogError::TooManyLoggers);
                }
                levels.loggers.insert(name.to_owned(), level);
            }
        }
        self.reload.reload(levels.to_targets()).map_err(|_| LogError::Ended)
    }

    /// Lines lost because the output was not read fast enough.
    #[must_use]
    pub fn dropped_lines(&self) -> u64 {
        self.queue.dropped_lines()
    }

    /// Waits until everything logged so far is written, for `budget` at most. Returns whether it is.
    #[must_use]
    pub fn flush(&self, budget: Duration) -> bool {
        self.queue.flush(budget)
    }
}

/// Keeps the installed log; when dropped, waits a moment for the last lines.
#[must_use = "the last lines are lost without it"]
pub struct LogGuard {
    handle: LogHandle,
}

impl LogGuard {
    /// Control over the log.
    #[must_use]
    pub fn handle(&self) -> &LogHandle {
        &self.handle
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.handle.queue.close();
        self.handle.queue.flush(FLUSH_BUDGET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn levels_and_fields_reach_the_line_and_change_at_run_time() {
        let kept = Kept::default();
        let (dispatch, handle) =
            new_log(LogFormat::Text, false, LevelFilter::INFO, Box::new(kept.clone())).unwrap();
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(port = 5555, "listening");
            tracing::debug!("hidden");
            handle.set_level(None, LevelFilter::DEBUG).unwrap();
            tracing::debug!("shown");
            handle.set_level(Some(module_path!()), LevelFilter::OFF).unwrap();
            tracing::error!("hidden by its own level");
            tracing::error!(target: "elsewhere", "shown from elsewhere");
        });
        assert!(handle.flush(Duration::from_secs(60)));
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let messages: Vec<&str> = text
            .lines()
            .map(|line| line.split_once("LMCache ").unwrap().1.split_once(" (log.rs:").unwrap().0)
            .collect();
        assert_eq!(messages, ["INFO: listening port=5555", "DEBUG: shown", "ERROR: shown from elsewhere"]);
        assert_eq!(handle.logger_levels(), [(module_path!().to_owned(), LevelFilter::OFF)]);
        assert_eq!(handle.level(), LevelFilter::DEBUG);
    }

    #[test]
    fn clients_fill_no_log_and_nobody_elses_lines_are_left_out() {
        let kept = Kept::default();
        let (dispatch, handle) =
            new_log(LogFormat::Text, false, LevelFilter::INFO, Box::new(kept.clone())).unwrap();
        tracing::dispatcher::with_default(&dispatch, || {
            for _ in 0..20_000 {
                tracing::info!(target: "larder_engine::members", "registered");
            }
            for _ in 0..500 {
                tracing::info!(target: "plugin", "output");
            }
            tracing::info!(target: "larder_engine::members", "another line");
        });
        assert!(handle.flush(Duration::from_secs(60)));
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let count = |what: &str| text.matches(what).count();
        assert!((200..10_000).contains(&count("registered")), "{}", count("registered"));
        assert_eq!((count("output"), count("another line")), (500, 1));
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        let kept = Kept::default();
        let (dispatch, handle) =
            new_log(LogFormat::Text, false, LevelFilter::INFO, Box::new(kept.clone())).unwrap();
        #[derive(Debug, thiserror::Error)]
        #[error("no pool")]
        struct NoPool(#[source] io::Error);
        let error = NoPool(io::Error::other("no memory"));
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::error!(error = &error as &(dyn std::error::Error + 'static), "failed");
        });
        assert!(handle.flush(Duration::from_secs(60)));
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("ERROR: failed error=no pool: no memory ("), "{text}");
    }

    #[test]
    fn loggers_with_a_level_of_their_own_are_limited() {
        let (_dispatch, handle) =
            new_log(LogFormat::Text, false, LevelFilter::INFO, Box::new(Kept::default())).unwrap();
        for index in 0..LOGGERS_MAX {
            handle.set_level(Some(&format!("logger{index}")), LevelFilter::WARN).unwrap();
        }
        assert!(matches!(
            handle.set_level(Some("one more"), LevelFilter::WARN),
            Err(LogError::TooManyLoggers)
        ));
        assert!(handle.set_level(Some("logger0"), LevelFilter::INFO).is_ok());
    }

    #[test]
    fn no_color_wins() {
        assert!(wants_color(|name| name == "TERM"));
        assert!(!wants_color(|name| name == "TERM" || name == "NO_COLOR"));
    }
}
