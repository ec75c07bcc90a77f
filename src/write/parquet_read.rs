//! Reads a data file back, in the shape of the current schema.
//!
//! A file may be older than the schema: columns it lacks are null, narrower numbers are widened. A file may also be newer,
//! written by a later version: what the schema does not know is left out and named, never left out silently.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::ChunkReader;

use crate::error::{Error, Kind};

/// Rows of a batch, at most.
const MAX_BATCH_ROWS: usize = 8192;

/// Why a data file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The schema requires a column that the file lacks.
    #[error("the file has no column `{0}`, which must not be null")]
    Missing(String),
    /// A column has a type that the schema's does not contain.
    #[error("column `{column}` is {found} in the file and {wanted} in the schema")]
    Type {
        /// The column, with its path where it is nested.
        column: String,
        /// Its type in the file.
        found: DataType,
        /// Its type in the schema.
        wanted: DataType,
    },
    /// The file is damaged or no Parquet.
    #[error("cannot decode parquet")]
    Parquet(#[from] ParquetError),
    /// A batch could not be decoded or converted.
    #[error("cannot decode parquet")]
    Arrow(#[from] ArrowError),
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let hint = match error {
            ReadError::Missing(_) | ReadError::Type { .. } => "read it with the version of chatlake that wrote it",
            ReadError::Parquet(_) | ReadError::Arrow(_) => "compare the lake with its log: chatlake verify --deep",
        };
        Self::new(Kind::Data, "cannot read a data file").because(error).hint(hint)
    }
}

/// The rows of a data file, batch by batch.
pub struct OldRows {
    reader: Option<ParquetRecordBatchReader>,
    wanted: SchemaRef,
    dropped: Vec<String>,
    lacks_columns: bool,
}

/// Opens a data file ([`std::fs::File`] or [`bytes::Bytes`]) and checks that it fits `wanted`, which has no hidden columns.
///
/// Batches hold about `batch_bytes`, by the average row of the file's row groups.
pub fn read_old(
    file: impl ChunkReader + 'static,
    wanted: &SchemaRef,
    batch_bytes: usize,
) -> Result<OldRows, ReadError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let batch_rows = batch_rows(builder.metadata(), batch_bytes);
    let mut dropped = Vec::new();
    check_fields(builder.schema().fields(), wanted.fields(), "", &mut dropped)?;
    let lacks_columns = !are_there(wanted.fields(), builder.schema().fields());
    let reader = Some(builder.with_batch_size(batch_rows).build()?);
    Ok(OldRows { reader, wanted: wanted.clone(), dropped, lacks_columns })
}

impl OldRows {
    /// Columns of the file that the schema does not know, nested ones with their path: their values are not in the batches.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// Whether columns of the schema are not in the file, or are of another type there: their values may be in `custom`.
    pub fn lacks_columns(&self) -> bool {
        self.lacks_columns
    }
}

impl Iterator for OldRows {
    type Item = Result<RecordBatch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.as_mut()?.next()?.map_err(ReadError::from);
        let adapted = batch.and_then(|batch| adapt(&batch, &self.wanted));
        // After an error there is nothing more: a gap must not look like the whole file.
        if adapted.is_err() {
            self.reader = None;
        }
        Some(adapted)
    }
}

fn batch_rows(metadata: &ParquetMetaData, batch_bytes: usize) -> usize {
    let groups = metadata.row_groups().iter();
    let largest = groups.map(|group| group.total_byte_size().max(1) / group.num_rows().max(1)).max().unwrap_or(0);
    let row_bytes = usize::try_from(largest).unwrap_or(usize::MAX).max(1);
    (batch_bytes / row_bytes).clamp(1, MAX_BATCH_ROWS)
}

fn check_fields(found: &Fields, wanted: &Fields, path: &str, dropped: &mut Vec<String>) -> Result<(), ReadError> {
    for field in wanted {
        match found.find(field.name()) {
            Some((_, old)) => check(old.data_type(), field.data_type(), &join(path, field), dropped)?,
            None if field.is_nullable() => {}
            None => return Err(ReadError::Missing(join(path, field))),
        }
    }
    dropped.extend(found.iter().filter(|old| wanted.find(old.name()).is_none()).map(|old| join(path, old)));
    Ok(())
}

fn check(found: &DataType, wanted: &DataType, path: &str, dropped: &mut Vec<String>) -> Result<(), ReadError> {
    match (found, wanted) {
        (DataType::Struct(found), DataType::Struct(wanted)) => check_fields(found, wanted, path, dropped),
        (DataType::List(found), DataType::List(wanted)) => {
            check(found.data_type(), wanted.data_type(), &format!("{path}[]"), dropped)
        }
        (DataType::Map(found, _), DataType::Map(wanted, _)) => {
            // Keys and values are told by position, as their names are the writer's choice.
            let (found, wanted) = (entries(found), entries(wanted));
            for (old, field) in found.iter().zip(wanted) {
                check(old.data_type(), field.data_type(), &join(path, field), dropped)?;
            }
            Ok(())
        }
        _ if found == wanted || is_wider(found, wanted) => Ok(()),
        _ => Err(ReadError::Type { column: path.to_owned(), found: found.clone(), wanted: wanted.clone() }),
    }
}

fn are_there(wanted: &Fields, found: &Fields) -> bool {
    let is_there = |field: &FieldRef| {
        found.find(field.name()).is_some_and(|(_, old)| old.data_type().equals_datatype(field.data_type()))
    };
    wanted.iter().all(is_there)
}

fn join(path: &str, field: &FieldRef) -> String {
    if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) }
}

fn entries(field: &FieldRef) -> &Fields {
    match field.data_type() {
        DataType::Struct(fields) => fields,
        other => unreachable!("a map's entries are a struct, not {other}"),
    }
}

/// Whether `wanted` holds every value of `found` unchanged.
fn is_wider(found: &DataType, wanted: &DataType) -> bool {
    use DataType::{Dictionary, Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, UInt8, UInt16, UInt32, Utf8};
    match (found, wanted) {
        (Dictionary(_, found), Dictionary(_, wanted)) => found == wanted,
        (Dictionary(_, found), wanted) => found.as_ref() == wanted,
        (found, Dictionary(_, wanted)) => found == wanted.as_ref(),
        _ => matches!(
            (found, wanted),
            (Int8, Int16 | Int32 | Int64)
                | (Int16, Int32 | Int64)
                | (Int32, Int64)
                | (UInt8, UInt16 | UInt32 | Int16 | Int32 | Int64)
                | (UInt16, UInt32 | Int32 | Int64)
                | (UInt32, Int64)
                | (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Float32, Float64)
                | (Utf8, LargeUtf8)
        ),
    }
}

fn adapt(batch: &RecordBatch, wanted: &SchemaRef) -> Result<RecordBatch, ReadError> {
    let rows = batch.num_rows();
    let columns = adapt_fields(batch.schema_ref().fields(), batch.columns(), wanted.fields(), rows)?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(wanted.clone(), columns, &options)?)
}

fn adapt_fields(
    found: &Fields,
    columns: &[ArrayRef],
    wanted: &Fields,
    rows: usize,
) -> Result<Vec<ArrayRef>, ReadError> {
    let adapt = |field: &FieldRef| match found.find(field.name()) {
        Some((index, _)) => adapt_array(&columns[index], field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows)),
    };
    wanted.iter().map(adapt).collect()
}

fn adapt_array(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ReadError> {
    if array.data_type() == wanted {
        return Ok(array.clone());
    }
    let adapted: ArrayRef = match (array.data_type(), wanted) {
        (DataType::Struct(found), DataType::Struct(fields)) => {
            let old = array.as_struct();
            let columns = adapt_fields(found, old.columns(), fields, old.len())?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, old.nulls().cloned(), old.len())?)
        }
        (DataType::List(_), DataType::List(item)) => {
            let old = array.as_list::<i32>();
            let items = adapt_array(old.values(), item.data_type())?;
            Arc::new(ListArray::try_new(item.clone(), old.offsets().clone(), items, old.nulls().cloned())?)
        }
        (DataType::Map(_, _), DataType::Map(field, sorted)) => {
            let old = array.as_map();
            let fields = entries(field);
            let columns = old.entries().columns().iter().zip(fields);
            let columns = columns.map(|(column, field)| adapt_array(column, field.data_type()));
            let items = StructArray::try_new(fields.clone(), columns.collect::<Result<_, _>>()?, None)?;
            let (offsets, nulls) = (old.offsets().clone(), old.nulls().cloned());
            Arc::new(MapArray::try_new(field.clone(), offsets, items, nulls, *sorted)?)
        }
        _ => cast_with_options(array, wanted, &CastOptions { safe: false, ..CastOptions::default() })?,
    };
    Ok(adapted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{
        ArrayAccessor, DictionaryArray, Int32Array, Int64Array, ListBuilder, MapBuilder, StringArray, StringBuilder,
        StructBuilder,
    };
    use arrow::datatypes::{Field, Int32Type, Int64Type, Schema};
    use bytes::Bytes;

    use super::*;
    use crate::write::parquet_file::{FileOptions, ParquetFile};

    fn file(batch: &RecordBatch) -> Bytes {
        let mut file = ParquetFile::create(batch.schema(), &FileOptions::default()).unwrap();
        file.write(batch).unwrap();
        file.finish().unwrap().0
    }

    fn old(rows: i32) -> RecordBatch {
        let parts =
            Fields::from(vec![Field::new("url", DataType::Utf8, true), Field::new("gone", DataType::Utf8, true)]);
        let builders = vec![Box::new(StringBuilder::new()) as _, Box::new(StringBuilder::new()) as _];
        let mut parts = ListBuilder::new(StructBuilder::new(parts, builders));
        let mut counts = MapBuilder::new(None, StringBuilder::new(), Int32Array::builder(0));
        for row in 0..rows {
            for (field, text) in ["url", "gone"].iter().enumerate() {
                parts.values().field_builder::<StringBuilder>(field).unwrap().append_value(text);
            }
            parts.values().append(true);
            parts.append(row % 2 == 0);
            counts.keys().append_value("like");
            counts.values().append_value(row);
            counts.append(row % 3 != 0).unwrap();
        }
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int32Array::from_iter_values(0..rows)) as ArrayRef, false),
            ("later_dropped", Arc::new(Int32Array::from_iter_values(0..rows)), true),
            ("kind", Arc::new(StringArray::from_iter_values((0..rows).map(|_| "regular"))), true),
            ("parts", Arc::new(parts.finish()), true),
            ("counts", Arc::new(counts.finish()), true),
        ])
        .unwrap()
    }

    fn wanted() -> SchemaRef {
        let part =
            Fields::from(vec![Field::new("size", DataType::Int64, true), Field::new("url", DataType::Utf8, true)]);
        let entry =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int64, true)]);
        let counts = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false);
        let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        Arc::new(Schema::new(vec![
            Field::new("added", DataType::Boolean, true),
            Field::new("parts", DataType::List(Arc::new(Field::new("item", DataType::Struct(part), true))), true),
            Field::new("counts", counts, true),
            Field::new("id", DataType::Int64, false),
            Field::new("kind", kind, true),
        ]))
    }

    #[test]
    fn the_same_schema_reads_back_the_same_in_bounded_batches() {
        let batch = old(1_000);
        let bytes = file(&batch);
        let rows = read_old(bytes.clone(), &batch.schema(), 4_000).unwrap();
        assert!(rows.dropped().is_empty() && !rows.lacks_columns());
        let batches: Vec<_> = rows.map(Result::unwrap).collect();
        assert!(batches.len() > 1);
        assert_eq!(arrow::compute::concat_batches(&batch.schema(), &batches).unwrap(), batch);
        let at_once: Vec<_> = read_old(bytes, &batch.schema(), 64 << 20).unwrap().collect();
        assert_eq!(at_once.len(), 1);
    }

    #[test]
    fn an_older_file_takes_the_shape_of_the_schema_at_every_depth() {
        let mut rows = read_old(file(&old(10)), &wanted(), 1 << 20).unwrap();
        assert_eq!(rows.dropped(), ["parts[].gone", "later_dropped"]);
        assert!(rows.lacks_columns());
        let batch = rows.next().unwrap().unwrap();
        assert!(rows.next().is_none());
        assert_eq!(batch.schema(), wanted());
        assert_eq!(batch.column(0).null_count(), 10);
        let parts = batch.column(1).as_list::<i32>();
        let found: Vec<_> = (0..10).filter(|&row| !parts.is_null(row)).map(|row| parts.value_length(row)).collect();
        assert_eq!(found, [1; 5].map(i32::from));
        let part = parts.value(4);
        assert_eq!(part.as_struct().column(0).null_count(), part.len());
        assert_eq!(part.as_struct().column(1).as_string::<i32>().value(0), "url");
        let counts = batch.column(2).as_map();
        assert!(counts.is_null(3));
        assert_eq!(counts.value(4).column(1).as_primitive::<Int64Type>().value(0), 4);
        assert_eq!(batch.column(3).as_primitive::<Int64Type>().values()[..], (0..10).collect::<Vec<i64>>()[..]);
        let kinds: &DictionaryArray<Int32Type> = batch.column(4).as_dictionary();
        assert_eq!(kinds.downcast_dict::<StringArray>().unwrap().value(9), "regular");
    }

    #[test]
    fn a_damaged_page_is_an_error_and_the_end() {
        let mut bytes = file(&old(1_000)).to_vec();
        // Behind the magic number and the first page header, before the footer.
        bytes[40..400].fill(0xff);
        let mut rows = read_old(Bytes::from(bytes), &wanted(), 4_000).unwrap();
        assert_eq!(Error::from(rows.next().unwrap().unwrap_err()).kind(), Kind::Data);
        assert!(rows.next().is_none());
    }

    #[test]
    fn what_would_change_a_value_is_refused() {
        let bytes = file(&old(3));
        let narrow = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, false)]));
        let refused = read_old(bytes.clone(), &narrow, 1 << 20).map(|_| ());
        assert!(matches!(refused, Err(ReadError::Type { column, .. }) if column == "id"));
        let more = Arc::new(Schema::new(vec![Field::new("required", DataType::Utf8, false)]));
        assert!(
            matches!(read_old(bytes, &more, 1 << 20).map(|_| ()), Err(ReadError::Missing(name)) if name == "required")
        );
        let damaged = read_old(Bytes::from_static(b"PAR1 no parquet PAR1"), &wanted(), 1 << 20).map(|_| ());
        assert_eq!(Error::from(damaged.unwrap_err()).kind(), Kind::Data);
        let wide = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let narrower = Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, false)]));
        assert!(matches!(read_old(file(&wide), &narrower, 1).map(|_| ()), Err(ReadError::Type { .. })));
    }
}
