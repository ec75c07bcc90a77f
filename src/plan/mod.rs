//! What to export next: pure decisions from the state of the lake, the clock and the rules.

mod exceptions;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

pub use self::exceptions::Fill;
use crate::journal::Begun;
use crate::lake::State;
use crate::window::{Grid, Window, spans};

/// How time is cut and when it is looked at again.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The grid of the cells.
    pub grid: Grid,
    /// How fresh is too fresh.
    pub settle: SignedDuration,
    /// Ages at which a day is exported again.
    pub revisit: Vec<SignedDuration>,
    /// The longest span of one export.
    pub longest_span: SignedDuration,
}

/// How long after it was asked for an export may still serve a replacement that someone asks for explicitly.
const REPLACEMENT_KEEPS: SignedDuration = SignedDuration::from_hours(24);

/// How far this machine's clock may be off from Stream's: what is settled by one of them must be so by the other.
pub fn most_clock_offset(settle: SignedDuration) -> SignedDuration {
    (settle / 2).max(SignedDuration::from_secs(2))
}

/// One round of exports: adjacent cells, each channel asked once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The cells, ordered and without gaps.
    pub cells: Vec<Window>,
    /// Whether the cells hold rows that are to be replaced.
    pub replaces: bool,
    /// Whether those rows stand beside the new ones, and of two versions of a row the later one wins.
    pub merges: bool,
    /// Exports that were asked for earlier than this do not serve.
    pub fresh_since: Timestamp,
    /// The channels to ask for, when the rows of all others stay as they are; none: every channel.
    pub only: Option<BTreeSet<String>>,
}

impl Span {
    /// The first instant of the first cell to the end of the last.
    pub fn window(&self) -> Window {
        Window { since: self.cells[0].since, until: self.cells[self.cells.len() - 1].until }
    }

    fn extend(cells: Vec<Window>) -> Self {
        // Whoever asked before waited for the cells to settle, as this run does.
        Self { cells, replaces: false, merges: false, fresh_since: Timestamp::MIN, only: None }
    }

    fn replace(cells: Vec<Window>, fresh_since: Timestamp) -> Self {
        Self { cells, replaces: true, merges: false, fresh_since, only: None }
    }

    /// Cells, ordered and with gaps, that get rows beside those that they have.
    pub fn merge(cells: Vec<Window>) -> Self {
        Self { merges: true, ..Self::replace(cells, Timestamp::MAX) }
    }

    /// Cells that files on disk hold all of.
    pub fn declared(cells: Vec<Window>, replaces: bool) -> Self {
        Self { replaces, ..Self::extend(cells) }
    }
}

impl Rules {
    /// What of `range` is not covered yet, in cells of the grid.
    pub fn missing(&self, state: &State, range: Window) -> Vec<Span> {
        let cells: Vec<Window> =
            state.uncovered(range).into_iter().flat_map(|window| self.grid.cells(window)).collect();
        spans(&cells, self.longest_span).into_iter().map(Span::extend).collect()
    }

    /// The same, newest first: spans are measured from the end of what is missing.
    pub fn history(&self, state: &State, range: Window, begun: &[Begun]) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for window in state.uncovered(range) {
            let mut cells = self.grid.cells(window);
            while let Some(last) = cells.last() {
                let until = last.until;
                let fits = |cell: &Window| until.duration_since(cell.since) <= self.longest_span;
                let first = cells.partition_point(|cell| !fits(cell)).min(cells.len() - 1);
                spans.push(Span::extend(cells.split_off(first)));
            }
        }
        let mut spans = self.resume(spans, begun);
        spans.sort_by_key(|span| std::cmp::Reverse(span.window()));
        spans
    }

    /// All of `range`, widened to the cells that it touches, whether covered or not.
    pub fn replacement(&self, state: &State, range: Window, now: Timestamp) -> Vec<Span> {
        let mut cells: Vec<Window> = state.covers_in(range).map(|covered| covered.cover.window).collect();
        cells.extend(state.uncovered(range).into_iter().flat_map(|window| self.grid.cells(window)));
        cells.sort_unstable();
        let recent = now.saturating_sub(REPLACEMENT_KEEPS).unwrap_or(Timestamp::MIN);
        let fresh_since = |cells: &[Window]| recent.max(last_export(state, cells));
        spans(&cells, self.longest_span)
            .into_iter()
            .map(|cells| Span { fresh_since: fresh_since(&cells), ..Span::replace(cells, recent) })
            .collect()
    }

    /// The complete cells from the frontier (or from `start`, in a lake without one) to as late as `now` allows.
    pub fn due(&self, state: &State, start: Option<Timestamp>, now: Timestamp) -> Vec<Span> {
        let Some(from) = state.frontier().or(start) else { return Vec::new() };
        let until = self.grid.floor(self.settled_at(now));
        Window::new(from, until).map(|range| self.missing(state, range)).unwrap_or_default()
    }

    /// The same cells, cut so that what other runs have begun can be gone on with as they cut it.
    pub fn resume(&self, wanted: Vec<Span>, begun: &[Begun]) -> Vec<Span> {
        let mut resumed = Vec::new();
        for span in wanted {
            let mut left: BTreeSet<Window> = span.cells.iter().copied().collect();
            let mut parts: Vec<Vec<Window>> = Vec::new();
            for Begun { span: other, tasks, .. } in begun {
                let serves = other.replaces == span.replaces && other.begun_at >= span.fresh_since;
                if serves && !tasks.is_empty() && other.cells.iter().all(|cell| left.contains(cell)) {
                    left.retain(|cell| !other.cells.contains(cell));
                    parts.push(other.cells.clone());
                }
            }
            parts.extend(spans(&left.into_iter().collect::<Vec<_>>(), self.longest_span));
            parts.sort_unstable();
            resumed.extend(parts.into_iter().map(|cells| Span { cells, ..span.clone() }));
        }
        resumed
    }

    /// The latest instant that is old enough to be exported.
    pub fn settled_at(&self, now: Timestamp) -> Timestamp {
        now.saturating_sub(self.settle).unwrap_or(Timestamp::MIN)
    }

    /// The days to export again: old enough, and last exported before they were.
    pub fn revisits(&self, state: &State, now: Timestamp) -> Vec<Span> {
        let mut days: Vec<Window> = state.covers().map(|covered| Window::day_of(covered.cover.window.since)).collect();
        days.dedup();
        // One export for each day: a channel's messages of a week would otherwise be asked for to refresh one day of it.
        days.into_iter()
            .filter_map(|day| {
                let fresh_since = self.due_since(state, day, now)?.max(last_export(state, &[day]));
                Some(Span::replace(vec![day], fresh_since))
            })
            .collect()
    }

    /// When the day reached the latest age at which it is to be exported again, if it was not exported since then.
    fn due_since(&self, state: &State, day: Window, now: Timestamp) -> Option<Timestamp> {
        let complete_at = state.covers_in(day).map(|covered| covered.cover.complete_at()).min()?;
        let is_whole =
            state.uncovered(day).is_empty() && state.covers_in(day).all(|covered| day.covers(&covered.cover.window));
        let reached = self.revisit.iter().filter_map(|age| day.until.saturating_add(*age).ok()).filter(|at| *at <= now);
        reached.max().filter(|at| is_whole && complete_at < *at)
    }
}

/// Just after the last export of any of these cells.
fn last_export(state: &State, cells: &[Window]) -> Timestamp {
    let exports = cells.iter().flat_map(|cell| state.covers_in(*cell)).map(|covered| covered.cover.exported_at);
    exports.max().map_or(Timestamp::MIN, after)
}

/// The first instant after it.
pub(crate) fn after(at: Timestamp) -> Timestamp {
    at.saturating_add(SignedDuration::from_micros(1)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::lake::entry::Action;
    use crate::lake::{CellRecord, Cover};
    use crate::window::parse_time;

    fn at(text: &str) -> Timestamp {
        parse_time(text).unwrap()
    }

    fn window(since: &str, until: &str) -> Window {
        Window::new(at(since), at(until)).unwrap()
    }

    fn rules(step_hours: i64) -> Rules {
        Rules {
            grid: Grid::new(SignedDuration::from_hours(step_hours)).unwrap(),
            settle: SignedDuration::from_mins(5),
            revisit: vec![SignedDuration::from_hours(24), SignedDuration::from_hours(24 * 7)],
            longest_span: SignedDuration::from_hours(24 * 90),
        }
    }

    fn state(origin: Option<&str>, covers: &[(&str, &str, &str)]) -> State {
        let mut state = State::default();
        for (since, until, exported_at) in covers {
            let cover = Cover {
                window: window(since, until),
                exported_at: at(exported_at),
                run_id: Uuid::nil(),
                as_of: None,
                keep_files: false,
                record: CellRecord::default(),
            };
            let origin = origin.filter(|_| state.next() == 1).map(|origin| Action::Origin(at(origin)));
            state.go_on_with(origin.into_iter().chain([Action::Cover(cover)]).collect());
        }
        state
    }

    fn show(spans: &[Span]) -> Vec<Vec<String>> {
        spans.iter().map(|span| span.cells.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn automatic_mode_takes_complete_cells_that_have_settled() {
        let rules = rules(24);
        let empty = State::default();
        assert_eq!(rules.due(&empty, None, at("2026-01-05")), []);
        let spans = rules.due(&empty, Some(at("2026-01-01")), at("2026-01-03T00:04:59Z"));
        assert_eq!(show(&spans), [["2026-01-01T00:00:00Z..2026-01-02T00:00:00Z"]]);
        let state = state(Some("2026-01-01"), &[("2026-01-01", "2026-01-02", "2026-01-03")]);
        let spans = rules.due(&state, Some(at("2025-01-01")), at("2026-01-04T00:05:00Z"));
        assert_eq!(
            show(&spans),
            [["2026-01-02T00:00:00Z..2026-01-03T00:00:00Z", "2026-01-03T00:00:00Z..2026-01-04T00:00:00Z"]]
        );
    }

    #[test]
    fn a_range_asks_only_for_what_is_missing() {
        let state = state(None, &[("2026-01-02", "2026-01-03", "2026-01-04")]);
        let spans = rules(24).missing(&state, window("2026-01-01T12:00:00Z", "2026-01-04"));
        assert_eq!(
            show(&spans),
            [["2026-01-01T12:00:00Z..2026-01-02T00:00:00Z"], ["2026-01-03T00:00:00Z..2026-01-04T00:00:00Z"]]
        );
        assert_eq!(rules(24).missing(&state, window("2026-01-02T05:00:00Z", "2026-01-03")), []);
    }

    #[test]
    fn history_is_cut_from_its_end_and_newest_first() {
        let rules = Rules { longest_span: SignedDuration::from_hours(24 * 2), ..rules(24) };
        let state = state(None, &[("2026-01-04", "2026-01-05", "2026-01-09")]);
        let spans = rules.history(&state, window("2026-01-01", "2026-01-08"), &[]);
        let found: Vec<String> = spans.iter().map(|span| span.window().to_string()).collect();
        let wanted = [
            ("2026-01-06", "2026-01-08"),
            ("2026-01-05", "2026-01-06"),
            ("2026-01-02", "2026-01-04"),
            ("2026-01-01", "2026-01-02"),
        ];
        assert_eq!(found, wanted.map(|(since, until)| window(since, until).to_string()));
        assert_eq!(spans.iter().map(|span| span.cells.len()).sum::<usize>(), 6);
        // A cell that is longer than a span is one.
        let rules = Rules { longest_span: SignedDuration::from_hours(1), ..rules };
        assert_eq!(rules.history(&state, window("2026-01-01", "2026-01-03"), &[]).len(), 2);
    }

    #[test]
    fn a_replacement_is_widened_to_the_cells_it_touches() {
        let state = state(None, &[("2026-01-02", "2026-01-03", "2026-01-04")]);
        let spans =
            rules(1).replacement(&state, window("2026-01-02T22:30:00Z", "2026-01-03T00:30:00Z"), at("2026-02-01"));
        assert_eq!(
            show(&spans),
            [["2026-01-02T00:00:00Z..2026-01-03T00:00:00Z", "2026-01-03T00:00:00Z..2026-01-03T00:30:00Z"]]
        );
    }

    #[test]
    fn a_day_is_due_once_for_each_age() {
        let rules = rules(24);
        let exported = |at: &str| state(None, &[("2026-01-01", "2026-01-02", at)]);
        let due = |exported_at: &str, now: &str| rules.revisits(&exported(exported_at), at(now)).len();
        assert_eq!(due("2026-01-02T00:05:00Z", "2026-01-02T23:59:59Z"), 0);
        assert_eq!(due("2026-01-02T00:05:00Z", "2026-01-03"), 1);
        assert_eq!(due("2026-01-03", "2026-01-08T23:59:59Z"), 0);
        assert_eq!(due("2026-01-03", "2026-01-09"), 1);
        assert_eq!(due("2026-01-09", "2027-01-01"), 0);
    }

    #[test]
    fn hours_are_revisited_as_one_day_and_only_when_it_is_whole() {
        let rules = rules(12);
        let half = state(None, &[("2026-01-01", "2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z")]);
        assert_eq!(rules.revisits(&half, at("2026-02-01")), []);
        let whole = state(
            None,
            &[
                ("2026-01-01", "2026-01-01T12:00:00Z", "2026-02-01"),
                ("2026-01-01T12:00:00Z", "2026-01-02", "2026-01-02T01:00:00Z"),
            ],
        );
        assert_eq!(show(&rules.revisits(&whole, at("2026-02-02"))), [["2026-01-01T00:00:00Z..2026-01-02T00:00:00Z"]]);
    }
}
