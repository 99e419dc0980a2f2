//! What plugins print, and the bounds for whatever comes from one: lines, rates, turns.

mod journal;
mod line;
mod pace;
mod pipes;
mod severity;

pub(crate) use self::journal::Journal;
pub use self::journal::{LineCounts, LogLine, Stream};
pub(crate) use self::line::{Line, LineSplitter};
pub(crate) use self::pace::{Pace, SLICE, Shares};
pub use self::pipes::OutputLimits;
pub(crate) use self::pipes::{Awaited, LineLog, Output};
pub use self::severity::Severity;
