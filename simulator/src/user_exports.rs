//! ExportUser and ExportUsers.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::api_error::ApiError;
use crate::app::State;
use crate::calls::Call;
use crate::entity::{Channel, Message, Reaction, User};
use crate::exports::{accept, accept_ending, insertions, only_fields};
use crate::fault::Effect;
use crate::file::{Insertion, Kind, Lines, insert_all, list, packed};
use crate::object::json;
use crate::payload::{Payload, Style, Threads};
use crate::switches::{Authors, Envelope, Switches, TooMuch};
use crate::task::{Ending, Job};
use crate::world::World;

const MOST_USERS: usize = 25;

/// Makes a task that exports these users with what they wrote.
pub(crate) fn request(
    state: &mut State,
    body: &Value,
    effect: Option<&Effect>,
    now: Timestamp,
    call: &mut Call,
) -> Result<Answer, ApiError> {
    only_fields(body, &["user_ids"])?;
    let ids = body["user_ids"].as_array().map(Vec::as_slice).unwrap_or_default();
    if ids.is_empty() || ids.len() > MOST_USERS {
        return Err(ApiError::input(format!("user_ids must have 1 to {MOST_USERS} items, not {}", ids.len())));
    }
    let mut user_ids = Vec::new();
    for id in ids {
        let id = id.as_str().ok_or_else(|| ApiError::input("user_ids must be strings"))?;
        if !state.world.users().contains_key(id) {
            return Err(ApiError::missing(format!("Can't find user with id {id}")));
        }
        user_ids.push(id.to_owned());
    }
    let excess = user_ids.iter().find_map(|id| excess(&state.world, id, &state.switches));
    let job = UserExportJob {
        users: Arc::clone(state.world.users()),
        channels: state.world.channels().cloned().collect(),
        user_ids,
        switches: state.switches.clone(),
        insertions: insertions(effect),
    };
    match (excess, state.switches.too_much) {
        (None, _) => Ok(accept(state, Job::Users(job), effect, now, call)),
        (Some(why), TooMuch::IsRefused) => Err(ApiError::input(why)),
        // Who it is, a task does not tell.
        (Some(_), TooMuch::FailsTask) => {
            Ok(accept_ending(state, Job::Users(job), Ending::Failed("a user has too much".into()), now, call))
        }
    }
}

/// What users wrote: messages, and reactions with the messages that they are to.
struct Written<'a> {
    messages: Vec<(&'a Channel, &'a Message)>,
    reactions: Vec<(&'a Message, &'a Reaction)>,
}

impl<'a> Written<'a> {
    fn by(channels: impl Iterator<Item = &'a Arc<Channel>>, id: &str) -> Self {
        let mut written = Self { messages: Vec::new(), reactions: Vec::new() };
        for channel in channels {
            for message in &channel.messages {
                if message.user_id.as_deref() == Some(id) {
                    written.messages.push((channel, message));
                }
                let theirs = message.reactions.iter().filter(|reaction| reaction.user_id == id);
                written.reactions.extend(theirs.map(|reaction| (message, reaction)));
            }
        }
        written
    }
}

/// Why a user is too much for an export.
fn excess(world: &World, id: &str, switches: &Switches) -> Option<String> {
    let Written { messages, reactions } = Written::by(world.channels(), id);
    let most = switches.entities_per_user;
    (messages.len() > most || reactions.len() > most)
        .then(|| format!("user {id} has more than {most} messages or reactions"))
}

/// One user with all messages and reactions, at once. `user` is null inside them on the legacy path, as in real answers.
pub(crate) fn export(world: &World, id: &str, switches: &Switches, v2: bool) -> Result<Answer, ApiError> {
    if !world.users().contains_key(id) {
        return Err(ApiError::missing(format!("Can't find user with id {id}")));
    }
    if let Some(why) = excess(world, id, switches) {
        return Err(ApiError::input(why));
    }
    let Written { messages, reactions } = Written::by(world.channels(), id);
    let style = if v2 { Style::V2 } else { Style::LEGACY };
    let nobody = BTreeMap::new();
    let outer = Payload::new(style, world.users());
    let inner = Payload::new(style, if v2 { world.users() } else { &nobody });
    let mut out = b"{\"user\":".to_vec();
    outer.user(&mut out, id);
    out.extend_from_slice(b",\"messages\":");
    list(&mut out, messages, |out, (channel, message)| inner.message(out, channel, &Threads::default(), message));
    out.extend_from_slice(b",\"reactions\":");
    list(&mut out, reactions, |out, (message, reaction)| inner.reaction(out, &message.id, reaction));
    if switches.calls_and_devices {
        out.extend_from_slice(b",\"calls\":");
        list(&mut out, [call(id)], |out, call| json(out, &call));
    }
    out.extend_from_slice(b",\"duration\":\"8.11ms\"}");
    Ok(Answer::json(200, out))
}

/// What an export of users holds, line by line.
#[derive(Clone, Debug)]
pub(crate) struct UserExportJob {
    users: Arc<BTreeMap<String, User>>,
    channels: Vec<Arc<Channel>>,
    user_ids: Vec<String>,
    pub(crate) switches: Switches,
    insertions: Vec<Insertion>,
}

impl UserExportJob {
    /// The file as it is downloaded.
    pub(crate) fn write(&self) -> Vec<u8> {
        let switches = &self.switches;
        let style = Style {
            timestamps: switches.timestamps,
            custom: switches.custom,
            users: switches.users,
            address: switches.address,
            complete: false,
            clear_deleted_text: false,
            deleted_type: switches.deleted_type,
        };
        let nobody = BTreeMap::new();
        let outer = Payload::new(style, &self.users);
        let (inner_style, inner_users) = match switches.authors {
            Authors::Named => (style, &*self.users),
            Authors::Null => (Style { users: Default::default(), ..style }, &nobody),
        };
        let inner = Payload::new(inner_style, inner_users);
        let envelope = match switches.envelope {
            Envelope::Element => Envelope::TypeData,
            envelope => envelope,
        };
        let mut lines = Lines::new(envelope, switches.kind_names);
        for user_id in &self.user_ids {
            lines.line(Kind::User, |out| outer.user(out, user_id));
            for channel in &self.channels {
                let threads = Threads::of(channel);
                for message in &channel.messages {
                    if message.user_id.as_ref() == Some(user_id) {
                        lines.line(Kind::Message, |out| inner.message(out, channel, &threads, message));
                    }
                    for reaction in message.reactions.iter().filter(|reaction| reaction.user_id == *user_id) {
                        lines.line(Kind::Reaction, |out| inner.reaction(out, &message.id, reaction));
                    }
                }
            }
            if switches.calls_and_devices {
                lines.line(Kind::Call, |out| json(out, &call(user_id)));
                lines.line(Kind::Device, |out| json(out, &device(user_id)));
            }
        }
        let mut file = lines.file;
        insert_all(&mut file, &self.insertions);
        packed(file, switches.compression)
    }
}

/// A call that a user has made.
fn call(user_id: &str) -> Value {
    json!({
        "id": format!("call-of-{user_id}"), "type": "default", "cid": format!("default:call-of-{user_id}"), "backstage": false,
        "created_by": { "id": user_id }, "created_at": "2026-01-05T10:00:00Z", "current_session_id": "",
    })
}

/// A device that a user has.
fn device(user_id: &str) -> Value {
    json!({ "id": format!("token-of-{user_id}"), "push_provider": "apn", "user_id": user_id, "created_at": "2025-06-01T00:00:00Z" })
}
