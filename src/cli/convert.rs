//! The arguments of `convert`.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::{ColumnsArg, LakeArg, MemoryArg, MetricsArg, OnVanish, ParquetArg, PartitionBy, usage};
use crate::config::Config;
use crate::convert::Exports;
use crate::error::Result;
use crate::settings::Settings;
use crate::window::{Window, parse_time};

/// `chatlake convert`
#[derive(Debug, Args)]
pub struct Convert {
    /// Files, patterns in quotes, or `-` for standard input: v1 or v2, plain or compressed with gzip or zstd
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArg,

    /// The files hold everything from here on, for the selection of a lake that is kept by `sync`
    #[arg(long, value_name = "TIME", requires = "until", value_parser = parse_time, help_heading = "Declared range")]
    pub since: Option<Timestamp>,
    /// And up to here
    #[arg(long, value_name = "TIME", requires = "since", value_parser = parse_time, help_heading = "Declared range")]
    pub until: Option<Timestamp>,
    /// Replace cells that are covered; in a lake of files, read files again that it has
    #[arg(long, help_heading = "Declared range")]
    pub replace: bool,
    /// What happens to rows of replaced cells that the files do not have
    #[arg(long, env = "CHATLAKE_ON_VANISH", value_enum, default_value_t = OnVanish::Keep, help_heading = "Declared range")]
    pub on_vanish: OnVanish,
    /// When the files were exported [default: when each was last written]
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Files")]
    pub exported_at: Option<Timestamp>,
    /// The key of the app that the files are of: a lake of files is then of this app alone
    #[arg(long, value_name = "KEY", help_heading = "Files")]
    pub app_key: Option<String>,

    /// Which columns.
    #[command(flatten)]
    pub columns: ColumnsArg,
    /// Partition folders of messages and reactions [default: as the lake has them, or event_date]
    #[arg(long, value_name = "COLUMNS", env = "CHATLAKE_PARTITION_BY", value_enum, help_heading = "Files")]
    pub partition_by: Option<PartitionBy>,
    /// How they are written.
    #[command(flatten)]
    pub parquet: ParquetArg,

    /// What it may take.
    #[command(flatten)]
    pub memory: MemoryArg,
    /// Lines that may go to quarantine before the files are refused [default: 10, or 0.1% if that is more]
    #[arg(long, value_name = "N", env = "CHATLAKE_MAX_REJECTED", help_heading = "Limits")]
    pub max_rejected: Option<u64>,
    /// Accept files without messages, or with unknown lines alone
    #[arg(long, env = "CHATLAKE_ACCEPT_EMPTY", help_heading = "Limits")]
    pub accept_empty: bool,
    /// Exit code for "no messages" (Airflow: 99 means skipped)
    #[arg(long, value_name = "N", env = "CHATLAKE_EMPTY_EXIT_CODE", default_value_t = 0, help_heading = "Limits")]
    pub empty_exit_code: u8,
    /// Accept a store that ignores conditional writes: safe only if no two runs ever overlap
    #[arg(long, env = "CHATLAKE_SINGLE_WRITER", help_heading = "Limits")]
    pub single_writer: bool,
    /// What a collector reads.
    #[command(flatten)]
    pub metrics: MetricsArg,
}

impl Convert {
    /// The settings that these flags come to.
    pub fn settings(&self, config: &Config) -> Result<Settings> {
        let range = match (self.since, self.until) {
            (Some(since), Some(until)) => Some(
                Window::new(since, until)
                    .map_err(|error| usage(error.to_string()).hint("--since must be before --until"))?,
            ),
            _ => None,
        };
        let memory = self.memory.memory()?;
        Ok(Settings {
            range,
            replace: self.replace,
            removes_vanished: self.on_vanish == OnVanish::Remove,
            columns: self.columns.wanted(config),
            file: self.parquet.options(memory)?,
            memory,
            temp_dir: self.memory.temp.temp_dir.clone(),
            max_rejected: self.max_rejected,
            keep_raw: self.parquet.keep_raw,
            accept_empty: self.accept_empty,
            single_writer: self.single_writer,
            ..Settings::default()
        })
    }

    /// Which files.
    pub fn exports(&self) -> Exports {
        Exports {
            files: self.files.clone(),
            exported_at: self.exported_at,
            app_key: self.app_key.clone(),
            by_channel_type: self.partition_by.map(|partition_by| partition_by == PartitionBy::ChannelType),
        }
    }
}
