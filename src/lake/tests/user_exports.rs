//! Exports of users: committed once, whoever goes on with them, and undone as a whole.

use std::collections::BTreeSet;

use super::fault_store::{Fault, FaultStore};
use super::*;
use crate::lake::entry::{Action, Entry, READER_VERSION, Void};
use crate::lake::user_export::{UserExport, UserProposal};
use crate::lake::{FailedUser, Lists, snapshot};

fn run(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn export(runs: &[u128]) -> UserExport {
    UserExport {
        run_id: run(runs[0]),
        runs: runs.iter().copied().map(run).collect(),
        exported_at: exported(1),
        asked: 2,
        returned: 1,
        failed: 1,
        ..UserExport::default()
    }
}

/// What these runs have exported, staged.
async fn staged_users(lake: &Lake, runs: &[u128]) -> UserProposal {
    let name = format!("run{}", runs[0]);
    let add = vec![
        data_file("user_exports/messages", None, &format!("{name}-messages")),
        data_file("user_exports/users", None, &format!("{name}-users")),
        data_file(QUARANTINE, None, &format!("{name}-rejects")),
    ];
    for file in &add {
        stage(lake, file).await;
    }
    UserProposal { commit_id: Uuid::now_v7(), export: export(runs), add }
}

fn files_of(run: u128) -> BTreeSet<String> {
    ["messages", "rejects", "users"].map(|name| format!("run{run}-{name}")).into()
}

pub(super) async fn of_runs_that_go_on_with_each_other_one_is_committed(place: &Place) {
    for fault in [Fault::Before, Fault::After, Fault::CrashBefore, Fault::CrashAfter] {
        for operation in (0..).step_by(place.step) {
            let store = place.store().await;
            let faulty = FaultStore::new(Arc::clone(&store));
            let first = staged_users(&lake(&store), &[1]).await;
            faulty.fail(operation, fault);
            let under_fault: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
            let _ = lake(&under_fault).commit(&mut State::default(), &first).await;
            if !faulty.happened() {
                break;
            }
            let lake = lake(&store);
            let mut state = lake.state().await.unwrap();
            let landed = state.next() == 2;
            let second = staged_users(&lake, &[2, 1]).await;
            let outcome = lake.commit(&mut state, &second).await.unwrap();
            let expected = if landed {
                Outcome::AlreadyCovered { by_entry: 1 }
            } else {
                Outcome::Committed { entry: 1, superseded: vec![], settled: true }
            };
            assert_eq!(outcome, expected, "operation {operation}, {fault:?}");
            // Whoever was slow, or is run again, finds that it was done.
            if !landed {
                let late = lake.commit(&mut state, &first).await.unwrap();
                assert_eq!(late, Outcome::AlreadyCovered { by_entry: 1 });
            }
            assert_eq!(live(&assert_exact(&store).await), files_of(if landed { 1 } else { 2 }));
            let other = staged_users(&lake, &[3]).await;
            assert_eq!(entry_of(&lake.commit(&mut state, &other).await.unwrap()), Some(2));
        }
    }
}

/// Which of `[messages, messages, users]` are moved before the staged files are lost, and whether that undoes the entry.
pub(super) async fn an_export_of_users_whose_files_are_lost_is_undone(place: &Place) {
    for (moved, undone) in [(&[][..], true), (&[0][..], true), (&[0, 1], false), (&[2], false)] {
        let store = place.store().await;
        let lake = lake(&store);
        let mut first = staged_users(&lake, &[1]).await;
        first.add[2] = data_file("user_exports/messages", None, "run1-more");
        stage(&lake, &first.add[2]).await;
        first.add.swap(1, 2);
        let state = State::default();
        let actions = std::iter::once(Action::UserExport(first.export.clone()));
        let actions = actions.chain(first.add.iter().cloned().map(Action::Add)).collect();
        put(&lake, &entry(&state, actions)).await;
        for (number, file) in first.add.iter().enumerate() {
            let staged = file.staged_key().path();
            if moved.contains(&number) {
                store.rename(&staged, &file.key().path()).await.unwrap();
            } else {
                store.delete(&staged).await.unwrap();
            }
        }
        let mut state = lake.state().await.unwrap();
        assert_eq!(state.user_exports().count(), 1);
        let again = staged_users(&lake, &[2, 1]).await;
        let outcome = lake.commit(&mut state, &again).await.unwrap();
        if undone {
            assert_eq!(outcome, Outcome::Committed { entry: 3, superseded: vec![], settled: true }, "{moved:?}");
            assert_eq!(live(&assert_exact(&store).await), files_of(2), "{moved:?}");
        } else {
            // Folders are gone as a whole, as by a retention, which is no reason to delete the others.
            assert_eq!(outcome, Outcome::AlreadyCovered { by_entry: 1 }, "{moved:?}");
        }
    }
}

pub(super) async fn long_lists_of_users_lie_aside(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let mut proposal = staged_users(&lake, &[1]).await;
    let lists = Lists {
        missing_users: (0..500).map(|number| format!("user-{number}")).collect(),
        failed_users: vec![FailedUser { user_id: "busy".into(), reason: "too much".into() }],
        ..Lists::default()
    };
    proposal.export.lists = lists.clone();
    lake.commit(&mut State::default(), &proposal).await.unwrap();
    let entry = lake.entry(1).await.unwrap().unwrap();
    let Some(Action::UserExport(export)) = entry.actions.first() else { panic!("{entry:?}") };
    assert!(export.lists.is_empty() && export.lists_aside.is_some());
    assert_eq!(lake.user_lists(export).await.unwrap(), lists);
}

async fn put(lake: &Lake, entry: &Entry) {
    lake.store().put(&Key::Entry(entry.number).path(), entry.to_json().into()).await.unwrap();
}

fn entry(state: &State, actions: Vec<Action>) -> Entry {
    Entry {
        reader_version: READER_VERSION,
        number: state.next(),
        commit_id: Uuid::from_u128(u128::from(state.next())),
        settled: state.next() - 1,
        single_writer: false,
        actions,
        columns: None,
    }
}

#[test]
fn an_export_of_users_is_undone_as_a_whole_and_stands_alone() {
    let file = |dataset: &str, name: &str| Action::Add(data_file(dataset, None, name));
    let users = |runs: &[u128]| Action::UserExport(export(runs));
    let mut state = State::default();
    let first = entry(&state, vec![users(&[2, 1]), file("user_exports/users", "a"), file(QUARANTINE, "r")]);
    state.apply(&first).unwrap();
    assert_eq!(state.exported_by(&[run(1)].into()).map(|export| export.entry), Some(1));
    assert_eq!(state.entry_of(first.commit_id), Some(1));
    let nobody = UserExport { runs: [run(9)].into(), ..export(&[8]) };
    for (reason, actions) in [
        ("of the same runs", vec![users(&[3, 1])]),
        ("covers nothing", vec![users(&[4]), Action::Cover(cover(day(0), 1))]),
        ("covers nothing", vec![Action::Origin(origin()), users(&[4])]),
        ("names no run", vec![Action::UserExport(nobody)]),
        ("or has two", vec![users(&[4]), users(&[5])]),
        ("no place for what it has exported", vec![users(&[4]), file("users", "b")]),
        ("no place for what it has exported", vec![Action::Cover(cover(day(0), 1)), file("user_exports/users", "b")]),
        ("does not write", vec![users(&[4]), Action::Add(data_file("user_exports/messages", Some(day(0)), "b"))]),
    ] {
        let broken = state.clone().apply(&entry(&state, actions)).unwrap_err();
        assert!(broken.reason.contains(reason), "{reason}: {broken}");
    }
    let bytes = snapshot::write(&state).unwrap();
    assert_eq!(snapshot::read(1, &bytes).unwrap().as_ref(), Some(&state));
    let void = entry(&state, vec![Action::Void(Void { entry: 1, lost: Vec::new() })]);
    state.apply(&void).unwrap();
    assert_eq!((state.files().count(), state.user_exports().count()), (0, 0));
    assert_eq!(state.pending().unwrap().discarded.len(), 2);
    assert_eq!(state.entry_of(first.commit_id), None);
    // The same runs may be committed now; an entry may have no file at all.
    state.apply(&entry(&state, vec![users(&[3, 1])])).unwrap();
    assert_eq!(state.user_exports().map(|export| export.entry).collect::<Vec<_>>(), [3]);
}
