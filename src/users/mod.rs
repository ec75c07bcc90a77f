//! A run over users: what Stream has of each of them, into folders of its own.
//!
//! It is a look at one moment. So what a run that died had asked for is gone on with for a day, and after that asked for anew; and a
//! run that ends in order is followed by one that asks for everything again.

pub mod ids;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{Instrument, error_span};
use uuid::Uuid;

use crate::columns::{Columns, Schemas};
use crate::cpu::Cpu;
use crate::error::{Error, Kind, Result};
use crate::export::{Client, Endpoint};
use crate::figures::count;
use crate::journal::{self, BegunUsers, Journal, UsersRecord};
use crate::lake::entry::Action;
use crate::lake::{ExportedUsers, FailedUser, Identity, Lake, Outcome, Source, State};
use crate::pipeline::{AskingUsers, Counts, Pipeline};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::summary::{CellStatus, Summary, UsersSummary};

/// How long a run that is stopped waits for answers that are on their way.
const LONGEST_STOP: Duration = Duration::from_secs(4);

/// One run. Of the settings it takes those of files and limits.
pub struct UsersRun<'a> {
    client: &'a Client,
    lake: &'a Lake,
    settings: &'a Settings,
    user_ids: BTreeSet<String>,
    per_request: usize,
    progress: &'a Progress,
    summary: Summary,
    journal: Arc<Journal>,
    cpu: Cpu,
    counts: Arc<Counts>,
}

impl<'a> UsersRun<'a> {
    /// A run that has done nothing yet. It asks for so many users in one request.
    pub fn new(
        client: &'a Client,
        lake: &'a Lake,
        settings: &'a Settings,
        user_ids: BTreeSet<String>,
        per_request: usize,
        progress: &'a Progress,
    ) -> Self {
        let users = UsersSummary { asked: user_ids.len() as u64, ..UsersSummary::default() };
        let summary = Summary { user_exports: Some(users), ..Summary::new(lake, settings.single_writer) };
        let journal = Arc::new(Journal::new(lake, summary.run_id));
        let (cpu, counts) = (Cpu::Threads, Arc::default());
        Self { client, lake, settings, user_ids, per_request, progress, summary, journal, cpu, counts }
    }

    /// The same, with everything on the thread that asks.
    #[cfg(test)]
    pub(crate) fn inline(mut self) -> Self {
        self.cpu = Cpu::Inline;
        self
    }

    /// Does it, unless `stop` says why to stop. The summary tells what was done, whether or not there is an error.
    pub async fn execute(self, stop: impl Future<Output = Error>) -> (Summary, Option<Error>) {
        let span = error_span!("users", run_id = %self.summary.run_id);
        self.execute_in_span(stop).instrument(span).await
    }

    async fn execute_in_span(mut self, stop: impl Future<Output = Error>) -> (Summary, Option<Error>) {
        let begun = Instant::now();
        let result = tokio::select! {
            biased;
            result = self.job() => result,
            error = stop => Err(error),
        };
        let error = match result {
            Ok(failed) => {
                self.journal.end().await;
                failed
            }
            Err(error) => {
                // Answers that are on their way are waited for and written down, whatever ends the run.
                self.journal.quiet(LONGEST_STOP).await;
                Some(error)
            }
        };
        self.progress.finish();
        self.summary.asked(self.client, &self.counts);
        self.summary.end(begun.elapsed(), error.as_ref());
        (self.summary, error)
    }

    /// What would be asked for, without asking.
    pub async fn plan(&self) -> Result<PlannedUsers> {
        self.check_identity().await?;
        self.client.hello().await?;
        // Not every app's key may ask for them; what a plan says then is for the documented ones.
        if let Err(error) = self.client.rate_limits().await {
            tracing::debug!(%error, "the app's rate limits are not known");
        }
        let requests = self.user_ids.len().div_ceil(self.per_request);
        let minutes = requests as f64 / self.client.pace_per_minute(Endpoint::ExportUsers);
        Ok(PlannedUsers { users: self.user_ids.len(), requests, minutes })
    }

    /// Yields what could not be exported, when the rest is committed.
    async fn job(&mut self) -> Result<Option<Error>> {
        let identity = self.check_identity().await?;
        let mut state = self.lake.state().await?;
        self.lake.refuse_a_lost_log(&mut state).await?;
        // A run that died after its put has left files where no reader looks, and an entry that is not known to stand.
        self.lake.settle(&mut state).await?;
        let now = self.client.stream_now().unwrap_or_else(crate::clock::now);
        let begun = self.begun(now).await?;
        let runs: BTreeSet<Uuid> = begun.iter().map(|begun| begun.run_id).collect();
        if let Some(done) = state.exported_by(&runs).cloned() {
            // That run died after its commit, or is about to end.
            journal::forget_users(self.lake, &begun).await?;
            return self.already_committed(&done).await;
        }
        let now = self.client.hello().await?.at;
        if !self.settings.single_writer {
            self.lake.require_conditional_put(self.summary.run_id).await?;
        }
        self.lake.ensure_identity(&identity).await?;
        let wanted = |old: &Columns| old.with(&self.settings.columns);
        self.lake.change_columns(&mut state, wanted).await?;
        self.export(&mut state, self.wanted(now), begun).await
    }

    async fn export(
        &mut self,
        state: &mut State,
        wanted: UsersRecord,
        begun: Vec<BegunUsers>,
    ) -> Result<Option<Error>> {
        let schemas = Schemas::new(&state.columns().columns.with(&self.settings.columns)?)?.of_users();
        let pipeline = Pipeline {
            lake: self.lake,
            source: Source::Stream,
            settings: self.settings,
            schemas: &schemas,
            run_id: self.summary.run_id,
            progress: self.progress,
            cpu: self.cpu,
        };
        let asking = AskingUsers {
            client: self.client,
            journal: &self.journal,
            begun: &begun,
            counts: &self.counts,
            per_request: self.per_request,
        };
        self.progress.span(format!("exporting {} users", wanted.user_ids.len()));
        tracing::info!(users = wanted.user_ids.len(), "exporting");
        let staged = pipeline.export_users(&asking, wanted).await?;
        let outcome = pipeline.land_users(state, &staged, &mut self.summary).await?;
        journal::forget_users(self.lake, &begun).await?;
        match outcome {
            Outcome::Committed { .. } => {
                let users = self.summary.user_exports.get_or_insert_default();
                users.status = Some(CellStatus::Committed);
                users.returned = staged.proposal.export.returned;
                users.missing = staged.missing;
                users.failed = staged.failed;
                Ok(could_not(&users.failed))
            }
            Outcome::AlreadyCovered { by_entry } | Outcome::Stale { by_entry } => {
                tracing::info!(by_entry, "another run was faster");
                let done = state.user_exports().find(|export| export.entry == by_entry).cloned();
                match done {
                    Some(done) => self.already_committed(&done).await,
                    None => Err(Error::new(Kind::Temporary, "another run has committed and was undone meanwhile")
                        .hint("run the same command again")),
                }
            }
        }
    }

    /// Says what another run has committed, with these users.
    async fn already_committed(&mut self, done: &ExportedUsers) -> Result<Option<Error>> {
        let entry = self.lake.entry(done.entry).await?;
        let export = entry.into_iter().flat_map(|entry| entry.actions).find_map(|action| match action {
            Action::UserExport(export) => Some(export),
            _ => None,
        });
        let Some(export) = export else {
            return Err(Error::new(Kind::Data, format!("entry {} is not what it was", done.entry))
                .hint("the log is never edited: see `chatlake verify`"));
        };
        let lists = self.lake.user_lists(&export).await?;
        let users = self.summary.user_exports.get_or_insert_default();
        users.status = Some(CellStatus::AlreadyCommitted);
        users.returned = export.returned;
        users.missing = lists.missing_users.into_iter().collect();
        let failed = lists.failed_users.into_iter();
        users.failed = failed.map(|FailedUser { user_id, reason }| (user_id, reason)).collect();
        Ok(could_not(&users.failed))
    }

    fn wanted(&self, now: Timestamp) -> UsersRecord {
        UsersRecord { begun_at: now, user_ids: self.user_ids.clone() }
    }

    /// What runs over the same users have begun and not ended, as far as it is news.
    async fn begun(&self, now: Timestamp) -> Result<Vec<BegunUsers>> {
        let (_, mut begun) = journal::begun(self.lake, self.summary.run_id).await?;
        let wanted = self.wanted(now);
        begun.retain(|begun| begun.serves(&wanted));
        Ok(begun)
    }

    /// What the lake is, or is to become. Which channels it selects does not matter here.
    async fn check_identity(&self) -> Result<Identity> {
        let url = self.lake.display_url();
        let app_key = self.client.app_key();
        let Some(found) = self.lake.identity().await? else { return Ok(Settings::default().identity(app_key)) };
        if found.source == Source::Files {
            return Err(Error::new(Kind::Usage, format!("the lake at {url} is made of files"))
                .hint("choose another --lake: one that `sync` keeps, or a place where there is none yet"));
        }
        found.check(&Identity { app_key: app_key.to_owned(), ..found.clone() }, url)?;
        Ok(found)
    }
}

/// What became of the users who could not be exported.
fn could_not(failed: &BTreeMap<String, String>) -> Option<Error> {
    let (user_id, reason) = failed.iter().next()?;
    let message = format!("{} could not be exported, such as `{user_id}`: {reason}", count(failed.len(), "user"));
    Some(Error::new(Kind::ExportFailed, message).hint(
        "the rest is committed; of a user with more than 10,000 messages Stream exports nothing: its support can, or `chatlake sync` \
         brings in the channels",
    ))
}

/// What would be asked for.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct PlannedUsers {
    /// Users.
    pub users: usize,
    /// Export requests.
    pub requests: usize,
    /// Minutes until the last of them may be made, at the share of the app's rate limit.
    pub minutes: f64,
}

impl std::fmt::Display for PlannedUsers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (users, requests) = (count(self.users, "user"), count(self.requests, "request"));
        let minutes = self.minutes;
        write!(
            f,
            "{users}, {requests}, {minutes:.1} minutes at this share of the app's rate limit; nothing was exported"
        )
    }
}
