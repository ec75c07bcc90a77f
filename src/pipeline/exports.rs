//! The exports of one span: every channel asked for once, followed, downloaded and decoded, many side by side.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, mpsc};
use tracing::Instrument;

use super::channels::{Channels, Effort, Page};
use super::file_decoder::{FileDecoder, FileError};
use super::{Asking, Pipeline};
use crate::decode::{Routes, Tally, Task};
use crate::error::{Error, Kind, Result};
use crate::export::{Asked, ChannelRef, Download, DownloadError, ExportRequest, ExportTask, TaskError, TaskFile};
use crate::journal::{Adopted, Record};
use crate::sort::collector::Collector;
use crate::window::Window;

/// What is asked for beyond both ends: no document says whether Stream's bounds are inclusive.
pub(crate) const MARGIN: SignedDuration = SignedDuration::from_millis(1);

/// Requests without an answer before nothing more is asked for: each may be an export that is paid for and never found.
pub(super) const MAX_UNANSWERED: usize = 3;
/// How long the failure of an export that a dead run asked for is taken for Stream's word.
const FAILURES_FRESH: SignedDuration = SignedDuration::from_hours(1);

/// Channels found ahead of the exports: their names take some ten megabytes.
const MAX_WAITING: usize = 100_000;

/// What a run has asked for and read so far, whatever becomes of it.
#[derive(Debug, Default)]
pub struct Counts {
    /// Exports that this run asked for.
    pub requested: AtomicU64,
    /// Exports that an earlier run had asked for, read or found to have failed.
    pub adopted: AtomicU64,
    /// Exports that Stream failed.
    pub failed: AtomicU64,
    /// Bytes downloaded.
    pub bytes: AtomicU64,
}

impl Counts {
    /// More than before if any export was asked for or read since then.
    pub fn touched(&self) -> u64 {
        self.requested.load(Relaxed) + self.bytes.load(Relaxed)
    }
}

/// What became of the requests of a span.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// Channels asked for.
    pub channels: u64,
    /// Channels that had messages inside the span, as Stream lists them.
    pub active_channels: u64,
    /// Exports that the rows come from or that failed.
    pub task_ids: Vec<String>,
    /// When the first of the tasks was made.
    pub exported_at: Option<Timestamp>,
    /// Channels that Stream does not know.
    pub missing: BTreeSet<String>,
    /// Channels whose export failed for good, and why.
    pub failed: BTreeMap<String, String>,
    /// Bytes downloaded.
    pub bytes: u64,
}

impl Requests {
    fn is_as_old_as(&mut self, exported_at: Timestamp) {
        self.exported_at = Some(self.exported_at.map_or(exported_at, |first| first.min(exported_at)));
    }
}

/// What is left to do for some channels.
enum Job {
    /// Follow a task that an earlier run has asked for.
    Adopt(Adopted),
    /// Follow a task.
    Follow(ExportTask),
    /// Ask for an export.
    Ask(Vec<String>),
}

/// Why a task brought nothing.
pub(super) enum Unfinished {
    /// Stream failed it, or its file is not whole: a part of it may succeed.
    Failed(String),
    /// Stream does not know it any more, it hangs, or its file cannot be had: one that an earlier run had begun is given up, since
    /// every run after this one would meet it again.
    Gone(Error),
    /// The run cannot go on.
    Other(Error),
}

impl From<Error> for Unfinished {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<TaskError> for Unfinished {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Failed { .. } => Self::Failed(error.to_string()),
            TaskError::Unknown { .. } | TaskError::Overdue { .. } | TaskError::NoUrl { .. } => Self::Gone(error.into()),
            TaskError::Api(_) => Self::Other(error.into()),
        }
    }
}

impl From<DownloadError> for Unfinished {
    fn from(error: DownloadError) -> Self {
        match error {
            // A store that may not be listed says of a file that is gone that it is forbidden.
            DownloadError::Gone { .. } | DownloadError::Refused { .. } => Self::Gone(error.into()),
            error => Self::Other(error.into()),
        }
    }
}

impl From<FileError> for Unfinished {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Broken(why) => Self::Failed(why),
            FileError::Download(error) => error.into(),
            FileError::Other(error) => Self::Other(error),
        }
    }
}

/// What the exports of a span share.
pub(super) struct Exports<'p> {
    pipeline: &'p Pipeline<'p>,
    asking: &'p Asking<'p>,
    span: Window,
    /// What is asked for: the span and a margin.
    asked: Window,
    cells: Vec<Window>,
    /// The number of the span in the journal.
    number: u32,
    collector: Arc<Collector>,
    decoders: Semaphore,
    requests: Mutex<Requests>,
    tally: Mutex<Tally>,
    unanswered: Mutex<Vec<Error>>,
}

impl<'p> Exports<'p> {
    /// Nothing is asked for yet. `number` is the span's in the journal.
    pub(super) fn new(
        pipeline: &'p Pipeline<'p>,
        asking: &'p Asking<'p>,
        cells: Vec<Window>,
        asked: Window,
        number: u32,
    ) -> Self {
        let settings = pipeline.settings;
        let span = Window { since: cells[0].since, until: cells[cells.len() - 1].until };
        Self {
            pipeline,
            asking,
            span,
            asked,
            cells,
            number,
            collector: Arc::new(Collector::new(
                pipeline.schemas,
                settings.memory.sort_bytes(),
                settings.temp_dir.as_deref(),
            )),
            decoders: Semaphore::new(settings.memory.decoders()),
            requests: Mutex::default(),
            tally: Mutex::default(),
            unanswered: Mutex::default(),
        }
    }

    /// Brings in every channel once: by what earlier runs have asked for, those that are known, and those that are found.
    pub(super) async fn bring_in(
        self,
        known: BTreeSet<String>,
        adopted: Vec<Adopted>,
        mut channels: Option<Channels<'_>>,
    ) -> Result<(Arc<Collector>, Requests, Tally)> {
        let Pipeline { settings, progress, .. } = self.pipeline;
        let begun: HashSet<&str> = adopted.iter().flat_map(|adopted| &adopted.task.cids).map(String::as_str).collect();
        lock(&self.requests).channels += begun.len() as u64;
        progress.channels(begun.len());
        let is_asked = |cid: &str| known.contains(cid) || begun.contains(cid);
        let named: Vec<String> = known
            .iter()
            .filter(|cid| !begun.contains(cid.as_str()) && ChannelRef::from_cid(cid).is_some())
            .cloned()
            .collect();
        if let Some(channels) = &mut channels {
            channels.leave_out(known.iter().map(String::as_str).chain(begun.iter().copied()));
        }
        let (found, mut waiting) = mpsc::channel(MAX_WAITING);
        let finding = async {
            match channels {
                Some(channels) => self.find(channels, is_asked, found).await,
                None => {
                    drop(found);
                    Ok(())
                }
            }
        };
        let asked = stream::iter(named)
            .chain(stream::poll_fn(|context| waiting.poll_recv(context)))
            .chunks(settings.channels_per_request)
            .map(|cids| {
                lock(&self.requests).channels += cids.len() as u64;
                progress.channels(cids.len());
                Job::Ask(cids)
            });
        let exporting = stream::iter(adopted.iter().cloned().map(Job::Adopt))
            .chain(asked)
            .map(|job| self.export(job))
            .buffer_unordered(settings.max_concurrent_exports)
            .try_collect::<()>();
        tokio::try_join!(finding, exporting)?;
        if let Some(error) = lock(&self.unanswered).pop() {
            return Err(error);
        }
        let (requests, tally) = (lock(&self.requests).clone(), std::mem::take(&mut *lock(&self.tally)));
        Ok((self.collector, requests, tally))
    }

    /// Finds the channels of the span, [`MAX_WAITING`] ahead of the exports: they take minutes, and a channel that is not listed yet
    /// when it gets its first message after the span is listed then, and exported for nothing.
    async fn find(
        &self,
        mut channels: Channels<'_>,
        is_asked: impl Fn(&str) -> bool,
        found: mpsc::Sender<String>,
    ) -> Result<()> {
        while let Some(Page { channels: page, missing }) = channels.next().await? {
            lock(&self.requests).missing.extend(missing);
            for ChannelRef { cid, last_message_at, .. } in page {
                let is_active = last_message_at.is_some_and(|at| self.span.contains(at));
                lock(&self.requests).active_channels += u64::from(is_active);
                // Nobody takes them any more only when the span has failed.
                if !is_asked(&cid) && found.send(cid).await.is_err() {
                    return Ok(());
                }
            }
        }
        let Effort { looked_up, unlisted } = channels.effort;
        if looked_up + unlisted > 0 {
            tracing::info!(
                looked_up,
                unlisted,
                "channels were looked up by name; those that Stream does not list are asked for"
            );
        }
        Ok(())
    }

    /// Brings in the channels of one job. If Stream fails their export, halves are asked for, down to the channel that it fails by;
    /// if it has forgotten one that an earlier run had asked for, it is asked for anew.
    async fn export(&self, job: Job) -> Result<()> {
        let mut jobs = vec![job];
        while let Some(job) = jobs.pop() {
            let (Adopted { task, superseded, asked }, is_adopted) = match job {
                Job::Ask(cids) => {
                    let tasks = self.ask(cids).await?;
                    jobs.extend(tasks.into_iter().rev().map(Job::Follow));
                    continue;
                }
                // The span cannot be completed now: what is asked for is for the run that comes next.
                Job::Adopt(_) | Job::Follow(_) if !lock(&self.unanswered).is_empty() => continue,
                Job::Follow(task) => (Adopted { task, superseded: BTreeSet::new(), asked: self.asked }, false),
                Job::Adopt(adopted) => {
                    let (task_id, channels) = (&adopted.task.task_id, adopted.task.cids.len());
                    tracing::info!(task_id, channels, "going on with an earlier run's export");
                    (adopted, true)
                }
            };
            let counts = self.asking.counts;
            let ended = self.follow(&task, &superseded, asked).await;
            // Of several channels nobody knows which one failed it.
            let was_alone = task.cids.len() == 1;
            let now = self.asking.client.stream_now().unwrap_or_else(crate::clock::now);
            let is_fresh = now.duration_since(task.requested_at) < FAILURES_FRESH;
            let wanted = task.cids.into_iter().filter(|cid| !superseded.contains(cid));
            let mut requests = lock(&self.requests);
            match ended {
                Ok(()) => {
                    counts.adopted.fetch_add(u64::from(is_adopted), Relaxed);
                    requests.task_ids.push(task.task_id);
                }
                Err(Unfinished::Failed(why)) => {
                    tracing::warn!(task_id = task.task_id, why, "an export failed");
                    counts.adopted.fetch_add(u64::from(is_adopted), Relaxed);
                    counts.failed.fetch_add(1, Relaxed);
                    requests.task_ids.push(task.task_id);
                    // What failed some time ago tells nothing of now.
                    if is_adopted && was_alone && !is_fresh {
                        jobs.push(Job::Ask(wanted.collect()));
                    } else if was_alone {
                        requests.failed.extend(wanted.map(|cid| (cid, why.clone())));
                    } else {
                        jobs.extend(halves(wanted.collect()).into_iter().map(Job::Ask));
                    }
                }
                Err(Unfinished::Gone(why)) if is_adopted => {
                    let why = why.report();
                    tracing::warn!(
                        task_id = task.task_id,
                        why,
                        "an earlier run's export cannot be had any more: asking anew"
                    );
                    jobs.push(Job::Ask(wanted.collect()));
                }
                Err(Unfinished::Gone(error) | Unfinished::Other(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks for an export of these channels, which makes one task, or more if channels are missing. Each is written down as soon as
    /// Stream has answered; a run that is stopped meanwhile waits for that.
    async fn ask(&self, cids: Vec<String>) -> Result<Vec<ExportTask>> {
        let (Asking { client, journal, .. }, Pipeline { settings, progress, .. }) = (self.asking, self.pipeline);
        let Window { since, until } = self.asked;
        let mut asking = client.asking(ExportRequest { cids: cids.clone(), since, until, options: settings.export })?;
        let (journal, counts, span) = (Arc::clone(journal), Arc::clone(self.asking.counts), self.number);
        let answering = journal.asking().await;
        let answered = async move {
            let _answering = answering;
            journal.write(&Record::Intent { span, cids }).await?;
            let (mut tasks, mut missing, mut unanswered) = (Vec::new(), Vec::new(), Vec::new());
            while let Some(asked) = asking.next().await? {
                match asked {
                    Asked::Task(task) => {
                        counts.requested.fetch_add(1, Relaxed);
                        journal.write(&Record::Task { span, task: task.clone() }).await?;
                        tasks.push(task);
                    }
                    Asked::Missing(cids) => missing.extend(cids),
                    Asked::Unanswered(cids, error) => {
                        tracing::warn!(channels = cids.len(), error = error.report(), "left to the next run");
                        unanswered.push(error);
                    }
                }
            }
            Ok::<_, Error>((tasks, missing, unanswered))
        };
        // It is waited for when this run is stopped, and what it logs is of this run.
        let answered = tokio::spawn(answered.in_current_span());
        let (tasks, missing, unanswered) =
            answered.await.map_err(|error| Error::new(Kind::Internal, "a request died").because(error))??;
        for task in &tasks {
            progress.requested();
            tracing::debug!(task_id = task.task_id, channels = task.cids.len(), window = %self.span, "export requested");
        }
        let mut requests = lock(&self.requests);
        requests.missing.extend(missing);
        drop(requests);
        let mut lost = lock(&self.unanswered);
        lost.extend(unanswered);
        match lost.pop() {
            Some(error) if lost.len() + 1 >= MAX_UNANSWERED => Err(error),
            Some(error) => {
                lost.push(error);
                Ok(tasks)
            }
            None => Ok(tasks),
        }
    }

    /// Waits for a task and reads its file.
    async fn follow(&self, task: &ExportTask, superseded: &BTreeSet<String>, asked: Window) -> Result<(), Unfinished> {
        let (Asking { client, .. }, Pipeline { settings, progress, .. }) = (self.asking, self.pipeline);
        let _followed = progress.follows();
        let file = client.wait_for_task(task, settings.task_deadline).await?;
        self.read(task, superseded, asked, file).await
    }

    /// Downloads and decodes a finished task: as many at a time as there are cores and memory for.
    async fn read(
        &self,
        task: &ExportTask,
        superseded: &BTreeSet<String>,
        asked: Window,
        file: TaskFile,
    ) -> Result<(), Unfinished> {
        let _permit = self.decoders.acquire().await.map_err(|_| Error::new(Kind::Internal, "the decoders are gone"))?;
        let (Asking { client, .. }, Pipeline { settings, progress, cpu, .. }) = (self.asking, self.pipeline);
        let exported_at = file.exported_at;
        let routes = Routes::new(&self.cells, micros(MARGIN), exported_at, settings.by_channel_type).of_export(asked);
        let asked = Task {
            task_id: task.task_id.clone(),
            exported_at,
            channels: Some(Arc::new(task.cids.iter().cloned().collect())),
            users: None,
            superseded: Arc::new(superseded.iter().cloned().collect()),
            routes: Arc::new(routes),
            keep_raw: settings.keep_raw,
        };
        // Rows of a file that turns out to be broken stay: what is in the cells is as old as it is.
        lock(&self.requests).is_as_old_as(exported_at);
        let decoder =
            FileDecoder::new(self.pipeline.schemas, settings.export.version, asked, Arc::clone(&self.collector))
                .within(settings.memory)
                .with_temp_dir(settings.temp_dir.as_deref());
        let mut download = Download::new(client, file);
        let (tally, _) = decoder.read(&mut download, *cpu, |chunk| progress.downloaded(chunk.len())).await?;
        let (bytes, messages) = (download.bytes_read(), tally.messages());
        self.asking.counts.bytes.fetch_add(bytes, Relaxed);
        progress.decoded(messages);
        tracing::debug!(task_id = task.task_id, bytes, messages, "export decoded");
        lock(&self.requests).bytes += bytes;
        lock(&self.tally).add(tally);
        Ok(())
    }
}

/// Smaller requests for the same channels.
fn halves(mut cids: Vec<String>) -> Vec<Vec<String>> {
    let right = cids.split_off(cids.len().div_ceil(2));
    [right, cids].into_iter().filter(|half| !half.is_empty()).collect()
}

fn micros(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
