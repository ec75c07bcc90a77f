//! The columns that travel beside a dataset's own from decoding to writing, and are never written.

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};

use crate::sort::{SortError, SortKey, SortSpec};

/// What the name of every hidden column begins with.
pub const PREFIX: &str = "__";
/// Index of the row's cell in its span, `UInt32`.
pub const CELL: &str = "__cell";
/// The row's partition as it stands in the path, `Utf8` or a dictionary of it.
pub const PARTITION: &str = "__partition";
/// Where the row is from, `UInt8`: one of the three that follow. The lower wins.
pub const RANK: &str = "__rank";
/// A row of the new export.
pub const NEW: u8 = 0;
/// A row of an old file that is being replaced.
pub const OLD: u8 = 1;
/// The same, of a file that was written under another schema: if its hash is another, it need not have been edited.
pub const OLD_UNDER_OTHER_SCHEMA: u8 = 2;
/// Hash of the row's content, `FixedSizeBinary(16)`: makes the order total.
pub const HASH: &str = "__hash";

/// The order of a dataset on its way into files: cell, partition, `sort` columns, then what makes one of several equal
/// rows the winner: the lower rank, the highest `version` columns, the lowest hash.
pub fn sort_spec(schema: &Schema, sort: &[&str], version: &[&str]) -> Result<SortSpec, SortError> {
    let ascending = |name: &&str| (*name).to_owned();
    let mut keys = Vec::new();
    for name in [CELL, PARTITION].iter().chain(sort).map(ascending) {
        keys.push(SortKey::ascending(schema, &name)?);
    }
    let dedup_prefix = keys.len();
    keys.push(SortKey::ascending(schema, RANK)?);
    for name in version {
        keys.push(SortKey::descending(schema, name)?);
    }
    keys.push(SortKey::ascending(schema, HASH)?);
    Ok(SortSpec { keys, dedup_prefix })
}

/// The batch without hidden columns: what a file has.
pub fn visible(batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<usize> = (0..batch.num_columns()).filter(|&i| is_visible(batch.schema_ref().field(i))).collect();
    batch.project(&columns).expect("the columns were just listed from this batch")
}

fn is_visible(field: &Field) -> bool {
    !field.name().starts_with(PREFIX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, UInt32Array};

    use super::*;

    #[test]
    fn hidden_columns_never_reach_a_file() {
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let cell: ArrayRef = Arc::new(UInt32Array::from(vec![0, 0]));
        let batch =
            RecordBatch::try_from_iter([(CELL, cell), ("id", number.clone()), ("_exported_at", number)]).unwrap();
        let seen = visible(&batch);
        let names: Vec<_> = seen.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["id", "_exported_at"]);
        assert_eq!(visible(&batch.project(&[0]).unwrap()).num_rows(), 2);
    }

    #[test]
    fn the_order_is_cell_partition_sort_rank_version_hash() {
        let names = ["a", HASH, "v", RANK, PARTITION, "b", CELL];
        let fields: Vec<_> = names.map(|name| Field::new(name, arrow::datatypes::DataType::Int64, true)).into();
        let spec = sort_spec(&Schema::new(fields), &["b", "a"], &["v"]).unwrap();
        let order: Vec<_> = spec.keys.iter().map(|key| (names[key.column], key.descending)).collect();
        let up = |name| (name, false);
        assert_eq!(order, [up(CELL), up(PARTITION), up("b"), up("a"), up(RANK), ("v", true), up(HASH)]);
        assert_eq!(spec.dedup_prefix, 4);
        assert!(sort_spec(&Schema::empty(), &[], &[]).is_err());
    }
}
