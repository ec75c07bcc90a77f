//! What a line is. No document says what a v2 line looks like, so every line is told by itself.
//!
//! Known shapes: `{"type","data"}`, `{"type","item"}`, `{"<kind>": {...}}`, a bare object told by its fields, and
//! `{channel, messages, members}`. A line may also be an array of any of them, or have one of them under `data` alone. What
//! stands beside what is recognised is never dropped: it comes out as the rest.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::json::{Known, Value};
use crate::names::Names;

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
    pub(crate) fn from_name(name: &str) -> Option<Self> {
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
    Entity(Kind, Value<'a>),
    /// Entities that belong together, and what stands beside them.
    Element(Element<'a>),
    /// Several shapes in one line.
    Many(Vec<Value<'a>>),
    /// Nothing known; with the kind it says it is.
    Unknown(Option<Cow<'a, str>>),
}

/// `{channel, messages, members}`, or an entity in an envelope that says more than its kind.
#[derive(Debug, Default)]
pub struct Element<'a> {
    /// The channel.
    pub channel: Option<Value<'a>>,
    /// Its entities: arrays of them, or single ones.
    pub parts: Vec<(Kind, Value<'a>)>,
    /// What else stands in the element.
    pub rest: Vec<(Cow<'a, str>, Value<'a>)>,
}

type Entries<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// Envelopes in envelopes that are opened. Each is a look at all that is in it, so their number must not be a file's to choose.
pub const MAX_ENVELOPES: u8 = 4;

/// Tells what a line is.
pub fn classify(line: Value<'_>) -> Shape<'_> {
    let mut line = line;
    for _ in 0..=MAX_ENVELOPES {
        if line.is_array() {
            return line.elements().map_or(Shape::Unknown(None), |values| Shape::Many(values.collect()));
        }
        let Some(pairs) = line.pairs() else { return Shape::Unknown(None) };
        let mut signs = Signs::default();
        let mut last = None;
        for (key, value) in pairs {
            signs.see(key, value);
            last = Some((key, value));
        }
        if signs.count != 1 {
            return told(line, &signs);
        }
        match last {
            // An envelope without a kind: what is in it says more.
            Some((key, value)) if is_payload(&key.key_text()) && value.is_container() => line = value,
            Some((key, value)) => return single(key.key_text(), value),
            None => return Shape::Unknown(None),
        }
    }
    Shape::Unknown(None)
}

/// `{"<kind>": {...}}`
fn single<'a>(key: Cow<'a, str>, value: Value<'a>) -> Shape<'a> {
    match Kind::from_name(&key) {
        Some(kind) if value.is_object() => Shape::Entity(kind, value),
        Some(kind) if value.is_array() => Shape::Element(Element { parts: vec![(kind, value)], ..Element::default() }),
        _ => Shape::Unknown(Some(key)),
    }
}

/// An object of several keys, or of none.
fn told<'a>(line: Value<'a>, signs: &Signs) -> Shape<'a> {
    let bare = signs.bare();
    let entries = || line.entries().into_iter().flatten().collect::<Entries<'_>>();
    // With an id or an address of its own it is an entity that has a custom key of that name.
    let may_be_tagged = signs.has(Signs::TYPE) && !(bare.is_some() && signs.has(Signs::ID | Signs::CHANNEL_REF));
    if may_be_tagged && let Some(shape) = tagged(signs, bare, entries()) {
        return shape;
    }
    let has_lists = signs.has(Signs::CHANNEL_OBJECT) && signs.has(Signs::LIST);
    if !signs.has(Signs::ID) && (has_lists || (signs.has(Signs::MESSAGES) && bare.is_none())) {
        return element(entries());
    }
    match bare {
        Some(kind) => Shape::Entity(kind, line),
        None => Shape::Unknown(signs.stranger().map(Cow::Borrowed)),
    }
}

/// `{"type","data"}` and `{"type","item"}`, or with the kind once more as the key; none if it is neither.
fn tagged<'a>(signs: &Signs, bare: Option<Kind>, mut keys: Entries<'a>) -> Option<Shape<'a>> {
    let tag_at = keys.iter().rposition(|(key, value)| key == "type" && value.is_text())?;
    let tag = keys[tag_at].1.text()?;
    let unknown = || (bare.is_none() && signs.has(Signs::PAYLOAD)).then(|| Shape::Unknown(Some(tag.clone())));
    let Some(kind) = Kind::from_name(&tag) else { return unknown() };
    let named = |name: &str| keys.iter().rposition(|(key, value)| key == name && value.is_container());
    let payload_at = named("data")
        .or_else(|| named("item"))
        .or_else(|| keys.iter().rposition(|(key, value)| Kind::from_name(key) == Some(kind) && value.is_container()));
    let Some(payload_at) = payload_at else { return unknown() };
    let payload = keys[payload_at].1;
    let mut place = 0;
    keys.retain(|(_, value)| {
        place += 1;
        place - 1 != tag_at && place - 1 != payload_at && !value.is_null()
    });
    Some(if keys.is_empty() && payload.is_object() {
        Shape::Entity(kind, payload)
    } else {
        Shape::Element(Element { channel: None, parts: vec![(kind, payload)], rest: keys })
    })
}

fn element<'a>(keys: Entries<'a>) -> Shape<'a> {
    let mut element = Element::default();
    for (key, value) in keys {
        match Kind::from_name(&key) {
            Some(Kind::Channel) if value.is_object() && element.channel.is_none() => element.channel = Some(value),
            Some(kind) if value.is_container() => element.parts.push((kind, value)),
            _ if value.is_null() => {}
            _ => element.rest.push((key, value)),
        }
    }
    Shape::Element(element)
}

fn is_payload(key: &str) -> bool {
    matches!(key, "data" | "item")
}

/// The keys that tell what an object is, and the sign that each is.
const TELLING: [(&str, u32); 49] = [
    ("id", Signs::ID),
    ("type", Signs::TYPE),
    ("data", Signs::PAYLOAD),
    ("item", Signs::PAYLOAD),
    ("channel", Signs::CHANNEL_OBJECT),
    ("messages", Signs::LIST),
    ("members", Signs::LIST),
    ("reads", Signs::LIST),
    ("read", Signs::LIST),
    ("reactions", Signs::LIST),
    ("users", Signs::LIST),
    ("polls", Signs::LIST),
    ("cid", Signs::CHANNEL_REF),
    ("channel_id", Signs::CHANNEL_REF),
    ("message_id", Signs::MESSAGE_ID),
    ("text", Signs::MESSAGE),
    ("html", Signs::MESSAGE),
    ("attachments", Signs::MESSAGE),
    ("reply_count", Signs::MESSAGE),
    ("latest_reactions", Signs::MESSAGE),
    ("parent_id", Signs::MESSAGE),
    ("channel_role", Signs::MEMBER),
    ("notifications_muted", Signs::MEMBER),
    ("invite_accepted_at", Signs::MEMBER),
    ("is_moderator", Signs::MEMBER),
    ("user", Signs::USER_REF),
    ("user_id", Signs::USER_REF),
    ("config", Signs::CHANNEL),
    ("member_count", Signs::CHANNEL),
    ("created_by", Signs::CHANNEL),
    ("created_by_id", Signs::CHANNEL),
    ("frozen", Signs::CHANNEL),
    ("last_message_at", Signs::CHANNEL),
    ("role", Signs::USER),
    ("online", Signs::USER),
    ("last_active", Signs::USER),
    ("teams", Signs::USER),
    ("language", Signs::USER),
    ("banned", Signs::USER),
    ("last_engaged_at", Signs::USER),
    ("last_read", Signs::READ),
    ("voting_visibility", Signs::POLL),
    ("vote_counts_by_option", Signs::POLL),
    ("enforce_unique_vote", Signs::POLL),
    ("backstage", Signs::CALL),
    ("ingress", Signs::CALL),
    ("egress", Signs::CALL),
    ("current_session_id", Signs::CALL),
    ("push_provider", Signs::DEVICE),
];

/// The keys of [`TELLING`]. The names of an index that knows any begin with them.
pub(super) fn telling() -> impl Iterator<Item = &'static str> {
    TELLING.iter().map(|(key, _)| *key)
}

static TELLING_NAMES: LazyLock<Names> = LazyLock::new(|| Names::new(telling()));

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
    const MESSAGES: u32 = 1 << 14;
    const CALL: u32 = 1 << 15;
    const DEVICE: u32 = 1 << 16;

    fn see(&mut self, key: Value<'_>, value: Value<'_>) {
        self.count += 1;
        let number = match key.known() {
            Known::Name(number) => Some(number),
            Known::Stranger => None,
            Known::Unseen => TELLING_NAMES.find(key.key_text().as_bytes()),
        };
        let Some((key, sign)) = number.and_then(|number| TELLING.get(usize::from(number))) else { return };
        self.seen |= match *sign {
            Self::CHANNEL_OBJECT if !value.is_object() => 0,
            Self::LIST if !(value.is_array() || value.is_null()) => 0,
            Self::LIST if *key == "messages" && value.is_array() => Self::LIST | Self::MESSAGES,
            sign => sign,
        };
    }

    /// Whether any of these was seen.
    fn has(&self, signs: u32) -> bool {
        self.seen & signs != 0
    }

    fn bare(&self) -> Option<Kind> {
        let is_message = self.has(Self::MESSAGE) && self.has(Self::ID);
        if self.has(Self::MESSAGE_ID) && self.has(Self::TYPE) && !is_message {
            Some(Kind::Reaction)
        // A channel may have a custom key that messages have too, but nobody who wrote it.
        } else if is_message && (self.has(Self::USER_REF) || (self.has(Self::CHANNEL_REF) && !self.has(Self::CHANNEL)))
        {
            Some(Kind::Message)
        } else if self.has(Self::POLL) {
            Some(Kind::Poll)
        } else if self.has(Self::READ) && self.has(Self::USER_REF) {
            Some(Kind::Read)
        } else if self.has(Self::MEMBER) && self.has(Self::USER_REF) {
            Some(Kind::Member)
        } else if self.stranger().is_some() {
            None
        } else if self.has(Self::CHANNEL) && (self.has(Self::CHANNEL_REF) || self.has(Self::ID) && self.has(Self::TYPE))
        {
            Some(Kind::Channel)
        } else if self.has(Self::USER) && self.has(Self::ID) && !self.has(Self::CHANNEL_REF) {
            Some(Kind::User)
        } else {
            None
        }
    }

    /// A kind that no dataset takes and that looks like one that is taken.
    fn stranger(&self) -> Option<&'static str> {
        if self.has(Self::CALL) {
            Some("call")
        } else if self.has(Self::DEVICE) {
            Some("device")
        } else {
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::json::Index;

    fn shape(line: &str) -> String {
        match classify(Index::default().parse(line).unwrap()) {
            Shape::Entity(kind, value) => format!("{kind:?} {}", value.raw()),
            Shape::Element(element) => format!(
                "element channel={} {:?} rest={:?}",
                element.channel.is_some(),
                element.parts.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
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
            (r#"{"type":"message","message":{"id":"1"}}"#, r#"Message {"id":"1"}"#),
            (r#"{"data":{"item":{"reaction":{"a":1}}}}"#, r#"Reaction {"a":1}"#),
            (r#"{"data":[1,2]}"#, "many 2"),
            (r#"{"type":"message","data":[{"id":"1"}]}"#, "element channel=false [Message] rest=[]"),
            (r#"{"user":{"id":"u"},"messages":[{}],"x":1}"#, r#"element channel=false [User, Message] rest=["x"]"#),
            (r#"{"channel":{"cid":"a:b"},"members":null}"#, "element channel=true [] rest=[]"),
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
            (r#"{"message_id":"m","type":"like","user_id":"u","data":{"x":1}}"#, "Reaction"),
            (r#"{"id":"r","message_id":"m","type":"like","user_id":"u"}"#, "Reaction"),
            (r#"{"id":"m","type":"regular","message_id":"x","text":"hi","user":null,"cid":"a:b"}"#, "Message"),
            (
                r#"{"id":"m","type":"regular","text":"hi","user_id":"u","cid":"a:b","last_read":1,"frozen":1}"#,
                "Message",
            ),
            (r#"{"id":"b","type":"message","cid":"message:b","created_by":null,"data":{"x":1},"text":"x"}"#, "Channel"),
            (r#"{"user_id":"u","is_moderator":true,"channel_type":"a","channel_id":"b"}"#, "Member"),
            (r#"{"id":"u","name":"Ada","banned":false}"#, "User"),
        ] {
            assert_eq!(shape(line).split(' ').next(), Some(wanted), "{line}");
        }
    }

    #[test]
    fn what_stands_beside_is_the_rest() {
        let many: String = (0..20).map(|number| format!(r#","k{number}":{number}"#)).collect();
        for (line, wanted) in [
            (r#"{"type":"message","data":{"a":1},"v":2,"w":null}"#.to_owned(), r#"[Message] rest=["v"]"#.to_owned()),
            (r#"{"id":"e1","type":"message","data":{"a":1}}"#.into(), r#"[Message] rest=["id"]"#.into()),
            (r#"{"type":"user","data":{"a":1},"item":{"b":1}}"#.into(), r#"[User] rest=["item"]"#.into()),
            (r#"{"type":"user","data":{"a":1},"data":{"b":1}}"#.into(), r#"[User] rest=["data"]"#.into()),
            (r#"{"channel":{},"channel":{"x":1},"messages":[]}"#.into(), "[Channel, Message] rest=[]".into()),
            (
                format!(r#"{{{}"type":"message","data":{{}}}}"#, many.trim_start_matches(',').to_owned() + ","),
                format!("[Message] rest={:?}", (0..20).map(|number| format!("k{number}")).collect::<Vec<_>>()),
            ),
        ] {
            let found = shape(&line);
            assert!(found.starts_with("element channel=") && found.ends_with(&wanted), "{line}: {found}");
        }
    }

    #[test]
    fn kinds_without_a_dataset_say_what_they_are() {
        for (line, kind) in [
            (r#"{"type":"device","data":{"id":"1"}}"#, "device"),
            (r#"{"type":"future_channel_ban","item":{"target_id":"u"},"x":1}"#, "future_channel_ban"),
            (r#"{"type":"call","data":null}"#, "call"),
            (r#"{"type":"message","data":"m1"}"#, "message"),
            (r#"{"message":null}"#, "message"),
            (r#"{"call":[]}"#, "call"),
            (r#"{"id":"c","type":"default","cid":"default:c","created_by":{"id":"u"},"backstage":false}"#, "call"),
            (r#"{"id":"token","push_provider":"apn","user_id":"u","created_at":"x"}"#, "device"),
        ] {
            assert_eq!(shape(line), format!("unknown Some({kind:?})"), "{line}");
        }
    }
}
