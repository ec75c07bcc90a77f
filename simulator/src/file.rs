//! The content of an export file: a pure function of a snapshot of the world, the request and the switches.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::entity::{Channel, Message, User};
use crate::object::json;
use crate::payload::{Payload, Style, Threads};
use crate::switches::{
    Address, Bound, ChannelLines, Compression, CustomPlace, Envelope, FilterBy, KindNames, ReactionForm, Switches,
    UserForm, UserLines,
};

/// A line that does not belong into an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BadLine {
    /// This text as a line of its own.
    Text {
        /// The line, without its end.
        text: String,
    },
    /// A line that is no UTF-8.
    NotUtf8,
    /// Well-formed JSON of this length.
    Overlong {
        /// Length of the line.
        bytes: usize,
    },
    /// JSON nested this deep.
    Deep {
        /// Number of open brackets.
        depth: usize,
    },
    /// Not a line: the file loses its last bytes.
    TruncatedTail {
        /// How many.
        bytes: usize,
    },
}

/// Where a bad line goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Insertion {
    /// Zero-based number of the line before which it stands; the end if there are fewer.
    #[serde(default)]
    pub at_line: usize,
    /// What is inserted.
    #[serde(flatten)]
    pub line: BadLine,
}

/// One channel of an export request, as it was when the request was made.
#[derive(Clone, Debug)]
pub(crate) struct ChannelExport {
    pub(crate) channel: Arc<Channel>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

/// All that decides the content of a file.
#[derive(Clone, Debug)]
pub(crate) struct ExportJob {
    pub(crate) users: Arc<BTreeMap<String, User>>,
    pub(crate) channels: Vec<ChannelExport>,
    /// Line-separated; otherwise one JSON array.
    pub(crate) v2: bool,
    pub(crate) export_users: bool,
    pub(crate) include_truncated_messages: bool,
    pub(crate) clear_deleted_message_text: bool,
    pub(crate) switches: Switches,
    pub(crate) insertions: Vec<Insertion>,
}

impl ExportJob {
    /// Whether both make the same file of the same snapshot: what a job holds of the world is not changed but replaced.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let Self {
            users,
            channels,
            v2,
            export_users,
            include_truncated_messages,
            clear_deleted_message_text,
            switches,
            insertions,
        } = self;
        let flags = (*v2, *export_users, *include_truncated_messages, *clear_deleted_message_text);
        let flags_of_other =
            (other.v2, other.export_users, other.include_truncated_messages, other.clear_deleted_message_text);
        let is_same_channel = |(a, b): (&ChannelExport, &ChannelExport)| {
            Arc::ptr_eq(&a.channel, &b.channel) && (a.since, a.until) == (b.since, b.until)
        };
        Arc::ptr_eq(users, &other.users)
            && channels.len() == other.channels.len()
            && channels.iter().zip(&other.channels).all(is_same_channel)
            && flags == flags_of_other
            && (switches, insertions) == (&other.switches, &other.insertions)
    }

    /// The file as it is downloaded.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut file = if self.v2 { self.write_v2() } else { self.write_v1() };
        insert_all(&mut file, &self.insertions);
        packed(file, self.switches.compression)
    }

    fn style(&self) -> Style {
        let switches = &self.switches;
        let known = Style {
            timestamps: switches.timestamps,
            custom: CustomPlace::Inlined,
            users: UserForm::Object,
            address: Address::Cid,
            complete: false,
            clear_deleted_text: self.clear_deleted_message_text,
            deleted_type: switches.deleted_type,
        };
        if self.v2 {
            Style { custom: switches.custom, users: switches.users, address: switches.address, ..known }
        } else {
            // The shape of v1 is known: inlined, embedded, addressed by cid.
            known
        }
    }

    fn messages<'a>(&'a self, export: &'a ChannelExport) -> impl Iterator<Item = &'a Message> {
        export.channel.messages.iter().filter(move |message| {
            let at = match self.switches.filter_by {
                FilterBy::CreatedAt => message.created_at,
                FilterBy::UpdatedAt => message.updated_at,
            };
            let after = export.since.is_none_or(|since| match self.switches.since_bound {
                Bound::Closed => since <= at,
                Bound::Open => since < at,
            });
            let before = export.until.is_none_or(|until| match self.switches.until_bound {
                Bound::Closed => at <= until,
                Bound::Open => at < until,
            });
            after && before && (self.include_truncated_messages || !export.channel.hides(message))
        })
    }

    fn write_v1(&self) -> Vec<u8> {
        let payload = Payload::new(self.style(), &self.users);
        let mut file = vec![b'['];
        for (number, export) in self.channels.iter().enumerate() {
            if number > 0 {
                file.push(b',');
            }
            self.element(&mut file, &payload, export);
        }
        file.push(b']');
        file
    }

    fn element(&self, out: &mut Vec<u8>, payload: &Payload<'_>, export: &ChannelExport) {
        let channel = &*export.channel;
        let threads = Threads::of(channel);
        out.extend_from_slice(b"{\"channel\":");
        payload.channel(out, channel);
        out.extend_from_slice(b",\"messages\":");
        list(out, self.messages(export), |out, message| payload.message(out, channel, &threads, message));
        out.extend_from_slice(b",\"members\":");
        list(out, &channel.members, |out, member| payload.member(out, channel, member, false));
        if !self.v2 && self.export_users {
            out.extend_from_slice(b",\"users\":");
            list(out, self.users_of(export), |out, id| payload.user(out, id));
        }
        if self.v2 && self.switches.read_lines != ChannelLines::None {
            out.extend_from_slice(b",\"reads\":");
            list(out, &channel.members, |out, member| payload.read(out, channel, member, false));
        }
        out.push(b'}');
    }

    fn write_v2(&self) -> Vec<u8> {
        let payload = Payload::new(self.style(), &self.users);
        let mut lines = Lines::new(self.switches.envelope, self.switches.kind_names);
        let user_lines = match (self.switches.user_lines, self.export_users) {
            (UserLines::None, true) => UserLines::Once,
            (user_lines, _) => user_lines,
        };
        let mut written_users = BTreeSet::new();
        for export in &self.channels {
            if self.switches.envelope == Envelope::Element {
                self.element(&mut lines.file, &payload, export);
                lines.end();
            } else {
                self.channel_lines(&mut lines, &payload, export);
            }
            if user_lines == UserLines::PerChannel {
                written_users.clear();
            }
            if user_lines != UserLines::None {
                for id in self.users_of(export) {
                    if written_users.insert(id) {
                        lines.line(Kind::User, |out| payload.user(out, id));
                    }
                }
            }
        }
        lines.file
    }

    fn channel_lines(&self, lines: &mut Lines, payload: &Payload<'_>, export: &ChannelExport) {
        let channel = &*export.channel;
        let threads = Threads::of(channel);
        let any = self.messages(export).next().is_some();
        let wanted = |when| when == ChannelLines::PerChannel || (any && when == ChannelLines::WithMessages);
        if wanted(self.switches.channel_lines) {
            lines.line(Kind::Channel, |out| payload.channel(out, channel));
        }
        if wanted(self.switches.member_lines) {
            for member in &channel.members {
                lines.line(Kind::Member, |out| payload.member(out, channel, member, true));
            }
        }
        for message in self.messages(export) {
            lines.line(Kind::Message, |out| payload.message(out, channel, &threads, message));
            if self.switches.reactions == ReactionForm::Both {
                for reaction in &message.reactions {
                    lines.line(Kind::Reaction, |out| payload.reaction(out, &message.id, reaction));
                }
            }
        }
        if wanted(self.switches.read_lines) {
            for member in &channel.members {
                lines.line(Kind::Read, |out| payload.read(out, channel, member, true));
            }
        }
    }

    /// Ids of the users that appear in an export and exist, in order.
    fn users_of<'a>(&'a self, export: &'a ChannelExport) -> BTreeSet<&'a str> {
        let channel = &*export.channel;
        let mut ids: BTreeSet<&str> = channel.members.iter().map(|member| member.user_id.as_str()).collect();
        ids.extend(channel.created_by_id.as_deref());
        for message in self.messages(export) {
            ids.extend(message.user_id.as_deref());
            ids.extend(message.mentioned_user_ids.iter().map(String::as_str));
            ids.extend(message.reactions.iter().map(|reaction| reaction.user_id.as_str()));
        }
        ids.retain(|id| self.users.contains_key(*id));
        ids
    }
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel,
    Member,
    User,
    Message,
    Reaction,
    Read,
    Call,
    Device,
}

impl Kind {
    fn name(self, names: KindNames) -> &'static str {
        match (self, names) {
            (Self::Channel, KindNames::Plural) => "channels",
            (Self::Channel, _) => "channel",
            (Self::Member, KindNames::Plural) => "members",
            (Self::Member, KindNames::Member) => "member",
            (Self::Member, KindNames::Singular) => "channel_member",
            (Self::User, KindNames::Plural) => "users",
            (Self::User, _) => "user",
            (Self::Message, KindNames::Plural) => "messages",
            (Self::Message, _) => "message",
            (Self::Reaction, KindNames::Plural) => "reactions",
            (Self::Reaction, _) => "reaction",
            (Self::Read, KindNames::Plural) => "reads",
            (Self::Read, _) => "read",
            (Self::Call, KindNames::Plural) => "calls",
            (Self::Call, _) => "call",
            (Self::Device, KindNames::Plural) => "devices",
            (Self::Device, _) => "device",
        }
    }
}

/// A file of lines.
pub(crate) struct Lines {
    pub(crate) file: Vec<u8>,
    envelope: Envelope,
    names: KindNames,
    count: usize,
}

impl Lines {
    pub(crate) fn new(envelope: Envelope, names: KindNames) -> Self {
        Self { file: Vec::new(), envelope, names, count: 0 }
    }

    pub(crate) fn line(&mut self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
        let name = kind.name(self.names);
        let envelope = match self.envelope {
            Envelope::Mixed => {
                [Envelope::TypeData, Envelope::TypeItem, Envelope::SingleKey, Envelope::Bare][self.count % 4]
            }
            envelope => envelope,
        };
        match envelope {
            Envelope::TypeData => self.file.extend_from_slice(format!("{{\"type\":\"{name}\",\"data\":").as_bytes()),
            Envelope::TypeItem => self.file.extend_from_slice(format!("{{\"type\":\"{name}\",\"item\":").as_bytes()),
            Envelope::SingleKey => self.file.extend_from_slice(format!("{{\"{name}\":").as_bytes()),
            // A user among elements has no place in an element: it stands bare.
            Envelope::Bare | Envelope::Element | Envelope::Mixed => {}
        }
        write(&mut self.file);
        if matches!(envelope, Envelope::TypeData | Envelope::TypeItem | Envelope::SingleKey) {
            self.file.push(b'}');
        }
        self.end();
    }

    fn end(&mut self) {
        self.file.push(b'\n');
        self.count += 1;
    }
}

pub(crate) fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (number, item) in items.into_iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

pub(crate) fn insert_all(file: &mut Vec<u8>, insertions: &[Insertion]) {
    insertions.iter().for_each(|insertion| insert(file, insertion));
}

fn insert(file: &mut Vec<u8>, insertion: &Insertion) {
    let line = match &insertion.line {
        BadLine::TruncatedTail { bytes } => {
            file.truncate(file.len().saturating_sub(*bytes));
            return;
        }
        BadLine::Text { text } => text.clone().into_bytes(),
        BadLine::NotUtf8 => b"{\"type\":\"message\",\"data\":{\"id\":\"\xff\xfe\",\"text\":\"\xc3\x28\"}}".to_vec(),
        BadLine::Overlong { bytes } => {
            let mut line = b"{\"type\":\"message\",\"data\":{\"id\":\"overlong\",\"text\":".to_vec();
            let text = "x".repeat(bytes.saturating_sub(line.len() + 4));
            json(&mut line, &text);
            line.extend_from_slice(b"}}");
            line
        }
        BadLine::Deep { depth } => {
            let mut line = vec![b'['; *depth];
            line.resize(2 * depth, b']');
            line
        }
    };
    let ends = file.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place + 1);
    let place = std::iter::once(0).chain(ends).nth(insertion.at_line).unwrap_or(file.len());
    file.splice(place..place, line.into_iter().chain([b'\n']));
}

/// The file as it is stored.
pub(crate) fn packed(file: Vec<u8>, compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => file,
        Compression::Gzip | Compression::ContentEncoding => gzip(&file),
    }
}

fn gzip(file: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(file).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::seed::Size;
    use crate::switches::TimestampForm;
    use crate::world::World;

    fn job(switches: Switches, v2: bool, since: Option<Timestamp>, until: Option<Timestamp>) -> ExportJob {
        let world = World::seeded(3, &Size { channels: 4, days: 2, messages_per_channel_day: 12, ..Size::default() });
        ExportJob {
            users: Arc::clone(world.users()),
            channels: world
                .channels()
                .map(|channel| ChannelExport { channel: Arc::clone(channel), since, until })
                .collect(),
            v2,
            export_users: false,
            include_truncated_messages: true,
            clear_deleted_message_text: false,
            switches,
            insertions: Vec::new(),
        }
    }

    #[test]
    fn exports_are_the_same_only_if_all_that_decides_their_file_is() {
        let one = job(Switches::default(), true, None, None);
        assert!(one.is_same(&one.clone()));
        let changes: [fn(&mut ExportJob); 9] = [
            |job| job.users = Arc::new(BTreeMap::clone(&job.users)),
            |job| job.channels[1].channel = Arc::new(Channel::clone(&job.channels[1].channel)),
            |job| job.channels[1].until = Some(Timestamp::UNIX_EPOCH),
            |job| drop(job.channels.pop()),
            |job| job.v2 = false,
            |job| job.export_users = true,
            |job| job.include_truncated_messages = false,
            |job| job.clear_deleted_message_text = true,
            |job| job.switches.timestamps = TimestampForm::Nanoseconds,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = one.clone();
            change(&mut other);
            assert!(!one.is_same(&other) && !other.is_same(&one), "change {number}");
        }
    }

    fn message_ids(job: &ExportJob) -> Vec<String> {
        let file = String::from_utf8(job.write()).unwrap();
        let lines = file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["type"] == "message")
            .map(|line| line["data"]["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn any_switches() -> impl Strategy<Value = Switches> {
        let shapes = [
            Envelope::TypeData,
            Envelope::TypeItem,
            Envelope::SingleKey,
            Envelope::Bare,
            Envelope::Element,
            Envelope::Mixed,
        ];
        (
            prop::sample::select(shapes.to_vec()),
            prop::sample::select(vec![CustomPlace::Inlined, CustomPlace::Nested, CustomPlace::Both]),
            prop::sample::select(vec![UserForm::Object, UserForm::Id]),
            prop::sample::select(vec![Address::Cid, Address::TypeId]),
            prop::sample::select(vec![TimestampForm::Rfc3339, TimestampForm::Nanoseconds]),
            prop::sample::select(vec![ReactionForm::Embedded, ReactionForm::Both]),
            prop::sample::select(vec![UserLines::None, UserLines::Once, UserLines::PerChannel]),
            prop::sample::select(vec![ChannelLines::None, ChannelLines::PerChannel, ChannelLines::WithMessages]),
        )
            .prop_map(|(envelope, custom, users, address, timestamps, reactions, user_lines, read_lines)| {
                Switches {
                    envelope,
                    custom,
                    users,
                    address,
                    timestamps,
                    reactions,
                    user_lines,
                    read_lines,
                    ..Switches::default()
                }
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn half_open_windows_tile_the_history(cut_hours in 0i64..60, cut_us in 0i64..3) {
            let at: Timestamp = "2026-01-04T23:59:59.999999Z".parse().unwrap();
            let cut = at + jiff::SignedDuration::from_hours(cut_hours) + jiff::SignedDuration::from_micros(cut_us);
            let half_open = || Switches { until_bound: Bound::Open, ..Switches::default() };
            let mut joined = message_ids(&job(half_open(), true, None, Some(cut)));
            joined.extend(message_ids(&job(half_open(), true, Some(cut), None)));
            joined.sort();
            let mut all = message_ids(&job(Switches::default(), true, None, None));
            all.sort();
            prop_assert_eq!(joined, all);
        }

        #[test]
        fn all_switches_leave_valid_json(switches in any_switches()) {
            let v1: Vec<Value> = serde_json::from_slice(&job(switches.clone(), false, None, None).write()).unwrap();
            prop_assert_eq!(v1.len(), 4);
            let v2 = String::from_utf8(job(switches.clone(), true, None, None).write()).unwrap();
            prop_assert!(v2.ends_with('\n'));
            for line in v2.lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                prop_assert!(line.is_object());
            }
            prop_assert!(switches.timestamps == TimestampForm::Rfc3339 || !v2.contains("\"created_at\":\""));
        }
    }
}
