//! The channels that a lake has seen, read from its own files: those that were deleted since then are listed by nobody else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimeUnit};
use arrow::{compute::cast, datatypes::DataType};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::cpu::Cpu;
use crate::error::{Error, Kind, Result};
use crate::lake::{DataFile, Lake, State};
use crate::window::{Window, utc_date};
use crate::write::file_slice::FileSlice;
use crate::write::old_files;

/// What a lake knows of channels that were exported in its last days.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    seen: HashMap<String, Seen>,
    /// When Stream was last found not to know a channel.
    missing: HashMap<String, Timestamp>,
}

/// A channel, as its latest row says.
#[derive(Clone, Copy, Debug)]
struct Seen {
    exported_us: i64,
    deleted_us: Option<i64>,
}

impl Remembered {
    /// The channels that were exported within so many days of the latest export; if exports hold no channels, those that have messages of
    /// the last days that are covered.
    pub(super) async fn read(lake: &Lake, state: &State, days: i64, temp_dir: Option<&Path>, cpu: Cpu) -> Result<Self> {
        let mut remembered = Self { missing: missing(lake, state, days).await?, ..Self::default() };
        for file in files(state, days) {
            let copy = match old_files::copy(lake, file, temp_dir).await {
                Ok(copy) => copy,
                // Whoever drops old snapshots gives up what they remember.
                Err(error) if error.kind() == Kind::Data => {
                    tracing::warn!(error = error.report(), "channels of this file are not remembered");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_snapshot = file.cell.is_none();
            remembered = cpu
                .run(move || {
                    each_batch(copy, is_snapshot, |batch| remembered.take(batch))?;
                    Ok::<_, Error>(remembered)
                })
                .await?;
        }
        Ok(remembered)
    }

    /// The channels that a span may ask for although nobody lists them, in no order.
    pub(super) fn candidates(&self, span: Window) -> HashSet<String> {
        self.seen.keys().filter(|cid| !self.is_over(cid, span) && !self.is_gone(cid)).cloned().collect()
    }

    /// Whether a channel was deleted before a span, and exported after that: nothing of it can be in the span.
    pub(super) fn is_over(&self, cid: &str, span: Window) -> bool {
        let deleted_us = self.seen.get(cid).and_then(|seen| seen.deleted_us);
        deleted_us.is_some_and(|deleted_us| deleted_us < span.since.as_microsecond())
    }

    /// Whether Stream was found not to know a channel, and it was not exported since.
    pub(super) fn is_gone(&self, cid: &str) -> bool {
        let was_seen_after = |missing_us: i64| self.seen.get(cid).is_some_and(|seen| seen.exported_us > missing_us);
        self.missing.get(cid).is_some_and(|missing| !was_seen_after(missing.as_microsecond()))
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(cids) = batch.column_by_name("cid").and_then(|column| column.as_string_opt::<i32>()) else {
            return Ok(());
        };
        let (exported, deleted) = (micros(batch, "_exported_at")?, micros(batch, "deleted_at")?);
        for (row, cid) in cids.iter().enumerate() {
            let Some(cid) = cid else { continue };
            let of = |values: &Option<Vec<Option<i64>>>| values.as_ref().and_then(|values| values[row]);
            let seen = Seen { exported_us: of(&exported).unwrap_or(i64::MIN), deleted_us: of(&deleted) };
            match self.seen.get_mut(cid) {
                Some(known) if known.exported_us > seen.exported_us => {}
                Some(known) => *known = seen,
                None => drop(self.seen.insert(cid.to_owned(), seen)),
            }
        }
        Ok(())
    }
}

/// Snapshots of channels of the last days of exports, or, where there are none, messages of the last days that are covered.
fn files(state: &State, days: i64) -> Vec<&DataFile> {
    let snapshots: Vec<(Date, &DataFile)> = state
        .files()
        .map(|live| &live.file)
        .filter(|file| file.dataset == "channels")
        .filter_map(|file| Some((file.partition.strip_prefix("snapshot_date=")?.parse().ok()?, file)))
        .collect();
    if let Some(last) = snapshots.iter().map(|(date, _)| *date).max() {
        let first = last.checked_sub(days.days()).unwrap_or(Date::MIN);
        return snapshots.into_iter().filter(|(date, _)| *date >= first).map(|(_, file)| file).collect();
    }
    let Some(last) = state.covers().next_back().map(|covered| covered.cover.window.until) else { return Vec::new() };
    let since = last.saturating_sub(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MIN);
    let window = Window { since, until: last };
    state.files_of(window).map(|live| &live.file).filter(|file| file.dataset == "messages").collect()
}

/// What exports of the same days have found to be unknown to Stream.
async fn missing(lake: &Lake, state: &State, days: i64) -> Result<HashMap<String, Timestamp>> {
    // Whoever fills a cell copies what was missing before, and has not looked again.
    let Some(last) = state.covers().map(|covered| covered.cover.complete_at()).max() else { return Ok(HashMap::new()) };
    let first = utc_date(last).checked_sub(days.days()).unwrap_or(Date::MIN);
    let mut latest: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut found: HashMap<String, Timestamp> = HashMap::new();
    let mut note = |cids: &[String], at: Timestamp| {
        for cid in cids {
            let known = found.entry(cid.clone()).or_insert(at);
            *known = (*known).max(at);
        }
    };
    for cover in state.covers().map(|covered| &covered.cover) {
        let looked_at = cover.complete_at();
        if utc_date(looked_at) < first {
            continue;
        }
        match &cover.record.lists_aside {
            None => note(&cover.record.lists.missing_channels, looked_at),
            // Cells of a span share their lists.
            Some(aside) if aside.missing_channels > 0 => {
                let at = latest.entry(aside.xxh3.clone()).or_insert(looked_at);
                *at = (*at).max(looked_at);
            }
            Some(_) => {}
        }
    }
    for (name, at) in latest {
        if let Some(lists) = lake.lists_aside(&name).await? {
            note(&lists.missing_channels, at);
        }
    }
    Ok(found)
}

/// Reads what is needed of a file of channels, or of messages, whose deletions are their own.
fn each_batch(copy: FileSlice, is_snapshot: bool, mut each: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
    let damaged = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Data, format!("cannot read a file of the lake's channels: {error}"))
            .hint("compare the lake with its log: chatlake verify --deep")
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(copy).map_err(|error| damaged(&error))?;
    let columns: &[&str] = if is_snapshot { &["cid", "deleted_at", "_exported_at"] } else { &["cid", "_exported_at"] };
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    for batch in builder.with_projection(mask).build().map_err(|error| damaged(&error))? {
        each(&batch.map_err(|error| damaged(&error))?)?;
    }
    Ok(())
}

/// A column of times; none if the file has no such column.
fn micros(batch: &RecordBatch, name: &str) -> Result<Option<Vec<Option<i64>>>> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    let wrong = |error| Error::new(Kind::Data, format!("`{name}` is no time")).because(error);
    let times = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None)).map_err(wrong)?;
    let numbers = cast(&times, &DataType::Int64).map_err(wrong)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    Ok(Some((0..numbers.len()).map(|row| numbers.is_valid(row).then(|| numbers.value(row))).collect()))
}
