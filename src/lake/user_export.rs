//! That users were exported, as the log has it. Such a commit covers no cell: it adds files of what the users had on a day, and
//! names the runs whose exports these are, so that of two that go on with the same dead run one is committed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry::{Action, DataFile, Lists};
use super::proposal::{Commit, Outcome, Rebased};
use super::state::State;
use crate::error::{Error, Kind, Result};
use crate::kinds::Kinds;

/// Users were exported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UserExport {
    /// The run that put it.
    pub run_id: Uuid,
    /// The runs whose exports these are: its own, and those that it has gone on with. None of them is committed twice.
    pub runs: BTreeSet<Uuid>,
    /// The creation of the earliest export task.
    pub exported_at: Timestamp,
    /// Users that were asked for.
    pub asked: u64,
    /// Users of whom anything came.
    pub returned: u64,
    /// How many Stream does not know.
    pub missing: u64,
    /// How many could not be exported.
    pub failed: u64,
    /// Which, and the export tasks, unless they are aside.
    #[serde(flatten)]
    pub lists: Lists,
    /// The name and the hash of the object that has the lists, where they were too long for the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists_aside: Option<String>,
    /// Lines by kind.
    pub lines: BTreeMap<String, u64>,
    /// Rows by dataset.
    pub rows: BTreeMap<String, u64>,
    /// Lines that went to quarantine.
    pub rejected: u64,
    /// Lines of kinds that have no dataset, by what they say they are.
    #[serde(default, skip_serializing_if = "Kinds::is_empty")]
    pub other_kinds: Kinds,
    /// Bytes downloaded.
    pub bytes_downloaded: u64,
}

/// What the fold remembers of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedUsers {
    /// The entry's number.
    pub entry: u64,
    /// The entry's commit id.
    pub commit_id: Uuid,
    /// The runs whose exports these are.
    pub runs: BTreeSet<Uuid>,
    /// The creation of the earliest export task.
    pub exported_at: Timestamp,
    /// Users that were asked for.
    pub asked: u64,
    /// How many Stream does not know.
    pub missing: u64,
    /// How many could not be exported.
    pub failed: u64,
}

/// What a run wants to commit.
#[derive(Clone, Debug, PartialEq)]
pub struct UserProposal {
    /// Unique; the same when the same proposal is committed again.
    pub commit_id: Uuid,
    /// What was exported.
    pub export: UserExport,
    /// The files, staged.
    pub add: Vec<DataFile>,
}

impl UserExport {
    /// What the fold remembers of it.
    pub(super) fn remembered(&self, entry: u64, commit_id: Uuid) -> ExportedUsers {
        let Self { runs, exported_at, asked, missing, failed, .. } = self;
        ExportedUsers {
            entry,
            commit_id,
            runs: runs.clone(),
            exported_at: *exported_at,
            asked: *asked,
            missing: *missing,
            failed: *failed,
        }
    }
}

impl Commit for UserProposal {
    fn commit_id(&self) -> Uuid {
        self.commit_id
    }

    /// All of it still stands, unless one of its runs was committed, by itself or by another that has gone on with it.
    fn rebase(&self, state: &State) -> Result<Rebased> {
        if let Some(entry) = state.entry_of(self.commit_id) {
            return Ok(Rebased::Landed { entry });
        }
        if let Some(done) = state.exported_by(&self.export.runs) {
            return Ok(Rebased::Nothing(Outcome::AlreadyCovered { by_entry: done.entry }));
        }
        if let Some(file) = self.add.iter().find(|file| !file.is_well_named() || file.cell.is_some()) {
            let message = format!("a commit was put together wrongly: `{}` is no place for a file", file.key());
            return Err(Error::new(Kind::Internal, message));
        }
        let export = std::iter::once(Action::UserExport(self.export.clone()));
        let actions = export.chain(self.add.iter().cloned().map(Action::Add)).collect();
        Ok(Rebased::Actions { actions, superseded: Vec::new() })
    }
}
