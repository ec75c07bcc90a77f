//! The app's own rate limits, as Stream reports them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::client::Client;
use super::endpoint::Endpoint;
use super::error::ApiError;
use super::wire;

/// One endpoint's limit for server-side calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests a minute.
    pub limit_per_minute: u32,
    /// What is left of this minute.
    pub remaining: u32,
    /// When the limit is full again; none if Stream did not say.
    pub reset_at: Option<Timestamp>,
}

impl Client {
    /// The limits of every endpoint that Stream reports, by Stream's names. The pace follows them from now on.
    pub async fn rate_limits(&self) -> Result<BTreeMap<String, RateLimit>, ApiError> {
        let answer = self.get::<wire::RateLimits>(Endpoint::GetRateLimits, &["rate_limits"]).await?;
        let limits: BTreeMap<_, _> =
            answer.body.server_side.into_iter().map(|(name, limit)| (name, rate_limit(&limit))).collect();
        for endpoint in Endpoint::ALL {
            if let Some(limit) = limits.get(endpoint.name()) {
                self.set_limit(endpoint, limit.limit_per_minute);
            }
        }
        Ok(limits)
    }
}

fn rate_limit(wire: &wire::RateLimit) -> RateLimit {
    let number = |value: i64| u32::try_from(value.max(0)).unwrap_or(u32::MAX);
    RateLimit {
        limit_per_minute: number(wire.limit),
        remaining: number(wire.remaining),
        reset_at: Timestamp::from_second(wire.reset).ok().filter(|&at| at > Timestamp::UNIX_EPOCH),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::export::scripted::{Reply, Scripted};

    #[tokio::test]
    async fn the_pace_follows_the_apps_own_limits() {
        let body = json!({ "duration": "1ms", "server_side": {
            "ExportChannels": { "limit": 120, "remaining": 119, "reset": 1_767_225_600 },
            "SomethingElse": { "limit": -1, "remaining": 5 },
        } });
        let server = Scripted::queue([Reply::json(200, body)]).await;
        let client = server.client();
        let limits = client.rate_limits().await.unwrap();
        let reset_at = Some("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(limits["ExportChannels"], RateLimit { limit_per_minute: 120, remaining: 119, reset_at });
        assert_eq!(limits["SomethingElse"], RateLimit { limit_per_minute: 0, remaining: 5, reset_at: None });
        assert_eq!(client.pace_per_minute(Endpoint::ExportChannels), 120.0);
        assert_eq!(server.lines(), ["GET /rate_limits"]);
    }
}
