//! Channels that Stream could not export: when to ask for them again, and for which cells at once.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Rules, Span, after};
use crate::export::ExportTask;
use crate::journal::Begun;
use crate::lake::{Cover, Covered, State};
use crate::window::Window;

/// How long a channel that Stream could not export waits until it is asked for again.
const SHORTEST_WAIT: SignedDuration = SignedDuration::from_hours(1);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24 * 7);

/// What one fill reads and may write again, and how many channels its cells name in all.
const MOST_FILLED_BYTES: u64 = 1 << 30;
const MOST_FILLED_CHANNELS: usize = 20_000;

/// Adjacent cells that lack the same channels, which are asked for again: one request asks for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The channels.
    channels: BTreeSet<String>,
    /// The cells, without gaps.
    cells: Vec<Lacking>,
}

/// A cell as it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lacking {
    window: Window,
    commit_id: Uuid,
    exported_at: Timestamp,
    /// Size of its files.
    bytes: u64,
}

impl Fill {
    /// Of one cell.
    pub fn of(state: &State, Covered { cover, commit_id, .. }: &Covered, channels: BTreeSet<String>) -> Self {
        let bytes = state.files_of(cover.window).map(|live| live.file.bytes).sum();
        let Cover { window, exported_at, .. } = *cover;
        Self { channels, cells: vec![Lacking { window, commit_id: *commit_id, exported_at, bytes }] }
    }

    /// Takes up a cell that follows, if the two go together in a span that is no longer than this.
    pub fn join(&mut self, next: Self, longest_span: SignedDuration) -> Result<(), Self> {
        let (window, after) = (self.window(), next.window());
        let fits = self.channels == next.channels
            && window.until == after.since
            && after.until.duration_since(window.since) <= longest_span
            && self.bytes() + next.bytes() <= MOST_FILLED_BYTES
            && (self.cells.len() + next.cells.len()) * self.channels.len() <= MOST_FILLED_CHANNELS;
        if !fits {
            return Err(next);
        }
        self.cells.extend(next.cells);
        Ok(())
    }

    /// Whether another run has begun to ask for just this. Joined with more it would be asked for once more.
    pub fn is_begun(&self, begun: &[Begun]) -> bool {
        let is_of = |task: &ExportTask| task.cids.iter().all(|cid| self.channels.contains(cid));
        begun.iter().any(|Begun { span, tasks, .. }| {
            let is_same = span.cells.iter().eq(self.cells.iter().map(|cell| &cell.window));
            span.replaces && is_same && !tasks.is_empty() && tasks.iter().all(is_of)
        })
    }

    /// The cells one by one.
    pub fn apart(self) -> impl ExactSizeIterator<Item = Self> {
        let Self { channels, cells } = self;
        cells.into_iter().map(move |cell| Self { channels: channels.clone(), cells: vec![cell] })
    }

    /// Whether the cells are what they were when they were looked at.
    pub fn stands(&self, state: &State) -> bool {
        self.cells.iter().all(|cell| state.covers_in(cell.window).any(|now| now.commit_id == cell.commit_id))
    }

    /// What is to be asked for.
    pub fn span(&self) -> Span {
        let exported_at = self.cells.iter().map(|cell| cell.exported_at).max();
        let cells = self.cells.iter().map(|cell| cell.window).collect();
        let fresh_since = exported_at.map_or(Timestamp::MIN, after);
        Span { only: Some(self.channels.clone()), ..Span::replace(cells, fresh_since) }
    }

    fn window(&self) -> Window {
        let (first, last) = (self.cells[0].window, self.cells[self.cells.len() - 1].window);
        Window { since: first.since, until: last.until }
    }

    fn bytes(&self) -> u64 {
        self.cells.iter().map(|cell| cell.bytes).sum()
    }
}

impl Rules {
    /// Covered cells in `range` that lack channels which Stream could not export. With `now`, only those of which a channel has
    /// waited: an hour at first, then as long again as it has failed by then, in whichever cells, a week at most. So what lasts is
    /// asked for ever more rarely, and what comes back is there after at most twice the time that it was away.
    pub fn exceptions<'a>(
        &self,
        state: &'a State,
        range: Option<Window>,
        now: Option<Timestamp>,
    ) -> impl Iterator<Item = &'a Covered> {
        let due_at = now.map(|now| (Failing::of(state), now));
        state.covers().filter(move |Covered { cover, .. }| {
            cover.record.failed_channels() > 0
                && range.is_none_or(|range| range.overlaps(&cover.window))
                && due_at.as_ref().is_none_or(|(failing, now)| failing.is_due(cover, *now))
        })
    }
}

/// Since when each channel fails, and when it was last seen to.
struct Failing<'a>(HashMap<&'a str, (Timestamp, Timestamp)>);

impl<'a> Failing<'a> {
    fn of(state: &'a State) -> Self {
        let mut failing: HashMap<&str, (Timestamp, Timestamp)> = HashMap::new();
        for Covered { cover, .. } in state.covers() {
            let (since, until) = (cover.complete_at(), cover.exported_at);
            for exception in &cover.record.lists.failed_channels {
                let seen = failing.entry(&exception.cid).or_insert((since, until));
                *seen = (seen.0.min(since), seen.1.max(until));
            }
        }
        Self(failing)
    }

    fn is_due(&self, cover: &Cover, now: Timestamp) -> bool {
        let has_waited = |(since, until): (Timestamp, Timestamp)| {
            now.duration_since(until) >= until.duration_since(since).clamp(SHORTEST_WAIT, LONGEST_WAIT)
        };
        match cover.record.lists.failed_channels.as_slice() {
            // They are so many that they are named elsewhere: something is wrong with all of them.
            [] => has_waited((cover.complete_at(), cover.exported_at)),
            named => named.iter().filter_map(|named| self.0.get(named.cid.as_str())).any(|seen| has_waited(*seen)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lake::entry::Action;
    use crate::lake::{CellRecord, Exception, Lists};
    use crate::window::{Grid, parse_time};

    fn at(text: &str) -> Timestamp {
        parse_time(text).unwrap()
    }

    fn rules() -> Rules {
        Rules {
            grid: Grid::new(SignedDuration::from_hours(1)).unwrap(),
            settle: SignedDuration::from_mins(5),
            revisit: Vec::new(),
            longest_span: SignedDuration::from_hours(3),
        }
    }

    /// Cells of an hour from 00:00 on: what failed in each, when it was first exported, and when last, in hours.
    fn state(cells: &[(&[&str], i64, i64)]) -> State {
        let mut state = State::default();
        for (hour, (failed, first, last)) in (0..).zip(cells) {
            let hours = |hours: i64| at("2026-01-01") + SignedDuration::from_hours(hours);
            let failed_channels =
                failed.iter().map(|cid| Exception { cid: (*cid).to_owned(), reason: "it failed".into() }).collect();
            let cover = Cover {
                window: Window::new(hours(hour), hours(hour + 1)).unwrap(),
                exported_at: hours(*last),
                run_id: Uuid::nil(),
                as_of: Some(hours(*first)),
                keep_files: false,
                record: CellRecord { lists: Lists { failed_channels, ..Lists::default() }, ..CellRecord::default() },
            };
            state.go_on_with(vec![Action::Cover(cover)]);
        }
        state
    }

    fn due(state: &State, hour: i64) -> Vec<usize> {
        let now = at("2026-01-01") + SignedDuration::from_hours(hour);
        let hour_of = |covered: &Covered| covered.cover.window.since.duration_since(at("2026-01-01")).as_hours();
        rules().exceptions(state, None, Some(now)).map(|covered| usize::try_from(hour_of(covered)).unwrap()).collect()
    }

    #[test]
    fn what_fails_waits_as_long_again_as_it_has_failed_and_a_week_at_most() {
        assert_eq!(due(&state(&[(&["a"], 10, 10)]), 10), [0; 0]);
        assert_eq!(due(&state(&[(&["a"], 10, 10)]), 11), [0]);
        assert_eq!(due(&state(&[(&["a"], 10, 14)]), 17), [0; 0]);
        assert_eq!(due(&state(&[(&["a"], 10, 14)]), 18), [0]);
        assert_eq!(due(&state(&[(&["a"], 10, 2000)]), 2000 + 167), [0; 0]);
        assert_eq!(due(&state(&[(&["a"], 10, 2000)]), 2000 + 168), [0]);
        assert_eq!(due(&state(&[(&[], 10, 10)]), 9999), [0; 0]);
    }

    #[test]
    fn a_channel_that_fails_in_one_cell_after_the_other_is_not_asked_for_in_each_of_them() {
        // `a` has failed for six hours, and last an hour ago; `b` once, an hour ago.
        let failing = state(&[(&["a"], 2, 2), (&["a"], 4, 4), (&["a"], 8, 8), (&["b"], 8, 8), (&["a", "b"], 8, 8)]);
        assert_eq!(due(&failing, 9), [3, 4]);
        assert_eq!(due(&failing, 13), [3, 4]);
        assert_eq!(due(&failing, 14), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn adjacent_cells_that_lack_the_same_are_asked_for_at_once() {
        let state = state(&[
            (&["a"], 9, 9),
            (&["a"], 10, 10),
            (&["a"], 9, 9),
            (&["a"], 9, 9),
            (&[], 9, 9),
            (&["a"], 9, 9),
            (&["a", "b"], 9, 9),
        ]);
        let rules = rules();
        let mut fills: Vec<Fill> = Vec::new();
        for covered in rules.exceptions(&state, None, None) {
            let names = covered.cover.record.lists.failed_channels.iter().map(|failed| failed.cid.clone());
            let next = Fill::of(&state, covered, names.collect());
            let joined = match fills.last_mut() {
                Some(last) => last.join(next, rules.longest_span),
                None => Err(next),
            };
            fills.extend(joined.err());
        }
        let cells: Vec<usize> = fills.iter().map(|fill| fill.span().cells.len()).collect();
        // Three hours are the longest span.
        assert_eq!(cells, [3, 1, 1, 1]);
        let span = fills[0].span();
        assert_eq!((span.fresh_since, span.replaces), (after(at("2026-01-01T10:00:00Z")), true));
        assert!(fills.iter().all(|fill| fill.stands(&state)));
        assert_eq!(fills.swap_remove(0).apart().map(|one| one.span().cells.len()).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
