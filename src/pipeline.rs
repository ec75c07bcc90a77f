//! One span from Stream to staged files, top to bottom:
//!
//! ```text
//! discover channels -> ask for exports -> follow tasks -> download -> decode -> sort -> write -> propose a commit
//! ```
//! Exports run side by side; downloads are decoded on as many threads as there are cores, through queues of a few chunks.
//! Nothing is visible to anybody until the proposal is committed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use crate::decode::{Decoder, Routes, Tally, Task};
use crate::error::{Error, Kind, Result};
use crate::export::{
    Asked, ChannelRef, Client, Discovery, Download, DownloadError, ExportRequest, ExportTask, TaskError, TaskFile,
};
use crate::gunzip::Gunzip;
use crate::journal::{Begun, Journal, Record, SpanRecord, adoptable};
use crate::lake::{CellRecord, Cover, DataFile, Exception, Lake, Lists, Mode, Proposal, State};
use crate::ndjson::LineSplitter;
use crate::plan::Span;
use crate::progress::Progress;
use crate::schema::DATASETS;
use crate::settings::Settings;
use crate::sort::collector::{Collector, belongs_to_cells};
use crate::window::Window;
use crate::write::old_files::OldFiles;
use crate::write::{Content, Vanishing, Writer, Written};

/// What is asked for beyond both ends: no document says whether Stream's bounds are inclusive.
const MARGIN: SignedDuration = SignedDuration::from_millis(1);
/// The longest line: a whole channel may be one.
const MAX_LINE_BYTES: usize = 64 << 20;
/// Chunks between a download and its decoder.
const QUEUED_CHUNKS: usize = 8;

/// What every span of a run needs.
pub struct Pipeline<'a> {
    /// Stream.
    pub client: &'a Client,
    /// Where it goes.
    pub lake: &'a Lake,
    /// What was asked for.
    pub settings: &'a Settings,
    /// This run.
    pub run_id: Uuid,
    /// What it asks for, for whoever comes after it.
    pub journal: &'a Arc<Journal>,
    /// What runs before it have asked for.
    pub begun: &'a [Begun],
    /// Who watches.
    pub progress: &'a Progress,
}

/// A span, exported and staged.
pub struct Exported {
    /// What to commit.
    pub proposal: Proposal,
    /// Cells that came out as they were and keep their files.
    pub unchanged: Vec<Window>,
    /// What the lines were.
    pub tally: Tally,
    /// What was asked and what came back.
    pub requests: Requests,
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
    /// Exports that this run asked for.
    pub requested_tasks: u64,
    /// Exports that an earlier run had asked for.
    pub adopted_tasks: u64,
    /// Exports that Stream failed.
    pub failed_tasks: u64,
    /// When the first of the tasks was made.
    pub exported_at: Option<Timestamp>,
    /// Channels that Stream does not know.
    pub missing: BTreeSet<String>,
    /// Channels whose export failed for good, and why.
    pub failed: BTreeMap<String, String>,
    /// Bytes downloaded.
    pub bytes: u64,
}

/// What is left to do for some channels.
enum Job {
    /// Follow a task that an earlier run has asked for.
    Adopt(ExportTask),
    /// Follow a task.
    Follow(ExportTask),
    /// Ask for an export.
    Ask(Vec<String>),
}

/// Why a task brought nothing.
enum Unfinished {
    /// Stream failed it: a part of it may succeed.
    Failed(TaskError),
    /// Stream does not know it any more.
    Gone(Error),
    /// The run cannot go on.
    Other(Error),
}

impl From<Error> for Unfinished {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// What the tasks of a span share.
struct Work<'p> {
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
    pipeline: &'p Pipeline<'p>,
}

impl Pipeline<'_> {
    /// Exports a span and stages its files.
    pub async fn export(&self, state: &State, span: &Span, origin: Option<Timestamp>) -> Result<Exported> {
        let window = span.window();
        let begun_at = self.client.stream_now().unwrap_or_else(crate::clock::now);
        let read_at = state.next();
        let old = if span.replaces {
            OldFiles::fetch(self.lake, state, window, self.settings.temp_dir.as_deref()).await?
        } else {
            OldFiles::default()
        };
        let known = match &span.only {
            Some(channels) => channels.clone(),
            None if span.replaces => self.known_channels(state, window, &old).await?,
            None => BTreeSet::new(),
        };
        let record = SpanRecord {
            begun_at,
            cells: span.cells.clone(),
            asked: Window {
                since: window.since.saturating_sub(MARGIN).unwrap_or(window.since),
                until: window.until.saturating_add(MARGIN).unwrap_or(window.until),
            },
            replaces: span.replaces,
            options: self.settings.export,
        };
        let mut adopted = adoptable(self.begun, &record, span.fresh_since);
        if let Some(only) = &span.only {
            adopted.retain(|task| task.cids.iter().all(|cid| only.contains(cid)));
        }
        let asked = record.asked;
        let number = self.journal.write(&Record::Span(record)).await?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let work = Work {
            span: window,
            asked,
            cells: span.cells.clone(),
            number,
            collector: Arc::new(Collector::new(self.settings.sort_bytes, self.settings.temp_dir.as_deref())),
            decoders: Semaphore::new(cores),
            requests: Mutex::default(),
            tally: Mutex::default(),
            pipeline: self,
        };
        work.run(known, adopted, span.only.is_none()).await?;
        let requests = lock(&work.requests).clone();
        let tally = lock(&work.tally).clone();
        self.check(window, &requests, &tally)?;
        let exported_at = requests.exported_at.unwrap_or(begun_at);
        let kept = self.kept_channels(span, &old, &requests)?;
        let written = self.write(&work, old, exported_at, kept, &tally).await?;
        let (covers, add, unchanged) = self.covers(state, span, exported_at, &requests, &tally, written).await?;
        let mode = if span.replaces { Mode::Replace { read_at } } else { Mode::Extend };
        let proposal = Proposal { commit_id: Uuid::now_v7(), mode, covers, add, origin };
        Ok(Exported { proposal, unchanged, tally, requests })
    }

    /// The channels that a replaced span holds rows of, or should: discovery does not list those that have gone silent.
    async fn known_channels(&self, state: &State, window: Window, old: &OldFiles) -> Result<BTreeSet<String>> {
        let mut cids = old.cids()?;
        for covered in state.covers_in(window) {
            let lists = self.lake.lists(&covered.cover.record).await?;
            cids.extend(lists.missing_channels);
            cids.extend(lists.failed_channels.into_iter().map(|exception| exception.cid));
        }
        Ok(cids)
    }

    /// The channels whose old rows stay as they are: those that could not be exported, or were not asked for.
    fn kept_channels(&self, span: &Span, old: &OldFiles, requests: &Requests) -> Result<HashSet<String>> {
        let mut kept: HashSet<String> = requests.missing.iter().chain(requests.failed.keys()).cloned().collect();
        if let Some(only) = &span.only {
            kept.extend(old.cids()?.into_iter().filter(|cid| !only.contains(cid)));
        }
        Ok(kept)
    }

    /// Refuses what must not become a commit.
    fn check(&self, span: Window, requests: &Requests, tally: &Tally) -> Result<()> {
        if tally.out_of_window > 0 && tally.out_of_window == tally.out_of_window_updated_inside {
            let message = format!(
                "Stream filters exports by `updated_at`: {} messages created outside of {span} came, all of them updated inside",
                tally.out_of_window
            );
            return Err(Error::new(Kind::Data, message)
                .hint("nothing was committed: cells by creation time cannot be filled this way; please report it"));
        }
        let unclassified: u64 = tally.unclassified.values().sum();
        let kinds = || tally.unclassified.keys().cloned().collect::<Vec<_>>().join("`, `");
        let suspicious = requests.active_channels > 0 || unclassified > 0;
        if requests.channels > 0 && tally.messages() == 0 && suspicious && !self.settings.accept_empty {
            let message = if unclassified > 0 {
                format!(
                    "the format of the exports is not recognised: no messages, but {unclassified} lines of kind `{}`",
                    kinds()
                )
            } else {
                format!("{} channels had messages in {span}, but their exports hold none", requests.active_channels)
            };
            return Err(Error::new(Kind::Data, message).hint(
                "nothing was committed; if the messages are really gone (truncated, deleted), run again with --accept-empty",
            ));
        }
        let lines = tally.lines.values().sum::<u64>() + tally.rejected;
        if !self.settings.allows_rejects(tally.rejected, lines) {
            let reasons: Vec<_> = tally.reasons.iter().map(|(reason, lines)| format!("{lines} {reason}")).collect();
            let first = tally.first_reject.as_deref().unwrap_or("none");
            let message = format!(
                "{} of {lines} lines of {span} do not fit ({}); the first is {first}",
                tally.rejected,
                reasons.join(", ")
            );
            return Err(Error::new(Kind::Data, message)
                .hint("nothing was committed; to keep them in quarantine and commit the rest, raise --max-rejected"));
        }
        Ok(())
    }

    async fn write(
        &self,
        work: &Work<'_>,
        old: OldFiles,
        exported_at: Timestamp,
        carried: HashSet<String>,
        tally: &Tally,
    ) -> Result<Written> {
        let writer = Writer {
            lake: self.lake.clone(),
            run_id: self.run_id,
            cells: work.cells.clone(),
            vanishing: Vanishing {
                removes: self.settings.removes_vanished,
                at: exported_at,
                carried,
                cut_reactions: tally.cut_reactions.clone(),
            },
            options: self.settings.file.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let collector = Arc::clone(&work.collector);
        let cells = work.cells.clone();
        self.progress.writing();
        let (written, result) = blocking(move || {
            let mut written = Written::default();
            let result = old.push_into(&collector, &cells).and_then(|()| {
                for dataset in 0..DATASETS.len() {
                    if let Some(rows) = collector.take(dataset)? {
                        writer.write(dataset, rows, &mut written)?;
                    }
                }
                Ok(())
            });
            Ok((written, result))
        })
        .await?;
        if let Err(error) = result {
            self.discard(written.files.iter().map(|(_, file)| file)).await;
            return Err(error);
        }
        Ok(written)
    }

    /// The cells as they will stand in the log. Files of cells that came out as they were are thrown away again.
    async fn covers(
        &self,
        state: &State,
        span: &Span,
        exported_at: Timestamp,
        requests: &Requests,
        tally: &Tally,
        written: Written,
    ) -> Result<(Vec<Cover>, Vec<DataFile>, Vec<Window>)> {
        let mut covers = Vec::new();
        let mut unchanged = Vec::new();
        for (index, window) in span.cells.iter().enumerate() {
            let cell = u32::try_from(index).unwrap_or(u32::MAX);
            let contents: BTreeMap<&str, Content> = DATASETS
                .iter()
                .enumerate()
                .filter(|(dataset, _)| belongs_to_cells(*dataset))
                .map(|(_, name)| (*name, written.contents.get(&(cell, *name)).copied().unwrap_or_default()))
                .collect();
            let keep_files = match &span.only {
                None => span.replaces && is_unchanged(state, *window, &contents, &written.files, cell),
                // Nothing new came, so what was written is what was there.
                Some(_) => tally.messages() == 0,
            };
            if keep_files {
                unchanged.push(*window);
            }
            // What is counted by line is known for the span: it stands with its first cell, so that sums are right.
            let first = index == 0;
            let count = |number: u64| if first { number } else { 0 };
            let record = CellRecord {
                channels_asked: requests.channels,
                channels_returned: tally.channels_returned.len() as u64,
                lists: Lists {
                    missing_channels: requests.missing.iter().cloned().collect(),
                    failed_channels: requests
                        .failed
                        .iter()
                        .map(|(cid, reason)| Exception { cid: cid.clone(), reason: reason.clone() })
                        .collect(),
                    task_ids: requests.task_ids.clone(),
                },
                lists_aside: None,
                lines: if first {
                    tally.lines.iter().map(|(kind, lines)| ((*kind).to_owned(), *lines)).collect()
                } else {
                    BTreeMap::new()
                },
                rows: contents.iter().map(|(name, content)| ((*name).to_owned(), content.rows)).collect(),
                rejected: count(tally.rejected),
                unclassified: count(tally.unclassified.values().sum()),
                out_of_window: count(tally.out_of_window),
                vanished: contents.values().map(|content| content.vanished).sum(),
                bytes_downloaded: count(requests.bytes),
                content: contents
                    .iter()
                    .map(|(name, content)| ((*name).to_owned(), format!("{:032x}", content.hash)))
                    .collect(),
            };
            let mut cover =
                Cover { window: *window, exported_at, as_of: None, run_id: self.run_id, keep_files, record };
            if span.only.is_some()
                && let Some(filled) = state.covers_in(*window).next()
            {
                fill(&mut cover, &filled.cover, self.lake.lists(&filled.cover.record).await?);
            }
            covers.push(cover);
        }
        let (dropped, add): (Vec<DataFile>, Vec<DataFile>) = written
            .files
            .into_iter()
            .map(|(_, file)| file)
            .partition(|file| file.cell.is_some_and(|cell| unchanged.contains(&cell)));
        self.discard(&dropped).await;
        Ok((covers, add, unchanged))
    }

    /// Deletes staged files that nobody will commit. Failing that, they are garbage that no reader sees.
    pub async fn discard(&self, files: impl IntoIterator<Item = &DataFile>) {
        use object_store::ObjectStoreExt;
        for file in files {
            if let Err(error) = self.lake.store().delete(&file.staged_key().path()).await {
                tracing::debug!(%error, "a staged file is left behind");
            }
        }
    }
}

/// A cover of a few channels becomes one of the whole cell: what it does not speak of is as it was.
fn fill(cover: &mut Cover, before: &Cover, lists: Lists) {
    cover.as_of = Some(before.complete_at());
    let record = &mut cover.record;
    record.channels_asked = before.record.channels_asked;
    record.channels_returned += before.record.channels_returned;
    record.lists.missing_channels.extend(lists.missing_channels);
    record.lists.missing_channels.sort_unstable();
    record.lists.missing_channels.dedup();
    record.lists.task_ids.extend(lists.task_ids);
    for (kind, lines) in &before.record.lines {
        *record.lines.entry(kind.clone()).or_default() += lines;
    }
    record.rejected += before.record.rejected;
    record.unclassified += before.record.unclassified;
    record.out_of_window += before.record.out_of_window;
    record.bytes_downloaded += before.record.bytes_downloaded;
    // The hash of all rows is not known: the next revisit compares with nothing and writes the cell anew.
    record.content.clear();
}

/// Whether a cell holds what it held before, in as few files.
fn is_unchanged(
    state: &State,
    window: Window,
    contents: &BTreeMap<&str, Content>,
    files: &[(u32, DataFile)],
    cell: u32,
) -> bool {
    let mut before: BTreeMap<&str, u128> = contents.keys().map(|name| (*name, 0)).collect();
    for covered in state.covers_in(window) {
        for (name, hash) in &mut before {
            // The hash is a sum over rows, so that of a day is the sum of those of its hours.
            let old = covered.cover.record.content.get(*name).and_then(|text| u128::from_str_radix(text, 16).ok());
            let Some(old) = old else { return false };
            *hash = hash.wrapping_add(old);
        }
    }
    let same = state.covers_in(window).next().is_some()
        && state.uncovered(window).is_empty()
        && contents.iter().all(|(name, content)| content.vanished == 0 && before.get(name) == Some(&content.hash));
    let mut counts: HashMap<(&str, &str), i64> = HashMap::new();
    for live in state.files_of(window) {
        *counts.entry((&live.file.dataset, &live.file.partition)).or_default() += 1;
    }
    for (_, file) in files.iter().filter(|(of, _)| *of == cell) {
        *counts.entry((&file.dataset, &file.partition)).or_default() -= 1;
    }
    same && counts.values().all(|more| *more <= 0)
}

impl Work<'_> {
    /// Brings in every channel once: by what earlier runs have asked for, those that are known, and those that discovery finds.
    async fn run(&self, known: BTreeSet<String>, adopted: Vec<ExportTask>, discovers: bool) -> Result<()> {
        let Pipeline { client, settings, progress, .. } = self.pipeline;
        let begun: HashSet<&str> = adopted.iter().flat_map(|task| &task.cids).map(String::as_str).collect();
        lock(&self.requests).channels += begun.len() as u64;
        progress.channels(begun.len());
        let named: Vec<ChannelRef> = known
            .iter()
            .filter(|cid| !begun.contains(cid.as_str()))
            .filter_map(|cid| ChannelRef::from_cid(cid))
            .collect();
        let discovery = discovers
            .then(|| Discovery::new(client, settings.selection.clone(), Some(self.span.since), self.span.until));
        let discovered = stream::try_unfold(discovery, async |discovery| {
            let Some(mut discovery) = discovery else { return Ok(None) };
            let page = discovery.next_page().await?;
            Ok::<_, Error>(page.map(|page| (stream::iter(page.into_iter().map(Ok)), Some(discovery))))
        })
        .try_flatten()
        .map_ok(|channel: ChannelRef| {
            let is_active = channel.last_message_at.is_some_and(|at| self.span.contains(at));
            lock(&self.requests).active_channels += u64::from(is_active);
            channel
        })
        .try_filter(|channel| {
            std::future::ready(!known.contains(&channel.cid) && !begun.contains(channel.cid.as_str()))
        });
        let asked = stream::iter(named.into_iter().map(Ok))
            .chain(discovered)
            .try_chunks(settings.channels_per_request)
            .map_err(|error| error.1)
            .map_ok(|channels| {
                lock(&self.requests).channels += channels.len() as u64;
                progress.channels(channels.len());
                Job::Ask(channels.into_iter().map(|channel| channel.cid).collect())
            });
        stream::iter(adopted.iter().cloned().map(|task| Ok(Job::Adopt(task))))
            .chain(asked)
            .map_ok(|job| self.export(job))
            .try_buffer_unordered(settings.max_concurrent_exports)
            .try_collect()
            .await
    }

    /// Brings in the channels of one job. If Stream fails their export, halves are asked for, down to the channel that it fails by;
    /// if it has forgotten one that an earlier run had asked for, it is asked for anew.
    async fn export(&self, job: Job) -> Result<()> {
        let mut jobs = vec![job];
        while let Some(job) = jobs.pop() {
            let (task, is_adopted) = match job {
                Job::Ask(cids) => {
                    let tasks = self.ask(cids).await?;
                    jobs.extend(tasks.into_iter().rev().map(Job::Follow));
                    continue;
                }
                Job::Follow(task) => (task, false),
                Job::Adopt(task) => {
                    tracing::info!(
                        task_id = task.task_id,
                        channels = task.cids.len(),
                        "going on with an earlier run's export"
                    );
                    (task, true)
                }
            };
            match self.follow(&task).await {
                Ok(()) => {
                    let mut requests = lock(&self.requests);
                    requests.adopted_tasks += u64::from(is_adopted);
                    requests.task_ids.push(task.task_id);
                }
                Err(Unfinished::Failed(error)) => {
                    tracing::warn!(task_id = task.task_id, channels = task.cids.len(), "{error}");
                    let mut requests = lock(&self.requests);
                    requests.adopted_tasks += u64::from(is_adopted);
                    requests.task_ids.push(task.task_id.clone());
                    requests.failed_tasks += 1;
                    drop(requests);
                    jobs.extend(self.halves(task, &error).into_iter().map(Job::Ask));
                }
                Err(Unfinished::Gone(why)) if is_adopted => {
                    tracing::warn!(
                        task_id = task.task_id,
                        why = why.report(),
                        "an earlier run's export is gone: asking anew"
                    );
                    jobs.push(Job::Ask(task.cids));
                }
                Err(Unfinished::Gone(error) | Unfinished::Other(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks for an export of these channels, which makes one task, or more if channels are missing. Each is written down as soon as
    /// Stream has answered; a run that is stopped meanwhile waits for that.
    async fn ask(&self, cids: Vec<String>) -> Result<Vec<ExportTask>> {
        let Pipeline { client, settings, progress, journal, .. } = self.pipeline;
        let request = ExportRequest {
            cids: cids.clone(),
            since: self.asked.since,
            until: self.asked.until,
            options: settings.export,
        };
        let mut asking = client.asking(request)?;
        let (journal, span) = (Arc::clone(journal), self.number);
        let answering = journal.asking().await;
        let answered = tokio::spawn(async move {
            let _answering = answering;
            journal.write(&Record::Intent { span, cids }).await?;
            let (mut tasks, mut missing) = (Vec::new(), Vec::new());
            while let Some(asked) = asking.next().await? {
                match asked {
                    Asked::Task(task) => {
                        journal.write(&Record::Task { span, task: task.clone() }).await?;
                        tasks.push(task);
                    }
                    Asked::Missing(cids) => missing.extend(cids),
                }
            }
            Ok::<_, Error>((tasks, missing))
        });
        let (tasks, missing) =
            answered.await.map_err(|error| Error::new(Kind::Internal, "a request died").because(error))??;
        for task in &tasks {
            progress.requested();
            tracing::debug!(task_id = task.task_id, channels = task.cids.len(), window = %self.span, "export requested");
        }
        let mut requests = lock(&self.requests);
        requests.requested_tasks += tasks.len() as u64;
        requests.missing.extend(missing);
        Ok(tasks)
    }

    /// Waits for a task and reads its file.
    async fn follow(&self, task: &ExportTask) -> Result<(), Unfinished> {
        let Pipeline { client, settings, .. } = self.pipeline;
        match client.wait_for_task(task, settings.task_deadline).await {
            Ok(file) => self.read(task, file).await,
            Err(error @ TaskError::Failed { .. }) => Err(Unfinished::Failed(error)),
            // One that an earlier run had begun may hang for ever, so its age is no reason to wait for it for ever.
            Err(error @ (TaskError::Unknown { .. } | TaskError::Overdue { .. })) => Err(Unfinished::Gone(error.into())),
            Err(error) => Err(Unfinished::Other(error.into())),
        }
    }

    fn halves(&self, task: ExportTask, error: &TaskError) -> Vec<Vec<String>> {
        let mut cids = task.cids;
        if cids.len() > 1 {
            let right = cids.split_off(cids.len() / 2);
            return vec![right, cids];
        }
        let mut requests = lock(&self.requests);
        requests.failed.extend(cids.into_iter().map(|cid| (cid, error.to_string())));
        Vec::new()
    }

    /// Downloads and decodes a finished task: as many at a time as there are cores.
    async fn read(&self, task: &ExportTask, file: TaskFile) -> Result<(), Unfinished> {
        let _permit = self.decoders.acquire().await.map_err(|_| Error::new(Kind::Internal, "the decoders are gone"))?;
        let Pipeline { client, settings, progress, .. } = self.pipeline;
        let exported_at = file.exported_at;
        let routes = Routes::new(&self.cells, micros(MARGIN), exported_at, settings.by_channel_type);
        let decoder = Decoder::new(Task {
            task_id: task.task_id.clone(),
            exported_at,
            channels: Some(Arc::new(task.cids.iter().cloned().collect())),
            routes: Arc::new(routes),
            keep_raw: settings.keep_raw,
        });
        let (chunks, received) = mpsc::channel::<Bytes>(QUEUED_CHUNKS);
        let collector = Arc::clone(&self.collector);
        let decoding = tokio::spawn(blocking(move || decode(decoder, received, &collector)));
        let mut download = Download::new(client, file);
        let mut failed = None;
        loop {
            match download.next().await {
                Ok(Some(bytes)) => {
                    progress.downloaded(bytes.len());
                    // A closed queue means that the decoder failed; it says why itself.
                    if chunks.send(bytes).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(chunks);
        let decoded = decoding.await.map_err(|error| Error::new(Kind::Internal, "a decoder died").because(error))?;
        match failed {
            None => {}
            Some(error @ DownloadError::Gone { .. }) if download.bytes_read() == 0 => {
                return Err(Unfinished::Gone(error.into()));
            }
            Some(error) => return Err(Unfinished::Other(error.into())),
        }
        let tally = decoded?;
        progress.decoded(tally.messages());
        tracing::debug!(
            task_id = task.task_id,
            bytes = download.bytes_read(),
            messages = tally.messages(),
            "export decoded"
        );
        let mut requests = lock(&self.requests);
        requests.bytes += download.bytes_read();
        requests.exported_at = Some(requests.exported_at.map_or(exported_at, |first| first.min(exported_at)));
        drop(requests);
        lock(&self.tally).add(tally);
        Ok(())
    }
}

/// Bytes to rows, on a thread of its own.
fn decode(mut decoder: Decoder, mut chunks: mpsc::Receiver<Bytes>, collector: &Collector) -> Result<Tally> {
    let mut gunzip = Gunzip::default();
    let mut lines = LineSplitter::new(MAX_LINE_BYTES);
    let mut feed = |bytes: &[u8], lines: &mut LineSplitter| -> Result<(), DecodeError> {
        lines.push(bytes, |line| {
            decoder.line(line)?;
            for (dataset, batch) in decoder.take_ready() {
                collector.push(dataset, batch)?;
            }
            Ok(())
        })
    };
    while let Some(chunk) = chunks.blocking_recv() {
        gunzip.push(&chunk, |bytes| feed(bytes, &mut lines)).map_err(DecodeError::into_error)?;
    }
    gunzip.finish(|bytes| feed(bytes, &mut lines)).map_err(DecodeError::into_error)?;
    lines.finish(|line| decoder.line(line)).map_err(|error| DecodeError::Io(error).into_error())?;
    let (rest, tally) = decoder.finish().map_err(|error| DecodeError::Io(error).into_error())?;
    for (dataset, batch) in rest {
        collector.push(dataset, batch)?;
    }
    Ok(tally)
}

/// Why a file could not be decoded to its end.
enum DecodeError {
    Io(std::io::Error),
    Other(Error),
}

impl From<std::io::Error> for DecodeError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for DecodeError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl DecodeError {
    fn into_error(self) -> Error {
        match self {
            Self::Other(error) => error,
            Self::Io(error) => Error::new(Kind::Temporary, "an export cannot be read to its end")
                .because(error)
                .hint("run the same command again; if it stays so, look at the room in --temp-dir"),
        }
    }
}

/// Runs CPU work off the async runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(Kind::Internal, "a worker thread died").because(error)))
}

fn micros(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
