//! Asking for exports. One channel that does not exist fails a whole request, so those are found and the rest is asked for again.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::client::Client;
use super::discovery::ChannelRef;
use super::endpoint::Endpoint;
use super::error::{ApiError, Refusal};
use super::wire;
use crate::error::{Error, Kind, Result};

/// The most channels in one request that Stream's specification allows; its documentation says 25.
pub const MAX_CHANNELS: usize = 100;

/// The format of an export's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportVersion {
    /// One JSON array.
    V1,
    /// Line-separated JSON.
    #[default]
    V2,
}

impl ExportVersion {
    /// As Stream and `--export-version` write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// What an export holds beside ordinary messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExportOptions {
    /// Messages hidden by a truncation.
    pub include_truncated_messages: bool,
    /// Channels that were deleted softly.
    pub include_soft_deleted_channels: bool,
    /// Deleted messages without their text.
    pub clear_deleted_message_text: bool,
    /// Users as well.
    pub export_users: bool,
    /// The file's format.
    pub version: ExportVersion,
}

/// One request: these channels, and their messages from `since` to `until`. The caller adds what margin it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRequest {
    /// `type:id`, at most [`MAX_CHANNELS`], each once.
    pub cids: Vec<String>,
    /// `messages_since`.
    pub since: Timestamp,
    /// `messages_until`.
    pub until: Timestamp,
    /// What else.
    pub options: ExportOptions,
}

/// An export that Stream has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportTask {
    /// Stream's id of it.
    pub task_id: String,
    /// Stream's time when it answered.
    pub requested_at: Timestamp,
    /// The channels in it; for a user export the users.
    pub cids: Vec<String>,
}

/// One answer to a request.
#[derive(Debug)]
pub enum Asked {
    /// Stream has begun an export.
    Task(ExportTask),
    /// Channels that Stream does not know: they are left out.
    Missing(Vec<String>),
    /// Channels whose request was sent and not answered: Stream may have begun an export that nobody can name.
    Unanswered(Vec<String>, Error),
}

/// A request being made: usually one call and one task, more if channels are missing. Every channel of it ends in exactly one
/// answer.
#[derive(Debug)]
pub struct Asking {
    client: Client,
    request: ExportRequest,
    /// What is left to ask for, the next group last.
    groups: Vec<Vec<String>>,
}

impl Client {
    /// Prepares a request. Nothing is sent yet.
    pub fn asking(&self, request: ExportRequest) -> Result<Asking> {
        check(&request)?;
        let groups = vec![request.cids.clone()];
        Ok(Asking { client: self.clone(), request, groups })
    }
}

impl Asking {
    /// The next answer; none when all is answered. Missing channels that a refusal names are left out and the rest is asked for in
    /// one request again; if it names none, halves are asked for, each of which makes a task of its own.
    /// An error means that Stream has refused: no task was made.
    pub async fn next(&mut self) -> Result<Option<Asked>> {
        // Depth first and in order; each round takes a group away or makes it smaller, so it ends.
        while let Some(group) = self.groups.pop() {
            let error = match self.client.export_once(&self.request, &group).await {
                Ok(task) => return Ok(Some(Asked::Task(task))),
                Err(error) => error,
            };
            if error.is_unanswered() {
                return Ok(Some(Asked::Unanswered(group, error.into())));
            }
            let Some(refusal) = error.refusal().filter(|refusal| is_missing_channel(refusal)) else {
                self.groups.push(group);
                return Err(error.into());
            };
            let named = named_in(&refusal.message, &group);
            if group.len() == 1 || !named.is_empty() {
                let named = if named.is_empty() { group.iter().cloned().collect() } else { named };
                let (missing, rest): (Vec<_>, Vec<_>) = group.into_iter().partition(|cid| named.contains(cid));
                warn!(channels = ?missing, "Stream does not know these channels: left out of the export");
                self.groups.extend((!rest.is_empty()).then_some(rest));
                return Ok(Some(Asked::Missing(missing)));
            }
            info!(channels = group.len(), "a channel of the request does not exist: looking for it by halves");
            let second = group[group.len() / 2..].to_vec();
            let mut first = group;
            first.truncate(first.len() / 2);
            self.groups.extend([second, first]);
        }
        Ok(None)
    }
}

impl Client {
    pub(super) async fn export_once(&self, request: &ExportRequest, cids: &[String]) -> Result<ExportTask, ApiError> {
        let ExportRequest { since, until, options, .. } = request;
        let channels = cids.iter().filter_map(|cid| cid.split_once(':')).map(|(channel_type, id)| {
            wire::ChannelExport { channel_type, id, messages_since: *since, messages_until: *until }
        });
        let body = wire::ExportChannels {
            channels: channels.collect(),
            version: options.version.as_str(),
            export_users: options.export_users,
            clear_deleted_message_text: options.clear_deleted_message_text,
            include_truncated_messages: options.include_truncated_messages,
            include_soft_deleted_channels: options.include_soft_deleted_channels,
        };
        let answer = self.post::<wire::TaskCreated>(Endpoint::ExportChannels, &["export_channels"], &body).await?;
        Ok(ExportTask { task_id: answer.body.task_id, requested_at: answer.at, cids: cids.to_vec() })
    }
}

fn check(request: &ExportRequest) -> Result<()> {
    let mut once = HashSet::new();
    let message = if request.cids.is_empty() || request.cids.len() > MAX_CHANNELS {
        format!("{} channels in one export, where Stream takes 1 to {MAX_CHANNELS}", request.cids.len())
    } else if let Some(cid) = request.cids.iter().find(|cid| ChannelRef::from_cid(cid).is_none()) {
        format!("`{cid}` is no channel cid: use type:id, such as messaging:general")
    } else if let Some(cid) = request.cids.iter().find(|cid| !once.insert(cid.as_str())) {
        format!("channel `{cid}` is twice in one export")
    } else if request.since >= request.until {
        format!("an export from {} to {} is empty", request.since, request.until)
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::Usage, message))
}

fn is_missing_channel(refusal: &Refusal) -> bool {
    refusal.is_missing() && (refusal.code == Some(16) || refusal.message.to_lowercase().contains("channel"))
}

/// The channels of the group that a refusal names. A channel wrongly left out would be lost, so only a whole cid counts, or a type
/// and an id after the words `find channel`, and no word that such a message is made of.
fn named_in(message: &str, group: &[String]) -> HashSet<String> {
    let words = |text: &'_ str| -> HashSet<String> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-!:".contains(c)))
            .map(|word| word.trim_matches(':').to_owned())
            .collect()
    };
    let all = words(message);
    let by_cid: HashSet<_> = group.iter().filter(|cid| all.contains(*cid)).cloned().collect();
    let lower = message.to_ascii_lowercase();
    let Some(tail) = lower.find("find channel").map(|start| words(&message[start + "find channel".len()..])) else {
        return by_cid;
    };
    if !by_cid.is_empty() {
        return by_cid;
    }
    const ORDINARY: [&str; 12] =
        ["with", "type", "and", "id", "ids", "channel", "channels", "cid", "the", "for", "in", "of"];
    let by_parts = group.iter().filter(|cid| {
        cid.split_once(':').is_some_and(|(channel_type, id)| {
            tail.contains(channel_type) && tail.contains(id) && channel_type != id && !ORDINARY.contains(&id)
        })
    });
    by_parts.cloned().collect()
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
