//! What a row says, as one number: the same for two exports of an unchanged row, another after an edit.
//!
//! It is taken of Arrow columns, so that a row has the same hash when it was just decoded and when it was read back from a
//! file. It is a sum over columns, each value hashed under the name of its column, and null counts for nothing: the order of
//! the columns means nothing, and a column that is added and null changes no hash.

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray};
use arrow::buffer::Buffer;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128, xxh3_128_with_seed};

use crate::schema::{Column, Hash, Kind};

/// The hash of each row, 16 bytes. `arrays` are those of `columns`, in their order, each with `rows` values.
pub fn row_hashes(columns: &[Column], arrays: &[ArrayRef], rows: usize) -> FixedSizeBinaryArray {
    let bytes: Vec<u8> = sums(columns, arrays, rows).into_iter().flat_map(u128::to_be_bytes).collect();
    FixedSizeBinaryArray::new(16, Buffer::from_vec(bytes), None)
}

fn sums(columns: &[Column], arrays: &[ArrayRef], rows: usize) -> Vec<u128> {
    let mut sums = vec![0; rows];
    for (column, array) in columns.iter().zip(arrays) {
        add(column, array, &mut sums);
    }
    sums
}

fn add(column: &Column, array: &ArrayRef, sums: &mut [u128]) {
    let without_query = match column.hash {
        Some(Hash::Ignore) => return,
        Some(Hash::Url) => true,
        None => false,
    };
    let seed = xxh3_64(column.name.as_bytes());
    let hash = |bytes: &[u8]| xxh3_128_with_seed(bytes, seed);
    match column.kind {
        Kind::String | Kind::Json => {
            let texts = array.as_string::<i32>();
            each(array, sums, |row| {
                let text = texts.value(row).as_bytes();
                let end = if without_query { memchr::memchr(b'?', text) } else { None };
                hash(&text[..end.unwrap_or(text.len())])
            });
        }
        Kind::Int64 => {
            let numbers = array.as_primitive::<Int64Type>();
            each(array, sums, |row| hash(&numbers.value(row).to_le_bytes()));
        }
        Kind::Float64 => {
            let numbers = array.as_primitive::<Float64Type>();
            each(array, sums, |row| hash(&numbers.value(row).to_le_bytes()));
        }
        Kind::Bool => {
            let flags = array.as_boolean();
            each(array, sums, |row| hash(&[u8::from(flags.value(row))]));
        }
        Kind::Timestamp => {
            let times = array.as_primitive::<TimestampMicrosecondType>();
            each(array, sums, |row| hash(&times.value(row).to_le_bytes()));
        }
        Kind::StringList => {
            let list = array.as_list::<i32>();
            let texts = list.values().as_string::<i32>();
            let items = (0..texts.len()).map(|item| xxh3_128(texts.value(item).as_bytes()));
            each_list(array, list.value_offsets(), items, sums, hash);
        }
        Kind::CountMap => {
            let map = array.as_map();
            let (keys, counts) = (map.keys().as_string::<i32>(), map.values().as_primitive::<Int64Type>());
            let items = (0..keys.len()).map(|item| {
                let count = if counts.is_valid(item) { xxh3_128(&counts.value(item).to_le_bytes()) } else { 0 };
                xxh3_128(keys.value(item).as_bytes()).wrapping_mul(3).wrapping_add(count)
            });
            each_list(array, map.value_offsets(), items, sums, hash);
        }
        Kind::Struct => {
            let inner = inner(column, array);
            each(array, sums, |row| hash(&inner[row].to_le_bytes()));
        }
        Kind::StructList => {
            let list = array.as_list::<i32>();
            each_list(array, list.value_offsets(), inner(column, list.values()).into_iter(), sums, hash);
        }
    }
}

/// The sums over the fields of each struct.
fn inner(column: &Column, array: &ArrayRef) -> Vec<u128> {
    sums(&column.fields, array.as_struct().columns(), array.len())
}

/// Adds the hash of each value that is not null to the sum of its row.
fn each(array: &ArrayRef, sums: &mut [u128], hash: impl Fn(usize) -> u128) {
    let mut add = |row: usize| sums[row] = sums[row].wrapping_add(hash(row));
    match array.nulls() {
        Some(nulls) => nulls.valid_indices().for_each(add),
        None => (0..array.len()).for_each(&mut add),
    }
}

/// Adds the hash of each list: of the hashes of its items, in their order.
fn each_list(
    array: &ArrayRef,
    offsets: &[i32],
    items: impl Iterator<Item = u128>,
    sums: &mut [u128],
    hash: impl Fn(&[u8]) -> u128,
) {
    let items: Vec<[u8; 16]> = items.map(u128::to_le_bytes).collect();
    let place = |row: usize| usize::try_from(offsets[row]).expect("offsets of lists are not negative");
    each(array, sums, |row| hash(items[place(row)..place(row + 1)].as_flattened()));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray, new_null_array};
    use serde_json::json;

    use super::*;

    fn column(name: &str, kind: &str, hash: Option<&str>) -> Column {
        let mut column = json!({"name": name, "type": kind, "sources": [name], "doc": "d", "null_when": "n"});
        if let Some(hash) = hash {
            column["hash"] = hash.into();
        }
        serde_json::from_value(column).unwrap()
    }

    fn texts(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn columns_count_by_name_in_any_order_and_nulls_for_nothing() {
        let (a, b) = (|| column("a", "string", None), || column("b", "string", None));
        let (x, y) = (texts(&[Some("x"), None]), texts(&[Some("y"), Some("y")]));
        let hashes = row_hashes(&[a(), b()], &[x.clone(), y.clone()], 2);
        assert_eq!(hashes, row_hashes(&[b(), a()], &[y.clone(), x.clone()], 2));
        assert_ne!(hashes.value(0), row_hashes(&[a(), b()], &[y.clone(), x.clone()], 2).value(0));
        let more = column("c", "int64", None);
        let none = new_null_array(&more.data_type(), 2);
        assert_eq!(hashes, row_hashes(&[a(), more, b()], &[x.clone(), none, y.clone()], 2));
        assert_eq!(hashes.value(1), row_hashes(&[b()], &[y], 2).value(1));
        assert_ne!(row_hashes(&[a()], &[texts(&[Some("")])], 1).value(0), [0; 16]);
        assert_eq!(row_hashes(&[a()], &[texts(&[])], 0).len(), 0);
    }

    #[test]
    fn what_differs_in_every_export_is_left_out() {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        assert_eq!(row_hashes(&[column("a", "int64", Some("ignore"))], &[number], 2).value(1), [0; 16]);
        let url = [column("a", "string", Some("url"))];
        let signed = texts(&[Some("https://cdn/x?Expires=1"), Some("https://cdn/x?Expires=2"), Some("https://cdn/y")]);
        let hashes = row_hashes(&url, &[signed], 3);
        assert_eq!(hashes.value(0), hashes.value(1));
        assert_ne!(hashes.value(0), hashes.value(2));
    }
}
