//! Several runs on one lake at once: the log arbitrates.

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

use super::crash::{base, names, unsettled};
use super::fault_store::FaultStore;
use super::*;
use crate::columns::{Promoted, Wanted};
use crate::schema::Kind;

const RUNS: i64 = 8;

async fn race(store: &Arc<dyn ObjectStore>, window: impl Fn(i64) -> Window) -> Vec<Outcome> {
    let mut runs = Vec::new();
    for number in 0..RUNS {
        let lake = lake(store);
        let proposal = staged(&lake, &format!("run{number}"), Mode::Extend, &[window(number)], number).await;
        runs.push(tokio::spawn(async move { lake.commit(&mut State::default(), &proposal).await.unwrap() }));
    }
    join_all(runs).await.into_iter().map(|run| run.unwrap()).collect()
}

fn assert_all_landed(outcomes: &[Outcome], state: &State) {
    let entries: BTreeSet<u64> = outcomes.iter().filter_map(entry_of).collect();
    assert_eq!(entries, (1..=8).collect());
    assert_eq!(state.next(), 9);
    assert_eq!(windows(state), (0..RUNS).map(day).collect::<Vec<_>>());
    assert_eq!(state.files().count(), 24);
    assert_eq!(state.frontier(), Some(day(7).until));
}

fn assert_one_landed(outcomes: &[Outcome], state: &State) {
    let losers = outcomes.iter().filter(|outcome| **outcome == Outcome::AlreadyCovered { by_entry: 1 }).count();
    assert_eq!((losers, state.next()), (7, 2), "{outcomes:?}");
    assert_eq!(state.files().count(), 3);
}

pub(super) async fn commits_of_different_cells_all_land(place: &Place) {
    let store = place.store().await;
    let outcomes = race(&store, day).await;
    assert_all_landed(&outcomes, &assert_exact(&store).await);
}

pub(super) async fn of_commits_of_the_same_cell_one_lands(place: &Place) {
    let store = place.store().await;
    let outcomes = race(&store, |_| day(0)).await;
    assert_one_landed(&outcomes, &assert_exact(&store).await);
}

pub(super) async fn an_entry_has_one_winner_however_often_it_is_raced_for(place: &Place) {
    for _ in 0..20 / place.step {
        let store = place.store().await;
        let claims = (0..RUNS).map(|number| {
            let lake = lake(&store);
            tokio::spawn(async move {
                let proposal = staged(&lake, &format!("run{number}"), Mode::Extend, &[day(0)], number).await;
                lake.commit(&mut State::default(), &proposal).await.unwrap()
            })
        });
        let outcomes: Vec<Outcome> = join_all(claims).await.into_iter().map(|run| run.unwrap()).collect();
        assert_one_landed(&outcomes, &assert_exact(&store).await);
    }
}

/// Runs a commit of days 1 and 2, exported second, during which something else happens before its `operation`-th
/// operation. `None` when it has no such operation.
async fn interrupted(
    place: &Place,
    operation: usize,
    meanwhile: impl Fn(Lake) -> BoxFuture<'static, ()>,
) -> Option<(Arc<dyn ObjectStore>, Outcome)> {
    let store = base(place).await;
    let ours = staged(&lake(&store), "ours", Mode::Replace { read_at: 2 }, &[day(1), day(2)], 2).await;
    let slow = FaultStore::new(Arc::clone(&store));
    slow.meanwhile(operation, meanwhile(lake(&store)));
    let through: Arc<dyn ObjectStore> = Arc::new(slow.clone());
    let outcome = lake(&through).commit(&mut State::default(), &ours).await.unwrap();
    slow.happened().then_some((store, outcome))
}

pub(super) async fn a_run_may_settle_what_another_is_settling(place: &Place) {
    let settle = |lake: Lake| {
        async move {
            let mut state = lake.state().await.unwrap();
            lake.settle(&mut state).await.unwrap();
        }
        .boxed()
    };
    for operation in (0..).step_by(place.step) {
        let Some((store, outcome)) = interrupted(place, operation, settle).await else { break };
        assert_eq!(outcome, Outcome::Committed { entry: 2, superseded: vec![], settled: true }, "{operation}");
        assert_eq!(assert_exact(&store).await.next(), 3, "{operation}");
    }
}

pub(super) async fn a_run_may_commit_other_cells_at_any_moment_of_a_commit(place: &Place) {
    let extend = |lake: Lake| {
        async move {
            let theirs = staged(&lake, "theirs", Mode::Extend, &[day(2), day(3)], 3).await;
            assert!(entry_of(&lake.commit(&mut State::default(), &theirs).await.unwrap()).is_some());
        }
        .boxed()
    };
    let mut firsts = BTreeSet::new();
    for operation in (0..).step_by(place.step) {
        let Some((store, outcome)) = interrupted(place, operation, extend).await else { break };
        let first = entry_of(&outcome) == Some(2);
        firsts.insert(first);
        let (entry, superseded) = if first { (2, vec![]) } else { (3, vec![day(2)]) };
        assert_eq!(outcome, Outcome::Committed { entry, superseded, settled: true }, "{operation}");
        let state = assert_exact(&store).await;
        assert_eq!((state.next(), windows(&state)), (4, (0..4).map(day).collect()));
        let day_2 = if first { "ours@2" } else { "theirs@2" };
        let cells: BTreeSet<String> =
            state.files_of(Window::new(day(0).since, day(3).until).unwrap()).map(id).collect();
        assert_eq!(cells, names(&["base@0", "ours@1", day_2, "theirs@3"]), "{operation}");
    }
    assert_eq!(firsts.len(), 2, "both orders must have been seen");
}

pub(super) async fn a_later_export_wins_whenever_it_comes(place: &Place) {
    let replace = |lake: Lake| {
        async move {
            let mut state = lake.state().await.unwrap();
            let mode = Mode::Replace { read_at: state.next() };
            let theirs = staged(&lake, "theirs", mode, &[day(1), day(2)], 5).await;
            assert!(entry_of(&lake.commit(&mut state, &theirs).await.unwrap()).is_some());
        }
        .boxed()
    };
    let mut firsts = BTreeSet::new();
    for operation in (0..).step_by(place.step) {
        let Some((store, outcome)) = interrupted(place, operation, replace).await else { break };
        let first = entry_of(&outcome) == Some(2);
        firsts.insert(first);
        if !first {
            assert_eq!(outcome, Outcome::Stale { by_entry: 2 }, "{operation}");
        }
        let state = assert_exact(&store).await;
        let cells: BTreeSet<String> =
            state.files_of(Window::new(day(0).since, day(3).until).unwrap()).map(id).collect();
        assert_eq!(cells, names(&["base@0", "theirs@1", "theirs@2"]), "{operation}");
    }
    assert_eq!(firsts.len(), 2, "both orders must have been seen");
}

pub(super) async fn two_runs_may_find_the_same_loss(place: &Place) {
    for operation in (0..).step_by(place.step) {
        let (store, proposal) = unsettled(place).await;
        store.delete(&proposal.add[1].staged_key().path()).await.unwrap();
        let other = lake(&store);
        let settle = async move {
            let mut state = other.state().await.unwrap();
            other.settle(&mut state).await.unwrap();
        };
        let slow = FaultStore::new(Arc::clone(&store));
        slow.meanwhile(operation, settle.boxed());
        let through: Arc<dyn ObjectStore> = Arc::new(slow.clone());
        let mut state = lake(&through).state().await.unwrap();
        lake(&through).settle(&mut state).await.unwrap();
        if !slow.happened() {
            break;
        }
        let state = assert_exact(&store).await;
        assert_eq!((state.next(), windows(&state)), (4, vec![day(0), day(1)]), "{operation}");
    }
}

fn id(live: &super::super::Live) -> String {
    live.file.id.clone()
}

#[tokio::test]
async fn runs_that_want_other_columns_agree_on_every_name_and_type() {
    let store = Place::memory().unwrap().store().await;
    let runs = (0..RUNS).map(|number| {
        let lake = lake(&store);
        tokio::spawn(async move {
            let kinds = [Kind::Int64, Kind::String, Kind::Json];
            let promoted = Promoted {
                dataset: "messages".to_owned(),
                name: "order_id".to_owned(),
                kind: kinds[usize::try_from(number).unwrap() % kinds.len()],
                path: vec!["order_id".to_owned()],
                active: true,
                doc: None,
                unit: None,
            };
            let wanted = Wanted { promote: vec![promoted], ..Wanted::default() };
            let columns = lake.change_columns(&mut State::default(), |old| old.with(&wanted)).await.unwrap();
            columns.promoted.into_iter().find(|column| column.active).unwrap()
        })
    });
    let columns: Vec<Promoted> = join_all(runs).await.into_iter().map(|run| run.unwrap()).collect();
    let types: BTreeSet<(String, String)> =
        columns.iter().map(|column| (column.name.clone(), column.kind.to_string())).collect();
    let names: BTreeSet<&String> = types.iter().map(|(name, _)| name).collect();
    assert_eq!((types.len(), names.len()), (3, 3), "{types:?}");
    let state = lake(&store).state().await.unwrap();
    assert_eq!(state.columns().columns.promoted.len(), 3);
}
