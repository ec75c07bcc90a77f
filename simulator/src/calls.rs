//! The log of calls, so that a test can say what was asked and how often.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One call of the API or a download.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Call {
    /// The simulator's time.
    pub at: Timestamp,
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Operation name; `Unknown` for a route that is not implemented.
    pub endpoint: String,
    /// HTTP status; 0 when the connection was dropped without an answer.
    pub status: u16,
    /// Stream's error code; 0 when there was no error.
    pub code: i32,
    /// The channels of an export request.
    pub cids: Vec<String>,
    /// The earliest `messages_since` of an export request.
    pub since: Option<Timestamp>,
    /// The latest `messages_until` of an export request.
    pub until: Option<Timestamp>,
    /// The task that was made or asked for.
    pub task_id: Option<String>,
    /// The `Range` of a download.
    pub range: Option<String>,
    /// The effect of the fault that took the call.
    pub fault: Option<String>,
    /// The request's JSON body.
    pub body: Value,
}

/// Most calls that are kept; the oldest go first.
pub(crate) const KEPT_CALLS: usize = 100_000;
