//! The rows of one dataset on their way into a record batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder, UInt8Array, UInt32Builder};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};

use super::column::ColumnBuilder;
use super::context::Surroundings;
use super::object::{Row, fill};
use super::plan::{ObjectPlan, SlotSet};
use super::scan::Scan;
use crate::content::row_hashes;
use crate::schema::Schema;
use crate::sort::hidden::NEW;

/// Rows and bytes of JSON at which a batch is full.
const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 2 << 20;

/// What each batch carries in front of its dataset's columns: the cell, the partition folder, the rank (of rows of
/// this export) and the hash of the row's content.
pub const HIDDEN_COLUMNS: [&str; 4] = ["__cell", "__partition", "__rank", "__hash"];

/// The Arrow schema of a dataset's batches, hidden columns first.
pub fn hidden_schema(schema: &Schema) -> SchemaRef {
    let types = [DataType::UInt32, DataType::Utf8, DataType::UInt8, DataType::FixedSizeBinary(16)];
    let hidden = HIDDEN_COLUMNS.iter().zip(types).map(|(name, data_type)| Field::new(*name, data_type, false));
    let columns = schema.columns.iter().map(crate::schema::Column::field);
    Arc::new(ArrowSchema::new(hidden.chain(columns).collect::<Vec<_>>()))
}

/// Where a row belongs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) cell: u32,
    pub(super) partition: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Table {
    schema: Arc<Schema>,
    arrow: SchemaRef,
    columns: Vec<ColumnBuilder>,
    cells: UInt32Builder,
    partitions: StringBuilder,
    rows: usize,
    bytes: usize,
}

impl Table {
    /// `arrow` is the schema of its batches.
    pub(super) fn new(schema: &Arc<Schema>, arrow: &SchemaRef) -> Self {
        Self {
            schema: Arc::clone(schema),
            arrow: Arc::clone(arrow),
            columns: schema.columns.iter().map(ColumnBuilder::new).collect(),
            cells: UInt32Builder::new(),
            partitions: StringBuilder::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// An empty table of the same schema.
    pub(super) fn another(&self) -> Self {
        Self::new(&self.schema, &self.arrow)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn append(
        &mut self,
        plan: &ObjectPlan,
        scan: &Scan<'_>,
        around: &Surroundings<'_>,
        consumed: SlotSet,
        place: &Place,
        bytes: usize,
        row: &mut Row,
    ) {
        fill(plan, &mut self.columns, scan, around, consumed, row);
        self.cells.append_value(place.cell);
        self.partitions.append_value(&place.partition);
        self.rows += 1;
        self.bytes += bytes;
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    pub(super) fn take_batch(&mut self) -> Option<RecordBatch> {
        if self.rows == 0 {
            return None;
        }
        let columns: Vec<ArrayRef> = self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(self.cells.finish()),
            Arc::new(self.partitions.finish()),
            Arc::new(UInt8Array::from(vec![NEW; self.rows])),
            Arc::new(row_hashes(&self.schema.columns, &columns, self.rows)),
        ];
        arrays.extend(columns);
        self.rows = 0;
        self.bytes = 0;
        Some(
            RecordBatch::try_new(Arc::clone(&self.arrow), arrays)
                .expect("columns are made from the schema of the batch"),
        )
    }
}
