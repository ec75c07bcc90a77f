//! Stream's requests and answers. Unknown fields are ignored, and only what chatlake cannot do without is required.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Body of `POST /channels`.
#[derive(Debug, Serialize)]
pub(super) struct QueryChannels {
    pub(super) filter_conditions: Value,
    pub(super) sort: [Sort; 1],
    pub(super) limit: usize,
    pub(super) offset: usize,
    /// Without messages, members and reads.
    pub(super) state: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Sort {
    pub(super) field: &'static str,
    pub(super) direction: i8,
}

/// Answer to `POST /channels`.
#[derive(Debug, Deserialize)]
pub(super) struct QueriedChannels {
    pub(super) channels: Vec<ChannelState>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChannelState {
    pub(super) channel: Channel,
}

#[derive(Debug, Deserialize)]
pub(super) struct Channel {
    #[serde(default)]
    pub(super) cid: String,
    #[serde(default, rename = "type")]
    pub(super) channel_type: String,
    #[serde(default)]
    pub(super) id: String,
    #[serde(default, deserialize_with = "time")]
    pub(super) created_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "time")]
    pub(super) last_message_at: Option<Timestamp>,
}

/// Body of `POST /export_channels`.
#[derive(Debug, Serialize)]
pub(super) struct ExportChannels<'a> {
    pub(super) channels: Vec<ChannelExport<'a>>,
    pub(super) version: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) export_users: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) clear_deleted_message_text: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) include_truncated_messages: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) include_soft_deleted_channels: bool,
}

/// Type and id, which every version of the API takes; `cid` alone is newer.
#[derive(Debug, Serialize)]
pub(super) struct ChannelExport<'a> {
    #[serde(rename = "type")]
    pub(super) channel_type: &'a str,
    pub(super) id: &'a str,
    pub(super) messages_since: Timestamp,
    pub(super) messages_until: Timestamp,
}

/// Body of `POST /export/users`.
#[derive(Debug, Serialize)]
pub(super) struct ExportUsers<'a> {
    pub(super) user_ids: &'a [String],
}

/// Answer to either.
#[derive(Debug, Deserialize)]
pub(super) struct TaskCreated {
    pub(super) task_id: String,
}

/// Answer to `GET /tasks/{id}`.
#[derive(Debug, Deserialize)]
pub(super) struct Task {
    pub(super) status: String,
    #[serde(default, deserialize_with = "time")]
    pub(super) created_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) result: Value,
    #[serde(default)]
    pub(super) error: Value,
}

/// Answer to `GET /rate_limits`.
#[derive(Debug, Deserialize)]
pub(super) struct RateLimits {
    #[serde(default)]
    pub(super) server_side: BTreeMap<String, RateLimit>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RateLimit {
    pub(super) limit: i64,
    pub(super) remaining: i64,
    /// Unix seconds.
    #[serde(default)]
    pub(super) reset: i64,
}

/// Stream's error body, `APIError`.
#[derive(Debug, Deserialize)]
pub(super) struct ApiErrorBody {
    pub(super) code: i64,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) unrecoverable: bool,
}

// serde's skip_serializing_if passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

/// RFC 3339, or Unix nanoseconds as an integer. Go's zero time, null and anything else are `None`.
pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    struct Time;

    impl<'de> Visitor<'de> for Time {
        type Value = Option<Timestamp>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("RFC 3339 or Unix nanoseconds")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(text.parse().ok().and_then(real))
        }

        fn visit_i64<E: de::Error>(self, nanoseconds: i64) -> Result<Self::Value, E> {
            Ok(Timestamp::from_nanosecond(nanoseconds.into()).ok().and_then(real))
        }

        fn visit_u64<E: de::Error>(self, nanoseconds: u64) -> Result<Self::Value, E> {
            Ok(Timestamp::from_nanosecond(nanoseconds.into()).ok().and_then(real))
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
            // A double cannot hold today's nanoseconds exactly; a wrong instant is worse than none.
            Ok(None)
        }

        fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(None)
        }
    }

    deserializer.deserialize_any(Time)
}

/// Go's zero time, `0001-01-01T00:00:00Z`, and the epoch that an unset integer means, stand for "none".
fn real(at: Timestamp) -> Option<Timestamp> {
    (at > Timestamp::UNIX_EPOCH).then_some(at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn created_at(json: &str) -> Option<Timestamp> {
        let text = format!(r#"{{"cid":"messaging:a","created_at":{json},"new_field":[1]}}"#);
        serde_json::from_str::<Channel>(&text).unwrap().created_at
    }

    #[test]
    fn both_kinds_of_timestamps_are_read() {
        let at: Timestamp = "2024-01-01T00:00:00.123456789Z".parse().unwrap();
        assert_eq!(created_at(r#""2024-01-01T00:00:00.123456789Z""#), Some(at));
        assert_eq!(created_at("1704067200123456789"), Some(at));
        for none in ["null", "\"\"", "\"0001-01-01T00:00:00Z\"", "0", "1.5", "true", "[1,{}]", "{\"a\":[]}", "\"soon\""]
        {
            assert_eq!(created_at(none), None, "{none}");
        }
    }

    #[test]
    fn options_that_are_off_are_not_sent() {
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let body = ExportChannels {
            channels: vec![ChannelExport {
                channel_type: "messaging",
                id: "a",
                messages_since: at,
                messages_until: at,
            }],
            version: "v2",
            export_users: false,
            clear_deleted_message_text: false,
            include_truncated_messages: true,
            include_soft_deleted_channels: false,
        };
        assert_eq!(
            serde_json::to_value(&body).unwrap(),
            serde_json::json!({
                "channels": [{
                    "type": "messaging",
                    "id": "a",
                    "messages_since": "2026-01-01T00:00:00Z",
                    "messages_until": "2026-01-01T00:00:00Z",
                }],
                "version": "v2",
                "include_truncated_messages": true,
            })
        );
    }

    proptest! {
        #[test]
        fn a_nanosecond_survives_either_encoding(ns in 1i64..4_000_000_000_000_000_000) {
            let at = Timestamp::from_nanosecond(ns.into()).unwrap();
            prop_assert_eq!(created_at(&ns.to_string()), Some(at));
            prop_assert_eq!(created_at(&format!("\"{at}\"")), Some(at));
        }
    }
}
