//! Points in time and lengths of it, as people write and read them.

use jiff::{SignedDuration, Timestamp};

/// Units of a length of time by their letter, in seconds.
const UNITS: [(char, i64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];

/// The point in time that `10m` ago or a timestamp means.
pub(super) fn since(text: &str) -> Result<Timestamp, String> {
    let ago = UNITS.iter().find_map(|(unit, seconds)| {
        let count: i64 = text.strip_suffix(*unit)?.parse().ok()?;
        SignedDuration::try_from_secs_f64(count.checked_mul(*seconds)? as f64).ok()
    });
    match ago {
        Some(ago) => Timestamp::now().checked_sub(ago).map_err(|error| error.to_string()),
        None => text.parse().map_err(|_| {
            "neither a length such as `10m` nor a time such as `2026-01-31T12:00:00Z`".to_owned()
        }),
    }
}

/// How long ago a timestamp of the server was, in its largest unit.
pub(super) fn ago(moment: &str) -> Option<String> {
    let at: Timestamp = moment.parse().ok()?;
    Some(length(Timestamp::now().duration_since(at).as_secs().max(0)))
}

/// A length of time in its largest unit.
pub(super) fn length(seconds: i64) -> String {
    let largest = UNITS.iter().rev().find(|(_, size)| seconds >= *size);
    let (unit, size) = largest.copied().unwrap_or(UNITS[0]);
    format!("{} {}", seconds / size, if unit == 'm' { "min".to_owned() } else { unit.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_times_are_understood() {
        let ten = Timestamp::now().duration_since(since("10m").unwrap()).as_secs();
        assert!((599..700).contains(&ten), "{ten}");
        assert_eq!(since("2026-01-31T12:00:00Z").unwrap().to_string(), "2026-01-31T12:00:00Z");
        for wrong in ["", "m", "10", "ten m", "99999999999999999999d", "9223372036854775807d"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_are_short() {
        let all: Vec<_> = [0, 59, 60, 7_199, 86_400 * 3].into_iter().map(length).collect();
        assert_eq!(all, ["0 s", "59 s", "1 min", "1 h", "3 d"]);
        assert_eq!(ago("no time"), None);
    }
}
