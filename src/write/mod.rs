//! Sorted rows into staged files: one file for each cell, dataset and partition, rolled at the target size.

pub mod comparison;
pub mod file_cutter;
pub mod old_files;
pub mod parquet_file;
pub mod parquet_read;

mod encoder;
pub(crate) mod file_slice;
mod row_group;
mod vanishing;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use jiff::Timestamp;
use uuid::Uuid;

use self::comparison::Comparison;
use self::encoder::{Encoder, Output};
use self::parquet_file::{FileOptions, FileSummary};
pub use self::vanishing::Vanishing;
use crate::columns::Schemas;
use crate::cpu::Cpu;
use crate::decode::{NO_CELL, NumberedCells};
use crate::error::{Error, Kind, Result};
use crate::lake::layout::QUARANTINE;
use crate::lake::{Changes, DataFile, Key, Lake, Parts, StagedWriter};
use crate::schema::{self, Filter, Schema};
use crate::sort::SortedBatches;
use crate::window::Window;

/// Columns whose values hardly ever repeat.
const UNIQUE_COLUMNS: [&str; 9] =
    ["id", "text", "html", "custom", "raw", "line", "line_base64", "created_at", "updated_at"];

/// Where and how files are written.
pub struct Writer {
    /// Where they are put.
    pub lake: Lake,
    /// By whom.
    pub run_id: Uuid,
    /// The schemas of the lake.
    pub schemas: Schemas,
    /// What stands before the name of a dataset, but for rejects: nothing, or [`schema::USER_EXPORTS`].
    pub prefix: &'static str,
    /// The cells of the span.
    pub cells: NumberedCells,
    /// What happens to rows of old files that no new row replaces.
    pub vanishing: Arc<Vanishing>,
    /// Compression, sizes.
    pub options: FileOptions,
    /// How files are uploaded.
    pub parts: Parts,
    /// Where rows are encoded.
    pub cpu: Cpu,
    /// Where a file of a run is put: staged, unless it is not for a commit.
    pub key: fn(Uuid, String) -> Key,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Staged files, each with its number in [`Writer::cells`].
    pub files: Vec<(u32, DataFile)>,
    /// Cells of which an old file was damaged: what is written is all that there is.
    pub damaged: Vec<Window>,
    /// What each cell holds now, by cell and dataset.
    pub contents: BTreeMap<(u32, &'static str), Content>,
    /// The cells.
    pub cells: NumberedCells,
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
    /// How they differ from those that they replace, in a cell that is exported again.
    pub changes: Changes,
}

/// The file being uploaded.
struct Open {
    cell: u32,
    partition: String,
    id: String,
    upload: StagedWriter,
}

impl Writer {
    /// Writes all rows of the dataset at this place in [`schema::DATASETS`]: rows are put in order while those before them are encoded,
    /// and what is encoded is on its way meanwhile.
    ///
    /// `comparison` has seen, or sees meanwhile, the rows that were dropped for others.
    pub async fn write(
        &self,
        dataset: usize,
        rows: SortedBatches,
        comparison: Option<Comparison>,
        written: &mut Written,
    ) -> Result<()> {
        let schema = Arc::clone(self.schemas.get(dataset));
        let mut encoder = Encoder::new(schema, &self.options, Arc::clone(&self.vanishing), comparison);
        let mut open: Option<Open> = None;
        let (mut rows, mut batch) = self.cpu.run(move || next(rows)).await?;
        while let Some(sorted) = batch.take() {
            let (merged, encoded) =
                tokio::try_join!(self.cpu.run(move || next(rows)), self.cpu.run(move || encoder.take(&sorted)))?;
            (rows, batch) = merged;
            let outputs;
            (encoder, outputs) = encoded;
            self.act(dataset, outputs, &mut open, written).await?;
        }
        let (encoder, outputs) = self.cpu.run(move || encoder.end()).await?;
        self.act(dataset, outputs, &mut open, written).await?;
        let name = schema::DATASETS[dataset];
        written.contents.extend(encoder.contents().into_iter().map(|(cell, content)| ((cell, name), content)));
        Ok(())
    }

    /// Moves on what was encoded.
    async fn act(
        &self,
        dataset: usize,
        outputs: Vec<Output>,
        open: &mut Option<Open>,
        written: &mut Written,
    ) -> Result<()> {
        for output in outputs {
            match (output, open.take()) {
                (Output::Begin { cell, partition }, None) => *open = Some(self.open(cell, partition)?),
                (Output::Bytes(bytes), Some(mut file)) => {
                    file.upload.write(bytes).await?;
                    *open = Some(file);
                }
                (Output::End(summary), Some(file)) => {
                    written.files.push(self.close(dataset, file, &summary).await?);
                }
                _ => return Err(Error::new(Kind::Internal, "a file was not encoded in its order")),
            }
        }
        Ok(())
    }

    fn open(&self, cell: u32, partition: String) -> Result<Open> {
        // Version 7: names sort by time, which is a kindness to whoever lists the bucket.
        let id = Uuid::now_v7().simple().to_string();
        let upload = self.lake.upload(&(self.key)(self.run_id, id.clone()), self.parts)?;
        Ok(Open { cell, partition, id, upload })
    }

    async fn close(&self, dataset: usize, open: Open, summary: &FileSummary) -> Result<(u32, DataFile)> {
        let Open { cell, partition, id, upload } = open;
        let object = upload.finish().await?;
        if object.bytes != summary.bytes {
            return Err(Error::new(Kind::Internal, "a file was not uploaded as it was written"));
        }
        let time = |us: Option<i64>| us.and_then(|us| Timestamp::from_microsecond(us).ok());
        let file = DataFile {
            dataset: match schema::DATASETS[dataset] {
                QUARANTINE => QUARANTINE.to_owned(),
                name => format!("{}{name}", self.prefix),
            },
            partition,
            cell: self.cells.get(&cell).copied().filter(|_| cell != NO_CELL),
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
}

/// The next rows, and what is left.
fn next(mut rows: SortedBatches) -> Result<(SortedBatches, Option<RecordBatch>)> {
    let batch = rows.next().transpose()?;
    Ok((rows, batch))
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
