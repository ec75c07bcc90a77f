//! Runs: sequences of batches in order, in memory or on disk.

use std::collections::VecDeque;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::SortError;
use super::frames::{Frame, Framed, Frames};
use super::key::{Key, Keys, OwnedKey};
use super::merge::Merge;
use crate::sort::batch::row_bytes;

/// A batch whose rows are in order, never empty.
pub(super) struct SortedBatch {
    pub(super) batch: RecordBatch,
    pub(super) keys: Keys,
    /// The bytes of all rows before each row.
    bytes_before: Vec<usize>,
}

impl SortedBatch {
    pub(super) fn new(batch: RecordBatch, keys: Keys) -> Self {
        let bytes_before = row_bytes(&batch);
        Self { batch, keys, bytes_before }
    }

    /// What a row holds.
    pub(super) fn row_bytes(&self, row: usize) -> usize {
        self.bytes_before[row + 1] - self.bytes_before[row]
    }

    /// What its rows hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes_before[self.batch.num_rows()]
    }

    pub(super) fn head(&self) -> Key<'_> {
        self.keys.get(0)
    }

    pub(super) fn tail(&self) -> Key<'_> {
        self.keys.get(self.batch.num_rows() - 1)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.batch.get_array_memory_size() + self.keys.memory_bytes() + size_of_val(self.bytes_before.as_slice())
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
    writer: StreamWriter<Framed>,
    /// The schema, then each batch.
    frames: Vec<Frame>,
    tail: OwnedKey,
    rows: u64,
    max_batch_bytes: usize,
    level: u32,
}

/// The batches of a run on disk.
pub(super) type SpilledBatches = StreamReader<Frames>;

impl SpilledRun {
    pub(super) fn create(schema: &Schema, temp_dir: &Path, level: u32) -> Result<Self, SortError> {
        let file = tempfile::tempfile_in(temp_dir).map_err(SortError::Spill)?;
        let mut writer = StreamWriter::try_new(Framed::new(file), schema)?;
        let frames = vec![writer.get_mut().end_frame()];
        Ok(Self { writer, frames, tail: OwnedKey::default(), rows: 0, max_batch_bytes: 0, level })
    }

    /// Writes all of `merge` behind what is there; `tail` is the key of its last row.
    pub(super) fn append(&mut self, mut merge: Merge, tail: OwnedKey) -> Result<(), SortError> {
        while let Some((batch, bytes)) = merge.next_batch(&mut |_, _| {})? {
            self.rows += batch.num_rows() as u64;
            self.max_batch_bytes = self.max_batch_bytes.max(bytes);
            self.writer.write(&batch)?;
            self.frames.push(self.writer.get_mut().end_frame());
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
    pub(super) fn read(mut self) -> Result<SpilledBatches, SortError> {
        let mut framed = self.writer.into_inner()?;
        self.frames.push(framed.end_frame());
        let frames = framed.read(self.frames).map_err(SortError::Spill)?;
        let reader = StreamReader::try_new(frames, None)?;
        // SAFETY: the reader sees nothing but what a writer of the same kind has made of valid arrays; `Frames` checks that.
        #[allow(unsafe_code)]
        Ok(unsafe { reader.with_skip_validation(true) })
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
