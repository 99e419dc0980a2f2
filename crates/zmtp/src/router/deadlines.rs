//! One timer for all that a connection waits for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{Error, LimitKind};
use crate::limits::Limits;

/// The three waits of a connection. The timer is made only when something waits, and is left to fire once too often
/// rather than being set anew with every message; without a wait no timer runs.
#[derive(Debug)]
pub(super) struct Deadlines {
    handshake: Option<Instant>,
    read: Option<Instant>,
    write: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadlines {
    pub(super) fn new(limits: &Limits) -> Deadlines {
        let handshake = Instant::now().checked_add(limits.handshake_timeout);
        Deadlines { handshake, read: None, write: None, timer: None }
    }

    pub(super) fn handshake_done(&mut self) {
        self.handshake = None;
    }

    /// The peer owes the rest of a message (since now, if it did not before), or owes nothing.
    pub(super) fn reading(&mut self, owes: bool, timeout: Duration) {
        set(&mut self.read, owes, timeout);
    }

    /// As [`Deadlines::reading`], for output the peer should take.
    pub(super) fn writing(&mut self, owes: bool, timeout: Duration) {
        set(&mut self.write, owes, timeout);
    }

    /// Ready with the deadline that has passed; otherwise the task is woken for the next one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, limits: &Limits) -> Poll<Error> {
        loop {
            let Some(next) = [self.handshake, self.read, self.write].into_iter().flatten().min() else {
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
            if let Some(error) = self.passed(Instant::now(), limits) {
                return Poll::Ready(error);
            }
        }
    }

    fn passed(&self, now: Instant, limits: &Limits) -> Option<Error> {
        [
            (self.handshake, LimitKind::HandshakeTimeout, limits.handshake_timeout),
            (self.read, LimitKind::ReadStallTimeout, limits.read_stall_timeout),
            (self.write, LimitKind::WriteStallTimeout, limits.write_stall_timeout),
        ]
        .into_iter()
        .find(|(deadline, ..)| deadline.is_some_and(|deadline| deadline <= now))
        .map(|(_, limit, after)| Error::Timeout { limit, after })
    }
}

fn set(deadline: &mut Option<Instant>, owes: bool, timeout: Duration) {
    if !owes {
        *deadline = None;
    } else if deadline.is_none() {
        // A timeout too long for the clock is none.
        *deadline = Instant::now().checked_add(timeout);
    }
}
