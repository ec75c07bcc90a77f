//! Asking for exports of users: of several by a task, and of one at once.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::client::Client;
use super::endpoint::Endpoint;
use super::error::{ApiError, Refusal};
use super::request::ExportTask;
use super::wire;
use crate::error::{Error, Result};

/// The most users in one request, by Stream's specification and its documents.
pub const MAX_USERS: usize = 25;

/// The answer to a request for an export of users.
#[derive(Debug)]
pub enum AskedUsers {
    /// Stream has begun it.
    Task(ExportTask),
    /// Stream does not export these users together.
    Refused(Refusal),
    /// The request was sent and not answered: Stream may have begun an export that nobody can name.
    Unanswered(Error),
}

/// All that Stream has of a user.
#[derive(Debug)]
pub struct ExportedUser {
    /// Stream's time when it answered.
    pub exported_at: Timestamp,
    /// The answer as lines, each an entity under the name of its kind.
    pub lines: Bytes,
}

impl Client {
    /// Asks for an export of these users, at most [`MAX_USERS`]. An error means that no task was made.
    pub async fn ask_for_users(&self, user_ids: &[String]) -> Result<AskedUsers> {
        let body = wire::ExportUsers { user_ids };
        let answer = self.post::<wire::TaskCreated>(Endpoint::ExportUsers, &["export", "users"], &body).await;
        let error = match answer {
            Ok(answer) => {
                let (task_id, requested_at) = (answer.body.task_id, answer.at);
                return Ok(AskedUsers::Task(ExportTask { task_id, requested_at, cids: user_ids.to_vec() }));
            }
            Err(error) => error,
        };
        match error.refusal().filter(|refusal| refusal.is_about_request()) {
            Some(refusal) => Ok(AskedUsers::Refused(refusal.clone())),
            None if error.is_unanswered() => Ok(AskedUsers::Unanswered(error.into())),
            None => Err(error.into()),
        }
    }

    /// All that Stream has of a user, in one answer. Asking twice costs nothing but a place in the rate limit.
    pub async fn export_user(&self, user_id: &str) -> Result<ExportedUser, ApiError> {
        let path = ["users", user_id, "export"];
        let answer = self.get::<BTreeMap<String, Box<RawValue>>>(Endpoint::ExportUser, &path).await?;
        Ok(ExportedUser { exported_at: answer.at, lines: lines_of(&answer.body) })
    }
}

impl Refusal {
    /// Those of these users whom it names.
    pub fn named<'u>(&self, user_ids: &'u [String]) -> HashSet<&'u str> {
        let is_of_id = |c: char| c.is_alphanumeric() || "@_-".contains(c);
        let words: HashSet<&str> = self.message.split(|c| !is_of_id(c)).collect();
        user_ids.iter().map(String::as_str).filter(|id| words.contains(id)).collect()
    }
}

/// `{user, messages, reactions}` as lines. What else is in it stays under its own key.
fn lines_of(answer: &BTreeMap<String, Box<RawValue>>) -> Bytes {
    let mut lines = Vec::new();
    let mut line = |key: &str, value: &RawValue| {
        let key = serde_json::Value::from(key);
        // A newline may stand between values, and nowhere else in JSON.
        let value = value.get().replace(['\n', '\r'], " ");
        lines.extend_from_slice(format!("{{{key}:{value}}}\n").as_bytes());
    };
    let told = answer.iter().filter(|(key, value)| *key != "duration" && value.get() != "null");
    for (key, value) in told {
        match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
            Ok(items) => items.into_iter().for_each(|item| line(key, item)),
            Err(_) => line(key, value),
        }
    }
    lines.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Kind;
    use crate::export::scripted::{Reply, Scripted};

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_request_makes_a_task_or_is_refused_or_lost() {
        let server = Scripted::queue([
            Reply::json(201, json!({ "task_id": "t", "duration": "1ms" })),
            Reply::error(404, 16, "Can't find user with id gone"),
            Reply::error(400, 4, "user busy has more than 10000 messages"),
            Reply::silence(),
            Reply::error(403, 17, "not allowed"),
        ])
        .await;
        let client = server.client();
        let ask = async || client.ask_for_users(&ids(&["ada", "gone"])).await;
        assert!(matches!(ask().await.unwrap(), AskedUsers::Task(task) if task.cids == ["ada", "gone"]));
        assert!(matches!(ask().await.unwrap(), AskedUsers::Refused(refusal) if refusal.is_missing()));
        assert!(matches!(ask().await.unwrap(), AskedUsers::Refused(refusal) if !refusal.is_missing()));
        assert!(matches!(ask().await.unwrap(), AskedUsers::Unanswered(error) if error.kind() == Kind::Temporary));
        assert_eq!(ask().await.unwrap_err().kind(), Kind::Permission);
        assert_eq!(server.lines(), ["POST /export/users"; 5]);
    }

    #[tokio::test]
    async fn one_user_comes_as_lines() {
        let body = json!({
            "user": { "id": "ada" }, "messages": [{ "id": "m", "text": "a\nb" }, { "id": "n" }], "reactions": null,
            "calls": [{ "id": "c" }], "duration": "8ms", "more": 1,
        });
        let text = serde_json::to_string_pretty(&body).unwrap();
        let server = Scripted::queue([Reply::bytes(200, text)]).await;
        let found = server.client().export_user("a/b").await.unwrap();
        let lines: Vec<serde_json::Value> =
            found.lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        assert_eq!(
            lines,
            [
                json!({ "calls": { "id": "c" } }),
                json!({ "messages": { "id": "m", "text": "a\nb" } }),
                json!({ "messages": { "id": "n" } }),
                json!({ "more": 1 }),
                json!({ "user": { "id": "ada" } }),
            ]
        );
        assert_eq!(server.lines(), ["GET /users/a%2Fb/export"]);
    }

    #[test]
    fn a_refusal_names_whole_ids_only() {
        let refusal = |message: &str| Refusal {
            status: 404,
            code: Some(16),
            message: message.to_owned(),
            unrecoverable: false,
            wait: None,
        };
        let users = ids(&["ada", "ada-2", "user", "bob"]);
        assert_eq!(refusal("Can't find \"ada-2\".").named(&users), ["ada-2"].into());
        assert_eq!(refusal("Can't find user with id bob").named(&users), ["bob", "user"].into());
        assert_eq!(refusal("no such thing").named(&users), [].into());
    }
}
