//! Puts a dataset's rows in order and drops duplicates, within a memory budget.
//!
//! Every batch that arrives is sorted by itself (exports are nearly in order, so mostly it is already) and appended to a
//! *run*, a sequence of batches in order: to the run whose end is closest before its start, or to a new one. At the budget
//! the runs in memory are merged into one on disk. The end is a merge of all runs, in which equal rows meet and the first
//! one wins. Data that was in order all along is one run: it is passed through, not merged.

pub mod batch;
pub mod collector;
pub mod hidden;

mod frames;
mod key;
mod merge;
mod run;

use std::io;
use std::path::{Path, PathBuf};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::error::{Error, Kind};
use crate::temp_dir;

use self::batch::conform;
use self::key::KeyMaker;
use self::merge::{Merge, Source};
pub use self::merge::{RowRef, SortedBatches};
use self::run::{MemoryRun, SortedBatch, SpilledRun};

/// Rows of a batch that comes out, at most.
pub const MAX_BATCH_ROWS: usize = 8192;
/// Bytes of a batch that comes out, at most, unless a single row is larger; a small budget lowers it.
pub const MAX_BATCH_BYTES: usize = 8 << 20;
/// Files merged at a time: each one costs a batch in memory.
const FAN_IN: usize = 64;

/// Why rows could not be sorted.
#[derive(Debug, thiserror::Error)]
pub enum SortError {
    /// The schema lacks a column that the order needs.
    #[error("no column `{0}` to sort by")]
    Column(String),
    /// The order itself is impossible.
    #[error("cannot sort: {0}")]
    Spec(String),
    /// The temporary directory failed, most likely for want of space.
    #[error("cannot spill to the temporary directory")]
    Spill(#[source] io::Error),
    /// An earlier batch was refused or lost: what is left is not all.
    #[error("cannot go on sorting after a failure")]
    Failed,
    /// A batch of another schema, or a column of a type that cannot be compared.
    #[error("cannot put rows in order")]
    Arrow(#[source] ArrowError),
}

impl From<ArrowError> for SortError {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, error) => Self::Spill(error),
            error => Self::Arrow(error),
        }
    }
}

impl From<SortError> for Error {
    fn from(error: SortError) -> Self {
        match error {
            SortError::Spill(source)
                if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::new(Kind::Temporary, "cannot read back what was spilled to the temporary directory")
                    .because(source)
                    .hint("its disk may be failing: name another directory with --temp-dir, and run again")
            }
            SortError::Spill(source) => temp_dir::failed("cannot spill to the temporary directory", source),
            error => Self::new(Kind::Internal, "cannot sort rows").because(error),
        }
    }
}

/// One column of the order. Null is the smallest value: first when ascending, last when descending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// Index of the column.
    pub column: usize,
    /// Whether the largest value comes first.
    pub descending: bool,
}

impl SortKey {
    /// The named column, smallest first.
    pub fn ascending(schema: &Schema, name: &str) -> Result<Self, SortError> {
        let column = schema.index_of(name).map_err(|_| SortError::Column(name.to_owned()))?;
        Ok(Self { column, descending: false })
    }

    /// The named column, largest first.
    pub fn descending(schema: &Schema, name: &str) -> Result<Self, SortError> {
        Ok(Self { descending: true, ..Self::ascending(schema, name)? })
    }
}

/// The order of the rows, and which of them are the same row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortSpec {
    /// The columns to compare, in turn.
    pub keys: Vec<SortKey>,
    /// How many leading keys identify a row: of rows equal in all of them the first in order is kept. 0 keeps every row.
    pub dedup_prefix: usize,
}

/// Collects batches and gives them back in order.
pub struct Sorter {
    schema: SchemaRef,
    keys: KeyMaker,
    dedup: bool,
    budget_bytes: usize,
    fan_in: usize,
    temp_dir: PathBuf,
    memory: Vec<MemoryRun>,
    memory_bytes: usize,
    spilled: Vec<SpilledRun>,
    /// Rows were lost on the way in: nothing may come out as if it were all.
    failed: bool,
}

impl Sorter {
    /// A sorter of batches of this schema that holds about `budget_bytes` and spills to `temp_dir` (none: the system's).
    ///
    /// Spilled files have no name: they vanish with the process, however it ends.
    pub fn new(
        schema: SchemaRef,
        spec: &SortSpec,
        budget_bytes: usize,
        temp_dir: Option<&Path>,
    ) -> Result<Self, SortError> {
        Ok(Self {
            keys: KeyMaker::new(&schema, spec)?,
            schema,
            dedup: spec.dedup_prefix > 0,
            budget_bytes,
            fan_in: FAN_IN,
            temp_dir: temp_dir.map_or_else(std::env::temp_dir, Path::to_path_buf),
            memory: Vec::new(),
            memory_bytes: 0,
            spilled: Vec::new(),
            failed: false,
        })
    }

    /// Takes a batch in. Spills when the budget is reached. After an error the sorter is of no more use.
    pub fn push(&mut self, batch: RecordBatch) -> Result<(), SortError> {
        if self.failed {
            return Err(SortError::Failed);
        }
        let added = self.add(batch);
        self.failed = added.is_err();
        added
    }

    fn add(&mut self, batch: RecordBatch) -> Result<(), SortError> {
        let batch = conform(batch, &self.schema)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let sorted = self.sorted(batch)?;
        self.memory_bytes += sorted.memory_bytes();
        let head = sorted.head();
        match run::closest_before(&mut self.memory, head, MemoryRun::tail) {
            Some(run) => run.append(sorted),
            None => self.memory.push(MemoryRun::new(sorted)),
        }
        // Spilling needs room for the batch it assembles and for its encoded copy.
        if self.memory_bytes + 2 * self.spill_batch_bytes() > self.budget_bytes {
            self.spill()?;
        }
        Ok(())
    }

    /// Bytes held in memory now.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether anything went to disk.
    pub fn has_spilled(&self) -> bool {
        !self.spilled.is_empty()
    }

    /// The rows in order, duplicates counted and dropped.
    pub fn finish(self) -> Result<SortedBatches, SortError> {
        self.finish_with(|_, _| {})
    }

    /// The rows in order; `on_duplicate(winner, loser)` sees every row that is dropped, next to the one that is kept.
    pub fn finish_with(
        mut self,
        on_duplicate: impl FnMut(RowRef<'_>, RowRef<'_>) + Send + 'static,
    ) -> Result<SortedBatches, SortError> {
        if self.failed {
            return Err(SortError::Failed);
        }
        // What is left may stay in memory if it leaves half of the budget to the batches read back from disk.
        if self.has_spilled() && self.memory_bytes > self.budget_bytes / 2 {
            self.spill()?;
        }
        loop {
            // The smallest first, and only as many as needed, so that the fewest rows are copied.
            self.spilled.sort_by_key(SpilledRun::rows);
            let fit = self.mergeable(&self.spilled);
            let Some(excess @ 1..) = self.spilled.len().checked_sub(fit) else { break };
            let runs = self.spilled.drain(..fit.min(excess + 1)).collect();
            let merged = self.merge_spilled(runs)?;
            self.spilled.push(merged);
        }
        let mut sources = Vec::with_capacity(self.spilled.len() + self.memory.len());
        for run in self.spilled {
            sources.push(Source::File(run.read()?));
        }
        sources.extend(self.memory.into_iter().map(|run| Source::Memory(run.into_batches())));
        let max_bytes = (self.budget_bytes / 8).clamp(1, MAX_BATCH_BYTES);
        let merge = Merge::new(sources, self.keys, self.dedup, MAX_BATCH_ROWS, max_bytes)?;
        Ok(SortedBatches::new(self.schema, merge, Box::new(on_duplicate)))
    }

    fn sorted(&self, batch: RecordBatch) -> Result<SortedBatch, SortError> {
        let keys = self.keys.keys(&batch)?;
        let rows = batch.num_rows();
        if (1..rows).all(|row| keys.get(row - 1) <= keys.get(row)) {
            return compact(SortedBatch::new(batch, keys));
        }
        let mut order: Vec<u32> = (0..u32::try_from(rows).map_err(|_| too_many_rows())?).collect();
        order.sort_by(|&a, &b| keys.get(a as usize).cmp(&keys.get(b as usize)));
        let keys = self.keys.reorder(&keys, &order);
        let batch = take_record_batch(&batch, &UInt32Array::from(order))?;
        Ok(SortedBatch::new(batch, keys))
    }

    /// A spilled batch is small enough that one from each of `fan_in` files, with its keys, takes half of the budget.
    fn spill_batch_bytes(&self) -> usize {
        (self.budget_bytes / (3 * self.fan_in)).clamp(1 << 10, MAX_BATCH_BYTES)
    }

    /// Merges the runs in memory into one on disk, behind the one it continues if there is such a one.
    fn spill(&mut self) -> Result<(), SortError> {
        let runs = std::mem::take(&mut self.memory);
        let bytes = std::mem::take(&mut self.memory_bytes);
        let Some(head) = runs.iter().map(MemoryRun::head).min().map(|key| key.owned()) else { return Ok(()) };
        let Some(tail) = runs.iter().map(MemoryRun::tail).max().cloned() else { return Ok(()) };
        tracing::debug!(bytes, runs = runs.len(), "spilling sorted rows");
        let max_bytes = self.spill_batch_bytes();
        let sources = runs.into_iter().map(|run| Source::Memory(run.into_batches())).collect();
        let merge = Merge::new(sources, self.keys.clone(), false, MAX_BATCH_ROWS, max_bytes)?;
        match run::closest_before(&mut self.spilled, head.as_key(), SpilledRun::tail) {
            Some(run) => run.append(merge, tail),
            None => {
                let mut run = SpilledRun::create(&self.schema, &self.temp_dir, 0)?;
                run.append(merge, tail)?;
                self.spilled.push(run);
                self.merge_levels()
            }
        }
    }

    /// How many of these runs, from the first, can be merged at once: rows may be far larger than a batch should be.
    fn mergeable(&self, runs: &[SpilledRun]) -> usize {
        let mut bytes = 0;
        let fits = |run: &&SpilledRun| {
            bytes += run.max_batch_bytes();
            bytes <= self.budget_bytes / 2
        };
        runs.iter().take(self.fan_in).take_while(fits).count().max(2)
    }

    /// Bounds the open files: runs of one level become one of the next, so a row is copied about once per level.
    fn merge_levels(&mut self) -> Result<(), SortError> {
        let mut level = 0;
        while self.spilled.iter().any(|run| run.level() >= level) {
            let mut runs: Vec<_> = self.spilled.extract_if(.., |run| run.level() == level).collect();
            while runs.len() >= self.fan_in {
                let rest = runs.split_off(self.mergeable(&runs));
                let merged = self.merge_spilled(std::mem::replace(&mut runs, rest))?;
                self.spilled.push(merged);
            }
            self.spilled.append(&mut runs);
            level += 1;
        }
        Ok(())
    }

    fn merge_spilled(&self, runs: Vec<SpilledRun>) -> Result<SpilledRun, SortError> {
        let level = runs.iter().map(SpilledRun::level).max().unwrap_or(0) + 1;
        let tail = runs.iter().map(SpilledRun::tail).max().cloned();
        let mut merged = SpilledRun::create(&self.schema, &self.temp_dir, level)?;
        let sources = runs.into_iter().map(|run| run.read().map(Source::File)).collect::<Result<_, _>>()?;
        let merge = Merge::new(sources, self.keys.clone(), false, MAX_BATCH_ROWS, self.spill_batch_bytes())?;
        if let Some(tail) = tail {
            merged.append(merge, tail)?;
        }
        Ok(merged)
    }
}

/// A copy of its own for a batch that keeps much larger buffers alive, such as a slice.
fn compact(mut sorted: SortedBatch) -> Result<SortedBatch, SortError> {
    const SLACK_BYTES: usize = 64 << 10;
    if sorted.batch.get_array_memory_size() > 2 * sorted.bytes() + SLACK_BYTES {
        let all: UInt32Array = (0..u32::try_from(sorted.batch.num_rows()).map_err(|_| too_many_rows())?).collect();
        sorted.batch = take_record_batch(&sorted.batch, &all)?;
    }
    Ok(sorted)
}

fn too_many_rows() -> SortError {
    SortError::Spec("a batch of more than 4 billion rows".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
