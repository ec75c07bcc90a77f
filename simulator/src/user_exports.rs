//! ExportUser and ExportUsers.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::answer::Answer;
use crate::api_error::ApiError;
use crate::app::State;
use crate::calls::Call;
use crate::exports::{accept, only_fields};
use crate::fault::Effect;
use crate::file::{UserExportJob, list};
use crate::payload::{Payload, Style, Threads};
use crate::task::Job;
use crate::world::World;

const MOST_USERS: usize = 25;
const MOST_ENTITIES: usize = 10_000;

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
    let job = UserExportJob {
        users: Arc::clone(state.world.users()),
        channels: state.world.channels().cloned().collect(),
        user_ids,
        switches: state.switches.clone(),
    };
    Ok(accept(state, Job::Users(job), effect, now, call))
}

/// One user with all messages and reactions, at once. `user` is null inside them on the legacy path, as in real answers.
pub(crate) fn export(world: &World, id: &str, v2: bool) -> Result<Answer, ApiError> {
    let written =
        || world.channels().flat_map(|channel| channel.messages.iter().map(move |message| (channel, message)));
    let messages: Vec<_> = written().filter(|(_, message)| message.user_id.as_deref() == Some(id)).collect();
    let reactions: Vec<_> = written()
        .flat_map(|(_, message)| message.reactions.iter().map(move |reaction| (message, reaction)))
        .filter(|(_, reaction)| reaction.user_id == id)
        .collect();
    if !world.users().contains_key(id) {
        return Err(ApiError::missing(format!("Can't find user with id {id}")));
    }
    if messages.len() > MOST_ENTITIES || reactions.len() > MOST_ENTITIES {
        return Err(ApiError::input(format!("user {id} has more than {MOST_ENTITIES} messages or reactions")));
    }
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
    out.extend_from_slice(b",\"duration\":\"8.11ms\"}");
    Ok(Answer::json(200, out))
}
