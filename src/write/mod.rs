//! Sorted rows into staged files: one file for each cell, dataset and partition, rolled at the target size.

pub mod file_cutter;
pub mod old_files;
pub mod parquet_file;
pub mod parquet_read;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{TimestampMicrosecondType, UInt8Type};
use jiff::Timestamp;
use tokio::runtime::Handle;
use uuid::Uuid;

use self::file_cutter::{FileCutter, Piece};
use self::parquet_file::{FileOptions, ParquetFile};
use crate::decode::{NO_CELL, message_key};
use crate::error::{Error, Kind, Result};
use crate::lake::{DataFile, Lake, StagedWriter};
use crate::schema::{self, Filter, Schema};
use crate::sort::SortedBatches;
use crate::sort::hidden::{self, visible};
use crate::window::Window;

/// Columns whose values hardly ever repeat.
const UNIQUE_COLUMNS: [&str; 9] =
    ["id", "text", "html", "custom", "raw", "line", "line_base64", "created_at", "updated_at"];

/// What becomes of rows that were committed before and are not delivered any more.
#[derive(Clone, Debug, Default)]
pub struct Vanishing {
    /// Drop them, instead of keeping them with `_vanished_at`.
    pub removes: bool,
    /// When they were missed.
    pub at: Timestamp,
    /// Channels that could not be exported now: their rows are carried over as they are.
    pub carried: HashSet<String>,
    /// Messages that have more reactions than exports embed: a reaction that is not delivered may still be there.
    pub cut_reactions: HashSet<u64>,
}

/// Where and how files are written.
pub struct Writer {
    /// Where they are staged.
    pub lake: Lake,
    /// By whom.
    pub run_id: Uuid,
    /// The cells of the span.
    pub cells: Vec<Window>,
    /// What happens to rows of old files that no new row replaces.
    pub vanishing: Vanishing,
    /// Compression, sizes.
    pub options: FileOptions,
    /// The runtime that uploads.
    pub runtime: Handle,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Staged files, each with its place in [`Writer::cells`].
    pub files: Vec<(u32, DataFile)>,
    /// What each cell holds now, by cell and dataset.
    pub contents: BTreeMap<(u32, &'static str), Content>,
}

/// The rows of a dataset in a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Rows, those kept from older exports included.
    pub rows: u64,
    /// The order-free hash of the rows that were delivered.
    pub hash: u128,
    /// Rows that were not delivered any more for the first time.
    pub vanished: u64,
}

/// The file being written.
struct Open {
    cell: u32,
    partition: String,
    id: String,
    file: ParquetFile,
    upload: StagedWriter,
}

impl Writer {
    /// Writes all rows of the dataset at this place in [`schema::DATASETS`]. Blocks: it belongs on a thread of its own.
    pub fn write(&self, dataset: usize, batches: SortedBatches, written: &mut Written) -> Result<()> {
        let schema = &schema::all()[dataset];
        let name = schema::DATASETS[dataset];
        let options = file_options(schema, &self.options);
        let mut open: Option<Open> = None;
        for piece in FileCutter::new(batches) {
            let Piece { cell, partition, batch } = piece?;
            let content = written.contents.entry((cell, name)).or_default();
            let batch = self.settle_ranks(batch, content)?;
            if batch.num_rows() == 0 {
                continue;
            }
            content.rows += batch.num_rows() as u64;
            let goes_on = open
                .as_ref()
                .is_some_and(|open| open.cell == cell && open.partition == partition && !open.file.is_full());
            if !goes_on {
                if let Some(open) = open.take() {
                    written.files.push(self.close(name, open)?);
                }
                open = Some(self.open(schema, &options, cell, partition)?);
            }
            if let Some(open) = &mut open {
                open.file.write(&visible(&batch))?;
                self.upload(open)?;
            }
        }
        if let Some(open) = open.take() {
            written.files.push(self.close(name, open)?);
        }
        Ok(())
    }

    fn open(&self, schema: &Schema, options: &FileOptions, cell: u32, partition: String) -> Result<Open> {
        // Version 7: names sort by time, which is a kindness to whoever lists the bucket.
        let id = Uuid::now_v7().simple().to_string();
        let upload = self.lake.stage(self.run_id, &id)?;
        Ok(Open { cell, partition, id, file: ParquetFile::create(schema.arrow(), options)?, upload })
    }

    fn upload(&self, open: &mut Open) -> Result<()> {
        let bytes = open.file.take_encoded();
        if bytes.is_empty() { Ok(()) } else { self.runtime.block_on(open.upload.write(bytes)) }
    }

    fn close(&self, dataset: &str, open: Open) -> Result<(u32, DataFile)> {
        let Open { cell, partition, id, file, mut upload } = open;
        let (tail, summary) = file.finish()?;
        self.runtime.block_on(upload.write(tail))?;
        let object = self.runtime.block_on(upload.finish())?;
        if object.bytes != summary.bytes {
            return Err(Error::new(Kind::Internal, "a file was not uploaded as it was written"));
        }
        let time = |us: Option<i64>| us.and_then(|us| Timestamp::from_microsecond(us).ok());
        let file = DataFile {
            dataset: dataset.to_owned(),
            partition,
            cell: self.cells.get(cell as usize).copied().filter(|_| cell != NO_CELL),
            id,
            run_id: self.run_id,
            rows: summary.rows,
            bytes: summary.bytes,
            xxh3: object.xxh3,
            min_created_at: time(summary.min_us),
            max_created_at: time(summary.max_us),
        };
        Ok((cell, file))
    }

    /// Adds new rows to the content hash, and decides what becomes of old ones that no new row replaced.
    fn settle_ranks(&self, batch: RecordBatch, content: &mut Content) -> Result<RecordBatch> {
        let wrong = |what: &str| Error::new(Kind::Internal, format!("a batch without {what}"));
        let ranks = batch.column_by_name(hidden::RANK).ok_or_else(|| wrong("ranks"))?.as_primitive::<UInt8Type>();
        let hashes = batch.column_by_name(hidden::HASH).ok_or_else(|| wrong("hashes"))?.as_fixed_size_binary();
        let mut any_old = false;
        for (row, rank) in ranks.values().iter().enumerate() {
            if *rank == 0 {
                let hash = hashes.value(row).try_into().map_err(|_| wrong("hashes of 16 bytes"))?;
                content.hash = content.hash.wrapping_add(u128::from_be_bytes(hash));
            } else {
                any_old = true;
            }
        }
        let Some(index) = batch.schema().index_of("_vanished_at").ok().filter(|_| any_old) else { return Ok(batch) };
        let missed: Vec<bool> =
            (0..batch.num_rows()).map(|row| ranks.value(row) > 0 && self.is_missed(&batch, row)).collect();
        if self.vanishing.removes {
            content.vanished += missed.iter().filter(|missed| **missed).count() as u64;
            let kept: BooleanArray = missed.iter().map(|missed| Some(!missed)).collect();
            return filter_record_batch(&batch, &kept).map_err(|error| wrong("order").because(error));
        }
        let old = batch.column(index).as_primitive::<TimestampMicrosecondType>();
        let at_us = self.vanishing.at.as_microsecond();
        let values: TimestampMicrosecondArray = (0..batch.num_rows())
            .map(|row| {
                let is_new = missed[row] && old.is_null(row);
                content.vanished += u64::from(is_new);
                if is_new { Some(at_us) } else { old.is_valid(row).then(|| old.value(row)) }
            })
            .collect();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns[index] = Arc::new(values.with_data_type(old.data_type().clone()));
        RecordBatch::try_new(batch.schema(), columns).map_err(|error| wrong("order").because(error))
    }

    fn is_missed(&self, batch: &RecordBatch, row: usize) -> bool {
        let text = |name: &str| {
            let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
            column.is_valid(row).then(|| column.value(row))
        };
        let carried = text("cid").is_some_and(|cid| self.vanishing.carried.contains(cid));
        let cut = || text("message_id").is_some_and(|id| self.vanishing.cut_reactions.contains(&message_key(id)));
        !carried && !cut()
    }
}

fn file_options(schema: &Schema, options: &FileOptions) -> FileOptions {
    let filtered = |filter: Filter| {
        let columns = schema.columns.iter().filter(move |column| column.filter == Some(filter));
        columns.map(|column| column.name.clone()).collect::<Vec<_>>()
    };
    let has = |name: &str| schema.index_of(name).is_some();
    FileOptions {
        sorting_columns: schema.sort.clone(),
        bloom_columns: filtered(Filter::Bloom),
        stats_columns: filtered(Filter::Stats),
        unique_columns: UNIQUE_COLUMNS.into_iter().filter(|name| has(name)).map(str::to_owned).collect(),
        json_columns: schema
            .columns
            .iter()
            .filter(|column| column.kind == schema::Kind::Json)
            .map(|column| column.name.clone())
            .collect(),
        time_column: has("created_at").then(|| "created_at".to_owned()),
        metadata: vec![("chatlake.dataset".to_owned(), schema.dataset.clone())],
        ..options.clone()
    }
}
