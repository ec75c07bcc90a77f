//! Lines that wait for others: in memory at first, on disk when there are many.

use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::{SpooledTempFile, spooled_tempfile, spooled_tempfile_in};

/// What is held in memory before the rest goes to disk.
const MEMORY_BYTES: usize = 4 << 20;

/// Lines in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Spool {
    file: Option<SpooledTempFile>,
}

impl Spool {
    pub(super) fn is_empty(&self) -> bool {
        self.file.is_none()
    }

    pub(super) fn push(&mut self, number: u64, offset: u64, line: &str, temp_dir: Option<&Path>) -> io::Result<()> {
        let new =
            || temp_dir.map_or_else(|| spooled_tempfile(MEMORY_BYTES), |dir| spooled_tempfile_in(MEMORY_BYTES, dir));
        let file = self.file.get_or_insert_with(new);
        file.write_all(format!("{number} {offset} ").as_bytes())?;
        // JSON may be spread over lines inside an array; a line break between its tokens means nothing.
        for piece in line.split_inclusive('\n') {
            file.write_all(piece.trim_end_matches('\n').as_bytes())?;
        }
        file.write_all(b"\n")
    }

    /// Hands over every line, and is empty afterwards.
    pub(super) fn drain(&mut self, mut each: impl FnMut(u64, u64, &str) -> io::Result<()>) -> io::Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.seek(SeekFrom::Start(0))?;
        for line in BufReader::new(file).lines() {
            let line = line?;
            let mut parts = line.splitn(3, ' ');
            let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or_default();
            let (number, offset) = (number(), number());
            each(number, offset, parts.next().unwrap_or_default())?;
        }
        Ok(())
    }
}
