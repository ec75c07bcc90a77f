//! The same entities in every form that a file may have make the same rows.
//!
//! Where they differ, there is a reason:
//! - An id tells less than an object: `users` has only those that come as objects.
//! - Columns that keep an object whole ([`KEPT_WHOLE`]) keep its spelling, and so the spelling of the times in it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::tests::{Decoded, decode, shown};
use crate::decode::HIDDEN_COLUMNS;
use crate::window::parse_time;

/// JSON columns whose text is as it came.
const KEPT_WHOLE: [&str; 3] = ["reaction_groups", "quoted_message", "config"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Envelope {
    TypeData,
    TypeItem,
    SingleKey,
    Bare,
    /// The first four in turn.
    Mixed,
    /// `{"data": {"<kind>": {...}}}`
    Nested,
    /// A channel with all that is in it as one line.
    Element,
    /// The same as the payload of a channel.
    TaggedElement,
    /// The whole of a v1 file.
    V1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Users {
    Object,
    Id,
    /// `"user": null` beside `user_id`.
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Custom {
    Inlined,
    Nested,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    /// RFC 3339 with this many digits of a second.
    Digits(usize),
    /// RFC 3339 somewhere east of Greenwich.
    Offset,
    /// An integer.
    Nanoseconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    Cid,
    TypeId,
}

#[derive(Clone, Copy, Debug)]
struct Form {
    envelope: Envelope,
    users: Users,
    custom: Custom,
    times: Times,
    address: Address,
}

const REFERENCE: Form = Form {
    envelope: Envelope::TypeData,
    users: Users::Object,
    custom: Custom::Inlined,
    times: Times::Digits(6),
    address: Address::Cid,
};

impl Form {
    fn time(&self, at: &str) -> Value {
        let at = parse_time(at).unwrap();
        match self.times {
            Times::Digits(digits) => format!("{at:.digits$}").into(),
            Times::Offset => {
                let east = at.saturating_add(jiff::SignedDuration::from_hours(5)).unwrap();
                format!("{east:.0}").replace('Z', "+05:00").into()
            }
            Times::Nanoseconds => i64::try_from(at.as_nanosecond()).unwrap().into(),
        }
    }

    /// An object with the app's own keys where this form has them.
    fn object(&self, fields: Value, custom: Value) -> Map<String, Value> {
        let (Value::Object(mut fields), Value::Object(custom)) = (fields, custom) else { panic!("objects") };
        if self.custom != Custom::Nested {
            fields.extend(custom.clone());
        }
        if self.custom != Custom::Inlined {
            fields.insert("custom".to_owned(), custom.into());
        }
        fields
    }

    fn user(&self, id: &str) -> Value {
        let fields = json!({
            "id": id, "role": "user", "name": format!("Name of {id}"), "teams": ["red"], "banned": false,
            "created_at": self.time("2025-01-01"), "updated_at": self.time("2025-06-01T01:02:03Z"),
            "last_active": self.time("2026-01-01T08:00:00Z"),
        });
        self.object(fields, json!({ "city": "Zürich", "score": 1.5 })).into()
    }

    fn refer(&self, object: &mut Map<String, Value>, key: &str, id_key: &str, id: &str) {
        match self.users {
            Users::Object => object.insert(key.to_owned(), self.user(id)),
            Users::Id => object.insert(key.to_owned(), id.into()),
            Users::Null => {
                object.insert(id_key.to_owned(), id.into());
                object.insert(key.to_owned(), Value::Null)
            }
        };
    }

    fn all(&self, ids: &[&str]) -> Value {
        match self.users {
            Users::Object => ids.iter().map(|id| self.user(id)).collect(),
            Users::Id | Users::Null => ids.iter().copied().collect(),
        }
    }

    fn address(&self, object: &mut Map<String, Value>) {
        match self.address {
            Address::Cid => object.insert("cid".to_owned(), "messaging:a".into()),
            Address::TypeId => {
                object.insert("channel_type".to_owned(), "messaging".into());
                object.insert("channel_id".to_owned(), "a".into())
            }
        };
    }

    fn channel(&self) -> Value {
        let fields = json!({
            "id": "a", "type": "messaging", "name": "General", "member_count": 2, "frozen": false,
            "created_at": self.time("2025-02-01"), "last_message_at": self.time("2026-01-02T10:00:00Z"),
            "config": { "name": "messaging", "created_at": self.time("2024-01-01") },
        });
        let mut channel = self.object(fields, json!({ "topic": "all", "tags": ["x", { "y": null }] }));
        self.refer(&mut channel, "created_by", "created_by_id", "ada");
        if self.address == Address::Cid {
            channel.insert("cid".to_owned(), "messaging:a".into());
        }
        channel.into()
    }

    fn member(&self, id: &str) -> Value {
        let fields = json!({
            "channel_role": "channel_member", "role": "member", "status": "member", "notifications_muted": true,
            "created_at": self.time("2025-02-02"), "updated_at": self.time("2025-02-03"), "archived_at": null,
            "pinned_at": self.time("2025-02-04"),
        });
        let mut member = self.object(fields, json!({ "nick": "a" }));
        self.refer(&mut member, "user", "user_id", id);
        self.address(&mut member);
        member.into()
    }

    fn reaction(&self, kind: &str, id: &str) -> Value {
        let fields = json!({
            "message_id": "m-all", "type": kind, "score": 2,
            "created_at": self.time("2026-01-03T00:00:00Z"), "updated_at": self.time("2026-01-03T00:00:00Z"),
        });
        let mut reaction = self.object(fields, json!({ "via": "phone" }));
        self.refer(&mut reaction, "user", "user_id", id);
        reaction.into()
    }

    /// A message with everything. `reactions` are embedded.
    fn message(&self, reactions: &[&str]) -> Value {
        let attachment = json!({
            "type": "file", "title": "plan.pdf", "asset_url": "https://cdn/plan.pdf", "file_size": 1234,
            "mime_type": "application/pdf", "fields": [{ "title": "a", "value": "b", "short": true }],
        });
        let fields = json!({
            "id": "m-all", "type": "regular", "text": "hello\n\"Welt\" 👋", "html": "<p>hello</p>", "silent": false,
            "created_at": self.time("2026-01-01T10:00:00Z"), "updated_at": self.time("2026-01-01T11:00:00Z"),
            "message_text_updated_at": self.time("2026-01-01T10:30:00Z"), "parent_id": "",
            "attachments": [self.object(attachment, json!({ "pages": 3, "blur": { "hash": "x" } }))],
            "latest_reactions": reactions.iter().map(|kind| self.reaction(kind, "grace")).collect::<Vec<_>>(),
            "own_reactions": [], "reaction_counts": { "like": 1, "love": 1 }, "reaction_scores": { "like": 2, "love": 2 },
            "reaction_groups": { "like": { "count": 1, "first_reaction_at": self.time("2026-01-03T00:00:00Z") } },
            "reply_count": 1, "deleted_reply_count": 0, "thread_participants": self.all(&["grace"]),
            "pinned": true, "pinned_at": self.time("2026-01-01T12:00:00Z"), "pin_expires": null,
            "i18n": { "language": "en", "de_text": "hallo" }, "restricted_visibility": ["ada"],
            "moderation": { "action": "flag", "original_text": "helo", "image_harms": ["x"] },
            "shadowed": false, "mentioned_here": true,
        });
        let mut message =
            self.object(fields, json!({ "order": { "id": 7, "lines": [1, 2] }, "flag": true, "none": null }));
        self.refer(&mut message, "user", "user_id", "ada");
        self.address(&mut message);
        match self.users {
            Users::Object => {
                message.insert("pinned_by".to_owned(), self.user("lin"));
                message.insert("mentioned_users".to_owned(), self.all(&["grace", "lin"]));
            }
            Users::Id | Users::Null => {
                message.insert("pinned_by_id".to_owned(), "lin".into());
                message.insert("mentioned_users_ids".to_owned(), self.all(&["grace", "lin"]));
            }
        }
        message.into()
    }

    fn reply(&self) -> Value {
        let fields = json!({
            "id": "m-reply", "type": "reply", "text": "yes", "parent_id": "m-all", "show_in_channel": true,
            "created_at": self.time("2026-01-02T10:00:00Z"), "updated_at": self.time("2026-01-02T10:00:00Z"),
            "quoted_message_id": "m-all", "reaction_groups": null, "pinned_at": null, "pinned_by": null,
        });
        let mut reply = self.object(fields, json!({}));
        self.refer(&mut reply, "user", "user_id", "grace");
        self.address(&mut reply);
        reply.into()
    }

    /// Deleted, and its author is gone.
    fn deleted(&self) -> Value {
        let fields = json!({
            "id": "m-deleted", "type": "deleted", "text": "secret", "user": null, "attachments": [],
            "created_at": self.time("2026-01-01T09:00:00Z"), "updated_at": self.time("2026-01-02T09:00:00Z"),
            "deleted_at": self.time("2026-01-02T09:00:00Z"), "custom": {},
        });
        let mut deleted = fields.as_object().cloned().unwrap();
        self.address(&mut deleted);
        deleted.into()
    }

    /// The file, line by line.
    fn lines(&self) -> Vec<String> {
        let members = [self.member("ada"), self.member("grace")];
        if matches!(self.envelope, Envelope::Element | Envelope::TaggedElement | Envelope::V1) {
            let messages = [self.message(&["like", "love"]), self.reply(), self.deleted()];
            let element = json!({ "channel": self.channel(), "messages": messages, "members": members });
            return vec![
                match self.envelope {
                    Envelope::V1 => json!([element]),
                    Envelope::TaggedElement => json!({ "type": "channel", "data": element }),
                    _ => element,
                }
                .to_string(),
            ];
        }
        let [ada, grace] = members;
        let entities = [
            ("reaction", self.reaction("love", "grace")),
            ("channel", self.channel()),
            ("channel_member", ada),
            ("member", grace),
            ("message", self.message(&["like"])),
            ("messages", self.reply()),
            ("message", self.deleted()),
        ];
        let lines = entities.into_iter().enumerate().map(|(number, (kind, entity))| {
            let envelope = match self.envelope {
                Envelope::Mixed => {
                    [Envelope::TypeData, Envelope::TypeItem, Envelope::SingleKey, Envelope::Bare][number % 4]
                }
                envelope => envelope,
            };
            match envelope {
                Envelope::TypeData => json!({ "type": kind, "data": entity }),
                Envelope::TypeItem => json!({ "type": kind, "item": entity }),
                Envelope::SingleKey => json!({ kind: entity }),
                Envelope::Nested => json!({ "data": { kind: entity } }),
                _ => entity,
            }
            .to_string()
        });
        lines.collect()
    }
}

type Rows = BTreeMap<&'static str, BTreeSet<BTreeMap<String, String>>>;

/// Every row of every dataset, columns as text.
fn rows(decoded: &Decoded) -> Rows {
    let mut rows = Rows::new();
    for (dataset, batches) in &decoded.batches {
        for batch in batches {
            for row in 0..batch.num_rows() {
                let schema = batch.schema();
                let columns = schema.fields().iter().zip(batch.columns());
                let is_said = |name: &str| name != "raw" && !HIDDEN_COLUMNS.contains(&name);
                let columns = columns.filter(|(field, _)| is_said(field.name()));
                let values = columns.map(|(field, column)| (field.name().clone(), shown(column, row)));
                rows.entry(dataset).or_default().insert(values.collect());
            }
        }
    }
    rows
}

/// The reference as another form would have it.
fn expected(reference: &Rows, form: &Form) -> Rows {
    let mut expected = reference.clone();
    if form.users != Users::Object {
        expected.remove("users");
    }
    expected
}

fn without_kept_whole(rows: Rows) -> Rows {
    let strip = |mut row: BTreeMap<String, String>| {
        row.retain(|column, _| !KEPT_WHOLE.contains(&column.as_str()));
        row
    };
    rows.into_iter().map(|(dataset, rows)| (dataset, rows.into_iter().map(strip).collect())).collect()
}

#[test]
fn every_form_makes_the_same_rows() {
    use Envelope::{Bare, Element, Mixed, Nested, SingleKey, TaggedElement, TypeData, TypeItem, V1};
    let of = |form: &Form| {
        let lines = form.lines();
        decode(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let reference = rows(&of(&REFERENCE));
    let count = |dataset: &str| reference.get(dataset).map_or(0, BTreeSet::len);
    let counts = ["messages", "reactions", "channels", "members", "users", "quarantine"].map(count);
    assert_eq!(counts, [3, 2, 1, 2, 3, 0]);
    let mut forms = 0;
    for envelope in [TypeData, TypeItem, SingleKey, Bare, Mixed, Nested, Element, TaggedElement, V1] {
        for users in [Users::Object, Users::Id, Users::Null] {
            for custom in [Custom::Inlined, Custom::Nested, Custom::Both] {
                for times in [
                    Times::Digits(0),
                    Times::Digits(3),
                    Times::Digits(6),
                    Times::Digits(9),
                    Times::Offset,
                    Times::Nanoseconds,
                ] {
                    for address in [Address::Cid, Address::TypeId] {
                        let form = Form { envelope, users, custom, times, address };
                        let decoded = of(&form);
                        let (mut found, mut expected) = (rows(&decoded), expected(&reference, &form));
                        if times != REFERENCE.times {
                            (found, expected) = (without_kept_whole(found), without_kept_whole(expected));
                        }
                        for dataset in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
                            assert_eq!(found.get(dataset), expected.get(dataset), "{form:?}: {dataset}");
                        }
                        let tally = decoded.tally;
                        let lines: Vec<_> = tally.lines.into_iter().filter(|(kind, _)| *kind != "reactions").collect();
                        assert_eq!(lines, [("channels", 1), ("members", 2), ("messages", 3)], "{form:?}");
                        assert_eq!((tally.rejected, tally.rescued, tally.duplicate_keys), (0, 0, 0), "{form:?}");
                        forms += 1;
                    }
                }
            }
        }
    }
    assert_eq!(forms, 972);
}
