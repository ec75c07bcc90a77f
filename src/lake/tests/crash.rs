//! Every operation of a commit fails once, in every way; whoever comes next leaves the lake exact.

use super::fault_store::{Fault, FaultStore};
use super::*;

const FAULTS: [Fault; 4] = [Fault::Before, Fault::After, Fault::CrashBefore, Fault::CrashAfter];

/// Two days are covered. The commit under test replaces the second and adds a third.
pub(super) async fn base(place: &Place) -> Arc<dyn ObjectStore> {
    let store = place.store().await;
    let lake = lake(&store);
    let mut state = State::default();
    let proposal = staged(&lake, "base", Mode::Extend, &[day(0), day(1)], 1).await;
    assert_eq!(entry_of(&lake.commit(&mut state, &proposal).await.unwrap()), Some(1));
    store
}

pub(super) fn names(names: &[&str]) -> BTreeSet<String> {
    let file = |name: &&str| match name.split_once('@') {
        Some((run, number)) => format!("{run}-{}", day(number.parse().unwrap()).since.as_second()),
        None => (*name).to_owned(),
    };
    names.iter().map(file).collect()
}

/// Runs a commit whose `operation`-th operation fails. `None` when it has no such operation.
async fn fail(place: &Place, operation: usize, fault: Fault) -> Option<(Arc<dyn ObjectStore>, Proposal, bool)> {
    let store = base(place).await;
    let faulty = FaultStore::new(Arc::clone(&store));
    let proposal = staged(&lake(&store), "first", Mode::Replace { read_at: 2 }, &[day(1), day(2)], 2).await;
    faulty.fail(operation, fault);
    let under_fault: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
    let mut state = State::default();
    let outcome = lake(&under_fault).commit(&mut state, &proposal).await;
    faulty.happened().then(|| (store, proposal, outcome.is_ok()))
}

pub(super) async fn a_failed_commit_is_made_good_by_committing_it_again(place: &Place) {
    let mut operations = 0;
    for fault in FAULTS {
        for operation in (0..).step_by(place.step) {
            let Some((store, proposal, _)) = fail(place, operation, fault).await else { break };
            let lake = lake(&store);
            let mut state = State::default();
            let outcome = lake.commit(&mut state, &proposal).await.unwrap();
            assert_eq!(entry_of(&outcome), Some(2), "operation {operation}, {fault:?}");
            let state = assert_exact(&store).await;
            assert_eq!(state.next(), 3, "operation {operation}, {fault:?}");
            assert_eq!(windows(&state), [day(0), day(1), day(2)]);
            assert_eq!(
                live(&state),
                names(&["base@0", "first@1", "first@2", "base-users", "base-rejects", "first-users", "first-rejects"]),
            );
            assert!(!objects(&store).await.iter().any(|key| matches!(key, Key::Staged { .. })));
            operations += 1;
        }
    }
    assert!(operations * place.step > 100, "only {operations} operations failed");
}

pub(super) async fn a_dead_run_is_followed_by_another_that_does_the_same_work(place: &Place) {
    for fault in FAULTS {
        for operation in (0..).step_by(place.step) {
            let Some((store, _, succeeded)) = fail(place, operation, fault).await else { break };
            let lake = lake(&store);
            let mut state = lake.state().await.unwrap();
            let landed = state.next() == 3;
            assert!(landed || !succeeded, "operation {operation}, {fault:?}: a success that is not in the log");
            let mode = Mode::Replace { read_at: state.next() };
            let proposal = staged(&lake, "second", mode, &[day(1), day(2)], 3).await;
            let outcome = lake.commit(&mut state, &proposal).await.unwrap();
            assert_eq!(entry_of(&outcome), Some(if landed { 3 } else { 2 }), "operation {operation}, {fault:?}");
            let state = assert_exact(&store).await;
            assert_eq!(windows(&state), [day(0), day(1), day(2)]);
            let mut expected = names(&[
                "base@0",
                "second@1",
                "second@2",
                "base-users",
                "base-rejects",
                "second-users",
                "second-rejects",
            ]);
            if landed {
                expected.extend(names(&["first-users", "first-rejects"]));
            }
            assert_eq!(live(&state), expected, "operation {operation}, {fault:?}");
        }
    }
}

pub(super) async fn a_dead_run_is_followed_by_one_that_only_extends(place: &Place) {
    for fault in FAULTS {
        for operation in (0..).step_by(place.step) {
            let Some((store, _, _)) = fail(place, operation, fault).await else { break };
            let lake = lake(&store);
            let mut state = lake.state().await.unwrap();
            let landed = state.next() == 3;
            let proposal = staged(&lake, "second", Mode::Extend, &[day(2), day(3)], 3).await;
            let outcome = lake.commit(&mut state, &proposal).await.unwrap();
            let superseded = if landed { vec![day(2)] } else { Vec::new() };
            let entry = if landed { 3 } else { 2 };
            assert_eq!(outcome, Outcome::Committed { entry, superseded, settled: true }, "{operation}, {fault:?}");
            let state = assert_exact(&store).await;
            assert_eq!(windows(&state), [day(0), day(1), day(2), day(3)]);
            assert_eq!(live(&state).contains(&format!("second-{}", day(2).since.as_second())), !landed);
        }
    }
}

pub(super) async fn a_put_without_an_answer_is_cleared_up_at_once(place: &Place) {
    let operation = put_operation().await;
    for fault in [Fault::Before, Fault::After] {
        let (store, _, succeeded) = fail(place, operation, fault).await.unwrap();
        assert!(succeeded, "{fault:?}");
        assert_eq!(assert_exact(&store).await.next(), 3);
    }
}

/// Which operation of the commit puts its entry.
async fn put_operation() -> usize {
    let place = Place::memory().unwrap();
    for operation in 0.. {
        let (store, ..) = fail(&place, operation, Fault::CrashAfter).await.unwrap();
        if lake(&store).entry(2).await.unwrap().is_some() {
            return operation;
        }
    }
    unreachable!("a commit puts its entry")
}

/// A lake whose last commit is put and not settled at all.
pub(super) async fn unsettled(place: &Place) -> (Arc<dyn ObjectStore>, Proposal) {
    let (store, proposal, _) = fail(place, put_operation().await, Fault::CrashAfter).await.unwrap();
    (store, proposal)
}

pub(super) async fn a_commit_whose_files_are_lost_is_as_if_it_had_never_been(place: &Place) {
    let (store, proposal) = unsettled(place).await;
    let before = assert_exact(&base(place).await).await;
    store.delete(&proposal.add[1].staged_key().path()).await.unwrap();
    let state = assert_exact(&store).await;
    assert_eq!(state.next(), 4);
    assert_eq!(windows(&state), windows(&before));
    assert_eq!(live(&state), live(&before));
    assert_eq!(lake(&store).state().await.unwrap().covers().count(), 2);
    assert!(!objects(&store).await.iter().any(|key| matches!(key, Key::Staged { .. })));

    let lake = lake(&store);
    let mut state = lake.state().await.unwrap();
    let again = staged(&lake, "second", Mode::Replace { read_at: 4 }, &[day(1), day(2)], 3).await;
    assert_eq!(entry_of(&lake.commit(&mut state, &again).await.unwrap()), Some(4));
    assert_eq!(windows(&assert_exact(&store).await), [day(0), day(1), day(2)]);
}

pub(super) async fn a_cell_whose_old_files_are_lost_as_well_is_uncovered(place: &Place) {
    let (store, proposal) = unsettled(place).await;
    let old = data_file("messages", Some(day(1)), &format!("base-{}", day(1).since.as_second()));
    store.delete(&old.key().path()).await.unwrap();
    store.delete(&proposal.add[0].staged_key().path()).await.unwrap();
    let state = assert_exact(&store).await;
    assert_eq!(windows(&state), [day(0)]);
    assert_eq!(live(&state), names(&["base@0", "base-users", "base-rejects"]));
}

pub(super) async fn a_void_that_fails_is_made_good_too(place: &Place) {
    for fault in FAULTS {
        for operation in (0..).step_by(place.step) {
            let (store, proposal) = unsettled(place).await;
            store.delete(&proposal.add[1].staged_key().path()).await.unwrap();
            let faulty = FaultStore::new(Arc::clone(&store));
            faulty.fail(operation, fault);
            let under_fault: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
            let lake = lake(&under_fault);
            if let Ok(mut state) = lake.state().await {
                let _ = lake.settle(&mut state).await;
            }
            if !faulty.happened() {
                break;
            }
            let state = assert_exact(&store).await;
            assert_eq!((state.next(), windows(&state).len()), (4, 2), "operation {operation}, {fault:?}");
        }
    }
}

pub(super) async fn files_that_go_after_their_entry_was_settled_undo_nothing(place: &Place) {
    let gone = async |store: &Arc<dyn ObjectStore>, file: &DataFile| {
        store.delete(&file.key().path()).await.unwrap();
        let lake = lake(store);
        let mut state = lake.state().await.unwrap();
        lake.settle(&mut state).await.unwrap();
        (state.next(), state.files().any(|live| live.file.id == file.id))
    };
    // An entry that replaced nothing: what belongs to no cell may go at its age.
    let store = base(place).await;
    assert_eq!(gone(&store, &data_file("users", None, "base-users")).await, (2, true));
    // One that replaced a day: what it replaced is gone, so all of it had been there.
    let proposal = staged(&lake(&store), "first", Mode::Replace { read_at: 2 }, &[day(1), day(2)], 2).await;
    lake(&store).commit(&mut State::default(), &proposal).await.unwrap();
    for file in &proposal.add {
        assert_eq!(gone(&store, file).await, (3, true), "{}", file.key());
    }
}
