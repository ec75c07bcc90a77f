//! An app of many channels as chatlake meets it: Stream's answers without a network, in virtual time. Each hour another fiftieth of
//! the channels has messages. An export takes twenty seconds; of all its channels one has a message in its file, so that next to
//! nothing is left of the data.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chatlake::export::{Client, Credentials, Options, SendError, Transport};
use futures::future::BoxFuture;
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Body, Request, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Result;
use super::cost::thread_cpu;

/// Of so many channels one is active in an hour.
pub(crate) const ONE_IN: u64 = 50;

const PAGE_CHANNELS: usize = 30;
const EXPORT_TAKES: SignedDuration = SignedDuration::from_secs(20);
/// 2026-01-01.
const BEGUN_MS: i64 = 1_767_225_600_000;
const HOUR_MS: i64 = 3_600_000;
/// A channel every five seconds: the millionth is there after 58 days, before the first hour.
const CREATED_EVERY_MS: i64 = 5_000;
const OLDEST_MS: i64 = BEGUN_MS - 100 * 24 * HOUR_MS;

/// What else Stream says of a channel, in each of its answers.
const CONFIG: &str = r#""frozen":false,"disabled":false,"member_count":12,"auto_translation_language":"","name":"Support for order","config":{
"created_at":"2021-03-04T09:15:02.123456789Z","updated_at":"2025-11-18T13:01:44.910111213Z","name":"messaging","typing_events":true,
"read_events":true,"connect_events":true,"search":true,"reactions":true,"replies":true,"quotes":true,"mutes":true,"uploads":true,
"url_enrichment":true,"custom_events":true,"polls":true,"shared_locations":true,"user_message_reminders":true,"push_notifications":false,
"reminders":false,"mark_messages_pending":false,"skip_last_msg_update_for_system_msgs":false,"count_messages":false,
"delivery_events":false,"push_level":"all","message_retention":"infinite","max_message_length":5000,"automod":"disabled",
"automod_behavior":"flag","blocklist_behavior":"flag","commands":[{"name":"giphy","description":"Post a random gif to the channel",
"args":"[text]","set":"fun_set"},{"name":"mute","description":"Mute a user","args":"[@username]","set":"moderation_set"}]},
"created_by":{"id":"amara","name":"Amara","image":"https://example.com/amara.png","role":"user","online":false,"banned":false,
"created_at":"2024-03-04T09:15:02.123456Z","updated_at":"2025-11-18T13:01:44.910111Z","last_active":"2026-01-01T00:00:00Z"}"#;

/// The app. Clones are the same one.
#[derive(Clone)]
pub(crate) struct App {
    channels: u64,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    exports: Vec<Export>,
    asked: Asked,
}

/// An export that was asked for.
struct Export {
    created_at: Timestamp,
    lines: String,
}

/// What an app was asked, and what the answers took of the thread that asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) queries: u64,
    pub(crate) exports: u64,
    pub(crate) channels: u64,
    pub(crate) polls: u64,
    pub(crate) cpu: Duration,
}

thread_local! {
    /// When the app's time began, on the runtime of this thread.
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn now() -> Timestamp {
    let since = BEGUN.get().map_or(Duration::ZERO, |begun| begun.elapsed());
    App::begun_at().saturating_add(since).unwrap_or(Timestamp::MAX)
}

impl App {
    /// An app of so many channels, at the beginning of its first hour.
    pub(crate) fn new(channels: u64) -> Self {
        BEGUN.set(Some(Instant::now()));
        Self { channels, shared: Arc::default() }
    }

    /// How many channels are active in an hour.
    pub(crate) fn active(&self) -> u64 {
        self.channels / ONE_IN
    }

    /// When its first hour begins.
    pub(crate) fn begun_at() -> Timestamp {
        at(BEGUN_MS)
    }

    /// What its clock shows.
    pub(crate) fn now() -> Timestamp {
        now()
    }

    /// A client as a run has one: it does not know the app's time yet.
    pub(crate) fn client(&self) -> Result<Client> {
        let credentials = Credentials::new("key", "a-secret-of-at-least-thirty-two-bytes")?;
        let options = Options { clock: now, ..Options::default() };
        let stream = Arc::new(self.clone());
        Ok(Client::over(stream.clone(), stream, credentials, "https://chat.example", options)?)
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Asked {
        self.lock().asked
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of an answer.
    fn answer(&self, request: &Request) -> Option<String> {
        let body = request.body().and_then(Body::as_bytes).unwrap_or_default();
        let mut path = request.url().path_segments()?;
        match (path.next()?, path.next()) {
            ("channels", None) => self.list(&serde_json::from_slice(body).ok()?),
            ("export_channels", None) => self.export(&serde_json::from_slice(body).ok()?),
            ("tasks", Some(number)) => self.task(number.parse().ok()?),
            ("files", Some(number)) => Some(self.lock().exports.get(number.parse::<usize>().ok()?)?.lines.clone()),
            _ => None,
        }
    }

    /// Channels in order of their creation, of those with a message since.
    fn list(&self, query: &Value) -> Option<String> {
        self.lock().asked.queries += 1;
        let conditions = &query["filter_conditions"];
        let bound = |field: &str, operator: &str| conditions[field][operator].as_str().map(millis);
        let created_from = bound("created_at", "$gte").unwrap_or(OLDEST_MS);
        let created_before = bound("created_at", "$lt").unwrap_or(i64::MAX);
        let since = bound("last_message_at", "$gte");
        let now = now().as_millisecond();
        let first = (created_from - OLDEST_MS).max(0) as u64 / CREATED_EVERY_MS as u64;
        let mut page = String::from(r#"{"channels":["#);
        let found = (first..self.channels)
            .filter(|channel| (created_from..created_before).contains(&created_ms(*channel)))
            .filter_map(|channel| match since {
                Some(since) => Some((channel, last_message_ms(channel, since, now)?)),
                None => Some((channel, BEGUN_MS)),
            });
        for (index, (channel, last_message)) in found.take(PAGE_CHANNELS).enumerate() {
            let (created_at, last_message_at) = (at(created_ms(channel)), at(last_message));
            let comma = if index > 0 { "," } else { "" };
            page += &format!(
                r#"{comma}{{"channel":{{"id":"order-{channel}","type":"messaging","cid":"messaging:order-{channel}","last_message_at":"{last_message_at}","created_at":"{created_at}","updated_at":"{created_at}",{CONFIG}}},"messages":[],"members":[],"pinned_messages":[],"threads":[],"watcher_count":0}}"#
            );
        }
        Some(page + r#"],"duration":"3.42ms"}"#)
    }

    fn export(&self, wanted: &Value) -> Option<String> {
        let channels = wanted["channels"].as_array()?;
        let lines = channels.iter().find_map(lines).unwrap_or_default();
        let mut shared = self.lock();
        shared.asked.exports += 1;
        shared.asked.channels += channels.len() as u64;
        // As long as Stream's own.
        let task_id = format!("{:036}", shared.exports.len());
        shared.exports.push(Export { created_at: now(), lines });
        Some(json!({ "task_id": task_id, "duration": "9.1ms" }).to_string())
    }

    fn task(&self, number: usize) -> Option<String> {
        let mut shared = self.lock();
        shared.asked.polls += 1;
        let Export { created_at, .. } = shared.exports.get(number)?;
        let is_done = now().duration_since(*created_at) >= EXPORT_TAKES;
        let result = is_done.then(|| json!({ "url": format!("https://files.example/files/{number}?signature=x") }));
        let status = if is_done { "completed" } else { "running" };
        let task =
            json!({ "task_id": number.to_string(), "status": status, "created_at": created_at, "result": result });
        Some(task.to_string())
    }
}

impl Transport for App {
    fn send(&self, request: Request) -> BoxFuture<'static, std::result::Result<Response, SendError>> {
        let begun = thread_cpu();
        let body = self.answer(&request);
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now()).unwrap_or_default();
        let response = http::Response::builder()
            .status(if body.is_some() { 200 } else { 404 })
            .header("date", date)
            .body(Body::from(body.unwrap_or_default()))
            .map(Response::from)
            .map_err(SendError::lost);
        self.lock().asked.cpu += thread_cpu().saturating_sub(begun);
        Box::pin(std::future::ready(response))
    }
}

/// The file of a channel that has a message in the window; nothing if it has none.
fn lines(channel: &Value) -> Option<String> {
    let bound = |name: &str| channel[name].as_str().map(millis);
    let (since, until) = (bound("messages_since")?, bound("messages_until")?);
    let id = channel["id"].as_str()?;
    let number: u64 = id.strip_prefix("order-")?.parse().ok()?;
    let sent_at = at(last_message_ms(number, since, until)?);
    let cid = format!("messaging:{id}");
    let user = json!({ "id": "amara", "name": "Amara", "created_at": at(OLDEST_MS), "updated_at": at(OLDEST_MS) });
    let lines = [
        json!({ "type": "channel", "data": { "id": id, "type": "messaging", "cid": cid, "created_at": at(created_ms(number)) } }),
        json!({ "type": "message", "data": {
            "id": format!("{number}-{}", sent_at.as_millisecond()), "cid": cid, "type": "regular", "text": "Where is it?",
            "user": user, "created_at": sent_at, "updated_at": sent_at,
        } }),
    ];
    Some(format!("{}\n{}\n", lines[0], lines[1]))
}

fn created_ms(channel: u64) -> i64 {
    OLDEST_MS + channel as i64 * CREATED_EVERY_MS
}

/// The last message of a channel up to `now`, if it is not older than `since`: one in each hour in which the channel is active.
fn last_message_ms(channel: u64, since: i64, now: i64) -> Option<i64> {
    let hour = |ms: i64| (ms - BEGUN_MS).div_euclid(HOUR_MS);
    let minute = (channel / ONE_IN % 60) as i64;
    let sent = |hour: i64| BEGUN_MS + hour * HOUR_MS + minute * 60_000 + 30_000;
    let is_active = |hour: &i64| *hour >= 0 && (channel + 7 * *hour as u64).is_multiple_of(ONE_IN);
    (hour(since)..=hour(now)).rev().filter(is_active).map(sent).find(|at| (since..=now).contains(at))
}

fn millis(text: &str) -> i64 {
    text.parse::<Timestamp>().map_or(0, Timestamp::as_millisecond)
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_default()
}
