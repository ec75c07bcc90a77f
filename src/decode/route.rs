//! Where a row belongs: which cell of the span, which partition.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::window::{Window, utc_date};

/// The cell of rows that belong to the export as a whole: snapshots and rejects.
pub const NO_CELL: u32 = u32::MAX;

/// Cells, each under the number that its rows carry.
pub type NumberedCells = BTreeMap<u32, Window>;

const DAY_US: i64 = 86_400_000_000;
/// The number of 1970-01-01, where every day is a cell: all days that there are have numbers above zero.
const EPOCH_CELL: i64 = 1 << 23;

/// Which cells a span has, and how rows find theirs.
#[derive(Clone, Debug)]
pub struct Routes {
    cells: Cells,
    /// First and last instant that is expected.
    asked_us: (i64, i64),
    snapshot: String,
    by_channel_type: bool,
}

#[derive(Clone, Debug)]
enum Cells {
    /// First instant, first instant after, folder.
    Listed(Vec<(i64, i64, String)>),
    /// Whatever day comes.
    Days,
    /// None: all rows are in this folder.
    Users(String),
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Into this cell of the span.
    Cell(u32),
    /// Asked for only to be sure of the bounds; it belongs to a neighbour.
    Margin,
    /// Nobody asked for it.
    Outside,
}

impl Routes {
    /// Routes for the ordered, disjoint `cells` of a span. Rows within `margin_us` around it are expected and dropped.
    pub fn new(cells: &[Window], margin_us: i64, exported_at: Timestamp, by_channel_type: bool) -> Self {
        let asked_us = match (cells.first(), cells.last()) {
            (Some(first), Some(last)) => {
                (first.since.as_microsecond() - margin_us, last.until.as_microsecond() + margin_us)
            }
            _ => (i64::MAX, i64::MIN),
        };
        let cells = cells
            .iter()
            .map(|cell| {
                let date = cell.date();
                (cell.since.as_microsecond(), cell.until.as_microsecond(), format!("event_date={date}"))
            })
            .collect();
        Self { cells: Cells::Listed(cells), asked_us, snapshot: snapshot(exported_at), by_channel_type }
    }

    /// Routes into UTC days, whichever come. [`day_of_cell`] tells which a cell is.
    pub fn into_days(exported_at: Timestamp, by_channel_type: bool) -> Self {
        Self { cells: Cells::Days, asked_us: (i64::MIN, i64::MAX), snapshot: snapshot(exported_at), by_channel_type }
    }

    /// Routes of a user export, which has no cells: its rows are what there was on the day of the export.
    pub fn of_users(exported_at: Timestamp) -> Self {
        let folder = format!("export_date={}", utc_date(exported_at));
        Self { cells: Cells::Users(folder), ..Self::into_days(exported_at, false) }
    }

    /// The same cells, of which nobody knows what else is in the file: its other rows are dropped.
    #[must_use]
    pub fn of_anything(self) -> Self {
        Self { asked_us: (i64::MIN, i64::MAX), ..self }
    }

    /// The same cells for an export that was asked for all of this: its other rows are expected, and dropped.
    #[must_use]
    pub fn of_export(self, asked: Window) -> Self {
        Self { asked_us: (asked.since.as_microsecond(), asked.until.as_microsecond()), ..self }
    }

    /// Where a message of this time goes.
    pub fn route(&self, created_at_us: i64) -> Route {
        let cells = match &self.cells {
            Cells::Listed(cells) => cells,
            Cells::Days => {
                let number = created_at_us.div_euclid(DAY_US) + EPOCH_CELL;
                return u32::try_from(number).map_or(Route::Outside, Route::Cell);
            }
            Cells::Users(_) => return Route::Cell(NO_CELL),
        };
        let at = cells.partition_point(|(_, until, _)| *until <= created_at_us);
        match cells.get(at) {
            Some((since, _, _)) if *since <= created_at_us => u32::try_from(at).map_or(Route::Outside, Route::Cell),
            _ if self.in_margin(created_at_us) => Route::Margin,
            _ => Route::Outside,
        }
    }

    /// Whether a time lies in the span or its margin.
    pub fn is_near(&self, at_us: i64) -> bool {
        self.route(at_us) != Route::Outside
    }

    /// The folder of rejects below their dataset, whatever was exported.
    pub(super) fn quarantine(&self) -> String {
        self.snapshot.clone()
    }

    fn in_margin(&self, at_us: i64) -> bool {
        (self.asked_us.0..=self.asked_us.1).contains(&at_us)
    }

    /// The folder of a row below its dataset.
    pub(super) fn partition(&self, cell: u32, cid: Option<&str>) -> String {
        let date = match &self.cells {
            Cells::Listed(cells) => cells.get(cell as usize).map(|(_, _, date)| date.clone()),
            Cells::Days => (cell != NO_CELL).then(|| format!("event_date={}", day_of_cell(cell).date())),
            Cells::Users(folder) => Some(folder.clone()),
        };
        let Some(date) = date else { return self.snapshot.clone() };
        match cid.and_then(|cid| cid.split_once(':')) {
            Some((channel_type, _)) if self.by_channel_type => format!("{date}/channel_type={}", escape(channel_type)),
            _ if self.by_channel_type => format!("{date}/channel_type=__HIVE_DEFAULT_PARTITION__"),
            _ => date,
        }
    }
}

fn snapshot(exported_at: Timestamp) -> String {
    format!("snapshot_date={}", utc_date(exported_at))
}

/// The ordered cells of a span under their numbers.
pub fn numbered(cells: &[Window]) -> NumberedCells {
    (0..).zip(cells.iter().copied()).collect()
}

/// The day that a cell of [`Routes::into_days`] is.
pub fn day_of_cell(cell: u32) -> Window {
    let at_us = (i64::from(cell) - EPOCH_CELL).saturating_mul(DAY_US);
    Window::day_of(Timestamp::from_microsecond(at_us).unwrap_or(Timestamp::MIN))
}

/// Hive's escape of a partition value: everything that is special in a path or a URL as `%XX`.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::window::parse_time;

    #[test]
    fn cells_are_half_open_and_the_margin_is_closed() {
        let at = |text: &str| parse_time(text).unwrap();
        let cells = [
            Window::new(at("2026-01-01T05:00:00Z"), at("2026-01-02")).unwrap(),
            Window::new(at("2026-01-02"), at("2026-01-03")).unwrap(),
        ];
        let routes = Routes::new(&cells, 1_000, at("2026-02-01"), true);
        let route = |text: &str| routes.route(at(text).as_microsecond());
        assert_eq!(route("2026-01-01T04:59:59.998999Z"), Route::Outside);
        assert_eq!(route("2026-01-01T04:59:59.999Z"), Route::Margin);
        assert_eq!(route("2026-01-01T05:00:00Z"), Route::Cell(0));
        assert_eq!(route("2026-01-01T23:59:59.999999Z"), Route::Cell(0));
        assert_eq!(route("2026-01-02"), Route::Cell(1));
        assert_eq!(route("2026-01-03"), Route::Margin);
        assert_eq!(route("2026-01-03T00:00:00.001Z"), Route::Margin);
        assert_eq!(route("2026-01-03T00:00:00.001001Z"), Route::Outside);
        assert_eq!(routes.partition(1, Some("a/b:x")), "event_date=2026-01-02/channel_type=a%2Fb");
        assert_eq!(routes.partition(NO_CELL, None), "snapshot_date=2026-02-01");
        assert_eq!(routes.of_anything().route(at("1999-01-01").as_microsecond()), Route::Margin);
    }

    #[test]
    fn every_day_may_be_a_cell() {
        let at = |text: &str| parse_time(text).unwrap();
        let routes = Routes::into_days(at("2026-02-01"), false);
        let mut last = 0;
        for (text, date) in [
            ("0001-01-01", "0001-01-01"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31"),
            ("1970-01-01", "1970-01-01"),
            ("2026-01-31T12:00:00Z", "2026-01-31"),
            ("9999-12-30", "9999-12-30"),
        ] {
            let Route::Cell(cell) = routes.route(at(text).as_microsecond()) else { panic!("{text} is no day") };
            assert_eq!(routes.partition(cell, Some("a:b")), format!("event_date={date}"));
            assert!(day_of_cell(cell).contains(at(text)) && cell > last);
            last = cell;
        }
        assert_eq!(routes.partition(NO_CELL, None), "snapshot_date=2026-02-01");
    }

    #[test]
    fn what_users_wrote_is_filed_by_the_day_of_the_export_and_rejects_as_ever() {
        let at = |text: &str| parse_time(text).unwrap();
        let routes = Routes::of_users(at("2026-02-01T23:59:59Z"));
        assert_eq!(routes.route(at("1999-01-01").as_microsecond()), Route::Cell(NO_CELL));
        assert_eq!(routes.partition(NO_CELL, Some("a:b")), "export_date=2026-02-01");
        assert_eq!(routes.quarantine(), "snapshot_date=2026-02-01");
    }
}
