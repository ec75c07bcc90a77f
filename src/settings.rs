//! What a run was told, checked and in the units that the stages use.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use crate::columns::Wanted;
use crate::export::{ExportOptions, Selection};
use crate::journal::Limits;
use crate::lake::{self, Identity, Include, Source};
use crate::memory::Memory;
use crate::plan::Rules;
use crate::window::{Grid, Window};
use crate::write::parquet_file::FileOptions;

/// Everything that `sync` and `revisit` need to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Windows, settling, revisits.
    pub rules: Rules,
    /// An explicit range.
    pub range: Option<Window>,
    /// Where automatic mode begins in a lake that has no origin.
    pub start: Option<Timestamp>,
    /// Export covered cells again.
    pub replace: bool,
    /// Drop rows that are not delivered any more, instead of keeping them with `_vanished_at`.
    pub removes_vanished: bool,
    /// Which channels.
    pub selection: Selection,
    /// What else is in an export.
    pub export: ExportOptions,
    /// Channels in one export request.
    pub channels_per_request: usize,
    /// Exports that Stream works on at a time.
    pub max_concurrent_exports: usize,
    /// How long Stream may work on one.
    pub task_deadline: SignedDuration,
    /// Partition event datasets by channel type as well.
    pub by_channel_type: bool,
    /// Promoted columns and exclusions.
    pub columns: Wanted,
    /// Compression and sizes.
    pub file: FileOptions,
    /// What the stages may take.
    pub memory: Memory,
    /// Where to spill.
    pub temp_dir: Option<PathBuf>,
    /// Rejects that a span may have; none: 10 lines or 0.1%.
    pub max_rejected: Option<u64>,
    /// Keep the JSON of each row.
    pub keep_raw: bool,
    /// Commit a span without a message although its channels were active.
    pub accept_empty: bool,
    /// Accept a store that ignores conditional writes.
    pub single_writer: bool,
}

impl Default for Settings {
    /// What the command line has without a flag.
    fn default() -> Self {
        let memory = Memory::default();
        Self {
            rules: Rules {
                grid: Grid::default(),
                settle: SignedDuration::from_mins(5),
                revisit: vec![SignedDuration::from_hours(24), SignedDuration::from_hours(24 * 7)],
                longest_span: SignedDuration::from_hours(24 * 90),
            },
            range: None,
            start: None,
            replace: false,
            removes_vanished: false,
            selection: Selection::default(),
            export: ExportOptions::default(),
            channels_per_request: 25,
            max_concurrent_exports: 16,
            task_deadline: SignedDuration::from_hours(24),
            by_channel_type: false,
            columns: Wanted::default(),
            file: FileOptions {
                row_group_bytes: memory.row_group_bytes(),
                row_group_rows: memory.row_group_rows(),
                ..FileOptions::default()
            },
            memory,
            temp_dir: None,
            max_rejected: None,
            keep_raw: false,
            accept_empty: false,
            single_writer: false,
        }
    }
}

impl Settings {
    /// Rejects that are too many for this number of lines.
    pub fn allows_rejects(&self, rejected: u64, lines: u64) -> bool {
        rejected <= self.max_rejected.unwrap_or_else(|| (lines / 1_000).max(10))
    }

    /// What an export may lack.
    pub fn limits(&self) -> Limits {
        Limits { max_rejected: self.max_rejected, accept_empty: self.accept_empty }
    }

    /// What a lake made with these settings is.
    pub fn identity(&self, app_key: &str) -> Identity {
        let Selection { cids, channel_types, filter } = &self.selection;
        Identity {
            format: lake::identity::FORMAT,
            app_key: app_key.to_owned(),
            source: Source::Stream,
            selection: lake::Selection {
                channel_types: channel_types.clone(),
                filter: filter.clone().map(serde_json::Value::Object),
                ..lake::Selection::of_channels(cids)
            },
            include: Include {
                truncated_messages: self.export.include_truncated_messages,
                soft_deleted_channels: self.export.include_soft_deleted_channels,
                clear_deleted_message_text: self.export.clear_deleted_message_text,
                users: self.export.export_users,
            },
            partition_by: if self.by_channel_type {
                vec!["event_date".to_owned(), "channel_type".to_owned()]
            } else {
                vec!["event_date".to_owned()]
            },
        }
        .normalized()
    }
}
