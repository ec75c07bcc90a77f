//! A part of a file, read as if it were a file of its own: any number of them share one descriptor.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Bytes of a file, from an offset on.
#[derive(Clone)]
pub(crate) struct FileSlice {
    file: Arc<File>,
    offset: u64,
    len: u64,
}

impl FileSlice {
    /// `len` bytes of `file` from `offset` on, which are not written any more.
    pub(super) fn new(file: Arc<File>, offset: u64, len: u64) -> Self {
        Self { file, offset, len }
    }

    /// What the slice holds from `start` on.
    fn rest(&self, start: u64) -> Result<Self> {
        match self.len.checked_sub(start) {
            Some(len) => Ok(Self { file: self.file.clone(), offset: self.offset + start, len }),
            None => Err(ParquetError::EOF(format!("{start} is behind the end at {}", self.len))),
        }
    }
}

impl Read for FileSlice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.len).unwrap_or(usize::MAX));
        let read = read_at(&self.file, &mut buffer[..most], self.offset)?;
        self.offset += read as u64;
        self.len -= read as u64;
        Ok(read)
    }
}

impl Length for FileSlice {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for FileSlice {
    type T = BufReader<Self>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(self.rest(start)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut rest = self.rest(start)?;
        // Before the buffer is made, which a damaged footer could ask to be of any length.
        if rest.len < length as u64 {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on, of {}", self.len)));
        }
        let mut bytes = vec![0; length];
        rest.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_slice_shows_its_bytes_and_none_of_its_neighbours() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before|inside|after").unwrap();
        let file = Arc::new(file);
        let slice = FileSlice::new(file.clone(), 7, 6);
        assert_eq!(Length::len(&slice), 6);
        let mut text = String::new();
        slice.get_read(2).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "side");
        assert_eq!(slice.get_bytes(0, 6).unwrap(), "inside");
        assert_eq!(slice.get_bytes(6, 0).unwrap(), "");
        assert!(slice.get_bytes(3, 4).is_err() && slice.get_bytes(7, 0).is_err() && slice.get_read(7).is_err());
        // A file that is shorter than it should be is an error and no zeros.
        assert!(FileSlice::new(file, 14, 100).get_bytes(0, 50).is_err());
    }
}
