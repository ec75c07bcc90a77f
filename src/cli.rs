//! What can be typed, and what it comes to: flags and `CHATLAKE_*` variables into [`Settings`].

mod check;
pub mod configuration;
mod convert;
mod inspect;
pub mod layers;
mod schema;
mod selection;
mod shared;
mod users;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use parquet::basic::{Compression, ZstdLevel};

pub use self::check::CheckArgs;
pub use self::convert::Convert;
pub use self::inspect::{FilesArgs, GcArgs, StatusArgs, VerifyArgs};
pub use self::schema::{SchemaArgs, SchemaFormat};
pub use self::selection::SelectionArgs;
pub use self::shared::{
    ColumnsArg, ExportsArg, LakeArg, MemoryArg, MetricsArg, ParquetArg, RateArg, StreamArg, TempArg,
};
pub use self::users::Users;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::export::{ExportVersion, MAX_CHANNELS};
use crate::plan::Rules;
use crate::settings::Settings;
use crate::window::{Grid, Window, parse_duration, parse_time};

const AFTER_HELP: &str = "\
Exit codes:
  0 done, or already done       2 wrong usage, or another lake       65 the data does not fit
  69 Stream failed some exports  73 store without conditional writes  75 temporary: run it again
  77 credentials or permission   130/143 interrupted

A first lake, without any account:  chatlake demo
With yours:
  export STREAM_API_KEY=... STREAM_API_SECRET=...
  export CHATLAKE_LAKE=s3://bucket/chat AWS_REGION=us-east-1
  chatlake check
  chatlake sync --start 2026-01-01
What all runs of a lake have in common can stand in a file:  chatlake init";

/// Stream Chat conversations into a Parquet data lake, exactly once.
#[derive(Debug, Parser)]
#[command(name = "chatlake", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to talk about it.
    #[command(flatten)]
    pub manners: Manners,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Export what is new (or a range) and commit it to the lake
    ///
    /// With --since and --until: that range, and of it only what is not in the lake yet. Without: from where the last run ended
    /// to now, in whole cells, and then the days that are due to be looked at again for edits and deletes.
    Sync(Box<Sync>),
    /// Export again the days that are due, so that edits, deletes and reactions arrive
    ///
    /// For schedulers that run `sync --since --until` every hour: run this beside it once a day.
    Revisit(Box<Options>),
    /// Bring in history: large spans, newest first, each channel asked once for each of them
    ///
    /// Commits span by span, so it may be stopped and run again. Runs beside `sync` on the same lake, and leaves the origin and the
    /// frontier of automatic mode alone. See it with --plan first: what it costs is requests, and each span asks for every channel
    /// that was active since its beginning.
    Backfill(Box<Backfill>),
    /// Export users with all that they wrote, 25 in a request, beside the channels
    ///
    /// What Stream has of each of them now: the user, messages, reactions, and whatever else comes, into `user_exports/`, by the day
    /// of the export. A user who cannot be exported, such as one with more than 10,000 messages, is found and reported, and the others
    /// are committed. Each run exports anew; only what a run that died had asked for is gone on with, for a day.
    Users(Box<Users>),
    /// Bring exports on disk into a lake, without asking Stream
    ///
    /// Into a lake of their own, where files are added to each other: of two versions of a message the later one wins, and nothing goes
    /// away. Or, with --since and --until, into a lake that is kept by `sync`, as all that there is of that range: it is covered, and
    /// `sync` does not ask for it. The same files are converted once, whatever they are called and however they are compressed.
    Convert(Box<Convert>),
    /// Look whether all that a run needs is there: Stream, the store, the clock, room
    ///
    /// One line for each capability, with what to do if something is missing. Exports nothing, and writes nothing but a few
    /// objects below `_chatlake/probe/`, which it deletes. Ends with the code of the worst: 77, 73, 65, 75, 2 or 0.
    ///
    /// With --export: what this app's exports look like. Keys are shown, values and ids are not, so that it can be pasted into a report.
    Check(Box<CheckArgs>),
    /// Show what a lake covers and lacks, and what is under way
    Status(StatusArgs),
    /// List the data files that are live by the log, each where it can be read now
    Files(FilesArgs),
    /// Compare a lake with its log, on demand row by row and with Stream
    ///
    /// Ends with 65 if anything differs, and names the objects and what to do.
    Verify(VerifyArgs),
    /// Delete what nothing refers to; shows it first
    ///
    /// Files of runs that died, files that the log does not know, old snapshots and journals. What the log refers to, and whatever a
    /// run that is at work may still need, is never touched.
    Gc(GcArgs),
    /// Show what analysts may rely on: datasets, columns, types, meaning
    ///
    /// With --lake: as they are in that lake, with the columns that its runs promoted and without those that they left out. With --config:
    /// as a run with this configuration writes them, into that lake or a new one.
    Schema(SchemaArgs),
    /// Write a configuration in which every option is explained
    ///
    /// Nothing in it is in force until its line is uncommented.
    Init(InitArgs),
    /// Show every option that is in force, and where its value comes from
    ///
    /// Of the options that have a variable: what the variables and the configuration of this moment say. Secrets are not shown.
    Config,
    /// Make a small lake from a simulated chat, and show what to do with it
    Demo(DemoArgs),
}

/// Settings of every command.
#[derive(Clone, Debug, Args)]
pub struct Manners {
    /// Options and columns: a TOML file, such as `chatlake init` writes
    ///
    /// Its keys are names of options with underscores. What a flag or a variable says is stronger.
    #[arg(long, global = true, value_name = "FILE", env = "CHATLAKE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the result as one line of JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Form of the log on stderr
    #[arg(long, global = true, env = "CHATLAKE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Show progress on a terminal
    #[arg(long, global = true, env = "CHATLAKE_PROGRESS", value_enum, default_value_t = ProgressMode::Auto)]
    pub progress: ProgressMode,
    /// Say more: each cell, export and request (-vv: everything)
    ///
    /// Without it, at a terminal: progress and warnings; elsewhere warnings, and with --log-format json each cell too.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// When progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// On a terminal.
    Auto,
    /// Not at all.
    Never,
}

/// `chatlake sync`
#[derive(Debug, Args)]
pub struct Sync {
    /// First instant of the range: a date, or RFC 3339 [default: where the last run ended]
    #[arg(long, value_name = "TIME", env = "CHATLAKE_SINCE", requires = "until", value_parser = parse_time)]
    pub since: Option<Timestamp>,
    /// First instant after the range; waited for if it is younger than --settle
    #[arg(long, value_name = "TIME", env = "CHATLAKE_UNTIL", requires = "since", value_parser = parse_time)]
    pub until: Option<Timestamp>,
    /// Where the first automatic sync of an empty lake begins
    #[arg(long, value_name = "TIME", env = "CHATLAKE_START", value_parser = parse_time)]
    pub start: Option<Timestamp>,
    /// Export the range again although it is in the lake; it is widened to whole cells
    #[arg(long, requires = "since")]
    pub replace: bool,
    /// Stay, and run again when so much time has passed and settled: 1h, another divisor of a day, or days
    #[arg(long, value_name = "DURATION", env = "CHATLAKE_EVERY", value_parser = parse_duration)]
    pub every: Option<SignedDuration>,
    /// While staying: answer /metrics and /healthz at this address
    #[arg(long, value_name = "HOST:PORT", env = "CHATLAKE_LISTEN")]
    pub listen: Option<String>,
    /// What all of them take.
    #[command(flatten)]
    pub options: Options,
}

/// `chatlake backfill`
#[derive(Debug, Args)]
pub struct Backfill {
    /// First instant of the history: a date, or RFC 3339
    #[arg(long, value_name = "TIME", env = "CHATLAKE_SINCE", value_parser = parse_time)]
    pub since: Timestamp,
    /// First instant after it
    #[arg(long, value_name = "TIME", env = "CHATLAKE_UNTIL", value_parser = parse_time)]
    pub until: Timestamp,
    /// How much one export of a channel asks for: at least a cell, at most all of it
    #[arg(long, value_name = "DURATION", env = "CHATLAKE_SPAN", default_value = "90d", value_parser = parse_duration)]
    pub span: SignedDuration,
    /// What all of them take.
    #[command(flatten)]
    pub options: Options,
}

/// What `sync`, `revisit` and `backfill` have in common.
#[derive(Debug, Args)]
pub struct Options {
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArg,
    /// Show what would be exported, with requests and time, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// Which Stream.
    #[command(flatten)]
    pub stream: StreamArg,

    /// Cell of the lake: 1d or a divisor of a day [default: 1d, with --every that]
    #[arg(long, value_name = "DURATION", env = "CHATLAKE_WINDOW", value_parser = parse_duration, help_heading = "Time")]
    pub window: Option<SignedDuration>,
    /// How old the end of a range must be
    #[arg(long, value_name = "DURATION", env = "CHATLAKE_SETTLE", default_value = "5m", value_parser = parse_duration, help_heading = "Time")]
    pub settle: SignedDuration,
    /// Ages at which a day is exported again, or `none`
    #[arg(long, value_name = "AGES", env = "CHATLAKE_REVISIT", default_value = "1d,7d", value_parser = parse_ages, help_heading = "Time")]
    pub revisit: Ages,
    /// What happens to rows that are not delivered any more
    #[arg(long, env = "CHATLAKE_ON_VANISH", value_enum, default_value_t = OnVanish::Keep, help_heading = "Time")]
    pub on_vanish: OnVanish,

    /// Which channels, and what of them.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Which columns.
    #[command(flatten)]
    pub columns: ColumnsArg,
    /// Partition folders of messages and reactions
    #[arg(long, value_name = "COLUMNS", env = "CHATLAKE_PARTITION_BY", value_enum, default_value_t = PartitionBy::EventDate, help_heading = "Files")]
    pub partition_by: PartitionBy,
    /// How they are written.
    #[command(flatten)]
    pub parquet: ParquetArg,

    /// Format of the exports: v2, lines; or v1, an array of channels, which some apps have better experience with
    #[arg(long, value_name = "VERSION", env = "CHATLAKE_EXPORT_VERSION", value_parser = parse_export_version, default_value = "v2", help_heading = "Limits")]
    pub export_version: ExportVersion,
    /// Channels in one export request, at most 100; Stream documents 25
    #[arg(
        long,
        value_name = "N",
        env = "CHATLAKE_CHANNELS_PER_REQUEST",
        default_value_t = 25,
        help_heading = "Limits"
    )]
    pub channels_per_request: usize,
    /// How they are asked for.
    #[command(flatten)]
    pub exports: ExportsArg,
    /// What it may take.
    #[command(flatten)]
    pub memory: MemoryArg,
    /// Lines that may go to quarantine before a span is refused [default: 10, or 0.1% if that is more]
    #[arg(long, value_name = "N", env = "CHATLAKE_MAX_REJECTED", help_heading = "Limits")]
    pub max_rejected: Option<u64>,
    /// Commit a range whose exports hold no messages, or nothing that is known, although its channels had some
    #[arg(long, env = "CHATLAKE_ACCEPT_EMPTY", help_heading = "Limits")]
    pub accept_empty: bool,
    /// Exit code for "no new messages" (Airflow: 99 means skipped)
    #[arg(long, value_name = "N", env = "CHATLAKE_EMPTY_EXIT_CODE", default_value_t = 0, help_heading = "Limits")]
    pub empty_exit_code: u8,
    /// Accept a store that ignores conditional writes: safe only if no two runs ever overlap
    #[arg(long, env = "CHATLAKE_SINGLE_WRITER", help_heading = "Limits")]
    pub single_writer: bool,
    /// What a collector reads.
    #[command(flatten)]
    pub metrics: MetricsArg,
}

/// `chatlake init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// A file that does not exist yet; `-` for standard output
    #[arg(default_value = "chatlake.toml")]
    pub file: PathBuf,
}

/// `chatlake demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// A folder that does not exist yet, or is empty
    #[arg(default_value = "chatlake-demo")]
    pub dir: PathBuf,
}

/// The longest cell.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What happens to rows that are not delivered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnVanish {
    /// They stay, with `_vanished_at`.
    Keep,
    /// They are dropped.
    Remove,
}

/// Partition folders of messages and reactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PartitionBy {
    /// By day.
    #[value(name = "event_date")]
    EventDate,
    /// By day and channel type.
    #[value(name = "event_date,channel_type")]
    ChannelType,
}

/// Ages of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ages(pub Vec<SignedDuration>);

fn parse_ages(text: &str) -> std::result::Result<Ages, String> {
    if text == "none" {
        return Ok(Ages(Vec::new()));
    }
    let ages = text.split(',').map(|age| parse_duration(age.trim()).map_err(|error| error.to_string()));
    ages.collect::<std::result::Result<_, _>>().map(Ages)
}

fn parse_export_version(text: &str) -> std::result::Result<ExportVersion, String> {
    [ExportVersion::V1, ExportVersion::V2]
        .into_iter()
        .find(|version| version.as_str() == text)
        .ok_or_else(|| format!("`{text}` is no version of exports: use v1 or v2"))
}

fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let refused = || format!("`{text}` is no size: use a number and a unit (96MiB, 1GiB, 500MB)");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(refused()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| refused())?;
    number.checked_mul(unit).ok_or_else(refused)
}

fn parse_compression(text: &str) -> std::result::Result<Compression, String> {
    let level = text.strip_prefix("zstd(").and_then(|rest| rest.strip_suffix(')'));
    match (text, level) {
        ("none", _) => Ok(Compression::UNCOMPRESSED),
        ("snappy", _) => Ok(Compression::SNAPPY),
        ("zstd", _) => Ok(Compression::ZSTD(ZstdLevel::default())),
        (_, Some(level)) => {
            let refused = || format!("`{level}` is no level of zstd: use 1 to 22");
            let level = level.parse().ok().filter(|level| (1..=22).contains(level)).ok_or_else(refused)?;
            ZstdLevel::try_new(level).map(Compression::ZSTD).map_err(|error| error.to_string())
        }
        _ => Err(format!("`{text}` is no codec: use zstd(1) to zstd(22), snappy or none")),
    }
}

impl Sync {
    /// How often to run, for a process that stays: a range, and a plan, are made once.
    pub fn rhythm(&self) -> Option<SignedDuration> {
        self.every.filter(|_| self.since.is_none() && !self.options.plan)
    }

    /// The settings that these flags come to.
    pub fn settings(&self, config: &Config) -> Result<Settings> {
        let mut settings = self.options.settings(config)?;
        if let (Some(every), None) = (self.every, self.options.window) {
            settings.rules.grid = Grid::new(every.min(DAY)).map_err(|error| {
                usage(error.to_string()).hint("let --every divide a day, or say with --window how long a cell is")
            })?;
        }
        settings.range = match (self.since, self.until) {
            (Some(since), Some(until)) => Some(Window::new(since, until).map_err(|error| {
                usage(error.to_string()).hint(
                    "--since must be before --until; a scheduler that passes an empty interval needs one with a length",
                )
            })?),
            _ => None,
        };
        settings.start = self.start.filter(|_| settings.range.is_none());
        settings.replace = self.replace;
        Ok(settings)
    }
}

impl Backfill {
    /// The range.
    pub fn range(&self) -> Result<Window> {
        Window::new(self.since, self.until)
            .map_err(|error| usage(error.to_string()).hint("--since must be before --until"))
    }

    /// The settings that these flags come to.
    pub fn settings(&self, config: &Config) -> Result<Settings> {
        let mut settings = self.options.settings(config)?;
        let window = self.options.window.unwrap_or(DAY);
        if self.span < window {
            return Err(usage(format!("--span {:#} is shorter than --window {window:#}", self.span))
                .hint("a span is made of whole cells"));
        }
        settings.rules.longest_span = self.span;
        Ok(settings)
    }
}

impl Options {
    /// The settings that these flags come to.
    pub fn settings(&self, config: &Config) -> Result<Settings> {
        let grid = Grid::new(self.window.unwrap_or(DAY)).map_err(|error| usage(error.to_string()))?;
        within("--channels-per-request", self.channels_per_request, 1, MAX_CHANNELS)?;
        self.exports.check()?;
        let memory = self.memory.memory()?;
        let defaults = Settings::default();
        Ok(Settings {
            rules: Rules { grid, settle: self.settle, revisit: self.revisit.0.clone(), ..defaults.rules },
            removes_vanished: self.on_vanish == OnVanish::Remove,
            selection: self.selection.selection()?,
            export: self.selection.export(self.export_version),
            channels_per_request: self.channels_per_request,
            max_concurrent_exports: self.exports.max_concurrent_exports,
            task_deadline: self.exports.task_deadline,
            by_channel_type: self.partition_by == PartitionBy::ChannelType,
            columns: self.columns.wanted(config),
            file: self.parquet.options(memory)?,
            memory,
            temp_dir: self.memory.temp.temp_dir.clone(),
            max_rejected: self.max_rejected,
            keep_raw: self.parquet.keep_raw,
            accept_empty: self.accept_empty,
            single_writer: self.single_writer,
            range: None,
            start: None,
            replace: false,
        })
    }
}

fn within(name: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(usage(format!("{name} is {value}, not {least} to {most}")))
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::Usage, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_codecs_are_read() {
        assert_eq!(parse_bytes("96MiB"), Ok(96 << 20));
        assert_eq!(parse_bytes("500mb"), Ok(500_000_000));
        assert_eq!(parse_bytes("7"), Ok(7));
        for bad in ["", "MiB", "1.5GiB", "9TB", "99999999999999999999", "99999999999GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_compression("none"), Ok(Compression::UNCOMPRESSED));
        assert!(parse_compression("zstd(3)").is_ok());
        for bad in ["zstd(0)", "zstd(23)", "lzma", "zstd(x)"] {
            assert!(parse_compression(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_ages("none"), Ok(Ages(vec![])));
        assert_eq!(parse_ages("1d, 7d").unwrap().0.len(), 2);
    }

    fn settings(flags: &[&str]) -> Result<Settings> {
        let typed = ["chatlake", "sync", "--lake", "x"].iter().chain(flags);
        match Cli::try_parse_from(typed).map(|cli| cli.command) {
            Ok(Command::Sync(sync)) => sync.settings(&Config::default()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(usage(error.to_string())),
        }
    }

    #[test]
    fn what_is_set_to_nothing_selects_everything() {
        let nothing = ["--channel=", "--channel-type=", "--filter="];
        assert_eq!(settings(&nothing).unwrap().selection, Settings::default().selection);
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (flags, part) in [
            (&["--since", "2026-01-02", "--until", "2026-01-01"][..], "is not before"),
            (&["--since", "2026-01-02", "--until", "2026-01-02"], "is not before"),
            (&["--since", "2026-01-02"], "--until"),
            (&["--since", "soon", "--until", "2026-01-01"], "no point in time"),
            (&["--window", "5h"], "does not divide a day"),
            (&["--channel", "general"], "is no channel"),
            (&["--channel", "a:b", "--channel-type", "a"], "would do nothing"),
            (&["--channel-type", "team:a"], "is no channel type"),
            (&["--filter", "[]"], "no JSON object"),
            (&["--filter", "@/no/such/file"], "cannot read the filter"),
            (&["--filter", r#"{"$or":{}}"#], "`$or` takes a list of filters"),
            (&["--rate-share", "0"], "--rate-share"),
            (&["--channels-per-request", "101"], "not 1 to 100"),
            (&["--memory-limit", "1MiB"], "at least 64MiB"),
            (&["--target-file-size", "5GiB"], "at most 4GiB"),
        ] {
            let error = settings(flags).err().unwrap_or_else(|| panic!("{flags:?} was accepted"));
            assert!(error.report().contains(part), "{flags:?}: {}", error.report());
            assert_eq!(error.kind(), Kind::Usage);
        }
    }
}
