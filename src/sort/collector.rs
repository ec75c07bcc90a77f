//! Rows of all tasks of a span, each dataset in its sorter, until the span is complete.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;

use crate::columns::Schemas;
use crate::decode::hidden_schema;
use crate::error::Result;
use crate::schema::{self, DATASETS, PartitionBy, Schema};
use crate::sort::hidden::{self, sort_spec};
use crate::sort::{RowRef, SortError, SortKey, SortSpec, SortedBatches, Sorter};

/// Parts of the budget by dataset, in the order of [`DATASETS`]: most rows are messages.
const SHARES: [usize; DATASETS.len()] = [40, 16, 4, 8, 16, 4, 4, 8, 8];

/// One sorter for each dataset, shared by the tasks that fill them.
pub struct Collector {
    schemas: Schemas,
    sorters: Vec<Mutex<Option<Sorter>>>,
    budget_bytes: usize,
    temp_dir: Option<PathBuf>,
}

impl Collector {
    /// Sorters for rows of these schemas, that hold `budget_bytes` together and spill the rest to `temp_dir`.
    pub fn new(schemas: &Schemas, budget_bytes: usize, temp_dir: Option<&Path>) -> Self {
        Self {
            schemas: schemas.clone(),
            sorters: DATASETS.iter().map(|_| Mutex::new(None)).collect(),
            budget_bytes,
            temp_dir: temp_dir.map(Path::to_owned),
        }
    }

    /// Takes a batch of the dataset at this place in [`DATASETS`].
    pub fn push(&self, dataset: usize, batch: RecordBatch) -> Result<()> {
        let mut slot = self.sorters[dataset].lock().unwrap_or_else(PoisonError::into_inner);
        let sorter = match &mut *slot {
            Some(sorter) => sorter,
            empty => {
                let schema = self.schemas.get(dataset);
                let budget_bytes = self.budget_bytes / SHARES.iter().sum::<usize>() * SHARES[dataset];
                let order = order(schema)?;
                let sorter = Sorter::new(hidden_schema(schema), &order, budget_bytes, self.temp_dir.as_deref())?;
                empty.insert(sorter)
            }
        };
        Ok(sorter.push(batch)?)
    }

    /// The rows of a dataset in order; none if there are none. Can be taken once.
    pub fn take(&self, dataset: usize) -> Result<Option<SortedBatches>> {
        self.take_with(dataset, |_, _| {})
    }

    /// The same; `on_duplicate(winner, loser)` sees every row that is dropped for another.
    pub fn take_with(
        &self,
        dataset: usize,
        on_duplicate: impl FnMut(RowRef<'_>, RowRef<'_>) + Send + 'static,
    ) -> Result<Option<SortedBatches>> {
        let sorter = self.sorters[dataset].lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(sorter.map(|sorter| sorter.finish_with(on_duplicate)).transpose()?)
    }
}

fn order(schema: &Schema) -> Result<SortSpec, SortError> {
    let arrow = hidden_schema(schema);
    let sort: Vec<&str> = schema.sort.iter().map(String::as_str).collect();
    let version: Vec<&str> = schema.version_by.iter().map(String::as_str).collect();
    let mut spec = sort_spec(&arrow, &sort, &version)?;
    if schema.key.is_empty() {
        // Rejects have no identity: two that look alike are two.
        spec.keys.push(SortKey::ascending(&arrow, hidden::HASH)?);
        spec.dedup_prefix = 0;
    }
    Ok(spec)
}

/// Whether a dataset's rows belong to cells, and are replaced with them.
pub fn belongs_to_cells(dataset: usize) -> bool {
    schema::all()[dataset].partition_by == PartitionBy::EventDate
}
