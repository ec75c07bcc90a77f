//! Asynchronous tasks and the files they leave.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::file::ExportJob;
use crate::user_exports::UserExportJob;

/// What a task makes.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Channels(ExportJob),
    Users(UserExportJob),
}

/// A file, written when it is first asked for; its content was decided when the task was made.
#[derive(Debug)]
pub(crate) struct TaskFile {
    pub(crate) job: Job,
    content: OnceLock<Content>,
}

/// What is in a file.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    /// SHA-256 of it: 12 bytes in hexadecimal.
    pub(crate) hash: String,
}

impl TaskFile {
    pub(crate) fn content(&self) -> &Content {
        self.content.get_or_init(|| {
            let bytes = Bytes::from(match &self.job {
                Job::Channels(job) => job.write(),
                Job::Users(job) => job.write(),
            });
            let hash = hex(&Sha256::digest(&bytes), 12);
            Content { bytes, hash }
        })
    }
}

fn hex(bytes: &[u8], count: usize) -> String {
    bytes.iter().take(count).map(|byte| format!("{byte:02x}")).collect()
}

/// How a task ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Completed,
    Failed(String),
    Never,
}

/// One task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) file: Arc<TaskFile>,
    pub(crate) ending: Ending,
    /// Moved by a fault: another value, another `ETag`.
    pub(crate) etag_version: u32,
    polls: u32,
    polls_to_end: u32,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Waiting,
    Pending,
    Running,
    Ended,
}

impl Task {
    /// Counts a status call and tells what it sees.
    pub(crate) fn poll(&mut self, now: Timestamp) -> Progress {
        self.polls = self.polls.saturating_add(1);
        let progress = self.progress();
        if self.polls <= self.polls_to_end.max(1) {
            self.updated_at = now;
        }
        progress
    }

    pub(crate) fn progress(&self) -> Progress {
        match self.polls {
            polls if polls >= self.polls_to_end && self.ending != Ending::Never => Progress::Ended,
            0 | 1 => Progress::Waiting,
            2 => Progress::Pending,
            _ => Progress::Running,
        }
    }
}

/// All tasks by id.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tasks: BTreeMap<String, Task>,
    /// The newest file of channels by the first of them.
    newest_files: HashMap<String, Arc<TaskFile>>,
}

impl Tasks {
    pub(crate) fn add(&mut self, job: Job, ending: Ending, polls_to_end: u32, now: Timestamp) -> String {
        let hash = Sha256::digest(format!("task {} at {now}", self.tasks.len()));
        let hex = hex(&hash, 16);
        let id = format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
        let file = self.file(job);
        let task = Task {
            id: id.clone(),
            created_at: now,
            updated_at: now,
            file,
            ending,
            etag_version: 0,
            polls: 0,
            polls_to_end,
        };
        self.tasks.insert(id.clone(), task);
        id
    }

    /// The file of the job. The same export again, of channels that have not changed, has the same one.
    fn file(&mut self, job: Job) -> Arc<TaskFile> {
        let first = match &job {
            Job::Channels(job) => job.channels.first().map(|export| export.channel.cid()),
            Job::Users(_) => None,
        };
        let newest = first.as_ref().and_then(|cid| self.newest_files.get(cid));
        if let (Some(file), Job::Channels(job)) = (newest, &job)
            && matches!(&file.job, Job::Channels(other) if other.is_same(job))
        {
            return Arc::clone(file);
        }
        let file = Arc::new(TaskFile { job, content: OnceLock::new() });
        self.newest_files.extend(first.map(|cid| (cid, Arc::clone(&file))));
        file
    }

    /// Lets every task that exists reach its end by the next status call.
    pub(crate) fn complete_all(&mut self) {
        for task in self.tasks.values_mut() {
            task.polls_to_end = 0;
        }
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Task> {
        self.tasks.get_mut(id)
    }
}
