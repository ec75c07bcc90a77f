//! The journal of a run: what it asks Stream for, written down before it asks, and the task as soon as Stream answers.
//!
//! An export is paid for when it is asked for. If the run dies, the next one finds here which tasks were begun for which
//! cells and follows them instead of asking again; at most the requests in flight at that moment are paid twice. Nobody
//! needs to know whether a run is dead: two runs that read the same task come to the same rows, and the log takes one.
//!
//! Records are objects of their own, written once. A run that has ended in order deletes its journal.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use object_store::{ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use uuid::Uuid;

use crate::error::{Error, Kind, Result};
use crate::export::{ExportOptions, ExportTask};
use crate::lake::store_error::store_error;
use crate::lake::{Key, Lake, State};
use crate::window::Window;

/// Records that are read at once.
const READ_AHEAD: usize = 16;
/// The most records of other runs that are read: far more than a run that died has.
const MAX_RECORDS: usize = 200_000;

/// Stream keeps the file of an export for 60 days; a day is left for reading it.
const KEPT_BY_STREAM: SignedDuration = SignedDuration::from_hours(59 * 24);

/// An export of users is asked for to know what is there now: what a dead run has asked for is used for a day.
const USERS_FRESH: SignedDuration = SignedDuration::from_hours(24);

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A span is begun.
    Span(SpanRecord),
    /// An export of users is begun.
    Users(UsersRecord),
    /// An export is about to be asked for.
    Intent {
        /// The record of the span, or of the users.
        span: u32,
        /// The channels, or the users.
        cids: Vec<String>,
    },
    /// Stream has begun the export.
    Task {
        /// The record of the span, or of the users.
        span: u32,
        /// The task.
        task: ExportTask,
    },
    /// What came of a span was not let into the lake.
    Refused {
        /// The record of the span.
        span: u32,
        /// What was allowed.
        under: Limits,
        /// The tasks of other runs that it was made of, beside its own.
        #[serde(default)]
        adopted: Vec<String>,
    },
}

/// What an export may lack and still become a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Lines that do not fit; none: the default.
    pub max_rejected: Option<u64>,
    /// No messages where there should be some.
    pub accept_empty: bool,
}

impl Record {
    /// Reads the object at this key.
    pub fn from_json(key: &Key, bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::new(Kind::Data, format!("`{key}` is no record of a journal"))
                .because(error)
                .hint("delete that object and run again: at worst an export is asked for a second time")
        })
    }
}

/// What all exports of a span have in common: only a run that wants the same may use them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanRecord {
    /// Stream's time when it was begun: every task is at least as new.
    pub begun_at: Timestamp,
    /// The cells.
    pub cells: Vec<Window>,
    /// What is asked for, the margin included.
    pub asked: Window,
    /// Whether covered cells are exported again.
    pub replaces: bool,
    /// What an export holds.
    pub options: ExportOptions,
}

/// What all exports of a run over users have in common: only a run over the same users may use them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsersRecord {
    /// Stream's time when it was begun.
    pub begun_at: Timestamp,
    /// Everybody who was asked for.
    pub user_ids: BTreeSet<String>,
}

/// A span of another run, and what it had asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The run.
    pub run_id: Uuid,
    /// The span.
    pub span: SpanRecord,
    /// Its tasks, in the order in which they were asked for.
    pub tasks: Vec<ExportTask>,
    /// The numbers of the records that say so.
    pub records: Vec<u32>,
    /// Why what came of it was refused.
    pub refusal: Option<Refusal>,
}

/// What was not let into the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was allowed: under the same limits it would be refused again.
    pub under: Limits,
    /// The tasks of other runs that it was made of.
    pub adopted: Vec<String>,
}

/// Users that another run has begun to export, and what it had asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunUsers {
    /// The run.
    pub run_id: Uuid,
    /// The users.
    pub users: UsersRecord,
    /// Its tasks, in the order in which they were asked for.
    pub tasks: Vec<ExportTask>,
    /// The numbers of the records that say so.
    pub records: Vec<u32>,
}

/// The journal that this run writes.
#[derive(Debug)]
pub struct Journal {
    lake: Lake,
    run_id: Uuid,
    next: AtomicU32,
    /// Held for reading by every request in flight.
    asking: Arc<RwLock<()>>,
}

impl Journal {
    /// An empty one. Nothing is written before the first record.
    pub fn new(lake: &Lake, run_id: Uuid) -> Self {
        Self { lake: lake.clone(), run_id, next: AtomicU32::new(0), asking: Arc::default() }
    }

    /// Writes a record and yields its number. It is durable when this returns.
    pub async fn write(&self, record: &Record) -> Result<u32> {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = serde_json::to_vec(record)
            .map_err(|error| Error::new(Kind::Internal, "cannot write the journal").because(error))?;
        let key = Key::Journal { run_id: self.run_id, seq };
        self.lake
            .store()
            .put(&key.path(), PutPayload::from(bytes))
            .await
            .map_err(|error| store_error("cannot write the journal", self.lake.display_url(), error))?;
        Ok(seq)
    }

    /// To be held until a request is answered and its task is written down.
    pub async fn asking(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.asking).read_owned().await
    }

    /// Waits until every request in flight is answered and written down, or for this long.
    pub async fn quiet(&self, at_most: Duration) {
        if tokio::time::timeout(at_most, self.asking.write()).await.is_err() {
            tracing::warn!("stopped before Stream had answered every request: those exports may be asked for again");
        }
    }

    /// The run has ended in order: nobody needs its journal any more.
    pub async fn end(&self) {
        let written = self.next.swap(0, Ordering::Relaxed);
        let keys = (0..written).map(|seq| Key::Journal { run_id: self.run_id, seq }.path()).collect();
        if let Err(error) = self.lake.delete(keys).await {
            tracing::debug!(%error, "the journal of this run is left behind");
        }
    }
}

/// The spans that other runs have begun and not ended, newest run first.
pub async fn begun_spans(lake: &Lake, own: Uuid) -> Result<Vec<Begun>> {
    begun(lake, own).await.map(|(spans, _)| spans)
}

/// All that other runs have begun and not ended, newest run first.
pub async fn begun(lake: &Lake, own: Uuid) -> Result<(Vec<Begun>, Vec<BegunUsers>)> {
    let cannot = |error| store_error("cannot read the journals of other runs", lake.display_url(), error);
    let mut keys: BTreeMap<Uuid, BTreeSet<u32>> = BTreeMap::new();
    let mut listed = lake.store().list(Some(&Key::journals())).take(MAX_RECORDS);
    while let Some(object) = listed.try_next().await.map_err(cannot)? {
        if let Some(Key::Journal { run_id, seq }) = Key::parse(&object.location)
            && run_id != own
        {
            keys.entry(run_id).or_default().insert(seq);
        }
    }
    if keys.values().map(BTreeSet::len).sum::<usize>() == MAX_RECORDS {
        tracing::warn!(
            records = MAX_RECORDS,
            "journals of dead runs pile up, not all are read: `chatlake gc --delete`"
        );
    }
    let (mut spans, mut users) = (Vec::new(), Vec::new());
    // The ids of runs begin with the time.
    for (run_id, numbers) in keys.into_iter().rev() {
        let records = futures::stream::iter(numbers).map(|seq| read(lake, run_id, seq));
        let records: Vec<(u32, Option<Record>)> = records.buffered(READ_AHEAD).try_collect().await?;
        spans.extend(spans_of(run_id, &records));
        users.extend(users_of(run_id, &records));
    }
    Ok((spans, users))
}

/// None when the run has ended meanwhile.
async fn read(lake: &Lake, run_id: Uuid, seq: u32) -> Result<(u32, Option<Record>)> {
    let key = Key::Journal { run_id, seq };
    let cannot = |error| store_error("cannot read the journals of other runs", lake.display_url(), error);
    let bytes = match lake.store().get(&key.path()).await {
        Ok(found) => found.bytes().await.map_err(cannot)?,
        Err(object_store::Error::NotFound { .. }) => return Ok((seq, None)),
        Err(error) => return Err(cannot(error)),
    };
    Ok((seq, Some(Record::from_json(&key, &bytes)?)))
}

/// Deletes what was read of the journals of these runs. What they have written since stays.
pub async fn forget(lake: &Lake, begun: &[Begun]) -> Result<()> {
    delete_records(lake, begun.iter().map(|begun| (begun.run_id, begun.records.as_slice()))).await
}

/// The same of runs over users.
pub async fn forget_users(lake: &Lake, begun: &[BegunUsers]) -> Result<()> {
    delete_records(lake, begun.iter().map(|begun| (begun.run_id, begun.records.as_slice()))).await
}

async fn delete_records(lake: &Lake, records: impl Iterator<Item = (Uuid, &[u32])>) -> Result<()> {
    let keys: BTreeSet<(Uuid, u32)> =
        records.flat_map(|(run_id, numbers)| numbers.iter().map(move |seq| (run_id, *seq))).collect();
    lake.delete(keys.into_iter().map(|(run_id, seq)| Key::Journal { run_id, seq }.path()).collect()).await
}

impl Begun {
    /// Whether nobody needs it any more: every cell is covered, or, when it was to replace, was exported later.
    pub fn is_over(&self, state: &State) -> bool {
        let SpanRecord { begun_at, cells, replaces, .. } = &self.span;
        cells.iter().all(|cell| {
            let covered = state.uncovered(*cell).is_empty();
            covered && (!replaces || state.covers_in(*cell).all(|old| old.cover.exported_at >= *begun_at))
        })
    }

    /// Whether what this span asked for may still be used instead of asking again for these cells. Old exports never replace
    /// newer ones: a replacement takes only what was asked for at `fresh_since` or later. There is no other end: what is in a
    /// journal was asked for before, and Stream's times are whole seconds, so of two runs within one the first may seem later.
    pub fn serves(&self, wanted: &SpanRecord, fresh_since: Timestamp) -> bool {
        let SpanRecord { begun_at, asked, replaces, options, .. } = &self.span;
        (replaces, options) == (&wanted.replaces, &wanted.options)
            && asked.covers(&wanted.asked)
            && *begun_at >= fresh_since
    }
}

/// The tasks of what was refused under these very limits.
pub fn refused_tasks(begun: &[Begun], limits: Limits) -> HashSet<&str> {
    let refused = begun.iter().filter_map(|begun| Some((begun, begun.refusal.as_ref()?)));
    refused
        .filter(|(_, refusal)| refusal.under == limits)
        .flat_map(|(begun, refusal)| begun.tasks.iter().map(|task| &task.task_id).chain(&refusal.adopted))
        .map(String::as_str)
        .collect()
}

/// Takes out the tasks of what was refused under these very limits: they would be refused again. Yields the spans of which nothing
/// is left, and those that may still be used.
pub fn part_refused(mut begun: Vec<Begun>, limits: Limits) -> (Vec<Begun>, Vec<Begun>) {
    let refused: HashSet<String> = refused_tasks(&begun, limits).into_iter().map(str::to_owned).collect();
    for begun in &mut begun {
        begun.tasks.retain(|task| !refused.contains(&task.task_id));
    }
    begun.into_iter().partition(|begun| begun.tasks.is_empty())
}

impl BegunUsers {
    /// Whether what it asked for, or has committed, is what is wanted now: the same users, and still news.
    pub fn serves(&self, wanted: &UsersRecord) -> bool {
        let UsersRecord { begun_at, user_ids } = &self.users;
        *user_ids == wanted.user_ids && wanted.begun_at.duration_since(*begun_at) < USERS_FRESH
    }
}

/// A task to follow instead of asking again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The task.
    pub task: ExportTask,
    /// Channels of it that a newer one brings.
    pub superseded: BTreeSet<String>,
    /// What was asked for: more than is wanted now, perhaps.
    pub asked: Window,
}

/// What other runs have asked for and may be used now, each with the time that it was asked for: of these channels alone, if there are
/// some, since the rows of all others are to stay as they are.
pub fn usable<'a>(
    begun: &'a [Begun],
    wanted: &'a SpanRecord,
    fresh_since: Timestamp,
    only: Option<&'a BTreeSet<String>>,
) -> impl Iterator<Item = (&'a ExportTask, Window)> {
    let is_kept = |task: &ExportTask| wanted.begun_at.duration_since(task.requested_at) < KEPT_BY_STREAM;
    let is_of = move |task: &ExportTask| only.is_none_or(|only| task.cids.iter().all(|cid| only.contains(cid)));
    let serving = begun.iter().filter(move |begun| begun.serves(wanted, fresh_since));
    let tasks = serving.flat_map(|begun| begun.tasks.iter().rev().map(|task| (task, begun.span.asked)));
    tasks.filter(move |(task, _)| is_kept(task) && is_of(task))
}

/// The tasks to follow instead of asking again, newest first: each channel is brought by the newest that it is in. Of a task
/// that was asked for again in halves the halves are taken.
pub fn adoptable<'a>(usable: impl Iterator<Item = (&'a ExportTask, Window)>) -> Vec<Adopted> {
    let newest = newest_first(usable.collect());
    newest.into_iter().map(|(task, superseded, asked)| Adopted { task: task.clone(), superseded, asked }).collect()
}

/// A task of a run over the same users, to follow instead of asking again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedUsers {
    /// The task.
    pub task: ExportTask,
    /// Users in it whom a newer one brings.
    pub superseded: BTreeSet<String>,
}

/// The same of runs that [serve](BegunUsers::serves) one over the same users.
pub fn adoptable_users(begun: &[BegunUsers]) -> Vec<AdoptedUsers> {
    let tasks = begun.iter().flat_map(|begun| begun.tasks.iter().rev().map(|task| (task, ())));
    let newest = newest_first(tasks.collect());
    newest.into_iter().map(|(task, superseded, ())| AdoptedUsers { task: task.clone(), superseded }).collect()
}

/// Orders tasks by their age, the newest first, and leaves out those that newer ones bring altogether. Yields what of each is
/// brought by newer ones.
fn newest_first<T>(mut tasks: Vec<(&ExportTask, T)>) -> Vec<(&ExportTask, BTreeSet<String>, T)> {
    // Stream's times are whole seconds, and what is finer is noise: of tasks of one second the later in the journal is the newer.
    tasks.sort_by_key(|(task, _)| std::cmp::Reverse(task.requested_at.as_second()));
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let mut newest = Vec::new();
    for (task, of) in tasks {
        let superseded: BTreeSet<String> =
            task.cids.iter().filter(|cid| taken.contains(cid.as_str())).cloned().collect();
        if superseded.len() < task.cids.len() {
            taken.extend(task.cids.iter().map(String::as_str));
            newest.push((task, superseded, of));
        }
    }
    newest
}

/// The spans of a run. Pure.
fn spans_of(run_id: Uuid, all: &[(u32, Option<Record>)]) -> Vec<Begun> {
    let span = |record: &Record| match record {
        Record::Span(span) => Some(span.clone()),
        _ => None,
    };
    let spans = put_together(all, span).into_iter();
    let refusal = |records: &[u32]| {
        all.iter().rev().find_map(|(seq, record)| match record {
            Some(Record::Refused { under, adopted, .. }) if records.contains(seq) => {
                Some(Refusal { under: *under, adopted: adopted.clone() })
            }
            _ => None,
        })
    };
    spans.map(|(span, tasks, records)| Begun { run_id, span, tasks, refusal: refusal(&records), records }).collect()
}

/// The exports of users of a run. Pure.
fn users_of(run_id: Uuid, records: &[(u32, Option<Record>)]) -> Vec<BegunUsers> {
    let users = |record: &Record| match record {
        Record::Users(users) => Some(users.clone()),
        _ => None,
    };
    let begun = put_together(records, users).into_iter();
    begun.map(|(users, tasks, records)| BegunUsers { run_id, users, tasks, records }).collect()
}

/// What a run has begun, with its tasks and the numbers of all its records.
type Together<W> = (W, Vec<ExportTask>, Vec<u32>);

/// Puts the records of one run together.
fn put_together<W>(records: &[(u32, Option<Record>)], begins: impl Fn(&Record) -> Option<W>) -> Vec<Together<W>> {
    let mut all: BTreeMap<u32, Together<W>> = BTreeMap::new();
    for (seq, record) in records {
        match record {
            // A run's records are numbered in order, so what is begun comes first; without it a task says nothing.
            Some(Record::Task { span, task }) => {
                if let Some((_, tasks, records)) = all.get_mut(span) {
                    tasks.push(task.clone());
                    records.push(*seq);
                }
            }
            Some(Record::Intent { span, .. } | Record::Refused { span, .. }) => {
                if let Some((.., records)) = all.get_mut(span) {
                    records.push(*seq);
                }
            }
            Some(record) => {
                if let Some(begun) = begins(record) {
                    all.insert(*seq, (begun, Vec::new(), vec![*seq]));
                }
            }
            None => {}
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::window::parse_time;

    fn window(since: &str, until: &str) -> Window {
        Window::new(parse_time(since).unwrap(), parse_time(until).unwrap()).unwrap()
    }

    fn span() -> SpanRecord {
        let day = window("2026-01-01", "2026-01-02");
        SpanRecord {
            begun_at: day.until,
            cells: vec![day],
            asked: day,
            replaces: false,
            options: ExportOptions::default(),
        }
    }

    fn task(id: &str, cid: &str) -> ExportTask {
        ExportTask { task_id: id.to_owned(), requested_at: span().begun_at, cids: vec![cid.to_owned()] }
    }

    #[test]
    fn what_was_refused_is_wanted_again_only_under_other_limits() {
        let limits = Limits { max_rejected: None, accept_empty: false };
        let more = Limits { max_rejected: Some(30), ..limits };
        let begun = |tasks: &[&str], refusal: Option<Refusal>| {
            let tasks = tasks.iter().map(|id| task(id, "a:1")).collect();
            let span = SpanRecord { replaces: true, ..span() };
            Begun { run_id: Uuid::nil(), span, tasks, records: Vec::new(), refusal }
        };
        // Died; went on with one of its exports, beside one of its own, and was refused; asked for new ones and died.
        let refusal = Refusal { under: limits, adopted: vec!["old".into()] };
        let all = vec![begun(&["old", "other"], None), begun(&["own"], Some(refusal)), begun(&["new"], None)];
        let (refused, left) = part_refused(all.clone(), limits);
        assert_eq!(refused, [Begun { tasks: Vec::new(), ..all[1].clone() }]);
        assert_eq!(left, [begun(&["other"], None), all[2].clone()]);
        assert_eq!(part_refused(all.clone(), more), (Vec::new(), all));
    }

    #[test]
    fn a_refusal_belongs_to_its_span() {
        let limits = Limits { max_rejected: Some(0), accept_empty: true };
        let refused = Record::Refused { span: 1, under: limits, adopted: vec!["t".into()] };
        let records = [Record::Span(span()), Record::Span(span()), refused];
        let records: Vec<_> = (0..).zip(records.map(Some)).collect();
        let spans = spans_of(Uuid::nil(), &records);
        let refusal = Refusal { under: limits, adopted: vec!["t".into()] };
        assert_eq!(spans.iter().map(|span| span.refusal.clone()).collect::<Vec<_>>(), [None, Some(refusal)]);
        assert_eq!(spans[1].records, [1, 2]);
    }

    #[test]
    fn each_channel_is_in_one_adopted_task_and_halves_win() {
        let at = |minutes: i64| span().begun_at + SignedDuration::from_mins(minutes);
        let task = |id: &str, minutes: i64, cids: &[&str]| ExportTask {
            task_id: id.to_owned(),
            requested_at: at(minutes),
            cids: cids.iter().map(|cid| (*cid).to_owned()).collect(),
        };
        let begun = Begun {
            run_id: Uuid::nil(),
            span: span(),
            tasks: vec![task("whole", 0, &["a:1", "a:2"]), task("half", 0, &["a:1"]), task("other", 1, &["a:3"])],
            records: Vec::new(),
            refusal: None,
        };
        let wanted = SpanRecord { begun_at: at(60), ..span() };
        let ids = |wanted: &SpanRecord, since| -> Vec<String> {
            adoptable(usable(std::slice::from_ref(&begun), wanted, since, None))
                .into_iter()
                .map(|adopted| adopted.task.task_id)
                .collect()
        };
        assert_eq!(ids(&wanted, at(0)), ["other", "half", "whole"]);
        let whole = &adoptable(usable(std::slice::from_ref(&begun), &wanted, at(0), None))[2];
        assert_eq!(whole.superseded, BTreeSet::from(["a:1".to_owned()]));
        let earlier_by_clock = SpanRecord { begun_at: at(0) - SignedDuration::from_millis(900), ..wanted.clone() };
        assert_eq!(ids(&earlier_by_clock, at(0)), ["other", "half", "whole"]);
        assert_eq!(ids(&wanted, at(1)), [""; 0], "older than what is to be replaced");
        assert_eq!(
            ids(&SpanRecord { begun_at: at(60 * 24 * 60), ..span() }, at(0)),
            [""; 0],
            "Stream keeps no file so long"
        );
        let morning = window("2026-01-01", "2026-01-01T12:00:00Z");
        let part = SpanRecord { cells: vec![morning], asked: morning, ..wanted.clone() };
        assert_eq!(ids(&part, at(0)), ["other", "half", "whole"], "more was asked for than is wanted now");
        for other in [
            SpanRecord { replaces: true, ..wanted.clone() },
            SpanRecord { asked: window("2026-01-01", "2026-01-03"), ..wanted.clone() },
            SpanRecord { options: ExportOptions { export_users: true, ..ExportOptions::default() }, ..wanted.clone() },
        ] {
            assert_eq!(ids(&other, at(0)), [""; 0]);
        }
    }

    #[test]
    fn of_a_task_and_its_halves_in_one_second_the_halves_are_taken() {
        let at = |micros: i64, id: &str, cids: &[&str]| ExportTask {
            task_id: id.to_owned(),
            requested_at: span().begun_at + SignedDuration::from_micros(micros),
            cids: cids.iter().map(|cid| (*cid).to_owned()).collect(),
        };
        let tasks = vec![at(12, "whole", &["a:1", "a:2"]), at(3, "left", &["a:1"]), at(7, "right", &["a:2"])];
        let begun = Begun { run_id: Uuid::nil(), span: span(), tasks, records: Vec::new(), refusal: None };
        let adopted = adoptable(usable(&[begun], &span(), Timestamp::MIN, None));
        let ids: Vec<&str> = adopted.iter().map(|adopted| adopted.task.task_id.as_str()).collect();
        assert_eq!(ids, ["right", "left"]);
    }

    #[test]
    fn a_task_that_is_not_used_brings_no_channel() {
        let task = |minutes: i64, id: &str, cids: &[&str]| ExportTask {
            task_id: id.to_owned(),
            requested_at: span().begun_at + SignedDuration::from_mins(minutes),
            cids: cids.iter().map(|cid| (*cid).to_owned()).collect(),
        };
        let tasks = vec![task(0, "older", &["a:1", "a:2"]), task(1, "newer", &["a:2", "a:3"])];
        let begun = [Begun { run_id: Uuid::nil(), span: span(), tasks, records: Vec::new(), refusal: None }];
        let only = BTreeSet::from(["a:1".to_owned(), "a:2".to_owned()]);
        let adopted = adoptable(usable(&begun, &span(), Timestamp::MIN, Some(&only)));
        assert_eq!(adopted.len(), 1, "the other has rows of a channel that is to stay as it is");
        assert_eq!((adopted[0].task.task_id.as_str(), adopted[0].superseded.len()), ("older", 0));
    }

    #[test]
    fn tasks_without_their_span_say_nothing() {
        let record = Record::Task { span: 3, task: task("t", "a:1") };
        assert_eq!(spans_of(Uuid::nil(), &[(0, None), (4, Some(record))]), []);
    }

    #[test]
    fn runs_over_the_same_users_serve_each_other_for_a_day() {
        let at = |hours: i64| span().begun_at + SignedDuration::from_hours(hours);
        let users = |hours: i64, ids: &[&str]| UsersRecord {
            begun_at: at(hours),
            user_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let task = |id: &str, ids: &[&str]| ExportTask {
            task_id: id.to_owned(),
            requested_at: at(0),
            cids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let records = [
            (0, Some(Record::Users(users(0, &["a", "b", "c"])))),
            (1, Some(Record::Intent { span: 0, cids: vec!["a".into()] })),
            (2, Some(Record::Task { span: 0, task: task("whole", &["a", "b", "c"]) })),
            (5, Some(Record::Task { span: 0, task: task("half", &["a", "b"]) })),
            (6, Some(Record::Task { span: 9, task: task("nobody's", &["c"]) })),
        ];
        let begun = users_of(Uuid::nil(), &records);
        assert_eq!(begun[0].records, [0, 1, 2, 5]);
        assert_eq!(spans_of(Uuid::nil(), &records), []);
        assert!(begun[0].serves(&users(23, &["c", "b", "a"])));
        assert!(!begun[0].serves(&users(24, &["a", "b", "c"])), "no news");
        assert!(!begun[0].serves(&users(1, &["a", "b"])));
        let adopted = adoptable_users(&begun);
        let found: Vec<_> = adopted.iter().map(|one| (one.task.task_id.as_str(), one.superseded.len())).collect();
        assert_eq!(found, [("half", 0), ("whole", 2)]);
    }

    #[test]
    fn the_format_is_a_contract() {
        let records = [
            Record::Span(span()),
            Record::Intent { span: 0, cids: vec!["a:1".into()] },
            Record::Task { span: 0, task: task("t1", "a:1") },
            Record::Users(UsersRecord { begun_at: span().begun_at, user_ids: ["ada".to_owned()].into() }),
            Record::Refused {
                span: 0,
                under: Limits { max_rejected: Some(3), accept_empty: false },
                adopted: vec!["t0".into()],
            },
        ];
        insta::assert_snapshot!(serde_json::to_string_pretty(&records).unwrap());
    }
}
