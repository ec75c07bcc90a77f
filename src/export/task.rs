//! Following an export task to its file: when to ask, and what the answers mean.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::debug;
use url::Url;

use super::client::Client;
use super::endpoint::Endpoint;
use super::error::{ApiError, excerpt};
use super::request::ExportTask;
use super::wire;
use crate::error::{Error, Kind};

/// How often a task may be finished without a URL, or unknown to Stream just after it was made, before that counts.
const PATIENCE_POLLS: u32 = 5;

/// A URL that is a key to the file for a day: shown without its path and query.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedUrl(Url);

impl SignedUrl {
    /// Parses an http or https URL; none if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let url: Url = text.parse().ok()?;
        (matches!(url.scheme(), "http" | "https") && url.host().is_some()).then_some(Self(url))
    }

    /// The URL itself, to fetch and for nothing else.
    pub(super) fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/<redacted>", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A finished task's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFile {
    /// The task.
    pub task_id: String,
    /// When Stream created the task: nothing in the file is newer than what was there some time after this.
    pub exported_at: Timestamp,
    /// Where the file is, for the next 24 hours.
    pub url: SignedUrl,
}

/// What one status call shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Not finished, as far as Stream says.
    Running {
        /// Stream's word for it.
        status: String,
        /// When Stream created the task.
        created_at: Option<Timestamp>,
    },
    /// Finished, but there is no URL yet.
    NoUrl,
    /// Finished.
    Completed {
        /// Where the file is.
        url: SignedUrl,
        /// When Stream created the task.
        created_at: Option<Timestamp>,
    },
    /// Failed for good.
    Failed {
        /// Stream's reason.
        description: String,
    },
    /// Stream does not know the task.
    Unknown,
}

/// Why a task brings no file.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Stream failed it.
    #[error("Stream failed export task {task_id}: {description}")]
    Failed {
        /// The task.
        task_id: String,
        /// Stream's reason.
        description: String,
    },
    /// Not finished in time.
    #[error("export task {task_id} has not finished after {age:#}")]
    Overdue {
        /// The task.
        task_id: String,
        /// Its age by Stream's clock.
        age: SignedDuration,
    },
    /// Stream does not know it, or not any more: ask for the export again.
    #[error("Stream does not know export task {task_id}")]
    Unknown {
        /// The task.
        task_id: String,
    },
    /// Finished, and without a URL.
    #[error("export task {task_id} is completed, but Stream gives no URL for its file")]
    NoUrl {
        /// The task.
        task_id: String,
    },
    /// The status call failed.
    #[error("cannot ask for an export task's status")]
    Api(#[from] ApiError),
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        let message = error.to_string();
        match error {
            TaskError::Failed { .. } => Self::new(Kind::ExportFailed, message).hint(
                "a later run asks for these channels again; if it stays so, contact Stream's support with the task id",
            ),
            TaskError::Overdue { .. } => Self::new(Kind::Temporary, message).hint(
                "run the same command again: it follows the same task as long again; --task-deadline sets the limit",
            ),
            TaskError::Unknown { .. } | TaskError::NoUrl { .. } => {
                Self::new(Kind::Temporary, message).hint("run the same command again: it asks for a new export")
            }
            TaskError::Api(error) => error.into(),
        }
    }
}

/// How long to wait before the next status call, after so many: half a second, doubling up to a minute, so that a task of `m`
/// minutes is asked for at most `10 + m` times. Jitter only adds, so tasks of one batch drift apart.
fn poll_wait(polls: u32, random: f64) -> Duration {
    let base = Duration::from_millis(500).saturating_mul(1 << polls.saturating_sub(1).min(7));
    base.mul_f64(1.0 + 0.25 * random.clamp(0.0, 1.0)).min(Duration::from_secs(60))
}

fn state(task: wire::Task) -> TaskState {
    let wire::Task { status, created_at, result, error } = task;
    let url = result.get("url").and_then(Value::as_str).filter(|url| !url.is_empty());
    match (status.as_str(), description(&error), url.and_then(SignedUrl::parse)) {
        ("completed", None, Some(url)) => TaskState::Completed { url, created_at },
        ("completed", None, None) => TaskState::NoUrl,
        ("failed" | "error", description, _) => {
            TaskState::Failed { description: description.unwrap_or_else(|| "no reason given".to_owned()) }
        }
        (_, Some(description), _) => TaskState::Failed { description },
        (_, None, _) => TaskState::Running { status: excerpt(&status, 40), created_at },
    }
}

/// Stream's reason, if `error` holds one: it may be present and empty on success.
fn description(error: &Value) -> Option<String> {
    let text = match error {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let field = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            match (field("type"), field("description").or(field("message"))) {
                (Some(kind), Some(text)) => format!("{text} ({kind})"),
                (Some(text), None) | (None, Some(text)) => text.to_owned(),
                (None, None) => return None,
            }
        }
        _ => return None,
    };
    let text = excerpt(&text, 500);
    (!text.is_empty()).then_some(text)
}

impl Client {
    /// One status call, which also renews the file's URL.
    pub async fn task_state(&self, task_id: &str) -> Result<TaskState, ApiError> {
        match self.get::<wire::Task>(Endpoint::GetTask, &["tasks", task_id]).await {
            Ok(answer) => Ok(state(answer.body)),
            Err(error) if error.refusal().is_some_and(super::Refusal::is_missing) => Ok(TaskState::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Follows a task until its file is there, it failed, or it is older than `deadline`. Also for tasks of earlier runs.
    pub async fn wait_for_task(&self, task: &ExportTask, deadline: SignedDuration) -> Result<TaskFile, TaskError> {
        let random = self.options().random;
        follow(task, deadline, || self.now(), random, async || self.task_state(&task.task_id).await).await
    }
}

async fn follow(
    task: &ExportTask,
    deadline: SignedDuration,
    now: impl Fn() -> Timestamp,
    random: impl Fn() -> f64,
    mut ask: impl AsyncFnMut() -> Result<TaskState, ApiError>,
) -> Result<TaskFile, TaskError> {
    let task_id = task.task_id.clone();
    let mut created_at = task.requested_at;
    // One that an earlier run had begun may be old and still be worked on.
    let begun_at = now();
    let (mut polls, mut without_url, mut unknown) = (0u32, 0u32, 0u32);
    loop {
        let age = now().duration_since(created_at);
        let waited = now().duration_since(begun_at);
        polls += 1;
        match ask().await? {
            TaskState::Completed { url, created_at: at } => {
                return Ok(TaskFile { task_id, exported_at: at.unwrap_or(created_at), url });
            }
            TaskState::Failed { description } => return Err(TaskError::Failed { task_id, description }),
            TaskState::NoUrl => {
                without_url += 1;
                if without_url > PATIENCE_POLLS {
                    return Err(TaskError::NoUrl { task_id });
                }
            }
            TaskState::Unknown => {
                unknown += 1;
                // A task just made may not have reached every server of Stream's.
                if unknown > PATIENCE_POLLS || age > SignedDuration::from_mins(5) {
                    return Err(TaskError::Unknown { task_id });
                }
            }
            TaskState::Running { status, created_at: at } => {
                created_at = at.unwrap_or(created_at);
                debug!(task_id, status, polls, "the export is not finished");
            }
        }
        if waited >= deadline {
            return Err(TaskError::Overdue { task_id, age });
        }
        tokio::time::sleep(poll_wait(polls, random())).await;
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
