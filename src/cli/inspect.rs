//! The arguments of the commands that look after a lake.

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::{LakeArg, RateArg, StreamArg, TempArg, usage};
use crate::error::Result;
use crate::gc;
use crate::inspect::files::Filter;
use crate::schema::NAMES;
use crate::window::{parse_duration, parse_time};

/// `chatlake status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArg,
}

/// `chatlake files`
#[derive(Debug, Args)]
pub struct FilesArgs {
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArg,
    /// Only files of this dataset
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(NAMES.iter().map(String::as_str)))]
    pub dataset: Option<String>,
    /// Only files of cells that end after this; other datasets than messages and reactions, and exports of users, have none
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,
    /// Only files of cells that begin before this
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Timestamp>,
    /// Only files that were written at this time or later: what has changed since then
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub written_since: Option<Timestamp>,
    /// A table with rows, sizes and times instead of one location to a line
    #[arg(long)]
    pub long: bool,
}

impl FilesArgs {
    /// Which files.
    pub fn filter(&self) -> Filter {
        Filter {
            dataset: self.dataset.clone(),
            since: self.since,
            until: self.until,
            written_since: self.written_since,
        }
    }
}

/// `chatlake verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArg,
    /// Read every row too: checksums, order, duplicates, cells and partitions
    #[arg(long)]
    pub deep: bool,
    /// Export this many channel-days again and compare them; needs STREAM_API_KEY and STREAM_API_SECRET
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub against_stream: Option<u32>,
    /// Which channel-days: the same seed picks the same ones [default: from the clock, and printed]
    #[arg(long, value_name = "N", requires = "against_stream")]
    pub seed: Option<u64>,
    /// Which Stream.
    #[command(flatten)]
    pub stream: StreamArg,
    /// How much of it.
    #[command(flatten)]
    pub rate: RateArg,
    /// Where files are copied to.
    #[command(flatten)]
    pub temp: TempArg,
}

/// `chatlake gc`
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArg,
    /// Delete; without it, show what would be deleted
    #[arg(long)]
    pub delete: bool,
    /// How old an object must be, by the store's clock; at least 1d
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = parse_duration)]
    pub older_than: SignedDuration,
}

impl GcArgs {
    /// How old, checked.
    pub fn older_than(&self) -> Result<SignedDuration> {
        if self.older_than < gc::LEAST_AGE {
            return Err(usage(format!("--older-than is {:#}: at least a day is needed", self.older_than))
                .hint("a run that is at work may be the owner of anything younger"));
        }
        Ok(self.older_than)
    }
}
