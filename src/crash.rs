//! Dying on command, for tests: a store that ends the process at a chosen durable step, right before or right after it.
//!
//! `CHATLAKE_CRASH_AT=put-entry:after#1` says what is done to what, on which side of it, and at which time of asking.
//! Requests to Stream need no step of their own: the journal puts an intent right before one is sent and a task right
//! after it is answered. Builds without debug assertions have none of this.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::lake::{Env, Key};

/// Names the step. One that does not exist never ends a process, but every step is logged then, at debug level.
pub const VARIABLE: &str = "CHATLAKE_CRASH_AT";

/// The store, with an end to it if the variable is set; otherwise as it is.
pub(crate) fn guarded(store: Arc<dyn ObjectStore>, env: &Env) -> Arc<dyn ObjectStore> {
    match env.get(VARIABLE) {
        Some(at) => Arc::new(CrashStore { inner: store, steps: Arc::new(Steps::new(at)) }),
        None => store,
    }
}

/// On which side of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// Counts steps, and ends the process at one of them.
#[derive(Debug)]
struct Steps {
    at: Option<(String, Side, usize)>,
    seen: Mutex<BTreeMap<String, usize>>,
}

impl Steps {
    fn new(at: &str) -> Self {
        Self { at: parse(at), seen: Mutex::default() }
    }

    fn reach(&self, step: &str, side: Side) {
        if side == Side::Before {
            tracing::debug!(step, "durable step");
        }
        let Some((_, _, nth)) = self.at.as_ref().filter(|(at, on, _)| at == step && *on == side) else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seen.entry(step.to_owned()).or_default();
        *count += 1;
        if count == nth {
            std::process::abort();
        }
    }

    fn ends_between(&self, step: &str) -> bool {
        self.at.as_ref().is_some_and(|(at, ..)| at == step)
    }
}

/// `put-entry:after#1` in its parts.
fn parse(at: &str) -> Option<(String, Side, usize)> {
    let (step, rest) = at.split_once(':')?;
    let (side, nth) = rest.split_once('#')?;
    let side = match side {
        "before" => Side::Before,
        "after" => Side::After,
        _ => return None,
    };
    Some((step.to_owned(), side, nth.parse().ok()?))
}

/// What is done to what: `delete-staged`.
fn step(verb: &str, location: &Path) -> String {
    let noun = match Key::parse(location) {
        Some(Key::Identity) => "identity",
        Some(Key::Channels(_)) => "channels",
        Some(Key::Entry(_)) => "entry",
        Some(Key::Snapshot(_)) => "snapshot",
        Some(Key::Lists(_)) => "lists",
        Some(Key::Staged { .. }) => "staged",
        Some(Key::Rejected { .. }) => "rejected",
        Some(Key::Journal { .. }) => "record",
        Some(Key::Probe(_)) => "probe",
        Some(Key::Data { .. }) => "data",
        None => "foreign",
    };
    format!("{verb}-{noun}")
}

/// The same, and for a record of a journal which: `put-intent`.
fn put_step(location: &Path, payload: &PutPayload) -> String {
    if let Some(Key::Journal { .. }) = Key::parse(location)
        && let Ok(record) = serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(&Bytes::from(payload.clone()))
        && let Some(kind) = record.into_keys().next()
    {
        return format!("put-{kind}");
    }
    step("put", location)
}

/// A store that ends the process.
#[derive(Clone, Debug)]
struct CrashStore {
    inner: Arc<dyn ObjectStore>,
    steps: Arc<Steps>,
}

impl CrashStore {
    async fn at<T>(&self, step: &str, operation: impl Future<Output = Result<T>>) -> Result<T> {
        self.steps.reach(step, Side::Before);
        let done = operation.await?;
        self.steps.reach(step, Side::After);
        Ok(done)
    }

    /// A copy that is there whole or not at all: in a folder only a link is.
    async fn link(&self, from: &Path, to: &Path) -> Result<()> {
        match self.inner.copy_if_not_exists(from, to).await {
            Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => self.inner.copy(from, to).await,
            linked => linked,
        }
    }
}

impl fmt::Display for CrashStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrashStore({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for CrashStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let step = put_step(location, &payload);
        self.at(&step, self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(CrashUpload { upload, step: step("complete", location), steps: Arc::clone(&self.steps) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        // One by one, so that there is a before and an after for each.
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.at(&step("delete", &location), store.inner.delete(&location)).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.at(&step("copy", to), self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let copy = step("copy", to);
        // One step in a folder, two on S3: where the end is to come between them there are two everywhere.
        if self.steps.ends_between(&copy) {
            self.at(&copy, self.link(from, to)).await?;
            return self.inner.delete(from).await;
        }
        self.at(&step("rename", to), self.inner.rename_opts(from, to, options)).await
    }
}

/// An upload in parts, which appears when it is completed.
#[derive(Debug)]
struct CrashUpload {
    upload: Box<dyn MultipartUpload>,
    step: String,
    steps: Arc<Steps>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for CrashUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.steps.reach(&self.step, Side::Before);
        let done = self.upload.complete().await?;
        self.steps.reach(&self.step, Side::After);
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_step_is_named_by_what_is_done_to_what() {
        let run_id = Uuid::nil();
        let named = |key: Key, payload: &'static str| put_step(&key.path(), &payload.into());
        assert_eq!(named(Key::Entry(1), "{}"), "put-entry");
        assert_eq!(named(Key::Journal { run_id, seq: 0 }, r#"{"intent": {"span": 0, "cids": []}}"#), "put-intent");
        assert_eq!(named(Key::Journal { run_id, seq: 0 }, "damaged"), "put-record");
        assert_eq!(step("delete", &Key::Staged { run_id, file: "a".into() }.path()), "delete-staged");
        assert_eq!(parse("put-entry:after#2"), Some(("put-entry".to_owned(), Side::After, 2)));
        assert_eq!(parse("put-entry:between#2"), None);
    }
}
