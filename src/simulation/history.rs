//! One history: runs, people and weather for some days; then everything heals.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use parquet::basic::Compression;
use simulator::switches::Switches;
use simulator::{BadLine, Clock, Config, Effect, Fault, Insertion, Service, Size, World};
use tokio::time::sleep;

use super::actor::{Actor, Trace};
use super::check::{Reader, floor_us};
use super::planted::{self, Bug};
use super::random::{self, Random};
use super::store::SimulatedStore;
use super::stream::SimulatedStream;
use crate::clock;
use crate::columns::{Promoted, Wanted};
use crate::error::{Error, Kind};
use crate::export::{self, Client, Credentials};
use crate::lake::Lake;
use crate::plan::Rules;
use crate::progress::Progress;
use crate::schema;
use crate::settings::Settings;
use crate::summary::Status;
use crate::sync::{Job, Run};
use crate::users::UsersRun;
use crate::window::{Grid, Window, parse_time};
use crate::write::parquet_file::FileOptions;

/// What happened, in numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) runs: u64,
    pub(super) commits: u64,
    pub(super) deaths: u64,
    pub(super) stops: u64,
    pub(super) faults: u64,
    pub(super) exports: u64,
    pub(super) adopted: u64,
    pub(super) vanished: u64,
}

impl Outcome {
    pub(super) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.commits += other.commits;
        self.deaths += other.deaths;
        self.stops += other.stops;
        self.faults += other.faults;
        self.exports += other.exports;
        self.adopted += other.adopted;
        self.vanished += other.vanished;
    }
}

/// A history that was made.
pub(super) struct History {
    pub(super) outcome: Outcome,
    /// What went wrong.
    pub(super) error: Option<String>,
    /// Every step, with names that differ from run to run replaced by numbers.
    pub(super) trace: Vec<String>,
}

impl History {
    /// Makes the history of a seed, with a bug or without.
    pub(super) fn make(seed: u64, bug: Option<Bug>) -> Self {
        planted::plant(bug);
        random::seed_jitter(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (stage, error) = runtime.block_on(async {
            clock::simulated::set(Some(at("2026-01-06T00:00:00Z")));
            let stage = Stage::new(seed);
            let error = tokio::select! {
                biased;
                violation = stage.reader.violation() => Some(violation),
                ended = stage.play() => ended.err(),
            };
            (stage, error)
        });
        clock::simulated::set(None);
        planted::plant(None);
        let mut outcome = stage.outcome.lock().unwrap().clone();
        outcome.commits = stage.reader.state().next() - 1;
        outcome.exports = stage.service.calls_of("ExportChannels").len() as u64;
        outcome.faults += stage.service.calls().iter().filter(|call| call.fault.is_some()).count() as u64;
        Self { outcome, error, trace: number_ids(&stage.trace.take()) }
    }
}

fn at(text: &str) -> Timestamp {
    parse_time(text).unwrap()
}

struct Stage {
    random: Random,
    trace: Trace,
    service: Service,
    objects: Arc<InMemory>,
    reader: Arc<Reader>,
    hard_deleted: Mutex<BTreeSet<String>>,
    outcome: Mutex<Outcome>,
    /// Whether tasks fail, so that the same may be asked for again.
    tasks_fail: bool,
    steps_hours: i64,
}

/// What a run is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    Channels(Job),
    Users(BTreeSet<String>),
}

/// How a run is treated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Treatment {
    Rough,
    Kind,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let random = Random::new(seed);
        let size = Size {
            channels: 2 + usize::try_from(random.below(3)).unwrap(),
            users: 12,
            days: 2,
            messages_per_channel_day: 3,
            odd_channels: false,
            ..Size::default()
        };
        let switches = Switches { task_polls: 1 + u32::try_from(random.below(3)).unwrap(), ..Switches::default() };
        let service = Service::new(Config {
            world: World::seeded(random.below(50), &size),
            switches,
            clock: Clock::Fixed { at: clock::now() },
            ..Config::default()
        });
        let objects = Arc::new(InMemory::new());
        Self {
            reader: Arc::new(Reader::new(&objects)),
            trace: Trace::default(),
            service,
            objects,
            hard_deleted: Mutex::default(),
            outcome: Mutex::default(),
            tasks_fail: random.per_mille(500),
            steps_hours: *random.pick(&[24, 24, 12, 6]),
            random,
        }
    }

    async fn play(&self) -> Result<(), String> {
        let processes = join_all((0..1 + self.random.below(3)).map(|number| self.process(number)));
        let (ended, (), ()) = tokio::join!(processes, self.people(), self.weather());
        ended.into_iter().collect::<Result<(), String>>()?;
        self.heal().await
    }

    /// A scheduler that runs one job after another.
    async fn process(&self, number: u64) -> Result<(), String> {
        for turn in 0..2 + self.random.below(4) {
            sleep(Duration::from_secs(600 + self.random.below(14 * 3600))).await;
            let (work, settings) = if self.random.per_mille(150) {
                (Work::Users(self.some_users()), self.settings())
            } else {
                let (job, settings) = self.some_job();
                (Work::Channels(job), settings)
            };
            self.run(format!("run{number}.{turn}"), work, settings, Treatment::Rough).await?;
        }
        Ok(())
    }

    fn settings(&self) -> Settings {
        let defaults = Settings::default();
        Settings {
            rules: Rules {
                grid: Grid::new(SignedDuration::from_hours(self.steps_hours)).unwrap(),
                revisit: vec![SignedDuration::from_hours(12)],
                ..defaults.rules
            },
            columns: self.columns(),
            channels_per_request: 1 + usize::try_from(self.random.below(3)).unwrap(),
            // A history has few rows, and thousands of histories are made.
            file: FileOptions {
                compression: Compression::UNCOMPRESSED,
                row_group_rows: 1 << 10,
                ..FileOptions::default()
            },
            ..defaults
        }
    }

    /// Runs that were configured differently may follow each other, or run side by side.
    fn columns(&self) -> Wanted {
        let promoted = |kind| Promoted {
            dataset: "messages".to_owned(),
            name: "source".to_owned(),
            kind,
            path: vec!["source".to_owned()],
            active: true,
            doc: None,
            unit: None,
        };
        let promote = match self.random.below(8) {
            0 => vec![promoted(schema::Kind::String)],
            1 => vec![promoted(schema::Kind::Json)],
            _ => Vec::new(),
        };
        Wanted { promote, ..Wanted::default() }
    }

    /// Few choices, so that runs go on with each other.
    fn some_users(&self) -> BTreeSet<String> {
        let count = *self.random.pick(&[3, 7]);
        self.service.world(|world| world.users().keys().take(count).cloned().collect())
    }

    fn some_job(&self) -> (Job, Settings) {
        let days = ["2026-01-05", "2026-01-06", "2026-01-07"];
        let first = usize::try_from(self.random.below(2)).unwrap();
        let last = first + 1 + usize::try_from(self.random.below(2 - first as u64)).unwrap();
        let range = Window::new(at(days[first]), at(days[last])).unwrap();
        match self.random.below(11) {
            0..4 => (Job::Sync, Settings { start: Some(at(days[0])), ..self.settings() }),
            4..7 => (Job::Sync, Settings { range: Some(range), ..self.settings() }),
            7..9 => (Job::Sync, Settings { range: Some(range), replace: true, ..self.settings() }),
            9 => (Job::Backfill(range), self.settings()),
            _ => (Job::Revisit, self.settings()),
        }
    }

    /// One run, to its end or its death. Yields its status.
    async fn run(
        &self,
        name: String,
        work: Work,
        settings: Settings,
        treatment: Treatment,
    ) -> Result<Option<Status>, String> {
        let rough = treatment == Treatment::Rough;
        let lifetime = (rough && self.random.per_mille(450)).then(|| self.random.below(180));
        let faults = if rough { *self.random.pick(&[0, 5, 20, 60]) } else { 0 };
        let actor = Actor::new(name.clone(), &self.random, &self.trace, lifetime, faults);
        let store = SimulatedStore::new(&self.objects, &actor, &self.reader);
        let lake = Lake::new(Arc::new(store), "memory".to_owned());
        let stream = Arc::new(SimulatedStream::new(&self.service, &actor));
        let options = export::Options {
            rate_share: 1.0,
            clock: clock::now,
            random: random::jitter,
            ..export::Options::default()
        };
        let credentials = Credentials::new("simulated-key", "simulated-secret-that-protects-nothing").unwrap();
        let client = Client::over(stream.clone(), stream, credentials, "http://stream.test", options).unwrap();
        let progress = Progress::new(false);
        let stops_after = (rough && self.random.per_mille(100)).then(|| Duration::from_secs(self.random.below(60)));
        let stop = async {
            match stops_after {
                Some(after) => sleep(after).await,
                None => std::future::pending().await,
            }
            Error::new(Kind::Terminated, "stopped by SIGTERM")
        };
        let run = async {
            match &work {
                Work::Channels(job) => {
                    Run::new(&client, &lake, &settings, &progress).inline().execute(*job, stop).await
                }
                Work::Users(ids) => {
                    UsersRun::new(&client, &lake, &settings, ids.clone(), 3, &progress).inline().execute(stop).await
                }
            }
        };
        // Whoever has looked may sleep while another makes one.
        let is_first = self.reader.state().next() == 1;
        let ended = tokio::select! {
            biased;
            () = actor.death() => None,
            ended = run => Some(ended),
        };
        let mut outcome = self.outcome.lock().unwrap();
        outcome.runs += 1;
        outcome.faults += actor.faults();
        let Some((summary, error)) = ended else {
            outcome.deaths += 1;
            self.trace.note(format!("{name} died"));
            return Ok(None);
        };
        outcome.adopted += summary.export_tasks.adopted;
        outcome.vanished += summary.vanished;
        self.trace.note(format!("{name} ended {:?}", summary.status));
        match error {
            None => {
                let state = self.reader.state();
                if let Some(range) = settings.range.filter(|range| !state.uncovered(*range).is_empty()) {
                    return Err(format!("{name} ended well, and {range} is not covered"));
                }
                Ok(Some(summary.status))
            }
            // There is no lake yet.
            Some(error) if work == Work::Channels(Job::Revisit) && error.kind() == Kind::Usage && is_first => {
                Ok(Some(summary.status))
            }
            Some(error) if rough => {
                outcome.stops += u64::from(error.kind() == Kind::Terminated);
                match error.kind() {
                    // A signed URL that is refused again and again is a firewall's doing, as far as a run can tell.
                    Kind::Temporary | Kind::Terminated | Kind::ExportFailed | Kind::Permission => {
                        Ok(Some(summary.status))
                    }
                    kind => Err(format!("{name} ended with {kind:?}: {}", error.report())),
                }
            }
            Some(error) => match error.kind() {
                Kind::Temporary | Kind::ExportFailed => Ok(Some(summary.status)),
                kind => Err(format!("{name} ended with {kind:?}: {}", error.report())),
            },
        }
    }

    /// People go on chatting, editing and deleting.
    async fn people(&self) {
        for _ in 0..self.random.below(14) {
            sleep(Duration::from_secs(self.random.below(8 * 3600))).await;
            let now = floor_us(clock::now());
            let truth = self.service.truth();
            let message = self.random.pick(&truth.messages).clone();
            let is_parent = truth.messages.iter().any(|other| other.parent_id.as_ref() == Some(&message.id));
            let what = self.random.below(6);
            self.trace.note(format!("people {what} {}", message.id));
            self.service
                .world(|world| match what {
                    0 => world.edit(&message.id, "changed my mind", now),
                    1 => world.soft_delete(&message.id, now),
                    2 if !is_parent => {
                        self.hard_deleted.lock().unwrap().insert(message.id.clone());
                        world.hard_delete(&message.id)
                    }
                    3 => world.react(&message.id, "amara", "late", now),
                    _ => world.send(&message.cid, "amara", "and another thing", now).map(drop),
                })
                .unwrap();
        }
    }

    /// Stream has bad moments.
    async fn weather(&self) {
        for _ in 0..self.random.below(16) {
            sleep(Duration::from_secs(self.random.below(6 * 3600))).await;
            let cut = Effect::CutBody { after_bytes: usize::try_from(self.random.below(9_000)).unwrap() };
            let mut faults = vec![
                Fault::status("QueryChannels", 429),
                Fault::status("QueryChannels", 500),
                Fault::on("QueryChannels", Effect::Reset),
                Fault::status("ExportChannels", 429),
                Fault::status("ExportChannels", 503),
                Fault::status("ExportUsers", 500),
                Fault::on("ExportUsers", Effect::LoseAnswer),
                Fault::on("ExportChannels", Effect::Reset),
                Fault::on("ExportChannels", Effect::LoseAnswer),
                Fault::on("GetTask", Effect::LoseAnswer),
                Fault::status("GetTask", 500),
                Fault::on("Download", cut),
                Fault::status("Download", 403),
                Fault::status("Download", 503),
                Fault::on("Download", Effect::NewEtag),
            ];
            if self.tasks_fail {
                let lines = vec![Insertion { at_line: 0, line: BadLine::TruncatedTail { bytes: 30 } }];
                let fails = Effect::FailTask { description: "internal".into() };
                faults.push(Fault::on("ExportChannels", fails.clone()));
                let cid = self.service.world(|world| {
                    let cids: Vec<String> = world.channels().map(|channel| channel.cid()).collect();
                    self.random.pick(&cids).clone()
                });
                let times = 1 + u32::try_from(self.random.below(6)).unwrap();
                faults.push(Fault::on("ExportChannels", fails.clone()).for_channel(&cid).times(times));
                faults.push(Fault::on("ExportUsers", fails));
                faults.push(Fault::on("ExportChannels", Effect::BadLines { lines }));
            }
            let fault = self.random.pick(&faults).clone();
            self.trace.note(format!("weather {fault:?}"));
            self.service.add_fault(fault);
        }
    }

    /// The tasks whose file was refused so often that it must be taken for gone, and asked for anew.
    fn refused_files(&self) -> BTreeSet<String> {
        let mut refusals: HashMap<String, u32> = HashMap::new();
        for call in self.service.calls_of("Download").into_iter().filter(|call| call.status == 403) {
            let task_id = call.path.rsplit('/').next().unwrap_or_default().to_owned();
            *refusals.entry(task_id).or_default() += 1;
        }
        refusals.into_iter().filter(|(_, refusals)| *refusals > 3).map(|(task_id, _)| task_id).collect()
    }

    /// Nothing goes wrong any more, and all of it is brought in once more.
    async fn heal(&self) -> Result<(), String> {
        self.service.clear_faults();
        // Exports that were begun for a replacement serve another for a day.
        sleep(Duration::from_secs(30 * 3600)).await;
        let range = Window::new(at("2026-01-05"), at("2026-01-07")).unwrap();
        let users = self.some_users();
        let first = if self.random.per_mille(500) { Job::Sync } else { Job::Backfill(range) };
        for (name, work) in [
            ("heal", Work::Channels(first)),
            ("heal again", Work::Channels(Job::Sync)),
            ("heal users", Work::Users(users.clone())),
        ] {
            let mut status = None;
            for attempt in 0..6 {
                let settings = Settings { range: Some(range), replace: name == "heal again", ..self.settings() };
                status = self.run(format!("{name}.{attempt}"), work.clone(), settings, Treatment::Kind).await?;
                if !matches!(status, Some(Status::Failed | Status::Partial)) {
                    break;
                }
            }
            if matches!(status, Some(Status::Failed | Status::Partial)) {
                return Err(format!("it does not {name}: {status:?}"));
            }
            if name == "heal" {
                self.reader.check_complete(range, &self.service.truth()).await?;
            }
        }
        self.reader.check_users(&users, &self.service.truth()).await?;
        self.reader.look("healing").await;
        let hard_deleted = self.hard_deleted.lock().unwrap().clone();
        self.reader.check_end(range, &self.service.truth(), &hard_deleted, self.tasks_fail).await?;
        if self.tasks_fail { Ok(()) } else { self.reader.check_paid_once(&self.refused_files()) }
    }
}

/// Ids of runs, files and commits are new in every process: each is named by its first appearance.
fn number_ids(trace: &[String]) -> Vec<String> {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let is_id = |c: char| c.is_ascii_hexdigit() || c == '-';
    let number_line = |line: &String| {
        let mut out = String::new();
        let mut rest = line.as_str();
        while !rest.is_empty() {
            let end = rest.find(|c| !is_id(c)).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            if word.len() >= 32 {
                let next = numbers.len();
                out.push_str(&format!("#{}", numbers.entry(word.to_owned()).or_insert(next)));
            } else {
                out.push_str(word);
            }
            let mut chars = tail.chars();
            out.extend(chars.next());
            rest = chars.as_str();
        }
        out
    };
    trace.iter().map(number_line).collect()
}
