//! What a long history costs: a lake is given as many entries as asked for, then its state is read from the newest snapshot.
//!
//!     cargo bench --bench log [-- ENTRIES [memory|FOLDER] [never-replaced]]
//!
//! 100,000 entries by default, in a temporary folder. Every hour is covered by an entry that adds a file each of messages,
//! reactions, channels, members and users; a day is replaced by one cell of a day when it is one and seven days old, unless
//! it is told otherwise. The last 99 entries come after the newest snapshot, which is the most that there can be.
//! CPU seconds are of all threads, kernel included; memory is told by Linux alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chatlake::lake::entry::{Action, CellRecord, Cover, DataFile, Entry, Lists, READER_VERSION, Removed};
use chatlake::lake::store::Env;
use chatlake::lake::{Key, Lake, State, snapshot};
use chatlake::window::{Window, parse_time};
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

#[path = "scale/cost.rs"]
#[allow(dead_code)]
mod cost;

use self::cost::{peak_kb, process_cpu};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY_HOURS: u64 = 24;
const SNAPSHOT_EVERY: u64 = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let entries: u64 = arguments.first().map_or(Ok(100_000), |text| text.parse())?;
    let replaces = !arguments.iter().any(|argument| argument == "never-replaced");
    let folder = tempfile::tempdir()?;
    let lake = match arguments.get(1).map(String::as_str) {
        Some("memory") => Lake::new(Arc::new(InMemory::new()), "memory".to_owned()),
        Some(folder) => Lake::open(folder, &Env::new()).await?,
        None => Lake::open(&folder.path().to_string_lossy(), &Env::new()).await?,
    };
    // Up to the last moment before the next snapshot.
    let last = entries / SNAPSHOT_EVERY * SNAPSHOT_EVERY + SNAPSHOT_EVERY - 1;
    let started = Meter::start();
    let state = fill(&lake, last, replaces).await?;
    let (covers, files) = (state.covers().count(), state.files().count());
    println!("{} entries, {covers} covers, {files} live files at {}", state.next() - 1, lake.display_url());
    started.report("filling");
    drop(state);
    measure(&lake).await
}

/// Puts entries up to and with `last`, and the newest snapshot.
async fn fill(lake: &Lake, last: u64, replaces: bool) -> Result<State> {
    let mut history = History { state: State::default(), hour: parse_time("2010-01-01")?, replaces, due: Vec::new() };
    let mut bytes = 0;
    while history.state.next() <= last {
        let mut batch = Vec::new();
        while history.state.next() <= last && batch.len() < 64 {
            let entry = history.entry()?;
            history.state.apply(&entry)?;
            batch.push((Key::Entry(entry.number), entry.to_json()));
            if entry.number == last - last % SNAPSHOT_EVERY {
                let started = Meter::start();
                let snapshot = snapshot::write(&history.state)?;
                started.report(&format!("writing a snapshot of {} bytes", snapshot.len()));
                batch.push((Key::Snapshot(entry.number), snapshot));
            }
        }
        bytes += batch.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let puts = batch
            .into_iter()
            .map(|(key, bytes)| async move { lake.store().put(&key.path(), PutPayload::from(bytes)).await });
        futures::stream::iter(puts).buffer_unordered(8).try_collect::<Vec<_>>().await?;
    }
    println!("{bytes} bytes of log");
    Ok(history.state)
}

async fn measure(lake: &Lake) -> Result<()> {
    let started = Meter::start();
    let snapshots: Vec<_> = lake.store().list(Some(&Key::snapshots())).try_collect().await?;
    let newest = snapshots.iter().filter_map(|object| Key::parse(&object.location)).max().ok_or("no snapshot")?;
    started.report("listing the snapshots");
    let Key::Snapshot(through) = newest else { return Err("no snapshot".into()) };
    let started = Meter::start();
    let mut listed = lake.store().list_with_offset(Some(&Key::log()), &Key::Entry(through).path());
    let mut after = 0;
    while listed.try_next().await?.is_some() {
        after += 1;
    }
    started.report(&format!("listing the {after} entries after it"));
    let started = Meter::start();
    let bytes = lake.store().get(&newest.path()).await?.bytes().await?;
    let mut state = snapshot::read(through, &bytes)?.ok_or("a damaged snapshot")?;
    started.report("reading the snapshot");
    let started = Meter::start();
    let mut entries = Vec::new();
    for number in through + 1..=through + after {
        entries.push(lake.entry(number).await?.ok_or("no entry")?);
    }
    started.report("reading the entries");
    let started = Meter::start();
    entries.iter().try_for_each(|entry| state.apply(entry))?;
    started.report("folding them");
    let started = Meter::start();
    let of_days: usize = state.covers().map(|covered| state.files_of(covered.cover.window).count()).sum();
    started.report(&format!("finding the {of_days} files of every cell"));
    let started = Meter::start();
    assert_eq!(state.entry_of(Uuid::nil()), None);
    started.report("looking for a commit that is not there");
    drop((state, entries, bytes));

    for _ in 0..3 {
        let started = Meter::start();
        let state = lake.state().await?;
        started.report(&format!("Lake::state() of {} entries", state.next() - 1));
    }
    Ok(())
}

/// Hours that are covered one after the other, and days that are replaced.
struct History {
    state: State,
    hour: Timestamp,
    replaces: bool,
    due: Vec<Window>,
}

impl History {
    fn entry(&mut self) -> Result<Entry> {
        if let Some(day) = self.due.pop() {
            return Ok(self.commit(day));
        }
        let cell = Window::new(self.hour, self.hour + HOUR)?;
        self.hour = cell.until;
        let today = Window::day_of(self.hour);
        if self.replaces && today.since == self.hour {
            let ago = |days: i64| Window::day_of(self.hour - HOUR * (24 * i32::try_from(days).unwrap_or(0)));
            self.due = [7, 2].map(ago).into_iter().filter(|day| self.state.uncovered(*day).is_empty()).collect();
        }
        Ok(self.commit(cell))
    }

    fn commit(&self, cell: Window) -> Entry {
        let number = self.state.next();
        let id = |what: &str| xxh3_128(format!("{number}-{what}").as_bytes());
        let run_id = Uuid::from_u128(id("run"));
        let removed = self.state.files_of(cell).map(|live| Action::Remove(Removed { id: live.file.id.clone() }));
        let hours = if cell == Window::day_of(cell.since) { DAY_HOURS } else { 1 };
        let files = ["messages", "reactions", "channels", "members", "users"].map(|dataset| {
            let has_cell = matches!(dataset, "messages" | "reactions");
            Action::Add(DataFile {
                dataset: dataset.to_owned(),
                partition: format!("{}={}", if has_cell { "event_date" } else { "snapshot_date" }, cell.date()),
                cell: has_cell.then_some(cell),
                // Ids begin with the time, as those of files do.
                id: format!("{:012x}{:020x}", number, id(dataset) >> 48),
                run_id,
                rows: 40 * hours + number % 17,
                bytes: 20_000 * hours + number % 1009,
                xxh3: format!("{:016x}", xxh3_64(&id(dataset).to_le_bytes())),
                min_created_at: has_cell.then_some(cell.since),
                max_created_at: has_cell.then_some(cell.until),
            })
        });
        let counts = |per_hour: u64| -> BTreeMap<String, u64> {
            ["messages", "reactions", "channels", "members", "users"]
                .map(|name| (name.to_owned(), per_hour * hours))
                .into()
        };
        let cover = Cover {
            window: cell,
            exported_at: self.hour,
            as_of: None,
            run_id,
            keep_files: false,
            record: CellRecord {
                channels_asked: 25,
                channels_returned: 24,
                lists: Lists { task_ids: vec![Uuid::from_u128(id("task")).to_string()], ..Lists::default() },
                lines: counts(60),
                rows: counts(40),
                bytes_downloaded: 50_000 * hours,
                content: ["messages", "reactions"].map(|name| (name.to_owned(), format!("{:032x}", id(name)))).into(),
                ..CellRecord::default()
            },
        };
        let actions = removed.chain([Action::Cover(cover)]).chain(files).collect();
        let commit_id = Uuid::from_u128(id("commit"));
        Entry {
            reader_version: READER_VERSION,
            number,
            commit_id,
            settled: number - 1,
            single_writer: false,
            actions,
            columns: None,
        }
    }
}

/// CPU and wall time since a moment.
struct Meter {
    started: Instant,
    cpu: Duration,
}

impl Meter {
    fn start() -> Self {
        Self { started: Instant::now(), cpu: process_cpu() }
    }

    fn report(&self, what: &str) {
        let cpu_ms = (process_cpu() - self.cpu).as_millis();
        let wall_ms = self.started.elapsed().as_secs_f64() * 1e3;
        println!("{what}: {cpu_ms} ms CPU, {wall_ms:.1} ms wall, {} MB at most so far", peak_kb() / 1024);
    }
}
