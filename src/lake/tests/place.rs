//! The stores that the contract is checked on. Those that are servers are there when `./test` has started them.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use tempfile::TempDir;
use uuid::Uuid;

use crate::lake::store::{self, Env, process_env};

/// A kind of store.
pub(super) struct Place {
    kind: Kind,
    /// A check that goes through every operation of a commit takes only each n-th: a server answers slowly.
    pub(super) step: usize,
}

enum Kind {
    Memory,
    Disk(TempDir),
    Server { env: Env, bucket: String },
}

impl Place {
    pub(super) fn memory() -> Option<Self> {
        Some(Self { kind: Kind::Memory, step: 1 })
    }

    pub(super) fn disk() -> Option<Self> {
        Some(Self { kind: Kind::Disk(tempfile::tempdir().unwrap()), step: 3 })
    }

    /// Ceph's gateway, or the server that `CHATLAKE_TEST_S3_ENDPOINT` names.
    pub(super) fn radosgw() -> Option<Self> {
        let (env, bucket) = radosgw()?;
        Some(Self { kind: Kind::Server { env, bucket }, step: 11 })
    }

    /// moto, which knows more refusals than real servers are easily brought to.
    pub(super) fn moto() -> Option<Self> {
        let (env, bucket) = moto()?;
        Some(Self { kind: Kind::Server { env, bucket }, step: 11 })
    }

    /// A bucket of moto's in which everything that was written or deleted once is kept as a version.
    pub(super) async fn versioned_moto() -> Option<Self> {
        let (env, _) = moto()?;
        let (bucket, client) = ("chatlake-versioned", reqwest::Client::builder().no_proxy().build().unwrap());
        let url = format!("{}/{bucket}", env["AWS_ENDPOINT_URL"]);
        let status = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        // One that is there already is refused, and as good.
        client.put(&url).send().await.unwrap();
        client.put(format!("{url}?versioning")).body(status).send().await.unwrap().error_for_status().unwrap();
        Some(Self { kind: Kind::Server { env, bucket: bucket.to_owned() }, step: 11 })
    }

    /// Where a new lake can be opened, and with what.
    pub(super) fn location(&self) -> (String, Env) {
        match &self.kind {
            Kind::Memory => panic!("a lake in memory has no location"),
            Kind::Disk(folder) => (folder.path().join(Uuid::now_v7().to_string()).display().to_string(), Env::new()),
            Kind::Server { env, bucket } => (format!("s3://{bucket}/lake-tests/{}", Uuid::now_v7()), env.clone()),
        }
    }

    /// An empty one.
    pub(super) async fn store(&self) -> Arc<dyn ObjectStore> {
        if matches!(self.kind, Kind::Memory) {
            return Arc::new(InMemory::new());
        }
        let (location, env) = self.location();
        store::open(&location, &env).await.unwrap().store
    }
}

/// The settings and the bucket of the real server.
pub(super) fn radosgw() -> Option<(Env, String)> {
    let mut env = process_env();
    let (endpoint, bucket) = (env.remove("CHATLAKE_TEST_S3_ENDPOINT")?, env.remove("CHATLAKE_TEST_S3_BUCKET")?);
    env.insert("AWS_ENDPOINT_URL".to_owned(), endpoint);
    Some((env, bucket))
}

/// The settings and the bucket of moto, which takes any credentials.
pub(super) fn moto() -> Option<(Env, String)> {
    let endpoint = process_env().remove("CHATLAKE_TEST_MOTO_ENDPOINT")?;
    let settings = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "anybody"),
        ("AWS_SECRET_ACCESS_KEY", "anything"),
        ("AWS_REGION", "us-east-1"),
    ];
    Some((settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(), "chatlake-test".to_owned()))
}
