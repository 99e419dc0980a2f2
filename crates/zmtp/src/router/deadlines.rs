//! One timer for all that a connection waits for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{Error, LimitKind};
use crate::limits::Limits;

/// The three waits of a connection. The timer is made only when something waits, and is left to fire once too
/// often rather than being set anew with every message; without a wait no timer runs.
#[derive(Debug)]
pub(super) struct Deadlines {
    handshake: Option<Instant>,
    /// The peer owes the rest of a message.
    pub(super) read: Debt,
    /// The peer owes taking what is written.
    pub(super) write: Debt,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Which waits hold up other connections, and so end sooner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contested {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Deadlines {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            handshake: Instant::now().checked_add(limits.handshake_timeout),
            read: Debt::new(limits, LimitKind::ReadStallTimeout, limits.progress_bytes_min),
            write: Debt::new(limits, LimitKind::WriteStallTimeout, 1),
            timer: None,
        }
    }

    pub(super) fn handshake_done(&mut self) {
        self.handshake = None;
    }

    /// Ready with the deadline that has passed; otherwise the task is woken for the next one.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        contested: impl Fn() -> Contested,
    ) -> Poll<Error> {
        loop {
            let waits = [self.handshake, self.read.next_look(), self.write.next_look()];
            let Some(next) = waits.into_iter().flatten().min() else {
                if let Some(timer) = &mut self.timer
                    && timer.as_mut().poll(cx).is_ready()
                {
                    self.timer = None;
                }
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if timer.deadline() > next {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            let now = Instant::now();
            if self.handshake.is_some_and(|deadline| deadline <= now) {
                let (limit, after) = (LimitKind::HandshakeTimeout, limits.handshake_timeout);
                return Poll::Ready(Error::Timeout { limit, after });
            }
            let contested = contested();
            let failed =
                self.read.look(now, contested.read).or_else(|| self.write.look(now, contested.write));
            if let Some(error) = failed {
                return Poll::Ready(error);
            }
        }
    }
}

/// Bytes a peer owes, and whether it pays. It is looked at in steps of the shorter patience, so that a wait
/// which begins to hold up others ends within one step.
#[derive(Debug)]
pub(super) struct Debt {
    limit: LimitKind,
    patience: Duration,
    contested_patience: Duration,
    /// What has to move within the two patiences.
    progress_bytes_min: usize,
    contested_bytes_min: usize,
    owed: Option<Owed>,
}

#[derive(Debug)]
struct Owed {
    /// When it last moved by what it has to, and what has moved since.
    since: Instant,
    moved_bytes: usize,
    /// When it is looked at next, and what has moved since the last look.
    look_at: Option<Instant>,
    step_bytes: usize,
    /// We do not let the peer pay.
    paused_at: Option<Instant>,
}

impl Debt {
    fn new(limits: &Limits, limit: LimitKind, progress_bytes_min: usize) -> Self {
        let patience = match limit {
            LimitKind::WriteStallTimeout => limits.write_stall_timeout,
            _ => limits.read_stall_timeout,
        };
        Self {
            limit,
            patience,
            contested_patience: limits.contested_stall_timeout.min(patience),
            progress_bytes_min,
            contested_bytes_min: limits.progress_bytes_min,
            owed: None,
        }
    }

    /// The peer owes something from now on, if it did not already.
    pub(super) fn begin(&mut self) {
        if let Some(owed) = &mut self.owed {
            if let Some(paused_at) = owed.paused_at.take() {
                let pause = paused_at.elapsed();
                owed.since += pause;
                owed.look_at = owed.look_at.and_then(|at| at.checked_add(pause));
            }
            return;
        }
        let since = Instant::now();
        // A timeout too long for the clock is none.
        let look_at = since.checked_add(self.contested_patience);
        self.owed = Some(Owed { since, moved_bytes: 0, look_at, step_bytes: 0, paused_at: None });
    }

    /// What is owed is paid.
    pub(super) fn end(&mut self) {
        self.owed = None;
    }

    /// The peer may not pay until [`Debt::begin`] is called again; the time between does not count.
    pub(super) fn pause(&mut self) {
        if let Some(owed) = &mut self.owed {
            owed.paused_at.get_or_insert_with(Instant::now);
        }
    }

    /// So many bytes have moved.
    pub(super) fn moved(&mut self, bytes: usize) {
        if let Some(owed) = &mut self.owed {
            owed.moved_bytes += bytes;
            owed.step_bytes += bytes;
        }
    }

    fn next_look(&self) -> Option<Instant> {
        let owed = self.owed.as_ref().filter(|owed| owed.paused_at.is_none())?;
        owed.look_at
    }

    /// Judges the step that has just ended, if one has.
    fn look(&mut self, now: Instant, contested: bool) -> Option<Error> {
        if self.next_look().is_none_or(|at| at > now) {
            return None;
        }
        let owed = self.owed.as_mut()?;
        if contested && owed.step_bytes < self.contested_bytes_min {
            return Some(Error::Timeout { limit: self.limit, after: self.contested_patience });
        }
        if owed.moved_bytes >= self.progress_bytes_min {
            owed.since = now;
            owed.moved_bytes = 0;
        }
        let end = owed.since.checked_add(self.patience);
        if end.is_some_and(|end| end <= now) {
            return Some(Error::Timeout { limit: self.limit, after: self.patience });
        }
        let step = now.checked_add(self.contested_patience);
        owed.look_at = [end, step].into_iter().flatten().min();
        owed.step_bytes = 0;
        None
    }
}
