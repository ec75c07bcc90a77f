//! `chatlake check`.

use clap::Args;
use jiff::SignedDuration;

use super::{LakeArg, RateArg, StreamArg, TempArg, within};
use crate::error::Result;
use crate::export::MAX_CHANNELS;
use crate::window::parse_duration;

/// `chatlake check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Which lake; none: Stream alone is looked at.
    #[command(flatten)]
    pub lake: LakeArg,
    /// Which Stream.
    #[command(flatten)]
    pub stream: StreamArg,
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

    /// Channels in one request, checked.
    pub fn channels_per_request(&self) -> Result<usize> {
        within("--channels-per-request", self.channels_per_request, 1, MAX_CHANNELS)?;
        Ok(self.channels_per_request)
    }
}
