//! `chatlake gc`: deletes what nothing refers to, and nothing that somebody may still need.
//!
//! What a run that is at work has written, no entry refers to yet. So age decides: an object is garbage only if its run has
//! shown no sign of life for a week, and the log, read after the objects were listed and again before each deletion, does not
//! know it. A run that sleeps for longer than that and then commits loses nothing but time: an entry whose staged files are gone
//! is voided and its cells are exported again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::path::{Path as FsPath, PathBuf};

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, Kind, Result};
use crate::figures::bytes;
use crate::inspect::{AT_ONCE, Object, objects, open};
use crate::journal::{self, Begun};
use crate::lake::entry::Action;
use crate::lake::snapshot::Snapshot;
use crate::lake::store_error::store_error;
use crate::lake::{Key, Lake, State};
use crate::schema::NAMES;

/// The least age that may be asked for. Between the first staged file of a span and its commit lie hours.
pub const LEAST_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Stream has deleted every export that a journal of this age could name.
const FORGOTTEN_BY_STREAM: SignedDuration = SignedDuration::from_hours(60 * 24);
/// Good snapshots that stay: one to read, one if that is damaged.
const SNAPSHOTS: usize = 2;
/// Objects that are deleted before the log is looked at again.
const BATCH: usize = 500;
/// Keys of a kind that are shown to people.
const SHOWN: usize = 10;

/// Why an object is garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Garbage {
    /// Staged by a run that is dead, or moved long ago.
    Staged,
    /// A data file that the log does not know.
    Stray,
    /// An old snapshot of the log.
    Snapshot,
    /// A journal of a run that has nothing left to bring in.
    Journal,
    /// Lines of a span that was refused.
    Rejected,
    /// A test of conditional writes that was cut off.
    Probe,
    /// Lists that no entry refers to.
    Lists,
    /// On a local disk: what a write that was cut off has left.
    CutWrite,
}

/// One object to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doomed {
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: Garbage,
    /// Its size.
    pub bytes: u64,
}

/// What was deleted, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where the lake is.
    pub lake: String,
    /// Whether it was done.
    pub deleted: bool,
    /// How old an object must be.
    pub older_than_seconds: i64,
    /// Whose clock tells the age: the store's, or this machine's where nothing may be written to learn the other.
    pub clock: &'static str,
    /// The objects.
    pub objects: Vec<Doomed>,
    /// Their size.
    pub bytes: u64,
    /// Empty folders that were removed.
    pub folders: u64,
    /// Objects in datasets' folders and below `_chatlake/` that are none of chatlake's: they are left alone.
    pub foreign: u64,
}

/// What is known when it is decided.
struct Facts {
    objects: Vec<Object>,
    state: State,
    begun: Vec<Begun>,
    /// Snapshots that stay, newest first.
    snapshots: Vec<u64>,
    /// Lists that some entry refers to.
    lists: BTreeSet<String>,
    now: Timestamp,
    older_than: SignedDuration,
}

/// Finds what is garbage, and deletes it if `delete` is set.
pub async fn gc(lake: &Lake, older_than: SignedDuration, delete: bool) -> Result<Report> {
    let (_, mut state) = open(lake).await?;
    let (now, clock) =
        if delete { (store_now(lake).await?, "the store's") } else { (crate::clock::now(), "this machine's") };
    // In this order: what an entry refers to was written before it, so a log that is read later knows it.
    let listed = objects(lake, None).await?;
    lake.refresh(&mut state).await?;
    let begun = journal::begun_spans(lake, Uuid::nil()).await?;
    let snapshots = good_snapshots(lake).await?;
    let has_lists = listed.iter().any(|object| matches!(Key::parse(&object.path), Some(Key::Lists(_))));
    let lists = if has_lists { referred(lake, 1, &state).await? } else { BTreeSet::new() };
    let mut facts = Facts { objects: listed, state, begun, snapshots, lists, now, older_than };
    refuse_a_lost_log(lake, &facts)?;
    let mut doomed = doomed(&facts);
    let cut = lake.folder().map(|folder| cut_writes(folder, since(now, older_than))).unwrap_or_default();
    let mut report = Report {
        lake: lake.display_url().to_owned(),
        deleted: delete,
        older_than_seconds: older_than.as_secs(),
        clock,
        objects: Vec::new(),
        bytes: 0,
        folders: 0,
        foreign: foreign(&facts),
    };
    if delete {
        doomed = delete_all(lake, &mut facts, doomed).await?;
    }
    doomed.extend(
        cut.into_iter().filter_map(|(path, one)| (!delete || std::fs::remove_file(path).is_ok()).then_some(one)),
    );
    if delete && let Some(folder) = lake.folder() {
        report.folders = remove_empty_folders(folder);
    }
    report.bytes = doomed.iter().map(|doomed| doomed.bytes).sum();
    report.objects = doomed;
    Ok(report)
}

/// Deletes in batches, each with the log as it is then. Yields what was deleted.
async fn delete_all(lake: &Lake, facts: &mut Facts, mut left: Vec<Doomed>) -> Result<Vec<Doomed>> {
    let cutoff = since(facts.now, facts.older_than);
    let mut deleted = Vec::new();
    while !left.is_empty() {
        let next = facts.state.next();
        lake.refresh(&mut facts.state).await?;
        if facts.state.next() > next {
            let more = referred(lake, next, &facts.state).await?;
            facts.lists.extend(more);
            let still: HashSet<String> = doomed(facts).into_iter().map(|doomed| doomed.key).collect();
            left.retain(|doomed| still.contains(&doomed.key));
        }
        let mut batch: Vec<Doomed> = left.drain(..left.len().min(BATCH)).collect();
        keep_lists_in_use(lake, &mut batch, cutoff).await?;
        lake.delete(batch.iter().map(|doomed| path(&doomed.key)).collect()).await?;
        deleted.append(&mut batch);
    }
    Ok(deleted)
}

fn since(now: Timestamp, age: SignedDuration) -> Timestamp {
    now.saturating_sub(age).unwrap_or(Timestamp::MIN)
}

fn path(key: &str) -> Path {
    Path::from_iter(key.split('/'))
}

/// The store's time, which its objects' times are told by: that of an object written now.
async fn store_now(lake: &Lake) -> Result<Timestamp> {
    let cannot = |error| store_error("cannot learn the store's time", lake.display_url(), error);
    let key = Key::Probe(Uuid::now_v7()).path();
    lake.store().put(&key, "{}".into()).await.map_err(cannot)?;
    let found = lake.store().head(&key).await.map_err(cannot)?;
    lake.delete(vec![key]).await?;
    Ok(Object::from(found).modified_at)
}

/// The newest snapshots that can be read.
async fn good_snapshots(lake: &Lake) -> Result<Vec<u64>> {
    let mut good = Vec::new();
    for number in lake.snapshots().await? {
        if good.len() < SNAPSHOTS && matches!(lake.snapshot(number).await?, Snapshot::Good(_)) {
            good.push(number);
        }
    }
    Ok(good)
}

/// The lists that entries refer to, from `first` on to the last that `state` knows. Entries that were replaced count as well.
async fn referred(lake: &Lake, first: u64, state: &State) -> Result<BTreeSet<String>> {
    let mut entries = futures::stream::iter(first..state.next())
        .map(async |number| (number, lake.entry(number).await))
        .buffered(AT_ONCE);
    let mut names = BTreeSet::new();
    while let Some((number, entry)) = entries.next().await {
        let entry = entry?.ok_or_else(|| {
            Error::new(Kind::Data, format!("`{}` is gone", Key::Entry(number))).hint(
                "nothing was deleted; restore it from a version or a backup of the bucket, and see `chatlake verify`",
            )
        })?;
        names.extend(entry.actions.iter().filter_map(Action::lists_aside).map(str::to_owned));
    }
    Ok(names)
}

/// Without its log, every file of a lake looks like garbage.
fn refuse_a_lost_log(lake: &Lake, facts: &Facts) -> Result<()> {
    let last = facts.state.next() - 1;
    let beyond = facts.snapshots.iter().find(|number| **number > last);
    let files =
        facts.objects.iter().filter(|object| matches!(Key::parse(&object.path), Some(Key::Data { .. }))).count();
    let why = match beyond {
        Some(number) => format!("ends with entry {last}, and there is a snapshot through {number}"),
        None if last == 0 && files > 0 => format!("is empty, and there are {files} data files"),
        None => return Ok(()),
    };
    Err(Error::new(Kind::Data, format!("the log of {} {why}", lake.display_url()))
        .hint("nothing was deleted; restore `_chatlake/log/` from versions or a backup of the bucket"))
}

/// What is garbage. Pure.
fn doomed(facts: &Facts) -> Vec<Doomed> {
    let Facts { state, snapshots, lists, .. } = facts;
    let cutoff = since(facts.now, facts.older_than);
    let last_signs = last_signs(&facts.objects);
    let is_silent = |run_id: &Uuid, since: Timestamp| last_signs.get(run_id).is_none_or(|at| *at < since);
    let over = over(facts);
    let folders = dataset_folders(state);
    let sizes: HashMap<&Path, u64> = facts.objects.iter().map(|object| (&object.path, object.bytes)).collect();
    let pending = || state.pending().into_iter();
    let unsettled: HashSet<&str> = pending()
        .flat_map(|pending| pending.added.iter().chain(&pending.discarded))
        .map(|file| file.id.as_str())
        .collect();
    let leaving: HashSet<&str> =
        pending().flat_map(|pending| &pending.removed).map(|live| live.file.id.as_str()).collect();
    let live: HashMap<&str, _> = state.files().map(|live| (live.file.id.as_str(), &live.file)).collect();
    // A run that commits may be about to refer to lists of the same content that another has left.
    let all_silent = last_signs.values().all(|at| *at < cutoff);
    let garbage = |object: &Object| {
        let is_old = object.modified_at < cutoff;
        match Key::parse(&object.path)? {
            Key::Staged { run_id, file } => {
                let is_moved =
                    live.get(file.as_str()).is_some_and(|live| sizes.get(&live.key().path()) == Some(&live.bytes));
                let is_garbage = !unsettled.contains(file.as_str())
                    && (is_moved || (!live.contains_key(file.as_str()) && is_old && is_silent(&run_id, cutoff)));
                is_garbage.then_some(Garbage::Staged)
            }
            Key::Data { dataset, file, .. } => {
                let known = [&unsettled, &leaving].iter().any(|ids| ids.contains(file.as_str()))
                    || live.contains_key(file.as_str());
                let is_ours = folders.contains(&Key::folder(&dataset)) && is_file_id(&file);
                (is_ours && !known && is_old).then_some(Garbage::Stray)
            }
            Key::Snapshot(number) => {
                let is_older = snapshots.len() == SNAPSHOTS && snapshots.iter().all(|kept| number < *kept);
                (is_older && is_old).then_some(Garbage::Snapshot)
            }
            Key::Journal { run_id, .. } => {
                let forgotten = is_silent(&run_id, since(facts.now, FORGOTTEN_BY_STREAM.max(facts.older_than)));
                (is_silent(&run_id, cutoff) && (forgotten || over.contains(&run_id))).then_some(Garbage::Journal)
            }
            Key::Rejected { .. } => is_old.then_some(Garbage::Rejected),
            Key::Probe(_) => is_old.then_some(Garbage::Probe),
            Key::Lists(name) => (all_silent && is_old && !lists.contains(&name)).then_some(Garbage::Lists),
            Key::Identity | Key::Channels(_) | Key::Entry(_) => None,
        }
    };
    let mut doomed: Vec<Doomed> = facts
        .objects
        .iter()
        .filter_map(|object| {
            let reason = garbage(object)?;
            Some(Doomed { key: object.path.to_string(), reason, bytes: object.bytes })
        })
        .collect();
    doomed.sort_by(|one, other| (one.reason, &one.key).cmp(&(other.reason, &other.key)));
    doomed
}

/// When each run last wrote something that is still there.
fn last_signs(objects: &[Object]) -> HashMap<Uuid, Timestamp> {
    let mut last: HashMap<Uuid, Timestamp> = HashMap::new();
    for object in objects {
        if let Some(Key::Staged { run_id, .. } | Key::Journal { run_id, .. }) = Key::parse(&object.path) {
            let at = last.entry(run_id).or_insert(Timestamp::MIN);
            *at = (*at).max(object.modified_at);
        }
    }
    last
}

/// Runs whose spans are all committed, by themselves or by others, and those whose journal says nothing of a span.
fn over(facts: &Facts) -> BTreeSet<Uuid> {
    let open: BTreeSet<Uuid> =
        facts.begun.iter().filter(|begun| !begun.is_over(&facts.state)).map(|begun| begun.run_id).collect();
    let runs = facts.objects.iter().filter_map(|object| match Key::parse(&object.path)? {
        Key::Journal { run_id, .. } => Some(run_id),
        _ => None,
    });
    runs.filter(|run_id| !open.contains(run_id)).collect()
}

fn dataset_folders(state: &State) -> HashSet<Path> {
    let live = state.files().map(|live| live.file.dataset.as_str());
    NAMES.iter().map(String::as_str).chain(live).map(Key::folder).collect()
}

/// Whether a file has a name that chatlake gives. Another's file is nobody's to delete, whatever folder it lies in.
fn is_file_id(name: &str) -> bool {
    name.len() == 32 && Uuid::try_parse(name).is_ok_and(|id| id.get_version_num() == 7)
}

fn foreign(facts: &Facts) -> u64 {
    let folders = dataset_folders(&facts.state);
    let live: HashSet<Path> = facts.state.files().map(|live| live.file.key().path()).collect();
    let is_foreign = |object: &&Object| match Key::parse(&object.path) {
        Some(Key::Data { dataset, file, .. }) => {
            folders.contains(&Key::folder(&dataset)) && !is_file_id(&file) && !live.contains(&object.path)
        }
        Some(_) => false,
        None => {
            let is_in = |folder: &Path| object.path.prefix_matches(folder);
            is_in(&Key::private()) || folders.iter().any(is_in)
        }
    };
    facts.objects.iter().filter(is_foreign).count() as u64
}

/// Takes lists off the batch that were written anew since they were listed, or that a run at work may refer to: lists are named by
/// their content, so one that was left may be somebody's again.
async fn keep_lists_in_use(lake: &Lake, batch: &mut Vec<Doomed>, cutoff: Timestamp) -> Result<()> {
    if batch.iter().all(|doomed| doomed.reason != Garbage::Lists) {
        return Ok(());
    }
    let records = objects(lake, Some(&Key::journals())).await?;
    let is_quiet = records.iter().all(|record| record.modified_at < cutoff);
    let cannot = |error| store_error("cannot look for a file", lake.display_url(), error);
    let young: BTreeSet<String> = futures::stream::iter(batch.iter().filter(|one| one.reason == Garbage::Lists))
        .map(async |doomed| match lake.store().head(&path(&doomed.key)).await {
            Ok(found) => Ok((Object::from(found).modified_at >= cutoff).then(|| doomed.key.clone())),
            Err(object_store::Error::NotFound { .. }) => Ok(Some(doomed.key.clone())),
            Err(error) => Err(cannot(error)),
        })
        .buffered(AT_ONCE)
        .try_filter_map(async |young| Ok(young))
        .try_collect()
        .await?;
    batch.retain(|doomed| doomed.reason != Garbage::Lists || (is_quiet && !young.contains(&doomed.key)));
    Ok(())
}

/// Files below `_chatlake/` that the local store was writing when it was cut off: it names them `<file>#<number>` and lists none.
fn cut_writes(root: &FsPath, cutoff: Timestamp) -> Vec<(PathBuf, Doomed)> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("_chatlake")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
            if meta.is_dir() {
                folders.push(path);
                continue;
            }
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.rsplit_once('#')).map(|(_, number)| number);
            let is_cut = number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
            let modified_at = meta.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
            if is_cut && modified_at.is_some_and(|at| at < cutoff) {
                let key = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                found.push((path, Doomed { key, reason: Garbage::CutWrite, bytes: meta.len() }));
            }
        }
    }
    found
}

/// Only empty folders can be removed, and a writer that finds its folder gone makes it again.
fn remove_empty_folders(root: &FsPath) -> u64 {
    let mut removed = 0;
    for above in [Key::staging(), Key::rejected(), Key::journals()] {
        let runs = std::fs::read_dir(root.join(above.as_ref())).into_iter().flatten().flatten();
        removed += runs.filter(|run| std::fs::remove_dir(run.path()).is_ok()).count() as u64;
    }
    removed
}

impl Report {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// Counts by kind and the first keys of each.
    pub fn to_text(&self) -> String {
        let done = if self.deleted { "deleted" } else { "would delete" };
        let age = SignedDuration::from_secs(self.older_than_seconds);
        let mut text = format!(
            "{}\n{done} {} objects, {} (older than {} hours by {} clock)\n",
            self.lake,
            self.objects.len(),
            bytes(self.bytes),
            age.as_hours(),
            self.clock
        );
        let mut kinds: BTreeMap<Garbage, Vec<&Doomed>> = BTreeMap::new();
        for doomed in &self.objects {
            kinds.entry(doomed.reason).or_default().push(doomed);
        }
        for (reason, doomed) in kinds {
            let size: u64 = doomed.iter().map(|doomed| doomed.bytes).sum();
            let _ = writeln!(text, "  {} {}, {}", doomed.len(), reason.words(), bytes(size));
            for one in doomed.iter().take(SHOWN) {
                let _ = writeln!(text, "    {}", one.key);
            }
            if doomed.len() > SHOWN {
                let _ = writeln!(text, "    and {} more (--json shows all)", doomed.len() - SHOWN);
            }
        }
        if self.folders > 0 {
            let _ = writeln!(text, "  {} empty folders removed", self.folders);
        }
        if self.foreign > 0 {
            let _ = writeln!(
                text,
                "  {} objects are none of chatlake's and were left alone: see chatlake verify",
                self.foreign
            );
        }
        if !self.deleted && !self.objects.is_empty() {
            text.push_str("nothing was deleted; to do it: chatlake gc --delete");
        }
        text
    }
}

impl Garbage {
    fn words(self) -> &'static str {
        match self {
            Self::Staged => "staged files that nobody will commit",
            Self::Stray => "data files that the log does not know",
            Self::Snapshot => "old snapshots of the log",
            Self::Journal => "records of runs that have nothing left to bring in",
            Self::Rejected => "files of lines that a run has refused",
            Self::Probe => "tests of conditional writes",
            Self::Lists => "lists that no entry refers to",
            Self::CutWrite => "writes that were cut off",
        }
    }
}

#[cfg(test)]
#[path = "gc_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
