//! The lake as a whole: commits that fail, die and race, over stores that are real in all but the network.

mod crash;
mod fault_store;
mod fold;
mod protocol;
mod race;
mod s3;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use super::Lake;
use super::entry::{CellRecord, Cover, DataFile};
use super::layout::{Key, QUARANTINE, partition};
use super::proposal::{Mode, Outcome, Proposal};
use super::state::State;
use crate::window::Window;

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

fn lake(store: &Arc<dyn ObjectStore>) -> Lake {
    Lake { pause: Duration::ZERO, ..Lake::new(Arc::clone(store), "memory".to_owned()) }
}

fn origin() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// Six hours of a day, or all of it.
fn cell(day: i64, quarter: Option<i64>) -> Window {
    let since = origin() + SignedDuration::from_hours(24 * day + 6 * quarter.unwrap_or(0));
    Window::new(since, since + SignedDuration::from_hours(if quarter.is_some() { 6 } else { 24 })).unwrap()
}

fn day(day: i64) -> Window {
    cell(day, None)
}

/// A point in time after all data; the later the number, the later the export.
fn exported(number: i64) -> Timestamp {
    origin() + SignedDuration::from_hours(24 * 365) + SignedDuration::from_secs(number)
}

fn cover(window: Window, exported_at: i64) -> Cover {
    Cover {
        window,
        exported_at: exported(exported_at),
        run_id: Uuid::nil(),
        as_of: None,
        keep_files: false,
        record: CellRecord::default(),
    }
}

/// A file whose bytes are its own name.
fn data_file(dataset: &str, cell: Option<Window>, id: &str) -> DataFile {
    let column = if cell.is_some() { "event_date" } else { "snapshot_date" };
    DataFile {
        dataset: dataset.to_owned(),
        partition: partition(&[(column, &cell.map_or("2026-06-01".to_owned(), |cell| cell.date().to_string()))]),
        cell,
        id: id.to_owned(),
        run_id: Uuid::from_u128(1),
        rows: 1,
        bytes: id.len() as u64,
        xxh3: "0".to_owned(),
        min_created_at: None,
        max_created_at: None,
    }
}

async fn stage(lake: &Lake, file: &DataFile) {
    let mut writer = lake.stage(file.run_id, &file.id).unwrap();
    writer.write(file.id.clone().into()).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().bytes, file.bytes);
}

/// A commit of these cells, each with a file of messages, and one file each of users and of rejects.
async fn staged(lake: &Lake, name: &str, mode: Mode, windows: &[Window], exported_at: i64) -> Proposal {
    let mut add: Vec<DataFile> = windows
        .iter()
        .map(|window| data_file("messages", Some(*window), &format!("{name}-{}", window.since.as_second())))
        .collect();
    add.push(data_file("users", None, &format!("{name}-users")));
    add.push(data_file(QUARANTINE, None, &format!("{name}-rejects")));
    for file in &add {
        stage(lake, file).await;
    }
    Proposal {
        commit_id: Uuid::now_v7(),
        mode,
        covers: windows.iter().map(|window| cover(*window, exported_at)).collect(),
        add,
        origin: Some(origin()),
    }
}

fn entry_of(outcome: &Outcome) -> Option<u64> {
    match outcome {
        Outcome::Committed { entry, .. } => Some(*entry),
        _ => None,
    }
}

fn live(state: &State) -> BTreeSet<String> {
    state.files().map(|live| live.file.id.clone()).collect()
}

fn windows(state: &State) -> Vec<Window> {
    state.covers().map(|covered| covered.cover.window).collect()
}

async fn objects(store: &Arc<dyn ObjectStore>) -> Vec<Key> {
    let all: Vec<_> = store.list(None).try_collect().await.unwrap();
    all.iter().map(|object| Key::parse(&object.location).expect("every object is one of the layout's")).collect()
}

/// What readers of plain files see is what the log says: the same files, whole.
async fn assert_exact(store: &Arc<dyn ObjectStore>) -> State {
    let lake = lake(store);
    let mut state = lake.state().await.unwrap();
    lake.settle(&mut state).await.unwrap();
    let seen: BTreeSet<Key> = objects(store).await.into_iter().filter(|key| matches!(key, Key::Data { .. })).collect();
    let said: BTreeSet<Key> = state.files().map(|live| live.file.key()).collect();
    assert_eq!(seen, said);
    for live in state.files() {
        let bytes = store.get(&live.file.key().path()).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes, live.file.id.as_bytes());
        assert!(store.head(&live.file.staged_key().path()).await.is_err(), "{} is still staged", live.file.id);
    }
    state
}
