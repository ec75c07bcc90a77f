//! An export of users, top to bottom: asked for in groups, or alone who cannot be exported with others; followed, decoded, staged.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tracing::Instrument;
use uuid::Uuid;

use super::Pipeline;
use super::exports::{Counts, MAX_UNANSWERED, Unfinished, lock};
use super::file_decoder::{Chunks, FileDecoder, FileError};
use super::halves::{Next, apart};
use super::refusal::{is_reject, reasons, shown};
use crate::decode::{NumberedCells, Routes, Tally, Task};
use crate::error::{Error, Kind, Result};
use crate::export::{ApiError, AskedUsers, Client, Download, ExportTask, ExportVersion, ExportedUser, TaskFile};
use crate::journal::{AdoptedUsers, BegunUsers, Journal, Record, UsersRecord, adoptable_users};
use crate::lake::{DataFile, FailedUser, Key, Lists, UserExport, UserProposal};
use crate::schema::{DATASETS, USER_EXPORTS};
use crate::sort::collector::Collector;
use crate::write::{Vanishing, Writer, Written};

/// Users who may fail before anybody was exported: then it is not about them.
const MAX_FAILED_AT_FIRST: usize = 25;

/// What is needed besides to ask Stream for users.
pub struct AskingUsers<'a> {
    /// Stream.
    pub client: &'a Client,
    /// What this run asks for, for whoever comes after it.
    pub journal: &'a Arc<Journal>,
    /// What runs over the same users have asked for.
    pub begun: &'a [BegunUsers],
    /// What this run has asked for so far.
    pub counts: &'a Arc<Counts>,
    /// Users in one request.
    pub per_request: usize,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
struct Requests {
    /// Exports that rows come from or that failed.
    task_ids: Vec<String>,
    /// When the first of them was made.
    exported_at: Option<Timestamp>,
    /// Users whom Stream does not know.
    missing: BTreeSet<String>,
    /// Users who could not be exported, and why.
    failed: BTreeMap<String, String>,
    /// Files that were read.
    files: usize,
    /// Bytes downloaded.
    bytes: u64,
}

/// Users, exported and staged.
pub struct StagedUsers {
    /// What to commit.
    pub proposal: UserProposal,
    /// What the lines were.
    pub tally: Tally,
    /// Users whom Stream does not know.
    pub missing: BTreeSet<String>,
    /// Users who could not be exported, and why.
    pub failed: BTreeMap<String, String>,
}

/// What is left to do for some users.
enum Job {
    /// Follow a task that an earlier run has asked for.
    Adopt(AdoptedUsers),
    /// Follow a task.
    Follow(ExportTask),
    /// Ask for a task.
    Ask(Vec<String>),
    /// Ask for one without a task, since a task failed.
    Alone(String),
}

impl From<Next> for Job {
    fn from(next: Next) -> Self {
        match next {
            Next::Ask(user_ids) => Self::Ask(user_ids),
            Next::Alone(user_id) => Self::Alone(user_id),
        }
    }
}

/// What the exports of a run share.
struct UserExports<'p> {
    pipeline: &'p Pipeline<'p>,
    asking: &'p AskingUsers<'p>,
    /// The number of the record of the users in the journal.
    number: u32,
    collector: Arc<Collector>,
    decoders: Semaphore,
    /// An answer about one user may be large, and is held as a whole.
    alone: Semaphore,
    requests: Mutex<Requests>,
    tally: Mutex<Tally>,
    unanswered: Mutex<Vec<Error>>,
}

impl Pipeline<'_> {
    /// Exports users and stages their files.
    pub async fn export_users(&self, asking: &AskingUsers<'_>, users: UsersRecord) -> Result<StagedUsers> {
        let settings = self.settings;
        let (begun_at, user_ids) = (users.begun_at, users.user_ids.clone());
        let number = asking.journal.write(&Record::Users(users)).await?;
        let exports = UserExports {
            pipeline: self,
            asking,
            number,
            collector: Arc::new(Collector::new(
                self.schemas,
                settings.memory.sort_bytes(),
                settings.temp_dir.as_deref(),
            )),
            decoders: Semaphore::new(settings.memory.decoders()),
            alone: Semaphore::new(1),
            requests: Mutex::default(),
            tally: Mutex::default(),
            unanswered: Mutex::default(),
        };
        let (collector, requests, tally) = exports.bring_in(&user_ids).await?;
        if let Err(refusal) = self.check_users(&requests, &tally) {
            return Err(self.keep_set_aside(refusal, collector).await);
        }
        let add = self.write_users(collector).await?;
        let mut rows: BTreeMap<String, u64> = BTreeMap::new();
        for file in &add {
            *rows.entry(file.dataset.clone()).or_default() += file.rows;
        }
        let adopted = asking.begun.iter().filter(|begun| !begun.tasks.is_empty()).map(|begun| begun.run_id);
        let Requests { task_ids, exported_at, missing, failed, bytes, .. } = requests;
        let reasons = failed.clone().into_iter().map(|(user_id, reason)| FailedUser { user_id, reason });
        let export = UserExport {
            run_id: self.run_id,
            runs: adopted.chain([self.run_id]).collect(),
            exported_at: exported_at.unwrap_or(begun_at),
            asked: user_ids.len() as u64,
            returned: tally.users_returned.len() as u64,
            missing: missing.len() as u64,
            failed: failed.len() as u64,
            lists: Lists {
                missing_users: missing.iter().cloned().collect(),
                failed_users: reasons.collect(),
                task_ids,
                ..Lists::default()
            },
            lists_aside: None,
            lines: tally.lines.iter().map(|(kind, lines)| ((*kind).to_owned(), *lines)).collect(),
            rows,
            rejected: tally.rejected,
            other_kinds: tally.unclassified.clone(),
            bytes_downloaded: bytes,
        };
        let proposal = UserProposal { commit_id: Uuid::now_v7(), export, add };
        Ok(StagedUsers { proposal, tally, missing, failed })
    }

    /// Refuses what must not become a commit.
    fn check_users(&self, requests: &Requests, tally: &Tally) -> Result<()> {
        let again = "which looks at the same exports for a day";
        let lines = tally.lines.values().sum::<u64>() + tally.unclassified.total() + tally.rejected;
        let strange = tally.unrecognised_files > 0 || (requests.files > 0 && lines == 0);
        if strange && !self.settings.accept_empty {
            let (files, all) = (tally.unrecognised_files, requests.files);
            let message = match files {
                0 => "the exports of users are empty".to_owned(),
                _ => format!("the format of the exports is not recognised: nothing is known in {files} of {all} files"),
            };
            return Err(Error::new(Kind::Data, message)
                .showing(shown(&tally.first_set_aside, tally.rejected + tally.unclassified.total(), |_| true))
                .hint(format!(
                    "nothing was committed; please report these lines, with other names and texts; to commit them nevertheless, run again \
                     with --accept-empty, {again}"
                )));
        }
        if !self.settings.allows_rejects(tally.rejected, lines) {
            let message = format!("{} of {lines} lines of users do not fit ({})", tally.rejected, reasons(tally));
            return Err(Error::new(Kind::Data, message)
                .showing(shown(&tally.first_set_aside, tally.rejected, is_reject))
                .hint(format!(
                    "nothing was committed; to keep them in quarantine and commit the rest, run again with a higher --max-rejected, {again}"
                )));
        }
        Ok(())
    }

    /// Sorts and stages the rows of all datasets.
    async fn write_users(&self, collector: Arc<Collector>) -> Result<Vec<DataFile>> {
        self.progress.writing();
        let writer = Writer {
            lake: self.lake.clone(),
            run_id: self.run_id,
            schemas: self.schemas.clone(),
            prefix: USER_EXPORTS,
            cells: NumberedCells::new(),
            vanishing: Arc::new(Vanishing::default()),
            options: self.settings.file.clone(),
            parts: self.settings.memory.parts(),
            cpu: self.cpu,
            key: |run_id, file| Key::Staged { run_id, file },
        };
        let mut written = Written::default();
        for dataset in 0..DATASETS.len() {
            let collector = Arc::clone(&collector);
            let Some(rows) = self.cpu.run(move || collector.take(dataset)).await? else { continue };
            if let Err(error) = writer.write(dataset, rows, None, &mut written).await {
                self.discard(written.files.iter().map(|(_, file)| file)).await;
                return Err(error);
            }
        }
        Ok(written.files.into_iter().map(|(_, file)| file).collect())
    }
}

impl UserExports<'_> {
    /// Brings in every user once: by what earlier runs have asked for, or by requests.
    async fn bring_in(self, user_ids: &BTreeSet<String>) -> Result<(Arc<Collector>, Requests, Tally)> {
        let adopted = adoptable_users(self.asking.begun);
        let begun: HashSet<&String> = adopted.iter().flat_map(|adopted| &adopted.task.cids).collect();
        let left: Vec<String> = user_ids.iter().filter(|id| !begun.contains(id)).cloned().collect();
        let groups = left.chunks(self.asking.per_request).map(|group| Job::Ask(group.to_vec()));
        let jobs: Vec<Job> = adopted.iter().cloned().map(Job::Adopt).chain(groups).collect();
        stream::iter(jobs.into_iter().map(Ok))
            .map_ok(|job| self.export(job))
            .try_buffer_unordered(self.pipeline.settings.max_concurrent_exports)
            .try_collect::<()>()
            .await?;
        if let Some(error) = lock(&self.unanswered).pop() {
            return Err(error);
        }
        let (requests, tally) = (lock(&self.requests).clone(), std::mem::take(&mut *lock(&self.tally)));
        Ok((self.collector, requests, tally))
    }

    /// Brings in the users of one job, taken apart as far as it takes.
    async fn export(&self, job: Job) -> Result<()> {
        let mut jobs = vec![job];
        while let Some(job) = jobs.pop() {
            let (AdoptedUsers { task, superseded }, is_adopted) = match job {
                Job::Ask(user_ids) => {
                    jobs.extend(self.ask(user_ids).await?);
                    continue;
                }
                // It cannot be completed now: what is asked for is for the run that comes next.
                _ if !lock(&self.unanswered).is_empty() => continue,
                Job::Alone(user_id) => {
                    self.alone(user_id).await?;
                    continue;
                }
                Job::Follow(task) => (AdoptedUsers { task, superseded: BTreeSet::new() }, false),
                Job::Adopt(adopted) => {
                    let (task_id, users) = (&adopted.task.task_id, adopted.task.cids.len());
                    tracing::info!(task_id, users, "going on with an earlier run's export");
                    (adopted, true)
                }
            };
            let counts = self.asking.counts;
            let ended = self.follow(&task, &superseded).await;
            let ExportTask { task_id, cids: user_ids, .. } = task;
            let is_whole = superseded.is_empty();
            let wanted: Vec<String> = user_ids.into_iter().filter(|id| !superseded.contains(id)).collect();
            match ended {
                Ok(()) => {
                    counts.adopted.fetch_add(u64::from(is_adopted), Relaxed);
                    lock(&self.requests).task_ids.push(task_id);
                }
                Err(Unfinished::Failed(why)) => {
                    tracing::warn!(task_id, why, "an export failed");
                    counts.adopted.fetch_add(u64::from(is_adopted), Relaxed);
                    counts.failed.fetch_add(1, Relaxed);
                    lock(&self.requests).task_ids.push(task_id);
                    if is_whole {
                        jobs.extend(apart(wanted, &HashSet::new()).into_iter().rev().map(Job::from));
                    } else {
                        // An earlier run has asked for the other half.
                        jobs.push(Job::Ask(wanted));
                    }
                }
                Err(Unfinished::Gone(why)) if is_adopted => {
                    let why = why.report();
                    tracing::warn!(task_id, why, "an earlier run's export cannot be had any more: asking anew");
                    jobs.push(Job::Ask(wanted));
                }
                Err(Unfinished::Gone(error) | Unfinished::Other(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks for a task, which is written down as soon as Stream has answered; a run that is stopped meanwhile waits for that. Yields
    /// what to do next.
    async fn ask(&self, user_ids: Vec<String>) -> Result<Vec<Job>> {
        let journal = Arc::clone(self.asking.journal);
        let (client, counts, span) = (self.asking.client.clone(), Arc::clone(self.asking.counts), self.number);
        let answering = journal.asking().await;
        let asked = user_ids.clone();
        let answered = async move {
            let _answering = answering;
            journal.write(&Record::Intent { span, cids: asked.clone() }).await?;
            let answer = client.ask_for_users(&asked).await?;
            if let AskedUsers::Task(task) = &answer {
                counts.requested.fetch_add(1, Relaxed);
                journal.write(&Record::Task { span, task: task.clone() }).await?;
            }
            Ok::<_, Error>(answer)
        };
        // It is waited for when this run is stopped, and what it logs is of this run.
        let answered = tokio::spawn(answered.in_current_span());
        let answer = answered.await.map_err(|error| Error::new(Kind::Internal, "a request died").because(error))??;
        match answer {
            AskedUsers::Task(task) => {
                self.pipeline.progress.requested();
                tracing::debug!(task_id = task.task_id, users = user_ids.len(), "export requested");
                Ok(vec![Job::Follow(task)])
            }
            AskedUsers::Refused(refusal) if refusal.is_missing() && user_ids.len() == 1 => {
                tracing::warn!(user_id = user_ids[0], "Stream does not know this user");
                lock(&self.requests).missing.extend(user_ids);
                Ok(Vec::new())
            }
            AskedUsers::Refused(refusal) => {
                tracing::info!(users = user_ids.len(), %refusal, "refused: asking for the users apart");
                let named = refusal.named(&user_ids).into_iter().map(str::to_owned).collect();
                Ok(apart(user_ids, &named).into_iter().rev().map(Job::from).collect())
            }
            AskedUsers::Unanswered(error) => {
                tracing::warn!(users = user_ids.len(), error = error.report(), "left to the next run");
                let mut lost = lock(&self.unanswered);
                if lost.len() + 1 >= MAX_UNANSWERED {
                    return Err(error);
                }
                lost.push(error);
                Ok(Vec::new())
            }
        }
    }

    /// Asks for one user whose tasks fail: what Stream says now is the reason.
    async fn alone(&self, user_id: String) -> Result<()> {
        let _permit = self.alone.acquire().await.map_err(|_| Error::new(Kind::Internal, "the permits are gone"))?;
        let reason = match self.asking.client.export_user(&user_id).await {
            Ok(ExportedUser { exported_at, lines }) => {
                let task = self.task(format!("users/{user_id}/export"), exported_at, [user_id].into(), HashSet::new());
                let bytes = lines.len() as u64;
                return match self.decode(task, &mut Once(Some(lines))).await {
                    Ok(()) => {
                        lock(&self.requests).bytes += bytes;
                        Ok(())
                    }
                    Err(FileError::Broken(why)) => Err(Error::new(Kind::Internal, why)),
                    Err(FileError::Download(error)) => Err(error.into()),
                    Err(FileError::Other(error)) => Err(error),
                };
            }
            Err(error @ ApiError::TooLong { .. }) => error.to_string(),
            Err(error) => match error.refusal().filter(|refusal| refusal.is_about_request()) {
                Some(refusal) => refusal.to_string(),
                None => return Err(error.into()),
            },
        };
        tracing::warn!(user_id, reason, "this user cannot be exported");
        let mut requests = lock(&self.requests);
        requests.failed.insert(user_id, reason.clone());
        if requests.files == 0 && requests.failed.len() >= MAX_FAILED_AT_FIRST {
            let message = format!("no user can be exported; the last reason: {reason}");
            return Err(Error::new(Kind::ExportFailed, message)
                .hint("nothing was committed; if the ids are right, contact Stream's support with the reason"));
        }
        Ok(())
    }

    /// Waits for a task and reads its file.
    async fn follow(&self, task: &ExportTask, superseded: &BTreeSet<String>) -> Result<(), Unfinished> {
        let client = self.asking.client;
        let _followed = self.pipeline.progress.follows();
        let file = client.wait_for_task(task, self.pipeline.settings.task_deadline).await?;
        let TaskFile { task_id, exported_at, .. } = &file;
        let user_ids = task.cids.iter().cloned().collect();
        let asked = self.task(task_id.clone(), *exported_at, user_ids, superseded.iter().cloned().collect());
        let mut download = Download::new(client, file);
        self.decode(asked, &mut download).await?;
        let bytes = download.bytes_read();
        self.asking.counts.bytes.fetch_add(bytes, Relaxed);
        lock(&self.requests).bytes += bytes;
        Ok(())
    }

    fn task(
        &self,
        task_id: String,
        exported_at: Timestamp,
        user_ids: HashSet<String>,
        superseded: HashSet<String>,
    ) -> Task {
        Task {
            task_id,
            exported_at,
            channels: None,
            users: Some(Arc::new(user_ids)),
            superseded: Arc::new(superseded),
            routes: Arc::new(Routes::of_users(exported_at)),
            keep_raw: self.pipeline.settings.keep_raw,
        }
    }

    /// Decodes what has come: as many files at a time as there are cores.
    async fn decode(&self, task: Task, chunks: &mut impl Chunks) -> Result<(), FileError> {
        let _permit = self.decoders.acquire().await.map_err(|_| Error::new(Kind::Internal, "the decoders are gone"))?;
        let Pipeline { settings, progress, cpu, schemas, .. } = self.pipeline;
        {
            let mut requests = lock(&self.requests);
            requests.exported_at =
                Some(requests.exported_at.map_or(task.exported_at, |first| first.min(task.exported_at)));
        }
        let is_of_many = task.users.as_ref().is_some_and(|users| users.len() > 1);
        let task_id = task.task_id.clone();
        let decoder = FileDecoder::new(schemas, ExportVersion::V2, task, Arc::clone(&self.collector))
            .with_temp_dir(settings.temp_dir.as_deref())
            .within(settings.memory);
        let read = decoder.read(chunks, *cpu, |chunk| progress.downloaded(chunk.len())).await;
        let (tally, _) = read.map_err(|error| match error {
            FileError::Other(error) if error.kind() == Kind::Data => FileError::Other(error.hint(
                "nothing was committed; look whether a proxy answers in place of Stream's store, then run again, which looks at the \
                 same file for a day",
            )),
            error => error,
        })?;
        if is_of_many && tally.without_author > 0 {
            let messages = tally.without_author;
            tracing::warn!(
                task_id,
                messages,
                "messages do not say who wrote them: with --users-per-request 1 it is known"
            );
        }
        progress.decoded(tally.messages());
        tracing::debug!(task_id, messages = tally.messages(), "export decoded");
        lock(&self.requests).files += 1;
        lock(&self.tally).add(tally);
        Ok(())
    }
}

/// Bytes that are there.
struct Once(Option<Bytes>);

impl Chunks for Once {
    async fn chunk(&mut self) -> Result<Option<Bytes>, FileError> {
        Ok(self.0.take())
    }
}
