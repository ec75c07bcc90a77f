//! What a line is. No document says what a v2 line looks like, so every line is told by itself.
//!
//! Known shapes: `{"type","data"}`, `{"type","item"}`, `{"<kind>": {...}}`, a bare object told by its fields, and
//! `{channel, messages, members}`. A line may also be an array of any of them.

use std::borrow::Cow;

use sonic_rs::{JsonValueTrait, LazyValue};

/// The kinds of entity that exports are known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A message, whatever its type.
    Message,
    /// A reaction to a message.
    Reaction,
    /// A channel.
    Channel,
    /// A user in a channel.
    Member,
    /// A user.
    User,
    /// How far a user has read in a channel.
    Read,
    /// A poll.
    Poll,
}

impl Kind {
    /// The dataset that takes its rows, which is also how it is counted.
    pub fn dataset(self) -> &'static str {
        match self {
            Self::Message => "messages",
            Self::Reaction => "reactions",
            Self::Channel => "channels",
            Self::Member => "members",
            Self::User => "users",
            Self::Read => "reads",
            Self::Poll => "polls",
        }
    }

    /// By the names that import formats and API responses use.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "message" | "messages" => Self::Message,
            "reaction" | "reactions" => Self::Reaction,
            "channel" | "channels" => Self::Channel,
            "member" | "members" | "channel_member" | "channel_members" => Self::Member,
            "user" | "users" => Self::User,
            "read" | "reads" | "read_state" => Self::Read,
            "poll" | "polls" => Self::Poll,
            _ => return None,
        })
    }
}

/// A line, taken apart as far as its envelope.
#[derive(Debug)]
pub enum Shape<'a> {
    /// One entity.
    Entity(Kind, LazyValue<'a>),
    /// One channel with what belongs to it.
    Element(Element<'a>),
    /// Several shapes in one line.
    Many(Vec<LazyValue<'a>>),
    /// Nothing known; with the kind it says it is.
    Unknown(Option<Cow<'a, str>>),
}

/// `{channel, messages, members}`.
#[derive(Debug, Default)]
pub struct Element<'a> {
    /// The channel.
    pub channel: Option<LazyValue<'a>>,
    /// The arrays of its entities.
    pub lists: Vec<(Kind, LazyValue<'a>)>,
    /// What else stands in the element.
    pub rest: Vec<(Cow<'a, str>, LazyValue<'a>)>,
}

/// Tells what a line is.
pub fn classify(line: LazyValue<'_>) -> Shape<'_> {
    if line.as_raw_str().starts_with('[') {
        return match line.into_array_iter().map(Iterator::collect::<Result<Vec<_>, _>>) {
            Some(Ok(values)) => Shape::Many(values),
            _ => Shape::Unknown(None),
        };
    }
    let Some(entries) = line.clone().into_object_iter() else { return Shape::Unknown(None) };
    let mut signs = Signs::default();
    let mut keys: Vec<(Cow<'_, str>, LazyValue<'_>)> = Vec::with_capacity(4);
    for entry in entries {
        let Ok((key, value)) = entry else { return Shape::Unknown(None) };
        signs.see(&key, &value);
        // An envelope has few keys; a bare entity needs none of them kept.
        if keys.len() < 16 {
            keys.push((key, value));
        }
    }
    if signs.count == 1 {
        return single(keys);
    }
    if let Some(shape) = tagged(&signs, &mut keys) {
        return shape;
    }
    if signs.has(Signs::CHANNEL_OBJECT) && signs.has(Signs::LIST) && !signs.has(Signs::ID) && signs.count <= 16 {
        return element(keys);
    }
    match signs.bare() {
        Some(kind) => Shape::Entity(kind, line),
        None => Shape::Unknown(None),
    }
}

/// `{"<kind>": {...}}`
fn single<'a>(keys: Vec<(Cow<'a, str>, LazyValue<'a>)>) -> Shape<'a> {
    let Some((key, value)) = keys.into_iter().next() else { return Shape::Unknown(None) };
    match Kind::from_name(&key) {
        Some(kind) if is(&value, '{') => Shape::Entity(kind, value),
        Some(kind) if is(&value, '[') => Shape::Element(Element { lists: vec![(kind, value)], ..Element::default() }),
        _ => Shape::Unknown(Some(key)),
    }
}

/// `{"type","data"}` and `{"type","item"}`. An `id` beside them makes it a bare entity with a custom key of that name.
fn tagged<'a>(signs: &Signs, keys: &mut [(Cow<'a, str>, LazyValue<'a>)]) -> Option<Shape<'a>> {
    if signs.has(Signs::ID) || !signs.has(Signs::TYPE) || !signs.has(Signs::PAYLOAD) {
        return None;
    }
    let tag =
        keys.iter().find(|(key, _)| key == "type").map(|(_, value)| value.as_str().unwrap_or_default().to_owned())?;
    let (_, payload) = keys.iter_mut().find(|(key, value)| (key == "data" || key == "item") && is(value, '{'))?;
    Some(match Kind::from_name(&tag) {
        Some(kind) => Shape::Entity(kind, payload.clone()),
        None => Shape::Unknown(Some(Cow::Owned(tag))),
    })
}

fn element<'a>(keys: Vec<(Cow<'a, str>, LazyValue<'a>)>) -> Shape<'a> {
    let mut element = Element::default();
    for (key, value) in keys {
        match Kind::from_name(&key) {
            Some(Kind::Channel) if is(&value, '{') => element.channel = Some(value),
            Some(kind) if is(&value, '[') => element.lists.push((kind, value)),
            _ if value.as_raw_str() == "null" => {}
            _ => element.rest.push((key, value)),
        }
    }
    Shape::Element(element)
}

fn is(value: &LazyValue<'_>, first: char) -> bool {
    value.as_raw_str().starts_with(first)
}

/// Which of the telling keys an object has.
#[derive(Default)]
struct Signs {
    seen: u32,
    count: usize,
}

impl Signs {
    const ID: u32 = 1;
    const TYPE: u32 = 1 << 1;
    const PAYLOAD: u32 = 1 << 2;
    const CHANNEL_OBJECT: u32 = 1 << 3;
    const LIST: u32 = 1 << 4;
    const CHANNEL_REF: u32 = 1 << 5;
    const MESSAGE_ID: u32 = 1 << 6;
    const MESSAGE: u32 = 1 << 7;
    const MEMBER: u32 = 1 << 8;
    const USER_REF: u32 = 1 << 9;
    const CHANNEL: u32 = 1 << 10;
    const USER: u32 = 1 << 11;
    const READ: u32 = 1 << 12;
    const POLL: u32 = 1 << 13;

    fn see(&mut self, key: &str, value: &LazyValue<'_>) {
        self.count += 1;
        self.seen |= match key {
            "id" => Self::ID,
            "type" => Self::TYPE,
            "data" | "item" if is(value, '{') => Self::PAYLOAD,
            "channel" if is(value, '{') => Self::CHANNEL_OBJECT,
            "messages" | "members" if is(value, '[') => Self::LIST,
            "cid" | "channel_id" => Self::CHANNEL_REF,
            "message_id" => Self::MESSAGE_ID,
            "text" | "html" | "attachments" | "reply_count" | "latest_reactions" | "parent_id" => Self::MESSAGE,
            "channel_role" | "notifications_muted" | "invite_accepted_at" => Self::MEMBER,
            "user" | "user_id" => Self::USER_REF,
            "config" | "member_count" | "created_by" | "created_by_id" | "frozen" | "last_message_at" => Self::CHANNEL,
            "role" | "online" | "last_active" | "teams" | "language" => Self::USER,
            "last_read" => Self::READ,
            "voting_visibility" | "vote_counts_by_option" | "enforce_unique_vote" => Self::POLL,
            _ => 0,
        };
    }

    fn has(&self, sign: u32) -> bool {
        self.seen & sign != 0
    }

    fn bare(&self) -> Option<Kind> {
        if self.has(Self::MESSAGE_ID) && self.has(Self::TYPE) && !self.has(Self::ID) {
            Some(Kind::Reaction)
        } else if self.has(Self::POLL) {
            Some(Kind::Poll)
        } else if self.has(Self::READ) && self.has(Self::USER_REF) {
            Some(Kind::Read)
        } else if self.has(Self::MESSAGE)
            && self.has(Self::ID)
            && (self.has(Self::CHANNEL_REF) || self.has(Self::USER_REF))
        {
            Some(Kind::Message)
        } else if self.has(Self::MEMBER) && self.has(Self::USER_REF) {
            Some(Kind::Member)
        } else if self.has(Self::CHANNEL) && (self.has(Self::CHANNEL_REF) || self.has(Self::ID) && self.has(Self::TYPE))
        {
            Some(Kind::Channel)
        } else if self.has(Self::USER) && self.has(Self::ID) && !self.has(Self::CHANNEL_REF) {
            Some(Kind::User)
        } else {
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shape(line: &str) -> String {
        match classify(sonic_rs::from_str(line).unwrap()) {
            Shape::Entity(kind, value) => format!("{kind:?} {}", value.as_raw_str()),
            Shape::Element(element) => format!(
                "element channel={} {:?} rest={:?}",
                element.channel.is_some(),
                element.lists.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
                element.rest.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>(),
            ),
            Shape::Many(values) => format!("many {}", values.len()),
            Shape::Unknown(kind) => format!("unknown {kind:?}"),
        }
    }

    #[test]
    fn every_envelope_is_recognised() {
        for (line, wanted) in [
            (r#"{"type":"message","data":{"id":"1"}}"#, r#"Message {"id":"1"}"#),
            (r#"{"type":"channel_member","item":{"user_id":"u"}}"#, r#"Member {"user_id":"u"}"#),
            (r#"{"item":{"a":1},"type":"reaction"}"#, r#"Reaction {"a":1}"#),
            (r#"{"type":"device","data":{"id":"1"}}"#, r#"unknown Some("device")"#),
            (r#"{"user":{"id":"u"}}"#, r#"User {"id":"u"}"#),
            (r#"{"messages":[{"id":"u"}]}"#, "element channel=false [Message] rest=[]"),
            (r#"{"call":{"id":"u"}}"#, r#"unknown Some("call")"#),
            (
                r#"{"channel":{"cid":"a:b"},"messages":[],"members":[],"read":[],"hidden":true,"draft":null}"#,
                r#"element channel=true [Message, Member, Read] rest=["hidden"]"#,
            ),
            (r#"[{"user":{"id":"u"}},1]"#, "many 2"),
            ("1", "unknown None"),
            (r"{}", "unknown None"),
            (r#"{"data":{},"foo":{}}"#, "unknown None"),
        ] {
            assert_eq!(shape(line), wanted, "{line}");
        }
    }

    #[test]
    fn bare_entities_are_told_by_their_fields() {
        for (line, wanted) in [
            (r#"{"id":"m","type":"regular","cid":"a:b","text":"hi","user":{"id":"u"}}"#, "Message"),
            (
                r#"{"id":"m","type":"regular","channel_type":"a","channel_id":"b","user":"u","text":"","data":{}}"#,
                "Message",
            ),
            (r#"{"message_id":"m","type":"like","user_id":"u"}"#, "Reaction"),
            (r#"{"id":"b","type":"a","cid":"a:b","created_by":{"id":"u"},"member_count":2}"#, "Channel"),
            (r#"{"user_id":"u","channel_role":"channel_member","cid":"a:b"}"#, "Member"),
            (r#"{"id":"u","role":"user","name":"Ada"}"#, "User"),
            (r#"{"user":{"id":"u"},"last_read":"2026-01-01T00:00:00Z","unread_messages":0}"#, "Read"),
            (r#"{"id":"p","name":"Lunch?","voting_visibility":"public","options":[]}"#, "Poll"),
        ] {
            assert_eq!(shape(line).split(' ').next(), Some(wanted), "{line}");
        }
    }
}
