//! The fold: random histories keep the rules, entries that break them change nothing.

use proptest::prelude::*;

use super::*;
use crate::columns::Columns;
use crate::lake::entry::{Action, Entry, READER_VERSION, Removed, Void};
use crate::lake::proposal::{Rebased, rebase};
use crate::lake::snapshot;

#[derive(Clone, Debug)]
struct Step {
    /// Day and quarter.
    cells: Vec<(i64, Option<i64>)>,
    replace: bool,
    keep_files: bool,
    exported_at: i64,
    /// `Some(n)`: the commit is voided, and of the files that it replaced every n-th is lost (0: none).
    void: Option<usize>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cell = (0i64..4, prop::option::of(0i64..4));
    let step = (
        prop::collection::vec(cell, 1..4),
        any::<bool>(),
        prop::bool::weighted(0.2),
        0i64..30,
        prop::option::weighted(0.2, 0usize..3),
    );
    let step = step.prop_map(|(cells, replace, keep_files, exported_at, void)| Step {
        cells,
        replace,
        keep_files,
        exported_at,
        void,
    });
    prop::collection::vec(step, 1..25)
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

fn proposal(state: &State, step: &Step, number: usize) -> Proposal {
    let mut covers: Vec<Cover> = Vec::new();
    for (day, quarter) in &step.cells {
        let window = cell(*day, *quarter);
        if !covers.iter().any(|cover| cover.window.overlaps(&window)) {
            let mut cover = cover(window, step.exported_at);
            cover.keep_files = step.keep_files && state.covers_in(window).next().is_some();
            covers.push(cover);
        }
    }
    let mut add: Vec<DataFile> = covers
        .iter()
        .filter(|cover| !cover.keep_files)
        .map(|cover| data_file("messages", Some(cover.window), &format!("{number}-{}", cover.window.since.as_second())))
        .collect();
    add.push(data_file("users", None, &format!("{number}-users")));
    let mode = if step.replace { Mode::Replace { read_at: state.next() } } else { Mode::Extend };
    let commit_id = Uuid::from_u128(u128::from(state.next()));
    Proposal { commit_id, mode, covers, add, origin: Some(exported(step.exported_at)) }
}

fn assert_rules(state: &State) {
    let windows = windows(state);
    assert!(windows.windows(2).all(|pair| pair[0].until <= pair[1].since), "{windows:?}");
    for live in state.files() {
        if let Some(cell) = live.file.cell {
            assert_eq!(windows.iter().filter(|window| window.covers(&cell)).count(), 1, "{cell} in {windows:?}");
        }
    }
    for (day, quarter) in (0..4).flat_map(|day| (0..4).map(move |quarter| (day, quarter))) {
        let slot = cell(day, Some(quarter));
        let covered = windows.iter().any(|window| window.overlaps(&slot));
        assert_eq!(state.uncovered(slot), if covered { vec![] } else { vec![slot] });
        assert_eq!(state.covers_in(slot).count(), usize::from(covered));
    }
}

/// All but what is still to be moved.
fn content(state: &State) -> (Option<Timestamp>, Vec<super::super::Covered>, BTreeSet<String>) {
    (state.origin(), state.covers().cloned().collect(), live(state))
}

proptest! {
    #[test]
    fn random_histories_keep_the_rules(steps in steps()) {
        let mut state = State::default();
        let mut log: Vec<Entry> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let before = state.clone();
            let proposal = proposal(&state, step, number);
            let Ok(Rebased::Actions { actions, superseded }) = rebase(&state, &proposal) else { continue };
            let committed = entry(&state, actions);
            state.apply(&committed).expect("what was rebased keeps the rules");
            log.push(committed);
            assert_rules(&state);
            prop_assert!(state.origin().is_some());
            prop_assert_eq!(state.entry_of(proposal.commit_id), Some(before.next()));
            for cover in &proposal.covers {
                let stands = !superseded.contains(&cover.window);
                let ours = state.covers().any(|covered| covered.cover == *cover && covered.entry == before.next());
                prop_assert_eq!(stands, ours);
                let kept: Vec<_> = before.files_of(cover.window).map(|live| live.file.id.clone()).collect();
                for id in kept {
                    prop_assert_eq!(live(&state).contains(&id), !stands || cover.keep_files);
                }
            }
            if let Some(every) = step.void {
                let removed = &state.pending().unwrap().removed;
                let is_lost = |(at, _): &(usize, _)| every > 0 && at % every == 0;
                let lost: Vec<String> =
                    removed.iter().enumerate().filter(is_lost).map(|(_, live)| live.file.id.clone()).collect();
                let nothing_lost = lost.is_empty();
                let void = Action::Void(Void { entry: state.next() - 1, lost: lost.clone() });
                let void = entry(&state, vec![void]);
                state.apply(&void).unwrap();
                log.push(void);
                assert_rules(&state);
                prop_assert!(!live(&state).iter().any(|id| lost.contains(id)));
                prop_assert!(live(&state).is_subset(&live(&before)));
                if nothing_lost {
                    prop_assert_eq!(content(&state), content(&before));
                }
            }
        }
        let mut replayed = State::default();
        for entry in &log {
            let read = Entry::from_json(entry.number, &entry.to_json()).unwrap();
            replayed.apply(&read).unwrap();
        }
        prop_assert_eq!(&replayed, &state);
        let bytes = snapshot::write(&state).unwrap();
        prop_assert_eq!(snapshot::read(state.next() - 1, &bytes).unwrap(), Some(state));
    }

    #[test]
    fn the_frontier_is_the_end_of_what_is_contiguous(days in prop::collection::btree_set(0i64..12, 0..12), start in 0i64..12) {
        let mut state = State::default();
        prop_assert_eq!(state.frontier(), None);
        if days.is_empty() {
            return Ok(());
        }
        let mut actions = vec![Action::Origin(day(start).since)];
        actions.extend(days.iter().map(|number| Action::Cover(cover(day(*number), 1))));
        state.apply(&entry(&state, actions)).unwrap();
        let first_gap = (start..13).find(|number| !days.contains(number)).unwrap();
        prop_assert_eq!(state.frontier(), Some(day(first_gap).since));
    }
}

#[test]
fn an_entry_that_breaks_a_rule_changes_nothing() {
    let mut state = State::default();
    let old = data_file("messages", Some(day(0)), "old");
    let good = entry(
        &state,
        vec![
            Action::Cover(cover(day(0), 5)),
            Action::Cover(cover(day(1), 5)),
            Action::Add(old.clone()),
            Action::Add(data_file("users", None, "users")),
        ],
    );
    state.apply(&good).unwrap();
    state.mark_settled();
    let remove = |id: &str| Action::Remove(Removed { id: id.to_owned() });
    let mut kept = cover(day(0), 9);
    kept.keep_files = true;
    let mut keeps_nothing = cover(day(5), 9);
    keeps_nothing.keep_files = true;
    let bad = [
        ("covers nothing", vec![]),
        ("covers nothing", vec![Action::Add(data_file("users", None, "more"))]),
        ("must be removed", vec![Action::Cover(cover(day(0), 9))]),
        ("must be removed", vec![Action::Cover(cover(day(0), 9)), remove("old"), remove("users")]),
        ("not live", vec![Action::Cover(cover(day(1), 9)), remove("older")]),
        ("exported later", vec![Action::Cover(cover(day(0), 5)), remove("old")]),
        ("cuts through", vec![Action::Cover(cover(cell(0, Some(1)), 9))]),
        ("twice", vec![Action::Cover(cover(day(3), 9)), Action::Cover(cover(cell(3, Some(2)), 9))]),
        ("twice", vec![Action::Cover(cover(cell(3, Some(2)), 9)), Action::Cover(cover(day(3), 9))]),
        ("keeps the files of nothing", vec![Action::Cover(keeps_nothing)]),
        ("does not write", vec![Action::Cover(kept), Action::Add(data_file("messages", Some(day(0)), "new"))]),
        (
            "does not write",
            vec![Action::Cover(cover(day(3), 9)), Action::Add(data_file("messages", Some(day(2)), "new"))],
        ),
        ("there already", vec![Action::Cover(cover(day(3), 9)), Action::Add(data_file("users", None, "users"))]),
        ("no place", vec![Action::Cover(cover(day(3), 9)), Action::Add(data_file("../users", None, "new"))]),
        ("no place", vec![Action::Cover(cover(day(3), 9)), Action::Add(data_file("users", None, "a/b"))]),
        ("not the last commit", vec![Action::Void(Void { entry: 1, lost: vec![] })]),
        ("stands alone", vec![Action::Cover(cover(day(3), 9)), Action::Void(Void { entry: 1, lost: vec![] })]),
    ];
    let before = state.clone();
    for (reason, actions) in bad {
        let error = state.apply(&entry(&state, actions)).unwrap_err();
        assert!(error.reason.contains(reason), "`{reason}` is not in `{}`", error.reason);
        assert_eq!(state, before);
    }
    let mut skipping = entry(&state, vec![Action::Cover(cover(day(3), 9))]);
    skipping.number += 1;
    assert!(state.apply(&skipping).is_err());
    let mut columns = entry(&state, vec![Action::Cover(cover(day(3), 9))]);
    columns.columns = Some(Columns::default());
    assert!(state.apply(&columns).unwrap_err().reason.contains("stands alone"));
    let mut unsettled = entry(&state, vec![Action::Cover(cover(day(3), 9))]);
    unsettled.settled -= 1;
    assert!(state.apply(&unsettled).is_err());
    assert_eq!(state, before);
}

fn columns(exclude: &str) -> Columns {
    let excluded = [("messages".to_owned(), [exclude.to_owned()].into())].into();
    Columns { excluded, ..Columns::default() }
}

#[test]
fn a_change_of_columns_covers_nothing_and_outlives_snapshots() {
    let mut state = State::default();
    for (number, exclude) in [(1, "html"), (2, "text")] {
        let mut change = entry(&state, Vec::new());
        change.columns = Some(columns(exclude));
        state.apply(&change).unwrap();
        assert_eq!((state.columns().entry, &state.columns().columns), (number, &columns(exclude)));
        assert_eq!(Entry::from_json(number, &change.to_json()).unwrap(), change);
    }
    assert!(state.covers().next().is_none());
    state.apply(&entry(&state, vec![Action::Cover(cover(day(0), 5))])).unwrap();
    assert_eq!(state.columns().entry, 2);
    assert_eq!(snapshot::read(3, &snapshot::write(&state).unwrap()).unwrap(), Some(state));
}
