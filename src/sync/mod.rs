//! The main job: decide, export, commit, and say what was done.

mod mistakes;
mod preview;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tracing::{Instrument, error_span};

use self::mistakes::Ahead;
pub use self::preview::PlannedSpan;
use crate::columns::{Columns, Schemas};
use crate::cpu::Cpu;
use crate::error::{Error, Kind, Result};
use crate::export::Client;
use crate::figures::count;
use crate::journal::{self, Begun, Journal};
use crate::lake::{Covered, Lake, Source, State};
use crate::pipeline::{Asking, Counts, Pipeline};
use crate::plan::{Fill, Span, most_clock_offset};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::summary::{CellStatus, CellSummary, Summary};
use crate::window::Window;

const NOTHING_COMMITTED: &str = "nothing was ever committed there: if it was made by mistake and no other run is at work, delete its \
                                 `_chatlake/lake.json`, and the next run makes it anew";

/// How long a run that is stopped waits for answers that are on their way, and one that ends by itself.
const LONGEST_STOP: Duration = Duration::from_secs(4);
const LONGEST_ANSWER: Duration = Duration::from_secs(90);

/// Which part of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// The range, or what is new and then the revisits that are due.
    Sync,
    /// The revisits alone.
    Revisit,
    /// This range, newest first and in spans as long as they may be.
    Backfill(Window),
}

/// Tells an error beside the one that the run ends with.
fn tell_other(error: &Error) {
    tracing::error!(error = error.report(), "this failed too");
}

/// One run.
pub struct Run<'a> {
    client: &'a Client,
    lake: &'a Lake,
    settings: &'a Settings,
    progress: &'a Progress,
    summary: Summary,
    journal: Arc<Journal>,
    cpu: Cpu,
    counts: Arc<Counts>,
    /// What runs before this one have asked for and not brought in.
    begun: Vec<Begun>,
    /// The same, of which this run wants nothing.
    given_up: Vec<Begun>,
    /// A span was given up, and the run went on without it.
    has_unfinished_span: bool,
    /// The most telling of several errors.
    error: Option<Error>,
}

impl<'a> Run<'a> {
    /// A run that has done nothing yet.
    pub fn new(client: &'a Client, lake: &'a Lake, settings: &'a Settings, progress: &'a Progress) -> Self {
        let summary = Summary::new(lake, settings.single_writer);
        let journal = Arc::new(Journal::new(lake, summary.run_id));
        Self {
            client,
            lake,
            settings,
            progress,
            summary,
            journal,
            cpu: Cpu::Threads,
            counts: Arc::default(),
            begun: Vec::new(),
            given_up: Vec::new(),
            has_unfinished_span: false,
            error: None,
        }
    }

    /// The same, with everything on the thread that asks.
    #[cfg(test)]
    pub(crate) fn inline(mut self) -> Self {
        self.cpu = Cpu::Inline;
        self
    }

    /// Does the job, or as much of it as is done when `stop` says why to stop. The summary tells what was done, whether or not there
    /// is an error.
    pub async fn execute(self, job: Job, stop: impl Future<Output = Error>) -> (Summary, Option<Error>) {
        let run_id = self.summary.run_id;
        let span = match job {
            Job::Sync => error_span!("sync", %run_id),
            Job::Revisit => error_span!("revisit", %run_id),
            Job::Backfill(_) => error_span!("backfill", %run_id),
        };
        self.execute_in_span(job, stop).instrument(span).await
    }

    async fn execute_in_span(mut self, job: Job, stop: impl Future<Output = Error>) -> (Summary, Option<Error>) {
        let begun = Instant::now();
        let mut stop = pin!(stop);
        let ended = tokio::select! {
            biased;
            result = self.job(job) => Ok(result),
            error = &mut stop => Err(error),
        };
        // Answers that are on their way are waited for and written down, whatever ends the run: what was asked for and not brought in is
        // for the run that comes next.
        match ended {
            Ok(Ok(())) if !self.has_unfinished_span => self.journal.end().await,
            Ok(result) => {
                result.err().into_iter().for_each(|error| self.keep(error));
                self.quiet(stop).await;
            }
            Err(stopped) => {
                self.keep(stopped);
                self.journal.quiet(LONGEST_STOP).await;
            }
        }
        self.progress.finish();
        self.summary.asked(self.client, &self.counts);
        self.summary.end(begun.elapsed(), self.error.as_ref());
        (self.summary, self.error)
    }

    /// Waits until every request in flight is answered, or is given up; for less once it is told to stop.
    async fn quiet(&mut self, stop: Pin<&mut impl Future<Output = Error>>) {
        tokio::select! {
            biased;
            () = self.journal.quiet(LONGEST_ANSWER) => {}
            stopped = stop => {
                let other = self.error.replace(stopped);
                other.into_iter().for_each(|other| tell_other(&other));
                self.journal.quiet(LONGEST_STOP).await;
            }
        }
    }

    /// Keeps the error that decides the exit code, and tells the other.
    fn keep(&mut self, error: Error) {
        let is_weaker = self.error.as_ref().is_some_and(|kept| kept.kind().weight() >= error.kind().weight());
        let other = if is_weaker { Some(error) } else { self.error.replace(error) };
        other.into_iter().for_each(|other| tell_other(&other));
    }

    async fn job(&mut self, job: Job) -> Result<()> {
        let wanted = self.settings.identity(self.client.app_key());
        match self.lake.identity().await? {
            Some(identity) => {
                identity.check_format(self.lake.display_url())?;
                if let Err(error) = identity.check(&wanted, self.lake.display_url()) {
                    let mut state = self.lake.state().await?;
                    self.lake.refuse_a_lost_log(&mut state).await?;
                    return Err(if state.next() == 1 { error.hint(NOTHING_COMMITTED) } else { error });
                }
            }
            None if job == Job::Revisit => {
                return Err(Error::new(Kind::Usage, format!("there is no lake at {}", self.lake.display_url()))
                    .hint("check --lake, or make the lake with `chatlake sync`"));
            }
            None => {}
        }
        let mut state = self.lake.state().await?;
        self.lake.refuse_a_lost_log(&mut state).await?;
        // A run that died after its put has left files where no reader looks, and there may be nothing to commit after it.
        self.lake.settle(&mut state).await?;
        self.summary.frontier = state.frontier();
        match (job, self.settings.range) {
            (Job::Sync, Some(range)) => self.range(&mut state, range).await?,
            (Job::Backfill(range), _) => self.backfill(&mut state, range).await?,
            (Job::Sync, None) => self.automatic(&mut state).await?,
            (Job::Revisit, _) => self.revisits(&mut state, None).await?,
        }
        self.summary.frontier = state.frontier();
        // Another run, of another grid, has covered a part of a cell: what was asked for it serves for the rest.
        let is_lost = |cell: &CellSummary| {
            let window = Window { since: cell.since, until: cell.until };
            cell.status == CellStatus::Superseded && !state.uncovered(window).is_empty()
        };
        self.has_unfinished_span |= self.summary.cells.iter().any(is_lost);
        Ok(())
    }

    /// An explicit range: what of it is not covered, or all of it again.
    async fn range(&mut self, state: &mut State, range: Window) -> Result<()> {
        let rules = &self.settings.rules;
        let now = self.now();
        let spans =
            if self.settings.replace { rules.replacement(state, range, now) } else { rules.missing(state, range) };
        if !self.settings.replace {
            for covered in state.covers_in(range) {
                self.summary.cells.push(CellSummary::of(&covered.cover, CellStatus::AlreadyCommitted));
            }
        }
        let has_exceptions = rules.exceptions(state, Some(range), None).next().is_some();
        if spans.is_empty() && !has_exceptions {
            return Ok(());
        }
        let ends = spans.iter().map(|span| span.window().until).max().unwrap_or(range.until);
        self.begin(state, Some(Ahead { option: "--until", given: range.until, ends })).await?;
        for span in rules.resume(spans, &self.begun) {
            self.settle(span.window().until).await?;
            for span in self.still_missing(state, span).await? {
                self.span(state, &span, None).await?;
            }
        }
        if !self.settings.replace && has_exceptions {
            let cells = rules.exceptions(state, Some(range), None).cloned().collect();
            self.fill(state, cells).await?;
        }
        self.forget(state).await?;
        match state.uncovered(range).first() {
            Some(window) => {
                let message = format!("another run has covered part of a cell meanwhile: `{window}` is left");
                Err(Error::new(Kind::Temporary, message).hint("run the same command again: it brings in what is left"))
            }
            None => Ok(()),
        }
    }

    /// What of the range is not covered, span by span. What other runs bring in meanwhile is left to them.
    async fn backfill(&mut self, state: &mut State, range: Window) -> Result<()> {
        let already = state.covers_in(range).map(|covered| &covered.cover);
        self.summary.cells.extend(already.map(|cover| CellSummary::of(cover, CellStatus::AlreadyCommitted)));
        let rules = &self.settings.rules;
        let has_exceptions = rules.exceptions(state, Some(range), None).next().is_some();
        if state.uncovered(range).is_empty() && !has_exceptions {
            return Ok(());
        }
        let ends = rules.history(state, range, &[]).iter().map(|span| span.window().until).max();
        let ahead = Ahead { option: "--until", given: range.until, ends: ends.unwrap_or(range.until) };
        self.begin(state, Some(ahead)).await?;
        for span in rules.history(state, range, &self.begun) {
            self.settle(span.window().until).await?;
            for span in self.still_missing(state, span).await? {
                self.span(state, &span, None).await?;
            }
        }
        let cells = rules.exceptions(state, Some(range), None).cloned().collect();
        self.fill(state, cells).await?;
        self.forget(state).await
    }

    /// From the frontier to as late as is settled; then the revisits.
    async fn automatic(&mut self, state: &mut State) -> Result<()> {
        // Before anything is written: a lake is what its first run that can begin makes of it.
        if state.origin().is_none() && self.settings.start.is_none() {
            return Err(self.no_start().await?);
        }
        let now = self.begin(state, self.first_start(state)).await?;
        if let Some((origin, start)) = state.origin().zip(self.settings.start).filter(|(origin, start)| start < origin)
        {
            tracing::warn!(%origin, %start, "the lake begins later than --start: `chatlake backfill` brings in what is before");
        }
        let origin = self.settings.start.filter(|_| state.origin().is_none());
        let spans = self.settings.rules.due(state, self.settings.start, now);
        // What is already covered from `start` on needs no export, but the origin is fixed with the first commit.
        for span in self.settings.rules.resume(spans, &self.begun) {
            for span in self.still_missing(state, span).await? {
                let origin = origin.filter(|_| state.origin().is_none());
                self.span(state, &span, origin).await?;
            }
        }
        self.revisits(state, Some(now)).await
    }

    async fn revisits(&mut self, state: &mut State, now: Option<Timestamp>) -> Result<()> {
        if state.covers().next().is_none() {
            return Ok(());
        }
        let now = match now {
            Some(now) => now,
            None => self.begin(state, None).await?,
        };
        let rules = &self.settings.rules;
        let mut refused: Vec<Window> = Vec::new();
        for span in rules.revisits(state, now) {
            self.lake.refresh(state).await?;
            let is_due = |old: &Covered| old.cover.complete_at() < span.fresh_since;
            if !state.covers_in(span.window()).any(is_due) {
                continue;
            }
            match self.span(state, &span, None).await {
                // One damaged day holds up no other.
                Err(error) if error.kind() == Kind::Data => {
                    refused.push(span.window());
                    self.give_up(error);
                }
                result => result?,
            }
        }
        // A day whose exports are looked at again would be asked for anew if it was newer than they are.
        let is_left = |covered: &&Covered| !refused.iter().any(|day| day.covers(&covered.cover.window));
        let cells = rules.exceptions(state, None, Some(now)).filter(is_left).cloned().collect();
        self.fill(state, cells).await?;
        self.forget(state).await
    }

    /// Stream's time, as far as it is known.
    fn now(&self) -> Timestamp {
        self.client.stream_now().unwrap_or_else(crate::clock::now)
    }

    /// What is left of a span by the log as it is now: while this run waited, others may have brought in some of it.
    async fn still_missing(&mut self, state: &mut State, span: Span) -> Result<Vec<Span>> {
        self.lake.refresh(state).await?;
        let window = span.window();
        let fits =
            |covered: &Covered| span.replaces && span.cells.iter().any(|cell| cell.covers(&covered.cover.window));
        if state.covers_in(window).all(fits) {
            return Ok(vec![span]);
        }
        if span.replaces {
            return Ok(self.settings.rules.replacement(state, window, self.now()));
        }
        for covered in state.covers_in(window) {
            let Covered { cover, entry, .. } = covered;
            tracing::info!(entry, window = %cover.window, "another run was faster");
            self.summary.cells.push(CellSummary::of(cover, CellStatus::AlreadyCommitted));
        }
        Ok(self.settings.rules.missing(state, window))
    }

    /// Asks again for the channels that Stream could not export before. All other rows stay as they are.
    async fn fill(&mut self, state: &mut State, cells: Vec<Covered>) -> Result<()> {
        let mut open: Option<Fill> = None;
        for covered in cells {
            // A channel that has failed just now is left to the next run.
            if self.summary.cells.iter().any(|cell| cell.since == covered.cover.window.since && cell.is_done()) {
                continue;
            }
            let failed = match self.lake.lists(&covered.cover.record).await {
                Err(error) if error.kind() == Kind::Data => {
                    self.give_up(error);
                    continue;
                }
                lists => lists?.failed_channels,
            };
            let channels = failed.into_iter().map(|exception| exception.cid).collect();
            let next = Fill::of(state, &covered, channels);
            let joined = match &mut open {
                Some(fill) if !fill.is_begun(&self.begun) => fill.join(next, self.settings.rules.longest_span),
                _ => Err(next),
            };
            if let Err(next) = joined
                && let Some(fill) = open.replace(next)
            {
                self.ask_again(state, fill).await?;
            }
        }
        match open {
            Some(fill) => self.ask_again(state, fill).await,
            None => Ok(()),
        }
    }

    /// Asks for what cells lack. One that is damaged, or that another run has replaced meanwhile, holds up no other.
    async fn ask_again(&mut self, state: &mut State, fill: Fill) -> Result<()> {
        self.lake.refresh(state).await?;
        let before = self.counts.touched();
        let mut failed = None;
        if fill.stands(state) {
            match self.span(state, &fill.span(), None).await {
                Err(error) if error.kind() == Kind::Data => failed = Some(error),
                result => return result,
            }
        }
        // What was refused for its exports would be so for each cell.
        let has_touched = self.counts.touched() > before;
        let parts = fill.apart();
        match failed {
            Some(error) if has_touched || parts.len() == 1 => self.give_up(error),
            _ if parts.len() == 1 => {}
            _ => {
                for part in parts {
                    Box::pin(self.ask_again(state, part)).await?;
                }
            }
        }
        Ok(())
    }

    /// Goes on without something. Its journal is for the run that comes next.
    fn give_up(&mut self, error: Error) {
        self.has_unfinished_span = true;
        self.keep(error);
    }

    /// Deletes what journals say of spans that are brought in. A run that is still at work has more in its own.
    async fn forget(&self, state: &State) -> Result<()> {
        let over =
            self.begun.iter().chain(&self.given_up).filter(|begun| begun.is_over(state)).cloned().collect::<Vec<_>>();
        journal::forget(self.lake, &over).await
    }

    /// Proves credentials, clock and store before anything is asked for or written. Yields Stream's time.
    async fn begin(&mut self, state: &mut State, ahead: Option<Ahead>) -> Result<Timestamp> {
        let hello = self.client.hello().await?;
        let settle = self.settings.rules.settle;
        if let Some(offset) = hello.clock_offset
            && offset.abs() > most_clock_offset(settle)
        {
            // Stream tells whole seconds.
            let side = if offset.is_negative() { "ahead of" } else { "behind" };
            let off = SignedDuration::from_secs(offset.as_secs()).abs();
            let message = format!("the clock of this machine is {off:#} {side} Stream's");
            return Err(Error::new(Kind::Temporary, message)
                .hint("set it by NTP; the limit is half of --settle, which must hide the difference"));
        }
        self.refuse_mistakes(state, ahead, hello.at).await?;
        if !self.settings.single_writer {
            self.lake.require_conditional_put(self.summary.run_id).await?;
        }
        let identity = self.settings.identity(self.client.app_key());
        self.lake.put_channels(&identity.selection, &self.settings.selection.cids).await?;
        self.lake.ensure_identity(&identity).await?;
        let wanted = |old: &Columns| old.with(&self.settings.columns);
        self.lake.change_columns(state, wanted).await?;
        // Whoever replaces a range again, and allows no more, wants other exports than those that were refused. Revisits, which
        // nobody types, look at the same ones until somebody does.
        let asks_anew = self.settings.replace && self.settings.range.is_some();
        self.begun = journal::begun_spans(self.lake, self.summary.run_id).await?;
        if asks_anew {
            (self.given_up, self.begun) =
                journal::part_refused(std::mem::take(&mut self.begun), self.settings.limits());
        }
        Ok(hello.at)
    }

    /// Waits until `until` is old enough.
    async fn settle(&self, until: Timestamp) -> Result<()> {
        loop {
            let now = self.now();
            let left = until.duration_since(self.settings.rules.settled_at(now));
            if left <= SignedDuration::ZERO {
                return Ok(());
            }
            tracing::info!(%until, seconds = left.as_secs() + 1, "waiting until the range has settled");
            self.progress.says(&format!("waiting until {until} has settled"));
            let step = Duration::try_from(left).unwrap_or_default().min(Duration::from_secs(30));
            tokio::time::sleep(step + Duration::from_millis(10)).await;
        }
    }

    /// Exports and commits one span.
    async fn span(&mut self, state: &mut State, span: &Span, origin: Option<Timestamp>) -> Result<()> {
        // A run beside this one may have promoted more since: files that are replaced may have its columns.
        let schemas = Schemas::new(&state.columns().columns.with(&self.settings.columns)?)?;
        let asking = Asking { client: self.client, journal: &self.journal, begun: &self.begun, counts: &self.counts };
        let pipeline = Pipeline {
            lake: self.lake,
            source: Source::Stream,
            settings: self.settings,
            schemas: &schemas,
            run_id: self.summary.run_id,
            progress: self.progress,
            cpu: self.cpu,
        };
        self.progress.span(span.window().to_string());
        tracing::info!(window = %span.window(), cells = span.cells.len(), replaces = span.replaces, "exporting");
        let exported = pipeline.export(&asking, state, span, origin).await?;
        pipeline.land(state, &exported, &mut self.summary).await?;
        if let Some((cid, reason)) = exported.requests.failed.iter().next() {
            let message = format!(
                "{} could not be exported, such as `{cid}`: {reason}",
                count(exported.requests.failed.len(), "channel")
            );
            self.keep(Error::new(Kind::ExportFailed, message).hint(format!(
                "they are recorded as exceptions, and what else there is was committed; runs ask for them again, {}, \
                     `chatlake sync --since {} --until {}` at once",
                if span.only.is_some() { "each time later" } else { "the first in an hour" },
                span.window().since,
                span.window().until
            )));
        }
        Ok(())
    }
}
