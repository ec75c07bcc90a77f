//! Temporary files that are trusted: what is read is what was written, or an error.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// What is written to disk at a time: a batch has hundreds of buffers, most of them small.
const BUFFER_BYTES: usize = 32 << 10;

/// Bytes that are written, and read, together.
pub(super) struct Frame {
    bytes: usize,
    sum: u64,
}

/// A file being written, of which each part is summed up.
pub(super) struct Framed {
    file: BufWriter<File>,
    bytes: usize,
    sum: Xxh3Default,
}

impl Framed {
    pub(super) fn new(file: File) -> Self {
        Self { file: BufWriter::with_capacity(BUFFER_BYTES, file), bytes: 0, sum: Xxh3Default::new() }
    }

    /// What was written since the last frame ended.
    pub(super) fn end_frame(&mut self) -> Frame {
        let frame = Frame { bytes: self.bytes, sum: self.sum.digest() };
        self.bytes = 0;
        self.sum.reset();
        frame
    }

    /// The file from its start; `frames` are all of its frames.
    pub(super) fn read(self, frames: Vec<Frame>) -> io::Result<Frames> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Frames { file, frames: frames.into_iter(), frame: Vec::new(), at: 0 })
    }
}

impl Write for Framed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file being read, frame by frame: one that is not as it was written is not given out.
pub(super) struct Frames {
    file: File,
    frames: std::vec::IntoIter<Frame>,
    frame: Vec<u8>,
    at: usize,
}

impl Frames {
    fn load(&mut self, Frame { bytes, sum }: Frame) -> io::Result<Vec<u8>> {
        let mut frame = vec![0; bytes];
        self.file.read_exact(&mut frame)?;
        if xxh3_64(&frame) == sum {
            Ok(frame)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a temporary file does not hold what was written to it"))
        }
    }
}

impl Read for Frames {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.at == self.frame.len()
            && let Some(next) = self.frames.next()
        {
            self.frame = self.load(next)?;
            self.at = 0;
        }
        let length = room.len().min(self.frame.len() - self.at);
        room[..length].copy_from_slice(&self.frame[self.at..self.at + length]);
        self.at += length;
        if self.at == self.frame.len() {
            // Of the many runs that are read side by side, one at a time holds a frame.
            (self.frame, self.at) = (Vec::new(), 0);
        }
        Ok(length)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::SeekFrom;

    use proptest::prelude::*;

    use super::*;

    fn written(parts: &[Vec<u8>]) -> (Framed, Vec<Frame>) {
        let mut framed = Framed::new(tempfile::tempfile().unwrap());
        let frames = parts.iter().map(|part| {
            framed.write_all(part).unwrap();
            framed.end_frame()
        });
        let frames = frames.collect();
        (framed, frames)
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
            change in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let all = parts.concat();
            let (framed, frames) = written(&parts);
            let mut read = Vec::new();
            framed.read(frames).unwrap().read_to_end(&mut read).unwrap();
            prop_assert_eq!(&read, &all);

            if !all.is_empty() {
                let at = change.index(all.len());
                let (mut framed, frames) = written(&parts);
                framed.flush().unwrap();
                let file = framed.file.get_mut();
                if is_cut {
                    file.set_len(at as u64).unwrap();
                } else {
                    file.seek(SeekFrom::Start(at as u64)).unwrap();
                    file.write_all(&[!all[at]]).unwrap();
                }
                let mut read = Vec::new();
                let error = framed.read(frames).unwrap().read_to_end(&mut read).unwrap_err();
                let wanted = if is_cut { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::InvalidData };
                prop_assert_eq!(error.kind(), wanted);
                // Nothing of the frame that is not as it was.
                prop_assert!(all.starts_with(&read) && read.len() <= at);
            }
        }
    }
}
