//! Merges runs into one ordered stream in which equal rows meet.

use std::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, VecDeque};
use std::iter::FusedIterator;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::SchemaRef;

use super::SortError;
use super::key::{Key, KeyMaker};
use super::run::{SortedBatch, SpilledBatches};

/// One row of a batch.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    /// The batch, hidden columns included.
    pub batch: &'a RecordBatch,
    /// Which of its rows.
    pub row: usize,
}

/// Sees every row that is dropped: `(winner, loser)`.
type OnDuplicate = dyn FnMut(RowRef<'_>, RowRef<'_>) + Send;

/// All rows in order, in batches of bounded rows and bytes.
pub struct SortedBatches {
    schema: SchemaRef,
    merge: Option<Merge>,
    on_duplicate: Box<OnDuplicate>,
    duplicates: u64,
}

impl SortedBatches {
    pub(super) fn new(schema: SchemaRef, merge: Merge, on_duplicate: Box<OnDuplicate>) -> Self {
        Self { schema, merge: Some(merge), on_duplicate, duplicates: 0 }
    }

    /// The schema of the batches, hidden columns included.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows were dropped so far because an equal one came before.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

impl Iterator for SortedBatches {
    type Item = Result<RecordBatch, SortError>;

    fn next(&mut self) -> Option<Self::Item> {
        let merge = self.merge.as_mut()?;
        let next = merge.next_batch(&mut *self.on_duplicate).map(|next| next.map(|(batch, _)| batch)).transpose();
        self.duplicates = merge.duplicates;
        // After the end, and after an error, there is nothing more: a gap must not look like an order.
        if !matches!(next, Some(Ok(_))) {
            self.merge = None;
        }
        next
    }
}

impl FusedIterator for SortedBatches {}

/// Where a run's batches come from.
pub(super) enum Source {
    Memory(VecDeque<SortedBatch>),
    File(SpilledBatches),
}

impl Source {
    fn next(&mut self, keys: &KeyMaker) -> Result<Option<SortedBatch>, SortError> {
        match self {
            Self::Memory(batches) => Ok(batches.pop_front()),
            Self::File(batches) => match batches.next().transpose()? {
                Some(batch) => {
                    let keys = keys.keys(&batch)?;
                    Ok(Some(SortedBatch::new(batch, keys)))
                }
                None => Ok(None),
            },
        }
    }
}

/// A place in a run. Cursors order by the row they stand on, the smallest being the greatest, as a heap wants it.
struct Cursor {
    source: Source,
    /// Decides between equal rows, so that the outcome does not depend on the heap.
    number: usize,
    current: Arc<SortedBatch>,
    row: usize,
    /// The last assembly that picked a row of `current`, and where `current` is among its inputs.
    input: Option<(u64, usize)>,
}

impl Cursor {
    fn new(mut source: Source, number: usize, keys: &KeyMaker) -> Result<Option<Self>, SortError> {
        let Some(batch) = source.next(keys)? else { return Ok(None) };
        Ok(Some(Self { source, number, current: Arc::new(batch), row: 0, input: None }))
    }

    fn key(&self) -> Key<'_> {
        self.current.keys.get(self.row)
    }

    fn is_last_row(&self) -> bool {
        self.row + 1 == self.current.batch.num_rows()
    }

    /// Moves to the next batch of the run; false at its end.
    fn load(&mut self, keys: &KeyMaker) -> Result<bool, SortError> {
        let Some(batch) = self.source.next(keys)? else { return Ok(false) };
        self.current = Arc::new(batch);
        self.row = 0;
        self.input = None;
        Ok(true)
    }
}

impl Ord for Cursor {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key()).then(other.number.cmp(&self.number))
    }
}

impl PartialOrd for Cursor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cursor {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cursor {}

/// Rows that follow each other, from which on copying them together is cheaper than one by one.
const LONG_STRETCH_ROWS: usize = 8;

/// Rows that follow each other in one input.
#[derive(Clone, Copy)]
struct Stretch {
    input: usize,
    first: usize,
    rows: usize,
}

/// A batch being assembled: rows picked from input batches.
#[derive(Default)]
struct Assembly {
    inputs: Vec<Arc<SortedBatch>>,
    picks: Vec<Stretch>,
    rows: usize,
    bytes: usize,
    /// Bytes of inputs that no cursor needs any more, kept alive by this batch alone.
    retired_bytes: usize,
}

impl Assembly {
    fn pick(&mut self, input: usize, row: usize) {
        self.rows += 1;
        match self.picks.last_mut() {
            Some(last) if last.input == input && last.first + last.rows == row => last.rows += 1,
            _ => self.picks.push(Stretch { input, first: row, rows: 1 }),
        }
    }

    fn build(self) -> Result<Option<RecordBatch>, SortError> {
        let slice = |pick: &Stretch| self.inputs[pick.input].batch.slice(pick.first, pick.rows);
        match self.picks.as_slice() {
            [] => Ok(None),
            // Rows of data that was in order already need no copy.
            [pick] => Ok(Some(slice(pick))),
            picks if self.rows >= LONG_STRETCH_ROWS * picks.len() => {
                let slices: Vec<_> = picks.iter().map(slice).collect();
                Ok(Some(concat_batches(slices[0].schema_ref(), &slices)?))
            }
            picks => {
                let inputs: Vec<_> = self.inputs.iter().map(|input| &input.batch).collect();
                let rows =
                    picks.iter().flat_map(|pick| (pick.first..pick.first + pick.rows).map(|row| (pick.input, row)));
                Ok(Some(interleave_record_batch(&inputs, &rows.collect::<Vec<_>>())?))
            }
        }
    }
}

/// The smallest row of all runs, again and again.
pub(super) struct Merge {
    cursors: BinaryHeap<Cursor>,
    keys: KeyMaker,
    dedup: bool,
    max_rows: usize,
    max_bytes: usize,
    winner: Option<(Arc<SortedBatch>, usize)>,
    duplicates: u64,
    assemblies: u64,
}

impl Merge {
    pub(super) fn new(
        sources: Vec<Source>,
        keys: KeyMaker,
        dedup: bool,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Self, SortError> {
        let mut cursors = BinaryHeap::with_capacity(sources.len());
        for (number, source) in sources.into_iter().enumerate() {
            cursors.extend(Cursor::new(source, number, &keys)?);
        }
        Ok(Self { cursors, keys, dedup, max_rows, max_bytes, winner: None, duplicates: 0, assemblies: 0 })
    }

    /// The next batch, and what its rows hold.
    pub(super) fn next_batch(
        &mut self,
        on_duplicate: &mut OnDuplicate,
    ) -> Result<Option<(RecordBatch, usize)>, SortError> {
        self.assemblies += 1;
        let mut assembly = Assembly::default();
        while assembly.rows < self.max_rows
            && assembly.retired_bytes <= self.max_bytes
            && let Some(mut cursor) = self.cursors.peek_mut()
        {
            let winner = self.winner.as_ref().filter(|(winner, row)| {
                // Runs of one sort are in order, so equal rows are neighbours here.
                winner.keys.get(*row).identity == cursor.key().identity
            });
            if let Some((winner, row)) = winner {
                self.duplicates += 1;
                let loser = RowRef { batch: &cursor.current.batch, row: cursor.row };
                on_duplicate(RowRef { batch: &winner.batch, row: *row }, loser);
            } else {
                let bytes = cursor.current.row_bytes(cursor.row);
                if assembly.rows > 0 && assembly.bytes + bytes > self.max_bytes {
                    break;
                }
                assembly.bytes += bytes;
                let input = match cursor.input {
                    Some((assembly, input)) if assembly == self.assemblies => input,
                    _ => {
                        assembly.inputs.push(cursor.current.clone());
                        assembly.inputs.len() - 1
                    }
                };
                assembly.pick(input, cursor.row);
                if self.dedup {
                    self.winner = Some((cursor.current.clone(), cursor.row));
                }
                cursor.input = Some((self.assemblies, input));
            }
            if !cursor.is_last_row() {
                cursor.row += 1;
                continue;
            }
            if cursor.input.is_some_and(|(assembly, _)| assembly == self.assemblies) {
                assembly.retired_bytes += cursor.current.bytes();
            }
            if !cursor.load(&self.keys)? {
                PeekMut::pop(cursor);
            }
            // A batch that comes out about as it went in is passed on rather than copied behind another.
            if assembly.inputs.len() == 1 && assembly.rows >= self.max_rows / 2 {
                break;
            }
        }
        let bytes = assembly.bytes;
        Ok(assembly.build()?.map(|batch| (batch, bytes)))
    }
}
