//! The lake as a whole: commits that go well, fail, die and race, on every kind of store.

mod crash;
mod fault_store;
mod fold;
mod history;
mod journal;
mod place;
mod protocol;
mod race;
mod servers;
mod user_exports;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use self::place::Place;
use super::Lake;
use super::entry::{CellRecord, Cover, DataFile};
use super::layout::{Key, QUARANTINE, partition};
use super::proposal::{Mode, Outcome, Proposal};
use super::state::State;
use crate::window::Window;

/// What a store must do for a lake: these checks, each on each of these places, with a name of its own.
macro_rules! contract {
    ([$($place:ident)*] $checks:tt) => {
        $(contract!($place $checks);)*
    };
    ($place:ident { $($group:ident { $($check:ident)* })* }) => {
        mod $place {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $check() {
                    if let Some(place) = crate::lake::tests::Place::$place() {
                        crate::lake::tests::$group::$check(&place).await;
                    }
                }
            )*)*
        }
    };
}

contract!([memory disk radosgw moto] {
    protocol {
        quarters_become_a_day_and_snapshots_stay
        an_unchanged_cell_keeps_its_files_and_is_exported_anew
        what_others_did_meanwhile_decides
        files_are_read_wherever_they_are
        a_file_that_was_replaced_meanwhile_is_told_from_one_that_is_lost
        a_commit_of_files_that_are_not_there_is_undone_and_says_so
        large_files_are_staged_in_parts_and_an_aborted_one_leaves_nothing
        long_lists_lie_aside_once
        a_hole_in_the_log_is_refused
        a_snapshot_is_a_shortcut_and_nothing_more
        a_store_that_ignores_conditions_is_found_out
        a_lake_belongs_to_one_app_and_one_selection
        whoever_claims_a_lake_second_is_held_to_the_first
        a_newer_lake_is_refused
    }
    crash {
        a_failed_commit_is_made_good_by_committing_it_again
        a_dead_run_is_followed_by_another_that_does_the_same_work
        a_dead_run_is_followed_by_one_that_only_extends
        a_put_without_an_answer_is_cleared_up_at_once
        a_commit_whose_files_are_lost_is_as_if_it_had_never_been
        a_cell_whose_old_files_are_lost_as_well_is_uncovered
        a_void_that_fails_is_made_good_too
        files_that_go_after_their_entry_was_settled_undo_nothing
    }
    user_exports {
        of_runs_that_go_on_with_each_other_one_is_committed
        an_export_of_users_whose_files_are_lost_is_undone
        long_lists_of_users_lie_aside
    }
    journal {
        what_a_run_began_is_found_by_others_until_it_ends
        a_damaged_record_is_named_and_can_be_deleted
    }
});

/// moto looks and puts in two steps, so that of two at once both may win.
mod at_once {
    contract!([memory disk radosgw] {
        race {
            commits_of_different_cells_all_land
            of_commits_of_the_same_cell_one_lands
            an_entry_has_one_winner_however_often_it_is_raced_for
            a_run_may_settle_what_another_is_settling
            a_run_may_commit_other_cells_at_any_moment_of_a_commit
            a_later_export_wins_whenever_it_comes
            two_runs_may_find_the_same_loss
        }
    });
}

fn lake(store: &Arc<dyn ObjectStore>) -> Lake {
    Lake { pause: Duration::ZERO, ..Lake::new(Arc::clone(store), "the lake".to_owned()) }
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
    let mut keys: Vec<Key> =
        all.iter().map(|object| Key::parse(&object.location).expect("every object is one of the layout's")).collect();
    keys.sort_unstable();
    keys
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
