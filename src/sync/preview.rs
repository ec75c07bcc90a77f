//! What a run would do.

use jiff::Timestamp;

use super::mistakes::Ahead;
use super::{Job, Run};
use crate::error::Result;
use crate::export::Endpoint;
use crate::pipeline::channels::{Channels, Effort};
use crate::window::Window;

/// A span that would be exported.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlannedSpan {
    /// First instant.
    pub since: Timestamp,
    /// First instant after.
    pub until: Timestamp,
    /// Cells in it.
    pub cells: usize,
    /// Whether rows are replaced.
    pub replaces: bool,
    /// Channels that discovery lists; a replacement also asks for those that the lake knows.
    pub channels: u64,
    /// Channels that were looked up by name: those of a long list, and those that the lake remembers and discovery does not list.
    pub looked_up: u64,
    /// Those of all channels that Stream does not list, and that are asked for by name.
    pub unlisted: u64,
    /// Export requests.
    pub requests: u64,
    /// Minutes until the last of them may be made, at the share of the app's rate limit.
    pub minutes: f64,
}

impl Run<'_> {
    /// What would be done, without doing it: spans, channels, requests and the time they take at the app's rate limit.
    pub async fn plan(&mut self, job: Job) -> Result<Vec<PlannedSpan>> {
        let wanted = self.settings.identity(self.client.app_key());
        if let Some(identity) = self.lake.identity().await? {
            identity.check(&wanted, self.lake.display_url())?;
        }
        let state = self.lake.state().await?;
        let rules = &self.settings.rules;
        let now = self.client.hello().await?.at;
        // Not every app's key may ask for them; what a plan says then is for the documented ones.
        if let Err(error) = self.client.rate_limits().await {
            tracing::debug!(%error, "the app's rate limits are not known");
        }
        let spans = match (job, self.settings.range) {
            (Job::Sync, Some(range)) if self.settings.replace => rules.replacement(&state, range, now),
            (Job::Sync, Some(range)) => rules.missing(&state, range),
            (Job::Backfill(range), _) => rules.history(&state, range, &[]),
            (Job::Sync, None) if state.origin().is_none() && self.settings.start.is_none() => {
                return Err(self.no_start().await?);
            }
            (Job::Sync, None) => {
                let mut spans = rules.due(&state, self.settings.start, now);
                spans.extend(rules.revisits(&state, now));
                spans
            }
            (Job::Revisit, _) => rules.revisits(&state, now),
        };
        let last = spans.iter().map(|span| span.window().until).max();
        let of_range =
            |range: Window| Ahead { option: "--until", given: range.until, ends: last.unwrap_or(range.until) };
        let ahead = match (job, self.settings.range) {
            (Job::Backfill(range), _) | (Job::Sync, Some(range)) => Some(of_range(range)),
            (Job::Sync, None) => self.first_start(&state),
            (Job::Revisit, _) => None,
        };
        self.refuse_mistakes(&state, ahead, now).await?;
        let mut planned = Vec::new();
        for span in spans {
            let window = span.window();
            let mut found = Channels::of(self.client, self.lake, &state, self.settings, &span, self.cpu).await?;
            let mut channels = 0;
            while let Some(page) = found.next().await? {
                channels += page.channels.len() as u64;
            }
            let Effort { looked_up, unlisted } = found.effort;
            let requests = channels.div_ceil(self.settings.channels_per_request as u64);
            let minutes = requests as f64 / self.client.pace_per_minute(Endpoint::ExportChannels);
            planned.push(PlannedSpan {
                since: window.since,
                until: window.until,
                cells: span.cells.len(),
                replaces: span.replaces,
                channels,
                looked_up,
                unlisted,
                requests,
                minutes,
            });
        }
        Ok(planned)
    }
}
