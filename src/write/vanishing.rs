//! What becomes of rows that were committed before and are not delivered any more.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{TimestampMicrosecondType, UInt8Type};
use jiff::Timestamp;

use super::Content;
use super::comparison::Comparison;
use crate::decode::message_key;
use crate::error::{Error, Kind, Result};
use crate::sort::hidden;

/// The rule for rows of old files that no new row replaces.
#[derive(Clone, Debug, Default)]
pub struct Vanishing {
    /// Drop them, instead of keeping them with `_vanished_at`.
    pub removes: bool,
    /// When they were missed.
    pub at: Timestamp,
    /// Channels that could not be exported now: their rows are carried over as they are.
    pub carried: HashSet<String>,
    /// Messages that have more reactions than were delivered: one that is missing may still be there.
    pub cut_reactions: HashSet<u64>,
}

impl Vanishing {
    /// Adds new rows to the content hash, and decides what becomes of old ones that no new row replaced. `comparison` counts both.
    pub(super) fn settle(
        &self,
        batch: RecordBatch,
        content: &mut Content,
        comparison: Option<&Comparison>,
    ) -> Result<RecordBatch> {
        let wrong = |what: &str| Error::new(Kind::Internal, format!("a batch without {what}"));
        let ranks = batch.column_by_name(hidden::RANK).ok_or_else(|| wrong("ranks"))?.as_primitive::<UInt8Type>();
        let hashes = batch.column_by_name(hidden::HASH).ok_or_else(|| wrong("hashes"))?.as_fixed_size_binary();
        let mut any_old = false;
        for (row, rank) in ranks.values().iter().enumerate() {
            if *rank == hidden::NEW {
                let hash = hashes.value(row).try_into().map_err(|_| wrong("hashes of 16 bytes"))?;
                content.hash = content.hash.wrapping_add(u128::from_be_bytes(hash));
            } else {
                any_old = true;
            }
        }
        let is_missed = |row| ranks.value(row) != hidden::NEW && self.is_missed(&batch, row);
        let missed: Vec<bool> = if any_old { (0..batch.num_rows()).map(is_missed).collect() } else { Vec::new() };
        if let Some(comparison) = comparison {
            comparison.settled(&batch, &missed);
        }
        let Some(index) = batch.schema().index_of("_vanished_at").ok().filter(|_| any_old) else { return Ok(batch) };
        if self.removes {
            content.vanished += missed.iter().filter(|missed| **missed).count() as u64;
            let kept: BooleanArray = missed.iter().map(|missed| Some(!missed)).collect();
            return filter_record_batch(&batch, &kept).map_err(|error| wrong("order").because(error));
        }
        let old = batch.column(index).as_primitive::<TimestampMicrosecondType>();
        let at_us = self.at.as_microsecond();
        let values: TimestampMicrosecondArray = (0..batch.num_rows())
            .map(|row| {
                let is_new = missed[row] && old.is_null(row);
                content.vanished += u64::from(is_new);
                if is_new { Some(at_us) } else { old.is_valid(row).then(|| old.value(row)) }
            })
            .collect();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns[index] = Arc::new(values.with_data_type(old.data_type().clone()));
        RecordBatch::try_new(batch.schema(), columns).map_err(|error| wrong("order").because(error))
    }

    fn is_missed(&self, batch: &RecordBatch, row: usize) -> bool {
        let text = |name: &str| {
            let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
            column.is_valid(row).then(|| column.value(row))
        };
        let carried = text("cid").is_some_and(|cid| self.carried.contains(cid));
        let cut = || text("message_id").is_some_and(|id| self.cut_reactions.contains(&message_key(id)));
        !carried && !cut()
    }
}
