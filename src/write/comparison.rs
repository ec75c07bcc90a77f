//! What has changed in cells that are exported again: new rows beside the old ones that they replace.
//!
//! The merge shows each pair of an old row and the new one that takes its place, the encoder shows the rows that are left. New rows less
//! those that met an old one are the inserted ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, TimestampMicrosecondType, UInt8Type, UInt32Type};
use jiff::{SignedDuration, Timestamp};

use crate::lake::{Ages, Changes};
use crate::sort::{RowRef, SortError, hidden};
use crate::window::Window;

/// Compares the rows of one dataset. Clones count together.
#[derive(Clone, Debug)]
pub struct Comparison {
    columns: Arc<Columns>,
    times: Arc<Times>,
    cells: Arc<Mutex<BTreeMap<u32, Compared>>>,
}

/// When rows can have changed.
#[derive(Debug)]
pub struct Times {
    /// What was exported before, in order of time, and up to when it stands as it was.
    pub before: Vec<(Window, Timestamp)>,
    /// When it was exported again.
    pub now: Timestamp,
}

/// The places of what is looked at.
#[derive(Debug)]
struct Columns {
    cell: usize,
    rank: usize,
    hash: usize,
    vanished_at: Option<usize>,
    /// When the message was created.
    message: Option<usize>,
    /// When the row may have changed.
    changes: Vec<usize>,
}

/// What was seen of a cell.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    new: Ages,
    /// New rows that took the place of one that was not marked as vanished.
    met: Ages,
    changes: Changes,
}

impl Columns {
    fn new(schema: &Schema) -> Result<Self, SortError> {
        let hidden = |name: &str| schema.index_of(name).map_err(|_| SortError::Column(name.to_owned()));
        let place = |name: &str| schema.index_of(name).ok();
        let time = |name: &str| {
            place(name).filter(|index| matches!(schema.field(*index).data_type(), DataType::Timestamp(..)))
        };
        // A reaction ages with its message: by their age days are revisited.
        let of_message = time("message_created_at");
        let created = of_message.and(time("created_at"));
        Ok(Self {
            cell: hidden(hidden::CELL)?,
            rank: hidden(hidden::RANK)?,
            hash: hidden(hidden::HASH)?,
            vanished_at: time("_vanished_at"),
            message: of_message.or(time("created_at")),
            changes: [time("updated_at"), time("deleted_at"), created].into_iter().flatten().collect(),
        })
    }
}

impl Comparison {
    /// Of rows of this schema, hidden columns included.
    pub fn new(schema: &Schema, times: Arc<Times>) -> Result<Self, SortError> {
        Ok(Self { columns: Arc::new(Columns::new(schema)?), times, cells: Arc::default() })
    }

    /// A row is dropped for another one.
    pub fn pair(&self, winner: RowRef<'_>, loser: RowRef<'_>) {
        let (new, old) = (self.rank(winner), self.rank(loser));
        if new != hidden::NEW || old == hidden::NEW || self.has_vanished(loser) {
            return;
        }
        let age = self.age(winner);
        let mut cells = self.lock();
        let Compared { met, changes, .. } = cells.entry(self.cell(winner)).or_default();
        met.count(age);
        if self.hash(winner) == self.hash(loser) {
            return;
        }
        if old == hidden::OLD {
            changes.edited += 1;
            changes.ages.count(age);
        } else {
            changes.incomparable += 1;
        }
    }

    /// These rows are left: new ones, and old ones that no new one replaced, of which some are `missed`.
    pub(super) fn settled(&self, batch: &RecordBatch, missed: &[bool]) {
        let mut cells = self.lock();
        for row in 0..batch.num_rows() {
            let is_missed = missed.get(row).is_some_and(|missed| *missed);
            let row = RowRef { batch, row };
            let Compared { new, changes, .. } = cells.entry(self.cell(row)).or_default();
            if self.rank(row) == hidden::NEW {
                new.count(self.age(row));
            } else if is_missed && !self.has_vanished(row) {
                changes.vanished += 1;
                changes.ages.count(self.age(row));
            }
        }
    }

    /// What has changed in a cell, when all of it was seen.
    pub(super) fn changes(&self, cell: u32) -> Changes {
        let Compared { mut new, met, mut changes } = self.lock().get(&cell).copied().unwrap_or_default();
        new.remove(&met);
        changes.inserted = new.total();
        changes.ages.add(&new);
        changes
    }

    fn cell(&self, of: RowRef<'_>) -> u32 {
        of.batch.column(self.columns.cell).as_primitive::<UInt32Type>().value(of.row)
    }

    fn rank(&self, of: RowRef<'_>) -> u8 {
        of.batch.column(self.columns.rank).as_primitive::<UInt8Type>().value(of.row)
    }

    fn hash<'a>(&self, of: RowRef<'a>) -> &'a [u8] {
        of.batch.column(self.columns.hash).as_fixed_size_binary().value(of.row)
    }

    fn has_vanished(&self, of: RowRef<'_>) -> bool {
        self.columns.vanished_at.is_some_and(|column| of.batch.column(column).is_valid(of.row))
    }

    /// How old the message was when the row changed: when the row says so, or else, at most, at the export that showed it.
    fn age(&self, of: RowRef<'_>) -> SignedDuration {
        let time_us = |column: usize| {
            let times = of.batch.column(column).as_primitive::<TimestampMicrosecondType>();
            times.is_valid(of.row).then(|| times.value(of.row))
        };
        let now_us = self.times.now.as_microsecond();
        let message_us = self.columns.message.and_then(time_us).unwrap_or(now_us);
        let before_us = self.times.before(message_us);
        let changes = self.columns.changes.iter().filter_map(|column| time_us(*column));
        let changed_us = changes.filter(|us| *us > before_us && *us <= now_us).max().unwrap_or(now_us);
        SignedDuration::from_micros(changed_us.saturating_sub(message_us).max(0))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Compared>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Times {
    /// When the cell of a message was exported before.
    fn before(&self, message_us: i64) -> i64 {
        let after = self.before.partition_point(|(window, _)| window.since.as_microsecond() <= message_us);
        self.before.get(after.saturating_sub(1)).map_or(i64::MIN, |(_, at)| at.as_microsecond())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{
        ArrayRef, FixedSizeBinaryArray, Int64Array, TimestampMicrosecondArray, UInt8Array, UInt32Array,
    };

    use super::*;
    use crate::sort::hidden::{NEW, OLD, OLD_UNDER_OTHER_SCHEMA};
    use crate::sort::{SortKey, SortSpec, Sorter};

    const HOUR_US: i64 = 3_600_000_000;
    /// The day ends, was exported an hour later, and again at noon of the day after.
    const END_US: i64 = 24 * HOUR_US;

    struct Row {
        id: i64,
        rank: u8,
        hash: u8,
        updated_us: Option<i64>,
        vanished: bool,
    }

    fn row(id: i64, rank: u8, hash: u8) -> Row {
        Row { id, rank, hash, updated_us: None, vanished: false }
    }

    /// Each message was created when its id says, in hours.
    fn batch(rows: &[Row]) -> RecordBatch {
        let times =
            |us: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(us).with_timezone("UTC")) as ArrayRef;
        let hashes = FixedSizeBinaryArray::try_from_iter(rows.iter().map(|row| [row.hash; 16])).unwrap();
        RecordBatch::try_from_iter_with_nullable([
            (hidden::CELL, Arc::new(UInt32Array::from(vec![0; rows.len()])) as ArrayRef, false),
            (hidden::RANK, Arc::new(UInt8Array::from_iter_values(rows.iter().map(|row| row.rank))), false),
            (hidden::HASH, Arc::new(hashes), false),
            ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id))), false),
            ("created_at", times(rows.iter().map(|row| Some(row.id * HOUR_US)).collect()), true),
            ("updated_at", times(rows.iter().map(|row| row.updated_us).collect()), true),
            ("_vanished_at", times(rows.iter().map(|row| row.vanished.then_some(END_US)).collect()), true),
        ])
        .unwrap()
    }

    /// What is found when these rows are merged and all old ones that are left are missed.
    fn compare(rows: &[Row]) -> Changes {
        let batch = batch(rows);
        let schema = batch.schema();
        let at = |us| Timestamp::from_microsecond(us).unwrap();
        let day = Window::day_of(Timestamp::UNIX_EPOCH);
        let times = Times { before: vec![(day, at(END_US + HOUR_US))], now: at(END_US + 12 * HOUR_US) };
        let comparison = Comparison::new(&schema, Arc::new(times)).unwrap();
        let key = |name| SortKey::ascending(&schema, name).unwrap();
        let order = SortSpec { keys: vec![key("id"), key(hidden::RANK)], dedup_prefix: 1 };
        let mut sorter = Sorter::new(schema.clone(), &order, 1 << 20, None).unwrap();
        // A row at a time, so that pairs meet across batches.
        (0..batch.num_rows()).for_each(|row| sorter.push(batch.slice(row, 1)).unwrap());
        let pairs = comparison.clone();
        for left in sorter.finish_with(move |winner, loser| pairs.pair(winner, loser)).unwrap() {
            let left = left.unwrap();
            let ranks = left.column(1).as_primitive::<UInt8Type>();
            let missed: Vec<bool> = ranks.values().iter().map(|rank| *rank != NEW).collect();
            comparison.settled(&left, &missed);
        }
        comparison.changes(0)
    }

    #[test]
    fn equal_rows_are_no_change_and_others_are_told_apart() {
        let rows = [
            // The same, twice in the new export.
            [row(1, NEW, 7), row(1, NEW, 7), row(1, OLD, 7)].into(),
            vec![row(2, NEW, 7), row(2, OLD, 8)],
            vec![row(3, NEW, 7)],
            vec![row(4, OLD, 7)],
            // Back again, and still away.
            vec![row(5, NEW, 7), Row { vanished: true, ..row(5, OLD, 7) }],
            vec![Row { vanished: true, ..row(6, OLD, 7) }],
            vec![row(7, NEW, 7), row(7, OLD_UNDER_OTHER_SCHEMA, 7)],
            vec![row(8, NEW, 7), row(8, OLD_UNDER_OTHER_SCHEMA, 8)],
            vec![row(9, OLD_UNDER_OTHER_SCHEMA, 8)],
        ];
        let found = compare(&rows.into_iter().flatten().collect::<Vec<_>>());
        let Changes { inserted, edited, vanished, incomparable, ages } = found;
        assert_eq!((inserted, edited, vanished, incomparable), (2, 1, 2, 1));
        assert_eq!(ages.total(), found.total());
    }

    #[test]
    fn a_row_changed_when_it_says_so_or_else_at_the_export() {
        let age = |updated_us| {
            let found = compare(&[Row { updated_us, ..row(23, NEW, 1) }, row(23, OLD, 2)]);
            found.ages.iter().map(|(age, _)| age).collect::<Vec<_>>()
        };
        assert_eq!(age(Some(END_US + 2 * HOUR_US)), ["6h"]);
        // Before the export before, after this one, or never.
        for updated_us in [Some(END_US), Some(END_US + 13 * HOUR_US), None] {
            assert_eq!(age(updated_us), ["1d"], "{updated_us:?}");
        }
    }
}
