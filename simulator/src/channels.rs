//! QueryChannels.

use serde_json::Value;

use crate::answer::Answer;
use crate::api_error::ApiError;
use crate::entity::Channel;
use crate::file::list;
use crate::filter::{Filter, SORTABLE, sort};
use crate::payload::{Payload, Style, Threads};
use crate::world::World;

const MOST_CHANNELS: usize = 30;
const LAST_OFFSET: usize = 1_000;
const KNOWN_FIELDS: [&str; 12] = [
    "filter_conditions",
    "sort",
    "limit",
    "offset",
    "state",
    "message_limit",
    "member_limit",
    "user_id",
    "user",
    "watch",
    "presence",
    "connection_id",
];

pub(crate) fn query(world: &World, body: &Value, v2: bool) -> Result<Answer, ApiError> {
    let known = |field: &String| KNOWN_FIELDS.contains(&field.as_str());
    if let Some(field) = body.as_object().and_then(|body| body.keys().find(|field| !known(field))) {
        return Err(ApiError::input(format!("the simulator does not implement the field \"{field}\"")));
    }
    let none = Value::Object(serde_json::Map::new());
    let conditions = body.get("filter_conditions").filter(|value| !value.is_null()).unwrap_or(&none);
    let filter = Filter::parse(conditions).map_err(ApiError::input)?;
    let sorting = parse_sort(&body["sort"])?;
    // Larger limits are cut without a word, and offsets past the last one give the page at the last one again.
    let limit = number(body, "limit", 10)?.min(MOST_CHANNELS);
    let offset = number(body, "offset", 0)?.min(LAST_OFFSET);
    let message_limit = number(body, "message_limit", 25)?;
    let member_limit = number(body, "member_limit", 100)?;
    if message_limit > 300 || member_limit > 100 {
        return Err(ApiError::input("message_limit must be at most 300 and member_limit at most 100"));
    }
    let state = body["state"].as_bool().unwrap_or(true);

    let named = filter.cids();
    let candidates: Box<dyn Iterator<Item = &Channel>> = match &named {
        Some(cids) => Box::new(cids.iter().filter_map(|cid| world.channel(cid)).map(|channel| &**channel)),
        None => Box::new(world.channels().map(|channel| &**channel)),
    };
    let mut found: Vec<&Channel> =
        candidates.filter(|channel| channel.deleted_at.is_none() && filter.matches(channel)).collect();
    sort(&mut found, &sorting);
    let payload = Payload::new(if v2 { Style::V2 } else { Style::LEGACY }, world.users());
    let mut out = b"{\"channels\":".to_vec();
    list(&mut out, found.into_iter().skip(offset).take(limit), |out, channel| {
        channel_state(out, &payload, channel, state.then_some((message_limit, member_limit)));
    });
    out.extend_from_slice(b",\"duration\":\"3.42ms\"}");
    Ok(Answer::json(201, out))
}

fn channel_state(out: &mut Vec<u8>, payload: &Payload<'_>, channel: &Channel, limits: Option<(usize, usize)>) {
    let (message_limit, member_limit) = limits.unwrap_or((0, 0));
    let threads = if message_limit > 0 { Threads::of(channel) } else { Threads::default() };
    out.extend_from_slice(b"{\"channel\":");
    payload.channel(out, channel);
    let visible = |message: &&crate::entity::Message| {
        !channel.hides(message) && (message.parent_id.is_none() || message.show_in_channel)
    };
    let mut latest: Vec<_> = channel.messages.iter().rev().filter(visible).take(message_limit).collect();
    latest.reverse();
    out.extend_from_slice(b",\"messages\":");
    list(out, latest, |out, message| payload.message(out, channel, &threads, message));
    out.extend_from_slice(b",\"members\":");
    list(out, channel.members.iter().take(member_limit), |out, member| payload.member(out, channel, member, false));
    out.extend_from_slice(b",\"pinned_messages\":[],\"threads\":[],\"watcher_count\":0");
    if limits.is_some() {
        out.extend_from_slice(b",\"read\":");
        list(out, channel.members.iter().take(100), |out, member| payload.read(out, channel, member, false));
    }
    out.push(b'}');
}

fn number(body: &Value, name: &str, default: usize) -> Result<usize, ApiError> {
    match &body[name] {
        Value::Null => Ok(default),
        value => value
            .as_u64()
            .and_then(|value| usize::try_from(value).ok())
            .ok_or_else(|| ApiError::input(format!("{name} must be a number that is not negative"))),
    }
}

fn parse_sort(value: &Value) -> Result<Vec<(String, bool)>, ApiError> {
    let Value::Array(entries) = value else {
        return match value {
            Value::Null => Ok(vec![("last_updated".into(), true)]),
            _ => Err(ApiError::input("sort must be an array")),
        };
    };
    if entries.len() > 5 {
        return Err(ApiError::input("sort takes at most 5 fields"));
    }
    let mut fields = Vec::new();
    for entry in entries {
        let field = entry["field"].as_str().unwrap_or_default();
        if !SORTABLE.contains(&field) {
            return Err(ApiError::input(format!("cannot sort by \"{field}\": the fields are {}", SORTABLE.join(", "))));
        }
        let descending = match entry["direction"].as_i64() {
            None | Some(-1) => true,
            Some(1) => false,
            Some(other) => return Err(ApiError::input(format!("sort direction must be 1 or -1, not {other}"))),
        };
        fields.push((field.to_owned(), descending));
    }
    Ok(if fields.is_empty() { vec![("last_updated".into(), true)] } else { fields })
}
