//! A reader that looks at the lake after every change, with eyes that nothing delays, and remembers what it saw.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use simulator::Truth;
use tokio::sync::Notify;

use crate::export::ExportTask;
use crate::journal::{Record, SpanRecord};
use crate::lake::revisit::REMEMBERED;
use crate::lake::{DataFile, Key, Lake, Revisit, State};
use crate::window::Window;

/// A message as a reader of files sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) id: String,
    cid: String,
    created_at_us: i64,
    updated_at_us: Option<i64>,
    is_deleted: bool,
    text: Option<String>,
    vanished: bool,
}

/// A task that a run wrote down.
#[derive(Clone, Debug)]
struct Written {
    by: String,
    /// Its place in the order of everything that was written down or listed.
    at: usize,
    span: SpanRecord,
    task: ExportTask,
}

#[derive(Default)]
struct Seen {
    state: State,
    files: HashMap<String, Arc<Vec<Row>>>,
    committed: BTreeSet<String>,
    events: usize,
    spans: HashMap<(String, u32), SpanRecord>,
    tasks: Vec<Written>,
    listed: HashMap<String, usize>,
    violation: Option<String>,
}

/// The reader.
pub(super) struct Reader {
    objects: Arc<InMemory>,
    lake: Lake,
    seen: Mutex<Seen>,
    violated: Notify,
}

impl Reader {
    pub(super) fn new(objects: &Arc<InMemory>) -> Self {
        let lake = Lake::new(Arc::clone(objects) as Arc<dyn ObjectStore>, "memory".to_owned());
        Self { objects: Arc::clone(objects), lake, seen: Mutex::default(), violated: Notify::new() }
    }

    /// Ends when something was seen that must never be.
    pub(super) async fn violation(&self) -> String {
        loop {
            if let Some(violation) = self.seen.lock().unwrap().violation.clone() {
                return violation;
            }
            self.violated.notified().await;
        }
    }

    pub(super) fn state(&self) -> State {
        self.seen.lock().unwrap().state.clone()
    }

    /// A process has listed the journals of others.
    pub(super) fn listed(&self, by: &str) {
        let mut seen = self.seen.lock().unwrap();
        seen.events += 1;
        let at = seen.events;
        seen.listed.entry(by.to_owned()).or_insert(at);
    }

    /// A process has written to its journal.
    pub(super) fn wrote(&self, by: &str, seq: u32, record: &[u8]) {
        let mut seen = self.seen.lock().unwrap();
        seen.events += 1;
        let at = seen.events;
        match serde_json::from_slice(record).unwrap() {
            Record::Span(span) => {
                seen.spans.insert((by.to_owned(), seq), span);
            }
            Record::Task { span, task } => {
                // Exports of users belong to no span.
                if let Some(span) = seen.spans.get(&(by.to_owned(), span)).cloned() {
                    seen.tasks.push(Written { by: by.to_owned(), at, span, task });
                }
            }
            Record::Intent { .. } | Record::Users(_) | Record::Refused { .. } => {}
        }
    }

    /// Looks at everything. To be called after every change of what readers see.
    pub(super) async fn look(&self, after: &str) {
        if let Err(violation) = self.try_look().await {
            self.seen.lock().unwrap().violation.get_or_insert(format!("after {after}: {violation}"));
            self.violated.notify_one();
        }
    }

    async fn try_look(&self) -> Result<(), String> {
        // Nobody else looks meanwhile: objects in memory answer at once.
        let before = std::mem::take(&mut self.seen.lock().unwrap().state);
        let mut state = before.clone();
        self.lake.refresh(&mut state).await.map_err(|error| error.report())?;
        if state.pending().is_some_and(|pending| !pending.discarded.is_empty()) {
            return Err("an entry was voided although no file was ever lost".to_owned());
        }
        self.check_coverage(&before, &state)?;
        self.check_files(&state).await?;
        self.seen.lock().unwrap().state = state;
        Ok(())
    }

    /// Coverage never shrinks, no instant goes back to an older export, and what revisits have found is not forgotten.
    fn check_coverage(&self, before: &State, now: &State) -> Result<(), String> {
        if now.frontier() < before.frontier() {
            return Err(format!("the frontier went back from {:?} to {:?}", before.frontier(), now.frontier()));
        }
        for old in before.covers() {
            let window = old.cover.window;
            if !now.uncovered(window).is_empty() {
                return Err(format!("`{window}` was covered and is not any more"));
            }
            if let Some(older) = now.covers_in(window).find(|new| new.cover.exported_at < old.cover.exported_at) {
                return Err(format!(
                    "`{window}` was exported at {} and is now as of {}",
                    old.cover.exported_at, older.cover.exported_at
                ));
            }
        }
        for old in before.covers() {
            let window = old.cover.window;
            let now: Vec<&Revisit> = now.covers_in(window).flat_map(|new| &new.cover.record.revisits).collect();
            let forgotten = old.cover.record.revisits.iter().find(|revisit| !now.contains(revisit));
            if now.len() < REMEMBERED && forgotten.is_some() {
                return Err(format!("`{window}` remembers nothing of {forgotten:?}"));
            }
        }
        Ok(())
    }

    /// Every file that the log names is whole; a glob shows it, but for what an entry is moving just now.
    async fn check_files(&self, state: &State) -> Result<(), String> {
        let shown = self.shown().await;
        let key = |file: &DataFile| file.key().to_string();
        let (mut added, mut removed) = (BTreeSet::new(), BTreeSet::new());
        if let Some(pending) = state.pending() {
            added.extend(pending.added.iter().map(key));
            removed.extend(pending.removed.iter().map(|live| key(&live.file)));
        }
        let live: BTreeSet<String> = state.files().map(|live| key(&live.file)).collect();
        if let Some(stray) = shown.keys().find(|shown| !live.contains(*shown) && !removed.contains(*shown)) {
            return Err(format!("a glob shows `{stray}`, which the log does not know"));
        }
        if let Some(hidden) = live.iter().find(|key| !shown.contains_key(*key) && !added.contains(*key)) {
            return Err(format!("a glob does not show `{hidden}`, which is live and settled"));
        }
        let is_gone = |key: &&String| !shown.contains_key(*key);
        if let (Some(gone), Some(missing)) = (removed.iter().find(is_gone), added.iter().find(is_gone)) {
            return Err(format!("`{gone}` was deleted before `{missing}` was there"));
        }
        for live in state.files() {
            let file = &live.file;
            let staged = || async { Some(self.objects.head(&file.staged_key().path()).await.ok()?.size) };
            let bytes = match shown.get(&key(file)) {
                Some(bytes) => Some(*bytes),
                None => staged().await,
            };
            if bytes != Some(file.bytes) {
                return Err(format!("`{}` has {bytes:?} bytes, the log says {}", file.key(), file.bytes));
            }
            if file.dataset == "messages" {
                self.read(file).await?;
            }
        }
        Ok(())
    }

    /// What a bare glob finds, with sizes.
    async fn shown(&self) -> BTreeMap<String, u64> {
        let all: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        all.into_iter()
            .filter(|object| matches!(Key::parse(&object.location), Some(Key::Data { .. })))
            .map(|object| (object.location.to_string(), object.size))
            .collect()
    }

    /// The rows of a live file of messages, read once.
    async fn read(&self, file: &DataFile) -> Result<Arc<Vec<Row>>, String> {
        if let Some(rows) = self.seen.lock().unwrap().files.get(&file.id) {
            return Ok(Arc::clone(rows));
        }
        let rows = Arc::new(self.fetch(file).await?);
        let mut seen = self.seen.lock().unwrap();
        seen.committed.extend(rows.iter().map(|row| row.id.clone()));
        seen.files.insert(file.id.clone(), Arc::clone(&rows));
        Ok(rows)
    }

    async fn fetch(&self, file: &DataFile) -> Result<Vec<Row>, String> {
        let bytes = async {
            match self.objects.get(&file.key().path()).await {
                Ok(found) => found.bytes().await,
                Err(_) => self.objects.get(&file.staged_key().path()).await?.bytes().await,
            }
        };
        let rows = rows(bytes.await.map_err(|error| error.to_string())?)?;
        if rows.len() as u64 != file.rows {
            return Err(format!("`{}` has {} rows, the log says {}", file.key(), rows.len(), file.rows));
        }
        Ok(rows)
    }

    /// At the end: the last export of users holds what these have in the app.
    pub(super) async fn check_users(&self, user_ids: &BTreeSet<String>, truth: &Truth) -> Result<(), String> {
        let state = self.state();
        let last = state.user_exports().next_back().ok_or("users were exported, and the log does not say so")?;
        let mut found = Vec::new();
        for live in state.files().filter(|live| live.entry == last.entry) {
            if live.file.dataset == "user_exports/messages" {
                found.extend(self.fetch(&live.file).await?);
            }
        }
        found.sort();
        let is_theirs =
            |message: &&simulator::TrueMessage| message.user_id.as_ref().is_some_and(|id| user_ids.contains(id));
        let mut theirs: Vec<Row> = truth.messages.iter().filter(is_theirs).map(expected).collect();
        theirs.sort();
        if theirs == found { Ok(()) } else { Err(format!("users have {theirs:?}, the lake {found:?}")) }
    }

    /// Once all is covered and nothing is missing: every message that the app still has is there, whatever has become of it since.
    pub(super) async fn check_complete(&self, range: Window, truth: &Truth) -> Result<(), String> {
        let state = self.state();
        if let Some(lacking) = state.covers_in(range).find(|covered| covered.cover.record.failed_channels() > 0) {
            return Err(format!("{} lacks channels although nothing fails", lacking.cover.window));
        }
        let mut there: BTreeSet<String> = BTreeSet::new();
        for live in state.files().filter(|live| live.file.dataset == "messages") {
            there.extend(self.read(&live.file).await?.iter().filter(|row| !row.vanished).map(|row| row.id.clone()));
        }
        let lost =
            truth.messages.iter().find(|message| range.contains(message.created_at) && !there.contains(&message.id));
        lost.map_or(Ok(()), |lost| Err(format!("message {} of {} is missing", lost.id, lost.cid)))
    }

    /// At the end: the lake is the app, and what the app has lost is marked. `filled`: channels may have failed and been filled in.
    pub(super) async fn check_end(
        &self,
        range: Window,
        truth: &Truth,
        hard_deleted: &BTreeSet<String>,
        filled: bool,
    ) -> Result<(), String> {
        let state = self.state();
        if !state.uncovered(range).is_empty() {
            return Err(format!("{:?} is not covered at the end", state.uncovered(range)));
        }
        let shown = self.shown().await;
        let live: BTreeSet<String> = state.files().map(|live| live.file.key().to_string()).collect();
        if !live.iter().eq(shown.keys()) {
            return Err("at the end a glob does not show what the log says".to_owned());
        }
        let mut found = Vec::new();
        for file in state.files().map(|live| &live.file).filter(|file| file.dataset == "messages") {
            found.extend(self.read(file).await?.iter().cloned());
        }
        found.sort();
        if let Some(twice) = found.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(format!("message {} is there twice", twice[0].id));
        }
        let expected: Vec<Row> = {
            let inside = |message: &&simulator::TrueMessage| range.contains(message.created_at);
            let mut rows: Vec<Row> = truth.messages.iter().filter(inside).map(expected).collect();
            rows.sort();
            rows
        };
        let there: BTreeSet<String> = found.iter().map(|row| row.id.clone()).collect();
        // Days after the range may be covered too, and are not looked at again.
        found.retain(|row| Timestamp::from_microsecond(row.created_at_us).is_ok_and(|at| range.contains(at)));
        let (vanished, found): (Vec<Row>, Vec<Row>) = found.into_iter().partition(|row| row.vanished);
        if let Some((one, other)) = expected.iter().zip(&found).find(|(one, other)| one != other) {
            return Err(format!("the app has {one:?}, the lake {other:?}"));
        }
        if expected.len() != found.len() {
            return Err(format!("the app has {} messages, the lake {}", expected.len(), found.len()));
        }
        if let Some(row) = vanished.iter().find(|row| !hard_deleted.contains(&row.id)) {
            return Err(format!("message {} is marked as vanished and was never deleted", row.id));
        }
        // Nothing comes back here, so a row vanishes once; in a channel that was filled in, outside of any revisit.
        let revisits = state.covers_in(range).flat_map(|covered| &covered.cover.record.revisits);
        let counted: u64 = revisits.map(|revisit| revisit.messages.vanished).sum();
        let marked = vanished.len() as u64;
        if counted > marked || (counted < marked && !filled) {
            return Err(format!("revisits have missed {counted} messages, and {marked} are marked"));
        }
        if let Some(lost) = self.seen.lock().unwrap().committed.iter().find(|id| !there.contains(*id)) {
            return Err(format!("message {lost} was committed once and is gone"));
        }
        Ok(())
    }

    /// No channel was asked for again for a span that another run had asked for and written down before this one looked, unless
    /// its file was `refused`.
    pub(super) fn check_paid_once(&self, refused: &BTreeSet<String>) -> Result<(), String> {
        let seen = self.seen.lock().unwrap();
        for second in seen.tasks.iter().filter(|task| !task.span.replaces) {
            let listed = seen.listed.get(&second.by).copied().unwrap_or(0);
            let first = seen.tasks.iter().find(|first| {
                first.by != second.by
                    && !refused.contains(&first.task.task_id)
                    && first.at < listed
                    && !first.span.replaces
                    && first.span.asked.covers(&second.span.asked)
                    // One that hung is given up after a day.
                    && second.task.requested_at.duration_since(first.task.requested_at) < SignedDuration::from_hours(20)
                    && first.task.cids.iter().any(|cid| second.task.cids.contains(cid))
            });
            if let Some(first) = first {
                return Err(format!(
                    "{} asked for {:?} again, which {} had asked for as task {}",
                    second.by, second.task.cids, first.by, first.task.task_id
                ));
            }
        }
        Ok(())
    }
}

fn expected(message: &simulator::TrueMessage) -> Row {
    Row {
        id: message.id.clone(),
        cid: message.cid.clone(),
        created_at_us: message.created_at.as_microsecond(),
        updated_at_us: Some(message.updated_at.as_microsecond()),
        is_deleted: message.deleted_at.is_some(),
        text: Some(message.text.clone()),
        vanished: false,
    }
}

fn rows(bytes: Bytes) -> Result<Vec<Row>, String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
    let mut rows = Vec::new();
    for batch in reader.map_err(|error| error.to_string())? {
        let batch = batch.map_err(|error| error.to_string())?;
        rows.extend((0..batch.num_rows()).map(|index| row(&batch, index)));
    }
    Ok(rows)
}

fn row(batch: &RecordBatch, index: usize) -> Row {
    let text = |name: &str| {
        let column = batch.column_by_name(name).unwrap().as_string::<i32>();
        column.is_valid(index).then(|| column.value(index).to_owned())
    };
    let time_us = |name: &str| {
        let column = batch.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>();
        column.is_valid(index).then(|| column.value(index))
    };
    Row {
        id: text("id").unwrap(),
        cid: text("cid").unwrap(),
        created_at_us: time_us("created_at").unwrap(),
        updated_at_us: time_us("updated_at"),
        is_deleted: time_us("deleted_at").is_some(),
        text: text("text"),
        vanished: time_us("_vanished_at").is_some(),
    }
}

/// Stream keeps microseconds.
pub(super) fn floor_us(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap()
}
