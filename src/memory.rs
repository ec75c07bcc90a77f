//! What `--memory-limit` is divided into. Every stage takes its bound from here; docs/operations.md shows the shares.
//!
//! Decoding and writing are never at work at the same time, so that they take turns with one share; what is sorted is there
//! during both.

use std::num::NonZero;

use crate::error::{Error, Kind, Result};
use crate::lake::Parts;
use crate::write::parquet_file::ROW_GROUP_ROWS;

/// The program itself: its code, its threads, connections, the state of the log and the entry that becomes part of it.
const PROGRAM_BYTES: usize = 40 << 20;

/// One file being decoded: bytes that arrived, columns that fill up, what is remembered of its messages.
const DECODER_BYTES: usize = 12 << 20;

/// What long lines leave to everything else.
const LINELESS_BYTES: usize = 64 << 20;

/// From here on uploads need not be frugal.
const AMPLE_BYTES: usize = 96 << 20;

/// The longest line: a whole channel may be one.
pub(crate) const MAX_LINE_BYTES: usize = 64 << 20;

/// The least memory that a row may be taken to need.
const ROW_BYTES: usize = 64;

/// How much memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    limit_bytes: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { limit_bytes: 256 << 20 }
    }
}

impl Memory {
    /// The least that one file at a time, a small row group and the smallest parts of an upload fit in.
    const LEAST_BYTES: u64 = 64 << 20;

    /// As much as this for the process.
    pub fn new(limit_bytes: u64) -> Result<Self> {
        if limit_bytes < Self::LEAST_BYTES {
            let message = format!("--memory-limit is {limit_bytes} bytes: at least 64MiB are needed");
            return Err(Error::new(Kind::Usage, message)
                .hint("the program itself takes 40 MiB; 96MiB is enough for any amount of data, 256MiB for speed"));
        }
        Ok(Self { limit_bytes: usize::try_from(limit_bytes).unwrap_or(usize::MAX) })
    }

    fn data_bytes(self) -> usize {
        self.limit_bytes - PROGRAM_BYTES
    }

    /// For rows that wait until the span is complete. What does not fit spills.
    pub fn sort_bytes(self) -> usize {
        self.data_bytes() / 100 * 40
    }

    /// For the stage that is at work: decoding or writing.
    fn stage_bytes(self) -> usize {
        self.data_bytes() - self.sort_bytes()
    }

    /// Files downloaded and decoded at a time.
    pub fn decoders(self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
        (self.stage_bytes() / DECODER_BYTES).clamp(1, cores)
    }

    /// The longest line. One at a time may be longer than a decoder's share. It is there three times: as it grows, and as rows.
    pub fn line_bytes(self) -> usize {
        ((self.limit_bytes - LINELESS_BYTES) / 3).clamp(4 << 20, MAX_LINE_BYTES)
    }

    /// What the encoders of a row group hold, at most. Its columns are encoded while it fills and handed over at its end.
    pub fn row_group_bytes(self) -> usize {
        (self.stage_bytes() / 4).min(64 << 20)
    }

    /// Rows of a row group, for which its bloom filters are made.
    pub fn row_group_rows(self) -> usize {
        (self.row_group_bytes() / ROW_BYTES).min(ROW_GROUP_ROWS)
    }

    /// The parts of a file on its way.
    pub fn parts(self) -> Parts {
        if self.stage_bytes() >= AMPLE_BYTES { Parts::default() } else { Parts::SMALLEST }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_limit() {
        for mebibytes in [64, 80, 96, 128, 192, 256, 512, 4096] {
            let memory = Memory::new(mebibytes << 20).unwrap();
            let parts = memory.parts();
            // What a row group was encoded to is copied once on its way to the parts.
            let writing = 2 * memory.row_group_bytes() + parts.bytes * (parts.in_flight + 1);
            let decoding = memory.decoders() * DECODER_BYTES;
            let limit_bytes = usize::try_from(mebibytes).unwrap() << 20;
            for stage in [writing, decoding] {
                let sum = PROGRAM_BYTES + memory.sort_bytes() + stage;
                assert!(sum <= limit_bytes + (4 << 20), "{mebibytes} MiB: {sum}");
            }
        }
    }

    #[test]
    fn a_limit_that_cannot_work_is_refused() {
        let error = Memory::new(63 << 20).unwrap_err();
        assert!(error.kind() == Kind::Usage && error.to_string().contains("at least 64MiB"), "{error}");
    }
}
