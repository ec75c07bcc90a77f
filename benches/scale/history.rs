//! The hours of an app, one after the other: for each a run as a scheduler starts it, on a lake in memory.

use std::sync::Arc;
use std::time::Duration;

use chatlake::cpu::Cpu;
use chatlake::lake::{Cover, Lake, Mode, Proposal, State};
use chatlake::pipeline::channels::Channels;
use chatlake::plan::{Rules, Span};
use chatlake::progress::Progress;
use chatlake::settings::Settings;
use chatlake::sync::{Job, Run};
use chatlake::window::{Grid, Window};
use futures::TryStreamExt;
use jiff::SignedDuration;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use uuid::Uuid;

use super::Result;
use super::app::{App, Asked};
use super::cost::{process_cpu, thread_cpu};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Runs start so long after an hour has settled.
const LATE: SignedDuration = SignedDuration::from_secs(10);

/// An app and its lake.
pub(crate) struct History {
    pub(crate) app: App,
    pub(crate) lake: Lake,
    store: Arc<InMemory>,
    settings: Settings,
    hours: i64,
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunCost {
    /// CPU beside decoding, sorting and encoding, and without the app's answers.
    pub(crate) cpu: Duration,
    /// CPU of those.
    pub(crate) data_cpu: Duration,
    /// Of the app's clock.
    pub(crate) took: SignedDuration,
    /// What it asked the app for.
    pub(crate) asked: Asked,
}

/// What parts of a run take, each on its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartCosts {
    /// Reading the state: snapshot and the entries after it.
    pub(crate) state: Duration,
    /// What is missing, due, and to be asked for again.
    pub(crate) planning: Duration,
    /// Finding the channels of an hour.
    pub(crate) discovery: Duration,
    /// Committing an hour.
    pub(crate) commit: Duration,
}

impl History {
    /// Nothing has happened yet.
    pub(crate) fn of(channels: u64) -> Result<Self> {
        let app = App::new(channels);
        let store = Arc::new(InMemory::new());
        let lake = Lake::new(store.clone(), "memory".to_owned());
        let defaults = Settings::default();
        // What is exported again for its late changes is data.
        let rules = Rules { grid: Grid::new(HOUR)?, revisit: Vec::new(), ..defaults.rules };
        let settings = Settings { rules, start: Some(App::begun_at()), ..defaults };
        Ok(Self { app, lake, store, settings, hours: 0 })
    }

    /// The next hour passes, and a run brings it in.
    pub(crate) async fn hour(&mut self) -> Result<RunCost> {
        let due = self.pass().await?;
        let client = self.app.client()?;
        let (begun_at, before) = (App::now(), self.app.asked());
        let (process, thread) = (process_cpu(), thread_cpu());
        let progress = Progress::new(false);
        let run = Run::new(&client, &self.lake, &self.settings, &progress);
        let (summary, error) = run.execute(Job::Sync, std::future::pending()).await;
        let (process, thread) = (process_cpu() - process, thread_cpu() - thread);
        if let Some(error) = error {
            return Err(error.into());
        }
        if summary.frontier != Some(due.until) {
            return Err(format!("{due} is not covered: {summary:?}").into());
        }
        let after = self.app.asked();
        let asked = Asked {
            queries: after.queries - before.queries,
            exports: after.exports - before.exports,
            channels: after.channels - before.channels,
            polls: after.polls - before.polls,
            cpu: after.cpu - before.cpu,
        };
        let cpu = thread.saturating_sub(asked.cpu);
        let took = App::now().duration_since(begun_at);
        Ok(RunCost { cpu, data_cpu: process.saturating_sub(thread), took, asked })
    }

    /// The next hour passes and settles.
    async fn pass(&mut self) -> Result<Window> {
        let hour = self.next_hour()?;
        self.hours += 1;
        let left = (hour.until + self.settings.rules.settle + LATE).duration_since(App::now());
        tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
        Ok(hour)
    }

    fn next_hour(&self) -> Result<Window> {
        let since = App::begun_at() + HOUR * i32::try_from(self.hours)?;
        Ok(Window::new(since, since + HOUR)?)
    }

    /// What the parts of the next run would take. Nothing of it stays.
    pub(crate) async fn parts(&self) -> Result<PartCosts> {
        let lake = Lake::new(Arc::new(self.store.fork()), "memory".to_owned());
        let begun = thread_cpu();
        let mut state = lake.state().await?;
        let read = thread_cpu() - begun;

        let begun = thread_cpu();
        let rules = &Rules { revisit: Settings::default().rules.revisit, ..self.settings.rules.clone() };
        let now = App::now();
        let planned = rules.resume(rules.due(&state, None, now), &[]).len()
            + rules.revisits(&state, now).len()
            + rules.exceptions(&state, None, Some(now)).count();
        let planning = thread_cpu() - begun;
        std::hint::black_box(planned);

        // The last hour again: its channels are those that a run finds now.
        let last = state.covers().next_back().ok_or("an empty lake")?.cover.clone();
        let client = self.app.client()?;
        client.hello().await?;
        let (begun, before) = (thread_cpu(), self.app.asked());
        let span = Span::declared(vec![last.window], false);
        let mut channels = Channels::of(&client, &lake, &state, &self.settings, &span, Cpu::Inline).await?;
        while channels.next().await?.is_some() {}
        let discovery = (thread_cpu() - begun).saturating_sub(self.app.asked().cpu - before.cpu);

        let proposal = proposal(&lake, &state, &last).await?;
        let begun = thread_cpu();
        lake.commit(&mut state, &proposal).await?;
        Ok(PartCosts { state: read, planning, discovery, commit: thread_cpu() - begun })
    }

    /// Sizes of the objects below a folder of the lake.
    pub(crate) async fn sizes(&self, folder: &Path) -> Result<Vec<u64>> {
        Ok(self.store.list(Some(folder)).map_ok(|object| object.size).try_collect().await?)
    }
}

/// The next hour as one like the last, with files as small as they can be.
async fn proposal(lake: &Lake, state: &State, last: &Cover) -> Result<Proposal> {
    let window = Window { since: last.window.until, until: last.window.until + HOUR };
    let run_id = Uuid::now_v7();
    let mut record = last.record.clone();
    record.lists = lake.lists(&last.record).await?;
    record.lists_aside = None;
    // Other tasks than those of the last hour, or their list would be there already.
    record.lists.task_ids.iter_mut().for_each(|task_id| *task_id = task_id.replace('0', "f"));
    let exported_at = last.exported_at + HOUR;
    let cover = Cover { window, run_id, exported_at, record, ..last.clone() };
    let mut add = Vec::new();
    for live in state.files_of(last.window).chain(state.files().filter(|live| live.file.cell.is_none()).take(3)) {
        let mut file = live.file.clone();
        file.id = Uuid::now_v7().simple().to_string();
        file.run_id = run_id;
        file.cell = file.cell.map(|_| window);
        let mut staged = lake.stage(run_id, &file.id)?;
        staged.write("PAR1".into()).await?;
        staged.finish().await?;
        add.push(file);
    }
    Ok(Proposal { commit_id: Uuid::now_v7(), mode: Mode::Extend, covers: vec![cover], add, origin: None })
}
