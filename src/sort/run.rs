//! Runs: sequences of batches in order, in memory or on disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use xxhash_rust::xxh3::Xxh3Default;

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
    writer: StreamWriter<Summed<BufWriter<File>>>,
    /// Of the bytes of each batch.
    sums: Vec<u64>,
    tail: OwnedKey,
    rows: u64,
    max_batch_bytes: usize,
    level: u32,
}

impl SpilledRun {
    pub(super) fn create(schema: &Schema, temp_dir: &Path, level: u32) -> Result<Self, SortError> {
        let file = tempfile::tempfile_in(temp_dir).map_err(SortError::Spill)?;
        let file = Summed::new(BufWriter::with_capacity(BUFFER_BYTES, file));
        let mut writer = StreamWriter::try_new(file, schema)?;
        writer.get_mut().take_sum();
        Ok(Self { writer, sums: Vec::new(), tail: OwnedKey::default(), rows: 0, max_batch_bytes: 0, level })
    }

    /// Writes all of `merge` behind what is there; `tail` is the key of its last row.
    pub(super) fn append(&mut self, mut merge: Merge, tail: OwnedKey) -> Result<(), SortError> {
        while let Some((batch, bytes)) = merge.next_batch(&mut |_, _| {})? {
            self.rows += batch.num_rows() as u64;
            self.max_batch_bytes = self.max_batch_bytes.max(bytes);
            self.writer.write(&batch)?;
            self.sums.push(self.writer.get_mut().take_sum());
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
    pub(super) fn read(self) -> Result<SpilledBatches, SortError> {
        let buffered = self.writer.into_inner()?.inner;
        let mut file = buffered.into_inner().map_err(|error| SortError::Spill(error.into_error()))?;
        file.rewind().map_err(SortError::Spill)?;
        SpilledBatches::new(file, self.sums)
    }
}

/// The batches of a run on disk.
pub(super) struct SpilledBatches {
    reader: StreamReader<Summed<BufReader<File>>>,
    sums: std::vec::IntoIter<u64>,
}

impl SpilledBatches {
    fn new(file: File, sums: Vec<u64>) -> Result<Self, SortError> {
        let file = Summed::new(BufReader::with_capacity(BUFFER_BYTES, file));
        let mut reader = StreamReader::try_new(file, None)?;
        reader.get_mut().take_sum();
        // SAFETY: `next` gives a batch away only if the bytes it was read from are those that were written: of valid arrays.
        #[allow(unsafe_code)]
        let reader = unsafe { reader.with_skip_validation(true) };
        Ok(Self { reader, sums: sums.into_iter() })
    }

    /// The next of them, if its bytes are those that were written.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, SortError> {
        let batch = self.reader.next().transpose()?;
        let written = self.sums.next();
        if batch.is_some() && Some(self.reader.get_mut().take_sum()) != written || batch.is_none() && written.is_some()
        {
            return Err(SortError::Spill(io::Error::new(
                io::ErrorKind::InvalidData,
                "it gives back other bytes than were written",
            )));
        }
        Ok(batch)
    }
}

/// What is behind it, with a sum of the bytes that pass.
struct Summed<F> {
    inner: F,
    sum: Xxh3Default,
}

impl<F> Summed<F> {
    fn new(inner: F) -> Self {
        Self { inner, sum: Xxh3Default::new() }
    }

    /// The sum of all bytes since the last was taken.
    fn take_sum(&mut self) -> u64 {
        let sum = self.sum.digest();
        self.sum.reset();
        sum
    }
}

impl<F: Write> Write for Summed<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<F: Read> Read for Summed<F> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(room)?;
        self.sum.update(&room[..read]);
        Ok(read)
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
