//! The next calendar time of one plugin, on the clock that its lifecycle runs by.

use std::time::Duration;

use jiff::Zoned;

use crate::manifest::Cron;

/// How long a wait relies on the local time not being set; then it is looked at again.
pub(crate) const CLOCK_CHECK_AFTER: Duration = Duration::from_secs(60);

/// When a plugin is due next, in local time.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    due: Option<Zoned>,
    /// The latest time that has come, so that a clock set back by a moment does not bring it again.
    fired: Option<Zoned>,
}

impl Alarm {
    /// When the next run is due, `now` being the moment `local` on the lifecycle's clock. `waiting` tells
    /// whether it is waited for; a time that comes while it is not is left out.
    pub(crate) fn turn(
        &mut self,
        cron: &Cron,
        local: &Zoned,
        now: Duration,
        waiting: bool,
    ) -> Option<Duration> {
        let mut next = cron.next(local)?;
        if self.fired.as_ref() == Some(&next) {
            next = cron.next(&next)?;
        }
        // Set back, the clock may have come before an earlier time than the one waited for.
        let due = match self.due.take().filter(|_| waiting) {
            Some(due) => due.min(next),
            None => next,
        };
        let left = due.timestamp().duration_since(local.timestamp());
        let left = Duration::try_from(left).unwrap_or_default();
        if left.is_zero() && waiting {
            self.fired = Some(due.clone());
        }
        self.due = Some(due);
        Some(now + left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;
    use jiff::tz::TimeZone;

    fn at(text: &str) -> Zoned {
        text.parse::<jiff::Timestamp>().unwrap().to_zoned(TimeZone::UTC)
    }

    #[test]
    fn comes_once_and_follows_a_clock_that_is_set() {
        let cron = Cron::parse("0 * * * *").unwrap();
        let mut alarm = Alarm::default();
        let now = Duration::from_secs(1000);
        let mut left =
            |local: &Zoned, waiting| (alarm.turn(&cron, local, now, waiting).unwrap() - now).as_secs();
        assert_eq!(left(&at("2026-01-01T10:59:00Z"), true), 60);
        assert_eq!(left(&at("2026-01-01T10:59:30Z"), true), 30);
        assert_eq!(left(&at("2026-01-01T11:00:00Z"), true), 0, "due");
        assert_eq!(left(&at("2026-01-01T10:59:59Z"), false), 3601, "the same hour does not come twice");
        assert_eq!(left(&at("2026-01-01T12:00:01Z"), false), 3599, "nobody waited for noon");
        let set_back = at("2026-01-01T12:00:01Z").checked_sub(90.minutes()).unwrap();
        assert_eq!(left(&set_back, true), 29 * 60 + 59 + 3600, "eleven has been");
        assert_eq!(left(&at("2026-01-01T15:00:00Z"), true), 0, "passed over while the clock was set");
    }
}
