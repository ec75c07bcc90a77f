//! Runs: sequences of batches in order, in memory or on disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::SortError;
use super::key::{Key, Keys, OwnedKey};
use super::merge::Merge;
use crate::sort::batch::row_bytes;

/// What is written to disk, or read from it, at a time: a batch has hundreds of buffers, most of them small.
const BUFFER_BYTES: usize = 32 << 10;

/// A batch whose rows are in order, never empty.
pub(super) struct SortedBatch {
    pub(super) batch: RecordBatch,
    pub(super) keys: Keys,
}

impl SortedBatch {
    pub(super) fn new(batch: RecordBatch, keys: Keys) -> Self {
        Self { batch, keys }
    }

    pub(super) fn head(&self) -> Key<'_> {
        self.keys.get(0)
    }

    pub(super) fn tail(&self) -> Key<'_> {
        self.keys.get(self.batch.num_rows() - 1)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.batch.get_array_memory_size() + self.keys.memory_bytes()
    }
}

/// A run in memory, never empty.
pub(super) struct MemoryRun {
    batches: VecDeque<SortedBatch>,
    tail: OwnedKey,
}

impl MemoryRun {
    pub(super) fn new(batch: SortedBatch) -> Self {
        Self { tail: batch.tail().owned(), batches: VecDeque::from([batch]) }
    }

    pub(super) fn append(&mut self, batch: SortedBatch) {
        self.tail = batch.tail().owned();
        self.batches.push_back(batch);
    }

    pub(super) fn head(&self) -> Key<'_> {
        self.batches[0].head()
    }

    pub(super) fn tail(&self) -> &OwnedKey {
        &self.tail
    }

    pub(super) fn into_batches(self) -> VecDeque<SortedBatch> {
        self.batches
    }
}

/// A run on disk: one nameless file of Arrow IPC, open for more until it is read.
pub(super) struct SpilledRun {
    writer: StreamWriter<BufWriter<File>>,
    tail: OwnedKey,
    rows: u64,
    max_batch_bytes: usize,
    level: u32,
}

impl SpilledRun {
    pub(super) fn create(schema: &Schema, temp_dir: &Path, level: u32) -> Result<Self, SortError> {
        let file = tempfile::tempfile_in(temp_dir).map_err(SortError::Spill)?;
        let writer = StreamWriter::try_new(BufWriter::with_capacity(BUFFER_BYTES, file), schema)?;
        Ok(Self { writer, tail: OwnedKey::default(), rows: 0, max_batch_bytes: 0, level })
    }

    /// Writes all of `merge` behind what is there; `tail` is the key of its last row.
    pub(super) fn append(&mut self, mut merge: Merge, tail: OwnedKey) -> Result<(), SortError> {
        while let Some(batch) = merge.next_batch(&mut |_, _| {})? {
            self.rows += batch.num_rows() as u64;
            self.max_batch_bytes = self.max_batch_bytes.max(row_bytes(&batch)[batch.num_rows()]);
            self.writer.write(&batch)?;
        }
        self.tail = tail;
        Ok(())
    }

    pub(super) fn tail(&self) -> &OwnedKey {
        &self.tail
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// What reading the run takes: its largest batch.
    pub(super) fn max_batch_bytes(&self) -> usize {
        self.max_batch_bytes
    }

    pub(super) fn level(&self) -> u32 {
        self.level
    }

    /// The run from its start.
    pub(super) fn read(self) -> Result<StreamReader<BufReader<File>>, SortError> {
        let buffered = self.writer.into_inner()?;
        let mut file = buffered.into_inner().map_err(|error| SortError::Spill(error.into_error()))?;
        file.rewind().map_err(SortError::Spill)?;
        Ok(StreamReader::try_new(BufReader::with_capacity(BUFFER_BYTES, file), None)?)
    }
}

/// Of the runs that end at or before `head`, the one that ends last: continuing it leaves the others open for more.
pub(super) fn closest_before<'a, R>(
    runs: &'a mut [R],
    head: Key<'_>,
    tail: impl Fn(&R) -> &OwnedKey,
) -> Option<&'a mut R> {
    runs.iter_mut().filter(|run| tail(run).as_key() <= head).max_by(|a, b| tail(a).cmp(tail(b)))
}
