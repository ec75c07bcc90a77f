//! The files of cells that are exported again: who is in them, and their rows as losers against new ones.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt8Array, UInt32Array};
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use xxhash_rust::xxh3::Xxh3;

use crate::columns::Schemas;
use crate::content::row_hashes;
use crate::decode::{NumberedCells, hidden_schema};
use crate::error::{Error, Kind, Result};
use crate::lake::{self, DataFile, Lake, State};
use crate::schema::{self, DATASETS};
use crate::sort::collector::Collector;
use crate::sort::hidden;
use crate::temp_dir;
use crate::window::Window;
use crate::write::file_slice::FileSlice;
use crate::write::parquet_read::{ReadError, read_old};

/// Bytes of a batch read back.
const BATCH_BYTES: usize = 2 << 20;

/// Local copies of a span's files, all in one temporary file, as a month of hours has more of them than a process may open. It
/// is deleted with this value.
#[derive(Default)]
pub struct OldFiles {
    files: Vec<OldFile>,
    /// The cells of files that were left out.
    damaged: Vec<Window>,
    /// Its rows stand beside new ones: of equal rows the later version wins.
    merges: bool,
}

/// One of them.
struct OldFile {
    file: DataFile,
    copy: FileSlice,
    /// The columns of the lake are others since it was committed.
    precedes_columns: bool,
}

/// A copy of one file of a lake in the temporary directory, checked, to be read while this lives.
pub(crate) async fn copy(lake: &Lake, file: &DataFile, temp_dir: Option<&Path>) -> Result<FileSlice> {
    let copies = Arc::new(new_file(temp_dir)?);
    let bytes = append(lake, file, &copies, 0).await?;
    Ok(FileSlice::new(copies, 0, bytes))
}

fn new_file(temp_dir: Option<&Path>) -> Result<File> {
    temp_dir.map_or_else(tempfile::tempfile, tempfile::tempfile_in).map_err(full)
}

impl OldFiles {
    /// Copies the files of these cells to the temporary directory, one at a time. A file that is gone or damaged is an error, or, with
    /// `without_damaged`, left out: its rows that Stream does not deliver any more are lost.
    pub async fn fetch(
        lake: &Lake,
        state: &State,
        cells: &[Window],
        temp_dir: Option<&Path>,
        without_damaged: bool,
    ) -> Result<Self> {
        let mut old = Self::default();
        let copies = Arc::new(new_file(temp_dir)?);
        let mut end = 0;
        for live in cells.iter().flat_map(|cell| state.files_of(*cell)) {
            match append(lake, &live.file, &copies, end).await {
                Ok(bytes) => {
                    let copy = FileSlice::new(copies.clone(), end, bytes);
                    let precedes_columns = live.entry < state.columns().entry;
                    old.files.push(OldFile { file: live.file.clone(), copy, precedes_columns });
                    end += bytes;
                }
                Err(error) if error.kind() == Kind::Data && without_damaged => {
                    tracing::error!(error = error.report(), "replaced without what a damaged file held");
                    old.damaged.extend(live.file.cell);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(old)
    }

    /// The same files, whose rows no new row replaces unless it is a later version.
    #[must_use]
    pub fn merged(self) -> Self {
        Self { merges: true, ..self }
    }

    /// Whether files of this cell, or of a part of it, were left out.
    pub fn is_damaged(&self, cell: Window) -> bool {
        self.damaged.iter().any(|damaged| cell.covers(damaged))
    }

    /// The channels that have messages in them.
    pub fn cids(&self) -> Result<BTreeSet<String>> {
        let mut cids = BTreeSet::new();
        for OldFile { copy, .. } in self.files.iter().filter(|old| old.file.dataset == "messages") {
            let builder = ParquetRecordBatchReaderBuilder::try_new(copy.clone()).map_err(ReadError::from)?;
            let mask = ProjectionMask::columns(builder.parquet_schema(), ["cid"]);
            for batch in builder.with_projection(mask).build().map_err(ReadError::from)? {
                let batch = batch.map_err(ReadError::from)?;
                for cid in batch.column(0).as_string::<i32>().iter().flatten() {
                    if !cids.contains(cid) {
                        cids.insert(cid.to_owned());
                    }
                }
            }
        }
        Ok(cids)
    }

    /// Hands over all rows, to be kept only where no new row takes their place. Blocks.
    pub fn push_into(self, schemas: &Schemas, collector: &Collector, cells: &NumberedCells) -> Result<()> {
        for OldFile { file, copy, precedes_columns } in self.files {
            let wrong = |what: &str| Error::new(Kind::Internal, format!("`{}` {what}", file.key()));
            let dataset =
                DATASETS.iter().position(|name| *name == file.dataset).ok_or_else(|| wrong("has no schema"))?;
            let cell = cells
                .iter()
                .find(|(_, cell)| file.cell.is_some_and(|inner| cell.covers(&inner)))
                .map(|(number, _)| *number)
                .ok_or_else(|| wrong("belongs to no cell of the span"))?;
            let schema = schemas.get(dataset);
            let rows = read_old(copy, &schema.arrow(), BATCH_BYTES)?;
            let unknown: Vec<&str> = rows
                .dropped()
                .iter()
                .map(String::as_str)
                .filter(|column| !schemas.leaves_out(&file.dataset, column))
                .collect();
            if !unknown.is_empty() {
                let columns = unknown.join("`, `");
                return Err(Error::new(
                    Kind::Usage,
                    format!("`{}` has columns `{columns}` that this version does not know", file.key()),
                )
                .hint("replace it with the newer chatlake that wrote it: nothing is dropped silently"));
            }
            let is_comparable = !precedes_columns && !rows.lacks_columns();
            let rank = match is_comparable {
                _ if self.merges => hidden::NEW,
                true => hidden::OLD,
                false => hidden::OLD_UNDER_OTHER_SCHEMA,
            };
            for batch in rows {
                let kept = schemas.exclusions().clean(schema, &batch?);
                let hidden = kept.and_then(|batch| hide(&batch, schema, cell, &file.partition, rank));
                collector.push(dataset, hidden.map_err(|error| wrong("cannot be read").because(error))?)?;
            }
        }
        Ok(())
    }
}

fn full(error: io::Error) -> Error {
    temp_dir::failed("cannot copy a file of the lake to the temporary directory", error)
}

/// Copies a live file to where the copies end, bit for bit what was committed, and says how many bytes it has.
async fn append(lake: &Lake, file: &DataFile, mut copies: &File, end: u64) -> Result<u64> {
    // One that was left out may have got there in part.
    copies.seek(SeekFrom::Start(end)).map_err(full)?;
    let mut bytes = 0;
    let mut hash = Xxh3::new();
    let mut chunks = lake.read(file).await?.into_stream();
    while let Some(chunk) = chunks.try_next().await.map_err(|error| {
        Error::new(Kind::Temporary, "cannot read a file of the lake").because(error).hint("run the same command again")
    })? {
        hash.update(&chunk);
        copies.write_all(&chunk).map_err(full)?;
        bytes += chunk.len() as u64;
    }
    if format!("{:016x}", hash.digest()) != file.xxh3 {
        return Err(Error::new(
            Kind::Data,
            format!("`{}` is not what was committed: its checksum differs", file.key()),
        )
        .hint(lake::REPAIR));
    }
    Ok(bytes)
}

/// The batch with hidden columns that let every new row win.
fn hide(
    batch: &RecordBatch,
    schema: &schema::Schema,
    cell: u32,
    partition: &str,
    rank: u8,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let rows = batch.num_rows();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from(vec![cell; rows])),
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(partition, rows))),
        Arc::new(UInt8Array::from(vec![rank; rows])),
        Arc::new(row_hashes(&schema.columns, batch.columns(), rows)),
    ];
    columns.extend(batch.columns().iter().cloned());
    RecordBatch::try_new(hidden_schema(schema), columns)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::FixedSizeBinaryArray;
    use arrow::datatypes::UInt8Type;
    use uuid::Uuid;

    use super::*;
    use crate::decode::{Decoder, Routes, Task};
    use crate::ndjson::Line;
    use crate::sort::hidden::visible;
    use crate::write::parquet_file::{FileOptions, ParquetFile};

    const MESSAGES: usize = 0;

    fn new_row(cell: Window) -> RecordBatch {
        let exported_at = cell.until;
        let task = Task {
            task_id: "t".to_owned(),
            exported_at,
            channels: None,
            users: None,
            superseded: Arc::default(),
            routes: Arc::new(Routes::new(&[cell], 0, exported_at, false)),
            keep_raw: false,
        };
        let mut decoder = Decoder::new(&Schemas::default(), task);
        let bytes = br#"{"message":{"id":"m","cid":"team:a","text":"hi","created_at":"1970-01-01T10:00:00Z"}}"#;
        decoder.line(Line { number: 1, offset: 0, length: bytes.len() as u64, bytes }).unwrap();
        let (mut batches, _) = decoder.finish().unwrap();
        let (dataset, batch) = batches.remove(0);
        assert_eq!(dataset, MESSAGES);
        batch
    }

    /// The rank and the hash of the rows of a file.
    fn read_back(written: &RecordBatch, cell: Window, precedes_columns: bool) -> (Vec<u8>, FixedSizeBinaryArray) {
        let mut parquet = ParquetFile::create(written.schema(), &FileOptions::default()).unwrap();
        parquet.write(written).unwrap();
        let (bytes, summary) = parquet.finish().unwrap();
        let mut copy = tempfile::tempfile().unwrap();
        copy.write_all(&bytes).unwrap();
        let file = DataFile {
            dataset: DATASETS[MESSAGES].to_owned(),
            partition: "event_date=1970-01-01".to_owned(),
            cell: Some(cell),
            id: "old".to_owned(),
            run_id: Uuid::nil(),
            rows: summary.rows,
            bytes: summary.bytes,
            xxh3: String::new(),
            min_created_at: None,
            max_created_at: None,
        };
        let copy = FileSlice::new(Arc::new(copy), 0, summary.bytes);
        let old = OldFiles { files: vec![OldFile { file, copy, precedes_columns }], ..OldFiles::default() };
        let schemas = Schemas::default();
        let collector = Collector::new(&schemas, 1 << 20, None);
        old.push_into(&schemas, &collector, &[(0, cell)].into()).unwrap();
        let batch = collector.take(MESSAGES).unwrap().unwrap().next().unwrap().unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let ranks = column(hidden::RANK).as_primitive::<UInt8Type>().values().to_vec();
        (ranks, column(hidden::HASH).as_fixed_size_binary().clone())
    }

    #[test]
    fn an_old_row_hashes_like_a_new_one_and_says_whether_its_file_has_the_columns_of_the_lake() {
        let cell = Window::day_of(jiff::Timestamp::UNIX_EPOCH);
        let new = new_row(cell);
        let hash = new.column_by_name(hidden::HASH).unwrap().as_fixed_size_binary();
        let same = visible(&new);
        assert_eq!(read_back(&same, cell, false), (vec![hidden::OLD], hash.clone()));
        assert_eq!(read_back(&same, cell, true), (vec![hidden::OLD_UNDER_OTHER_SCHEMA], hash.clone()));
        let without_pin = |name: &String| name != "pinned_at";
        let names: Vec<String> = same.schema().fields().iter().map(|field| field.name().clone()).collect();
        let indices: Vec<usize> = (0..names.len()).filter(|index| without_pin(&names[*index])).collect();
        let older = same.project(&indices).unwrap();
        assert_eq!(read_back(&older, cell, false), (vec![hidden::OLD_UNDER_OTHER_SCHEMA], hash.clone()));
    }
}
