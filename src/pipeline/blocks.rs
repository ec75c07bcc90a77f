//! One file of lines, decoded on several threads: it is cut into blocks of whole lines, and each goes to a decoder that is free.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::file_decoder::{
    Chunks, FileDecoder, FileError, Head, LONG_LINE_BYTES, LONG_LINES, Rows, Splitter, Taker, gather, no_room,
};
use crate::cpu::Cpu;
use crate::decode::Tally;
use crate::decompress::Decompress;
use crate::error::{Error, Kind};
use crate::ndjson::{Line, LineSplitter};

/// Bytes at which a block is full.
const BLOCK_BYTES: usize = 512 << 10;

/// Lines that are decoded together.
#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    lines: Vec<Place>,
}

/// A line in a block; one that is too long ends before its length.
#[derive(Debug)]
struct Place {
    number: u64,
    offset: u64,
    length: u64,
    end: usize,
}

impl Block {
    fn push(&mut self, Line { number, offset, length, bytes }: Line<'_>) {
        self.bytes.extend_from_slice(bytes);
        self.lines.push(Place { number, offset, length, end: self.bytes.len() });
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut start = 0;
        self.lines.iter().map(move |&Place { number, offset, length, end }| {
            let bytes = &self.bytes[start..end];
            start = end;
            Line { number, offset, length, bytes }
        })
    }
}

/// Bytes into blocks.
struct Cutter {
    decompress: Decompress,
    head: Head,
    lines: LineSplitter,
    blocks: Blocks,
}

/// Blocks that fill up.
struct Blocks {
    block_bytes: usize,
    open: Block,
    full: Vec<Block>,
}

impl Blocks {
    fn push(&mut self, line: Line<'_>) {
        // A long line is alone, so that the others do not wait with it.
        let is_long = line.bytes.len() >= LONG_LINE_BYTES;
        if is_long {
            self.close();
        }
        self.open.push(line);
        if is_long || self.open.bytes.len() >= self.block_bytes {
            self.close();
        }
    }

    fn close(&mut self) {
        if !self.open.lines.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
        }
    }
}

impl Cutter {
    /// Cuts the next bytes: the blocks that are full.
    fn push(mut self, chunks: Vec<Bytes>) -> Result<(Self, Vec<Block>), FileError> {
        let Self { decompress, head, lines, blocks } = &mut self;
        for chunk in chunks {
            decompress.push(&chunk, |bytes| cut(bytes, head, lines, blocks))?;
        }
        let full = std::mem::take(&mut blocks.full);
        Ok((self, full))
    }

    /// The last blocks, and the splitter, which may hold a line that does not end.
    fn finish(self) -> Result<(Vec<Block>, LineSplitter), FileError> {
        let Self { decompress, mut head, mut lines, mut blocks } = self;
        decompress.finish(|bytes| cut(bytes, &mut head, &mut lines, &mut blocks))?;
        head.check()?;
        blocks.close();
        Ok((blocks.full, lines))
    }
}

fn cut(bytes: &[u8], head: &mut Head, lines: &mut LineSplitter, blocks: &mut Blocks) -> Result<(), FileError> {
    head.take(bytes)?;
    lines.push(bytes, |line| {
        blocks.push(line);
        Ok(())
    })
}

impl<R: Rows + Clone> FileDecoder<R> {
    /// Reads a file to its end with so many decoders side by side. An array, whose values belong together, has one.
    pub(crate) async fn read_with(
        self,
        decoders: usize,
        file: &mut impl Chunks,
        cpu: Cpu,
        each: impl Fn(&Bytes),
    ) -> Result<(Tally, R), FileError> {
        if decoders > 1 {
            self.read_blocks(decoders, BLOCK_BYTES, file, cpu, each).await
        } else {
            self.read(file, cpu, each).await
        }
    }

    pub(super) async fn read_blocks(
        self,
        decoders: usize,
        block_bytes: usize,
        file: &mut impl Chunks,
        cpu: Cpu,
        each: impl Fn(&Bytes),
    ) -> Result<(Tally, R), FileError> {
        let Self { decompress, head, splitter, taker } = self;
        let lines = match splitter {
            Splitter::Lines(lines) => lines,
            splitter @ Splitter::Array(_) => {
                return Self { decompress, head, splitter, taker }.read(file, cpu, each).await;
            }
        };
        let path = head.path.clone();
        let mut takers = Takers::new(taker, decoders, cpu);
        let blocks = Blocks { block_bytes, open: Block::default(), full: Vec::new() };
        let mut cutter = Cutter { decompress, head, lines, blocks };
        let mut room = None;
        let mut chunks = gather(file, &each).await?;
        while !chunks.is_empty() {
            let step = cpu.run(move || cutter.push(chunks));
            let (cut, gathered) = tokio::join!(step, gather(file, &each));
            let (next, blocks) = cut?;
            (cutter, chunks) = (next, gathered?);
            for block in blocks {
                takers.take(block).await?;
            }
            if cutter.lines.held_bytes() < LONG_LINE_BYTES {
                room = None;
            } else if room.is_none() {
                takers.settle().await?;
                room = LONG_LINES.acquire().await.ok();
            }
        }
        let (blocks, lines) = cpu.run(move || cutter.finish()).await?;
        for block in blocks {
            takers.take(block).await?;
        }
        let (mut taker, others) = takers.all().await?;
        cpu.run(move || {
            let others = others.into_iter().map(|other| other.decoder).collect();
            taker.decoder.absorb(others).map_err(no_room)?;
            taker.end(Splitter::Lines(lines), path.as_deref())
        })
        .await
    }
}

/// What decodes the blocks of a file: idle, or at work.
struct Takers<R> {
    idle: Vec<Taker<R>>,
    at_work: FuturesUnordered<BoxFuture<'static, Result<Taker<R>, FileError>>>,
    cpu: Cpu,
}

impl<R: Rows + Clone> Takers<R> {
    fn new(first: Taker<R>, count: usize, cpu: Cpu) -> Self {
        let mut idle: Vec<_> = (1..count).map(|_| first.fork()).collect();
        idle.push(first);
        Self { idle, at_work: FuturesUnordered::new(), cpu }
    }

    /// Begins to decode a block as soon as somebody is free. A long line is decoded alone: there is memory for one.
    async fn take(&mut self, block: Block) -> Result<(), FileError> {
        let is_long = block.bytes.len() >= LONG_LINE_BYTES;
        if is_long {
            self.settle().await?;
        }
        let mut taker = match self.idle.pop() {
            Some(taker) => taker,
            None => self.at_work.next().await.unwrap_or_else(|| Err(nobody()))?,
        };
        let work = move || block.lines().try_for_each(|line| taker.line(line)).map(|()| taker);
        self.at_work.push(self.cpu.run(work).boxed());
        if is_long { self.settle().await } else { Ok(()) }
    }

    /// Waits until all are idle.
    async fn settle(&mut self) -> Result<(), FileError> {
        while let Some(taker) = self.at_work.next().await {
            self.idle.push(taker?);
        }
        Ok(())
    }

    /// One, and the others.
    async fn all(mut self) -> Result<(Taker<R>, Vec<Taker<R>>), FileError> {
        self.settle().await?;
        let one = self.idle.pop().ok_or_else(nobody)?;
        Ok((one, self.idle))
    }
}

fn nobody() -> FileError {
    FileError::Other(Error::new(Kind::Internal, "nobody is left to decode a file"))
}
