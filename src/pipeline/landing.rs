//! What is staged becomes a commit, and the summary says what came of it.

use std::collections::BTreeMap;

use super::{Exported, Pipeline, StagedUsers};
use crate::decode::Tally;
use crate::error::Result;
use crate::lake::{Changes, Commit, Cover, DataFile, Outcome, Revisit, State};
use crate::summary::{CellStatus, CellSummary, Summary};
use crate::window::Window;

impl Pipeline<'_> {
    /// Commits a span. Staged files that nobody will read go away.
    pub async fn land(&self, state: &mut State, exported: &Exported, summary: &mut Summary) -> Result<()> {
        let proposal = &exported.proposal;
        let windows: Vec<Window> = proposal.covers.iter().map(|cover| cover.window).collect();
        let span = Window { since: windows[0].since, until: windows[windows.len() - 1].until };
        let removed: Vec<String> = windows
            .iter()
            .filter(|window| !exported.unchanged.contains(window))
            .flat_map(|window| state.files_of(*window))
            .map(|live| folder(&live.file))
            .collect();
        let outcome = self.commit(state, proposal, &proposal.add).await?;
        let (committed, superseded) = match outcome {
            Outcome::Committed { entry, superseded, settled } => {
                summary.frontier = state.frontier();
                tracing::info!(entry, settled, window = %span, cells = windows.len(), "committed");
                (Some(entry), superseded)
            }
            Outcome::AlreadyCovered { by_entry } | Outcome::Stale { by_entry } => {
                tracing::info!(by_entry, window = %span, "another run was faster");
                (None, windows)
            }
        };
        let lost = |file: &&DataFile| file.cell.is_some_and(|cell| superseded.contains(&cell));
        let (lost, added): (Vec<&DataFile>, Vec<&DataFile>) = proposal.add.iter().partition(lost);
        if committed.is_some() {
            self.discard(lost).await;
            summary.partitions_changed.extend(removed);
            added.into_iter().for_each(|file| add(file, summary));
        } else {
            self.discard(&proposal.add).await;
        }
        count(exported, committed, &superseded, summary);
        Ok(())
    }

    /// Commits what users have been exported. Staged files that nobody will read go away.
    pub async fn land_users(&self, state: &mut State, staged: &StagedUsers, summary: &mut Summary) -> Result<Outcome> {
        let StagedUsers { proposal, tally, .. } = staged;
        let outcome = self.commit(state, proposal, &proposal.add).await?;
        if let Outcome::Committed { entry, settled, .. } = outcome {
            tracing::info!(entry, settled, users = proposal.export.asked, "committed");
            proposal.add.iter().for_each(|file| add(file, summary));
            count_lines(tally, summary);
        } else {
            self.discard(&proposal.add).await;
        }
        Ok(outcome)
    }

    /// Commits. If that fails for certain, the staged files go away.
    async fn commit(&self, state: &mut State, proposal: &impl Commit, add: &[DataFile]) -> Result<Outcome> {
        let error = match self.lake.commit(state, proposal).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        // An answer may have been lost: a staged file is only garbage if the commit is certain not to stand.
        if self.lake.state().await.is_ok_and(|state| state.entry_of(proposal.commit_id()).is_none()) {
            self.discard(add).await;
        }
        Err(error)
    }
}

fn add(file: &DataFile, summary: &mut Summary) {
    summary.partitions_changed.insert(folder(file));
    let dataset = summary.datasets.entry(file.dataset.clone()).or_default();
    dataset.rows += file.rows;
    dataset.files += 1;
    dataset.bytes += file.bytes;
}

fn count(exported: &Exported, entry: Option<u64>, superseded: &[Window], summary: &mut Summary) {
    let mut written: BTreeMap<Window, CellFiles> = BTreeMap::new();
    for (cell, file) in exported.proposal.add.iter().filter_map(|file| Some((file.cell?, file))) {
        let written = written.entry(cell).or_default();
        written.files += 1;
        written.bytes += file.bytes;
    }
    for cover in &exported.proposal.covers {
        let status = if superseded.contains(&cover.window) {
            CellStatus::Superseded
        } else if exported.unchanged.contains(&cover.window) {
            CellStatus::Unchanged
        } else {
            CellStatus::Committed
        };
        summary.cells.push(CellSummary::of(cover, status));
        if status != CellStatus::Superseded {
            summary.vanished += cover.record.vanished;
            cover.revisit().iter().for_each(|found| summary.revisited.add(found));
            tell(cover, status, entry, written.get(&cover.window).copied().unwrap_or_default());
        }
    }
    let requests = &exported.requests;
    count_lines(&exported.tally, summary);
    summary.missing_channels.extend(requests.missing.iter().cloned());
    summary.failed_channels.extend(requests.failed.keys().cloned());
}

/// The files of a cell.
#[derive(Clone, Copy, Default)]
struct CellFiles {
    files: u64,
    bytes: u64,
}

/// One event for a cell that this run has brought in, with its figures.
fn tell(cover: &Cover, status: CellStatus, entry: Option<u64>, written: CellFiles) {
    let Cover { window, exported_at, record, .. } = cover;
    let rows = |dataset: &str| record.rows.get(dataset).copied().unwrap_or(0);
    let changes = |of: fn(&Revisit) -> &Changes| cover.revisit().map(|found| of(found).to_string());
    tracing::info!(
        %window,
        status = status.name(),
        entry,
        %exported_at,
        messages = rows("messages"),
        reactions = rows("reactions"),
        files = written.files,
        bytes = written.bytes,
        channels_asked = record.channels_asked,
        channels_returned = record.channels_returned,
        channels_missing = record.missing_channels(),
        channels_failed = record.failed_channels(),
        rejected = record.rejected,
        vanished = record.vanished,
        messages_changed = changes(|found| &found.messages),
        reactions_changed = changes(|found| &found.reactions),
        "cell"
    );
}

fn count_lines(tally: &Tally, summary: &mut Summary) {
    summary.rejected += tally.rejected;
    summary.unclassified.extend(&tally.unclassified);
    summary.out_of_window += tally.out_of_window;
    summary.rescued += tally.rescued;
    summary.duplicate_keys += tally.duplicate_keys;
    summary.reactions_truncated += tally.cut_reactions.len() as u64;
}

fn folder(file: &DataFile) -> String {
    format!("{}/{}", file.dataset, file.partition)
}
