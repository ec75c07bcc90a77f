//! Where a row belongs: which cell of the span, which partition.

use crate::window::{Window, utc_date};
use jiff::Timestamp;

/// The cell of rows that belong to the export as a whole: snapshots and rejects.
pub const NO_CELL: u32 = u32::MAX;

/// Which cells a span has, and how rows find theirs.
#[derive(Clone, Debug)]
pub struct Routes {
    cells: Vec<(i64, i64, String)>,
    /// First and last instant that is expected.
    asked_us: (i64, i64),
    snapshot: String,
    by_channel_type: bool,
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
        Self { cells, asked_us, snapshot: format!("snapshot_date={}", utc_date(exported_at)), by_channel_type }
    }

    /// The same cells for an export that was asked for all of this: its other rows are expected, and dropped.
    #[must_use]
    pub fn of_export(self, asked: Window) -> Self {
        Self { asked_us: (asked.since.as_microsecond(), asked.until.as_microsecond()), ..self }
    }

    /// Where a message of this time goes.
    pub fn route(&self, created_at_us: i64) -> Route {
        let at = self.cells.partition_point(|(_, until, _)| *until <= created_at_us);
        match self.cells.get(at) {
            Some((since, _, _)) if *since <= created_at_us => u32::try_from(at).map_or(Route::Outside, Route::Cell),
            _ if self.in_margin(created_at_us) => Route::Margin,
            _ => Route::Outside,
        }
    }

    /// Whether a time lies in the span or its margin.
    pub fn is_near(&self, at_us: i64) -> bool {
        self.route(at_us) != Route::Outside
    }

    fn in_margin(&self, at_us: i64) -> bool {
        (self.asked_us.0..=self.asked_us.1).contains(&at_us)
    }

    /// The folder of a row below its dataset.
    pub(super) fn partition(&self, cell: u32, cid: Option<&str>) -> String {
        let Some((_, _, date)) = self.cells.get(cell as usize) else { return self.snapshot.clone() };
        match cid.and_then(|cid| cid.split_once(':')) {
            Some((channel_type, _)) if self.by_channel_type => format!("{date}/channel_type={}", escape(channel_type)),
            _ if self.by_channel_type => format!("{date}/channel_type=__HIVE_DEFAULT_PARTITION__"),
            _ => date.clone(),
        }
    }
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
    }
}
