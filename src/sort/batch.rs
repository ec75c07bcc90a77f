//! What is done to whole batches on their way into files: measured, cut, held to a schema.
//!
//! Rows differ by orders of magnitude (a reaction, a message of a megabyte), so averages bound nothing: sizes are counted.

use std::sync::Arc;

use arrow::array::{Array, AsArray, OffsetSizeTrait, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

/// The bytes of all rows before each row: one more number than rows, the last one being the whole batch.
///
/// Counts what the rows themselves hold, uncompressed: not spare capacity, not neighbours in a shared buffer.
pub fn row_bytes(batch: &RecordBatch) -> Vec<usize> {
    let mut before = vec![0; batch.num_rows() + 1];
    let width = batch.columns().iter().map(|column| add(column.as_ref(), &mut before)).sum();
    add_fixed(width, &mut before);
    before
}

/// Cuts a batch into slices of at most `max_rows` and `max_bytes`, each with its bytes. A row larger than that is alone.
pub fn split(batch: &RecordBatch, max_rows: usize, max_bytes: usize) -> Vec<(RecordBatch, usize)> {
    let before = row_bytes(batch);
    let rows = batch.num_rows();
    let mut slices = Vec::new();
    let mut start = 0;
    while start < rows {
        let fits = before[start + 1..].partition_point(|&end| end - before[start] <= max_bytes);
        let end = start + fits.clamp(1, max_rows.clamp(1, rows - start));
        slices.push((batch.slice(start, end - start), before[end] - before[start]));
        start = end;
    }
    slices
}

/// The batch under exactly this schema: the same columns in the same order, no null where none may be.
///
/// Neither the sorter nor the encoder looks at names, so swapped columns of one type would go unnoticed.
pub fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if Arc::ptr_eq(schema, batch.schema_ref()) {
        return Ok(batch);
    }
    let (found, columns, rows) = batch.into_parts();
    let names = |schema: &SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let (found, wanted) = (names(&found), names(schema));
    if found != wanted {
        let text = format!("the batch has the columns {}, not {}", found.join(", "), wanted.join(", "));
        return Err(ArrowError::SchemaError(text));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// Adds what differs from row to row; what every row holds alike is returned.
fn add(array: &dyn Array, before: &mut [usize]) -> usize {
    match array.data_type() {
        DataType::Null => 0,
        DataType::Utf8 => add_offsets(array.as_string::<i32>().value_offsets(), before),
        DataType::LargeUtf8 => add_offsets(array.as_string::<i64>().value_offsets(), before),
        DataType::Binary => add_offsets(array.as_binary::<i32>().value_offsets(), before),
        DataType::LargeBinary => add_offsets(array.as_binary::<i64>().value_offsets(), before),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            add_items(list.value_offsets(), list.values(), before)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            add_items(list.value_offsets(), list.values(), before)
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            add_items(map.value_offsets(), map.entries(), before)
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| add(column.as_ref(), before)).sum(),
        DataType::Dictionary(_, _) => {
            add_dictionary(array, before);
            0
        }
        DataType::Boolean => 1,
        DataType::FixedSizeBinary(width) => usize::try_from(*width).unwrap_or(0),
        // Of types that no dataset uses, the rows are taken as equally large.
        other => other.primitive_width().unwrap_or_else(|| array.get_array_memory_size().div_ceil(array.len().max(1))),
    }
}

fn add_fixed(width: usize, before: &mut [usize]) {
    for (row, bytes) in before.iter_mut().enumerate() {
        *bytes += row * width;
    }
}

fn add_offsets<O: OffsetSizeTrait>(offsets: &[O], before: &mut [usize]) -> usize {
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    if first < last {
        for (bytes, offset) in before.iter_mut().zip(offsets) {
            *bytes += offset.as_usize() - first.as_usize();
        }
    }
    size_of::<O>()
}

fn add_items<O: OffsetSizeTrait>(offsets: &[O], items: &dyn Array, before: &mut [usize]) -> usize {
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    if first < last {
        let mut items_before = vec![0; last - first + 1];
        let width = add(items.slice(first, last - first).as_ref(), &mut items_before);
        for (bytes, offset) in before.iter_mut().zip(offsets) {
            let items = offset.as_usize() - first;
            *bytes += items_before[items] + items * width;
        }
    }
    size_of::<O>()
}

/// Counted as the values it stands for: that is what is left of it in a page that is not dictionary-encoded.
fn add_dictionary(array: &dyn Array, before: &mut [usize]) {
    let dictionary = array.as_any_dictionary();
    let values = dictionary.values();
    if values.is_empty() {
        return;
    }
    let mut values_before = vec![0; values.len() + 1];
    let width = add(values.as_ref(), &mut values_before);
    add_fixed(width, &mut values_before);
    let mut sum = 0;
    for (bytes, key) in before[1..].iter_mut().zip(dictionary.normalized_keys()) {
        sum += values_before[key + 1] - values_before[key];
        *bytes += sum;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, ListBuilder, StringArray, StringBuilder};
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    fn batch() -> RecordBatch {
        let mut tags = ListBuilder::new(StringBuilder::new());
        for row in 0..4usize {
            tags.append_value((0..row).map(|_| Some("tag")));
        }
        let kinds: DictionaryArray<Int32Type> = ["a", "bb", "a", "bb"].into_iter().collect();
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef),
            ("text", Arc::new(StringArray::from(vec![Some("x"), None, Some("long text"), Some("")]))),
            ("tags", Arc::new(tags.finish())),
            ("kind", Arc::new(kinds)),
        ])
        .unwrap()
    }

    #[test]
    fn every_row_is_counted_by_what_it_holds() {
        // id 8, text 4 + length, tags 4 + 7 each, kind 4 + length.
        let rows = [8 + 5 + 4 + 5, 8 + 4 + 11 + 6, 8 + 13 + 18 + 5, 8 + 4 + 25 + 6];
        let before = row_bytes(&batch());
        let counted: Vec<usize> = before.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(counted, rows);
        // A slice counts its own rows only.
        assert_eq!(row_bytes(&batch().slice(1, 2)), [0, rows[1], rows[1] + rows[2]]);
        assert_eq!(row_bytes(&batch().slice(0, 0)), [0]);
    }

    #[test]
    fn slices_tile_the_batch_and_a_huge_row_is_alone() {
        let lengths = |max_rows, max_bytes| -> Vec<usize> {
            split(&batch(), max_rows, max_bytes).iter().map(|(slice, _)| slice.num_rows()).collect()
        };
        assert_eq!(lengths(100, 1 << 20), [4]);
        assert_eq!(lengths(3, 1 << 20), [3, 1]);
        assert_eq!(lengths(100, 1), [1, 1, 1, 1]);
        assert_eq!(lengths(100, 60), [2, 1, 1]);
        let bytes: usize = split(&batch(), 100, 60).iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(bytes, row_bytes(&batch())[4]);
        assert!(split(&batch().slice(0, 0), 10, 10).is_empty());
    }

    #[test]
    fn swapped_columns_are_noticed() {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let columns = |names: [&'static str; 2]| names.map(|name| (name, number.clone(), true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns(["a", "b"])).unwrap();
        let schema = |nullable| {
            let field = |name| Field::new(name, DataType::Int64, nullable);
            Arc::new(Schema::new(vec![field("a"), field("b")]))
        };
        assert!(conform(batch.clone(), &schema(true)).is_ok());
        assert!(conform(batch.clone(), &schema(false)).is_err());
        assert!(conform(batch.project(&[0]).unwrap(), &schema(true)).is_err());
        let swapped = RecordBatch::try_from_iter_with_nullable(columns(["b", "a"])).unwrap();
        assert!(conform(swapped, &schema(true)).is_err());
    }
}
