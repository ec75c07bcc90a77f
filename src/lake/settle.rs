//! After the put: files go where readers look, replaced ones go away. Every step may be done twice, by anyone.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use uuid::Uuid;

use super::Lake;
use super::entry::{Action, DataFile, Entry, READER_VERSION, Void};
use super::log::Put;
use super::state::{Pending, State};
use super::store_error::store_error;
use crate::error::{Error, Kind, Result};
#[cfg(test)]
use crate::simulation::planted::{self, Bug};

/// Files that are moved or looked for at once.
const AT_ONCE: usize = 16;
/// How often another run may get in between before this one gives up.
const ATTEMPTS: u32 = 100;

/// What became of the files that an entry added.
#[derive(Default)]
struct Moved {
    /// How many were still in staging.
    from_staging: usize,
    /// Those that are neither staged nor where readers look.
    lost: Vec<DataFile>,
}

/// Whether what is lost of an export of users, none of whose files belongs to a cell, is what a retention takes away: folders as a
/// whole, and some are left.
fn is_retention(pending: &Pending, moved: &Moved) -> bool {
    let folder = |file: &DataFile| (file.dataset.clone(), file.partition.clone());
    let is_lost = |file: &&DataFile| moved.lost.iter().any(|lost| lost.id == file.id);
    let left: HashSet<_> = pending.added.iter().filter(|file| !is_lost(file)).map(folder).collect();
    !left.is_empty() && moved.lost.iter().all(|file| !left.contains(&folder(file)))
}

enum Place {
    Staging,
    Final,
    Nowhere,
}

impl Lake {
    /// Finishes the last entry, whoever put it. An entry whose files were lost before they were moved is voided: its cells are as
    /// before.
    pub async fn settle(&self, state: &mut State) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some(pending) = state.pending() else { return Ok(()) };
            let entry = pending.entry;
            let moved = self.move_files(pending).await?;
            if !moved.lost.is_empty() {
                // Another run may have settled it and gone on, and then replaced the very file that is missing here.
                self.refresh(state).await?;
                let Some(pending) = state.pending().filter(|pending| pending.entry == entry) else { continue };
                let files: Vec<String> = moved.lost.iter().map(|file| file.key().to_string()).collect();
                if !self.was_settled(pending, &moved).await? {
                    tracing::error!(
                        entry,
                        ?files,
                        "committed files are gone before they were settled: voiding their entry"
                    );
                    self.void(state).await?;
                    continue;
                }
                tracing::error!(entry, ?files, "committed files are gone: `chatlake verify` tells what to do");
            }
            if let Some(pending) = state.pending() {
                self.clear(pending).await?;
            }
            state.mark_settled();
            return Ok(());
        }
        Err(Error::new(Kind::Temporary, "other runs keep committing to this lake").hint("run the same command again"))
    }

    /// Moves files to where readers look.
    async fn move_files(&self, pending: &Pending) -> Result<Moved> {
        #[cfg(test)]
        if planted::is(Bug::DeleteBeforeRename) {
            self.delete(pending.removed.iter().map(|live| live.file.key().path()).collect()).await?;
        }
        let mut moves = futures::stream::iter(pending.added.clone())
            .map(|file| async move { self.move_file(&file).await.map(|found| (file, found)) })
            .buffer_unordered(AT_ONCE);
        let mut moved = Moved::default();
        while let Some((file, found)) = moves.next().await.transpose()? {
            match found {
                Place::Staging => moved.from_staging += 1,
                Place::Final => {}
                Place::Nowhere => moved.lost.push(file),
            }
        }
        Ok(moved)
    }

    /// Deletes what the entry has replaced. To be called when its own files are there: until then the old ones are what readers
    /// have. Of a void the staged files go first, so that nobody moves them after their final ones are gone.
    async fn clear(&self, pending: &Pending) -> Result<()> {
        let removed = pending.removed.iter().map(|live| &live.file);
        let staged = pending.discarded.iter().chain(&pending.added).map(|file| file.staged_key().path());
        let last = pending.discarded.iter().chain(removed).map(|file| file.key().path());
        if pending.discarded.is_empty() {
            return self.delete(last.chain(staged).collect()).await;
        }
        self.delete(staged.collect()).await?;
        self.delete(last.collect()).await
    }

    /// Whether the entry had been settled when files of it went away. Then a file of it is a loss like any other, and not a reason
    /// to undo the rest: what it replaced is gone, since that goes only when all new files are there. An entry that replaced
    /// nothing does not tell; a file that belongs to no cell may have outlived its retention.
    async fn was_settled(&self, pending: &Pending, moved: &Moved) -> Result<bool> {
        if moved.from_staging > 0 {
            return Ok(false);
        }
        for live in &pending.removed {
            if self.is_there(&live.file).await? {
                return Ok(false);
            }
        }
        if pending.exports_users() {
            return Ok(is_retention(pending, moved));
        }
        let expired = || moved.lost.len() < pending.added.len() && moved.lost.iter().all(|file| file.cell.is_none());
        Ok(!pending.removed.is_empty() || expired())
    }

    /// Moves a file from staging to its final key, unless that has happened. Yields where it was.
    async fn move_file(&self, file: &DataFile) -> Result<Place> {
        let (staged, last) = (file.staged_key().path(), file.key().path());
        if self.is_there(file).await? {
            return Ok(Place::Final);
        }
        match self.store().rename(&staged, &last).await {
            Ok(()) => Ok(Place::Staging),
            // Another run moved it between the two looks; or it is gone.
            Err(object_store::Error::NotFound { .. }) if self.is_there(file).await? => Ok(Place::Final),
            Err(object_store::Error::NotFound { .. }) => Ok(Place::Nowhere),
            Err(error) => Err(store_error("cannot move a file to where readers look", self.display_url(), error)),
        }
    }

    /// Whether an object is where readers look for this file. Whether it is the file is for others to tell: `chatlake verify`.
    async fn is_there(&self, file: &DataFile) -> Result<bool> {
        match self.store().head(&file.key().path()).await {
            Ok(_) => Ok(true),
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
            columns: None,
        };
        match self.put_entry(&entry).await? {
            Put::Landed => Ok(state.apply(&entry)?),
            Put::Lost => self.refresh(state).await,
        }
    }
}
