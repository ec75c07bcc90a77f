//! Arguments that several commands have.

use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;
use parquet::basic::Compression;

use super::{parse_bytes, parse_compression, usage, within};
use crate::columns::Wanted;
use crate::config::Config;
use crate::error::Result;
use crate::memory::Memory;
use crate::window::parse_duration;
use crate::write::parquet_file::FileOptions;

/// The largest file that may be asked for: S3 copies at most 5 GiB in one request, and a file may outgrow what was asked for.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Which lake.
#[derive(Debug, Args)]
pub struct LakeArg {
    /// Where the lake is: s3://bucket/prefix, file:///folder or a path
    #[arg(long, value_name = "URL", env = "CHATLAKE_LAKE")]
    pub lake: Option<String>,
}

impl LakeArg {
    /// Where the lake is.
    pub fn lake(&self) -> Result<&str> {
        let lake = self.lake.as_deref().filter(|lake| !lake.is_empty());
        lake.ok_or_else(|| {
            usage("no lake is named")
                .hint("set CHATLAKE_LAKE or --lake to s3://bucket/prefix, file:///folder or a path")
        })
    }
}

/// Which Stream.
#[derive(Debug, Args)]
pub struct StreamArg {
    /// Where Stream's API is
    #[arg(long, value_name = "URL", env = "STREAM_BASE_URL", default_value = crate::export::DEFAULT_BASE_URL)]
    pub base_url: String,
}

/// How much of Stream.
#[derive(Debug, Args)]
pub struct RateArg {
    /// Share of the app's rate limits to use
    #[arg(long, value_name = "0..1", env = "CHATLAKE_RATE_SHARE", default_value_t = 0.5, help_heading = "Limits")]
    pub rate_share: f64,
}

impl RateArg {
    /// The share, checked.
    pub fn rate_share(&self) -> Result<f64> {
        if self.rate_share > 0.0 && self.rate_share <= 1.0 {
            return Ok(self.rate_share);
        }
        Err(usage(format!("--rate-share is {}, not more than 0 and at most 1", self.rate_share)))
    }
}

/// Where there is room.
#[derive(Debug, Args)]
pub struct TempArg {
    /// Where to spill what does not fit [default: the system's]
    #[arg(long, value_name = "FOLDER", env = "CHATLAKE_TEMP_DIR", help_heading = "Limits")]
    pub temp_dir: Option<PathBuf>,
}

/// How exports are asked for and followed.
#[derive(Debug, Args)]
pub struct ExportsArg {
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
}

impl ExportsArg {
    /// Refuses what cannot be.
    pub(super) fn check(&self) -> Result<()> {
        self.rate.rate_share()?;
        within("--max-concurrent-exports", self.max_concurrent_exports, 1, 64)
    }
}

/// Which columns files have besides those of the schemas, and which not.
#[derive(Debug, Args)]
pub struct ColumnsArg {
    /// Write again what earlier runs of this lake left out and this configuration does not
    #[arg(long, help_heading = "Files")]
    pub lift_exclusions: bool,
}

impl ColumnsArg {
    /// What the configuration says of columns.
    pub(super) fn wanted(&self, config: &Config) -> Wanted {
        Wanted { lifts_exclusions: self.lift_exclusions, ..config.wanted.clone() }
    }
}

/// How files are written.
#[derive(Debug, Args)]
pub struct ParquetArg {
    /// zstd(1) to zstd(22), snappy or none
    #[arg(long, value_name = "CODEC", env = "CHATLAKE_COMPRESSION", default_value = "zstd(1)", value_parser = parse_compression, help_heading = "Files")]
    pub compression: Compression,
    /// Encoded size at which a new file is begun, at most 4GiB
    #[arg(long, value_name = "BYTES", env = "CHATLAKE_TARGET_FILE_SIZE", default_value = "256MiB", value_parser = parse_bytes, help_heading = "Files")]
    pub target_file_size: u64,
    /// Keep the JSON of each row in the column `raw`
    #[arg(long, env = "CHATLAKE_KEEP_RAW", help_heading = "Files")]
    pub keep_raw: bool,
}

impl ParquetArg {
    /// Options of files that are written within this memory.
    pub(super) fn options(&self, memory: Memory) -> Result<FileOptions> {
        if self.target_file_size > MAX_FILE_BYTES {
            return Err(usage(format!("--target-file-size is {} bytes: at most 4GiB", self.target_file_size))
                .hint("files are moved by a copy in the store, and S3 copies at most 5 GiB in one request"));
        }
        Ok(FileOptions {
            compression: self.compression,
            target_file_bytes: self.target_file_size.max(1 << 20),
            row_group_bytes: memory.row_group_bytes(),
            row_group_rows: memory.row_group_rows(),
            ..FileOptions::default()
        })
    }
}

/// What a collector reads.
#[derive(Debug, Args)]
pub struct MetricsArg {
    /// Write what the run has done to this file, as Prometheus' textfile collector reads it
    #[arg(long, value_name = "FILE", env = "CHATLAKE_METRICS_FILE")]
    pub metrics_file: Option<PathBuf>,
}

/// What a run may take of the machine.
#[derive(Debug, Args)]
pub struct MemoryArg {
    /// Memory of the process
    #[arg(long, value_name = "BYTES", env = "CHATLAKE_MEMORY_LIMIT", default_value = "256MiB", value_parser = parse_bytes, help_heading = "Limits")]
    pub memory_limit: u64,
    /// Where there is room.
    #[command(flatten)]
    pub temp: TempArg,
}

impl MemoryArg {
    /// How much memory, checked.
    pub(super) fn memory(&self) -> Result<Memory> {
        Memory::new(self.memory_limit)
    }
}
