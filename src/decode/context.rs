//! What a row knows besides its own object.

use super::value::Time;
use crate::schema::Context;

/// The surroundings of an object: its task, and the channel or message it is embedded in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Surroundings<'a> {
    pub(super) exported_at_us: i64,
    pub(super) export_task_id: Option<&'a str>,
    pub(super) cid: Option<&'a str>,
    pub(super) message_id: Option<&'a str>,
    pub(super) message_created_at_us: Option<i64>,
    pub(super) raw: Option<&'a str>,
    pub(super) reject: Option<&'a Reject<'a>>,
    /// The user whose export it is, if it is that of one alone.
    pub(super) owner: Option<&'a str>,
    /// The key under which an entry stands in its object.
    pub(super) entry_key: Option<&'a str>,
}

/// A line, or an object inside one, that could not be used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reject<'a> {
    pub(super) reason: &'static str,
    pub(super) detail: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    pub(super) line_number: u64,
    pub(super) line_offset: u64,
    pub(super) bytes: u64,
    pub(super) line: Option<&'a str>,
    pub(super) line_base64: Option<&'a str>,
    pub(super) created_at_us: Option<i64>,
}

/// A value that does not come from JSON.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    Text(&'a str),
    Integer(i64),
    Time(Time),
}

impl<'a> Surroundings<'a> {
    pub(super) fn get(&self, context: Context) -> Option<Given<'a>> {
        let time = |us: Option<i64>| us.map(|us| Given::Time(Time::At(us)));
        match context {
            Context::Cid => self.cid.map(Given::Text),
            Context::MessageId => self.message_id.map(Given::Text),
            Context::MessageCreatedAt => time(self.message_created_at_us),
            Context::ExportedAt => time(Some(self.exported_at_us)),
            Context::ExportTaskId => self.export_task_id.map(Given::Text),
            Context::VanishedAt => None,
            Context::Owner => self.owner.map(Given::Text),
            Context::EntryKey => self.entry_key.map(Given::Text),
            Context::Raw => self.raw.map(Given::Text),
            Context::Reject(field) => self.reject.and_then(|reject| reject.get(field)),
        }
    }
}

impl<'a> Reject<'a> {
    /// A field by its place in [`crate::schema::REJECT_FIELDS`].
    fn get(&self, field: usize) -> Option<Given<'a>> {
        let integer = |number: u64| Some(Given::Integer(i64::try_from(number).unwrap_or(i64::MAX)));
        match crate::schema::REJECT_FIELDS[field] {
            "reason" => Some(Given::Text(self.reason)),
            "detail" => self.detail.map(Given::Text),
            "kind" => self.kind.map(Given::Text),
            "line_number" => integer(self.line_number),
            "line_offset" => integer(self.line_offset),
            "bytes" => integer(self.bytes),
            "line" => self.line.map(Given::Text),
            "line_base64" => self.line_base64.map(Given::Text),
            _ => self.created_at_us.map(|us| Given::Time(Time::At(us))),
        }
    }
}
