//! `chatlake files`: the live data files by the log, each where it can be read now.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use serde::Serialize;
use uuid::Uuid;

use super::{AT_ONCE, ROUNDS, expired, find, objects, too_busy};
use crate::error::{Error, Kind, Result};
use crate::lake::{Covered, DataFile, Key, Lake, State};
use crate::schema::NAMES;
use crate::window::{Window, utc_date};

/// Which files.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this dataset.
    pub dataset: Option<String>,
    /// Of cells that end after this.
    pub since: Option<Timestamp>,
    /// Of cells that begin before this.
    pub until: Option<Timestamp>,
    /// Written at this time or later.
    pub written_since: Option<Timestamp>,
}

/// A live file and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// The file.
    pub file: DataFile,
    /// Its final key, or its staged one while its entry is not settled.
    pub key: Key,
}

/// The live files.
#[derive(Clone, Debug)]
pub struct Files {
    lake: String,
    /// The last entry that they take into account.
    entry: u64,
    files: Vec<Located>,
    emptied: Vec<String>,
}

impl Filter {
    fn is_in_time(&self, cell: Window) -> bool {
        self.since.is_none_or(|since| cell.until > since) && self.until.is_none_or(|until| cell.since < until)
    }

    fn takes(&self, file: &DataFile) -> bool {
        let in_time = match file.cell {
            Some(cell) => self.is_in_time(cell),
            // Snapshots, exports of users and quarantine belong to an export as a whole.
            None => self.since.is_none() && self.until.is_none(),
        };
        let is_written = self.written_since.is_none_or(|since| written_at(file).is_none_or(|at| at >= since));
        in_time && is_written && self.dataset.as_ref().is_none_or(|dataset| *dataset == file.dataset)
    }
}

/// When a file was begun, by the clock of whoever wrote it.
fn written_at(file: &DataFile) -> Option<Timestamp> {
    made_at(Uuid::parse_str(&file.id).ok()?)
}

/// Ids are UUIDs of version 7, which begin with the time.
fn made_at(id: Uuid) -> Option<Timestamp> {
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}

/// Lists the files. All of them were there when the log said so; a later commit may replace them.
pub async fn files(lake: &Lake, filter: &Filter) -> Result<Files> {
    if let Some(dataset) = filter.dataset.as_deref().filter(|name| !NAMES.iter().any(|known| known == name)) {
        return Err(Error::new(Kind::Usage, format!("there is no dataset `{dataset}`"))
            .hint(format!("the datasets are {}", NAMES.join(", "))));
    }
    let (_, mut state) = super::open(lake).await?;
    for _ in 0..ROUNDS {
        let entry = state.next() - 1;
        let gone = match locate(lake, &state, filter).await? {
            Ok(files) => {
                let emptied = filter.written_since.map_or_else(Vec::new, |since| emptied(&state, filter, since));
                return Ok(Files { lake: lake.display_url().to_owned(), entry, files, emptied });
            }
            Err(gone) => gone,
        };
        lake.refresh(&mut state).await?;
        if state.next() - 1 == entry {
            return Err(Error::new(Kind::Data, format!("`{gone}` is gone or cut, and the log says it is live"))
                .hint("see all that is wrong with `chatlake verify`"));
        }
    }
    Err(too_busy())
}

/// Days that have lost their last row by a commit since then, which no file tells: `messages/event_date=2026-01-31`. Pure.
fn emptied(state: &State, filter: &Filter, since: Timestamp) -> Vec<String> {
    let is_of = |dataset: &str| filter.dataset.as_ref().is_none_or(|only| only == dataset);
    let lost = state.covers().filter(|Covered { cover, commit_id, .. }| {
        let is_late = made_at(*commit_id).is_none_or(|at| at >= since);
        is_late && cover.record.vanished > 0 && filter.is_in_time(cover.window)
    });
    let emptied = lost.flat_map(|Covered { cover, .. }| {
        let day = Window::day_of(cover.window.since);
        let files = state.covers_in(day).flat_map(|covered| state.files_of(covered.cover.window));
        let left: BTreeSet<&str> = files.map(|live| live.file.dataset.as_str()).collect();
        let gone = cover.record.rows.keys().filter(move |dataset| !left.contains(dataset.as_str()));
        gone.filter(|dataset| is_of(dataset))
            .map(move |dataset| format!("{dataset}/event_date={}", utc_date(day.since)))
    });
    emptied.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The selected files of a state, or one that is not there whole.
async fn locate(lake: &Lake, state: &State, filter: &Filter) -> Result<Result<Vec<Located>, Key>> {
    // What expired shows only in whole partitions.
    let whole = Filter { written_since: None, ..filter.clone() };
    let mut selected: Vec<DataFile> =
        state.files().map(|live| &live.file).filter(|file| whole.takes(file)).cloned().collect();
    selected.sort_by_cached_key(DataFile::key);
    let mut listed: HashMap<Path, u64> = HashMap::new();
    for dataset in selected.iter().map(|file| file.dataset.as_str()).collect::<BTreeSet<_>>() {
        let found = objects(lake, Some(&Key::folder(dataset))).await?;
        listed.extend(found.into_iter().map(|object| (object.path, object.bytes)));
    }
    let listed = &listed;
    let located: Vec<(DataFile, Option<(Key, u64)>)> = futures::stream::iter(selected)
        .map(|file| async move {
            let found = match listed.get(&file.key().path()) {
                Some(bytes) => Some((file.key(), *bytes)),
                None => find(lake, &file).await?,
            };
            Ok::<_, Error>((file, found))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let expired = expired(state, located.iter().map(|(file, found)| (file, found.is_some())));
    let located = located.iter().filter(|(file, _)| !expired.contains(file.id.as_str()) && filter.takes(file)).cloned();
    let located = located.map(|(file, found)| match found {
        Some((key, bytes)) if bytes == file.bytes => Ok(Located { file, key }),
        _ => Err(file.key()),
    });
    Ok(located.collect())
}

/// The contract with programs.
#[derive(Serialize)]
struct JsonFile<'a> {
    dataset: &'a str,
    partition: &'a str,
    key: String,
    location: String,
    settled: bool,
    rows: u64,
    bytes: u64,
    min_created_at: Option<Timestamp>,
    max_created_at: Option<Timestamp>,
}

impl Files {
    /// The files, in order of their final keys.
    pub fn files(&self) -> &[Located] {
        &self.files
    }

    fn location(&self, located: &Located) -> String {
        format!("{}/{}", self.lake.trim_end_matches('/'), located.key)
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        let file = |located: &'_ Located| {
            let file = &located.file;
            serde_json::json!(JsonFile {
                dataset: &file.dataset,
                partition: &file.partition,
                key: located.key.to_string(),
                location: self.location(located),
                settled: matches!(located.key, Key::Data { .. }),
                rows: file.rows,
                bytes: file.bytes,
                min_created_at: file.min_created_at,
                max_created_at: file.max_created_at,
            })
        };
        let files: Vec<_> = self.files.iter().map(file).collect();
        let Self { lake, entry, emptied, .. } = self;
        serde_json::json!({ "lake": lake, "entry": entry, "files": files, "emptied": emptied }).to_string()
    }

    /// One location to a line, for other programs.
    pub fn to_lines(&self) -> String {
        self.files.iter().map(|located| self.location(located)).collect::<Vec<_>>().join("\n")
    }

    /// A table for people.
    pub fn to_table(&self) -> String {
        let mut text =
            format!("{:>10} {:>12}  {:<27} {:<27} key\n", "rows", "bytes", "min created_at", "max created_at");
        for Located { file, key } in &self.files {
            let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
            let (min, max) = (time(file.min_created_at), time(file.max_created_at));
            let _ = writeln!(text, "{:>10} {:>12}  {min:<27} {max:<27} {key}", file.rows, file.bytes);
        }
        let rows: u64 = self.files.iter().map(|located| located.file.rows).sum();
        let bytes: u64 = self.files.iter().map(|located| located.file.bytes).sum();
        let _ = write!(text, "{rows:>10} {bytes:>12}  {} files, as of entry {}", self.files.len(), self.entry);
        text
    }
}
