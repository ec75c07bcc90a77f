//! `chatlake verify`: whether the objects are what the log says, and the log what its own rules say.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::{Display, Write};
use std::path::Path as FsPath;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde::Serialize;

use super::against_stream::{self, Sample, StreamReport};
use super::verify_rows::{self, Rows};
use super::{AT_ONCE, Object, ROUNDS, expired, find, no_lake, objects, too_busy, verify_log};
use crate::error::{Error, Kind, Result};
use crate::figures::{bytes, count};
use crate::lake::store_error::store_error;
use crate::lake::{DataFile, Identity, Key, Lake, Selection, State};
use crate::schema::NAMES;
use crate::window::Window;

/// Differences that are listed; the rest is counted.
const LISTED: usize = 100;
/// Bytes of a file's end that are read first: most footers fit.
const TAIL_BYTES: u64 = 64 << 10;
/// The largest footer that is believed.
const MAX_FOOTER_BYTES: usize = 64 << 20;

pub(super) const RESTORE: &str = "restore it from a version or a backup of the bucket";

/// What to do about a file that is lost or damaged.
pub(super) fn repair(file: &DataFile) -> String {
    match file.cell {
        None => RESTORE.to_owned(),
        Some(Window { since, until }) => {
            format!("{RESTORE}; failing that: chatlake sync --replace --since {since} --until {until}")
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The object.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub next: String,
}

/// All of them, of which a bounded number is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    listed: Vec<Difference>,
    pub(super) total: u64,
}

impl Differences {
    /// One more.
    pub fn add(&mut self, key: impl Display, what: impl Into<String>, next: impl Into<String>) {
        self.total += 1;
        if self.listed.len() < LISTED {
            let (key, what) = (key.to_string(), what.into());
            // Errors name the object themselves.
            let what = what.strip_prefix(&format!("`{key}` ")).map(str::to_owned).unwrap_or(what);
            self.listed.push(Difference { key, what, next: next.into() });
        }
    }

    fn extend(&mut self, other: Self) {
        self.total += other.total;
        let room = LISTED - self.listed.len();
        self.listed.extend(other.listed.into_iter().take(room));
    }
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where the lake is.
    pub lake: String,
    /// Entries that were read.
    pub entries: u64,
    /// Cells whose records were compared.
    pub cells: u64,
    /// Live files.
    pub files: u64,
    /// Their rows, by the log.
    pub rows: u64,
    /// Their size, by the log.
    pub bytes: u64,
    /// Files of snapshots and rejects whose partitions were dropped.
    pub expired_files: u64,
    /// What reading the rows showed.
    pub deep: Option<Rows>,
    /// What the comparison with Stream showed.
    pub against_stream: Option<StreamReport>,
    /// What is wrong: the first of it.
    pub differences: Vec<Difference>,
    /// How much more is wrong.
    pub more_differences: u64,
}

/// Compares everything with everything else.
pub async fn verify(lake: &Lake, deep: bool, sample: Option<&Sample<'_>>, temp: Option<&FsPath>) -> Result<Report> {
    let mut found = Differences::default();
    let identity = identity(lake, &mut found).await?;
    let log = verify_log::check(lake, &mut found).await?;
    if identity.is_none() && log.entries == 0 && found.total == 0 {
        return Err(no_lake(lake));
    }
    if identity.is_none() && found.listed.iter().all(|difference| difference.key != Key::Identity.to_string()) {
        found.add(Key::Identity, "is gone", RESTORE);
    }
    let mut report = Report {
        lake: lake.display_url().to_owned(),
        entries: log.entries,
        cells: 0,
        files: 0,
        rows: 0,
        bytes: 0,
        expired_files: 0,
        deep: None,
        against_stream: None,
        differences: Vec::new(),
        more_differences: 0,
    };
    if let Some(mut state) = log.state {
        let Compared { differences, bad, expired } = objects_against(lake, &mut state).await?;
        found.extend(differences);
        report.expired_files = expired;
        coverage(&state, &mut found);
        records(&state, &mut found);
        lists(lake, &log.lists, &mut found).await?;
        if let Some(identity) = &identity {
            channels(lake, &identity.selection, &mut found).await?;
        }
        let good: Vec<DataFile> =
            state.files().map(|live| &live.file).filter(|file| !bad.contains(&file.id)).cloned().collect();
        let readable = footers(lake, good, &mut found).await?;
        if deep {
            report.deep = Some(verify_rows::check(lake, &state, &readable, temp, &mut found).await?);
        }
        if let (Some(sample), Some(identity)) = (sample, &identity) {
            let compared = against_stream::check(lake, identity, &state, sample, temp, &mut found).await?;
            report.against_stream = Some(compared);
        }
        report.cells = state.covers().count() as u64;
        for live in state.files() {
            report.files += 1;
            report.rows += live.file.rows;
            report.bytes += live.file.bytes;
        }
    }
    report.more_differences = found.total - found.listed.len() as u64;
    report.differences = found.listed;
    Ok(report)
}

async fn identity(lake: &Lake, found: &mut Differences) -> Result<Option<Identity>> {
    match lake.identity().await {
        Ok(Some(identity)) => identity.check_format(lake.display_url()).map(|()| Some(identity)),
        Ok(None) => Ok(None),
        Err(error) if error.kind() == Kind::Usage => {
            found.add(Key::Identity, verify_log::one_line(&error), RESTORE);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What a listing comes to.
struct Compared {
    differences: Differences,
    /// Live files, by id, that cannot be read any further.
    bad: HashSet<String>,
    /// How many of them were dropped with their partitions.
    expired: u64,
}

/// Every object against the log, and the files that are not there whole. What looks wrong is looked at again when the log has
/// grown meanwhile: `state` is then as new.
async fn objects_against(lake: &Lake, state: &mut State) -> Result<Compared> {
    for _ in 0..ROUNDS {
        let listed = objects(lake, None).await?;
        let mut staged = HashMap::new();
        for file in state.pending().into_iter().flat_map(|pending| &pending.added) {
            if let Some((key, bytes)) = find(lake, file).await? {
                staged.insert(file.id.clone(), (key, bytes));
            }
        }
        let compared = compare(&listed, state, &staged);
        if compared.differences.total == 0 {
            return Ok(compared);
        }
        let next = state.next();
        lake.refresh(state).await?;
        if state.next() == next {
            return Ok(compared);
        }
    }
    Err(too_busy())
}

/// The objects of a lake against its state. Pure. `unsettled` says where files of the last entry are.
fn compare(listed: &[Object], state: &State, unsettled: &HashMap<String, (Key, u64)>) -> Compared {
    let mut found = Differences::default();
    let mut bad = HashSet::new();
    let live: HashMap<Path, &DataFile> = state.files().map(|live| (live.file.key().path(), &live.file)).collect();
    let leaving: HashSet<Path> = state
        .pending()
        .into_iter()
        .flat_map(|pending| pending.removed.iter().map(|live| &live.file).chain(&pending.discarded))
        .map(|file| file.key().path())
        .collect();
    let last: HashSet<&str> =
        state.pending().into_iter().flat_map(|pending| &pending.added).map(|file| file.id.as_str()).collect();
    let mut folders: HashSet<Path> = NAMES.iter().map(|dataset| Key::folder(dataset)).collect();
    folders.extend(state.files().map(|live| Key::folder(&live.file.dataset)));
    let mut seen: HashSet<&str> = HashSet::new();
    let mut size = |file: &DataFile, key: &Key, bytes: u64, found: &mut Differences| {
        if bytes != file.bytes {
            found.add(key, format!("has {bytes} bytes, the log says {}", file.bytes), repair(file));
            bad.insert(file.id.clone());
        }
    };
    for object in listed {
        match (Key::parse(&object.path), live.get(&object.path)) {
            (Some(key), Some(file)) => {
                seen.insert(&file.id);
                size(file, &key, object.bytes, &mut found);
            }
            (Some(Key::Data { dataset, .. }), None) => {
                if folders.contains(&Key::folder(&dataset)) && !leaving.contains(&object.path) {
                    let next = match state.next() {
                        1 => "the log is empty: restore `_chatlake/log/` from versions or a backup of the bucket",
                        _ => {
                            "move it elsewhere if it is yours; what a dead run left is deleted by `chatlake gc --delete`"
                        }
                    };
                    found.add(&object.path, "is not in the log, and readers of plain files see it", next);
                }
            }
            (Some(_), None) => {}
            (None, _) => foreign(object, &folders, &mut found),
        }
    }
    let expired = expired(state, state.files().map(|live| (&live.file, seen.contains(live.file.id.as_str()))));
    for live in state.files().filter(|live| !seen.contains(live.file.id.as_str())) {
        if expired.contains(live.file.id.as_str()) {
            continue;
        }
        match unsettled.get(&live.file.id) {
            Some((key, bytes)) => size(&live.file, key, *bytes, &mut found),
            None if last.contains(live.file.id.as_str()) => {
                let next = format!(
                    "{RESTORE}; failing that, the next run undoes the entry unless the rest of it shows that it was settled"
                );
                found.add(live.file.key(), "is gone, and its entry is not known to be settled", next);
            }
            None => {
                found.add(live.file.key(), "is gone, and the log says it is live", repair(&live.file));
            }
        }
    }
    bad.extend(
        state
            .files()
            .map(|live| &live.file.id)
            .filter(|id| !seen.contains(id.as_str()) && !unsettled.contains_key(*id))
            .cloned(),
    );
    Compared { differences: found, bad, expired: expired.len() as u64 }
}

/// An object that is none of chatlake's, where only chatlake's may be.
fn foreign(object: &Object, folders: &HashSet<Path>, found: &mut Differences) {
    if object.path.prefix_matches(&Key::private()) {
        let next = "move it elsewhere: nothing but chatlake may write below `_chatlake/`";
        found.add(&object.path, "is none of chatlake's objects", next);
    } else if folders.iter().any(|folder| object.path.prefix_matches(folder)) {
        let next = "move it elsewhere: readers take every file in a dataset's folder for data";
        found.add(&object.path, "is no data file of chatlake's", next);
    }
}

/// What the fold guarantees, looked at once more: a snapshot may have been the beginning.
fn coverage(state: &State, found: &mut Differences) {
    let next = "keep `_chatlake/log/` as it is and report this";
    let covers: Vec<(Window, u64)> = state.covers().map(|covered| (covered.cover.window, covered.entry)).collect();
    for pair in covers.windows(2).filter(|pair| pair[0].0.overlaps(&pair[1].0)) {
        found.add(Key::Entry(pair[1].1), format!("covers `{}`, which overlaps `{}`", pair[1].0, pair[0].0), next);
    }
    for live in state.files() {
        let Some(cell) = live.file.cell else { continue };
        if !state.covers_in(cell).any(|covered| covered.cover.window.covers(&cell)) {
            found.add(live.file.key(), format!("belongs to `{cell}`, which is not covered"), next);
        }
        let folder = format!("event_date={}", cell.date());
        if live.file.partition.split('/').next() != Some(&folder) {
            found.add(live.file.key(), format!("belongs to `{cell}`, whose folder is `{folder}`"), next);
        }
    }
}

/// The completeness record of each cell against its files: rows by dataset.
fn records(state: &State, found: &mut Differences) {
    let mut rows: BTreeMap<(Window, &str), u64> = BTreeMap::new();
    for live in state.files() {
        if let Some(cell) = live.file.cell
            && let Some(covered) = state.covers_in(cell).next()
        {
            *rows.entry((covered.cover.window, live.file.dataset.as_str())).or_default() += live.file.rows;
        }
    }
    for covered in state.covers() {
        let (window, record) = (covered.cover.window, &covered.cover.record);
        let named = record.rows.keys().map(String::as_str);
        let filed = rows.range((window, "")..).take_while(|((of, _), _)| *of == window).map(|((_, name), _)| *name);
        for dataset in named.chain(filed).collect::<BTreeSet<_>>() {
            let said = record.rows.get(dataset).copied().unwrap_or(0);
            let there = rows.get(&(window, dataset)).copied().unwrap_or(0);
            if said != there {
                let what = format!("says {} of {dataset} in `{window}`, its files have {there}", count(said, "row"));
                let next = "keep `_chatlake/log/` and the files of the cell as they are and report this";
                found.add(Key::Entry(covered.entry), what, next);
            }
        }
    }
}

/// Every object with long lists that an entry refers to.
async fn lists(lake: &Lake, referred: &BTreeMap<String, u64>, found: &mut Differences) -> Result<()> {
    for (name, entry) in referred {
        let key = Key::Lists(name.clone());
        match lake.lists_aside(name).await {
            Ok(Some(_)) => {}
            Ok(None) => found.add(&key, format!("is gone, entry {entry} refers to it"), RESTORE),
            Err(error) if error.kind() == Kind::Data => found.add(&key, "is damaged", RESTORE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The list of channels that the lake is made of.
async fn channels(lake: &Lake, selection: &Selection, found: &mut Differences) -> Result<()> {
    let Some(aside) = &selection.channels_file else { return Ok(()) };
    match lake.channels(selection).await {
        Err(error) if error.kind() == Kind::Data => {
            let next = error.next_step().unwrap_or(RESTORE).to_owned();
            found.add(Key::Channels(aside.xxh3.clone()), "is gone or damaged, `lake.json` refers to it", &next);
            Ok(())
        }
        other => other.map(drop),
    }
}

/// The footer of each file against the log. Yields the files that can be read, with where they are.
async fn footers(lake: &Lake, files: Vec<DataFile>, found: &mut Differences) -> Result<Vec<(DataFile, Key)>> {
    let checked: Vec<(DataFile, Footer)> = futures::stream::iter(files)
        .map(|file| async move {
            let footer = footer(lake, &file).await?;
            Ok::<_, Error>((file, footer))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut good = Vec::new();
    for (file, footer) in checked {
        match footer {
            Footer::Rows(key, rows) if rows == file.rows => good.push((file, key)),
            Footer::Rows(key, rows) => {
                found.add(key, format!("has {}, the log says {}", count(rows, "row"), file.rows), repair(&file));
            }
            Footer::Damaged(key, what) => found.add(key, what, repair(&file)),
            Footer::Gone if is_live(lake, &file).await? => {
                found.add(file.key(), "is gone, and the log says it is live", repair(&file));
            }
            Footer::Gone => {}
        }
    }
    Ok(good)
}

/// Whether a file is live by the log as it is now.
pub(super) async fn is_live(lake: &Lake, file: &DataFile) -> Result<bool> {
    Ok(lake.state().await?.files().any(|live| live.file.id == file.id))
}

enum Footer {
    Rows(Key, u64),
    Damaged(Key, String),
    Gone,
}

async fn footer(lake: &Lake, file: &DataFile) -> Result<Footer> {
    // The final key is tried again last: the file may have moved there between the two looks.
    for key in [file.key(), file.staged_key(), file.key()] {
        let read = async |bytes: u64| {
            let range = file.bytes.saturating_sub(bytes)..file.bytes;
            lake.store().get_range(&key.path(), range).await
        };
        let mut bytes = TAIL_BYTES;
        loop {
            let tail = match read(bytes).await {
                Ok(tail) => tail,
                Err(object_store::Error::NotFound { .. }) => break,
                Err(error) => return Err(store_error("cannot read a file", lake.display_url(), error)),
            };
            let mut reader = ParquetMetaDataReader::new();
            let parsed: Result<ParquetMetaData, ParquetError> =
                reader.try_parse_sized(&tail, file.bytes).and_then(|()| reader.finish());
            return Ok(match parsed {
                Ok(metadata) => {
                    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
                    Footer::Rows(key, rows)
                }
                Err(ParquetError::NeedMoreData(more))
                    if more <= MAX_FOOTER_BYTES && more as u64 <= file.bytes && more as u64 > bytes =>
                {
                    bytes = more as u64;
                    continue;
                }
                Err(error) => Footer::Damaged(key, format!("has a footer that cannot be read: {error}")),
            });
        }
    }
    Ok(Footer::Gone)
}

impl Report {
    /// An error when something differs.
    pub fn outcome(&self) -> Result<()> {
        let differences = self.differences.len() as u64 + self.more_differences;
        let Some(first) = self.differences.first() else { return Ok(()) };
        let noun = if differences == 1 { "difference" } else { "differences" };
        Err(Error::new(Kind::Data, format!("{differences} {noun}; the first: `{}` {}", first.key, first.what))
            .hint(first.next.clone()))
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// A few lines, and two for each difference.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{}\n  {}, {}, {}, {}, {}\n",
            self.lake,
            count(self.entries, "entry"),
            count(self.cells, "cell"),
            count(self.files, "file"),
            count(self.rows, "row"),
            bytes(self.bytes)
        );
        if self.expired_files > 0 {
            let _ = writeln!(text, "  {} of dropped snapshot_date partitions", count(self.expired_files, "file"));
        }
        if let Some(deep) = &self.deep {
            let _ = writeln!(
                text,
                "  read: {}, {}, {}",
                count(deep.files, "file"),
                count(deep.rows, "row"),
                bytes(deep.bytes)
            );
        }
        if let Some(compared) = &self.against_stream {
            text.push_str(&compared.to_text());
        }
        for Difference { key, what, next } in &self.differences {
            let _ = writeln!(text, "{key} {what}\n  {next}");
        }
        if self.more_differences > 0 {
            let _ = writeln!(text, "and {} more", self.more_differences);
        }
        if self.differences.is_empty() {
            text.push_str("nothing differs");
        }
        text
    }
}
