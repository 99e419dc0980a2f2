//! How much of the supervising thread goes into what plugins send.
//!
//! Whatever comes from a plugin, by whichever channel and however much of it, is taken in short turns. After
//! so much work a plugin rests, and rests follow each other over all plugins: together they never have more
//! than a part of the thread, which also serves HTTP and signals.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::lock::lock;

/// Work after which a plugin rests, and the longest turn of a channel.
pub(crate) const SLICE: Duration = Duration::from_millis(1);
/// Rest for each unit of work.
const REST_PER_WORK: u32 = 4;
/// Longest work that counts; more at once was an interruption, which costs no rest.
const WORK_MAX: Duration = Duration::from_millis(10);

/// What all plugins share: when the rests that were given end.
#[derive(Debug, Default)]
pub(crate) struct Shares(Mutex<Option<Instant>>);

impl Shares {
    /// The end of the rest that so much work costs.
    fn rest_after(&self, work: Duration, now: Instant) -> Instant {
        let mut last = lock(&self.0);
        let end = last.map_or(now, |last| last.max(now)) + work.min(WORK_MAX) * REST_PER_WORK;
        *last = Some(end);
        end
    }
}

/// What one plugin has taken of its share.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    worked: Duration,
    rest_until: Option<Instant>,
}

impl Pace {
    /// Does `work` once this plugin has rested. May be dropped at any time if `work` may.
    pub(crate) async fn keep<T>(&mut self, shares: &Shares, work: impl Future<Output = T>) -> T {
        if let Some(until) = self.rest_until {
            sleep_until(until).await;
            self.rest_until = None;
        }
        let mut work = pin!(work);
        let timed = poll_fn(|context| {
            let begun = Instant::now();
            let done = work.as_mut().poll(context);
            self.spend(begun, shares);
            done
        });
        timed.await
    }

    fn spend(&mut self, begun: Instant, shares: &Shares) {
        let now = Instant::now();
        self.worked += now - begun;
        if self.worked >= SLICE {
            self.rest_until = Some(shares.rest_after(std::mem::take(&mut self.worked), now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn all_plugins_together_have_a_part_of_the_time_whatever_they_send() {
        let (shares, begun) = (Shares::default(), Instant::now());
        let mut paces: Vec<Pace> = (0..20).map(|_| Pace::default()).collect();
        for _ in 0..50 {
            for pace in &mut paces {
                pace.keep(&shares, advance(SLICE)).await;
            }
        }
        // Each has rested after all its turns but the last.
        let work = SLICE * 49 * 20;
        assert!(begun.elapsed() >= work * REST_PER_WORK, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_little_never_rests_and_an_interruption_is_no_work() {
        let shares = Shares::default();
        let mut pace = Pace::default();
        pace.keep(&shares, advance(SLICE / 2)).await;
        assert_eq!(pace.rest_until, None);
        pace.keep(&shares, advance(Duration::from_secs(3600))).await;
        assert_eq!(pace.rest_until, Some(Instant::now() + WORK_MAX * REST_PER_WORK));
    }
}
