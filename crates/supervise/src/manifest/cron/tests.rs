//! The parser and the search against a reading of the text day by day.

use super::*;
use jiff::tz::TimeZone;
use proptest::prelude::*;

fn at(text: &str) -> DateTime {
    text.parse().unwrap()
}

/// Whether a field of digits, names, `*`, `-`, `/` and `,` admits a value, read afresh for each value.
fn admits(field: &str, value: i8, lowest: i8) -> bool {
    field.split(',').any(|part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let number = |text: &str| -> i8 {
            let text = text.to_lowercase();
            let named = MONTHS.iter().position(|n| *n == text).map(|i| i as i8 + 1);
            let named = named.or(WEEKDAYS.iter().position(|n| *n == text).map(|i| i as i8));
            named.unwrap_or_else(|| text.parse().unwrap())
        };
        let (low, high) = match range.split_once('-') {
            _ if range == "*" => (lowest, i8::MAX),
            Some((low, high)) => (number(low), number(high)),
            None => (number(range), number(range)),
        };
        value >= low && value <= high && (value - low) % number(step) == 0
    })
}

fn due_on(text: &str, date: Date) -> bool {
    let f: Vec<&str> = text.split(' ').collect();
    let weekday = date.weekday().to_sunday_zero_offset();
    let day = admits(f[2], date.day(), 1);
    let sunday_as_seven = weekday == 0 && !f[4].starts_with('*') && admits(f[4], 7, 0);
    let weekday = admits(f[4], weekday, 0) || sunday_as_seven;
    let days = if f[2].starts_with('*') || f[4].starts_with('*') { day && weekday } else { day || weekday };
    admits(f[3], date.month(), 1) && days
}

/// The first due minute after `begin`, if it is among the next 400 days.
fn first_due(text: &str, begin: DateTime) -> Option<DateTime> {
    let f: Vec<&str> = text.split(' ').collect();
    let times: Vec<(i8, i8)> = (0..24)
        .filter(|hour| admits(f[1], *hour, 0))
        .flat_map(|hour| (0..60).filter(|minute| admits(f[0], *minute, 0)).map(move |minute| (hour, minute)))
        .collect();
    let days = std::iter::successors(Some(begin.date()), |day| day.tomorrow().ok()).take(400);
    days.filter(|day| due_on(text, *day))
        .flat_map(|day| times.iter().map(move |(hour, minute)| day.at(*hour, *minute, 0, 0)))
        .find(|time| *time > begin)
}

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let range = (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    let part = prop_oneof![
        3 => (low..=high).prop_map(|n| n.to_string()),
        2 => range.clone(),
        1 => (range, 1u32..9).prop_map(|(range, step)| format!("{range}/{step}")),
        1 => (1u32..30).prop_map(|step| format!("*/{step}")),
    ];
    prop_oneof![
        2 => Just("*".to_owned()),
        3 => proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join(",")),
    ]
}

proptest! {
    #[test]
    fn next_is_the_first_minute_that_is_due(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12), weekday in field(0, 7),
        start in 0i64..4_000_000,
    ) {
        let text = [minute, hour, day, month, weekday].join(" ");
        let begin = at("2023-01-01T00:00").checked_add(start.minutes()).unwrap();
        match Cron::parse(&text) {
            Ok(cron) => {
                let found = cron.next_civil(begin).unwrap();
                match first_due(&text, begin) {
                    Some(first) => prop_assert_eq!(found, first, "{}", text),
                    None => prop_assert!(found > begin && due_on(&text, found.date()), "{text}: {found}"),
                }
            }
            Err(error) => prop_assert_eq!(error, CronError::Never),
        }
    }

    #[test]
    fn any_text_is_survived(text in "[0-9*,/ a-z-]{0,30}") {
        _ = Cron::parse(&text);
    }
}

#[test]
fn names_and_both_sundays() {
    for (text, from, expected) in [
        ("30 6 * * mon-FRI", "2026-01-02T06:30", "2026-01-05T06:30"),
        ("0 0 * Feb 7", "2026-01-02T06:30", "2026-02-01T00:00"),
        ("0 0 * feb sun", "2026-01-02T06:30", "2026-02-01T00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00", "2104-02-29T00:00"),
        ("0 12 13 * fri", "2026-01-02T12:00", "2026-01-09T12:00"),
        ("59 23 31 12 *", "2026-12-31T23:59", "2027-12-31T23:59"),
    ] {
        assert_eq!(Cron::parse(text).unwrap().next_civil(at(from)), Some(at(expected)), "{text}");
    }
}

#[test]
fn mistakes_name_the_field() {
    for (text, expected) in [
        ("* * * *", "has `4` fields, not the five"),
        ("", "has `0` fields, not the five"),
        ("60 * * * *", "has `60` as minute"),
        ("1-x * * * *", "has `1-x` as minute"),
        ("* 5-2 * * *", "has `5-2` as hour"),
        ("* * 0 * *", "has `0` as day"),
        ("* * * */0 *", "has `*/0` as month"),
        ("* * * * 3/2", "has `3/2` as weekday"),
        ("* * * * 1,", "has `` as weekday"),
        ("+1 * * * *", "has `+1` as minute"),
        ("0 0 30 2 *", "never comes"),
    ] {
        let error = Cron::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

/// Berlin's rules of today, independent of the machine's data.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

#[test]
fn hours_that_clocks_skip_or_repeat() {
    let next = |text: &str, from: &str| {
        let from: jiff::Timestamp = from.parse().unwrap();
        Cron::parse(text).unwrap().next(&from.to_zoned(berlin())).unwrap().timestamp().to_string()
    };
    // 2026-03-29: 02:00 CET becomes 03:00 CEST, so that 02:30 comes as 03:30.
    assert_eq!(next("30 2 * * *", "2026-03-29T00:00:00Z"), "2026-03-29T01:30:00Z");
    // 2026-10-25: 03:00 CEST becomes 02:00 CET. The first 02:30 counts, the second does not.
    assert_eq!(next("30 2 * * *", "2026-10-24T23:00:00Z"), "2026-10-25T00:30:00Z");
    assert_eq!(next("30 2 * * *", "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    assert_eq!(next("30 2 * * *", "2026-10-25T01:10:00Z"), "2026-10-26T01:30:00Z");
    // Every hour means every hour, also the second 02:30.
    assert_eq!(next("30 * * * *", "2026-10-25T00:30:00Z"), "2026-10-25T01:30:00Z");
    assert_eq!(next("*/20 * * * *", "2026-10-25T01:10:00Z"), "2026-10-25T01:20:00Z");
}
