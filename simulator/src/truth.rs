//! What a complete lake holds, told from the world itself: no code is shared with exports.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::world::World;

/// Which messages count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TruthOptions {
    /// As with `include_truncated_messages`.
    pub include_truncated_messages: bool,
    /// As with `include_soft_deleted_channels`.
    pub include_soft_deleted_channels: bool,
}

/// Every message and reaction that exports can deliver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Messages by channel and time.
    pub messages: Vec<TrueMessage>,
    /// Reactions by message.
    pub reactions: Vec<TrueReaction>,
    /// Cids of the channels that can be exported.
    pub channels: Vec<String>,
}

/// A message as a lake should have it. The text is the original one, also when it is deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrueMessage {
    /// Message id.
    pub id: String,
    /// Its channel.
    pub cid: String,
    /// The channel's type.
    pub channel_type: String,
    /// The author, if there still is one.
    pub user_id: Option<String>,
    /// What was written.
    pub text: String,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// The message it replies to.
    pub parent_id: Option<String>,
}

/// A reaction as a lake should have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrueReaction {
    /// The message.
    pub message_id: String,
    /// The message's channel.
    pub cid: String,
    /// When the message was sent, which decides the partition.
    pub message_created_at: Timestamp,
    /// Who reacted.
    pub user_id: String,
    /// The reaction's type.
    #[serde(rename = "type")]
    pub reaction_type: String,
    /// Its weight.
    pub score: i64,
    /// When.
    pub created_at: Timestamp,
    /// Whether it is among the ten that its message shows. The others are visible only as lines of their own.
    pub embedded: bool,
}

impl Truth {
    /// The messages sent in `[since, until)`.
    pub fn messages_in(&self, since: Timestamp, until: Timestamp) -> impl Iterator<Item = &TrueMessage> {
        self.messages.iter().filter(move |message| since <= message.created_at && message.created_at < until)
    }

    /// The reactions that messages show, to messages sent in `[since, until)`.
    pub fn embedded_reactions_in(&self, since: Timestamp, until: Timestamp) -> impl Iterator<Item = &TrueReaction> {
        self.reactions.iter().filter(move |reaction| {
            reaction.embedded && since <= reaction.message_created_at && reaction.message_created_at < until
        })
    }
}

pub(crate) fn of(world: &World, options: TruthOptions) -> Truth {
    let mut truth = Truth::default();
    for channel in world.channels() {
        if channel.deleted_at.is_some() && !options.include_soft_deleted_channels {
            continue;
        }
        let cid = channel.cid();
        for message in &channel.messages {
            if channel.truncated_at.is_some_and(|at| message.created_at <= at) && !options.include_truncated_messages {
                continue;
            }
            truth.messages.push(TrueMessage {
                id: message.id.clone(),
                cid: cid.clone(),
                channel_type: channel.channel_type.clone(),
                user_id: message.user_id.clone(),
                text: message.text.clone(),
                created_at: message.created_at,
                updated_at: message.updated_at,
                deleted_at: message.deleted_at,
                parent_id: message.parent_id.clone(),
            });
            for reaction in &message.reactions {
                let newer = |other: &&crate::entity::Reaction| {
                    (std::cmp::Reverse(other.created_at), &other.user_id, &other.reaction_type)
                        < (std::cmp::Reverse(reaction.created_at), &reaction.user_id, &reaction.reaction_type)
                };
                truth.reactions.push(TrueReaction {
                    message_id: message.id.clone(),
                    cid: cid.clone(),
                    message_created_at: message.created_at,
                    user_id: reaction.user_id.clone(),
                    reaction_type: reaction.reaction_type.clone(),
                    score: reaction.score,
                    created_at: reaction.created_at,
                    embedded: message.reactions.iter().filter(newer).count() < 10,
                });
            }
        }
        truth.channels.push(cid);
    }
    truth
}
