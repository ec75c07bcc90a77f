//! The app's state and everything that can happen to it. No clock and no network: the time is always given.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::clock::floor_us;
use crate::entity::{Channel, Custom, Member, Message, MessageKind, Reaction, User};
use crate::seed::{self, Size};

/// Why a change of the world was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WorldError {
    /// No such channel.
    #[error("there is no channel `{0}`")]
    NoChannel(String),
    /// No such message.
    #[error("there is no message `{0}`")]
    NoMessage(String),
    /// The user has no such reaction.
    #[error("message `{message_id}` has no `{reaction_type}` by `{user_id}`")]
    NoReaction {
        /// The message.
        message_id: String,
        /// The user.
        user_id: String,
        /// The reaction's type.
        reaction_type: String,
    },
    /// A channel or message of this id exists.
    #[error("`{0}` exists already")]
    Exists(String),
    /// A message without a channel, a channel without a type.
    #[error("`{0}` is not a cid: use type:id")]
    Cid(String),
}

/// All users and channels of one app.
#[derive(Clone, Debug, Default)]
pub struct World {
    users: Arc<BTreeMap<String, User>>,
    channels: BTreeMap<String, Arc<Channel>>,
    message_cids: HashMap<String, String>,
    next_message: u64,
    /// Whether deletes, reactions and pins move a message's `updated_at`, as text edits always do.
    pub updated_at_moves_on_any_change: bool,
}

impl World {
    /// An app in which nothing has happened.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A believable company's chat, the same for the same seed and size.
    pub fn seeded(seed: u64, size: &Size) -> Self {
        seed::build(seed, size)
    }

    /// All users by id.
    pub fn users(&self) -> &Arc<BTreeMap<String, User>> {
        &self.users
    }

    /// All channels by cid, deleted ones included.
    pub fn channels(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.channels.values()
    }

    /// A channel by cid, deleted or not.
    pub fn channel(&self, cid: &str) -> Option<&Arc<Channel>> {
        self.channels.get(cid)
    }

    /// A message by id, with the cid of its channel.
    pub fn message(&self, id: &str) -> Option<(&str, &Message)> {
        let cid = self.message_cids.get(id)?;
        let message = self.channels.get(cid)?.messages.iter().rev().find(|message| message.id == id)?;
        Some((cid, message))
    }

    /// How many messages there are, hidden and soft-deleted ones included.
    pub fn message_count(&self) -> usize {
        self.message_cids.len()
    }

    /// Adds a user, or replaces the one of that id.
    pub fn add_user(&mut self, user: User) {
        Arc::make_mut(&mut self.users).insert(user.id.clone(), user);
    }

    /// Adds a channel with the messages it holds. Users it names that do not exist are made. In place of a channel that was
    /// deleted softly it starts anew.
    pub fn add_channel(&mut self, mut channel: Channel) -> Result<String, WorldError> {
        let cid = channel.cid();
        if channel.channel_type.is_empty() || channel.id.is_empty() || cid.matches(':').count() != 1 {
            return Err(WorldError::Cid(cid));
        }
        match self.channels.get(&cid).map(|channel| channel.deleted_at) {
            None => {}
            Some(None) => return Err(WorldError::Exists(cid)),
            Some(Some(at)) => self.delete_channel(&cid, at, true)?,
        }
        for user_id in channel.members.iter().map(|member| &member.user_id).chain(&channel.created_by_id) {
            self.meet(user_id, channel.created_at);
        }
        let messages = std::mem::take(&mut channel.messages);
        self.channels.insert(cid.clone(), Arc::new(channel));
        for message in messages {
            self.add_message(&cid, message)?;
        }
        Ok(cid)
    }

    /// Adds many empty channels of one type with one creation time: what makes keyset paging hard.
    pub fn add_channels_created_at(
        &mut self,
        channel_type: &str,
        count: usize,
        at: Timestamp,
    ) -> Result<(), WorldError> {
        for number in 0..count {
            self.add_channel(Channel::new(channel_type, format!("bulk-{number:05}"), at))?;
        }
        Ok(())
    }

    /// Adds a message at its own `created_at`. An empty id is filled in; unknown authors are made.
    pub fn add_message(&mut self, cid: &str, mut message: Message) -> Result<String, WorldError> {
        if !self.channels.contains_key(cid) {
            return Err(WorldError::NoChannel(cid.to_owned()));
        }
        if message.id.is_empty() {
            message.id = format!("{}-{:012}", message.user_id.as_deref().unwrap_or("system"), self.next_message);
            self.next_message += 1;
        }
        if self.message_cids.contains_key(&message.id) {
            return Err(WorldError::Exists(message.id));
        }
        message.created_at = floor_us(message.created_at);
        message.updated_at = floor_us(message.updated_at).max(message.created_at);
        let named = message.user_id.iter().chain(&message.mentioned_user_ids).chain(&message.pinned_by_id);
        for user_id in named.chain(message.reactions.iter().map(|reaction| &reaction.user_id)) {
            self.meet(user_id, message.created_at);
        }
        let id = message.id.clone();
        self.message_cids.insert(id.clone(), cid.to_owned());
        let channel = self.channel_mut(cid)?;
        if message.kind != MessageKind::System {
            channel.last_message_at = channel.last_message_at.max(Some(message.created_at));
        }
        let place = channel.messages.partition_point(|other| (other.created_at, &other.id) < (message.created_at, &id));
        channel.messages.insert(place, message);
        Ok(id)
    }

    /// Sends a regular message and returns its id.
    pub fn send(&mut self, cid: &str, user_id: &str, text: &str, at: Timestamp) -> Result<String, WorldError> {
        self.add_message(cid, Message::new("", user_id, text, at))
    }

    /// Sends a reply in the thread of `parent_id`.
    pub fn reply(&mut self, parent_id: &str, user_id: &str, text: &str, at: Timestamp) -> Result<String, WorldError> {
        let cid = self.cid_of(parent_id)?;
        let reply = Message { parent_id: Some(parent_id.to_owned()), ..Message::new("", user_id, text, at) };
        self.add_message(&cid, reply)
    }

    /// Changes a message in any way; the caller minds its times.
    pub fn change_message(&mut self, id: &str, change: impl FnOnce(&mut Message)) -> Result<(), WorldError> {
        let cid = self.cid_of(id)?;
        let channel = self.channel_mut(&cid)?;
        let message = channel
            .messages
            .iter_mut()
            .rev()
            .find(|message| message.id == id)
            .ok_or_else(|| WorldError::NoMessage(id.to_owned()))?;
        change(message);
        Ok(())
    }

    /// Edits the text.
    pub fn edit(&mut self, id: &str, text: &str, at: Timestamp) -> Result<(), WorldError> {
        self.change_message(id, |message| {
            text.clone_into(&mut message.text);
            message.updated_at = floor_us(at);
            message.message_text_updated_at = Some(floor_us(at));
        })
    }

    /// Marks a message as deleted; its text and reactions stay.
    pub fn soft_delete(&mut self, id: &str, at: Timestamp) -> Result<(), WorldError> {
        self.touch(id, at, |message| message.deleted_at = Some(floor_us(at)))
    }

    /// Takes a soft delete back.
    pub fn undelete(&mut self, id: &str, at: Timestamp) -> Result<(), WorldError> {
        self.touch(id, at, |message| message.deleted_at = None)
    }

    /// Removes a message with its reactions and replies. Nothing tells of it afterwards.
    pub fn hard_delete(&mut self, id: &str) -> Result<(), WorldError> {
        let cid = self.cid_of(id)?;
        let channel = self.channel_mut(&cid)?;
        let mut gone = Vec::new();
        channel.messages.retain(|message| {
            let stays = message.id != id && message.parent_id.as_deref() != Some(id);
            if !stays {
                gone.push(message.id.clone());
            }
            stays
        });
        for id in gone {
            self.message_cids.remove(&id);
        }
        Ok(())
    }

    /// Adds a reaction, or replaces the user's one of that type.
    pub fn react(&mut self, id: &str, user_id: &str, reaction_type: &str, at: Timestamp) -> Result<(), WorldError> {
        self.meet(user_id, at);
        self.touch(id, at, |message| {
            message.reactions.retain(|other| other.user_id != user_id || other.reaction_type != reaction_type);
            message.reactions.push(Reaction::new(user_id, reaction_type, floor_us(at)));
        })
    }

    /// Removes a reaction.
    pub fn unreact(&mut self, id: &str, user_id: &str, reaction_type: &str, at: Timestamp) -> Result<(), WorldError> {
        let (_, message) = self.message(id).ok_or_else(|| WorldError::NoMessage(id.to_owned()))?;
        let is_it = |other: &Reaction| other.user_id == user_id && other.reaction_type == reaction_type;
        if !message.reactions.iter().any(is_it) {
            return Err(WorldError::NoReaction {
                message_id: id.to_owned(),
                user_id: user_id.to_owned(),
                reaction_type: reaction_type.to_owned(),
            });
        }
        self.touch(id, at, |message| message.reactions.retain(|other| !is_it(other)))
    }

    /// Pins a message.
    pub fn pin(&mut self, id: &str, user_id: &str, at: Timestamp) -> Result<(), WorldError> {
        self.meet(user_id, at);
        self.touch(id, at, |message| {
            message.pinned_at = Some(floor_us(at));
            message.pinned_by_id = Some(user_id.to_owned());
        })
    }

    /// Hides all messages up to `at`, or destroys them.
    pub fn truncate(&mut self, cid: &str, at: Timestamp, hard: bool) -> Result<(), WorldError> {
        let channel = self.channel_mut(cid)?;
        channel.updated_at = floor_us(at);
        channel.truncated_at = Some(floor_us(at));
        if hard {
            let (gone, stays) =
                std::mem::take(&mut channel.messages).into_iter().partition(|message| message.created_at <= at);
            channel.messages = stays;
            let gone: Vec<Message> = gone;
            for message in gone {
                self.message_cids.remove(&message.id);
            }
        }
        Ok(())
    }

    /// Deletes a channel: softly, so that it can still be exported by name, or for good.
    pub fn delete_channel(&mut self, cid: &str, at: Timestamp, hard: bool) -> Result<(), WorldError> {
        if hard {
            let channel = self.channels.remove(cid).ok_or_else(|| WorldError::NoChannel(cid.to_owned()))?;
            for message in &channel.messages {
                self.message_cids.remove(&message.id);
            }
            return Ok(());
        }
        let channel = self.channel_mut(cid)?;
        channel.deleted_at = Some(floor_us(at));
        channel.updated_at = floor_us(at);
        Ok(())
    }

    /// Adds a member, who joined at `at`.
    pub fn add_member(&mut self, cid: &str, user_id: &str, at: Timestamp) -> Result<(), WorldError> {
        self.meet(user_id, at);
        let channel = self.channel_mut(cid)?;
        if channel.members.iter().any(|member| member.user_id == user_id) {
            return Err(WorldError::Exists(user_id.to_owned()));
        }
        channel.members.push(Member::new(user_id, floor_us(at)));
        channel.updated_at = floor_us(at);
        Ok(())
    }

    /// Sets app-defined keys of a channel.
    pub fn update_channel(&mut self, cid: &str, custom: Custom, at: Timestamp) -> Result<(), WorldError> {
        let channel = self.channel_mut(cid)?;
        channel.custom.extend(custom);
        channel.updated_at = floor_us(at);
        Ok(())
    }

    /// Changes a channel in any way but its messages' ids.
    pub fn channel_mut(&mut self, cid: &str) -> Result<&mut Channel, WorldError> {
        self.channels.get_mut(cid).map(Arc::make_mut).ok_or_else(|| WorldError::NoChannel(cid.to_owned()))
    }

    fn cid_of(&self, message_id: &str) -> Result<String, WorldError> {
        self.message_cids.get(message_id).cloned().ok_or_else(|| WorldError::NoMessage(message_id.to_owned()))
    }

    fn touch(&mut self, id: &str, at: Timestamp, change: impl FnOnce(&mut Message)) -> Result<(), WorldError> {
        let moves = self.updated_at_moves_on_any_change;
        self.change_message(id, |message| {
            change(message);
            if moves {
                message.updated_at = floor_us(at);
            }
        })
    }

    fn meet(&mut self, user_id: &str, at: Timestamp) {
        if !self.users.contains_key(user_id) {
            self.add_user(User::new(user_id, user_id, floor_us(at)));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn world() -> (World, String) {
        let mut world = World::empty();
        world.add_channel(Channel::new("team", "general", at(0)).with_members(["amara", "jonas"])).unwrap();
        let id = world.send("team:general", "amara", "hello", at(10)).unwrap();
        (world, id)
    }

    #[test]
    fn messages_stay_in_order_of_time() {
        let (mut world, _) = world();
        for second in [30, 5, 20] {
            world.send("team:general", "jonas", "more", at(second)).unwrap();
        }
        let times: Vec<_> =
            world.channel("team:general").unwrap().messages.iter().map(|message| message.created_at).collect();
        assert_eq!(times, [5, 10, 20, 30].map(at));
        assert_eq!(world.channel("team:general").unwrap().last_message_at, Some(at(30)));
    }

    #[test]
    fn only_edits_move_updated_at_unless_switched() {
        let (mut world, id) = world();
        world.react(&id, "jonas", "like", at(20)).unwrap();
        world.soft_delete(&id, at(21)).unwrap();
        assert_eq!(world.message(&id).unwrap().1.updated_at, at(10));
        world.edit(&id, "hello!", at(22)).unwrap();
        assert_eq!(world.message(&id).unwrap().1.updated_at, at(22));
        world.updated_at_moves_on_any_change = true;
        world.undelete(&id, at(23)).unwrap();
        assert_eq!(world.message(&id).unwrap().1.updated_at, at(23));
        assert_eq!(world.message(&id).unwrap().1.message_text_updated_at, Some(at(22)));
    }

    #[test]
    fn a_reaction_is_one_per_user_and_type() {
        let (mut world, id) = world();
        for kind in ["like", "love", "like"] {
            world.react(&id, "jonas", kind, at(20)).unwrap();
        }
        assert_eq!(world.message(&id).unwrap().1.reactions.len(), 2);
        world.unreact(&id, "jonas", "love", at(21)).unwrap();
        assert!(world.unreact(&id, "jonas", "love", at(21)).is_err());
    }

    #[test]
    fn a_hard_delete_takes_the_thread_along() {
        let (mut world, id) = world();
        let reply = world.reply(&id, "jonas", "hi", at(11)).unwrap();
        world.hard_delete(&id).unwrap();
        assert_eq!(world.message(&reply), None);
        assert_eq!(world.message_count(), 0);
        assert_eq!(world.edit(&id, "x", at(12)), Err(WorldError::NoMessage(id)));
    }

    #[test]
    fn truncation_hides_or_destroys() {
        let (mut world, id) = world();
        world.send("team:general", "jonas", "after", at(30)).unwrap();
        world.truncate("team:general", at(20), false).unwrap();
        let channel = world.channel("team:general").unwrap();
        assert_eq!(channel.messages.iter().filter(|message| channel.hides(message)).count(), 1);
        world.truncate("team:general", at(20), true).unwrap();
        assert_eq!(world.message(&id), None);
        assert_eq!(world.message_count(), 1);
    }

    #[test]
    fn a_channel_made_again_starts_empty() {
        let (mut world, id) = world();
        assert!(world.add_channel(Channel::new("team", "general", at(40))).is_err());
        world.delete_channel("team:general", at(30), false).unwrap();
        world.add_channel(Channel::new("team", "general", at(40))).unwrap();
        assert_eq!(world.message(&id), None);
        assert_eq!(world.channel("team:general").unwrap().deleted_at, None);
    }
}
