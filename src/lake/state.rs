//! What a lake holds: the fold of its log. Pure: entries in, state out.
//!
//! Every entry is checked against the rules it was committed under, so a state that exists is a consistent one:
//! covers never overlap, every file that belongs to a cell lies in exactly one cover, and only the last entry may still
//! have files to move.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry::{Action, Cover, DataFile, Entry, Void};
use super::layout::{Key, QUARANTINE};
use super::proposal::is_older;
use super::user_export::{ExportedUsers, UserExport};
use crate::columns::Columns;
use crate::schema::USER_EXPORTS;
use crate::window::Window;

/// The fold of the log up to an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    next: u64,
    origin: Option<Timestamp>,
    covers: BTreeMap<Timestamp, Covered>,
    files: BTreeSet<ById>,
    /// The start of the cell, and the id, of every file that belongs to one.
    files_by_cell: BTreeSet<(Timestamp, String)>,
    /// By entry.
    user_exports: BTreeMap<u64, ExportedUsers>,
    pending: Option<Pending>,
    single_writer_entries: u64,
    columns: ColumnsAt,
}

/// The columns of a lake, and since when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnsAt {
    /// The entry that says so; 0 if none does.
    pub entry: u64,
    /// The columns.
    pub columns: Columns,
}

/// A live file, found by its id. Boxed, since half of a tree's slots are empty.
#[derive(Clone, Debug)]
struct ById(Box<Live>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.file.id
    }
}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.file.id.cmp(&other.0.file.id)
    }
}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for ById {}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// A cover and the entry that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Covered {
    /// The cover.
    pub cover: Cover,
    /// The entry's number.
    pub entry: u64,
    /// The entry's commit id.
    pub commit_id: Uuid,
}

/// A live file and the entry that added it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The file.
    pub file: DataFile,
    /// The entry's number.
    pub entry: u64,
}

/// The last entry as long as it is not known to be settled: what is left to move, and what a void would bring back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The entry's number.
    pub entry: u64,
    /// Files to move from staging to their final keys.
    pub added: Vec<DataFile>,
    /// Files to delete once all of those are moved.
    pub removed: Vec<Live>,
    /// Files of a voided entry: to delete wherever they are.
    pub discarded: Vec<DataFile>,
    covered: Vec<Window>,
    replaced: Vec<Covered>,
    set_origin: bool,
    /// It is an export of users, which covers nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    exports_users: bool,
}

/// An entry that breaks the rules of the log.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` breaks the rules of the lake's log: {reason}", Key::Entry(*.entry))]
pub struct Broken {
    /// The entry's number.
    pub entry: u64,
    /// Which rule, and with what.
    pub reason: String,
}

impl Default for State {
    fn default() -> Self {
        Self::restore(0, None, None, 0, ColumnsAt::default())
    }
}

impl Pending {
    /// Whether it is an export of users.
    pub(super) fn exports_users(&self) -> bool {
        self.exports_users
    }
}

impl State {
    /// The state after entry `through`, whose covers and files are still to be added.
    pub(super) fn restore(
        through: u64,
        origin: Option<Timestamp>,
        pending: Option<Pending>,
        single_writer_entries: u64,
        columns: ColumnsAt,
    ) -> Self {
        Self {
            next: through + 1,
            origin,
            covers: BTreeMap::new(),
            files: BTreeSet::new(),
            files_by_cell: BTreeSet::new(),
            user_exports: BTreeMap::new(),
            pending,
            single_writer_entries,
            columns,
        }
    }

    /// Adds a cover that is disjoint from all others.
    pub(super) fn add_cover(&mut self, covered: Covered) {
        self.covers.insert(covered.cover.window.since, covered);
    }

    /// Adds a file that is not there yet.
    pub(super) fn add_file(&mut self, live: Live) {
        if let Some(cell) = live.file.cell {
            self.files_by_cell.insert((cell.since, live.file.id.clone()));
        }
        self.files.insert(ById(Box::new(live)));
    }

    /// Adds an export of users by runs that no other names.
    pub(super) fn add_user_export(&mut self, export: ExportedUsers) {
        self.user_exports.insert(export.entry, export);
    }

    fn remove_file(&mut self, id: &str) -> Option<Live> {
        let ById(live) = self.files.take(id)?;
        if let Some(cell) = live.file.cell {
            self.files_by_cell.remove(&(cell.since, live.file.id.clone()));
        }
        Some(*live)
    }

    /// The number of the next entry.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Where automatic sync began.
    pub fn origin(&self) -> Option<Timestamp> {
        self.origin
    }

    /// The end of the contiguous coverage from the origin; the origin itself when nothing follows it.
    pub fn frontier(&self) -> Option<Timestamp> {
        let mut at = self.origin?;
        while let Some((_, covered)) = self.covers.range(..=at).next_back()
            && covered.cover.window.until > at
        {
            at = covered.cover.window.until;
        }
        Some(at)
    }

    /// Every cover, in order of time.
    pub fn covers(&self) -> impl DoubleEndedIterator<Item = &Covered> {
        self.covers.values()
    }

    /// The covers that share an instant with `range`, in order of time.
    pub fn covers_in(&self, range: Window) -> impl Iterator<Item = &Covered> {
        // Covers are disjoint, so at most one that starts before the range reaches into it.
        let before = self.covers.range(..range.since).next_back().map(|(_, covered)| covered);
        before
            .filter(|covered| covered.cover.window.until > range.since)
            .into_iter()
            .chain(self.covers.range(range.since..range.until).map(|(_, covered)| covered))
    }

    /// What of `range` is not covered.
    pub fn uncovered(&self, range: Window) -> Vec<Window> {
        range.subtract(self.covers_in(range).map(|covered| covered.cover.window))
    }

    /// Every live file, in order of id.
    pub fn files(&self) -> impl Iterator<Item = &Live> {
        self.files.iter().map(|ById(live)| &**live)
    }

    /// The live files whose cell lies in `window`, in order of time.
    pub fn files_of(&self, window: Window) -> impl Iterator<Item = &Live> {
        self.files_by_cell
            .range((window.since, String::new())..(window.until, String::new()))
            .filter_map(|(_, id)| self.files.get(id.as_str()))
            .map(|ById(live)| &**live)
            .filter(move |live| live.file.cell.is_some_and(|cell| window.covers(&cell)))
    }

    /// The last entry, unless it is known to be settled.
    pub fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }

    /// The entry that this commit became, if anything of it still stands.
    pub fn entry_of(&self, commit_id: Uuid) -> Option<u64> {
        let covered = self.covers.values().find(|covered| covered.commit_id == commit_id).map(|covered| covered.entry);
        let exported = || self.user_exports().find(|export| export.commit_id == commit_id).map(|export| export.entry);
        covered.or_else(exported)
    }

    /// Every export of users, in order of their entries.
    pub fn user_exports(&self) -> impl DoubleEndedIterator<Item = &ExportedUsers> {
        self.user_exports.values()
    }

    /// The last export of users that one of these runs has a part in.
    pub fn exported_by(&self, runs: &BTreeSet<Uuid>) -> Option<&ExportedUsers> {
        self.user_exports().rev().find(|export| !export.runs.is_disjoint(runs))
    }

    /// How many entries were put by runs that relied on being alone (`--single-writer`).
    pub fn single_writer_entries(&self) -> u64 {
        self.single_writer_entries
    }

    /// What the lake's files have besides the columns of the schemas, and since which entry.
    pub fn columns(&self) -> &ColumnsAt {
        &self.columns
    }

    /// The last entry is settled: every file is where readers look, nothing else is.
    pub(crate) fn mark_settled(&mut self) {
        self.pending = None;
    }

    /// Takes these actions as its next entry.
    #[cfg(test)]
    pub(crate) fn go_on_with(&mut self, actions: Vec<Action>) {
        let number = self.next();
        let entry = Entry {
            reader_version: super::entry::READER_VERSION,
            number,
            commit_id: Uuid::from_u128(u128::from(number)),
            settled: number - 1,
            single_writer: false,
            actions,
            columns: None,
        };
        self.apply(&entry).expect("it breaks no rule");
    }

    /// Takes the next entry in, or changes nothing.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Broken> {
        match self.step(entry)? {
            Step::Void(void) => self.apply_void(entry.number, void),
            Step::Change(change) => self.apply_change(entry, change),
        }
        if let Some(columns) = &entry.columns {
            self.columns = ColumnsAt { entry: entry.number, columns: columns.clone() };
        }
        self.next += 1;
        self.single_writer_entries += u64::from(entry.single_writer);
        Ok(())
    }

    /// Whether [`State::apply`] would take this entry.
    pub(super) fn check(&self, entry: &Entry) -> Result<(), Broken> {
        self.step(entry).map(drop)
    }

    /// Checks every rule that an entry is under; what comes back cannot fail.
    fn step<'a>(&self, entry: &'a Entry) -> Result<Step<'a>, Broken> {
        let broken = |reason: String| Broken { entry: entry.number, reason };
        if entry.number != self.next {
            return Err(broken(format!("entry {} was expected", self.next)));
        }
        if entry.settled != entry.number - 1 {
            return Err(broken(format!("it was put when only {} entries were settled", entry.settled)));
        }
        if entry.columns.is_some() {
            let alone = entry.actions.is_empty();
            let step = Step::Change(Change::default());
            return if alone { Ok(step) } else { Err(broken("a change of columns stands alone".to_owned())) };
        }
        let void = entry.actions.iter().find_map(|action| match action {
            Action::Void(void) => Some(void),
            _ => None,
        });
        let Some(void) = void else { return self.change(entry).map(Step::Change).map_err(broken) };
        if entry.actions.len() > 1 {
            return Err(broken("a void stands alone".to_owned()));
        }
        let is_commit = |pending: &Pending| pending.exports_users || !pending.covered.is_empty();
        let voids = |pending: &Pending| pending.entry == void.entry && is_commit(pending);
        if !self.pending.as_ref().is_some_and(voids) {
            return Err(broken(format!("it voids entry {}, which is not the last commit", void.entry)));
        }
        Ok(Step::Void(void))
    }

    fn apply_void(&mut self, number: u64, void: &Void) {
        let voided = self.pending.take().unwrap_or_default();
        for file in &voided.added {
            self.remove_file(&file.id);
        }
        for window in &voided.covered {
            self.covers.remove(&window.since);
        }
        self.user_exports.remove(&voided.entry);
        if voided.set_origin {
            self.origin = None;
        }
        let mut discarded = voided.added;
        let (gone, back): (Vec<Live>, Vec<Live>) =
            voided.removed.into_iter().partition(|live| void.lost.contains(&live.file.id));
        for window in &voided.covered {
            let inside = |live: &&Live| live.file.cell.is_some_and(|cell| window.covers(&cell));
            if gone.iter().any(|live| inside(&live)) {
                discarded.extend(back.iter().filter(inside).map(|live| live.file.clone()));
            } else {
                let old = voided.replaced.iter().filter(|old| window.covers(&old.cover.window));
                old.for_each(|old| self.add_cover(old.clone()));
                back.iter().filter(inside).for_each(|live| self.add_file(live.clone()));
            }
        }
        self.pending = Some(Pending { entry: number, discarded, ..Pending::default() });
    }

    /// Checks every rule that a commit is under.
    fn change<'a>(&self, entry: &'a Entry) -> Result<Change<'a>, String> {
        let mut change = Change::default();
        for action in &entry.actions {
            match action {
                Action::Origin(at) => change.origin = change.origin.or(Some(*at)),
                Action::Cover(cover) => self.check_cover(cover, &mut change)?,
                Action::Remove(removed) => {
                    if !self.files.contains(removed.id.as_str()) || !change.removed.insert(&removed.id) {
                        return Err(format!("it removes `{}`, which is not live", removed.id));
                    }
                }
                Action::Add(file) => change.added.push(file),
                Action::Void(_) => return Err("a void stands alone".to_owned()),
                Action::UserExport(export) => {
                    if let Some(done) = self.exported_by(&export.runs) {
                        return Err(format!("entry {} has exports of the same runs", done.entry));
                    }
                    if !export.runs.contains(&export.run_id) || change.user_export.replace(export).is_some() {
                        return Err("it names no run for an export of users, or has two".to_owned());
                    }
                }
            }
        }
        if change.user_export.is_some() {
            if !change.covers.is_empty() || change.origin.is_some() {
                return Err("an export of users covers nothing".to_owned());
            }
        } else if change.covers.is_empty() {
            return Err("it covers nothing".to_owned());
        }
        let leaving: BTreeSet<&str> = change
            .covers
            .values()
            .filter(|cover| !cover.keep_files)
            .flat_map(|cover| self.files_of(cover.window))
            .map(|live| live.file.id.as_str())
            .collect();
        if let Some(id) = leaving.symmetric_difference(&change.removed).next() {
            return Err(format!("`{id}` must be removed if, and only if, its cell is replaced"));
        }
        let mut ids = BTreeSet::new();
        for file in &change.added {
            if !file.is_well_named() {
                return Err(format!("`{}` is no place for a file", file.key()));
            }
            if self.files.contains(file.id.as_str()) || !ids.insert(&file.id) {
                return Err(format!("it adds `{}`, which is there already", file.id));
            }
            let is_of_users = file.dataset.starts_with(USER_EXPORTS);
            if is_of_users != change.user_export.is_some() && file.dataset != QUARANTINE {
                return Err(format!("`{}` is no place for what it has exported", file.key()));
            }
            let fits = |cell: Window| {
                change.covers.get(&cell.since).is_some_and(|cover| cover.window == cell && !cover.keep_files)
            };
            if !file.cell.is_none_or(fits) {
                return Err(format!("it adds `{}` to a cell that it does not write", file.id));
            }
        }
        Ok(change)
    }

    fn check_cover<'a>(&self, cover: &'a Cover, change: &mut Change<'a>) -> Result<(), String> {
        let window = cover.window;
        if window.since >= window.until {
            return Err(format!("`{window}` is empty"));
        }
        let neighbours = change.covers.range(..window.until).next_back();
        if neighbours.is_some_and(|(_, other)| other.window.until > window.since) {
            return Err(format!("it covers part of `{window}` twice"));
        }
        let mut replaces = false;
        for old in self.covers_in(window) {
            if !window.covers(&old.cover.window) {
                return Err(format!("`{window}` cuts through `{}`", old.cover.window));
            }
            if !is_older(&old.cover, cover) {
                return Err(format!("`{window}` was exported later by entry {}", old.entry));
            }
            replaces = true;
        }
        if cover.keep_files && !replaces {
            return Err(format!("`{window}` keeps the files of nothing"));
        }
        change.covers.insert(window.since, cover);
        Ok(())
    }

    fn apply_change(&mut self, entry: &Entry, change: Change<'_>) {
        let exports_users = change.user_export.is_some();
        let mut pending = Pending { entry: entry.number, exports_users, ..Pending::default() };
        if let Some(export) = change.user_export {
            self.add_user_export(export.remembered(entry.number, entry.commit_id));
        }
        if self.origin.is_none() && change.origin.is_some() {
            self.origin = change.origin;
            pending.set_origin = true;
        }
        for cover in change.covers.into_values() {
            let window = cover.window;
            let since: Vec<Timestamp> = self.covers_in(window).map(|old| old.cover.window.since).collect();
            pending.replaced.extend(since.iter().filter_map(|since| self.covers.remove(since)));
            pending.covered.push(window);
            self.add_cover(Covered { cover: cover.clone(), entry: entry.number, commit_id: entry.commit_id });
        }
        pending.removed = change.removed.into_iter().filter_map(|id| self.remove_file(id)).collect();
        for file in change.added {
            self.add_file(Live { file: file.clone(), entry: entry.number });
            pending.added.push(file.clone());
        }
        self.pending = Some(pending);
    }
}

/// What an entry does, checked.
enum Step<'a> {
    Void(&'a Void),
    Change(Change<'a>),
}

/// What a commit does.
#[derive(Default)]
struct Change<'a> {
    origin: Option<Timestamp>,
    covers: BTreeMap<Timestamp, &'a Cover>,
    user_export: Option<&'a UserExport>,
    removed: BTreeSet<&'a str>,
    added: Vec<&'a DataFile>,
}
