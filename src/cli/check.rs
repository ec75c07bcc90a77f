//! `chatlake check`.

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::{LakeArg, RateArg, SelectionArgs, StreamArg, TempArg, parse_export_version, usage, within};
use crate::check::format::Wanted;
use crate::error::Result;
use crate::export::{ExportVersion, MAX_CHANNELS};
use crate::settings::Settings;
use crate::window::{Window, parse_duration, parse_time};

/// `chatlake check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Which lake; none: Stream alone is looked at.
    #[command(flatten)]
    pub lake: LakeArg,
    /// Which Stream.
    #[command(flatten)]
    pub stream: StreamArg,
    /// Make one real export of this channel (two, where bounds can be told) and say what this app's format is, in place of the rest
    #[arg(long, value_name = "CID")]
    pub export: Option<String>,
    /// First instant of it: a date, or RFC 3339 [default: the last day in which the channel had messages]
    #[arg(long, value_name = "TIME", requires_all = ["until", "export"], value_parser = parse_time, help_heading = "For --export")]
    pub since: Option<Timestamp>,
    /// First instant after it
    #[arg(long, value_name = "TIME", requires_all = ["since", "export"], value_parser = parse_time, help_heading = "For --export")]
    pub until: Option<Timestamp>,
    /// Format of the export: v1 or v2
    #[arg(long, value_name = "VERSION", env = "CHATLAKE_EXPORT_VERSION", value_parser = parse_export_version, default_value = "v2", help_heading = "For --export")]
    pub export_version: ExportVersion,
    /// Compared with what the lake is, if there is one.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// How old the end of a range must be; half of it is what the clock may be off
    #[arg(long, value_name = "DURATION", env = "CHATLAKE_SETTLE", default_value = "5m", value_parser = parse_duration, help_heading = "As runs will have it")]
    pub settle: SignedDuration,
    /// Channels in one export request, at most 100
    #[arg(
        long,
        value_name = "N",
        env = "CHATLAKE_CHANNELS_PER_REQUEST",
        default_value_t = 25,
        help_heading = "As runs will have it"
    )]
    pub channels_per_request: usize,
    /// How much of Stream.
    #[command(flatten)]
    pub rate: RateArg,
    /// Where there is room.
    #[command(flatten)]
    pub temp: TempArg,
}

impl CheckArgs {
    /// Where the lake is, if one is named.
    pub fn location(&self) -> Option<&str> {
        self.lake.lake.as_deref().filter(|lake| !lake.is_empty())
    }

    /// What to export, if anything.
    pub fn wanted(&self) -> Result<Option<Wanted>> {
        let Some(cid) = self.export.clone() else { return Ok(None) };
        let range = self.since.zip(self.until).map(|(since, until)| Window::new(since, until)).transpose();
        let range = range.map_err(|error| usage(error.to_string()).hint("--since must be before --until"))?;
        Ok(Some(Wanted { cid, range, options: self.selection.export(self.export_version) }))
    }

    /// The settings of runs with this selection, if one is named.
    pub fn selected(&self) -> Result<Option<Settings>> {
        if !self.selection.is_given() {
            return Ok(None);
        }
        let export = self.selection.export(self.export_version);
        Ok(Some(Settings { selection: self.selection.selection()?, export, ..Settings::default() }))
    }

    /// Channels in one request, checked.
    pub fn channels_per_request(&self) -> Result<usize> {
        within("--channels-per-request", self.channels_per_request, 1, MAX_CHANNELS)?;
        Ok(self.channels_per_request)
    }
}
