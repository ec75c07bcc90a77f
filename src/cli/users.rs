//! The arguments of `users`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;
use parquet::basic::Compression;

use super::{LakeArg, RateArg, StreamArg, TempArg, files_and_memory, parse_bytes, parse_compression, within};
use crate::columns::Wanted;
use crate::config;
use crate::error::Result;
use crate::export::MAX_USERS;
use crate::settings::Settings;
use crate::users::ids;
use crate::window::parse_duration;

/// `chatlake users`
#[derive(Debug, Args)]
pub struct Users {
    /// Export these users; may be repeated
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub user_id: Vec<String>,
    /// Export the users in this file, one id to a line; `-` for standard input
    #[arg(long, value_name = "FILE", env = "CHATLAKE_USERS_FILE")]
    pub users_file: Option<PathBuf>,
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArg,
    /// Show users, requests and time, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// Which Stream.
    #[command(flatten)]
    pub stream: StreamArg,

    /// Promoted columns and exclusions: a TOML file with sections `promote.DATASET` and `exclude`
    #[arg(long, value_name = "FILE", env = "CHATLAKE_CONFIG", help_heading = "Files")]
    pub config: Option<PathBuf>,
    /// Write again what earlier runs of this lake left out and this configuration does not
    #[arg(long, help_heading = "Files")]
    pub lift_exclusions: bool,
    /// zstd(1) to zstd(22), snappy or none
    #[arg(long, value_name = "CODEC", env = "CHATLAKE_COMPRESSION", default_value = "zstd(1)", value_parser = parse_compression, help_heading = "Files")]
    pub compression: Compression,
    /// Encoded size at which a new file is begun, at most 4GiB
    #[arg(long, value_name = "BYTES", env = "CHATLAKE_TARGET_FILE_SIZE", default_value = "256MiB", value_parser = parse_bytes, help_heading = "Files")]
    pub target_file_size: u64,
    /// Keep the JSON of each row in the column `raw`
    #[arg(long, env = "CHATLAKE_KEEP_RAW", help_heading = "Files")]
    pub keep_raw: bool,

    /// Users in one export request, at most 25; with 1, messages that do not name their author are known to be the user's
    #[arg(long, value_name = "N", env = "CHATLAKE_USERS_PER_REQUEST", default_value_t = MAX_USERS, help_heading = "Limits")]
    pub users_per_request: usize,
    /// Exports that Stream works on at a time, at most 64
    #[arg(
        long,
        value_name = "N",
        env = "CHATLAKE_MAX_CONCURRENT_EXPORTS",
        default_value_t = 16,
        help_heading = "Limits"
    )]
    pub max_concurrent_exports: usize,
    /// How much of it.
    #[command(flatten)]
    pub rate: RateArg,
    /// How long Stream may work on one export
    #[arg(long, value_name = "DURATION", env = "CHATLAKE_TASK_DEADLINE", default_value = "24h", value_parser = parse_duration, help_heading = "Limits")]
    pub task_deadline: SignedDuration,
    /// Memory of the process
    #[arg(long, value_name = "BYTES", env = "CHATLAKE_MEMORY_LIMIT", default_value = "256MiB", value_parser = parse_bytes, help_heading = "Limits")]
    pub memory_limit: u64,
    /// Where there is room.
    #[command(flatten)]
    pub temp: TempArg,
    /// Lines that may go to quarantine before the run is refused [default: 10, or 0.1% if that is more]
    #[arg(long, value_name = "N", env = "CHATLAKE_MAX_REJECTED", help_heading = "Limits")]
    pub max_rejected: Option<u64>,
    /// Commit exports in which nothing is known
    #[arg(long, env = "CHATLAKE_ACCEPT_EMPTY", help_heading = "Limits")]
    pub accept_empty: bool,
    /// Accept a store that ignores conditional writes: safe only if no two runs ever overlap
    #[arg(long, env = "CHATLAKE_SINGLE_WRITER", help_heading = "Limits")]
    pub single_writer: bool,
}

impl Users {
    /// The settings that these flags come to.
    pub fn settings(&self) -> Result<Settings> {
        within("--users-per-request", self.users_per_request, 1, MAX_USERS)?;
        within("--max-concurrent-exports", self.max_concurrent_exports, 1, 64)?;
        let columns = self.config.as_deref().map(config::read).transpose()?.unwrap_or_default();
        let (file, memory) = files_and_memory(self.compression, self.target_file_size, self.memory_limit)?;
        Ok(Settings {
            max_concurrent_exports: self.max_concurrent_exports,
            task_deadline: self.task_deadline,
            columns: Wanted { lifts_exclusions: self.lift_exclusions, ..columns },
            file,
            memory,
            temp_dir: self.temp.temp_dir.clone(),
            max_rejected: self.max_rejected,
            keep_raw: self.keep_raw,
            accept_empty: self.accept_empty,
            single_writer: self.single_writer,
            ..Settings::default()
        })
    }

    /// Who, each once.
    pub fn user_ids(&self) -> Result<BTreeSet<String>> {
        ids::read(&self.user_id, self.users_file.as_deref())
    }
}
