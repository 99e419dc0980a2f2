//! Calendar times in the five fields of cron: `minute hour day month weekday`.
//!
//! A field is `*`, a number, a range `a-b`, either of the last with a step (`*/5`, `8-18/2`), or a list of
//! these; months and weekdays have English names of three letters, and Sunday is 0 or 7. Where both days are
//! restricted, either suffices, as in every cron.

use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::{ToSpan, Zoned};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Years after which the calendar repeats itself.
const CALENDAR_YEARS: i16 = 400;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The minutes at which something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether one of both days suffices.
    either_day: bool,
}

/// Why a text is no calendar time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It has more or fewer than five fields.
    #[error("has `{0}` fields, not the five of `minute hour day month weekday`")]
    Fields(usize),
    /// A field cannot be read.
    #[error("has `{value}` as {field}, which takes {wanted}")]
    Field {
        /// Which field.
        field: &'static str,
        /// The part of it that is wrong.
        value: String,
        /// What it takes.
        wanted: String,
    },
    /// No day satisfies it, such as the 30th of February.
    #[error("never comes")]
    Never,
}

/// Name, smallest and largest value, and names of values, of one field.
struct Field(&'static str, u32, u32, &'static [&'static str]);

const FIELDS: [Field; 5] = [
    Field("minute", 0, 59, &[]),
    Field("hour", 0, 23, &[]),
    Field("day", 1, 31, &[]),
    Field("month", 1, 12, &MONTHS),
    Field("weekday", 0, 7, &WEEKDAYS),
];

impl Cron {
    /// Reads five fields separated by white space.
    ///
    /// # Errors
    /// [`CronError`], with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError::Fields(fields.len()));
        };
        let [minutes, hours, days, months, weekdays] = &FIELDS;
        let sundays = weekdays.parse(weekday)?;
        let cron = Self {
            text: fields.join(" "),
            minutes: minutes.parse(minute)?,
            hours: hours.parse(hour)?,
            days: days.parse(day)?,
            months: months.parse(month)?,
            weekdays: (sundays | sundays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        let anyday = Date::constant(2000, 1, 1);
        cron.next_day(anyday).map(|_| cron).ok_or(CronError::Never)
    }

    /// The first minute after the one that `now` is in, on a calendar without time zones.
    #[must_use]
    pub fn next_civil(&self, now: DateTime) -> Option<DateTime> {
        let today = now.date();
        if self.has_day(today) {
            let this_hour = now.hour().unsigned_abs();
            let later = above(self.minutes, now.minute().unsigned_abs());
            if let Some(minute) = later.filter(|_| has(self.hours, this_hour.into())) {
                return time(today, this_hour.into(), minute);
            }
            if let Some(hour) = above(self.hours, this_hour) {
                return time(today, hour, self.minutes.trailing_zeros());
            }
        }
        let day = self.next_day(today.tomorrow().ok()?)?;
        time(day, self.hours.trailing_zeros(), self.minutes.trailing_zeros())
    }

    /// The next moment after `now` in its time zone.
    ///
    /// A time that the clocks skip comes as much later as they jump. Of a time that comes twice, the first
    /// counts, unless every hour is meant.
    #[must_use]
    pub fn next(&self, now: &Zoned) -> Option<Zoned> {
        let mut civil = now.datetime();
        if self.hours == FIELDS[1].all() {
            // Without regard to a change of the clocks, after which minutes mostly are what they were.
            let unmoved = now.offset().to_timestamp(self.next_civil(civil)?).ok()?;
            let unmoved = unmoved.to_zoned(now.time_zone().clone());
            if self.is_due(unmoved.datetime()) {
                return Some(unmoved);
            }
        }
        loop {
            civil = self.next_civil(civil)?;
            let first = now.time_zone().to_ambiguous_zoned(civil).compatible().ok()?;
            if first > *now {
                return Some(first);
            }
        }
    }

    fn is_due(&self, time: DateTime) -> bool {
        let (hour, minute) = (time.hour().unsigned_abs(), time.minute().unsigned_abs());
        has(self.minutes, minute.into()) && has(self.hours, hour.into()) && self.has_day(time.date())
    }

    fn next_day(&self, from: Date) -> Option<Date> {
        let last = from.year().checked_add(CALENDAR_YEARS)?;
        let mut day = from;
        while day.year() <= last {
            if !has(self.months, month_of(day)) {
                day = day.last_of_month().tomorrow().ok()?;
            } else if self.has_day(day) {
                return Some(day);
            } else {
                day = day.tomorrow().ok()?;
            }
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let day = has(self.days, u32::from(date.day().unsigned_abs()));
        let weekday = has(self.weekdays, u32::from(date.weekday().to_sunday_zero_offset().unsigned_abs()));
        has(self.months, month_of(date)) && if self.either_day { day || weekday } else { day && weekday }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| D::Error::custom(format!("`cron` {error}")))
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Field {
    fn all(&self) -> u64 {
        (self.1..=self.2).fold(0, |bits, value| bits | 1 << value)
    }

    fn parse(&self, text: &str) -> Result<u64, CronError> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, CronError> {
        let wrong = || CronError::Field { field: self.0, value: part.to_owned(), wanted: self.wanted() };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0).ok_or_else(wrong)?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.1, self.2),
            Some((first, last)) => {
                (self.value(first).ok_or_else(wrong)?, self.value(last).ok_or_else(wrong)?)
            }
            // A step from a single number is read differently by different crons.
            None if step.is_some() => return Err(wrong()),
            None => self.value(range).map(|value| (value, value)).ok_or_else(wrong)?,
        };
        if first > last {
            return Err(wrong());
        }
        let values = (first..=last).step_by(step.unwrap_or(1) as usize);
        Ok(values.fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.3.iter().zip(self.1..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let value = named.map(|(_, value)| value).or_else(|| number(text))?;
        (self.1..=self.2).contains(&value).then_some(value)
    }

    fn wanted(&self) -> String {
        let names = match (self.3.first(), self.3.last()) {
            (Some(first), Some(last)) => format!(" or `{first}` to `{last}`"),
            _ => String::new(),
        };
        format!("{} to {}{names}, ranges from low to high and steps of them", self.1, self.2)
    }
}

/// Digits only, unlike `u32::from_str`.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn has(bits: u64, value: u32) -> bool {
    bits >> value & 1 == 1
}

/// The smallest member above `value`, which is under 63.
fn above(bits: u64, value: u8) -> Option<u32> {
    let rest = bits & !((2 << value) - 1);
    (rest != 0).then(|| rest.trailing_zeros())
}

fn month_of(date: Date) -> u32 {
    u32::from(date.month().unsigned_abs())
}

fn time(date: Date, hour: u32, minute: u32) -> Option<DateTime> {
    date.at(0, 0, 0, 0).checked_add(i64::from(hour * 60 + minute).minutes()).ok()
}

#[cfg(test)]
mod tests;
