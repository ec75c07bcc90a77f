//! The arguments of `users`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::{ColumnsArg, ExportsArg, LakeArg, MemoryArg, MetricsArg, ParquetArg, StreamArg, within};
use crate::config::Config;
use crate::error::Result;
use crate::export::MAX_USERS;
use crate::settings::Settings;
use crate::users::ids;

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

    /// Which columns.
    #[command(flatten)]
    pub columns: ColumnsArg,
    /// How they are written.
    #[command(flatten)]
    pub parquet: ParquetArg,

    /// Users in one export request, at most 25; with 1, messages that do not name their author are known to be the user's
    #[arg(long, value_name = "N", env = "CHATLAKE_USERS_PER_REQUEST", default_value_t = MAX_USERS, help_heading = "Limits")]
    pub users_per_request: usize,
    /// How they are asked for.
    #[command(flatten)]
    pub exports: ExportsArg,
    /// What it may take.
    #[command(flatten)]
    pub memory: MemoryArg,
    /// Lines that may go to quarantine before the run is refused [default: 10, or 0.1% if that is more]
    #[arg(long, value_name = "N", env = "CHATLAKE_MAX_REJECTED", help_heading = "Limits")]
    pub max_rejected: Option<u64>,
    /// Commit exports in which nothing is known
    #[arg(long, env = "CHATLAKE_ACCEPT_EMPTY", help_heading = "Limits")]
    pub accept_empty: bool,
    /// Accept a store that ignores conditional writes: safe only if no two runs ever overlap
    #[arg(long, env = "CHATLAKE_SINGLE_WRITER", help_heading = "Limits")]
    pub single_writer: bool,
    /// What a collector reads.
    #[command(flatten)]
    pub metrics: MetricsArg,
}

impl Users {
    /// The settings that these flags come to.
    pub fn settings(&self, config: &Config) -> Result<Settings> {
        within("--users-per-request", self.users_per_request, 1, MAX_USERS)?;
        self.exports.check()?;
        let memory = self.memory.memory()?;
        Ok(Settings {
            max_concurrent_exports: self.exports.max_concurrent_exports,
            task_deadline: self.exports.task_deadline,
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

    /// Who, each once.
    pub fn user_ids(&self) -> Result<BTreeSet<String>> {
        ids::read(&self.user_id, self.users_file.as_deref())
    }
}
