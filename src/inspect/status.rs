//! `chatlake status`: what is covered, what is missing, what is under way. By the log and the journals alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::lateness::{self, RevisitsOfAge};
use super::{Object, objects};
use crate::columns::Columns;
use crate::error::Result;
use crate::figures::{bytes, count};
use crate::journal::{self, Begun, BegunUsers};
use crate::kinds::Kinds;
use crate::lake::{Exception, ExportedUsers, Identity, Key, Lake, Source, State};
use crate::summary::DatasetSummary;
use crate::window::Window;

/// Lines that a list has for people; the rest is counted.
const SHOWN: usize = 10;

/// What there is to know.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Where the lake is.
    pub lake: String,
    /// Whose it is.
    pub identity: Identity,
    /// Entries in the log.
    pub entries: u64,
    /// The last snapshot of the log.
    pub last_snapshot: Option<u64>,
    /// Entries of runs with `--single-writer`.
    pub single_writer_entries: u64,
    /// Where automatic sync began.
    pub origin: Option<Timestamp>,
    /// Until when all is covered since then.
    pub frontier: Option<Timestamp>,
    /// Cells that are covered.
    pub cells: u64,
    /// Covered time, adjacent cells joined.
    pub coverage: Vec<Window>,
    /// Time that is not covered, between the first covered instant or the origin and the last.
    pub gaps: Vec<Window>,
    /// Cells that lack channels.
    pub exceptions: Vec<Exceptions>,
    /// Spans that runs have begun and not ended.
    pub in_flight: Vec<InFlight>,
    /// Exports of users that runs have begun and not ended.
    pub users_in_flight: Vec<UsersInFlight>,
    /// Exports of users that are committed.
    pub user_exports: u64,
    /// The last of them.
    pub last_user_export: Option<ExportedUsers>,
    /// The last entry, while it is not known to be settled.
    pub pending: Option<PendingEntry>,
    /// Promoted columns and exclusions.
    pub columns: Columns,
    /// Live files by dataset.
    pub datasets: BTreeMap<String, DatasetSummary>,
    /// Lines in quarantine, by the records of the cells.
    pub rejected: u64,
    /// Lines of unknown kinds.
    pub unclassified: u64,
    /// The same by what they say they are.
    pub unclassified_kinds: Kinds,
    /// Messages outside of what was asked for.
    pub out_of_window: u64,
    /// What was found when days were exported again.
    pub revisits: Vec<RevisitsOfAge>,
}

/// A cell that lacks channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exceptions {
    /// First instant.
    pub since: Timestamp,
    /// First instant after.
    pub until: Timestamp,
    /// Channels that Stream could not export.
    pub failed_channels: u64,
    /// Channels that Stream did not know.
    pub missing_channels: u64,
    /// Those that failed, with what Stream said, if they are few.
    pub failed: Vec<Exception>,
    /// The object that names both, if they are many.
    pub lists: Option<String>,
}

/// A span of a run that has not ended, or died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InFlight {
    /// The run.
    pub run_id: Uuid,
    /// When the span was begun.
    pub begun_at: Timestamp,
    /// When the run last wrote to its journal.
    pub last_record_at: Option<Timestamp>,
    /// First instant.
    pub since: Timestamp,
    /// First instant after.
    pub until: Timestamp,
    /// Cells in it.
    pub cells: usize,
    /// Whether it exports covered cells again.
    pub replaces: bool,
    /// Exports that Stream has begun for it.
    pub tasks: usize,
}

/// An export of users of a run that has not ended, or died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsersInFlight {
    /// The run.
    pub run_id: Uuid,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When the run last wrote to its journal.
    pub last_record_at: Option<Timestamp>,
    /// Users in it.
    pub users: usize,
    /// Exports that Stream has begun for it.
    pub tasks: usize,
}

/// An entry that is not known to be settled. The next commit settles it first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PendingEntry {
    /// Its number.
    pub entry: u64,
    /// Files that are still in staging.
    pub staged_files: u64,
    /// Replaced files that are still where readers look.
    pub removable_files: u64,
}

/// Asks the lake.
pub async fn status(lake: &Lake) -> Result<Status> {
    let (identity, state) = super::open(lake).await?;
    let snapshots = lake.snapshots().await?;
    let (begun, users) = journal::begun(lake, Uuid::nil()).await?;
    let nothing = begun.is_empty() && users.is_empty();
    let records = if nothing { Vec::new() } else { objects(lake, Some(&Key::journals())).await? };
    let mut status = of(&state, identity, lake.display_url(), &begun, &records);
    status.users_in_flight = users.iter().map(|begun| users_in_flight(begun, &records)).collect();
    status.last_snapshot = snapshots.first().copied();
    status.pending = pending(lake, &state).await?;
    Ok(status)
}

/// What is left to do of the last entry. Nothing, as a rule: only the next entry says that it is settled.
async fn pending(lake: &Lake, state: &State) -> Result<Option<PendingEntry>> {
    let Some(pending) = state.pending() else { return Ok(None) };
    let mut left = PendingEntry { entry: pending.entry, staged_files: 0, removable_files: 0 };
    for file in &pending.added {
        left.staged_files += u64::from(super::size_of(lake, &file.key()).await?.is_none());
    }
    for file in pending.removed.iter().map(|live| &live.file).chain(&pending.discarded) {
        left.removable_files += u64::from(super::size_of(lake, &file.key()).await?.is_some());
    }
    Ok((left.staged_files + left.removable_files > 0).then_some(left))
}

/// Puts it together. Pure.
fn of(state: &State, identity: Identity, lake: &str, begun: &[Begun], records: &[Object]) -> Status {
    let coverage = joined(state.covers().map(|covered| covered.cover.window));
    let mut datasets: BTreeMap<String, DatasetSummary> = BTreeMap::new();
    for live in state.files() {
        let dataset = datasets.entry(live.file.dataset.clone()).or_default();
        dataset.files += 1;
        dataset.rows += live.file.rows;
        dataset.bytes += live.file.bytes;
    }
    let records_of = |count: fn(&crate::lake::CellRecord) -> u64| {
        state.covers().map(|covered| count(&covered.cover.record)).sum::<u64>()
    };
    let mut unclassified_kinds = Kinds::default();
    state.covers().for_each(|covered| unclassified_kinds.extend(&covered.cover.record.unclassified_kinds));
    Status {
        lake: lake.to_owned(),
        // Files do not say what is between them.
        gaps: if identity.source == Source::Files { Vec::new() } else { gaps(state.origin(), &coverage) },
        identity,
        entries: state.next() - 1,
        last_snapshot: None,
        single_writer_entries: state.single_writer_entries(),
        origin: state.origin(),
        frontier: state.frontier(),
        cells: state.covers().count() as u64,
        coverage,
        exceptions: exceptions(state),
        in_flight: begun.iter().map(|begun| in_flight(begun, records)).collect(),
        users_in_flight: Vec::new(),
        user_exports: state.user_exports().count() as u64,
        last_user_export: state.user_exports().next_back().cloned(),
        pending: None,
        columns: state.columns().columns.clone(),
        datasets,
        rejected: records_of(|record| record.rejected),
        unclassified: records_of(|record| record.unclassified),
        unclassified_kinds,
        out_of_window: records_of(|record| record.out_of_window),
        revisits: lateness::of(state),
    }
}

fn joined(windows: impl Iterator<Item = Window>) -> Vec<Window> {
    let mut joined: Vec<Window> = Vec::new();
    for window in windows {
        match joined.last_mut() {
            Some(last) if last.until == window.since => last.until = window.until,
            _ => joined.push(window),
        }
    }
    joined
}

fn gaps(origin: Option<Timestamp>, coverage: &[Window]) -> Vec<Window> {
    let (Some(first), Some(last)) = (coverage.first(), coverage.last()) else { return Vec::new() };
    let since = origin.map_or(first.since, |origin| origin.min(first.since));
    Window { since, until: last.until }.subtract(coverage.iter().copied())
}

fn exceptions(state: &State) -> Vec<Exceptions> {
    let of = |covered: &crate::lake::Covered| {
        let (window, record) = (covered.cover.window, &covered.cover.record);
        let (failed_channels, missing_channels) = (record.failed_channels(), record.missing_channels());
        (failed_channels + missing_channels > 0).then_some(Exceptions {
            since: window.since,
            until: window.until,
            failed_channels,
            missing_channels,
            failed: record.lists.failed_channels.clone(),
            lists: record.lists_aside.as_ref().map(|aside| Key::Lists(aside.xxh3.clone()).to_string()),
        })
    };
    state.covers().filter_map(of).collect()
}

/// When a run last wrote to its journal.
fn last_record_at(of: Uuid, records: &[Object]) -> Option<Timestamp> {
    let of_run =
        |object: &&Object| matches!(Key::parse(&object.path), Some(Key::Journal { run_id, .. }) if run_id == of);
    records.iter().filter(of_run).map(|object| object.modified_at).max()
}

fn users_in_flight(begun: &BegunUsers, records: &[Object]) -> UsersInFlight {
    let BegunUsers { run_id, users, tasks, .. } = begun;
    UsersInFlight {
        run_id: *run_id,
        begun_at: users.begun_at,
        last_record_at: last_record_at(*run_id, records),
        users: users.user_ids.len(),
        tasks: tasks.len(),
    }
}

fn in_flight(begun: &Begun, records: &[Object]) -> InFlight {
    let Begun { run_id, span, tasks, .. } = begun;
    let since = span.cells.first().map_or(span.asked.since, |cell| cell.since);
    let until = span.cells.last().map_or(span.asked.until, |cell| cell.until);
    InFlight {
        run_id: *run_id,
        begun_at: span.begun_at,
        last_record_at: last_record_at(*run_id, records),
        since,
        until,
        cells: span.cells.len(),
        replaces: span.replaces,
        tasks: tasks.len(),
    }
}

impl Status {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// A page for people.
    pub fn to_text(&self) -> String {
        let time = |at: Option<Timestamp>| at.map_or_else(|| "none".to_owned(), |at| at.to_string());
        let mut text = format!("{}\n", self.lake);
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<12} {value}");
        };
        match (self.identity.source, self.identity.app_key.as_str()) {
            (Source::Files, "") => line("app", "unknown: made of files"),
            (Source::Files, app_key) => line("app", &format!("{app_key}, made of files")),
            (Source::Stream, app_key) => line("app", app_key),
        }
        line("origin", &time(self.origin));
        line("frontier", &time(self.frontier));
        let snapshot =
            self.last_snapshot.map_or_else(String::new, |number| format!(", snapshot of the first {number}"));
        line("log", &format!("{}{snapshot}", count(self.entries, "entry")));
        line("cells", &self.cells.to_string());
        list(&mut line, "covered", &self.coverage, Window::to_string);
        list(&mut line, "gaps", &self.gaps, Window::to_string);
        list(&mut line, "exceptions", &self.exceptions, |cell| {
            let Exceptions { since, until, failed_channels, missing_channels, failed, lists } = cell;
            let failures = count(*failed_channels, "channel");
            let named = match (failed.as_slice(), lists) {
                ([], Some(lists)) => format!("; see {lists}"),
                ([], None) => String::new(),
                ([one], _) => format!(": {}: {}", one.cid, one.reason),
                ([one, ..], _) => format!(", the first {}: {}", one.cid, one.reason),
            };
            format!("{since}..{until}: {missing_channels} not known to Stream, {failures} failed{named}")
        });
        list(&mut line, "in flight", &self.in_flight, |span| {
            let InFlight { run_id, begun_at, since, until, cells, tasks, .. } = span;
            let again = if span.replaces { ", again" } else { "" };
            let last = span.last_record_at.map_or_else(String::new, |at| format!(", last record {at:.0}"));
            let (cells, tasks) = (count(*cells, "cell"), count(*tasks, "export"));
            format!("{since}..{until}: {cells}{again}, {tasks}, run {run_id}, begun {begun_at}{last}")
        });
        if !self.users_in_flight.is_empty() {
            list(&mut line, "", &self.users_in_flight, |export| {
                let UsersInFlight { run_id, begun_at, users, tasks, .. } = export;
                let last = export.last_record_at.map_or_else(String::new, |at| format!(", last record {at:.0}"));
                let (users, tasks) = (count(*users, "user"), count(*tasks, "export"));
                format!("{users}, {tasks}, run {run_id}, begun {begun_at}{last}")
            });
        }
        if let Some(ExportedUsers { exported_at, asked, missing, failed, .. }) = &self.last_user_export {
            let counts = format!("{}, {missing} not known to Stream, {failed} failed", count(*asked, "user"));
            line("users", &format!("exported {}, last at {exported_at}: {counts}", count(self.user_exports, "time")));
        }
        let mut columns = Columns::default().changes(&self.columns).into_iter();
        columns.next().into_iter().for_each(|first| line("columns", &first));
        columns.for_each(|column| line("", &column));
        if let Some(PendingEntry { entry, staged_files, removable_files }) = &self.pending {
            line(
                "unsettled",
                &format!(
                    "entry {entry}: {} to move, {removable_files} to delete; the next commit does it",
                    count(*staged_files, "file")
                ),
            );
        }
        let kinds =
            if self.unclassified_kinds.is_empty() { "".to_owned() } else { format!(": {}", self.unclassified_kinds) };
        for (number, name, noun, meaning) in [
            (self.rejected, "rejected", "line", "that did not fit (see _quarantine/)"),
            (self.unclassified, "unclassified", "line", format!("of unknown kinds (see _quarantine/){kinds}").as_str()),
            (self.out_of_window, "outside", "message", "outside of what was asked for (see _quarantine/)"),
            (self.single_writer_entries, "unprotected", "entry", "put without conditional writes (--single-writer)"),
        ] {
            if number > 0 {
                line(name, &format!("{} {meaning}", count(number, noun)));
            }
        }
        for (number, value) in lateness::lines(&self.revisits).iter().enumerate() {
            line(if number == 0 { "revisits" } else { "" }, value);
        }
        let width = self.datasets.keys().map(String::len).max().unwrap_or(0).max(12);
        if !self.datasets.is_empty() {
            let _ = writeln!(text, "  {:<width$} {:>12} {:>8} {:>12}", "dataset", "rows", "files", "size");
        }
        for (name, dataset) in &self.datasets {
            let size = bytes(dataset.bytes);
            let _ = writeln!(text, "  {name:<width$} {:>12} {:>8} {size:>12}", dataset.rows, dataset.files);
        }
        text
    }
}

fn list<T>(line: &mut impl FnMut(&str, &str), name: &str, items: &[T], show: impl Fn(&T) -> String) {
    if items.is_empty() {
        return line(name, "none");
    }
    for (number, item) in items.iter().take(SHOWN).enumerate() {
        line(if number == 0 { name } else { "" }, &show(item));
    }
    if items.len() > SHOWN {
        line("", &format!("and {} more (--json shows all)", items.len() - SHOWN));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::window::parse_time;

    fn window(since: &str, until: &str) -> Window {
        Window::new(parse_time(since).unwrap(), parse_time(until).unwrap()).unwrap()
    }

    #[test]
    fn adjacent_cells_are_one_and_gaps_are_what_lies_between() {
        let cells = [
            window("2026-01-02", "2026-01-03"),
            window("2026-01-03", "2026-01-03T12:00:00Z"),
            window("2026-01-05", "2026-01-06"),
        ];
        let coverage = joined(cells.into_iter());
        assert_eq!(coverage, [window("2026-01-02", "2026-01-03T12:00:00Z"), cells[2]]);
        let between = window("2026-01-03T12:00:00Z", "2026-01-05");
        assert_eq!(gaps(None, &coverage), [between]);
        let origin = parse_time("2026-01-01").unwrap();
        assert_eq!(gaps(Some(origin), &coverage), [window("2026-01-01", "2026-01-02"), between]);
        let late = parse_time("2026-01-05").unwrap();
        assert_eq!(gaps(Some(late), &coverage), [between]);
        assert_eq!(gaps(Some(late), &[]), []);
    }

    #[test]
    fn long_lists_are_counted() {
        let mut lines = Vec::new();
        let mut line = |name: &str, value: &str| lines.push(format!("{name}|{value}"));
        list(&mut line, "x", &(0..12).collect::<Vec<u8>>(), u8::to_string);
        assert_eq!(lines.len(), 11);
        assert_eq!((lines[0].as_str(), lines[10].as_str()), ("x|0", "|and 2 more (--json shows all)"));
    }
}
