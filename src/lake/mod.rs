//! The lake: where everything lies, whose it is, and the log that says what is in it.
//!
//! ```text
//! stage files  ->  put entry N  ->  settle: move files to where readers look
//!                    | lost: read what others put, rebase, put N+1
//! ```
//! The truth is the log: entries are put if absent, never changed, and [`State`] is their fold. At most the last entry is
//! unsettled, since whoever puts an entry settles the one before first.

pub mod entry;
pub mod identity;
pub mod layout;
pub mod proposal;
pub mod revisit;
pub mod snapshot;
pub mod staging;
pub mod state;
pub mod store;
pub(crate) mod store_error;
pub mod user_export;

mod commit;
mod log;
mod requests;
mod settle;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::{GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use uuid::Uuid;

pub use self::entry::{CellRecord, Cover, DataFile, Exception, FailedUser, Lists};
pub use self::identity::{Identity, Include, Selection, Source};
pub use self::layout::Key;
pub use self::proposal::{Commit, Mode, Outcome, Proposal};
pub use self::revisit::{Ages, Changes, Revisit};
pub use self::staging::{Parts, StagedObject, StagedWriter};
pub use self::state::{Covered, Live, State};
pub use self::store::{Env, process_env};
use self::store_error::store_error;
pub use self::user_export::{ExportedUsers, UserExport, UserProposal};
use crate::error::{Error, Kind, Result};

/// What to do about a data file that is gone or damaged.
pub(crate) const REPAIR: &str = "restore it from a version or a backup; or export its cell again with `chatlake sync --replace`, which \
                                 keeps nothing of it that Stream does not deliver any more";

/// A lake on object storage.
#[derive(Clone, Debug)]
pub struct Lake {
    store: Arc<dyn ObjectStore>,
    display_url: String,
    /// Where it is, when it is a folder of this machine.
    folder: Option<PathBuf>,
    single_writer: bool,
    pause: Duration,
}

impl Lake {
    /// Opens `s3://bucket/prefix`, `file:///folder` or a path, and looks whether it answers. Nothing is created.
    pub async fn open(location: &str, env: &Env) -> Result<Self> {
        let store::Opened { store, folder, display_url } = store::open(location, env).await?;
        #[cfg(debug_assertions)]
        let store = crate::crash::guarded(store, env);
        let lake = Self { folder, ..Self::new(store, display_url) };
        match lake.store.list(Some(&Key::log())).next().await.transpose() {
            Ok(_) => Ok(lake),
            Err(error) => Err(store_error("cannot open the lake", &lake.display_url, error)),
        }
    }

    /// A lake at the root of a store.
    pub fn new(store: Arc<dyn ObjectStore>, display_url: String) -> Self {
        Self { store, display_url, folder: None, single_writer: false, pause: Duration::from_millis(200) }
    }

    /// The same lake for a run that accepts a store without conditional writes: its entries say so.
    #[must_use]
    pub fn with_single_writer(self, single_writer: bool) -> Self {
        Self { single_writer, ..self }
    }

    /// Whether entries are put by a run that relies on being alone.
    fn is_single_writer(&self) -> bool {
        self.single_writer
    }

    /// The folder, when the lake is one on this machine.
    pub fn folder(&self) -> Option<&FsPath> {
        self.folder.as_deref()
    }

    /// Where it is, for people: without any credential.
    pub fn display_url(&self) -> &str {
        &self.display_url
    }

    /// The store; the lake is its root.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// How long to wait before an entry is put again; doubles each time.
    fn pause(&self) -> Duration {
        self.pause
    }

    /// Refuses a store that does not honour put-if-absent.
    pub async fn require_conditional_put(&self, probe_id: Uuid) -> Result<()> {
        if self.probe_conditional_put(probe_id).await? {
            return Ok(());
        }
        let message = format!("the store of {} ignores conditional writes (If-None-Match)", self.display_url);
        Err(Error::new(Kind::UnsafeStore, message).hint(
            "two runs at once would overwrite each other's commits: choose another store, or, if only one run ever \
             writes to this lake, accept it with --single-writer",
        ))
    }

    /// Whether the store honours put-if-absent: many accept the header and ignore it, so only a trial tells.
    pub async fn probe_conditional_put(&self, probe_id: Uuid) -> Result<bool> {
        let key = Key::Probe(probe_id).path();
        let put = || self.store.put_opts(&key, "{}".into(), PutOptions::from(PutMode::Create));
        let cannot = |error| store_error("cannot test conditional writes", &self.display_url, error);
        match put().await {
            // Our own first attempt, when the store's client has repeated it.
            Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
            Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                return Ok(false);
            }
            Err(error) => return Err(cannot(error)),
        }
        let second = put().await;
        self.delete(vec![key.clone()]).await?;
        match second {
            Ok(_) => Ok(false),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(true),
            Err(error) => Err(cannot(error)),
        }
    }

    /// Opens a live file, settled or not.
    pub async fn read(&self, file: &DataFile) -> Result<GetResult> {
        // The final key is tried again last: the file may have moved there between the two looks.
        for key in [file.key(), file.staged_key(), file.key()] {
            match self.store.get(&key.path()).await {
                Err(object_store::Error::NotFound { .. }) => {}
                found => return found.map_err(|error| store_error("cannot read a file", &self.display_url, error)),
            }
        }
        if !self.state().await?.files().any(|live| live.file.id == file.id) {
            return Err(Error::new(Kind::Temporary, format!("another run has replaced `{}` meanwhile", file.key()))
                .hint("run the same command again"));
        }
        Err(Error::new(Kind::Data, format!("`{}` is gone, and the log says it is live", file.key())).hint(REPAIR))
    }
}
