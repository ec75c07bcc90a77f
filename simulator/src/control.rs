//! Control over HTTP: what the library offers, for tests in other languages and for the curious.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, Question};
use crate::app::State;
use crate::clock::Clock;
use crate::entity::{Channel, Message, User};
use crate::fault::Fault;
use crate::truth::{self, TruthOptions};

/// What `POST /control/<verb>` does; the body holds the fields. Without `at`, it happens now.
#[derive(Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    Send {
        cid: String,
        user_id: String,
        text: String,
        parent_id: Option<String>,
        id: Option<String>,
        at: Option<Timestamp>,
    },
    Edit {
        message_id: String,
        text: String,
        at: Option<Timestamp>,
    },
    Delete {
        message_id: String,
        #[serde(default)]
        hard: bool,
        at: Option<Timestamp>,
    },
    Undelete {
        message_id: String,
        at: Option<Timestamp>,
    },
    React {
        message_id: String,
        user_id: String,
        r#type: String,
        at: Option<Timestamp>,
    },
    Unreact {
        message_id: String,
        user_id: String,
        r#type: String,
        at: Option<Timestamp>,
    },
    Pin {
        message_id: String,
        user_id: String,
        at: Option<Timestamp>,
    },
    Truncate {
        cid: String,
        #[serde(default)]
        hard: bool,
        at: Option<Timestamp>,
    },
    DeleteChannel {
        cid: String,
        #[serde(default)]
        hard: bool,
        at: Option<Timestamp>,
    },
    AddChannel {
        channel: Box<Channel>,
    },
    AddMessage {
        cid: String,
        message: Box<Message>,
    },
    AddUser {
        user: Box<User>,
    },
    AddMember {
        cid: String,
        user_id: String,
        at: Option<Timestamp>,
    },
    Clock {
        advance_seconds: Option<i64>,
        fixed_at: Option<Timestamp>,
    },
    CompleteTasks,
    Switches {
        switches: Value,
    },
    Fault {
        fault: Box<Fault>,
    },
}

pub(crate) fn answer(state: &mut State, question: &Question, verb: &str) -> Answer {
    let outcome = match (question.method.as_str(), verb) {
        ("GET", "truth") => {
            let on = |name| matches!(question.parameter(name), Some("true" | "1"));
            let options = TruthOptions {
                include_truncated_messages: on("include_truncated_messages"),
                include_soft_deleted_channels: on("include_soft_deleted_channels"),
            };
            serde_json::to_value(truth::of(&state.world, options)).map_err(|error| error.to_string())
        }
        ("GET", "calls") => serde_json::to_value(&state.calls).map_err(|error| error.to_string()),
        ("GET", "faults") => serde_json::to_value(&state.faults).map_err(|error| error.to_string()),
        ("GET", "switches") => serde_json::to_value(&state.switches).map_err(|error| error.to_string()),
        ("GET", "clock") => Ok(json!({"now": state.clock.now()})),
        ("DELETE", "calls") => {
            state.calls.clear();
            Ok(json!({}))
        }
        ("DELETE", "faults") => {
            state.faults.clear();
            Ok(json!({}))
        }
        ("POST", verb) => command(verb, &question.body).and_then(|command| run(state, command)),
        (method, verb) => return problem(404, &format!("there is no {method} /control/{verb}")),
    };
    match outcome {
        Ok(value) => Answer::json(200, value.to_string()),
        Err(error) => problem(400, &error),
    }
}

fn problem(status: u16, error: &str) -> Answer {
    Answer::json(status, json!({"error": error}).to_string())
}

fn command(verb: &str, body: &[u8]) -> Result<Command, String> {
    let mut body: Value =
        if body.is_empty() { json!({}) } else { serde_json::from_slice(body).map_err(|error| error.to_string())? };
    // Switches and faults are bodies as they stand.
    if matches!(verb, "switches" | "fault") {
        body = json!({ verb: body });
    }
    match &mut body {
        Value::Object(fields) => fields.insert("verb".into(), verb.into()),
        _ => return Err("the body must be an object".into()),
    };
    serde_json::from_value(body).map_err(|error| error.to_string())
}

fn run(state: &mut State, command: Command) -> Result<Value, String> {
    let now = state.clock.now();
    let world = &mut state.world;
    let done = match command {
        Command::Send { cid, user_id, text, parent_id, id, at } => {
            let message =
                Message { parent_id, ..Message::new(id.unwrap_or_default(), user_id, text, at.unwrap_or(now)) };
            return world.add_message(&cid, message).map(|id| json!({"id": id})).map_err(|error| error.to_string());
        }
        Command::AddMessage { cid, message } => {
            return world.add_message(&cid, *message).map(|id| json!({"id": id})).map_err(|error| error.to_string());
        }
        Command::AddChannel { channel } => {
            return world.add_channel(*channel).map(|cid| json!({"cid": cid})).map_err(|error| error.to_string());
        }
        Command::Edit { message_id, text, at } => world.edit(&message_id, &text, at.unwrap_or(now)),
        Command::Delete { message_id, hard: false, at } => world.soft_delete(&message_id, at.unwrap_or(now)),
        Command::Delete { message_id, hard: true, at: _ } => world.hard_delete(&message_id),
        Command::Undelete { message_id, at } => world.undelete(&message_id, at.unwrap_or(now)),
        Command::React { message_id, user_id, r#type, at } => {
            world.react(&message_id, &user_id, &r#type, at.unwrap_or(now))
        }
        Command::Unreact { message_id, user_id, r#type, at } => {
            world.unreact(&message_id, &user_id, &r#type, at.unwrap_or(now))
        }
        Command::Pin { message_id, user_id, at } => world.pin(&message_id, &user_id, at.unwrap_or(now)),
        Command::Truncate { cid, hard, at } => world.truncate(&cid, at.unwrap_or(now), hard),
        Command::DeleteChannel { cid, hard, at } => world.delete_channel(&cid, at.unwrap_or(now), hard),
        Command::AddMember { cid, user_id, at } => world.add_member(&cid, &user_id, at.unwrap_or(now)),
        Command::AddUser { user } => {
            world.add_user(*user);
            Ok(())
        }
        Command::Clock { advance_seconds, fixed_at } => {
            if let Some(at) = fixed_at {
                state.clock = Clock::Fixed { at };
            }
            state.clock.advance(SignedDuration::from_secs(advance_seconds.unwrap_or(0)));
            return Ok(json!({"now": state.clock.now()}));
        }
        Command::CompleteTasks => {
            state.tasks.complete_all();
            Ok(())
        }
        Command::Switches { switches } => {
            let merged = state.switches.merged(&switches).map_err(|error| error.to_string())?;
            state.set_switches(merged);
            Ok(())
        }
        Command::Fault { fault } => {
            state.faults.push(*fault);
            Ok(())
        }
    };
    done.map(|()| json!({})).map_err(|error| error.to_string())
}
