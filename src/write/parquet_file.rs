//! One Parquet file being written: batches in, encoded bytes out, no IO.
//!
//! Whoever owns the file drains what is encoded ([`ParquetFile::take_encoded`]) and moves it on, so a file never needs more
//! memory than the row group being filled.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, ArrowWriterOptions};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::basic::{ConvertedType, Encoding, LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type};

use super::row_group::RowGroup;
use crate::error::{Error, Kind};
use crate::sort::batch::{conform, split};

/// Bytes handed to the encoder at a time: pages are closed between such pieces, so this bounds a page of long texts.
const WRITE_BYTES: usize = 4 << 20;
/// Such pieces in a file, at least, even if nothing can be compressed: a file ends between two of them.
const PIECES: u64 = 32;
/// Share of its target that a file must have to be full.
const FULL_PERCENT: u64 = 92;
/// Longest prefix of a text that serves as a bound in statistics.
const STATISTICS_BYTES: usize = 64;
/// How many absent values a bloom filter may let through. Filters are powers of two, so the next smaller one is half as large: beyond
/// this a look-up would read more of the column in vain than it saves of the filter.
const BLOOM_FALSE_POSITIVES: f64 = 0.02;
/// Rows of a row group, at most: as many ids as fill a filter of 128 KiB with ten bits each, when the least is read in all.
pub const ROW_GROUP_ROWS: usize = (128 << 10) * 8 / 10;
/// How many times larger than its encoders a row group may be for readers that decode it as a whole.
const MAX_EXPANSION: usize = 16;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// An option names a column that the schema lacks or that does not suit it.
    #[error("no column `{column}` for {option}")]
    Column {
        /// The name that was given.
        column: String,
        /// The option that named it.
        option: &'static str,
    },
    /// An earlier batch was not written whole: the file is not what was asked for.
    #[error("cannot go on with a file after a failure")]
    Failed,
    /// A batch does not have the columns of the file.
    #[error("a batch does not fit the file")]
    Schema(#[source] ArrowError),
    /// The encoder refused the schema or a batch.
    #[error("cannot encode parquet")]
    Parquet(#[from] ParquetError),
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::new(Kind::Internal, "cannot write a parquet file").because(error)
    }
}

/// How files of a dataset are written. Columns are named by their top-level name; nested ones take part as a whole.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Compression of all pages.
    pub compression: Compression,
    /// Encoded size at which a file is full.
    pub target_file_bytes: u64,
    /// What the encoders of a row group hold when it ends: the memory that a file takes, at most. It is encoded for the most part, so
    /// the rows are several times as large.
    pub row_group_bytes: usize,
    /// Rows of a row group, at most: what a bloom filter is sized for while it is filled.
    pub row_group_rows: usize,
    /// The order of the rows, which must be ascending with nulls first.
    pub sorting_columns: Vec<String>,
    /// Columns with bloom filters.
    pub bloom_columns: Vec<String>,
    /// Columns with statistics, for each row group and page, beside the sorting columns and those with bloom filters; others have none.
    pub stats_columns: Vec<String>,
    /// Columns whose values hardly repeat: no dictionary is tried.
    pub unique_columns: Vec<String>,
    /// Text columns that hold JSON and are declared so.
    pub json_columns: Vec<String>,
    /// The timestamp column whose bounds go into the summary.
    pub time_column: Option<String>,
    /// What the file says about itself.
    pub metadata: Vec<(String, String)>,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            compression: Compression::ZSTD(ZstdLevel::default()),
            target_file_bytes: 256 << 20,
            row_group_bytes: 64 << 20,
            row_group_rows: ROW_GROUP_ROWS,
            sorting_columns: Vec::new(),
            bloom_columns: Vec::new(),
            stats_columns: Vec::new(),
            unique_columns: Vec::new(),
            json_columns: Vec::new(),
            time_column: None,
            metadata: Vec::new(),
        }
    }
}

/// What a finished file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// Rows.
    pub rows: u64,
    /// Bytes of the whole file.
    pub bytes: u64,
    /// Earliest value of the time column.
    pub min_us: Option<i64>,
    /// Latest value of the time column.
    pub max_us: Option<i64>,
}

/// A Parquet file being written.
pub struct ParquetFile {
    writer: SerializedFileWriter<Vec<u8>>,
    row_groups: ArrowRowGroupWriterFactory,
    /// The row group being filled.
    group: Option<RowGroup>,
    schema: SchemaRef,
    target_file_bytes: u64,
    row_group_bytes: usize,
    row_group_rows: usize,
    /// Unencoded bytes of the row groups that are finished.
    finished_bytes: usize,
    /// Unencoded bytes of the row group being filled.
    group_bytes: usize,
    time_column: Option<usize>,
    rows: u64,
    drained_bytes: u64,
    min_us: Option<i64>,
    max_us: Option<i64>,
    failed: bool,
}

impl ParquetFile {
    /// A new file of this schema without hidden columns.
    pub fn create(schema: SchemaRef, options: &FileOptions) -> Result<Self, FileError> {
        let parquet_schema = declare_json(&ArrowSchemaConverter::new().convert(&schema)?, &options.json_columns)?;
        let properties = properties(&parquet_schema, options)?;
        let time_column = options.time_column.as_deref().map(|name| time_index(&schema, name)).transpose()?;
        let writer_options = ArrowWriterOptions::new().with_properties(properties).with_parquet_schema(parquet_schema);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), writer_options)?;
        let (writer, row_groups) = writer.into_serialized_writer()?;
        Ok(Self {
            writer,
            row_groups,
            group: None,
            schema,
            target_file_bytes: options.target_file_bytes,
            row_group_bytes: options.row_group_bytes,
            row_group_rows: options.row_group_rows,
            finished_bytes: 0,
            group_bytes: 0,
            time_column,
            rows: 0,
            drained_bytes: 0,
            min_us: None,
            max_us: None,
            failed: false,
        })
    }

    /// Encodes the batch behind what is there, until the file is full: how many of its rows are in. After an error the file is of no
    /// more use.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<usize, FileError> {
        if self.failed {
            return Err(FileError::Failed);
        }
        let encoded = self.encode(batch);
        self.failed = encoded.is_err();
        encoded
    }

    fn encode(&mut self, batch: &RecordBatch) -> Result<usize, FileError> {
        let batch = conform(batch.clone(), &self.schema).map_err(FileError::Schema)?;
        let mut rows = 0;
        for (piece, bytes) in split(&batch, self.row_group_rows, self.piece_bytes()) {
            if !self.has_room(piece.num_rows(), bytes) {
                self.end_row_group()?;
            }
            if self.is_full() {
                break;
            }
            self.group()?.write(&piece)?;
            self.group_bytes += bytes;
            self.rows += piece.num_rows() as u64;
            rows += piece.num_rows();
            // Encoders hold more than they were given where bloom filters and dictionaries outweigh short rows.
            if self.group_memory_bytes() > self.row_group_bytes || self.may_be_full() {
                self.end_row_group()?;
            }
        }
        if let Some(column) = self.time_column {
            let times = batch.column(column).slice(0, rows);
            let times = times.as_primitive::<TimestampMicrosecondType>();
            self.min_us = [self.min_us, min(times)].into_iter().flatten().min();
            self.max_us = self.max_us.max(max(times));
        }
        Ok(rows)
    }

    /// The row group being filled, or a new one.
    fn group(&mut self) -> Result<&mut RowGroup, FileError> {
        let group = match self.group.take() {
            Some(group) => group,
            None => {
                let number = self.writer.flushed_row_groups().len();
                RowGroup::create(&self.row_groups, self.writer.schema_descr(), number)?
            }
        };
        Ok(self.group.insert(group))
    }

    fn group_memory_bytes(&self) -> usize {
        self.group.as_ref().map_or(0, RowGroup::memory_bytes)
    }

    /// Whether the row group being filled can take so much more, even if nothing of it can be compressed.
    fn has_room(&self, rows: usize, bytes: usize) -> bool {
        self.group.as_ref().map_or(0, RowGroup::rows) + rows <= self.row_group_rows
            && self.group_memory_bytes() + bytes <= self.row_group_bytes
            && self.group_bytes + bytes <= self.row_group_bytes.saturating_mul(MAX_EXPANSION)
    }

    fn piece_bytes(&self) -> usize {
        let of_file = usize::try_from(self.target_file_bytes / PIECES).unwrap_or(usize::MAX);
        WRITE_BYTES.min(self.row_group_bytes / 4).min(of_file)
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the next batch belongs to another file.
    pub fn is_full(&self) -> bool {
        self.rows > 0 && self.writer.bytes_written() as u64 >= self.target_file_bytes / 100 * FULL_PERCENT
    }

    /// Whether the row group being filled would bring half of what the file lacks, so that it is time to see how much it is.
    ///
    /// What is not compressed yet is known at its full size only; what the rows before were compressed to may not hold for these.
    /// So both have to say so, and the other half is room for error.
    fn may_be_full(&self) -> bool {
        let written = self.writer.bytes_written() as u64;
        let half = self.target_file_bytes.saturating_sub(written) / 2;
        let as_before = u128::from(written) * self.group_bytes as u128 / self.finished_bytes.max(1) as u128;
        let in_progress = self.group.as_ref().map_or(0, RowGroup::encoded_bytes) as u64;
        in_progress >= half && (self.finished_bytes == 0 || as_before >= u128::from(half))
    }

    /// Bytes held in memory now.
    pub fn memory_bytes(&self) -> usize {
        self.group_memory_bytes() + self.writer.inner().capacity()
    }

    /// Hands over the bytes that are final, in file order; often none, and much at the end of a row group.
    pub fn take_encoded(&mut self) -> Bytes {
        let bytes = std::mem::take(self.writer.inner_mut());
        self.drained_bytes += bytes.len() as u64;
        Bytes::from(bytes)
    }

    /// Ends the file: its last bytes, and what it is.
    pub fn finish(mut self) -> Result<(Bytes, FileSummary), FileError> {
        if self.failed {
            return Err(FileError::Failed);
        }
        self.end_row_group()?;
        self.writer.finish()?;
        let tail = self.take_encoded();
        let summary =
            FileSummary { rows: self.rows, bytes: self.drained_bytes, min_us: self.min_us, max_us: self.max_us };
        Ok((tail, summary))
    }

    fn end_row_group(&mut self) -> Result<(), FileError> {
        self.finished_bytes += std::mem::take(&mut self.group_bytes);
        let Some(group) = self.group.take() else { return Ok(()) };
        let mut row_group = self.writer.next_row_group()?;
        for column in group.close()? {
            column.append_to_row_group(&mut row_group)?;
        }
        row_group.close()?;
        Ok(())
    }
}

fn properties(schema: &SchemaDescriptor, options: &FileOptions) -> Result<WriterProperties, FileError> {
    let bloom = roots(schema, &options.bloom_columns, "bloom filters")?;
    let unique = roots(schema, &options.unique_columns, "plain encoding")?;
    let mut paged = roots(schema, &options.stats_columns, "page statistics")?;
    paged.extend(roots(schema, &options.sorting_columns, "sorting")?);
    paged.extend(&bloom);
    let metadata = options.metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let mut builder = WriterProperties::builder()
        // Readers parse "<application> version <version>" and distrust the statistics of a file where they cannot.
        .set_created_by(concat!("chatlake version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(options.compression)
        .set_max_row_group_row_count(None)
        // Readers load the whole footer before they know that a file has nothing for them: it holds what they filter by.
        .set_statistics_enabled(EnabledStatistics::None)
        .set_statistics_truncate_length(Some(STATISTICS_BYTES))
        .set_column_index_truncate_length(Some(STATISTICS_BYTES))
        .set_sorting_columns(Some(sorting_columns(schema, &options.sorting_columns)?))
        .set_key_value_metadata(Some(metadata));
    for leaf in schema.columns() {
        let path = leaf.path().clone();
        let root = leaf.path().parts()[0].as_str();
        if paged.contains(root) {
            builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page);
        }
        if bloom.contains(root) {
            // Sized for a full row group while it is filled; the encoder then folds it to what the values need.
            builder = builder
                .set_column_bloom_filter_max_ndv(path.clone(), options.row_group_rows as u64)
                .set_column_bloom_filter_fpp(path.clone(), BLOOM_FALSE_POSITIVES);
        }
        if is_timestamp(leaf) {
            builder = builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        } else if unique.contains(root) {
            builder = builder.set_column_dictionary_enabled(path, false);
        }
    }
    Ok(builder.build())
}

fn is_timestamp(leaf: &ColumnDescriptor) -> bool {
    leaf.physical_type() == PhysicalType::INT64
        && matches!(leaf.logical_type_ref(), Some(LogicalType::Timestamp { .. }))
}

/// The names, each of which must be a top-level column.
fn roots<'a>(
    schema: &SchemaDescriptor,
    names: &'a [String],
    option: &'static str,
) -> Result<HashSet<&'a str>, FileError> {
    let known: HashSet<&str> = schema.root_schema().get_fields().iter().map(|field| field.name()).collect();
    match names.iter().find(|name| !known.contains(name.as_str())) {
        Some(column) => Err(FileError::Column { column: column.clone(), option }),
        None => Ok(names.iter().map(String::as_str).collect()),
    }
}

fn sorting_columns(schema: &SchemaDescriptor, names: &[String]) -> Result<Vec<SortingColumn>, FileError> {
    let leaf = |name: &String| {
        let found = schema.columns().iter().position(|leaf| leaf.path().parts() == std::slice::from_ref(name));
        let column_idx = found.and_then(|index| i32::try_from(index).ok());
        column_idx.ok_or_else(|| FileError::Column { column: name.clone(), option: "sorting" })
    };
    let ascending = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: true };
    names.iter().map(|name| leaf(name).map(ascending)).collect()
}

/// The schema with the JSON logical type on these text columns.
fn declare_json(schema: &SchemaDescriptor, names: &[String]) -> Result<SchemaDescriptor, FileError> {
    let json = roots(schema, names, "JSON")?;
    let root = schema.root_schema();
    let mut fields = Vec::with_capacity(root.get_fields().len());
    for field in root.get_fields() {
        if !json.contains(field.name()) {
            fields.push(field.clone());
            continue;
        }
        if !field.is_primitive() || field.get_physical_type() != PhysicalType::BYTE_ARRAY {
            return Err(FileError::Column { column: field.name().to_owned(), option: "JSON" });
        }
        let declared = Type::primitive_type_builder(field.name(), PhysicalType::BYTE_ARRAY)
            .with_repetition(field.get_basic_info().repetition())
            .with_logical_type(Some(LogicalType::Json))
            .with_converted_type(ConvertedType::JSON)
            .build()?;
        fields.push(Arc::new(declared));
    }
    Ok(SchemaDescriptor::new(Arc::new(Type::group_type_builder(root.name()).with_fields(fields).build()?)))
}

fn time_index(schema: &SchemaRef, name: &str) -> Result<usize, FileError> {
    match schema.column_with_name(name) {
        Some((index, field)) if matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)) => Ok(index),
        _ => Err(FileError::Column { column: name.to_owned(), option: "time bounds" }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
