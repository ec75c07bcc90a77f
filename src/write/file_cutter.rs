//! Cuts sorted rows where a new file has to begin: at every change of cell or partition.

use std::ops::Range;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::partition;
use arrow::datatypes::{DataType, UInt32Type};
use arrow::util::display::array_value_to_string;

use crate::sort::SortError;
use crate::sort::hidden;

/// Rows of one cell and one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Index of the cell in its span.
    pub cell: u32,
    /// The partition as it stands in the path.
    pub partition: String,
    /// The rows, hidden columns included.
    pub batch: RecordBatch,
}

/// The pieces of a sorted batch, in order. It has the hidden columns for cell and partition.
pub fn pieces(batch: &RecordBatch) -> Result<Vec<Piece>, SortError> {
    let column = |name: &str| batch.column_by_name(name).cloned().ok_or_else(|| SortError::Column(name.to_owned()));
    let (cells, partitions) = (column(hidden::CELL)?, column(hidden::PARTITION)?);
    if cells.data_type() != &DataType::UInt32 {
        return Err(SortError::Spec(format!("`{}` is {}, not UInt32", hidden::CELL, cells.data_type())));
    }
    let piece = |rows: Range<usize>| {
        if cells.is_null(rows.start) || partitions.is_null(rows.start) {
            return Err(SortError::Spec("a row without a cell or a partition".to_owned()));
        }
        Ok(Piece {
            cell: cells.as_primitive::<UInt32Type>().value(rows.start),
            partition: array_value_to_string(&partitions, rows.start)?,
            batch: batch.slice(rows.start, rows.len()),
        })
    };
    partition(&[cells.clone(), partitions.clone()])?.ranges().into_iter().map(piece).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringArray, UInt32Array};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn batch(rows: &[(u32, &str, i64)], dictionary: bool) -> RecordBatch {
        let partitions: ArrayRef = if dictionary {
            Arc::new(rows.iter().map(|row| row.1).collect::<DictionaryArray<Int32Type>>())
        } else {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)))
        };
        RecordBatch::try_from_iter([
            (hidden::CELL, Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.0))) as ArrayRef),
            (hidden::PARTITION, partitions),
            ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2)))),
        ])
        .unwrap()
    }

    fn found(batches: &[RecordBatch]) -> Vec<(u32, String, Vec<i64>)> {
        let ids = |batch: &RecordBatch| {
            hidden::visible(batch).column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
        };
        let pieces = batches.iter().flat_map(|batch| pieces(batch).unwrap());
        pieces.map(|piece| (piece.cell, piece.partition, ids(&piece.batch))).collect()
    }

    #[test]
    fn every_change_of_cell_or_partition_begins_a_piece() {
        let rows = [(0, "a", 1), (0, "a", 2), (0, "b", 3), (1, "b", 4), (1, "b", 5), (3, "a", 6)];
        let wanted = [(0, "a", vec![1, 2]), (0, "b", vec![3]), (1, "b", vec![4, 5]), (3, "a", vec![6])]
            .map(|(cell, partition, ids)| (cell, partition.to_owned(), ids));
        for dictionary in [false, true] {
            let whole = batch(&rows, dictionary);
            assert_eq!(found(std::slice::from_ref(&whole)), wanted);
            // A batch boundary inside a file is just another piece of it.
            let halves = found(&[whole.slice(0, 1), whole.slice(0, 0), whole.slice(1, 5)]);
            assert_eq!(halves.len(), 5);
            assert_eq!(halves[0], (0, "a".to_owned(), vec![1]));
            assert_eq!(halves[1], (0, "a".to_owned(), vec![2]));
            assert_eq!(halves[2..], wanted[1..]);
        }
    }

    #[test]
    fn a_batch_without_a_cell_or_a_partition_is_refused() {
        let plain = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        assert!(matches!(pieces(&plain), Err(SortError::Column(name)) if name == hidden::CELL));
        let nowhere = RecordBatch::try_from_iter([
            (hidden::CELL, Arc::new(UInt32Array::from(vec![Some(0), None])) as ArrayRef),
            (hidden::PARTITION, Arc::new(StringArray::from(vec!["a", "a"]))),
        ]);
        assert!(matches!(pieces(&nowhere.unwrap()), Err(SortError::Spec(_))));
    }
}
