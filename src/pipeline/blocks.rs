//! One file of lines, decoded on several threads: it is cut into blocks of whole lines, which wait in a short queue for a decoder.
//!
//! While the queue is full, whoever cuts decodes the block: so no more is inflated than is decoded, however much a file was compressed.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

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
use crate::ndjson::{Line, LineSplitter};

/// Bytes at which a block is full.
const BLOCK_BYTES: usize = 512 << 10;

/// Lines that are decoded together.
#[derive(Debug)]
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
    /// An empty one, with room for so many bytes and the end of a line that fills them.
    fn of(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes + bytes / 8), lines: Vec::new() }
    }

    fn push(&mut self, Line { number, offset, length, bytes }: Line<'_>) {
        self.bytes.extend_from_slice(bytes);
        self.lines.push(Place { number, offset, length, end: self.bytes.len() });
    }

    fn decode(&self, taker: &mut Taker<impl Rows>) -> Result<(), FileError> {
        let mut start = 0;
        self.lines.iter().try_for_each(|&Place { number, offset, length, end }| {
            let bytes = &self.bytes[start..end];
            start = end;
            taker.line(Line { number, offset, length, bytes })
        })
    }
}

/// Bytes into lines, and those into blocks.
struct Cutter<R> {
    decompress: Decompress,
    head: Head,
    lines: LineSplitter,
    blocks: Blocks<R>,
}

/// Blocks that fill up.
struct Blocks<R> {
    block_bytes: usize,
    open: Block,
    /// Those for others.
    queue: SyncSender<Block>,
    taker: Taker<R>,
}

impl<R: Rows> Cutter<R> {
    /// Cuts the next bytes.
    fn push(mut self, chunks: Vec<Bytes>) -> Result<Self, FileError> {
        let Self { decompress, head, lines, blocks } = &mut self;
        for chunk in chunks {
            decompress.push(&chunk, |bytes| cut(bytes, head, lines, blocks))?;
        }
        Ok(self)
    }

    /// The end of the file: decodes what is left, but for a line that does not end.
    fn finish(self) -> Result<(Taker<R>, LineSplitter), FileError> {
        let Self { decompress, mut head, mut lines, mut blocks } = self;
        decompress.finish(|bytes| cut(bytes, &mut head, &mut lines, &mut blocks))?;
        head.check()?;
        let Blocks { open, mut taker, .. } = blocks;
        open.decode(&mut taker)?;
        Ok((taker, lines))
    }
}

fn cut(
    bytes: &[u8],
    head: &mut Head,
    lines: &mut LineSplitter,
    blocks: &mut Blocks<impl Rows>,
) -> Result<(), FileError> {
    head.take(bytes)?;
    lines.push(bytes, |line| blocks.line(line))
}

impl<R: Rows> Blocks<R> {
    fn line(&mut self, line: Line<'_>) -> Result<(), FileError> {
        // There is no memory for another copy of a long line.
        if line.bytes.len() >= LONG_LINE_BYTES {
            return self.taker.line(line);
        }
        self.open.push(line);
        if self.open.bytes.len() >= self.block_bytes { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), FileError> {
        match self.queue.try_send(std::mem::replace(&mut self.open, Block::of(self.block_bytes))) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(block) | TrySendError::Disconnected(block)) => block.decode(&mut self.taker),
        }
    }
}

impl<R: Rows + Clone> FileDecoder<R> {
    /// Reads a file to its end with so many decoders side by side. An array, whose values belong together, has one, and so has a file
    /// where there is one thread.
    pub(crate) async fn read_with(
        self,
        decoders: usize,
        file: &mut impl Chunks,
        cpu: Cpu,
        each: impl Fn(&Bytes),
    ) -> Result<(Tally, R), FileError> {
        if decoders > 1 && cpu == Cpu::Threads {
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
        let (queue, mut others) = Others::start(&taker, decoders - 1, cpu);
        let blocks = Blocks { block_bytes, open: Block::of(block_bytes), queue, taker };
        let mut cutter = Cutter { decompress, head, lines, blocks };
        let mut room = None;
        let mut chunks = gather(file, &each).await?;
        while !chunks.is_empty() {
            let step = cpu.run(move || cutter.push(chunks));
            let (cut, gathered) = tokio::join!(step, gather(file, &each));
            (cutter, chunks) = (cut?, gathered?);
            others.check()?;
            if cutter.lines.held_bytes() < LONG_LINE_BYTES {
                room = None;
            } else if room.is_none() {
                room = LONG_LINES.acquire().await.ok();
            }
        }
        let (last, others) = tokio::join!(cpu.run(move || cutter.finish()), others.all());
        let ((mut taker, lines), others) = (last?, others?);
        cpu.run(move || {
            let others = others.into_iter().map(|other| other.decoder).collect();
            taker.decoder.absorb(others).map_err(no_room)?;
            taker.end(Splitter::Lines(lines), path.as_deref())
        })
        .await
    }
}

/// Those who decode blocks beside the one who cuts, until there are no more.
struct Others<R> {
    at_work: FuturesUnordered<BoxFuture<'static, Result<Taker<R>, FileError>>>,
}

impl<R: Rows + Clone> Others<R> {
    /// So many, and the queue that they take blocks from. One block waits for each of them, so that none waits for a block.
    fn start(one: &Taker<R>, count: usize, cpu: Cpu) -> (SyncSender<Block>, Self) {
        let (queue, blocks) = sync_channel(count);
        let blocks = Arc::new(Mutex::new(blocks));
        let other = |_| {
            let (mut taker, blocks) = (one.fork(), Arc::clone(&blocks));
            let work = move || {
                while let Some(block) = next(&blocks) {
                    block.decode(&mut taker)?;
                }
                Ok(taker)
            };
            cpu.run(work).boxed()
        };
        (queue, Self { at_work: (0..count).map(other).collect() })
    }

    /// Why one has ended while there may be more blocks.
    fn check(&mut self) -> Result<(), FileError> {
        match self.at_work.next().now_or_never() {
            Some(Some(ended)) => ended.map(|_| ()),
            _ => Ok(()),
        }
    }

    /// All of them, once they are done.
    async fn all(mut self) -> Result<Vec<Taker<R>>, FileError> {
        let mut all = Vec::new();
        while let Some(done) = self.at_work.next().await {
            all.push(done?);
        }
        Ok(all)
    }
}

/// The next block; none after the last.
fn next(blocks: &Mutex<Receiver<Block>>) -> Option<Block> {
    blocks.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
