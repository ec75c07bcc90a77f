//! After the put: files go where readers look, replaced ones go away. Every step may be done twice, by anyone.

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use uuid::Uuid;

use super::Lake;
use super::entry::{Action, DataFile, Entry, READER_VERSION, Void};
use super::log::Put;
use super::state::{Pending, State};
use super::store::store_error;
use crate::error::{Error, Kind, Result};
#[cfg(test)]
use crate::simulation::planted::{self, Bug};

/// Files that are moved or looked for at once.
const AT_ONCE: usize = 16;
/// How often another run may get in between before this one gives up.
const ATTEMPTS: u32 = 100;

enum Settled {
    /// Readers see exactly what the log says.
    Yes,
    /// This file is neither staged nor where readers look.
    Lost(String),
}

impl Lake {
    /// Finishes the last entry, whoever put it. An entry whose files were lost is voided: its cells are as before.
    pub async fn settle(&self, state: &mut State) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some(pending) = state.pending() else { return Ok(()) };
            let entry = pending.entry;
            let lost = match self.settle_entry(pending).await? {
                Settled::Yes => {
                    state.mark_settled();
                    return Ok(());
                }
                Settled::Lost(key) => key,
            };
            // Another run may have settled it and gone on, and then replaced the very file that is missing here.
            self.refresh(state).await?;
            if state.pending().is_some_and(|pending| pending.entry == entry) {
                tracing::error!(
                    entry,
                    file = lost,
                    "a committed file is gone before it was settled, voiding its entry"
                );
                self.void(state).await?;
            }
        }
        Err(Error::new(Kind::Temporary, "other runs keep committing to this lake").hint("run the same command again"))
    }

    async fn settle_entry(&self, pending: &Pending) -> Result<Settled> {
        #[cfg(test)]
        if planted::is(Bug::DeleteBeforeRename) {
            self.delete(pending.removed.iter().map(|live| live.file.key().path()).collect()).await?;
        }
        let mut moves = futures::stream::iter(pending.added.clone())
            .map(|file| async move { self.move_file(&file).await })
            .buffer_unordered(AT_ONCE);
        while let Some(there) = moves.next().await {
            if let Settled::Lost(key) = there? {
                return Ok(Settled::Lost(key));
            }
        }
        // Only now: until every new file is there, the old ones are what readers have.
        let removed =
            pending.removed.iter().map(|live| &live.file).chain(&pending.discarded).map(|file| file.key().path());
        let staged = pending.added.iter().chain(&pending.discarded).map(|file| file.staged_key().path());
        self.delete(removed.chain(staged).collect()).await?;
        Ok(Settled::Yes)
    }

    /// Moves a file from staging to its final key, unless that has happened.
    async fn move_file(&self, file: &DataFile) -> Result<Settled> {
        let (staged, last) = (file.staged_key().path(), file.key().path());
        if self.is_there(file).await? {
            return Ok(Settled::Yes);
        }
        match self.store().rename(&staged, &last).await {
            Ok(()) => Ok(Settled::Yes),
            // Another run moved it between the two looks; or it is gone.
            Err(object_store::Error::NotFound { .. }) if self.is_there(file).await? => Ok(Settled::Yes),
            Err(object_store::Error::NotFound { .. }) => Ok(Settled::Lost(file.key().to_string())),
            Err(error) => Err(store_error("cannot move a file to where readers look", self.display_url(), error)),
        }
    }

    async fn is_there(&self, file: &DataFile) -> Result<bool> {
        match self.store().head(&file.key().path()).await {
            Ok(found) if found.size == file.bytes => Ok(true),
            Ok(found) => {
                let message = format!("`{}` has {} bytes, the log says {}", file.key(), found.size, file.bytes);
                Err(Error::new(Kind::Data, message).hint("delete that object, then run the same command again"))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(store_error("cannot look for a file", self.display_url(), error)),
        }
    }

    /// Deletes what is there of these.
    pub async fn delete(&self, paths: Vec<Path>) -> Result<()> {
        let mut deleted = self.store().delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(store_error("cannot delete a file", self.display_url(), error)),
            }
        }
        Ok(())
    }

    /// Puts the entry that undoes the last one. Only while it is the last one can its loss be certain: whoever comes next
    /// settles first, so nobody else has removed its files.
    async fn void(&self, state: &mut State) -> Result<()> {
        let Some(pending) = state.pending() else { return Ok(()) };
        let voided = pending.entry;
        let removed: Vec<DataFile> = pending.removed.iter().map(|live| live.file.clone()).collect();
        let lost: Vec<String> = futures::stream::iter(removed)
            .map(|file| async move { self.is_there(&file).await.map(|there| (!there).then_some(file.id)) })
            .buffered(AT_ONCE)
            .try_filter_map(|lost| async move { Ok(lost) })
            .try_collect()
            .await?;
        let entry = Entry {
            reader_version: READER_VERSION,
            number: state.next(),
            commit_id: Uuid::now_v7(),
            settled: state.next() - 1,
            single_writer: self.is_single_writer(),
            actions: vec![Action::Void(Void { entry: voided, lost })],
        };
        match self.put_entry(&entry).await? {
            Put::Landed => Ok(state.apply(&entry)?),
            Put::Lost => self.refresh(state).await,
        }
    }
}
