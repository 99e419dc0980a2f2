//! When a plugin came to where it is, and how its latest runs went. What a person asks first, and what is not
//! in the output.

use std::collections::VecDeque;
use std::mem::discriminant;
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use crate::lifecycle::{FailCause, Next, Phase};
use crate::lock::lock;
use crate::manifest::Outcome;
use crate::text::moment;

/// Runs kept for each plugin.
pub(crate) const RUNS_MAX: usize = 10;

/// One run that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// Its number among the starts of this plugin.
    pub number: u64,
    /// When it was started.
    pub started: String,
    /// When its first process had ended.
    pub ended: String,
    /// How long it ran, in milliseconds.
    pub ran_ms: u64,
    /// The exit code, or the negated signal; nothing where no program could be started.
    pub exit_code: Option<i32>,
    /// Why it ended.
    pub why: String,
}

/// What is shown of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) since: Option<String>,
    pub(crate) started: Option<String>,
    pub(crate) uptime_ms: Option<u64>,
    pub(crate) runs: Vec<RunRecord>,
}

/// The past of one plugin. Shared between its task and whoever reads.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    phase: Option<(Phase, Timestamp)>,
    running: Option<Begun>,
    runs: VecDeque<RunRecord>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    number: u64,
    at: Timestamp,
    instant: Instant,
}

impl History {
    /// The phase now; the time of a change is kept.
    pub(crate) fn note_phase(&self, phase: Phase) {
        let mut inner = self.inner();
        let is_same = inner.phase.is_some_and(|(before, _)| discriminant(&before) == discriminant(&phase));
        if !is_same {
            inner.phase = Some((phase, Timestamp::now()));
        }
    }

    /// A program is being started.
    pub(crate) fn begin(&self, number: u64) {
        self.inner().running = Some(Begun { number, at: Timestamp::now(), instant: Instant::now() });
    }

    /// It has ended, or could not be started.
    pub(crate) fn end(&self, exit_code: Option<i32>, why: impl Into<String>) {
        let mut inner = self.inner();
        let Some(Begun { number, at, instant }) = inner.running.take() else { return };
        if inner.runs.len() == RUNS_MAX {
            inner.runs.pop_front();
        }
        inner.runs.push_back(RunRecord {
            number,
            started: moment(at),
            ended: moment(Timestamp::now()),
            ran_ms: u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX),
            exit_code,
            why: why.into(),
        });
    }

    pub(crate) fn past(&self) -> Past {
        let inner = self.inner();
        Past {
            since: inner.phase.map(|(_, at)| moment(at)),
            started: inner.running.map(|begun| moment(begun.at)),
            uptime_ms: inner
                .running
                .map(|b| u64::try_from(b.instant.elapsed().as_millis()).unwrap_or(u64::MAX)),
            runs: inner.runs.iter().cloned().collect(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }
}

/// Why a run ended that ended in this phase.
pub(crate) fn why(phase: Phase, outcome: Outcome, is_success: bool) -> String {
    let asked = match phase {
        _ if outcome == Outcome::Lost => Some("nobody saw its end"),
        Phase::Stopping { next: Next::Stopped, .. } => Some("stopped"),
        Phase::Stopping { next: Next::Disabled, .. } => Some("disabled"),
        Phase::Stopping { next: Next::Run, .. } => Some("restarted"),
        Phase::Stopping { next: Next::Judge(FailCause::NotReady), .. } => Some("not ready in time"),
        Phase::Stopping { next: Next::Judge(FailCause::Hung), .. } => Some("hung"),
        Phase::Stopping { next: Next::Judge(FailCause::Unsupervised), .. } => Some("supervision failed"),
        Phase::Stopping { next: Next::Judge(_), .. } => Some("ran too long"),
        _ => None,
    };
    let killed = if matches!(phase, Phase::Stopping { killed: true, .. }) { ", killed" } else { "" };
    let by_itself = if is_success { "done" } else { "failed" };
    format!("{}{killed}", asked.unwrap_or(by_itself))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_kept_with_their_times_and_no_more_than_so_many() {
        let history = History::default();
        history.note_phase(Phase::Exited);
        let since = history.past().since;
        history.note_phase(Phase::Exited);
        assert_eq!(history.past().since, since, "the same phase is no change");
        for number in 1..=RUNS_MAX as u64 + 2 {
            history.begin(number);
            assert!(history.past().started.is_some());
            history.end(Some(7), "failed");
        }
        history.end(Some(1), "nothing runs");
        let past = history.past();
        assert_eq!((past.runs.len(), past.runs[0].number, past.started), (RUNS_MAX, 3, None));
        assert!(past.runs[0].started <= past.runs[0].ended && past.runs[0].ended.ends_with('Z'));
    }

    #[test]
    fn who_asked_for_an_end_is_told() {
        let stopping = |next, killed| Phase::Stopping {
            killed,
            dumping: false,
            deadline: std::time::Duration::ZERO,
            next,
        };
        assert_eq!(why(stopping(Next::Stopped, true), Outcome::Signal(9), false), "stopped, killed");
        assert_eq!(why(stopping(Next::Judge(FailCause::Hung), false), Outcome::Code(0), true), "hung");
        assert_eq!(why(Phase::Exited, Outcome::Code(7), false), "failed");
        assert_eq!(why(Phase::Exited, Outcome::Code(0), true), "done");
    }
}
