//! Cuts sorted rows where a new file has to begin: at every change of cell or partition.

use std::collections::VecDeque;

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

/// Turns sorted batches into pieces, in order.
pub struct FileCutter<I> {
    batches: I,
    pieces: VecDeque<Piece>,
    failed: bool,
}

impl<I: Iterator<Item = Result<RecordBatch, SortError>>> FileCutter<I> {
    /// A cutter of `batches`, which have the hidden columns for cell and partition.
    pub fn new(batches: I) -> Self {
        Self { batches, pieces: VecDeque::new(), failed: false }
    }

    /// What is cut; for the count of duplicates after the end.
    pub fn get_ref(&self) -> &I {
        &self.batches
    }

    fn cut(&mut self, batch: &RecordBatch) -> Result<(), SortError> {
        let column = |name: &str| batch.column_by_name(name).cloned().ok_or_else(|| SortError::Column(name.to_owned()));
        let (cells, partitions) = (column(hidden::CELL)?, column(hidden::PARTITION)?);
        if cells.data_type() != &DataType::UInt32 {
            return Err(SortError::Spec(format!("`{}` is {}, not UInt32", hidden::CELL, cells.data_type())));
        }
        for rows in partition(&[cells.clone(), partitions.clone()])?.ranges() {
            if cells.is_null(rows.start) || partitions.is_null(rows.start) {
                return Err(SortError::Spec("a row without a cell or a partition".to_owned()));
            }
            self.pieces.push_back(Piece {
                cell: cells.as_primitive::<UInt32Type>().value(rows.start),
                partition: array_value_to_string(&partitions, rows.start)?,
                batch: batch.slice(rows.start, rows.len()),
            });
        }
        Ok(())
    }
}

impl<I: Iterator<Item = Result<RecordBatch, SortError>>> Iterator for FileCutter<I> {
    type Item = Result<Piece, SortError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(Ok(piece));
            }
            // After an error there is nothing more: a gap must not look like an order.
            if self.failed {
                return None;
            }
            if let Err(error) = self.batches.next()?.and_then(|batch| self.cut(&batch)) {
                self.failed = true;
                self.pieces.clear();
                return Some(Err(error));
            }
        }
    }
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

    fn pieces(batches: Vec<RecordBatch>) -> Vec<(u32, String, Vec<i64>)> {
        let cutter = FileCutter::new(batches.into_iter().map(Ok));
        let ids = |batch: &RecordBatch| {
            hidden::visible(batch).column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
        };
        cutter.map(Result::unwrap).map(|piece| (piece.cell, piece.partition, ids(&piece.batch))).collect()
    }

    #[test]
    fn every_change_of_cell_or_partition_begins_a_piece() {
        let rows = [(0, "a", 1), (0, "a", 2), (0, "b", 3), (1, "b", 4), (1, "b", 5), (3, "a", 6)];
        let wanted = [(0, "a", vec![1, 2]), (0, "b", vec![3]), (1, "b", vec![4, 5]), (3, "a", vec![6])]
            .map(|(cell, partition, ids)| (cell, partition.to_owned(), ids));
        for dictionary in [false, true] {
            let whole = batch(&rows, dictionary);
            assert_eq!(pieces(vec![whole.clone()]), wanted);
            // A batch boundary inside a file is just another piece of it.
            let halves = pieces(vec![whole.slice(0, 1), whole.slice(0, 0), whole.slice(1, 5)]);
            assert_eq!(halves.len(), 5);
            assert_eq!(halves[0], (0, "a".to_owned(), vec![1]));
            assert_eq!(halves[1], (0, "a".to_owned(), vec![2]));
            assert_eq!(halves[2..], wanted[1..]);
        }
    }

    #[test]
    fn an_error_comes_through_and_is_the_end() {
        let plain = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let good = batch(&[(0, "a", 1)], false);
        let mut cutter = FileCutter::new([Ok(plain), Ok(good.clone())].into_iter());
        assert!(matches!(cutter.next(), Some(Err(SortError::Column(name))) if name == hidden::CELL));
        assert!(cutter.next().is_none());
        let mut cutter = FileCutter::new([Ok(good.clone()), Err(SortError::Failed), Ok(good)].into_iter());
        assert!(cutter.next().unwrap().is_ok());
        assert!(matches!(cutter.next(), Some(Err(SortError::Failed))));
        assert!(cutter.next().is_none());
    }
}
