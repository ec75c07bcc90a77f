//! The bytes of one export file into rows, step by step.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sonic_rs::LazyValue;

use crate::columns::Schemas;
use crate::decode::{Decoder, Tally, Task};
use crate::error::{Error, Kind};
use crate::gunzip::Gunzip;
use crate::ndjson::{Line, LineSplitter};
use crate::sort::collector::Collector;

/// The longest line: a whole channel may be one.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Why a file could not be decoded to its end.
#[derive(Debug)]
pub(super) enum FileError {
    /// The file is not whole as Stream has it: another export of the same may be.
    Broken(String),
    /// It is not the file's fault.
    Other(Error),
}

impl From<Error> for FileError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// What inflates a file fails only by the file.
impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Broken(format!("its file cannot be decompressed: {error}"))
    }
}

/// A file being decoded. It owns all that it needs, so that each step may be done by another thread.
pub(super) struct FileDecoder {
    gunzip: Gunzip,
    lines: LineSplitter,
    decoder: Decoder,
    collector: Arc<Collector>,
}

impl FileDecoder {
    pub(super) fn new(schemas: &Schemas, task: Task, collector: Arc<Collector>) -> Self {
        let (gunzip, lines) = (Gunzip::default(), LineSplitter::new(MAX_LINE_BYTES));
        Self { gunzip, lines, decoder: Decoder::new(schemas, task), collector }
    }

    /// Takes the next bytes.
    pub(super) fn push(mut self, chunks: Vec<Bytes>) -> Result<Self, FileError> {
        let Self { gunzip, lines, decoder, collector } = &mut self;
        for chunk in chunks {
            gunzip.push(&chunk, |bytes| lines.push(bytes, |line| take(decoder, collector, line)))?;
        }
        Ok(self)
    }

    /// The end of the file: what its lines were. A last line that does not end shows that the file does not either.
    pub(super) fn finish(self) -> Result<Tally, FileError> {
        let Self { gunzip, mut lines, mut decoder, collector } = self;
        gunzip.finish(|bytes| lines.push(bytes, |line| take(&mut decoder, &collector, line)))?;
        lines.finish(|line| {
            if is_cut(&line) {
                return Err(FileError::Broken(format!("its file ends in the middle of line {}", line.number)));
            }
            take(&mut decoder, &collector, line)
        })?;
        let (rest, tally) = decoder.finish().map_err(no_room)?;
        for (dataset, batch) in rest {
            collector.push(dataset, batch)?;
        }
        Ok(tally)
    }
}

fn take(decoder: &mut Decoder, collector: &Collector, line: Line<'_>) -> Result<(), FileError> {
    decoder.line(line).map_err(no_room)?;
    for (dataset, batch) in decoder.take_ready() {
        collector.push(dataset, batch)?;
    }
    Ok(())
}

fn is_cut(line: &Line<'_>) -> bool {
    line.is_too_long() || sonic_rs::from_slice::<LazyValue<'_>>(line.bytes).is_err()
}

fn no_room(error: io::Error) -> FileError {
    FileError::Other(
        Error::new(Kind::Temporary, "cannot keep lines in the temporary directory")
            .because(error)
            .hint("free some space, or name a roomier directory with --temp-dir, and run again"),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Tally, FileError> {
        let routes = crate::decode::Routes::new(&[], 0, jiff::Timestamp::UNIX_EPOCH, false);
        let task = Task {
            task_id: "t".to_owned(),
            exported_at: jiff::Timestamp::UNIX_EPOCH,
            channels: None,
            superseded: Arc::default(),
            routes: Arc::new(routes),
            keep_raw: false,
        };
        let schemas = Schemas::default();
        let chunks = bytes.chunks(7).map(Bytes::copy_from_slice).collect();
        FileDecoder::new(&schemas, task, Arc::new(Collector::new(&schemas, 1 << 20, None))).push(chunks)?.finish()
    }

    const LINES: &[u8] = b"{\"type\":\"invoice\",\"data\":{\"id\":1}}\n{\"type\":\"invoice\",\"data\":{\"id\":2}}";

    #[test]
    fn a_last_line_needs_no_break_but_an_end() {
        assert_eq!(decode(LINES).unwrap().unclassified["invoice"], 2);
        let second = LINES.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for end in second + 1..LINES.len() {
            let cut = decode(&LINES[..end]);
            assert!(matches!(&cut, Err(FileError::Broken(why)) if why.contains("line 2")), "{end}: {cut:?}");
        }
        assert_eq!(decode(&LINES[..second]).unwrap().unclassified["invoice"], 1);
        assert_eq!(decode(b"").unwrap(), Tally::default());
    }

    #[test]
    fn gzip_that_ends_early_is_broken() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(LINES).unwrap();
        let whole = encoder.finish().unwrap();
        assert_eq!(decode(&whole).unwrap().unclassified["invoice"], 2);
        for end in 11..whole.len() {
            assert!(matches!(decode(&whole[..end]), Err(FileError::Broken(_))), "{end}");
        }
    }
}
