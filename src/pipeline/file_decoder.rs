//! The bytes of one export file into rows, step by step.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::array::{ArraySplitter, BrokenArray, Part};
use crate::columns::Schemas;
use crate::cpu::Cpu;
use crate::decode::{Decoder, Tally, Task, excerpt};
use crate::decompress::Decompress;
use crate::error::{Error, Kind, Result};
use crate::export::{Download, DownloadError, ExportVersion};
use crate::file_type::{HEAD_BYTES, stranger};
use crate::json::{Index, JsonError};
use crate::memory::{MAX_LINE_BYTES, Memory};
use crate::ndjson::{Line, LineSplitter};
use crate::sort::collector::Collector;
use crate::temp_dir;

/// Bytes that are decoded at a time: enough that handing them to another thread costs nothing beside.
const GATHERED_BYTES: usize = 512 << 10;

/// A line that is longer takes more than a decoder's share of the memory.
pub(super) const LONG_LINE_BYTES: usize = 4 << 20;

/// Files that hold a long line at a time, in the whole process.
pub(super) static LONG_LINES: Semaphore = Semaphore::const_new(1);

/// Why a file could not be decoded to its end.
#[derive(Debug)]
pub(crate) enum FileError {
    /// The file is not whole as Stream has it: another export of the same may be.
    Broken(String),
    /// It cannot be had.
    Download(DownloadError),
    /// It is no export, or it is not the file's fault.
    Other(Error),
}

impl From<Error> for FileError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<DownloadError> for FileError {
    fn from(error: DownloadError) -> Self {
        Self::Download(error)
    }
}

impl From<BrokenArray> for FileError {
    fn from(error: BrokenArray) -> Self {
        Self::Broken(error.to_string())
    }
}

/// What inflates a file fails only by the file.
impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Broken(format!("its file cannot be decompressed: {error}"))
    }
}

/// Where rows go.
pub(crate) trait Rows: Send + 'static {
    /// Takes rows of the dataset at this place in [`crate::schema::DATASETS`].
    fn take(&mut self, dataset: usize, batch: RecordBatch) -> Result<()>;

    /// Sees a line before it is decoded; in an array of channels a part, and the key that it stands under.
    fn see(&mut self, _key: Option<&str>, _line: &[u8]) {}
}

impl Rows for Arc<Collector> {
    fn take(&mut self, dataset: usize, batch: RecordBatch) -> Result<()> {
        self.push(dataset, batch)
    }
}

/// The bytes of a file, in order.
pub(crate) trait Chunks {
    /// The next of them; none at its end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, FileError>;
}

impl Chunks for Download {
    async fn chunk(&mut self) -> Result<Option<Bytes>, FileError> {
        Ok(self.next().await?)
    }
}

/// A file being decoded. It owns all that it needs, so that each step may be done by another thread.
pub(crate) struct FileDecoder<R> {
    pub(super) decompress: Decompress,
    pub(super) head: Head,
    pub(super) splitter: Splitter,
    pub(super) taker: Taker<R>,
}

/// How the file is cut.
pub(super) enum Splitter {
    Lines(LineSplitter),
    Array(ArraySplitter),
}

/// What the file begins with.
pub(super) struct Head {
    task_id: String,
    /// The file on disk, when nobody exported it just now.
    pub(super) path: Option<String>,
    bytes: Vec<u8>,
    /// Nothing that is left out on purpose may be in it.
    is_shown: bool,
    version: ExportVersion,
}

/// Lines into rows.
pub(super) struct Taker<R> {
    pub(super) decoder: Decoder,
    rows: R,
    /// The file, for people.
    name: String,
    /// There is no memory for longer lines.
    line_bytes: usize,
}

impl<R: Rows> FileDecoder<R> {
    /// A decoder of the file of `task`, which is of this version, into rows of these schemas.
    pub(crate) fn new(schemas: &Schemas, version: ExportVersion, task: Task, rows: R) -> Self {
        Self {
            head: Head {
                bytes: Vec::new(),
                task_id: task.task_id.clone(),
                path: None,
                is_shown: schemas.exclusions().is_empty(),
                version,
            },
            decompress: Decompress::default(),
            splitter: Splitter::new(version, MAX_LINE_BYTES),
            taker: Taker {
                name: format!("the file of export task {}", task.task_id),
                decoder: Decoder::new(schemas, task),
                rows,
                line_bytes: MAX_LINE_BYTES,
            },
        }
    }

    /// The same for a file on disk.
    pub(crate) fn of_file(mut self, path: &str) -> Self {
        self.head.path = Some(path.to_owned());
        path.clone_into(&mut self.taker.name);
        self
    }

    /// Refuses lines that do not fit in this memory.
    pub(crate) fn within(mut self, memory: Memory) -> Self {
        let line_bytes = memory.line_bytes();
        self.splitter = Splitter::new(self.head.version, line_bytes);
        self.taker.line_bytes = line_bytes;
        self
    }

    /// Spills to this folder, instead of the system's.
    pub(crate) fn with_temp_dir(mut self, temp_dir: Option<&Path>) -> Self {
        self.taker.decoder = self.taker.decoder.with_temp_dir(temp_dir);
        self
    }

    /// Reads a file to its end: each part is decoded while the next arrives.
    pub(crate) async fn read(
        self,
        file: &mut impl Chunks,
        cpu: Cpu,
        each: impl Fn(&Bytes),
    ) -> Result<(Tally, R), FileError> {
        let mut decoder = self;
        let mut room = None;
        let mut chunks = gather(file, &each).await?;
        while !chunks.is_empty() {
            let step = cpu.run(move || decoder.push(chunks));
            let (decoded, gathered) = tokio::join!(step, gather(file, &each));
            (decoder, chunks) = (decoded?, gathered?);
            if decoder.splitter.held_bytes() < LONG_LINE_BYTES {
                room = None;
            } else if room.is_none() {
                room = LONG_LINES.acquire().await.ok();
            }
        }
        cpu.run(move || decoder.finish()).await
    }

    /// Takes the next bytes.
    fn push(mut self, chunks: Vec<Bytes>) -> Result<Self, FileError> {
        let Self { decompress, head, splitter, taker } = &mut self;
        for chunk in chunks {
            decompress.push(&chunk, |bytes| {
                head.take(bytes)?;
                splitter.push(bytes, taker)
            })?;
        }
        Ok(self)
    }

    /// The end of the file: what its lines were.
    fn finish(self) -> Result<(Tally, R), FileError> {
        let Self { decompress, mut head, mut splitter, mut taker } = self;
        decompress.finish(|bytes| {
            head.take(bytes)?;
            splitter.push(bytes, &mut taker)
        })?;
        head.check()?;
        taker.end(splitter, head.path.as_deref())
    }
}

impl Splitter {
    fn new(version: ExportVersion, line_bytes: usize) -> Self {
        match version {
            ExportVersion::V1 => Self::Array(ArraySplitter::new(line_bytes)),
            ExportVersion::V2 => Self::Lines(LineSplitter::new(line_bytes)),
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.held_bytes(),
            Self::Array(array) => array.held_bytes(),
        }
    }

    fn push(&mut self, bytes: &[u8], taker: &mut Taker<impl Rows>) -> Result<(), FileError> {
        match self {
            Self::Lines(lines) => lines.push(bytes, |line| taker.line(line)),
            Self::Array(array) => array.push(bytes, |part| taker.part(part)),
        }
    }

    /// A last line that does not end shows that the file does not either.
    fn finish(self, taker: &mut Taker<impl Rows>) -> Result<(), FileError> {
        let lines = match self {
            Self::Array(array) => return Ok(array.finish()?),
            Self::Lines(lines) => lines,
        };
        lines.finish(|line| {
            taker.check_room(line)?;
            if line.is_too_long() {
                let Line { number, length, .. } = line;
                return Err(FileError::Broken(format!("line {number} of its file has no end after {length} bytes")));
            }
            if !is_whole(line.bytes) {
                return Err(FileError::Broken(format!("its file ends in the middle of line {}", line.number)));
            }
            taker.line(line)
        })
    }
}

impl<R: Rows> Taker<R> {
    /// The end of the file, which is at this path if it is on disk: what its lines were.
    pub(super) fn end(mut self, splitter: Splitter, path: Option<&str>) -> Result<(Tally, R), FileError> {
        splitter.finish(&mut self)?;
        let Self { decoder, mut rows, .. } = self;
        let (rest, mut tally) = decoder.finish().map_err(no_room)?;
        if let Some(path) = path {
            tally.first_set_aside.found_in(path);
        }
        for (dataset, batch) in rest {
            rows.take(dataset, batch)?;
        }
        Ok((tally, rows))
    }

    /// Another for lines of the same file.
    pub(super) fn fork(&self) -> Self
    where
        R: Clone,
    {
        Self { decoder: self.decoder.fork(), rows: self.rows.clone(), name: self.name.clone(), ..*self }
    }

    /// Another run with more memory would decode what is too long only for this one.
    fn check_room(&self, line: Line<'_>) -> Result<(), FileError> {
        let Line { number, length, .. } = line;
        if !line.is_too_long() || self.line_bytes == MAX_LINE_BYTES || length > MAX_LINE_BYTES as u64 {
            return Ok(());
        }
        let name = &self.name;
        let message = format!("line {number} of {name} has {length} bytes, for which --memory-limit is too small");
        Err(FileError::Other(Error::new(Kind::Usage, message).hint("256MiB is enough for lines of any length")))
    }

    pub(super) fn line(&mut self, line: Line<'_>) -> Result<(), FileError> {
        self.check_room(line)?;
        self.rows.see(None, line.bytes);
        self.decoder.line(line).map_err(no_room)?;
        self.hand_over()
    }

    fn part(&mut self, part: Part<'_>) -> Result<(), FileError> {
        self.check_room(part.line)?;
        self.rows.see(part.key, part.line.bytes);
        self.decoder.part(part).map_err(no_room)?;
        self.hand_over()
    }

    fn hand_over(&mut self) -> Result<(), FileError> {
        for (dataset, batch) in self.decoder.take_ready() {
            self.rows.take(dataset, batch)?;
        }
        Ok(())
    }
}

/// The next bytes of a file; nothing at its end.
pub(super) async fn gather(file: &mut impl Chunks, each: impl Fn(&Bytes)) -> Result<Vec<Bytes>, FileError> {
    let mut chunks = Vec::new();
    let mut bytes = 0;
    while bytes < GATHERED_BYTES
        && let Some(chunk) = file.chunk().await?
    {
        each(&chunk);
        bytes += chunk.len();
        chunks.push(chunk);
    }
    Ok(chunks)
}

impl Head {
    /// Takes what is missing of it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let missing = HEAD_BYTES - self.bytes.len();
        if missing == 0 {
            return Ok(());
        }
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        if self.bytes.len() == HEAD_BYTES { self.check() } else { Ok(()) }
    }

    /// Refuses a file that is plainly no export: no line of it is worth a look.
    pub(super) fn check(&self) -> Result<()> {
        let Some(what) = stranger(&self.bytes, self.version == ExportVersion::V2) else { return Ok(()) };
        let shown = self.is_shown.then(|| format!("it begins with: {}", excerpt(&self.bytes)));
        if let Some(path) = &self.path {
            return Err(Error::new(Kind::Data, format!("{path} {what}: it is no export"))
                .showing(shown)
                .hint("nothing was committed; leave it out, or get the file again, and run the same command"));
        }
        let task_id = &self.task_id;
        Err(Error::new(Kind::Data, format!("the file of export task {task_id} {what}: it is no export"))
            .showing(shown)
            .hint(
                "nothing was committed; look whether a proxy answers in place of Stream's store, then run again, which looks \
                 at the same file; --replace asks for a new export",
            ))
    }
}

/// Whether a line ends where its value does: of one that is too deep or has too many values, whether all that it opens is closed.
fn is_whole(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else { return false };
    match Index::default().parse(text) {
        Ok(_) => true,
        Err(JsonError::Unexpected { .. }) => false,
        Err(JsonError::TooDeep | JsonError::TooMany) => {
            let mut element = ArraySplitter::new(0);
            let pieces = [&b"["[..], line, &b"]"[..]];
            let closes = pieces.iter().try_for_each(|piece| element.push(piece, |_| Ok::<_, BrokenArray>(())));
            closes.and_then(|()| element.finish()).is_ok()
        }
    }
}

pub(super) fn no_room(error: io::Error) -> FileError {
    FileError::Other(temp_dir::failed("cannot keep lines in the temporary directory", error))
}

#[cfg(test)]
#[path = "file_decoder_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
