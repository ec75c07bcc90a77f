//! The store as one process sees it: objects in memory, behind a network that delays and loses.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::actor::Actor;
use super::check::Reader;
use crate::lake::Key;

/// A store that every process shares, seen by one of them. A rename is a copy and a delete, as on S3.
#[derive(Clone)]
pub(super) struct SimulatedStore {
    objects: Arc<InMemory>,
    actor: Actor,
    reader: Arc<Reader>,
}

impl SimulatedStore {
    pub(super) fn new(objects: &Arc<InMemory>, actor: &Actor, reader: &Arc<Reader>) -> Self {
        Self { objects: Arc::clone(objects), actor: actor.clone(), reader: Arc::clone(reader) }
    }

    /// What readers see has changed, or may have.
    async fn changed(&self, at: &Path) {
        if matches!(Key::parse(at), Some(Key::Entry(_) | Key::Data { .. } | Key::Staged { .. })) {
            self.reader.look(at.as_ref()).await;
        }
    }

    async fn step<T>(&self, what: impl FnOnce() -> String, operation: impl Future<Output = Result<T>>) -> Result<T> {
        self.actor.step(what, Some(failure), operation).await
    }
}

fn failure() -> Error {
    Error::Generic { store: "simulation", source: "connection reset".into() }
}

impl fmt::Debug for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedStore({})", self.actor.name)
    }
}

#[async_trait]
impl ObjectStore for SimulatedStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = async {
            let key = Key::parse(at);
            let record: Option<Vec<u8>> =
                matches!(key, Some(Key::Journal { .. })).then(|| payload.iter().flatten().copied().collect());
            let result = self.objects.put_opts(at, payload, options).await?;
            if let (Some(Key::Journal { seq, .. }), Some(record)) = (&key, record) {
                self.reader.wrote(&self.actor.name, *seq, &record);
            }
            if matches!(key, Some(Key::Entry(_))) {
                self.changed(at).await;
            }
            Ok(result)
        };
        self.step(|| format!("put {at}"), put).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.step(|| format!("upload {at}"), self.objects.put_multipart_opts(at, options)).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.step(|| format!("get {at}"), self.objects.get_opts(at, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |at| {
                let store = store.clone();
                async move {
                    let at = at?;
                    let one = futures::stream::iter([Ok(at.clone())]).boxed();
                    let delete = async {
                        let deleted = store.objects.delete_stream(one).next().await.unwrap_or(Ok(at.clone()));
                        store.changed(&at).await;
                        deleted
                    };
                    store.step(|| format!("delete {at}"), delete).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let list = async move {
            let what = format!("list {}", prefix.as_ref().map_or("", Path::as_ref));
            let list = async {
                if prefix.as_ref() == Some(&Key::journals()) {
                    store.reader.listed(&store.actor.name);
                }
                Ok(store.objects.list(prefix.as_ref()))
            };
            store.step(|| what, list).await
        };
        futures::stream::once(list).try_flatten().boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix, offset) = (self.clone(), prefix.cloned(), offset.clone());
        let list = async move {
            let what = format!("list after {offset}");
            store.step(|| what, async { Ok(store.objects.list_with_offset(prefix.as_ref(), &offset)) }).await
        };
        futures::stream::once(list).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.step(|| "list folders".to_owned(), self.objects.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copy = async {
            self.objects.copy_opts(from, to, options).await?;
            self.changed(to).await;
            Ok(())
        };
        self.step(|| format!("copy {from} {to}"), copy).await
    }
}
