//! One span from Stream to staged files, top to bottom:
//!
//! ```text
//! discover channels -> ask for exports -> follow tasks -> download -> decode -> sort -> write -> propose a commit
//! ```
//! Files on disk take the same way from `decode` on ([`files`]), exports of users from asking on, without cells (`users.rs`).
//! Exports run side by side; as many downloads at a time as there are cores and memory for are decoded, each while its next bytes arrive.
//! Where there are fewer files than that, several decoders share one (`blocks.rs`).
//! Nothing is visible to anybody until the proposal is committed.

mod blocks;
pub mod channels;
mod covers;
mod exports;
pub(crate) mod file_decoder;
pub mod files;
mod halves;
mod landing;
mod refusal;
mod remembered;
mod users;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use jiff::Timestamp;
use uuid::Uuid;

use self::channels::Channels;
use self::exports::Exports;
pub(crate) use self::exports::MARGIN;
pub use self::exports::{Counts, Requests};
pub use self::users::{AskingUsers, StagedUsers};
use crate::columns::Schemas;
use crate::cpu::Cpu;
use crate::decode::{NumberedCells, Tally, hidden_schema, numbered};
use crate::error::{Error, Kind, Result};
use crate::export::Client;
use crate::journal::{self, Begun, Journal, Record, SpanRecord, adoptable, refused_tasks};
use crate::lake::{DataFile, Key, Lake, Mode, Proposal, Source, State};
use crate::plan::Span;
use crate::progress::Progress;
use crate::schema::DATASETS;
use crate::settings::Settings;
use crate::sort::RowRef;
use crate::sort::collector::{Collector, belongs_to_cells};
use crate::window::Window;
use crate::write::comparison::{Comparison, Times};
use crate::write::old_files::OldFiles;
use crate::write::{Vanishing, Writer, Written};

/// What every span of a run needs.
pub struct Pipeline<'a> {
    /// Where it goes.
    pub lake: &'a Lake,
    /// Where it comes from: Stream, or files on disk.
    pub source: Source,
    /// What was asked for.
    pub settings: &'a Settings,
    /// The schemas of the lake.
    pub schemas: &'a Schemas,
    /// This run.
    pub run_id: Uuid,
    /// Who watches.
    pub progress: &'a Progress,
    /// Where rows are decoded, sorted and encoded.
    pub cpu: Cpu,
}

/// What is needed besides to ask Stream.
pub struct Asking<'a> {
    /// Stream.
    pub client: &'a Client,
    /// What this run asks for, for whoever comes after it.
    pub journal: &'a Arc<Journal>,
    /// What runs before it have asked for.
    pub begun: &'a [Begun],
    /// What it has asked for so far.
    pub counts: &'a Arc<Counts>,
}

/// What the cells of a span hold when it begins.
#[derive(Default)]
struct Before {
    files: OldFiles,
    /// The channels that have messages in them.
    held: BTreeSet<String>,
    /// [`State::next`] then.
    read_at: u64,
}

/// A span, decoded and not yet in order.
struct Decoded {
    collector: Arc<Collector>,
    requests: Requests,
    tally: Tally,
    /// The cells by the numbers that rows carry.
    cells: NumberedCells,
    /// When it was exported, if no task says so.
    begun_at: Timestamp,
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

impl Pipeline<'_> {
    /// Exports a span and stages its files.
    pub async fn export(
        &self,
        asking: &Asking<'_>,
        state: &State,
        span: &Span,
        origin: Option<Timestamp>,
    ) -> Result<Exported> {
        let window = span.window();
        // Stream tells when it took on an export in whole seconds, perhaps: none of this span may seem to be older than that.
        let begun_at = whole_second(asking.client.stream_now().unwrap_or_else(crate::clock::now));
        let before = self.before(state, span).await?;
        let known = match &span.only {
            Some(channels) => channels.clone(),
            None if span.replaces => self.known_channels(state, window, &before.held).await?,
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
        let usable = || journal::usable(asking.begun, &record, span.fresh_since, span.only.as_ref());
        let adopted = adoptable(usable());
        // Those that newer ones supersede as well: without the newer ones they would be next.
        let used: Vec<String> = usable().map(|(task, _)| task.task_id.clone()).collect();
        let asked = record.asked;
        let requested = asking.counts.requested.load(Relaxed);
        let number = asking.journal.write(&Record::Span(record)).await?;
        let exports = Exports::new(self, asking, span.cells.clone(), asked, number);
        let channels = match &span.only {
            Some(_) => None,
            None => Some(Channels::of(asking.client, self.lake, state, self.settings, span, self.cpu).await?),
        };
        let staged = async {
            let (collector, requests, tally) = exports.bring_in(known, adopted, channels).await?;
            let decoded = Decoded { collector, requests, tally, cells: numbered(&span.cells), begun_at };
            self.stage(state, span, before, decoded).await
        };
        let staged = staged.await;
        if staged.as_ref().is_err_and(|refusal| refusal.kind() == Kind::Data) {
            let has_asked = asking.counts.requested.load(Relaxed) > requested;
            self.write_refusal(asking, number, used, has_asked).await;
        }
        let mut exported = staged?;
        exported.proposal.origin = origin;
        Ok(exported)
    }

    /// Writes down what was refused, unless all of it is known to be. The refusal is what is told: without the record the next run
    /// looks at the same exports.
    async fn write_refusal(&self, asking: &Asking<'_>, span: u32, adopted: Vec<String>, has_asked: bool) {
        let under = self.settings.limits();
        let known = refused_tasks(asking.begun, under);
        if !has_asked && adopted.iter().all(|id| known.contains(id.as_str())) {
            return;
        }
        if let Err(error) = asking.journal.write(&Record::Refused { span, under, adopted }).await {
            tracing::warn!(error = error.report(), "the refusal is not written down");
        }
    }

    /// From rows to a proposal: checks, sorts and writes.
    async fn stage(&self, state: &State, span: &Span, before: Before, decoded: Decoded) -> Result<Exported> {
        let Before { files: old, held, read_at } = before;
        let Decoded { collector, mut requests, tally, cells, begun_at } = decoded;
        let window = span.window();
        let asked = |cid: &&String| span.only.as_ref().is_none_or(|only| only.contains(*cid));
        let held_and_known = held.iter().filter(asked).filter(|cid| !requests.missing.contains(*cid)).count();
        if let Err(refusal) = self.check(state, window, held_and_known as u64, &requests, &tally) {
            return Err(self.keep_set_aside(refusal, collector).await);
        }
        let exported_at = *requests.exported_at.get_or_insert(begun_at);
        let vanishing = Vanishing {
            removes: self.settings.removes_vanished,
            at: exported_at,
            carried: carried_channels(span, held, &requests),
            cut_reactions: tally.cut_reactions.clone(),
        };
        let before = state.covers_in(window).map(|covered| (covered.cover.window, covered.cover.complete_at()));
        let is_revisit = span.replaces && !span.merges && span.only.is_none();
        let times = is_revisit.then(|| Arc::new(Times { before: before.collect(), now: exported_at }));
        let written = self.write(cells, collector, old, vanishing, times).await?;
        let (covers, add, unchanged) = self.covers(state, span, &requests, &tally, written).await?;
        let mode = match span.replaces {
            _ if span.merges => Mode::Merge { read_at },
            true => Mode::Replace { read_at },
            false => Mode::Extend,
        };
        let proposal = Proposal { commit_id: Uuid::now_v7(), mode, covers, add, origin: None };
        Ok(Exported { proposal, unchanged, tally, requests })
    }

    /// What a span holds whose rows are to be replaced, or stand beside new ones.
    async fn before(&self, state: &State, span: &Span) -> Result<Before> {
        let read_at = state.next();
        if !span.replaces {
            return Ok(Before { read_at, ..Before::default() });
        }
        let Settings { temp_dir, replace, .. } = self.settings;
        let files = OldFiles::fetch(self.lake, state, &span.cells, temp_dir.as_deref(), *replace).await?;
        if span.merges {
            return Ok(Before { files: files.merged(), held: BTreeSet::new(), read_at });
        }
        let with_channels = move || {
            let held = files.cids()?;
            Ok::<_, Error>(Before { files, held, read_at })
        };
        self.cpu.run(with_channels).await
    }

    /// The channels that a replaced span holds rows of, or should: discovery does not list those that have gone silent.
    async fn known_channels(&self, state: &State, window: Window, held: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut cids = held.clone();
        for record in state.covers_in(window).map(|covered| &covered.cover.record) {
            // What lies aside is mostly tasks.
            if record.missing_channels() + record.failed_channels() == 0 {
                continue;
            }
            let lists = self.lake.lists(record).await?;
            // Of a list that is looked up, those that are still missing are known without asking for each of them.
            if !self.settings.selection.is_looked_up() {
                cids.extend(lists.missing_channels);
            }
            cids.extend(lists.failed_channels.into_iter().map(|exception| exception.cid));
        }
        Ok(cids)
    }

    /// Sorts and stages the rows of all datasets. With `times`, those of cells are compared with the old ones.
    async fn write(
        &self,
        cells: NumberedCells,
        collector: Arc<Collector>,
        old: OldFiles,
        vanishing: Vanishing,
        times: Option<Arc<Times>>,
    ) -> Result<Written> {
        self.progress.writing();
        let writer = Writer {
            lake: self.lake.clone(),
            run_id: self.run_id,
            schemas: self.schemas.clone(),
            prefix: "",
            cells: cells.clone(),
            vanishing: Arc::new(vanishing),
            options: self.settings.file.clone(),
            parts: self.settings.memory.parts(),
            cpu: self.cpu,
            key: |run_id, file| Key::Staged { run_id, file },
        };
        let damaged = cells.values().copied().filter(|cell| old.is_damaged(*cell)).collect();
        let mut written = Written { damaged, cells: cells.clone(), ..Written::default() };
        let (collector_of_old, schemas) = (Arc::clone(&collector), self.schemas.clone());
        self.cpu.run(move || old.push_into(&schemas, &collector_of_old, &cells)).await?;
        for dataset in 0..DATASETS.len() {
            let comparison = match &times {
                Some(times) if belongs_to_cells(dataset) => {
                    Some(Comparison::new(&hidden_schema(self.schemas.get(dataset)), Arc::clone(times))?)
                }
                _ => None,
            };
            let (collector, pairs) = (Arc::clone(&collector), comparison.clone());
            let compare = move |winner: RowRef<'_>, loser: RowRef<'_>| {
                if let Some(pairs) = &pairs {
                    pairs.pair(winner, loser);
                }
            };
            let Some(rows) = self.cpu.run(move || collector.take_with(dataset, compare)).await? else { continue };
            if let Err(error) = writer.write(dataset, rows, comparison, &mut written).await {
                self.discard(written.files.iter().map(|(_, file)| file)).await;
                return Err(error);
            }
        }
        Ok(written)
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

fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The channels whose old rows stay as they are: those that could not be exported, or were not asked for.
fn carried_channels(span: &Span, held: BTreeSet<String>, requests: &Requests) -> HashSet<String> {
    let absent = requests.missing.iter().chain(requests.failed.keys()).cloned();
    let others = held.into_iter().filter(|cid| span.only.as_ref().is_some_and(|only| !only.contains(cid)));
    absent.chain(others).collect()
}
