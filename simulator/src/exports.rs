//! ExportChannels and the status of its tasks.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::answer::Answer;
use crate::api_error::ApiError;
use crate::app::State;
use crate::calls::Call;
use crate::download;
use crate::endpoint::Route;
use crate::fault::Effect;
use crate::file::{ChannelExport, ExportJob, Insertion};
use crate::filter::parse_time;
use crate::object::Object;
use crate::switches::{FailureStatus, MissingChannel, Switches, TimestampForm};
use crate::task::{Ending, Job, Progress, Task};

/// Makes an export task, or refuses the request as a whole.
pub(crate) fn request(
    state: &mut State,
    body: &Value,
    effect: Option<&Effect>,
    now: Timestamp,
    call: &mut Call,
) -> Result<Answer, ApiError> {
    only_fields(
        body,
        &[
            "channels",
            "version",
            "format",
            "include_fields",
            "export_users",
            "clear_deleted_message_text",
            "include_truncated_messages",
            "include_soft_deleted_channels",
        ],
    )?;
    let v2 = match &body["version"] {
        Value::Null => false,
        Value::String(version) if version.is_empty() || version == "v1" => false,
        Value::String(version) if version == "v2" => true,
        other => return Err(ApiError::input(format!("version must be one of [v1 v2], not {other}"))),
    };
    if !matches!(body["format"].as_str(), None | Some("" | "json")) || !body["include_fields"].is_null() {
        return Err(ApiError::input("the simulator does not implement the format csv"));
    }
    let include_soft_deleted = flag(body, "include_soft_deleted_channels")?;
    let entries = body["channels"].as_array().map(Vec::as_slice).unwrap_or_default();
    let most = state.switches.channels_per_request;
    if entries.is_empty() || entries.len() > most {
        return Err(ApiError::input(format!("channels must have 1 to {most} items, not {}", entries.len())));
    }
    let mut channels = Vec::with_capacity(entries.len());
    for entry in entries {
        let (cid, since, until) = parse_entry(entry)?;
        call.since = [call.since, since].into_iter().flatten().min();
        call.until = call.until.max(until);
        let known = state.world.channel(&cid).filter(|channel| channel.deleted_at.is_none() || include_soft_deleted);
        let Some(channel) = known else { return Err(missing(&cid, &state.switches)) };
        channels.push(ChannelExport { channel: Arc::clone(channel), since, until });
    }
    let job = ExportJob {
        users: Arc::clone(state.world.users()),
        channels,
        v2,
        export_users: flag(body, "export_users")?,
        include_truncated_messages: flag(body, "include_truncated_messages")?,
        clear_deleted_message_text: flag(body, "clear_deleted_message_text")?,
        switches: state.switches.clone(),
        insertions: insertions(effect),
    };
    Ok(accept(state, Job::Channels(job), effect, now, call))
}

/// The lines that a fault puts into a file.
pub(crate) fn insertions(effect: Option<&Effect>) -> Vec<Insertion> {
    match effect {
        Some(Effect::BadLines { lines }) => lines.clone(),
        _ => Vec::new(),
    }
}

/// The channels that a request asks for, as far as they can be told.
pub(crate) fn cids(body: &Value) -> Vec<String> {
    let entries = body["channels"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(|entry| parse_entry(entry).ok()).map(|(cid, ..)| cid).collect()
}

/// Queues the job and answers with its task id.
pub(crate) fn accept(state: &mut State, job: Job, effect: Option<&Effect>, now: Timestamp, call: &mut Call) -> Answer {
    let ending = match effect {
        Some(Effect::FailTask { description }) => Ending::Failed(description.clone()),
        Some(Effect::StuckTask) => Ending::Never,
        _ => Ending::Completed,
    };
    accept_ending(state, job, ending, now, call)
}

/// The same for a job whose end is known.
pub(crate) fn accept_ending(state: &mut State, job: Job, ending: Ending, now: Timestamp, call: &mut Call) -> Answer {
    let id = state.tasks.add(job, ending, state.switches.task_polls, now);
    let body = serde_json::json!({"task_id": id, "duration": "12.83ms"}).to_string();
    call.task_id = Some(id);
    Answer::json(201, body)
}

/// Refuses fields that no specification knows: a misspelt option must not pass for one that has no effect.
pub(crate) fn only_fields(body: &Value, known: &[&str]) -> Result<(), ApiError> {
    let Value::Object(body) = body else { return Err(ApiError::input("the body must be an object")) };
    match body.keys().find(|field| !known.contains(&field.as_str())) {
        Some(field) => Err(ApiError::input(format!("unknown field \"{field}\""))),
        None => Ok(()),
    }
}

fn flag(body: &Value, name: &str) -> Result<bool, ApiError> {
    match &body[name] {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        other => Err(ApiError::input(format!("{name} must be a boolean, not {other}"))),
    }
}

fn parse_entry(entry: &Value) -> Result<(String, Option<Timestamp>, Option<Timestamp>), ApiError> {
    only_fields(entry, &["type", "id", "cid", "messages_since", "messages_until"])?;
    let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty());
    let cid = match (text("cid"), text("type"), text("id")) {
        (Some(cid), None, None) if cid.contains(':') => cid.to_owned(),
        (None, Some(channel_type), Some(id)) => format!("{channel_type}:{id}"),
        _ => return Err(ApiError::input("each channel needs type and id, or a cid")),
    };
    let time = |name: &str| match &entry[name] {
        Value::Null => Ok(None),
        value => parse_time(value)
            .map(Some)
            .ok_or_else(|| ApiError::input(format!("{name} must be an RFC 3339 time, not {value}"))),
    };
    let (since, until) = (time("messages_since")?, time("messages_until")?);
    if since.zip(until).is_some_and(|(since, until)| since > until) {
        return Err(ApiError::input("messages_since must not be after messages_until"));
    }
    Ok((cid, since, until))
}

fn missing(cid: &str, switches: &Switches) -> ApiError {
    let message = format!("Can't find channel with cid {cid}");
    match switches.missing_channel {
        MissingChannel::NotFound => ApiError::missing(message),
        MissingChannel::InputError => ApiError::input(message),
    }
}

/// Counts a status call and tells how the task stands.
pub(crate) fn status(
    state: &mut State,
    route: &Route,
    base_url: &str,
    secret: &str,
    now: Timestamp,
) -> Result<Answer, ApiError> {
    let Some(task) = state.tasks.get_mut(&route.id) else {
        return Err(ApiError::missing(format!("Can't find task with id {}", route.id)));
    };
    let progress = task.poll(now);
    let url = download::url(base_url, &task.id, secret, state.switches.url_seconds, now);
    let timestamps = if route.v2 { TimestampForm::Nanoseconds } else { TimestampForm::Rfc3339 };
    Ok(Answer::json(200, status_body(task, progress, &url, state.switches.failure_status, timestamps)))
}

fn status_body(
    task: &Task,
    progress: Progress,
    url: &str,
    failure: FailureStatus,
    timestamps: TimestampForm,
) -> Vec<u8> {
    let status = match (progress, &task.ending, failure) {
        (Progress::Waiting, ..) => "waiting",
        (Progress::Pending, ..) => "pending",
        (Progress::Running, ..) | (Progress::Ended, Ending::Never, _) => "running",
        (Progress::Ended, Ending::Completed, _) => "completed",
        (Progress::Ended, Ending::Failed(_), FailureStatus::Failed) => "failed",
        (Progress::Ended, Ending::Failed(_), FailureStatus::Error) => "error",
    };
    let mut out = Vec::new();
    let mut o = Object::open(&mut out, timestamps);
    o.value("task_id", &task.id);
    o.value("status", status);
    o.time("created_at", task.created_at);
    o.time("updated_at", task.updated_at);
    match (status, &task.ending) {
        ("completed", _) => o.object("result", |o| {
            o.value("url", url);
            o.value("path", &format!("exports/{}/{}", folder(task), task.id));
            o.value("s3_bucket_name", "simulated-exports");
        }),
        ("failed" | "error", Ending::Failed(description)) => o.object("error", |o| {
            o.value("type", "ExportError");
            o.value("description", description);
            o.value("stacktrace", "");
            o.value("version", "1.0.0");
        }),
        _ => {}
    }
    o.value("duration", "1.27ms");
    o.close();
    out
}

fn folder(task: &Task) -> &'static str {
    match task.file.job {
        Job::Channels(_) => "channels",
        Job::Users(_) => "users",
    }
}
