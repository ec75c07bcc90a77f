//! What lives in the simulated app: users, channels, members, messages, reactions. Plain data with public fields.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// App-defined keys of an entity.
pub type Custom = Map<String, Value>;

/// A user of the app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// Unique in the app.
    pub id: String,
    /// `user`, `admin`, or a role of the app's own.
    pub role: String,
    /// Display name.
    pub name: String,
    /// Avatar URL; empty when none was set.
    pub image: String,
    /// Creation time.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Last activity; the one stored time with nanosecond digits.
    pub last_active: Option<Timestamp>,
    /// Set once the user was deleted softly.
    pub deleted_at: Option<Timestamp>,
    /// Banned from the whole app.
    pub banned: bool,
    /// Connected now.
    pub online: bool,
    /// Language code; empty when unknown.
    pub language: String,
    /// Teams of a multi-tenant app.
    pub teams: Vec<String>,
    /// The role in each of them.
    pub teams_role: BTreeMap<String, String>,
    /// Typing indicators, read receipts and delivery receipts.
    pub privacy_settings: Option<Value>,
    /// App-defined keys.
    pub custom: Custom,
}

impl User {
    /// A plain user.
    pub fn new(id: impl Into<String>, name: impl Into<String>, created_at: Timestamp) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            role: "user".into(),
            created_at,
            updated_at: created_at,
            ..Self::default()
        }
    }
}

/// A user's place in a channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// The user.
    pub user_id: String,
    /// `channel_member` or `channel_moderator`.
    pub channel_role: String,
    /// The older role name: `owner`, `moderator` or `member`.
    pub role: String,
    /// When the user joined.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Banned from the channel.
    pub banned: bool,
    /// Muted the channel.
    pub notifications_muted: bool,
    /// Pinned the channel.
    pub pinned_at: Option<Timestamp>,
    /// Archived the channel.
    pub archived_at: Option<Timestamp>,
    /// Came by an invitation, accepted then.
    pub invite_accepted_at: Option<Timestamp>,
    /// Read up to here.
    pub last_read: Option<Timestamp>,
    /// App-defined keys.
    pub custom: Custom,
}

impl Member {
    /// An ordinary member.
    pub fn new(user_id: impl Into<String>, created_at: Timestamp) -> Self {
        Self {
            user_id: user_id.into(),
            channel_role: "channel_member".into(),
            role: "member".into(),
            created_at,
            updated_at: created_at,
            ..Self::default()
        }
    }
}

/// A channel with its members and its whole history, in order of creation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Channel {
    /// Channel type.
    #[serde(rename = "type")]
    pub channel_type: String,
    /// Unique inside the type.
    pub id: String,
    /// Creation time; never changes.
    pub created_at: Timestamp,
    /// Last change of the channel object.
    pub updated_at: Timestamp,
    /// Set by a soft delete.
    pub deleted_at: Option<Timestamp>,
    /// Time of the newest message that was ever sent; absent in an empty channel.
    pub last_message_at: Option<Timestamp>,
    /// Messages up to here are hidden.
    pub truncated_at: Option<Timestamp>,
    /// Who truncated.
    pub truncated_by_id: Option<String>,
    /// Who created the channel.
    pub created_by_id: Option<String>,
    /// No new messages.
    pub frozen: bool,
    /// Disabled by moderation.
    pub disabled: bool,
    /// Team of a multi-tenant app; empty when none.
    pub team: String,
    /// Slow mode: seconds between two messages of a member.
    pub cooldown: u32,
    /// Tags to filter channels by.
    pub filter_tags: Vec<String>,
    /// App-defined keys; `name` and `image` are among them.
    pub custom: Custom,
    /// Members in order of joining.
    pub members: Vec<Member>,
    /// Messages in order of (created_at, id).
    pub messages: Vec<Message>,
}

impl Channel {
    /// An empty channel.
    pub fn new(channel_type: impl Into<String>, id: impl Into<String>, created_at: Timestamp) -> Self {
        Self { channel_type: channel_type.into(), id: id.into(), created_at, updated_at: created_at, ..Self::default() }
    }

    /// The same channel with these users as members.
    #[must_use]
    pub fn with_members<S: Into<String>>(mut self, user_ids: impl IntoIterator<Item = S>) -> Self {
        let joined_at = self.created_at;
        self.members.extend(user_ids.into_iter().map(|id| Member::new(id, joined_at)));
        self
    }

    /// `type:id`.
    pub fn cid(&self) -> String {
        format!("{}:{}", self.channel_type, self.id)
    }

    /// The later of creation and newest message: the default sort of queries.
    pub fn last_updated(&self) -> Timestamp {
        self.last_message_at.map_or(self.created_at, |at| at.max(self.created_at))
    }

    /// Whether a truncation hides the message.
    pub fn hides(&self, message: &Message) -> bool {
        self.truncated_at.is_some_and(|at| message.created_at <= at)
    }
}

/// A person's message, or one that the system wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// Written by a user.
    #[default]
    Regular,
    /// Written by the system.
    System,
}

/// A message with its reactions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Unique in the app.
    pub id: String,
    /// The author; none once the user was deleted for good.
    pub user_id: Option<String>,
    /// Regular or system.
    pub kind: MessageKind,
    /// What was written.
    pub text: String,
    /// Creation time; never changes.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Last change of the text.
    pub message_text_updated_at: Option<Timestamp>,
    /// Set by a soft delete.
    pub deleted_at: Option<Timestamp>,
    /// The message that this one replies to.
    pub parent_id: Option<String>,
    /// A reply that is also shown in the channel.
    pub show_in_channel: bool,
    /// The message that this one quotes.
    pub quoted_message_id: Option<String>,
    /// Users that the text mentions.
    pub mentioned_user_ids: Vec<String>,
    /// Roles that the text mentions.
    pub mentioned_roles: Vec<String>,
    /// The text mentions everybody who is online.
    pub mentioned_here: bool,
    /// What image moderation saw.
    pub image_labels: Option<Value>,
    /// Attachments as Stream stores them.
    pub attachments: Vec<Value>,
    /// All reactions; payloads show the ten latest.
    pub reactions: Vec<Reaction>,
    /// Sent without notification.
    pub silent: bool,
    /// Seen by its author alone.
    pub shadowed: bool,
    /// When it was pinned.
    pub pinned_at: Option<Timestamp>,
    /// Who pinned it.
    pub pinned_by_id: Option<String>,
    /// When the pin ends.
    pub pin_expires: Option<Timestamp>,
    /// Only these users see it; everybody when empty.
    pub restricted_visibility: Vec<String>,
    /// Slash command that made it.
    pub command: Option<String>,
    /// Translations.
    pub i18n: Option<Value>,
    /// What moderation did.
    pub moderation: Option<Value>,
    /// A poll.
    pub poll: Option<Poll>,
    /// A shared location.
    pub shared_location: Option<SharedLocation>,
    /// App-defined keys.
    pub custom: Custom,
}

impl Message {
    /// A regular message.
    pub fn new(
        id: impl Into<String>,
        user_id: impl Into<String>,
        text: impl Into<String>,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id: id.into(),
            user_id: Some(user_id.into()),
            text: text.into(),
            created_at,
            updated_at: created_at,
            ..Self::default()
        }
    }

    /// The reactions that a payload shows: the ten latest, newest first.
    pub fn latest_reactions(&self) -> Vec<&Reaction> {
        let mut latest: Vec<_> = self.reactions.iter().collect();
        latest.sort_by(|a, b| {
            (b.created_at, &a.user_id, &a.reaction_type).cmp(&(a.created_at, &b.user_id, &b.reaction_type))
        });
        latest.truncate(10);
        latest
    }
}

/// A user's reaction; one per user and type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reaction {
    /// Who reacted.
    pub user_id: String,
    /// `like`, `love` and so on.
    #[serde(rename = "type")]
    pub reaction_type: String,
    /// Weight; 1 unless the app says otherwise.
    pub score: i64,
    /// Creation time.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// App-defined keys.
    pub custom: Custom,
}

impl Reaction {
    /// A reaction with score 1.
    pub fn new(user_id: impl Into<String>, reaction_type: impl Into<String>, created_at: Timestamp) -> Self {
        Self {
            user_id: user_id.into(),
            reaction_type: reaction_type.into(),
            score: 1,
            created_at,
            updated_at: created_at,
            ..Self::default()
        }
    }
}

/// A poll, embedded in its message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Poll {
    /// Unique in the app.
    pub id: String,
    /// The question.
    pub name: String,
    /// More about it; may be empty.
    pub description: String,
    /// The answers to choose from.
    pub options: Vec<PollOption>,
    /// Who chose what.
    pub votes: Vec<PollVote>,
    /// No more votes.
    pub is_closed: bool,
    /// Who asked.
    pub created_by_id: String,
    /// Creation time.
    pub created_at: Timestamp,
    /// Last change, votes included.
    pub updated_at: Timestamp,
}

/// An answer to choose in a poll.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PollOption {
    /// Unique in the poll.
    pub id: String,
    /// The answer.
    pub text: String,
}

/// A user's vote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PollVote {
    /// Unique in the app.
    pub id: String,
    /// The chosen option.
    pub option_id: String,
    /// Who voted.
    pub user_id: String,
    /// When.
    pub created_at: Timestamp,
}

/// A place on the map, shared once or live until `end_at`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SharedLocation {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// The sharing device.
    pub device_id: String,
    /// End of live sharing.
    pub end_at: Option<Timestamp>,
}
