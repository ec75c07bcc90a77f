//! What a run did, on one line of JSON for schedulers and in a few lines for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, Kind};
use crate::export::Client;
use crate::figures::{bytes, count};
use crate::kinds::Kinds;
use crate::lake::{Changes, Cover, Lake, Revisit};
use crate::pipeline::Counts;

/// Users of a kind who are named to people.
const SHOWN: usize = 10;

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Something new is in the lake.
    Committed,
    /// All of it was there before, or another run was faster.
    AlreadyCommitted,
    /// Nothing was due.
    #[default]
    NothingToDo,
    /// Committed, but for channels that Stream could not export.
    Partial,
    /// Not everything could be done; what was committed stays.
    Failed,
}

impl Status {
    /// The name, as in the summary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::AlreadyCommitted => "already_committed",
            Self::NothingToDo => "nothing_to_do",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

/// How a cell came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CellStatus {
    /// Its rows are new.
    Committed,
    /// It was exported again and is as it was.
    Unchanged,
    /// It was covered already.
    AlreadyCommitted,
    /// Another run has committed it meanwhile.
    Superseded,
}

impl CellStatus {
    /// The name, as in the summary.
    pub fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Unchanged => "unchanged",
            Self::AlreadyCommitted => "already_committed",
            Self::Superseded => "superseded",
        }
    }

    /// Whether this run has brought it in.
    fn is_done(self) -> bool {
        matches!(self, Self::Committed | Self::Unchanged)
    }
}

/// A cell in the summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CellSummary {
    /// First instant.
    pub since: Timestamp,
    /// First instant after.
    pub until: Timestamp,
    /// How it came out.
    pub status: CellStatus,
    /// Messages in it.
    pub rows: u64,
}

impl CellSummary {
    /// A cover that came out like this.
    pub fn of(cover: &Cover, status: CellStatus) -> Self {
        let rows = cover.record.rows.get("messages").copied().unwrap_or(0);
        Self { since: cover.window.since, until: cover.window.until, status, rows }
    }

    /// Whether this run has brought it in.
    pub fn is_done(&self) -> bool {
        self.status.is_done()
    }
}

/// Files that were converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FilesSummary {
    /// Files that were named, each content once.
    pub named: u64,
    /// Those of them that the lake had already.
    pub known: u64,
    /// Bytes of those that were decoded, as they are on disk.
    pub bytes: u64,
    /// Messages that are not in the declared range, and were left out.
    pub left_out: u64,
}

/// Users that were exported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsersSummary {
    /// Users who were asked for.
    pub asked: u64,
    /// Users of whom anything came.
    pub returned: u64,
    /// Users whom Stream does not know.
    pub missing: BTreeSet<String>,
    /// Users who could not be exported, and why.
    pub failed: BTreeMap<String, String>,
    /// How it came out; none: it did not.
    #[serde(skip)]
    pub status: Option<CellStatus>,
}

/// What was written of a dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DatasetSummary {
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// What a run found in cells that it exported again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RevisitSummary {
    /// Cells.
    pub cells: u64,
    /// Those of them in which anything had changed.
    pub differed: u64,
    /// What had become of messages.
    pub messages: Changes,
    /// What had become of reactions.
    pub reactions: Changes,
}

impl RevisitSummary {
    /// Adds what one of them showed.
    pub fn add(&mut self, found: &Revisit) {
        self.cells += 1;
        self.differed += u64::from(found.differed());
        self.messages.add(&found.messages);
        self.reactions.add(&found.reactions);
    }
}

/// Export tasks of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskSummary {
    /// Begun by this run.
    pub requested: u64,
    /// Begun by an earlier run and read by this one.
    pub adopted: u64,
    /// Failed by Stream.
    pub failed: u64,
}

/// The run summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// This run.
    pub run_id: Uuid,
    /// Where the lake is, without credentials.
    pub lake: String,
    /// How it ended.
    pub status: Status,
    /// The cells that it was about, each once.
    pub cells: Vec<CellSummary>,
    /// What was written.
    pub datasets: BTreeMap<String, DatasetSummary>,
    /// Folders whose files changed: `dataset/partition`.
    pub partitions_changed: BTreeSet<String>,
    /// Exports.
    pub export_tasks: TaskSummary,
    /// Lines in quarantine, with a reason.
    pub rejected: u64,
    /// Lines of unknown kinds, kept in quarantine.
    pub unclassified: Kinds,
    /// Messages that nobody asked for, kept in quarantine.
    pub out_of_window: u64,
    /// Rows that are not delivered any more.
    pub vanished: u64,
    /// What exporting cells again has found.
    pub revisited: RevisitSummary,
    /// Values that did not fit their column, kept in `_rescued`.
    pub rescued: u64,
    /// Keys that came twice in one object; the last one counts.
    pub duplicate_keys: u64,
    /// Messages that count more reactions than their export delivered.
    pub reactions_truncated: u64,
    /// Channels that Stream does not know.
    pub missing_channels: BTreeSet<String>,
    /// Channels that Stream could not export.
    pub failed_channels: BTreeSet<String>,
    /// Requests to Stream's API.
    pub api_calls: u64,
    /// Bytes of exports.
    pub bytes_downloaded: u64,
    /// Wall time.
    pub duration_seconds: f64,
    /// The end of contiguous coverage in automatic mode.
    pub frontier: Option<Timestamp>,
    /// What was converted, when it was files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSummary>,
    /// What became of users, when it was they.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_exports: Option<UsersSummary>,
    /// Whether the store was accepted without conditional writes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub single_writer: bool,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Summary {
    /// Of a run that begins now.
    pub fn new(lake: &Lake, single_writer: bool) -> Self {
        Self { run_id: Uuid::now_v7(), lake: lake.display_url().to_owned(), single_writer, ..Self::default() }
    }

    /// What was asked of Stream.
    pub fn asked(&mut self, client: &Client, counts: &Counts) {
        let Counts { requested, adopted, failed, bytes } = counts;
        self.api_calls = client.api_calls();
        self.export_tasks.requested = requested.load(Relaxed);
        self.export_tasks.adopted = adopted.load(Relaxed);
        self.export_tasks.failed = failed.load(Relaxed);
        self.bytes_downloaded = bytes.load(Relaxed);
    }

    /// The run is over.
    pub fn end(&mut self, after: Duration, error: Option<&Error>) {
        self.duration_seconds = (after.as_secs_f64() * 1000.0).round() / 1000.0;
        // Of a cell that was covered, and in which channels were filled in, the latter is told.
        self.cells.sort_by_key(|cell| (cell.since, cell.until, !cell.is_done()));
        self.cells.dedup_by_key(|cell| (cell.since, cell.until));
        let users = self.user_exports.as_ref();
        let has_failures = !self.failed_channels.is_empty() || users.is_some_and(|users| !users.failed.is_empty());
        let mut parts =
            self.cells.iter().map(|cell| cell.status).chain(users.and_then(|users| users.status)).peekable();
        self.status = match error {
            Some(error) if error.kind() == Kind::ExportFailed && has_failures => Status::Partial,
            Some(_) => Status::Failed,
            None if parts.peek().is_none() => Status::NothingToDo,
            None if parts.any(CellStatus::is_done) => Status::Committed,
            None => Status::AlreadyCommitted,
        };
        self.error = error.map(Error::line);
        tracing::info!(
            status = self.status.name(),
            cells = self.cells.len(),
            exports = self.export_tasks.requested,
            api_calls = self.api_calls,
            bytes_downloaded = self.bytes_downloaded,
            rejected = self.rejected,
            duration_seconds = self.duration_seconds,
            frontier = self.frontier.map(tracing::field::display),
            "ended"
        );
    }

    /// Messages in the cells of this run, committed now or before.
    pub fn messages(&self) -> u64 {
        self.cells.iter().map(|cell| cell.rows).sum()
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// A few lines for a person.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let status = match self.status {
            Status::Committed => "committed",
            Status::AlreadyCommitted if self.files.is_some() => "already committed: nothing was converted",
            Status::AlreadyCommitted if self.export_tasks.requested + self.export_tasks.adopted > 0 => {
                "already committed: another run was faster, and what this one exported is not needed"
            }
            Status::AlreadyCommitted => "already committed: nothing was exported",
            Status::NothingToDo => "nothing to do",
            Status::Partial if self.user_exports.is_some() => "committed, but for users that Stream could not export",
            Status::Partial => "committed, but for channels that Stream could not export",
            Status::Failed => "failed",
        };
        let _ = writeln!(text, "{status} ({})", self.lake);
        let width = self.datasets.keys().map(String::len).max().unwrap_or(0).max(11);
        for (name, dataset) in &self.datasets {
            let _ = writeln!(
                text,
                "  {name:<width$} {:>14} {:>11} {:>10}",
                count(dataset.rows, "row"),
                count(dataset.files, "file"),
                bytes(dataset.bytes)
            );
        }
        let counts = |status| self.cells.iter().filter(|cell| cell.status == status).count();
        for (status, word) in [
            (CellStatus::Committed, "committed"),
            (CellStatus::Unchanged, "unchanged"),
            (CellStatus::AlreadyCommitted, "already there"),
            (CellStatus::Superseded, "committed by another run"),
        ] {
            if counts(status) > 0 {
                let _ = writeln!(text, "  {} {word}", count(counts(status), "cell"));
            }
        }
        if self.revisited.cells > 0 {
            let RevisitSummary { cells, differed, messages, reactions } = self.revisited;
            let _ = writeln!(
                text,
                "  {} exported again, {differed} differed: messages {messages}; reactions {reactions}",
                count(cells, "cell")
            );
        }
        for (number, noun, what) in [
            (self.vanished, "row", "not delivered any more (see _vanished_at)"),
            (self.rejected, "line", "that did not fit (see _quarantine/)"),
            (
                self.unclassified.total(),
                "line",
                if self.user_exports.is_some() {
                    "of kinds without a dataset (see user_exports/other/)"
                } else {
                    "of unknown kinds (see _quarantine/)"
                },
            ),
            (self.out_of_window, "message", "outside of what was asked for (see _quarantine/)"),
            (self.rescued, "value", "that did not fit the column (see _rescued)"),
            (self.missing_channels.len() as u64, "channel", "not known to Stream"),
            (self.failed_channels.len() as u64, "channel", "that could not be exported"),
        ] {
            if number > 0 {
                let _ = writeln!(text, "  {} {what}", count(number, noun));
            }
        }
        if !self.unclassified.is_empty() {
            let what = if self.user_exports.is_some() { "without a dataset" } else { "of unknown kinds" };
            let _ = writeln!(text, "  {what}: {}", self.unclassified);
        }
        if let Some(UsersSummary { asked, returned, missing, failed, .. }) = &self.user_exports {
            let _ = writeln!(text, "  {} asked for, {returned} came", count(*asked, "user"));
            for user_id in missing.iter().take(SHOWN) {
                let _ = writeln!(text, "  Stream does not know `{user_id}`");
            }
            for (user_id, reason) in failed.iter().take(SHOWN) {
                let _ = writeln!(text, "  `{user_id}` could not be exported: {reason}");
            }
            let more = missing.len().saturating_sub(SHOWN) + failed.len().saturating_sub(SHOWN);
            if more > 0 {
                let _ = writeln!(text, "  and {more} more like these (--json names all)");
            }
        }
        if let Some(FilesSummary { named, known, bytes: read, left_out }) = self.files {
            if left_out > 0 {
                let _ = writeln!(text, "  {} outside of the declared range, left out", count(left_out, "message"));
            }
            let _ = write!(text, "  {}, {known} known before, {} read, ", count(named, "file"), bytes(read));
            let _ = write!(text, "{:.1} s", self.duration_seconds);
            return text;
        }
        let _ = write!(
            text,
            "  {}{}, {}, {} downloaded, {:.1} s",
            count(self.export_tasks.requested, "export"),
            match self.export_tasks.adopted {
                0 => String::new(),
                adopted => format!(" and {adopted} of an earlier run"),
            },
            count(self.api_calls, "API call"),
            bytes(self.bytes_downloaded),
            self.duration_seconds
        );
        if let Some(frontier) = self.frontier {
            // Channels that failed are recorded, and asked for again.
            let what = if self.failed_channels.is_empty() { "complete" } else { "covered" };
            let _ = write!(text, "; {what} until {frontier}");
        }
        text
    }
}
