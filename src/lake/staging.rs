//! Uploading files to where no reader looks. An object appears there whole or not at all.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use object_store::buffered::BufWriter;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::Lake;
use super::layout::{self, Key};
use super::store_error::store_error;
use crate::error::{Error, Kind, Result};

/// How a file is cut for its upload. With the part that fills up, one writer holds one more than are in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Bytes of one; S3 takes at most 10,000 of them.
    pub bytes: usize,
    /// How many are on their way at a time.
    pub in_flight: usize,
}

impl Parts {
    /// The least that S3 takes, one at a time.
    pub const SMALLEST: Self = Self { bytes: 5 << 20, in_flight: 1 };
}

impl Default for Parts {
    fn default() -> Self {
        Self { bytes: 8 << 20, in_flight: 2 }
    }
}

/// One file on its way to staging.
pub struct StagedWriter {
    writer: BufWriter,
    hash: Box<Xxh3>,
    bytes: u64,
    lake: String,
}

/// A whole object in staging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedObject {
    /// Its size.
    pub bytes: u64,
    /// XXH3 of its bytes: 64 bits in hexadecimal.
    pub xxh3: String,
}

impl Lake {
    /// Starts a file. `file` must be unique in the lake and for all time: a name is never used again.
    pub fn stage(&self, run_id: Uuid, file: &str) -> Result<StagedWriter> {
        if !layout::is_name(file) {
            return Err(Error::new(Kind::Internal, format!("`{file}` is no file id")));
        }
        self.upload(&Key::Staged { run_id, file: file.to_owned() }, Parts::default())
    }

    /// Starts a file at a key that is nobody's yet.
    pub fn upload(&self, key: &Key, parts: Parts) -> Result<StagedWriter> {
        if Key::parse(&key.path()).is_none() {
            return Err(Error::new(Kind::Internal, format!("`{key}` is no key of a lake")));
        }
        let writer = BufWriter::with_capacity(Arc::clone(self.store()), key.path(), parts.bytes)
            .with_max_concurrency(parts.in_flight);
        Ok(StagedWriter { writer, hash: Box::default(), bytes: 0, lake: self.display_url().to_owned() })
    }
}

impl StagedWriter {
    /// Takes the next bytes; waits while too many are on their way.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.hash.update(&bytes);
        self.bytes += bytes.len() as u64;
        self.writer.put(bytes).await.map_err(|error| cannot(&self.lake, error))
    }

    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the object appear. It is durable when this returns.
    pub async fn finish(mut self) -> Result<StagedObject> {
        self.writer.shutdown().await.map_err(|error| cannot(&self.lake, unwrap_io(error)))?;
        Ok(StagedObject { bytes: self.bytes, xxh3: format!("{:016x}", self.hash.digest()) })
    }

    /// Takes back what was uploaded. A writer that is only dropped leaves parts for the bucket's lifecycle rule.
    pub async fn abort(mut self) -> Result<()> {
        self.writer.abort().await.map_err(|error| cannot(&self.lake, error))
    }
}

fn cannot(lake: &str, error: object_store::Error) -> Error {
    store_error("cannot upload a file", lake, error)
}

/// The store's own error, which the I/O trait has wrapped.
fn unwrap_io(error: io::Error) -> object_store::Error {
    let kind = error.kind();
    let generic = |source| object_store::Error::Generic { store: "lake", source };
    match error.into_inner() {
        Some(inner) => inner.downcast::<object_store::Error>().map_or_else(generic, |error| *error),
        None => generic(io::Error::from(kind).into()),
    }
}
