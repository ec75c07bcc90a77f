//! Every row of every live file: the bytes that were written, in the declared order, in their cell and folder, and once.
//!
//! Files are copied and read one at a time. Keys of a cell go through a sorter, which holds a bounded part of them in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, TimestampMicrosecondType, UInt32Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::verify::{Differences, is_live, repair};
use crate::error::{Error, Kind, Result};
use crate::figures::count;
use crate::lake::layout::{QUARANTINE, partition};
use crate::lake::store_error::store_error;
use crate::lake::{DataFile, Key, Lake, State};
use crate::schema::{self, Schema};
use crate::sort::{RowRef, SortKey, SortSpec, Sorter};
use crate::temp_dir;
use crate::window::{Window, utc_date};

/// Rows of a batch.
const BATCH_ROWS: usize = 4096;
/// Memory for the keys of a cell; the rest is spilled.
const SORT_BYTES: usize = 64 << 20;

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Files.
    pub files: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Rows among which a key may occur once: those of a dataset in a cell, or of a snapshot in one commit.
type GroupKey<'a> = (&'a str, Option<Window>, u64, &'a str);

/// Reads these files.
pub(super) async fn check(
    lake: &Lake,
    state: &State,
    files: &[(DataFile, Key)],
    temp: Option<&FsPath>,
    found: &mut Differences,
) -> Result<Rows> {
    let entries: BTreeMap<&str, u64> = state.files().map(|live| (live.file.id.as_str(), live.entry)).collect();
    let mut groups: BTreeMap<GroupKey<'_>, Vec<&(DataFile, Key)>> = BTreeMap::new();
    for located in files {
        let file = &located.0;
        let entry = entries.get(file.id.as_str()).copied().unwrap_or(0);
        let partition = if file.cell.is_some() { "" } else { file.partition.as_str() };
        groups.entry((&file.dataset, file.cell, entry, partition)).or_default().push(located);
    }
    let mut read = Rows::default();
    for ((dataset, ..), files) in groups {
        let Some(schema) = schema::find(dataset) else { continue };
        let mut group = Some(Group::new(schema, temp)?);
        for (file, key) in files {
            let Some((copy, xxh3)) = fetch(lake, file, key, temp).await? else {
                if is_live(lake, file).await? {
                    found.add(file.key(), "is gone, and the log says it is live", repair(file));
                }
                continue;
            };
            read.files += 1;
            read.bytes += file.bytes;
            if xxh3 != file.xxh3 {
                found.add(
                    key,
                    format!("is not what was written: its XXH3 is {xxh3}, the log says {}", file.xxh3),
                    repair(file),
                );
                continue;
            }
            read.rows += file.rows;
            let (mut at_work, file, key) = (group.take().ok_or_else(died)?, file.clone(), key.clone());
            let worked = blocking(move || {
                at_work.file(&file, key, copy)?;
                Ok(at_work)
            });
            group = Some(worked.await?);
        }
        let group = group.ok_or_else(died)?;
        for (key, what) in blocking(move || group.finish()).await? {
            let next = "keep a copy of the file and report this; restore it from a version or a backup of the bucket";
            found.add(key, what, next);
        }
    }
    Ok(read)
}

/// A copy of a file without a name, and its XXH3. None when it is gone.
pub(super) async fn fetch(
    lake: &Lake,
    file: &DataFile,
    key: &Key,
    temp: Option<&FsPath>,
) -> Result<Option<(File, String)>> {
    let full =
        |error: std::io::Error| temp_dir::failed("cannot copy a file of the lake to the temporary directory", error);
    let cannot = |error| store_error("cannot read a file", lake.display_url(), error);
    let mut found = None;
    // It may have been settled since it was found.
    for path in [key.path(), file.key().path()] {
        match lake.store().get(&path).await {
            Ok(object) => {
                found = Some(object);
                break;
            }
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(cannot(error)),
        }
    }
    let Some(object) = found else { return Ok(None) };
    let mut copy = temp.map_or_else(tempfile::tempfile, tempfile::tempfile_in).map_err(full)?;
    let mut hash = Box::new(Xxh3::new());
    let mut chunks = object.into_stream();
    while let Some(chunk) = chunks.try_next().await.map_err(cannot)? {
        hash.update(&chunk);
        copy.write_all(&chunk).map_err(full)?;
    }
    copy.rewind().map_err(full)?;
    Ok(Some((copy, format!("{:016x}", hash.digest()))))
}

/// The files of one group, read one after the other.
struct Group {
    schema: Arc<Schema>,
    keys: Option<Sorter>,
    key_schema: Arc<ArrowSchema>,
    files: Vec<Key>,
    found: Vec<(Key, String)>,
    temp: Option<PathBuf>,
}

/// Something that may be wrong with many rows of a file: how many, and the first.
#[derive(Default)]
struct Count {
    rows: u64,
    first: Option<String>,
}

impl Count {
    fn add(&mut self, first: impl FnOnce() -> String) {
        self.rows += 1;
        self.first.get_or_insert_with(first);
    }

    fn tell(self, key: &Key, what: &str, found: &mut Vec<(Key, String)>) {
        if let Some(first) = self.first {
            found.push((key.clone(), format!("has {} {what}; the first: {first}", count(self.rows, "row"))));
        }
    }
}

impl Group {
    fn new(schema: Arc<Schema>, temp: Option<&FsPath>) -> Result<Self> {
        let mut fields: Vec<Field> = schema
            .columns
            .iter()
            .filter(|column| schema.key.contains(&column.name))
            .map(|column| Field::new(&column.name, column.data_type(), true))
            .collect();
        fields.push(Field::new("file", DataType::UInt32, false));
        let key_schema = Arc::new(ArrowSchema::new(fields));
        Ok(Self {
            schema,
            keys: None,
            key_schema,
            files: Vec::new(),
            found: Vec::new(),
            temp: temp.map(FsPath::to_owned),
        })
    }

    /// Reads one file. What is wrong with it is kept; only trouble with this machine is an error.
    fn file(&mut self, file: &DataFile, key: Key, copy: File) -> Result<()> {
        self.files.push(key.clone());
        // Rejected lines have no order that matters and no identity; their bytes are as they were written.
        if file.dataset == QUARANTINE {
            return Ok(());
        }
        match self.rows(file, &key, copy) {
            Ok(result) => result,
            Err(damaged) => {
                self.found.push((key, format!("cannot be read: {damaged}")));
                Ok(())
            }
        }
    }

    fn rows(&mut self, file: &DataFile, key: &Key, copy: File) -> Result<Result<()>, Damaged> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(copy)?;
        let order = declared_order(&builder).unwrap_or_else(|| self.schema.sort.clone());
        let time_column =
            if self.schema.index_of("message_created_at").is_some() { "message_created_at" } else { "created_at" };
        let mut columns: Vec<&str> = order.iter().chain(&self.schema.key).map(String::as_str).collect();
        columns.extend(["cid", time_column, "created_at", "_exported_at"]);
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
        let mut sorted = Order::default();
        let (mut disorder, mut outside, mut misfiled) = (Count::default(), Count::default(), Count::default());
        let mut times: Option<(i64, i64)> = None;
        for batch in builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()? {
            let batch = batch?;
            sorted.check(&batch, &order, &mut disorder)?;
            let cids = batch.column_by_name("cid").and_then(|column| column.as_string_opt::<i32>());
            if let Some(created_at) = times_of(&batch, "created_at") {
                for at in created_at.iter().flatten() {
                    times = Some(times.map_or((at, at), |(min, max)| (min.min(at), max.max(at))));
                }
            }
            if let Some(cell) = file.cell
                && let Some(at) = times_of(&batch, time_column)
            {
                let (since, until) = (cell.since.as_microsecond(), cell.until.as_microsecond());
                for us in at.iter().flatten().filter(|us| *us < since || *us >= until) {
                    outside.add(|| show(us));
                }
            }
            check_folder(file, &batch, cids, &mut misfiled);
            if let Err(error) = self.push_keys(&batch)? {
                return Ok(Err(error));
            }
        }
        disorder.tell(key, "out of order", &mut self.found);
        if let Some(cell) = file.cell {
            outside.tell(key, &format!("outside of their cell `{cell}`"), &mut self.found);
        }
        misfiled.tell(key, "that belong to another folder", &mut self.found);
        let logged = |at: Option<Timestamp>| at.map(Timestamp::as_microsecond);
        if times.map(|times| times.0) != logged(file.min_created_at)
            || times.map(|times| times.1) != logged(file.max_created_at)
        {
            self.found.push((key.clone(), "has other earliest and latest `created_at` than the log says".to_owned()));
        }
        Ok(Ok(()))
    }

    fn push_keys(&mut self, batch: &RecordBatch) -> Result<Result<()>, Damaged> {
        let number = u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX);
        let mut columns: Vec<ArrayRef> = Vec::new();
        for field in self.key_schema.fields().iter().filter(|field| field.name() != "file") {
            let column =
                batch.column_by_name(field.name()).ok_or_else(|| Damaged(format!("no column `{}`", field.name())))?;
            columns.push(arrow::compute::cast(column, field.data_type())?);
        }
        columns.push(Arc::new(UInt32Array::from(vec![number; batch.num_rows()])));
        let batch = RecordBatch::try_new(self.key_schema.clone(), columns)?;
        Ok(self.sort(batch))
    }

    fn sort(&mut self, batch: RecordBatch) -> Result<()> {
        let sorter = match &mut self.keys {
            Some(sorter) => sorter,
            empty => {
                let columns = 0..self.key_schema.fields().len();
                let keys = columns.map(|column| SortKey { column, descending: false }).collect();
                let spec = SortSpec { keys, dedup_prefix: self.key_schema.fields().len() - 1 };
                empty.insert(Sorter::new(self.key_schema.clone(), &spec, SORT_BYTES, self.temp.as_deref())?)
            }
        };
        Ok(sorter.push(batch)?)
    }

    /// What was wrong with any of the files, duplicates last.
    fn finish(mut self) -> Result<Vec<(Key, String)>> {
        let Some(keys) = self.keys.take() else { return Ok(self.found) };
        let twice: Arc<Mutex<BTreeMap<(u32, u32), Count>>> = Arc::default();
        let seen = Arc::clone(&twice);
        let sorted = keys.finish_with(move |one: RowRef<'_>, other: RowRef<'_>| {
            let file = |row: RowRef<'_>| {
                let files = row.batch.column(row.batch.num_columns() - 1);
                files.as_primitive::<UInt32Type>().value(row.row)
            };
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.entry((file(other), file(one))).or_default().add(|| key_text(other));
        })?;
        for batch in sorted {
            batch?;
        }
        let mut twice = twice.lock().unwrap_or_else(PoisonError::into_inner);
        for ((file, first), count) in std::mem::take(&mut *twice) {
            let Some((key, of)) = self.files.get(file as usize).zip(self.files.get(first as usize)) else { continue };
            let what = if file == first { "twice".to_owned() } else { format!("that are in `{of}` too") };
            count.tell(key, &what, &mut self.found);
        }
        Ok(self.found)
    }
}

/// Whether rows come in order, across batches.
#[derive(Default)]
struct Order {
    converter: Option<RowConverter>,
    last: Option<OwnedRow>,
    rows: u64,
}

impl Order {
    fn check(&mut self, batch: &RecordBatch, order: &[String], disorder: &mut Count) -> Result<(), Damaged> {
        let column =
            |name: &String| batch.column_by_name(name).cloned().ok_or_else(|| Damaged(format!("no column `{name}`")));
        let columns = order.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let converter = match &mut self.converter {
            Some(converter) => converter,
            empty => {
                let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
                empty.insert(RowConverter::new(fields)?)
            }
        };
        let rows = converter.convert_columns(&columns)?;
        for (number, row) in rows.iter().enumerate() {
            let is_after = match (number, &self.last) {
                (0, None) => true,
                (0, Some(last)) => last.row() <= row,
                _ => rows.row(number - 1) <= row,
            };
            if !is_after {
                disorder.add(|| format!("row {}", self.rows + number as u64 + 1));
            }
        }
        if batch.num_rows() > 0 {
            self.last = Some(rows.row(batch.num_rows() - 1).owned());
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }
}

/// The columns by which the file says that it is sorted.
fn declared_order(builder: &ParquetRecordBatchReaderBuilder<File>) -> Option<Vec<String>> {
    let group = builder.metadata().row_groups().first()?;
    let leaves = builder.parquet_schema().columns();
    let name = |index: i32| Some(leaves.get(usize::try_from(index).ok()?)?.path().string());
    let sorted = group.sorting_columns().filter(|columns| !columns.is_empty())?;
    let ascending = sorted.iter().all(|column| !column.descending && column.nulls_first);
    sorted.iter().map(|column| name(column.column_idx)).collect::<Option<Vec<_>>>().filter(|_| ascending)
}

/// Rows whose folder is another than the file's: by channel type, or by the day of the export.
fn check_folder(file: &DataFile, batch: &RecordBatch, cids: Option<&StringArray>, misfiled: &mut Count) {
    for folder in file.partition.split('/') {
        match folder.split_once('=') {
            Some(("channel_type", _)) => {
                for cid in cids.into_iter().flat_map(StringArray::iter).flatten() {
                    let channel_type = cid.split_once(':').map_or("", |(channel_type, _)| channel_type);
                    if partition(&[("channel_type", channel_type)]) != folder {
                        misfiled.add(|| cid.to_owned());
                    }
                }
            }
            Some(("snapshot_date" | "export_date", date)) => {
                for us in times_of(batch, "_exported_at").into_iter().flat_map(|times| times.iter().flatten()) {
                    if Timestamp::from_microsecond(us).is_ok_and(|at| utc_date(at).to_string() != date) {
                        misfiled.add(|| show(us));
                    }
                }
            }
            _ => {}
        }
    }
}

fn times_of<'b>(batch: &'b RecordBatch, name: &str) -> Option<&'b arrow::array::TimestampMicrosecondArray> {
    batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()
}

fn show(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| at.to_string())
}

fn key_text(row: RowRef<'_>) -> String {
    let columns = row.batch.columns().iter().take(row.batch.num_columns() - 1);
    let text = |column: &ArrayRef| arrow::util::display::array_value_to_string(column, row.row).unwrap_or_default();
    columns.map(text).collect::<Vec<_>>().join(" ")
}

/// Why a file cannot be read: said in the difference.
struct Damaged(String);

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<parquet::errors::ParquetError> for Damaged {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self(error.to_string())
    }
}

impl From<arrow::error::ArrowError> for Damaged {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self(error.to_string())
    }
}

pub(super) fn died() -> Error {
    Error::new(Kind::Internal, "a worker thread died")
}

/// Runs CPU work off the async runtime.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(died().because(error)))
}
