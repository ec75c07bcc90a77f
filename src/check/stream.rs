//! What Stream allows, and how much of it.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{Finding, Verdict, within};
use crate::error::{Error, Kind, Result};
use crate::export::{Client, Endpoint, Selection, Trial};
use crate::figures::count;
use crate::plan::most_clock_offset;

const NAMES: [&str; 5] = ["clock", "credentials", "rate limits", "permission", "discovery"];

/// Channels of a list that are looked up.
const MOST_LOOKED_UP: usize = 300;

/// How runs will use it.
pub(super) struct Stream<'a> {
    pub(super) settle: SignedDuration,
    pub(super) rate_share: f64,
    pub(super) channels_per_request: usize,
    /// The channels that they will export, if any are chosen.
    pub(super) selection: Option<&'a Selection>,
}

impl Stream<'_> {
    /// One finding for each of [`NAMES`], in that order.
    pub(super) async fn findings(&self, client: Result<Client>) -> Vec<Finding> {
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                let finding = |check| match check {
                    "credentials" => Finding::failed(&error).named(check),
                    _ => not_asked(check),
                };
                return NAMES.map(finding).into();
            }
        };
        let credentials = within("credentials", credentials(&client)).await;
        let clock = within("clock", async { self.clock(&client) }).await;
        // Who is not let in, or cannot be reached, needs no further refusals.
        let is_useless = credentials.kind == Some(Kind::Permission) || client.clock_offset().is_none();
        let mut findings = vec![clock, credentials];
        if is_useless {
            findings.extend(NAMES[2..].iter().map(|check| not_asked(check)));
            return findings;
        }
        findings.push(within("rate limits", self.rate_limits(&client)).await);
        findings.push(within("permission", permission(&client)).await);
        findings.push(within("discovery", self.discovery(&client)).await);
        findings
    }

    fn clock(&self, client: &Client) -> Result<Finding> {
        let Some(offset) = client.clock_offset() else {
            return Ok(Finding::skipped("Stream has told no time", "see `credentials`"));
        };
        let limit = most_clock_offset(self.settle);
        // Stream tells whole seconds.
        let whole = SignedDuration::from_secs(offset.as_secs());
        let side = if offset.is_negative() { "behind" } else { "ahead of" };
        let message = match whole.abs() {
            SignedDuration::ZERO => format!("Stream's clock and this machine's agree; {limit:#} are allowed"),
            whole => format!("Stream's clock is {whole:#} {side} this machine's; {limit:#} are allowed"),
        };
        let figures = json!({ "offset_seconds": offset.as_secs(), "limit_seconds": limit.as_secs() });
        if offset.abs() > limit {
            let error = Error::new(Kind::Temporary, message)
                .hint("set this machine's clock by NTP; the limit is half of --settle, which must hide the difference");
            return Ok(Finding { figures, ..Finding::failed(&error) });
        }
        Ok(Finding { figures, ..Finding::ok(message) })
    }

    async fn rate_limits(&self, client: &Client) -> Result<Finding> {
        let limits = client.rate_limits().await?;
        let told = limits.get(Endpoint::ExportChannels.name());
        let limit_per_minute =
            told.map_or(Endpoint::ExportChannels.default_limit_per_minute(), |limit| limit.limit_per_minute);
        let requests_per_minute = (f64::from(limit_per_minute) * self.rate_share * 10.0).round() / 10.0;
        let channels_per_hour = (requests_per_minute * 60.0 * self.channels_per_request as f64).floor();
        let figures = json!({
            "limit_per_minute": limit_per_minute,
            "remaining": told.map(|limit| limit.remaining),
            "rate_share": self.rate_share,
            "requests_per_minute": requests_per_minute,
            "channels_per_hour": channels_per_hour,
        });
        let left = told.map_or_else(String::new, |limit| format!(", {} left of this minute", limit.remaining));
        let message = format!(
            "ExportChannels: {limit_per_minute} a minute{left}; --rate-share {} takes {requests_per_minute}, \
             {channels_per_hour} channels an hour",
            self.rate_share
        );
        let finding = match told {
            Some(limit) if limit.limit_per_minute > 0 && limit.remaining > 0 => Finding::ok(message),
            Some(limit) if limit.limit_per_minute > 0 => Finding::warning(
                message,
                "something else uses up the app's exports; runs wait for their turn, and a lower --rate-share leaves more to others",
            ),
            _ => Finding::warning(
                message,
                "Stream tells no limit for exports: the documented one is assumed, and runs follow what answers say",
            ),
        };
        Ok(Finding { figures, ..finding })
    }

    async fn discovery(&self, client: &Client) -> Result<Finding> {
        let Some(oldest) = client.oldest_channel(&Selection::default()).await? else {
            return Ok(Finding::warning(
                "the app has no channel",
                "check that STREAM_API_KEY is the key of the app that is meant",
            ));
        };
        let newest = client.latest_channel().await?.and_then(|channel| channel.last_message_at);
        let day =
            |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| crate::window::utc_date(at).to_string());
        let figures = json!({ "oldest_channel": oldest.cid, "oldest_channel_at": oldest.created_at, "latest_message_at": newest });
        let message = format!(
            "the oldest channel, `{}`, is of {}, the latest message of {}",
            oldest.cid,
            day(oldest.created_at),
            day(newest)
        );
        let finding = match self.missed(client).await? {
            Some((what, next)) => Finding::warning(format!("{what}; {message}"), next),
            None => Finding::ok(message),
        };
        Ok(Finding { figures, ..finding })
    }

    /// What the selection names and the app has not, and what to do about it.
    async fn missed(&self, client: &Client) -> Result<Option<(String, &'static str)>> {
        let Some(selection) = self.selection else { return Ok(None) };
        let cids = &selection.cids;
        if !cids.is_empty() {
            let looked_up = &cids[..cids.len().min(MOST_LOOKED_UP)];
            let missing = looked_up.len().saturating_sub(client.listed(looked_up).await?.len());
            let what = format!("not known to Stream: {missing} of {}", count(looked_up.len(), "selected channel"));
            return Ok(
                (missing > 0).then_some((what, "check --channel and --channels-file: they are misspelt, or deleted"))
            );
        }
        if selection.is_query() && client.oldest_channel(selection).await?.is_none() {
            return Ok(Some((
                "the app has no channel of this selection".to_owned(),
                "check --channel-type and --filter",
            )));
        }
        Ok(None)
    }
}

fn not_asked(check: &'static str) -> Finding {
    Finding::skipped("not asked", "see `credentials`").named(check)
}

async fn credentials(client: &Client) -> Result<Finding> {
    client.hello().await?;
    Ok(Finding::ok("Stream takes the key and the secret"))
}

/// Asks for an export of a channel that cannot exist: whoever may not export is told so, whoever may is told that it is missing.
async fn permission(client: &Client) -> Result<Finding> {
    let error = match client.try_export(Uuid::now_v7()).await {
        Ok(Trial::Missing) => {
            return Ok(Finding::ok(
                "asked for an export of a channel that does not exist, Stream looked for the channel; no export was begun",
            ));
        }
        Ok(Trial::Accepted) => {
            return Ok(Finding::warning(
                "Stream took on an export of a channel that does not exist, of one second in 1970",
                "nothing is wrong with the key; a misspelt channel in --channel will show as one without messages",
            ));
        }
        Err(error) => error,
    };
    let is_other_input = error.refusal().is_some_and(|refusal| refusal.status == 400);
    let error = Error::from(error);
    if is_other_input && error.kind() == Kind::Usage {
        return Ok(Finding {
            result: Verdict::Warning,
            kind: None,
            next: Some("whether the key may export shows with `chatlake check --export CID`".to_owned()),
            ..Finding::failed(&error)
        });
    }
    Err(error)
}
