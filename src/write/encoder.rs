//! The sorted rows of one dataset into the bytes of its files, step by step and without IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::comparison::Comparison;
use super::file_cutter::{Piece, pieces};
use super::parquet_file::{FileOptions, FileSummary, ParquetFile};
use super::vanishing::Vanishing;
use super::{Content, file_options};
use crate::error::Result;
use crate::schema::Schema;
use crate::sort::hidden::visible;

/// What there is to do next, in this order for each file.
pub(super) enum Output {
    /// A file begins.
    Begin {
        /// Its place among the span's cells.
        cell: u32,
        /// Its partition.
        partition: String,
    },
    /// Its next bytes.
    Bytes(Bytes),
    /// It is complete.
    End(FileSummary),
}

/// The file being encoded.
struct Open {
    cell: u32,
    partition: String,
    file: ParquetFile,
}

/// Encodes a dataset. It owns all that it needs, so that each step may be done by another thread.
pub(super) struct Encoder {
    schema: Arc<Schema>,
    options: FileOptions,
    vanishing: Arc<Vanishing>,
    comparison: Option<Comparison>,
    open: Option<Open>,
    contents: BTreeMap<u32, Content>,
}

impl Encoder {
    /// For rows of this schema.
    pub(super) fn new(
        schema: Arc<Schema>,
        options: &FileOptions,
        vanishing: Arc<Vanishing>,
        comparison: Option<Comparison>,
    ) -> Self {
        let options = file_options(&schema, options);
        Self { schema, options, vanishing, comparison, open: None, contents: BTreeMap::new() }
    }

    /// What each cell holds, when all is done.
    pub(super) fn contents(self) -> BTreeMap<u32, Content> {
        let mut contents = self.contents;
        for (cell, content) in &mut contents {
            content.changes = self.comparison.as_ref().map(|comparison| comparison.changes(*cell)).unwrap_or_default();
        }
        contents
    }

    /// Encodes the next rows: what there is to do.
    pub(super) fn take(mut self, batch: &RecordBatch) -> Result<(Self, Vec<Output>)> {
        let mut outputs = Vec::new();
        for piece in pieces(batch)? {
            self.encode(piece, &mut outputs)?;
        }
        Ok((self, outputs))
    }

    /// Ends the last file, after all rows.
    pub(super) fn end(mut self) -> Result<(Self, Vec<Output>)> {
        let mut outputs = Vec::new();
        if let Some(open) = self.open.take() {
            close(open, &mut outputs)?;
        }
        Ok((self, outputs))
    }

    fn encode(&mut self, piece: Piece, outputs: &mut Vec<Output>) -> Result<()> {
        let Piece { cell, partition, batch } = piece;
        let content = self.contents.entry(cell).or_default();
        let batch = self.vanishing.settle(batch, content, self.comparison.as_ref())?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        content.rows += batch.num_rows() as u64;
        let mut rest = visible(&batch);
        while rest.num_rows() > 0 {
            let goes_on = |open: &Open| open.cell == cell && open.partition == partition && !open.file.is_full();
            if !self.open.as_ref().is_some_and(goes_on) {
                if let Some(open) = self.open.take() {
                    close(open, outputs)?;
                }
                outputs.push(Output::Begin { cell, partition: partition.clone() });
                let file = ParquetFile::create(self.schema.arrow(), &self.options)?;
                self.open = Some(Open { cell, partition: partition.clone(), file });
            }
            if let Some(open) = &mut self.open {
                let rows = open.file.write(&rest)?;
                rest = rest.slice(rows, rest.num_rows() - rows);
                take_encoded(&mut open.file, outputs);
            }
        }
        Ok(())
    }
}

fn take_encoded(file: &mut ParquetFile, outputs: &mut Vec<Output>) {
    let bytes = file.take_encoded();
    outputs.extend((!bytes.is_empty()).then_some(Output::Bytes(bytes)));
}

fn close(open: Open, outputs: &mut Vec<Output>) -> Result<()> {
    let (tail, summary) = open.file.finish()?;
    outputs.extend([Output::Bytes(tail), Output::End(summary)]);
    Ok(())
}
