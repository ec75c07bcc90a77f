//! The lines of an export, looked at as they come: in what they are wrapped, how they say users, channels and times, and which
//! messages come. Pure; what is kept does not grow with the file and holds no value but times.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::keys::shown;
use crate::decode::envelope::{Kind, Shape, classify};
use crate::json::{self, Index, JsonError};
use crate::schema::{self, Source};
use crate::window::Window;

/// What is counted by name.
pub(super) type Counts = BTreeMap<String, u64>;

/// Ways of wrapping, and names, that are told apart.
const MAX_NAMES: usize = 32;
/// The reactions that Stream embeds at most.
const EMBEDDED: u64 = 10;

type Object = Map<String, Value>;

/// What the lines of one export are like.
#[derive(Debug)]
pub(super) struct Profile {
    /// What was asked for.
    asked: Window,
    known: HashMap<Kind, Known>,
    pub(super) lines: u64,
    pub(super) envelopes: Counts,
    pub(super) names: Counts,
    pub(super) custom: Custom,
    pub(super) users: Counts,
    pub(super) mentions: Counts,
    pub(super) addresses: Counts,
    pub(super) times: Counts,
    pub(super) reactions: Reactions,
    pub(super) selected: Selected,
    /// The first and last time of a message that was never changed, and so is selected by it whatever Stream selects by.
    pub(super) ends: Option<(Timestamp, Timestamp)>,
}

/// Where keys of the app stand: entities by place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Custom {
    pub(super) inlined: u64,
    pub(super) nested: u64,
    /// The same key in both places.
    pub(super) both: u64,
}

/// Reactions, as messages have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reactions {
    pub(super) embedded: u64,
    /// In one message.
    pub(super) most_embedded: u64,
    /// On lines of their own.
    pub(super) lines: u64,
    /// Messages that have more than Stream embeds, by their own counts.
    pub(super) messages_with_more: u64,
}

/// Which messages came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) messages: u64,
    /// Created inside of what was asked for, and changed outside.
    pub(super) by_created_at: u64,
    /// Created outside, and changed inside.
    pub(super) by_updated_at: u64,
    /// Exactly at the first instant that was asked for.
    pub(super) at_since: u64,
    /// Exactly at the last.
    pub(super) at_until: u64,
}

/// Keys of an entity that columns take.
#[derive(Debug)]
struct Known {
    keys: HashSet<String>,
    times: HashSet<String>,
}

impl Profile {
    /// Of an export that was asked for these times.
    pub(super) fn new(asked: Window) -> Self {
        let kinds = [Kind::Message, Kind::Reaction, Kind::Channel, Kind::Member, Kind::User, Kind::Read, Kind::Poll];
        Self {
            asked,
            known: kinds.into_iter().map(|kind| (kind, Known::of(kind))).collect(),
            lines: 0,
            envelopes: Counts::new(),
            names: Counts::new(),
            custom: Custom::default(),
            users: Counts::new(),
            mentions: Counts::new(),
            addresses: Counts::new(),
            times: Counts::new(),
            reactions: Reactions::default(),
            selected: Selected::default(),
            ends: None,
        }
    }

    /// Takes a line, or a part of an array of channels that stands under `key`.
    pub(super) fn line(&mut self, key: Option<&str>, line: &[u8]) {
        self.lines += 1;
        let mut index = Index::default();
        let Ok(text) = std::str::from_utf8(line) else { return count(&mut self.envelopes, "not JSON") };
        let value = match index.parse(text) {
            Ok(value) => value,
            Err(JsonError::Unexpected { .. }) => return count(&mut self.envelopes, "not JSON"),
            Err(error @ (JsonError::TooDeep | JsonError::TooMany)) => {
                return count(&mut self.envelopes, &format!("not looked into: {error}"));
            }
        };
        match key {
            None => self.shape(value),
            Some(key) => {
                count(&mut self.envelopes, "[{\"channel\", \"messages\", ...}]");
                count(&mut self.names, shown(key));
                if let Some(kind) = Kind::from_name(key) {
                    self.entity(kind, value);
                }
            }
        }
    }

    fn shape(&mut self, line: json::Value<'_>) {
        let whole = line.raw();
        let keys: Vec<String> = keys_of(line);
        let tag = serde_json::from_str::<Tag>(whole).ok().and_then(|tag| tag.kind);
        let name = |keys: &[String]| match keys {
            [key] => shown(key).to_owned(),
            _ => tag.as_deref().map_or_else(String::new, |tag| shown(tag).to_owned()),
        };
        match classify(line) {
            Shape::Entity(kind, value) if value.raw().len() == whole.len() => {
                count(&mut self.envelopes, "{...}, no envelope");
                self.entity(kind, value);
            }
            Shape::Entity(kind, value) => {
                count(&mut self.envelopes, &envelope(&keys));
                count(&mut self.names, &name(&keys));
                self.entity(kind, value);
            }
            Shape::Element(element) => {
                count(&mut self.envelopes, &envelope(&keys));
                for key in &keys {
                    count(&mut self.names, shown(key));
                }
                if let Some(channel) = element.channel {
                    self.entity(Kind::Channel, channel);
                }
                for (kind, part) in &element.parts {
                    match part.elements() {
                        Some(objects) => objects.for_each(|object| self.entity(*kind, object)),
                        None => self.entity(*kind, *part),
                    }
                }
            }
            Shape::Many(values) => {
                count(&mut self.envelopes, "[...], several in one line");
                values.into_iter().for_each(|value| self.shape(value));
            }
            Shape::Unknown(_) => count(&mut self.envelopes, &format!("unknown: {}", envelope(&keys))),
        }
    }

    fn entity(&mut self, kind: Kind, object: json::Value<'_>) {
        let Ok(object) = serde_json::from_str::<Object>(object.raw()) else { return };
        self.custom_keys(kind, &object);
        if let Some(known) = self.known.get(&kind) {
            for key in &known.times {
                if let Some(form) = object.get(key).and_then(time_form) {
                    count(&mut self.times, &form);
                }
            }
        }
        match kind {
            Kind::Message => self.message(&object),
            Kind::Reaction => self.reactions.lines += 1,
            _ => {}
        }
    }

    fn custom_keys(&mut self, kind: Kind, object: &Object) {
        let Some(known) = self.known.get(&kind) else { return };
        let nested = object.get("custom").and_then(Value::as_object);
        let inlined: Vec<&String> = object
            .iter()
            .filter(|(key, value)| !value.is_null() && *key != "custom" && !known.keys.contains(*key))
            .map(|(key, _)| key)
            .collect();
        let has_both = nested.is_some_and(|nested| inlined.iter().any(|key| nested.contains_key(*key)));
        self.custom.inlined += u64::from(!inlined.is_empty());
        self.custom.nested += u64::from(nested.is_some_and(|nested| !nested.is_empty()));
        self.custom.both += u64::from(has_both);
    }

    fn message(&mut self, message: &Object) {
        let has = |key: &str| message.get(key).is_some_and(|value| !value.is_null());
        let user = match (message.get("user"), has("user_id")) {
            (Some(Value::Object(_)), _) => "objects in user",
            (Some(Value::String(_)), _) => "ids in user",
            (_, true) => "ids in user_id",
            (Some(_), false) => "null",
            (None, false) => "not at all",
        };
        count(&mut self.users, user);
        for key in ["mentioned_users", "mentioned_users_ids"] {
            if let Some(first) = message.get(key).and_then(Value::as_array).and_then(|users| users.first()) {
                count(&mut self.mentions, &format!("{} in {key}", if first.is_object() { "objects" } else { "ids" }));
            }
        }
        let address = match (has("cid"), has("channel_type") && has("channel_id"), has("channel")) {
            (true, true, _) => "cid, channel_type and channel_id at once",
            (true, false, _) => "cid",
            (false, true, _) => "channel_type and channel_id",
            (false, false, true) => "channel",
            (false, false, false) => "by what stands around it",
        };
        count(&mut self.addresses, address);
        self.count_reactions(message);
        let time = |key: &str| message.get(key).and_then(time);
        let Some(created_at) = time("created_at") else { return };
        self.select(created_at, time("updated_at"));
    }

    fn count_reactions(&mut self, message: &Object) {
        let embedded = message.get("latest_reactions").and_then(Value::as_array).map_or(0, |list| list.len() as u64);
        let counts = message.get("reaction_counts").and_then(Value::as_object);
        let counted: u64 = counts.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
        self.reactions.embedded += embedded;
        self.reactions.most_embedded = self.reactions.most_embedded.max(embedded);
        self.reactions.messages_with_more += u64::from(counted > EMBEDDED);
    }

    fn select(&mut self, created_at: Timestamp, updated_at: Option<Timestamp>) {
        let Window { since, until } = self.asked;
        // Whether a bound itself is meant is another question.
        let is_inside = |at: Timestamp| since < at && at < until;
        let is_outside = |at: Timestamp| at < since || until < at;
        let selected = &mut self.selected;
        selected.messages += 1;
        selected.at_since += u64::from(created_at == since);
        selected.at_until += u64::from(created_at == until);
        if let Some(updated_at) = updated_at.filter(|at| *at != created_at) {
            selected.by_created_at += u64::from(is_inside(created_at) && is_outside(updated_at));
            selected.by_updated_at += u64::from(is_outside(created_at) && is_inside(updated_at));
        } else {
            let (first, last) = self.ends.unwrap_or((created_at, created_at));
            self.ends = Some((first.min(created_at), last.max(created_at)));
        }
    }
}

/// What a tagged line calls its kind.
#[derive(serde::Deserialize)]
struct Tag {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Known {
    fn of(kind: Kind) -> Self {
        let Some(schema) = schema::find(kind.dataset()) else {
            return Self { keys: HashSet::new(), times: HashSet::new() };
        };
        let columns = schema.columns.iter().flat_map(|column| &column.sources);
        let others = schema.emits.iter().map(|emit| &emit.source);
        let ignored = schema.ignored.iter().map(|ignored| &ignored.source);
        let keys = columns.chain(others).chain(ignored).flat_map(Source::keys).map(str::to_owned).collect();
        let times = schema.columns.iter().filter(|column| column.kind == schema::Kind::Timestamp);
        let times = times.flat_map(|column| &column.sources).filter_map(|source| match source {
            Source::Path(path) if path.len() == 1 => Some(path[0].clone()),
            _ => None,
        });
        Self { keys, times: times.collect() }
    }
}

fn count(counts: &mut Counts, name: &str) {
    let name = if counts.len() < MAX_NAMES || counts.contains_key(name) { name } else { "others" };
    *counts.entry(name.to_owned()).or_default() += 1;
}

fn keys_of(object: json::Value<'_>) -> Vec<String> {
    let entries = object.entries().into_iter().flatten();
    entries.map(|(key, _)| key.into_owned()).take(16).collect()
}

/// `{"type", "data"}`, or `{<kind>}` for a key that is a kind's name.
fn envelope(keys: &[String]) -> String {
    if let [key] = keys
        && Kind::from_name(key).is_some()
    {
        return "{<kind>: ...}".to_owned();
    }
    let mut keys: Vec<&str> = keys.iter().map(|key| shown(key)).collect();
    keys.sort_unstable();
    format!("{{{}}}", keys.join(", "))
}

fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => Timestamp::from_nanosecond(number.as_i64()?.into()).ok(),
        _ => None,
    }
    .filter(|at| *at > Timestamp::UNIX_EPOCH)
}

/// How a time is written; none if there is none.
fn time_form(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => Some("\"\"".to_owned()),
        Value::String(text) if text.parse::<Timestamp>().is_ok() => {
            let fraction = text.split_once('.').map_or("", |(_, rest)| rest);
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            let zone = if text.ends_with('Z') { "Z" } else { "an offset" };
            Some(format!("RFC 3339 with {zone} and {digits} digits"))
        }
        Value::String(_) => Some("another text".to_owned()),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Some(format!("whole number of {} digits", whole.unsigned_abs().to_string().len())),
            None => Some("number that is not whole".to_owned()),
        },
        _ => Some("neither text nor number".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::window::parse_time;

    fn profile(lines: &[&str]) -> Profile {
        let asked = Window::new(parse_time("2026-01-01").unwrap(), parse_time("2026-01-02").unwrap()).unwrap();
        let mut profile = Profile::new(asked);
        lines.iter().for_each(|line| profile.line(None, line.as_bytes()));
        profile
    }

    fn counts(counts: &Counts) -> Vec<(&str, u64)> {
        counts.iter().map(|(name, count)| (name.as_str(), *count)).collect()
    }

    #[test]
    fn envelopes_are_told_apart_and_unknown_ones_by_their_keys() {
        let found = profile(&[
            r#"{"type":"message","data":{"id":"1","text":"","user":{}}}"#,
            r#"{"type":"channel_member","item":{"user_id":"u"}}"#,
            r#"{"user":{"id":"u"}}"#,
            r#"{"id":"m","type":"regular","cid":"a:b","text":"hi","user":{"id":"u"}}"#,
            r#"{"channel":{"cid":"a:b"},"messages":[],"members":[]}"#,
            r#"{"what":1,"is@this":2}"#,
            "{",
        ]);
        assert_eq!(
            counts(&found.envelopes),
            [
                ("not JSON", 1),
                ("unknown: {<redacted>, what}", 1),
                ("{...}, no envelope", 1),
                ("{<kind>: ...}", 1),
                ("{channel, members, messages}", 1),
                ("{data, type}", 1),
                ("{item, type}", 1),
            ]
        );
        assert_eq!(
            counts(&found.names),
            [("channel", 1), ("channel_member", 1), ("members", 1), ("message", 1), ("messages", 1), ("user", 1)]
        );
    }

    #[test]
    fn custom_data_users_and_times_are_told_by_where_and_how_they_stand() {
        let found = profile(&[
            r#"{"message":{"id":"1","cid":"a:b","user":{"id":"u"},"order":1,"created_at":"2026-01-01T01:00:00.25Z"}}"#,
            r#"{"message":{"id":"2","cid":"a:b","user":"u","custom":{"order":1},"created_at":1767229200000000000}}"#,
            r#"{"message":{"id":"3","user":null,"order":1,"custom":{"order":1},"created_at":"2026-01-01T01:00:00+00:00"}}"#,
            r#"{"message":{"id":"4","user_id":"u","channel_type":"a","channel_id":"b","custom":{},"created_at":""}}"#,
        ]);
        assert_eq!(found.custom, Custom { inlined: 2, nested: 2, both: 1 });
        assert_eq!(
            counts(&found.users),
            [("ids in user", 1), ("ids in user_id", 1), ("null", 1), ("objects in user", 1)]
        );
        assert_eq!(
            counts(&found.times),
            [
                ("\"\"", 1),
                ("RFC 3339 with Z and 2 digits", 1),
                ("RFC 3339 with an offset and 0 digits", 1),
                ("whole number of 19 digits", 1)
            ]
        );
    }

    #[test]
    fn what_came_although_one_of_its_times_lies_outside_tells_what_is_filtered() {
        let message = |created: &str, updated: &str| {
            format!(r#"{{"message":{{"id":"1","created_at":"{created}","updated_at":"{updated}"}}}}"#)
        };
        let lines = [
            message("2026-01-01T01:00:00Z", "2026-01-01T01:00:00Z"),
            message("2026-01-01T02:00:00Z", "2026-01-03T00:00:00Z"),
            message("2025-12-01T00:00:00Z", "2026-01-01T03:00:00Z"),
            message("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            message("2026-01-01T23:00:00Z", "2026-01-01T23:30:00Z"),
            message("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z"),
        ];
        let found = profile(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let expected = Selected { messages: 6, by_created_at: 1, by_updated_at: 1, at_since: 1, at_until: 1 };
        assert_eq!(found.selected, expected);
        assert_eq!(found.ends, Some((found.asked.since, found.asked.until)));
    }
}
