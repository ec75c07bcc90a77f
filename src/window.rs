//! Time, cut into cells: pure arithmetic on half-open UTC windows.
//!
//! A [`Window`] is `[since, until)` on a message's `created_at`. A [`Grid`] cuts the timeline into equal steps that divide a
//! UTC day. A *cell* is a window inside one grid step: the unit of coverage, files and replacement. A *span* is what one
//! export asks for: one or many adjacent cells.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Microseconds in a UTC day.
pub const DAY_US: i64 = 86_400_000_000;

/// Why a window, a grid or a point in time was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WindowError {
    /// The end is not after the start.
    #[error("the range is empty: `{since}` is not before `{until}`")]
    Empty {
        /// The start that was given.
        since: Timestamp,
        /// The end that was given.
        until: Timestamp,
    },
    /// The step does not divide a UTC day into equal cells.
    #[error("a window of `{0:#}` does not divide a day: use 1d, 12h, 8h, 6h, 4h, 3h, 2h, 1h, 30m, 15m, 10m, 5m or 1m")]
    Step(SignedDuration),
    /// Neither RFC 3339 nor a date.
    #[error("`{0}` is no point in time: use a date (2026-01-31) or RFC 3339 with an offset (2026-01-31T05:00:00Z)")]
    Time(String),
    /// Not a duration.
    #[error("`{0}` is no duration: use a number and a unit (90d, 12h, 5m, 30s)")]
    Duration(String),
}

/// A half-open span of time, `[since, until)`, never empty. Microsecond precision, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bounds")]
pub struct Window {
    /// First instant inside.
    pub since: Timestamp,
    /// First instant after.
    pub until: Timestamp,
}

/// A window as it is written, which may be empty.
#[derive(Deserialize)]
struct Bounds {
    since: Timestamp,
    until: Timestamp,
}

impl TryFrom<Bounds> for Window {
    type Error = WindowError;

    fn try_from(Bounds { since, until }: Bounds) -> Result<Self, WindowError> {
        Self::new(since, until)
    }
}

impl Window {
    /// `[since, until)`; refused when empty.
    pub fn new(since: Timestamp, until: Timestamp) -> Result<Self, WindowError> {
        if since < until { Ok(Self { since, until }) } else { Err(WindowError::Empty { since, until }) }
    }

    /// The whole UTC day that `at` falls on.
    pub fn day_of(at: Timestamp) -> Self {
        let since = floor_us(at, DAY_US);
        Self { since, until: add(since, SignedDuration::from_hours(24)) }
    }

    /// Whether `at` is inside.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.since <= at && at < self.until
    }

    /// Whether `other` lies wholly inside.
    pub fn covers(&self, other: &Self) -> bool {
        self.since <= other.since && other.until <= self.until
    }

    /// Whether the two share an instant.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.since < other.until && other.since < self.until
    }

    /// The UTC date of the start. A cell never crosses midnight, so for a cell it is the date of every instant inside.
    pub fn date(&self) -> Date {
        utc_date(self.since)
    }

    /// The length.
    pub fn duration(&self) -> SignedDuration {
        self.until.duration_since(self.since)
    }

    /// What is left of this window once `taken` is cut out. `taken` may be unordered and may overlap.
    pub fn subtract(&self, taken: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut taken: Vec<_> = taken.into_iter().filter(|window| window.overlaps(self)).collect();
        taken.sort_unstable();
        let mut left = Vec::new();
        let mut at = self.since;
        for window in taken {
            left.extend(Self::new(at, window.since.min(self.until)).ok());
            at = at.max(window.until);
        }
        left.extend(Self::new(at, self.until).ok());
        left
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.since, self.until)
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Equal steps from midnight UTC. A step divides a day, so no cell crosses midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    step_us: i64,
}

impl Default for Grid {
    /// Days.
    fn default() -> Self {
        Self { step_us: DAY_US }
    }
}

impl Grid {
    /// A grid of this step, which must divide a day and be at least a minute.
    pub fn new(step: SignedDuration) -> Result<Self, WindowError> {
        let step_us = i64::try_from(step.as_micros()).unwrap_or(0);
        if step_us >= 60_000_000 && DAY_US % step_us == 0 { Ok(Self { step_us }) } else { Err(WindowError::Step(step)) }
    }

    /// The step.
    pub fn step(&self) -> SignedDuration {
        SignedDuration::from_micros(self.step_us)
    }

    /// The last grid line at or before `at`.
    pub fn floor(&self, at: Timestamp) -> Timestamp {
        floor_us(at, self.step_us)
    }

    /// `range` cut at every grid line inside it; its own ends stay where they are.
    pub fn cells(&self, range: Window) -> Vec<Window> {
        let mut cells = Vec::new();
        let mut since = range.since;
        while since < range.until {
            let until = add(self.floor(since), self.step()).min(range.until);
            cells.push(Window { since, until });
            since = until;
        }
        cells
    }
}

/// Adjacent cells joined into spans of at most `longest`; `cells` must be ordered and disjoint.
pub fn spans(cells: &[Window], longest: SignedDuration) -> Vec<Vec<Window>> {
    let mut spans: Vec<Vec<Window>> = Vec::new();
    for &cell in cells {
        match spans.last_mut() {
            Some(span)
                if span[span.len() - 1].until == cell.since && cell.until.duration_since(span[0].since) <= longest =>
            {
                span.push(cell);
            }
            _ => spans.push(vec![cell]),
        }
    }
    spans
}

/// The UTC date of an instant.
pub fn utc_date(at: Timestamp) -> Date {
    at.to_zoned_datetime(TimeZone::UTC).date()
}

/// RFC 3339 with an offset, or a date, which means its midnight UTC. Finer digits than microseconds are cut.
pub fn parse_time(text: &str) -> Result<Timestamp, WindowError> {
    let refused = || WindowError::Time(text.to_owned());
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) if text.len() == 10 => Date::from_str(text)
            .and_then(|date| date.to_zoned_datetime(TimeZone::UTC))
            .map_err(|_| refused())?
            .timestamp(),
        Err(_) => return Err(refused()),
    };
    Ok(floor_us(at, 1))
}

/// `90d`, `12h`, `5m`, `30s`, `500ms` or a sum of them; a day is 24 hours.
pub fn parse_duration(text: &str) -> Result<SignedDuration, WindowError> {
    let refused = || WindowError::Duration(text.to_owned());
    let span: jiff::Span = text.trim().parse().map_err(|_| refused())?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| refused())?;
    if duration.is_negative() { Err(refused()) } else { Ok(duration) }
}

/// Stops at the end of time, which is in the year 9999.
fn add(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

fn floor_us(at: Timestamp, step_us: i64) -> Timestamp {
    // Nanoseconds are floored too, so that an instant before 1970 never moves forward.
    let us = i64::try_from(at.as_nanosecond().div_euclid(1_000)).unwrap_or(i64::MIN);
    Timestamp::from_microsecond(us.div_euclid(step_us) * step_us).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        parse_time(text).unwrap()
    }

    fn window(since: &str, until: &str) -> Window {
        Window::new(at(since), at(until)).unwrap()
    }

    fn hours(hours: i64) -> Grid {
        Grid::new(SignedDuration::from_hours(hours)).unwrap()
    }

    #[test]
    fn dates_and_offsets_are_read() {
        assert_eq!(at("2026-01-02"), at("2026-01-02T00:00:00Z"));
        assert_eq!(at("2026-01-02T01:00:00+01:00"), at("2026-01-02"));
        assert_eq!(at("2026-01-02T00:00:00.123456789Z"), at("2026-01-02T00:00:00.123456Z"));
        for bad in ["", "yesterday", "2026-13-01", "2026-01-02T00:00:00", "20260102"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn time_has_ends() {
        for edge in [Timestamp::MIN, Timestamp::MAX] {
            let day = Window::day_of(edge);
            assert!(day.since <= edge && edge <= day.until);
            assert!(hours(1).floor(edge) <= edge);
        }
        let last = Window::new(at("9999-12-30"), Timestamp::MAX).unwrap();
        assert_eq!(hours(1).cells(last).len(), 23);
    }

    #[test]
    fn a_window_that_is_written_empty_is_not_read() {
        let text = serde_json::to_string(&window("2026-01-01", "2026-01-02")).unwrap();
        assert_eq!(serde_json::from_str::<Window>(&text).unwrap(), window("2026-01-01", "2026-01-02"));
        assert!(serde_json::from_str::<Window>(&text.replace("01-01", "01-02")).is_err());
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("90d").unwrap(), SignedDuration::from_hours(24 * 90));
        assert_eq!(parse_duration("5m").unwrap(), SignedDuration::from_mins(5));
        assert_eq!(parse_duration("1h30m").unwrap(), SignedDuration::from_mins(90));
        for bad in ["", "5", "-5m", "soon"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_grid_divides_a_day() {
        assert!(Grid::new(SignedDuration::from_hours(5)).is_err());
        assert!(Grid::new(SignedDuration::from_hours(48)).is_err());
        assert!(Grid::new(SignedDuration::ZERO).is_err());
        assert_eq!(hours(24).cells(window("2026-01-01", "2026-01-03")).len(), 2);
    }

    #[test]
    fn ranges_off_the_grid_keep_their_ends() {
        let cells = hours(24).cells(window("2026-01-01T05:00:00Z", "2026-01-02T01:00:00Z"));
        assert_eq!(cells, [window("2026-01-01T05:00:00Z", "2026-01-02"), window("2026-01-02", "2026-01-02T01:00:00Z")]);
    }

    #[test]
    fn spans_break_at_gaps_and_at_the_longest() {
        let day = hours(24);
        let mut cells = day.cells(window("2026-01-01", "2026-01-06"));
        cells.remove(2);
        let lengths = |longest: i64| -> Vec<usize> {
            spans(&cells, SignedDuration::from_hours(longest)).iter().map(Vec::len).collect()
        };
        assert_eq!(lengths(24 * 90), [2, 2]);
        assert_eq!(lengths(24), [1, 1, 1, 1]);
    }

    fn windows() -> impl Strategy<Value = Window> {
        (-1_000_000i64..1_000_000, 1i64..1_000_000).prop_map(|(start_s, length_s)| {
            let since = Timestamp::from_second(start_s).unwrap();
            Window::new(since, since + SignedDuration::from_secs(length_s)).unwrap()
        })
    }

    proptest! {
        #[test]
        fn cells_tile_the_range(range in windows(), step in prop::sample::select(vec![1i64, 5, 60, 360, 1440])) {
            let grid = Grid::new(SignedDuration::from_mins(step)).unwrap();
            let cells = grid.cells(range);
            prop_assert_eq!(cells[0].since, range.since);
            prop_assert_eq!(cells[cells.len() - 1].until, range.until);
            for pair in cells.windows(2) {
                prop_assert_eq!(pair[0].until, pair[1].since);
                prop_assert_eq!(grid.floor(pair[1].since), pair[1].since);
            }
            for cell in &cells {
                prop_assert!(Window::day_of(cell.since).covers(cell));
            }
            let joined = spans(&cells, SignedDuration::MAX);
            prop_assert_eq!(joined, vec![cells]);
        }

        #[test]
        fn subtraction_and_what_was_taken_tile_the_range(
            range in windows(),
            taken in prop::collection::vec(windows(), 0..6),
            probe in -1_000_000i64..2_000_000,
        ) {
            let left = range.subtract(taken.clone());
            let probe = Timestamp::from_second(probe).unwrap();
            let wanted = range.contains(probe) && !taken.iter().any(|window| window.contains(probe));
            prop_assert_eq!(left.iter().filter(|window| window.contains(probe)).count(), usize::from(wanted));
        }
    }
}
