//! What a run wants to commit, and what of it still stands when the log has grown meanwhile. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::entry::{Action, Cover, DataFile, Removed};
use super::state::{Covered, State};
use crate::error::{Error, Kind, Result};
#[cfg(test)]
use crate::simulation::planted::{self, Bug};
use crate::window::Window;

/// Something to be committed exactly once.
pub trait Commit {
    /// Unique; the same when the same is committed again.
    fn commit_id(&self) -> Uuid;

    /// What of it still stands, with the log as it is now.
    fn rebase(&self, state: &State) -> Result<Rebased>;
}

/// What a run wants to commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Unique; the same when the same proposal is committed again.
    pub commit_id: Uuid,
    /// New cells, or old ones.
    pub mode: Mode,
    /// The cells, disjoint.
    pub covers: Vec<Cover>,
    /// The files, staged. A file of a cell names exactly the window of one of the covers.
    pub add: Vec<DataFile>,
    /// Where automatic sync begins, if this is its first commit.
    pub origin: Option<Timestamp>,
}

/// Whether cells may be covered already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Cells that nobody has covered.
    Extend,
    /// Cells that are exported again.
    Replace {
        /// [`State::next`] when the old files were read: what was replaced since then was not taken into account.
        read_at: u64,
    },
    /// Cells that get rows beside those that they have, if they have any.
    Merge {
        /// The same: what came since then would be lost, so that the run begins anew.
        read_at: u64,
    },
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log.
    Committed {
        /// The entry.
        entry: u64,
        /// Cells that were left out, since other runs have covered them or exported them later.
        superseded: Vec<Window>,
        /// Whether readers of plain files see it too; if not, the next run settles it.
        settled: bool,
    },
    /// Other runs have covered all of it.
    AlreadyCovered {
        /// The last entry that covers part of it.
        by_entry: u64,
    },
    /// Other runs have exported all of it later.
    Stale {
        /// The last entry that is newer.
        by_entry: u64,
    },
}

/// A proposal against the log as it is now.
#[derive(Debug, PartialEq)]
pub enum Rebased {
    /// It is in the log already.
    Landed {
        /// The entry.
        entry: u64,
    },
    /// Nothing of it is left to do.
    Nothing(Outcome),
    /// What to put.
    Actions {
        /// In this order.
        actions: Vec<Action>,
        /// Cells that are left out.
        superseded: Vec<Window>,
    },
}

impl Commit for Proposal {
    fn commit_id(&self) -> Uuid {
        self.commit_id
    }

    fn rebase(&self, state: &State) -> Result<Rebased> {
        rebase(state, self)
    }
}

enum Standing {
    Stands,
    Covered(u64),
    Stale(u64),
}

/// What of `proposal` still stands. Files to remove come from `state`, never from what the run once read.
pub(crate) fn rebase(state: &State, proposal: &Proposal) -> Result<Rebased> {
    if let Some(entry) = state.entry_of(proposal.commit_id) {
        return Ok(Rebased::Landed { entry });
    }
    check(proposal)?;
    let mut standing = Vec::new();
    let mut superseded = Vec::new();
    let mut nothing = Outcome::AlreadyCovered { by_entry: 0 };
    for cover in &proposal.covers {
        match stand(state, proposal.mode, cover)? {
            Standing::Stands => standing.push(cover),
            Standing::Covered(by_entry) => {
                superseded.push(cover.window);
                nothing = Outcome::AlreadyCovered { by_entry };
            }
            Standing::Stale(by_entry) => {
                superseded.push(cover.window);
                nothing = Outcome::Stale { by_entry };
            }
        }
    }
    if standing.is_empty() {
        return Ok(Rebased::Nothing(nothing));
    }
    let origin = proposal.origin.filter(|_| state.origin().is_none()).map(Action::Origin);
    let removed: BTreeSet<&str> = standing
        .iter()
        .filter(|cover| !cover.keep_files)
        .flat_map(|cover| state.files_of(cover.window))
        .map(|live| live.file.id.as_str())
        .collect();
    let stands = |file: &&DataFile| file.cell.is_none_or(|cell| standing.iter().any(|cover| cover.window == cell));
    let actions = origin
        .into_iter()
        .chain(standing.iter().map(|cover| Action::Cover((*cover).clone())))
        .chain(removed.into_iter().map(|id| Action::Remove(Removed { id: id.to_owned() })))
        .chain(proposal.add.iter().filter(stands).map(|file| Action::Add(file.clone())))
        .collect();
    Ok(Rebased::Actions { actions, superseded })
}

fn stand(state: &State, mode: Mode, cover: &Cover) -> Result<Standing> {
    let window = cover.window;
    let old: Vec<&Covered> = state.covers_in(window).collect();
    let meanwhile = |what: &str| {
        Err(Error::new(Kind::Temporary, format!("{what} `{window}` meanwhile")).hint("run the same command again"))
    };
    let Some(last) = old.iter().map(|covered| covered.entry).max() else {
        // Its files were lost before they were settled, so there is nothing to keep.
        return if cover.keep_files { meanwhile("the entry was undone that covered") } else { Ok(Standing::Stands) };
    };
    let read_at = match mode {
        // Of a cell that is covered in part the rest is left to the next run.
        Mode::Extend => return Ok(Standing::Covered(last)),
        #[cfg(test)]
        Mode::Replace { .. } if planted::is(Bug::OlderReplacesNewer) => return Ok(Standing::Stands),
        Mode::Merge { read_at } if last >= read_at => return meanwhile("another run has added to"),
        Mode::Merge { read_at } | Mode::Replace { read_at } => read_at,
    };
    if let Some(newer) = old.iter().filter(|covered| !is_older(&covered.cover, cover)).map(|c| c.entry).max() {
        return Ok(Standing::Stale(newer));
    }
    if last >= read_at {
        return meanwhile("another run has replaced");
    }
    if let Some(cut) = old.iter().find(|covered| !window.covers(&covered.cover.window)) {
        let message =
            format!("`{window}` is part of the cell `{}`, which can only be replaced whole", cut.cover.window);
        return Err(Error::new(Kind::Usage, message).hint("widen the range to whole cells"));
    }
    Ok(Standing::Stands)
}

/// Whether an export may take another's place: only one that Stream began later.
pub(super) fn is_older(old: &Cover, new: &Cover) -> bool {
    #[cfg(test)]
    if planted::is(Bug::OlderReplacesNewer) {
        return true;
    }
    old.exported_at < new.exported_at
}

/// A proposal that contradicts itself is a bug of whoever made it: better found here than in the log.
fn check(proposal: &Proposal) -> Result<()> {
    let bug = |reason: String| Err(Error::new(Kind::Internal, format!("a commit was put together wrongly: {reason}")));
    if proposal.covers.is_empty() {
        return bug("it covers nothing".to_owned());
    }
    let mut windows: Vec<Window> = proposal.covers.iter().map(|cover| cover.window).collect();
    windows.sort_unstable();
    if let Some(pair) = windows.windows(2).find(|pair| pair[0].overlaps(&pair[1])) {
        return bug(format!("`{}` and `{}` overlap", pair[0], pair[1]));
    }
    let written: BTreeSet<Window> =
        proposal.covers.iter().filter(|cover| !cover.keep_files).map(|cover| cover.window).collect();
    let mut ids = BTreeSet::new();
    for file in &proposal.add {
        if !file.is_well_named() || !ids.insert(&file.id) {
            return bug(format!("`{}` is no place for a file, or names it twice", file.key()));
        }
        if file.cell.is_some_and(|cell| !written.contains(&cell)) {
            return bug(format!("`{}` belongs to no cell that is written", file.key()));
        }
    }
    Ok(())
}
