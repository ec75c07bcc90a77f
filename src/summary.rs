//! What a run did, on one line of JSON for schedulers and in a few lines for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, Kind};
use crate::kinds::Kinds;
use crate::lake::{Changes, Cover, Revisit};

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
        matches!(self.status, CellStatus::Committed | CellStatus::Unchanged)
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
    /// How it ended.
    pub status: Status,
    /// The cells that it was about.
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
    /// Whether the store was accepted without conditional writes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub single_writer: bool,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Summary {
    /// The run is over.
    pub fn end(&mut self, after: Duration, error: Option<&Error>) {
        self.duration_seconds = (after.as_secs_f64() * 1000.0).round() / 1000.0;
        self.status = match error {
            Some(error) if error.kind() == Kind::ExportFailed && !self.failed_channels.is_empty() => Status::Partial,
            Some(_) => Status::Failed,
            None if self.cells.is_empty() => Status::NothingToDo,
            None if self.cells.iter().any(CellSummary::is_done) => Status::Committed,
            None => Status::AlreadyCommitted,
        };
        self.error = error.map(ToString::to_string);
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
    pub fn to_text(&self, lake: &str) -> String {
        let mut text = String::new();
        let status = match self.status {
            Status::Committed => "committed",
            Status::AlreadyCommitted if self.files.is_some() => "already committed: nothing was converted",
            Status::AlreadyCommitted => "already committed: nothing was exported",
            Status::NothingToDo => "nothing to do",
            Status::Partial => "committed, but for channels that Stream could not export",
            Status::Failed => "failed",
        };
        let _ = writeln!(text, "{status} ({lake})");
        for (name, dataset) in &self.datasets {
            let _ = writeln!(
                text,
                "  {name:<11} {:>9} rows {:>5} files {:>10}",
                dataset.rows,
                dataset.files,
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
                let _ = writeln!(text, "  {} cells {word}", counts(status));
            }
        }
        if self.revisited.cells > 0 {
            let RevisitSummary { cells, differed, messages, reactions } = self.revisited;
            let _ = writeln!(
                text,
                "  {cells} cells exported again, {differed} differed: messages {messages}; reactions {reactions}"
            );
        }
        for (number, word) in [
            (self.vanished, "rows are not delivered any more (see _vanished_at)"),
            (self.rejected, "lines do not fit (see _quarantine/)"),
            (self.unclassified.total(), "lines are of unknown kinds (see _quarantine/)"),
            (self.out_of_window, "messages were outside of what was asked for (see _quarantine/)"),
            (self.rescued, "values did not fit their column (see _rescued)"),
            (self.missing_channels.len() as u64, "channels are not known to Stream"),
            (self.failed_channels.len() as u64, "channels could not be exported"),
        ] {
            if number > 0 {
                let _ = writeln!(text, "  {number} {word}");
            }
        }
        if !self.unclassified.is_empty() {
            let _ = writeln!(text, "  of unknown kinds: {}", self.unclassified);
        }
        if let Some(FilesSummary { named, known, bytes: read, left_out }) = self.files {
            if left_out > 0 {
                let _ = writeln!(text, "  {left_out} messages are not in the declared range and were left out");
            }
            let _ = write!(text, "  {named} files, {known} known before, {} read, ", bytes(read));
            let _ = write!(text, "{:.1} s", self.duration_seconds);
            return text;
        }
        let _ = write!(
            text,
            "  {} exports, {} API calls, {} downloaded, {:.1} s",
            self.export_tasks.requested,
            self.api_calls,
            bytes(self.bytes_downloaded),
            self.duration_seconds
        );
        if let Some(frontier) = self.frontier {
            let _ = write!(text, "; complete until {frontier}");
        }
        text
    }
}

/// A size as people read it.
pub(crate) fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}
