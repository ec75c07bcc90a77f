//! Committing: settle what is pending, rebase on the log as it is, put, settle. Losing a race is a new round, not an error.

use std::collections::HashSet;

use object_store::{ObjectStoreExt, PutPayload};
use uuid::Uuid;

use super::Lake;
use super::entry::{Action, CellRecord, Entry, Lists, ListsAside, READER_VERSION};
use super::layout::Key;
use super::log::Put;
use super::proposal::{Commit, Outcome, Rebased};
use super::state::State;
use super::store_error::store_error;
use super::user_export::UserExport;
use crate::columns::Columns;
use crate::error::{Error, Kind, Result};

/// Rounds of losing the race for the next entry. Each one means that another run has committed.
const ROUNDS: u32 = 100;
/// Elements that a cell's lists may have within an entry, and so in every state and snapshot from then on: a few, or a cell of an app
/// with two thousand active channels, which takes 80 tasks, would weigh five times as much as one of an app with twenty.
const MAX_INLINE: usize = 10;

impl Lake {
    /// Commits what still stands of `proposal`, exactly once: after an error it may be committed again as it is. On
    /// success `state` is the log with this entry in it.
    pub async fn commit(&self, state: &mut State, proposal: &impl Commit) -> Result<Outcome> {
        self.refresh(state).await?;
        for _ in 0..ROUNDS {
            self.settle(state).await?;
            let (mut actions, superseded) = match proposal.rebase(state)? {
                Rebased::Landed { entry } => {
                    return Ok(Outcome::Committed { entry, superseded: Vec::new(), settled: true });
                }
                Rebased::Nothing(outcome) => return Ok(outcome),
                Rebased::Actions { actions, superseded } => (actions, superseded),
            };
            let mut put = HashSet::new();
            for action in &mut actions {
                match action {
                    Action::Cover(cover) => self.put_lists_aside(&mut cover.record, &mut put).await?,
                    Action::UserExport(export) => {
                        export.lists_aside = self.put_if_long(&mut export.lists, &mut put).await?.map(|(name, _)| name);
                    }
                    _ => {}
                }
            }
            let number = state.next();
            let entry = Entry {
                reader_version: READER_VERSION,
                number,
                commit_id: proposal.commit_id(),
                settled: number - 1,
                single_writer: self.is_single_writer(),
                actions,
                columns: None,
            };
            // A rule that this breaks must not reach the log, where it could never be repaired.
            state.check(&entry).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
            if self.put_entry(&entry).await? == Put::Lost {
                self.refresh(state).await?;
                continue;
            }
            state.apply(&entry)?;
            self.snapshot_if_due(state).await;
            let settled = match self.settle(state).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(
                        entry = number,
                        error = error.report(),
                        "committed, but not settled: the next run will"
                    );
                    false
                }
            };
            if self.was_voided(state, number).await? {
                return Err(Error::new(
                    Kind::Temporary,
                    "files of this commit were deleted before it was settled, it was undone",
                )
                .hint("run the same command again, and let no other program or lifecycle rule touch `_chatlake/`"));
            }
            return Ok(Outcome::Committed { entry: number, superseded, settled });
        }
        Err(Error::new(Kind::Temporary, "other runs keep committing to this lake").hint("run the same command again"))
    }

    /// Makes the lake's columns what `wanted` makes of them, before files have them. Nothing is put if they are that already.
    pub async fn change_columns(
        &self,
        state: &mut State,
        wanted: impl Fn(&Columns) -> Result<Columns>,
    ) -> Result<Columns> {
        self.refresh(state).await?;
        let commit_id = Uuid::now_v7();
        for _ in 0..ROUNDS {
            self.settle(state).await?;
            let old = &state.columns().columns;
            let columns = wanted(old)?;
            if columns == *old {
                return Ok(columns);
            }
            let changes = old.changes(&columns);
            let number = state.next();
            let entry = Entry {
                reader_version: READER_VERSION,
                number,
                commit_id,
                settled: number - 1,
                single_writer: self.is_single_writer(),
                actions: Vec::new(),
                columns: Some(columns),
            };
            if self.put_entry(&entry).await? == Put::Landed {
                state.apply(&entry)?;
                self.snapshot_if_due(state).await;
                changes
                    .iter()
                    .for_each(|change| tracing::info!(entry = number, %change, "the columns of the lake change"));
            } else {
                self.refresh(state).await?;
            }
        }
        Err(Error::new(Kind::Temporary, "other runs keep changing the columns of this lake")
            .hint("give all of them the same --config"))
    }

    /// Whether an entry was undone. Only the very next one can do that.
    async fn was_voided(&self, state: &State, number: u64) -> Result<bool> {
        if state.next() == number + 1 {
            return Ok(false);
        }
        let voids = |action: &Action| matches!(action, Action::Void(void) if void.entry == number);
        Ok(self.entry(number + 1).await?.is_some_and(|next| next.actions.iter().any(voids)))
    }

    /// The lists of a cell, wherever they are.
    pub async fn lists(&self, record: &CellRecord) -> Result<Lists> {
        match &record.lists_aside {
            None => Ok(record.lists.clone()),
            Some(aside) => self.required_lists(&aside.xxh3).await,
        }
    }

    /// The lists of a user export, wherever they are.
    pub async fn user_lists(&self, export: &UserExport) -> Result<Lists> {
        match &export.lists_aside {
            None => Ok(export.lists.clone()),
            Some(name) => self.required_lists(name).await,
        }
    }

    async fn required_lists(&self, name: &str) -> Result<Lists> {
        self.lists_aside(name).await?.ok_or_else(|| {
            Error::new(Kind::Data, format!("`{}` is gone, and the log refers to it", Key::Lists(name.to_owned())))
                .hint("restore it from a version or a backup of the bucket")
        })
    }

    /// Lists that are an object of their own; none when it is gone.
    pub(crate) async fn lists_aside(&self, name: &str) -> Result<Option<Lists>> {
        let key = Key::Lists(name.to_owned());
        let cannot = |error| store_error("cannot read the lists of an entry", self.display_url(), error);
        match self.store().get(&key.path()).await {
            Ok(found) => Lists::from_json(name, &found.bytes().await.map_err(cannot)?).map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(cannot(error)),
        }
    }

    /// Moves lists of a cell that are too long for an entry to an object of their own. `put` has the names of those that are there.
    pub(crate) async fn put_lists_aside(&self, record: &mut CellRecord, put: &mut HashSet<String>) -> Result<()> {
        if let Some((name, lists)) = self.put_if_long(&mut record.lists, put).await? {
            // Whoever decides when to ask for them again need not open one object for each cell.
            if lists.failed_channels.len() <= MAX_INLINE {
                record.lists.failed_channels.clone_from(&lists.failed_channels);
            }
            record.lists_aside = Some(ListsAside {
                xxh3: name,
                missing_channels: lists.missing_channels.len() as u64,
                failed_channels: lists.failed_channels.len() as u64,
                task_ids: lists.task_ids.len() as u64,
            });
        }
        Ok(())
    }

    /// Takes lists that are too long for an entry and makes an object of them. It is named by content, so that cells share it.
    async fn put_if_long(&self, lists: &mut Lists, put: &mut HashSet<String>) -> Result<Option<(String, Lists)>> {
        if lists.len() <= MAX_INLINE {
            return Ok(None);
        }
        let lists = std::mem::take(lists);
        let (name, bytes) = lists.to_json();
        if put.insert(name.clone()) {
            self.store()
                .put(&Key::Lists(name.clone()).path(), PutPayload::from(bytes))
                .await
                .map_err(|error| store_error("cannot write the lists of an entry", self.display_url(), error))?;
        }
        Ok(Some((name, lists)))
    }
}
