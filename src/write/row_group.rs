//! A row group being filled: its columns are encoded side by side, on all cores.

use arrow::array::RecordBatch;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::schema::types::SchemaDescriptor;
use rayon::prelude::*;

/// The columns of a row group.
pub(super) struct RowGroup {
    /// Of each top-level column the writers of its leaves.
    columns: Vec<Vec<ArrowColumnWriter>>,
    rows: usize,
}

impl RowGroup {
    /// The row group of this number.
    pub(super) fn create(
        factory: &ArrowRowGroupWriterFactory,
        schema: &SchemaDescriptor,
        number: usize,
    ) -> Result<Self, ParquetError> {
        let mut columns: Vec<_> = schema.root_schema().get_fields().iter().map(|_| Vec::new()).collect();
        for (leaf, writer) in factory.create_column_writers(number)?.into_iter().enumerate() {
            columns[schema.get_column_root_idx(leaf)].push(writer);
        }
        Ok(Self { columns, rows: 0 })
    }

    /// Encodes the batch behind what is there.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        self.rows += batch.num_rows();
        let fields = batch.schema_ref().fields();
        self.columns.par_iter_mut().zip(batch.columns()).zip(fields.as_ref()).try_for_each(
            |((leaves, array), field)| {
                leaves.iter_mut().zip(compute_leaves(field, array)?).try_for_each(|(leaf, values)| leaf.write(&values))
            },
        )
    }

    /// The encoded columns, in their order.
    pub(super) fn close(self) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
        self.columns.into_par_iter().flatten().map(ArrowColumnWriter::close).collect()
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes held in memory now.
    pub(super) fn memory_bytes(&self) -> usize {
        self.leaves().map(ArrowColumnWriter::memory_size).sum()
    }

    /// About as many bytes as it will have in the file.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.leaves().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    fn leaves(&self) -> impl Iterator<Item = &ArrowColumnWriter> {
        self.columns.iter().flatten()
    }
}
