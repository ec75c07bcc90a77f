//! A store that fails on command: before an operation is done, or after it, with the answer lost. Or it lets something
//! else happen just before an operation.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// How the chosen operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not done.
    Before,
    /// It is done, and the answer is an error.
    After,
    /// It is not done, and nothing works any more.
    CrashBefore,
    /// It is done, and nothing works any more.
    CrashAfter,
}

#[derive(Default)]
struct Plan {
    seen: usize,
    at: Option<(usize, Fault)>,
    meanwhile: Option<(usize, BoxFuture<'static, ()>)>,
    happened: bool,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({} {:?})", self.seen, self.at)
    }
}

/// Counts operations and fails one of them. A rename is a copy and a delete, as on S3.
#[derive(Clone, Debug)]
pub(super) struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
    /// Accepts put-if-absent and overwrites, as some stores do.
    pub(super) ignores_conditions: bool,
}

impl FaultStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, plan: Arc::default(), ignores_conditions: false }
    }

    /// Fails the operation that comes after `operations` more.
    pub(super) fn fail(&self, operations: usize, fault: Fault) {
        *self.plan.lock().unwrap() = Plan { at: Some((operations, fault)), ..Plan::default() };
    }

    /// Does this after `operations` more, before the next.
    pub(super) fn meanwhile(&self, operations: usize, what: BoxFuture<'static, ()>) {
        *self.plan.lock().unwrap() = Plan { meanwhile: Some((operations, what)), ..Plan::default() };
    }

    /// Operations so far.
    pub(super) fn operations(&self) -> usize {
        self.plan.lock().unwrap().seen
    }

    /// Whether the operation to fail has come.
    pub(super) fn happened(&self) -> bool {
        self.plan.lock().unwrap().happened
    }

    /// Counts an operation: whether it is to be done, and whether its answer is to be lost.
    fn next(&self) -> (bool, bool) {
        let mut plan = self.plan.lock().unwrap();
        let number = plan.seen;
        plan.seen += 1;
        let Some((at, fault)) = plan.at else { return (true, false) };
        if number == at {
            plan.happened = true;
            return match fault {
                Fault::Before | Fault::CrashBefore => (false, true),
                Fault::After | Fault::CrashAfter => (true, true),
            };
        }
        let crashed = number > at && matches!(fault, Fault::CrashBefore | Fault::CrashAfter);
        (!crashed, crashed)
    }

    async fn guard<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let meanwhile = {
            let mut plan = self.plan.lock().unwrap();
            let seen = plan.seen;
            plan.meanwhile.take_if(|(at, _)| *at == seen)
        };
        if let Some((_, meanwhile)) = meanwhile {
            self.plan.lock().unwrap().happened = true;
            meanwhile.await;
        }
        let (done, lost) = self.next();
        if !done {
            return Err(fault());
        }
        let result = operation.await;
        if lost { Err(fault()) } else { result }
    }
}

fn fault() -> Error {
    Error::Generic { store: "fault", source: "connection reset".into() }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        if self.ignores_conditions {
            options.mode = PutMode::Overwrite;
        }
        self.guard(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.guard(self.inner.put_multipart_opts(at, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.guard(self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    let one = futures::stream::iter([Ok(location.clone())]).boxed();
                    let delete = async { store.inner.delete_stream(one).next().await.unwrap_or(Ok(location)) };
                    store.guard(delete).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let list = async move { store.guard(async { Ok(store.inner.list(prefix.as_ref())) }).await };
        futures::stream::once(list).try_flatten().boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix, offset) = (self.clone(), prefix.cloned(), offset.clone());
        let list =
            async move { store.guard(async { Ok(store.inner.list_with_offset(prefix.as_ref(), &offset)) }).await };
        futures::stream::once(list).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.guard(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.guard(self.inner.copy_opts(from, to, options)).await
    }
}
