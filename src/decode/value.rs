//! Scalars: from the text of a JSON value to what a column holds. Nothing here guesses; what does not fit is `None`.

use std::borrow::Cow;

use crate::json::Value;

/// Go's zero time, `0001-01-01T00:00:00Z`, which stands for "never".
const GO_ZERO_US: i64 = -62_135_596_800_000_000;

/// The same as a whole number: in nanoseconds, as Go's overflowing arithmetic yields it, and in coarser units.
const GO_ZERO: [i64; 4] = [-6_795_364_578_871_345_152, GO_ZERO_US, GO_ZERO_US / 1_000, GO_ZERO_US / 1_000_000];

/// Integers below this are seconds, milliseconds or microseconds: as nanoseconds they would lie before March 1973.
const PLAUSIBLE_NS: u64 = 100_000_000_000_000_000;

/// A point in time, or the explicit absence of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// Microseconds since 1970.
    At(i64),
    /// Go's zero time or an empty string.
    Never,
}

pub(super) fn boolean(value: Value<'_>) -> Option<bool> {
    match value.raw() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A whole number; with `lenient`, also one spelled in a string.
pub(super) fn integer(value: Value<'_>, lenient: bool) -> Option<i64> {
    let raw = value.raw();
    match raw.as_bytes()[0] {
        b'"' if lenient => parse_integer(&value.text()?),
        b'-' | b'0'..=b'9' => parse_integer(raw),
        _ => None,
    }
}

fn parse_integer(text: &str) -> Option<i64> {
    // A float spells the integer it equals, as long as a float can tell it from its neighbours.
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        #[allow(clippy::cast_possible_truncation)]
        (number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0).then_some(number as i64)
    })
}

/// A finite number; with `lenient`, also one spelled in a string.
pub(super) fn float(value: Value<'_>, lenient: bool) -> Option<f64> {
    let raw = value.raw();
    let text = match raw.as_bytes()[0] {
        b'"' if lenient => value.text()?,
        b'-' | b'0'..=b'9' => Cow::Borrowed(raw),
        _ => return None,
    };
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// RFC 3339 text, or nanoseconds as a whole number, which may stand in a text to survive readers that know floats only.
pub(super) fn time(value: Value<'_>) -> Option<Time> {
    let raw = value.raw();
    match raw.as_bytes()[0] {
        b'"' => match value.text()?.as_ref() {
            "" => Some(Time::Never),
            text => match parse_rfc3339_us(text) {
                Some(us) => Some(never_if_zero(us)),
                None => whole_ns(text),
            },
        },
        b'-' | b'0'..=b'9' => whole_ns(raw),
        _ => None,
    }
}

fn whole_ns(text: &str) -> Option<Time> {
    match text.parse().ok()? {
        ns if GO_ZERO.contains(&ns) => Some(Time::Never),
        ns if ns.unsigned_abs() < PLAUSIBLE_NS => None,
        ns => Some(Time::At(ns.div_euclid(1_000))),
    }
}

fn never_if_zero(us: i64) -> Time {
    if us == GO_ZERO_US { Time::Never } else { Time::At(us) }
}

/// RFC 3339 with 0 to 9 digits of a second and any offset, in microseconds since 1970; finer digits are cut. A leap second,
/// which only midnight can have, is the second that follows it.
pub(crate) fn parse_rfc3339_us(text: &str) -> Option<i64> {
    let (at, rest) = text.as_bytes().split_first_chunk::<19>()?;
    let separators = (at[4], at[7], at[13], at[16]);
    if separators != (b'-', b'-', b':', b':') || !matches!(at[10], b'T' | b't' | b' ') {
        return None;
    }
    // Digits are checked all at once: a branch for each costs more than the rest.
    let mut highest = 0;
    let mut two = |place: usize| {
        let (tens, ones) = (at[place].wrapping_sub(b'0'), at[place + 1].wrapping_sub(b'0'));
        highest = highest.max(tens).max(ones);
        10 * i64::from(tens) + i64::from(ones)
    };
    let (year, month, day) = (100 * two(0) + two(2), two(5), two(8));
    let (hour, minute, second) = (two(11), two(14), two(17));
    if highest > 9 {
        return None;
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_us, offset) = match rest {
        [b'.', rest @ ..] => fraction_us(rest)?,
        rest => (0, rest),
    };
    let seconds =
        days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_seconds(offset)?;
    if second == 60 && seconds.rem_euclid(86_400) != 0 {
        return None;
    }
    Some(seconds * 1_000_000 + fraction_us)
}

/// The microseconds of 1 to 9 digits behind a point, and what follows them.
fn fraction_us(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (mut us, mut digits) = (0, 0);
    while let Some(byte @ b'0'..=b'9') = bytes.get(digits) {
        if digits < 6 {
            us = 10 * us + i64::from(byte - b'0');
        }
        digits += 1;
    }
    let us = us * 10i64.pow(6u32.saturating_sub(u32::try_from(digits).ok()?));
    (1..=9).contains(&digits).then_some((us, &bytes[digits..]))
}

/// The offset from UTC that is all of these bytes.
fn offset_seconds(bytes: &[u8]) -> Option<i64> {
    match *bytes {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h10, h1, b':', m10, m1] => {
            let two = |tens: u8, ones: u8| {
                (tens.is_ascii_digit() && ones.is_ascii_digit())
                    .then(|| 10 * i64::from(tens - b'0') + i64::from(ones - b'0'))
            };
            let (hours, minutes) = (two(h10, h1)?, two(m10, m1)?);
            let seconds = hours * 3600 + minutes * 60;
            (hours <= 23 && minutes <= 59).then_some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days in the proleptic Gregorian calendar, counted in 400-year eras that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::{Time, parse_rfc3339_us};
    use crate::json::{Index, Value};

    fn with<T>(json: &str, look: impl FnOnce(Value<'_>) -> T) -> T {
        look(Index::default().parse(json).unwrap())
    }

    fn time(json: &str) -> Option<Time> {
        with(json, super::time)
    }

    fn integer(json: &str, lenient: bool) -> Option<i64> {
        with(json, |value| super::integer(value, lenient))
    }

    fn float(json: &str) -> Option<f64> {
        with(json, |value| super::float(value, false))
    }

    #[test]
    fn times_of_every_spelling() {
        let noon = Time::At(1_767_268_800_000_000);
        for same in [
            r#""2026-01-01T12:00:00Z""#,
            r#""2026-01-01T12:00:00.000000000Z""#,
            r#""2026-01-01t13:30:00.0+01:30""#,
            r#""2026-01-01T07:00:00-05:00""#,
            "1767268800000000000",
            "1767268800000000000 ",
            r#""1767268800000000000""#,
        ] {
            assert_eq!(time(same), Some(noon), "{same}");
        }
        assert_eq!(time(r#""2026-01-01T12:00:00.1234567Z""#), Some(Time::At(1_767_268_800_123_456)));
        assert_eq!(time(r#""2016-12-31T23:59:60.5Z""#), Some(Time::At(1_483_228_800_500_000)));
        assert_eq!(time(r#""2017-01-01T05:29:60+05:30""#), Some(Time::At(1_483_228_800_000_000)));
        for never in [
            r#""""#,
            r#""0001-01-01T00:00:00Z""#,
            r#""0001-01-01t00:00:00.000000000z""#,
            r#""0001-01-01T01:00:00+01:00""#,
            "-6795364578871345152",
            "-62135596800",
            "-62135596800000",
            "-62135596800000000",
        ] {
            assert_eq!(time(never), Some(Time::Never), "{never}");
        }
        for bad in [
            r#""2026-02-29T00:00:00Z""#,
            r#""2026-01-01""#,
            r#""2026-01-01T12:00:00""#,
            r#""2026-01-01T12:00:00.Z""#,
            r#""2026-01-01T12:00:00.1234567890Z""#,
            r#""2026-01-01T12:00:00Zulu""#,
            r#""yesterday""#,
            "1767268800",
            "1767268800000",
            "1767268800000000",
            "1767268800000000000.5",
            "1.7672688e18",
            "99999999999999999999",
            r#""1767268800""#,
            r#""2026-01-01T12:00:60Z""#,
            r#""2026-01-01T23:59:61Z""#,
            "true",
            "{}",
        ] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_fit_or_do_not() {
        assert_eq!(integer("12", false), Some(12));
        assert_eq!(integer("12.0", false), Some(12));
        assert_eq!(integer("-9223372036854775808", false), Some(i64::MIN));
        assert_eq!(integer("9223372036854775808", false), None);
        assert_eq!(integer("1.5", false), None);
        assert_eq!(integer(r#""12""#, false), None);
        assert_eq!(integer(r#""12""#, true), Some(12));
        assert_eq!(integer(r#""12 kB""#, true), None);
        assert_eq!(float("1e3"), Some(1000.0));
        assert_eq!(float("1e999"), None);
    }

    proptest! {
        #[test]
        fn times_agree_with_jiff(us in -62_135_596_800_000_001i64..253_000_000_000_000_000, digits in 0usize..10) {
            let at = jiff::Timestamp::from_microsecond(us).unwrap();
            let text = format!("{at:.digits$}");
            let wanted = text.parse::<jiff::Timestamp>().unwrap();
            if !text.starts_with('-') {
                prop_assert_eq!(parse_rfc3339_us(&text), Some(wanted.as_microsecond()));
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            let _ = parse_rfc3339_us(&text);
        }
    }
}
