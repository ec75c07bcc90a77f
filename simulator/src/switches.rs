//! What Stream does not document, each as a named switch. The defaults are the likeliest reading.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Shape of a v2 line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Envelope {
    /// `{"type": "message", "data": {...}}`
    #[default]
    TypeData,
    /// `{"type": "message", "item": {...}}`
    TypeItem,
    /// `{"message": {...}}`
    SingleKey,
    /// `{...}` with no tag.
    Bare,
    /// One line is one channel: `{"channel": {...}, "messages": [...], "members": [...]}`
    Element,
    /// The first four in turn, line by line.
    Mixed,
}

/// Where app-defined keys stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CustomPlace {
    /// At the top level of the entity.
    #[default]
    Inlined,
    /// Under `custom`.
    Nested,
    /// In both places.
    Both,
}

/// How a line refers to a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserForm {
    /// The whole user object.
    #[default]
    Object,
    /// The id alone; mentions and pins by `mentioned_users_ids` and `pinned_by_id`.
    Id,
}

/// How a line refers to its channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// `cid`
    #[default]
    Cid,
    /// `channel_type` and `channel_id`
    TypeId,
}

/// Whether a bound of the window is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The instant itself is inside.
    Closed,
    /// The instant itself is outside.
    Open,
}

/// Which time of a message the window filters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterBy {
    /// When it was sent.
    #[default]
    CreatedAt,
    /// When it last changed.
    UpdatedAt,
}

/// The status of a task that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureStatus {
    /// `failed`
    #[default]
    Failed,
    /// `error`
    Error,
}

/// How the file is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Plain text.
    #[default]
    None,
    /// The object is a gzip file; no header says so.
    Gzip,
    /// The object is a gzip file and `Content-Encoding` says so.
    ContentEncoding,
}

/// Whether the download answers to `Range`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RangeSupport {
    /// With 206 and the part.
    #[default]
    Honoured,
    /// With 200 and everything.
    Ignored,
}

/// How times are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestampForm {
    /// `2026-01-05T08:17:49.745857Z`
    #[default]
    Rfc3339,
    /// Unix nanoseconds as an integer.
    Nanoseconds,
}

/// When channel, member or read lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelLines {
    /// For every channel of the request.
    #[default]
    PerChannel,
    /// For channels that have messages in the window.
    WithMessages,
    /// Never.
    None,
}

/// When user lines are written. `export_users` turns `none` into `once`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserLines {
    /// Never.
    #[default]
    None,
    /// Once per user and file.
    Once,
    /// Again for every channel.
    PerChannel,
}

/// What the kinds of lines are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KindNames {
    /// `message`, `channel_member`, ...
    #[default]
    Singular,
    /// The same with `member`.
    Member,
    /// `messages`, `members`, ...
    Plural,
}

/// Where reactions stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReactionForm {
    /// In their message, at most ten.
    #[default]
    Embedded,
    /// In their message, and all of them as lines after it.
    Both,
}

/// The answer to a channel that does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingChannel {
    /// 404, code 16.
    #[default]
    NotFound,
    /// 400, code 4.
    InputError,
}

/// How exports of users name who wrote what is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authors {
    /// As exports of channels do.
    #[default]
    Named,
    /// Not at all: `user` is null.
    Null,
}

/// What becomes of a request for users one of whom has too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooMuch {
    /// The task fails.
    #[default]
    FailsTask,
    /// The request is refused.
    IsRefused,
}

/// The `type` of a deleted message in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeletedType {
    /// `deleted`
    #[default]
    Deleted,
    /// What it was before; only `deleted_at` tells.
    Unchanged,
}

/// When a message's `updated_at` moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdatedAtMoves {
    /// When its text is edited.
    #[default]
    OnEdit,
    /// When anything about it changes: deletes, reactions, pins.
    OnAnyChange,
}

/// Everything about the simulated service that can be turned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// Shape of a v2 line.
    pub envelope: Envelope,
    /// Where app-defined keys stand in files.
    pub custom: CustomPlace,
    /// How lines refer to users.
    pub users: UserForm,
    /// How lines refer to their channel.
    pub address: Address,
    /// Whether `messages_since` itself is inside.
    pub since_bound: Bound,
    /// Whether `messages_until` itself is inside.
    pub until_bound: Bound,
    /// Which time the window filters.
    pub filter_by: FilterBy,
    /// The status of a failed task.
    pub failure_status: FailureStatus,
    /// How files are packed.
    pub compression: Compression,
    /// Whether downloads answer to `Range`.
    pub range: RangeSupport,
    /// How files write times.
    pub timestamps: TimestampForm,
    /// When channel lines are written.
    pub channel_lines: ChannelLines,
    /// When member lines are written.
    pub member_lines: ChannelLines,
    /// When read lines are written.
    pub read_lines: ChannelLines,
    /// When user lines are written.
    pub user_lines: UserLines,
    /// What the kinds of lines are called.
    pub kind_names: KindNames,
    /// Where reactions stand.
    pub reactions: ReactionForm,
    /// When `updated_at` moves.
    pub updated_at_moves: UpdatedAtMoves,
    /// The `type` of a deleted message in files.
    pub deleted_type: DeletedType,
    /// The answer to a channel that does not exist.
    pub missing_channel: MissingChannel,
    /// How exports of users name who wrote what is in them.
    pub authors: Authors,
    /// Whether exports of users hold calls and devices.
    pub calls_and_devices: bool,
    /// Most messages, and most reactions, of a user who is exported.
    pub entities_per_user: usize,
    /// What becomes of a request for users one of whom has more.
    pub too_much: TooMuch,
    /// Which status call is the first to say `completed`.
    pub task_polls: u32,
    /// Most channels in one export request: the specification says 100, the documentation 25.
    pub channels_per_request: usize,
    /// Size of the pieces in which a download is sent.
    pub chunk_bytes: usize,
    /// Whether downloads tell their length.
    pub content_length: bool,
    /// Whether downloads carry an `ETag`.
    pub etag: bool,
    /// How long a download URL is valid.
    pub url_seconds: i64,
    /// How far the `Date` header is off.
    pub date_skew_seconds: i64,
    /// Calls a minute per endpoint that is not in `limits`; a thirtieth of it in any second.
    pub default_limit: u32,
    /// Calls a minute by endpoint, for instance `{"ExportChannels": 60}`.
    pub limits: BTreeMap<String, u32>,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            envelope: Envelope::default(),
            custom: CustomPlace::default(),
            users: UserForm::default(),
            address: Address::default(),
            since_bound: Bound::Closed,
            until_bound: Bound::Closed,
            filter_by: FilterBy::default(),
            failure_status: FailureStatus::default(),
            compression: Compression::default(),
            range: RangeSupport::default(),
            timestamps: TimestampForm::default(),
            channel_lines: ChannelLines::default(),
            member_lines: ChannelLines::default(),
            read_lines: ChannelLines::None,
            user_lines: UserLines::default(),
            kind_names: KindNames::default(),
            reactions: ReactionForm::default(),
            updated_at_moves: UpdatedAtMoves::default(),
            deleted_type: DeletedType::default(),
            missing_channel: MissingChannel::default(),
            authors: Authors::default(),
            calls_and_devices: false,
            entities_per_user: 10_000,
            too_much: TooMuch::default(),
            task_polls: 3,
            channels_per_request: 100,
            chunk_bytes: 64 * 1024,
            content_length: true,
            etag: true,
            url_seconds: 24 * 60 * 60,
            date_skew_seconds: 0,
            default_limit: 600_000,
            limits: BTreeMap::new(),
        }
    }
}

impl Switches {
    /// The limits that Stream documents for a new app.
    #[must_use]
    pub fn with_documented_limits(mut self) -> Self {
        self.limits.extend([
            ("ExportChannels".to_owned(), 60),
            ("ExportUser".to_owned(), 60),
            ("QueryChannels".to_owned(), 10_000),
        ]);
        self
    }

    /// These switches with the given ones changed; the rest stays.
    pub fn merged(&self, changes: &Value) -> Result<Self, serde_json::Error> {
        let mut all = serde_json::to_value(self)?;
        if let (Value::Object(all), Value::Object(changes)) = (&mut all, changes) {
            all.extend(changes.clone());
            return serde_json::from_value(Value::Object(all.clone()));
        }
        Err(serde::de::Error::custom("switches are a JSON object of name and value"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_readme_names_every_switch() {
        let readme = include_str!("../README.md");
        let switches = serde_json::to_value(Switches::default()).unwrap();
        for name in switches.as_object().unwrap().keys() {
            assert!(readme.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn switches_merge_and_misspelt_ones_are_refused() {
        let merged = Switches::default().merged(&json!({"envelope": "bare", "task_polls": 1})).unwrap();
        assert_eq!(merged, Switches { envelope: Envelope::Bare, task_polls: 1, ..Switches::default() });
        assert!(merged.merged(&json!({"envelop": "bare"})).is_err());
        assert!(merged.merged(&json!({"envelope": "bear"})).is_err());
        assert!(merged.merged(&json!([])).is_err());
    }
}
