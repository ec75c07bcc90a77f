//! What a lake does when all goes well, and what it refuses.

use serde_json::json;

use super::fault_store::FaultStore;
use super::*;
use crate::error::Kind;
use crate::lake::entry::Exception;
use crate::lake::identity::{FORMAT, Identity, Include, Selection, Source};

async fn commit(
    lake: &Lake,
    state: &mut State,
    name: &str,
    mode: Mode,
    windows: &[Window],
    exported_at: i64,
) -> Outcome {
    let proposal = staged(lake, name, mode, windows, exported_at).await;
    lake.commit(state, &proposal).await.unwrap()
}

pub(super) async fn quarters_become_a_day_and_snapshots_stay(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let mut state = State::default();
    for quarter in 0..4 {
        commit(&lake, &mut state, &format!("q{quarter}"), Mode::Extend, &[cell(0, Some(quarter))], quarter).await;
    }
    assert_eq!(state.frontier(), Some(day(0).until));
    let outcome = commit(&lake, &mut state, "day", Mode::Replace { read_at: 5 }, &[day(0)], 9).await;
    assert_eq!(outcome, Outcome::Committed { entry: 5, superseded: vec![], settled: true });
    let state = assert_exact(&store).await;
    assert_eq!(windows(&state), [day(0)]);
    assert_eq!(state.files_of(day(0)).count(), 1);
    assert_eq!(state.files().count(), 1 + 2 * 5);
    assert_eq!(state.origin(), Some(origin()));
}

pub(super) async fn an_unchanged_cell_keeps_its_files_and_is_exported_anew(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let mut state = State::default();
    commit(&lake, &mut state, "first", Mode::Extend, &[day(0)], 1).await;
    let mut proposal = staged(&lake, "again", Mode::Replace { read_at: 2 }, &[day(0)], 5).await;
    proposal.covers[0].keep_files = true;
    assert_eq!(lake.commit(&mut state, &proposal).await.unwrap_err().kind(), Kind::Internal);
    proposal.add.remove(0);
    assert_eq!(entry_of(&lake.commit(&mut state, &proposal).await.unwrap()), Some(2));
    let state = assert_exact(&store).await;
    assert_eq!(state.files_of(day(0)).map(|live| live.entry).collect::<Vec<_>>(), [1]);
    assert_eq!(state.covers().next().unwrap().cover.exported_at, exported(5));
}

pub(super) async fn what_others_did_meanwhile_decides(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let mut state = State::default();
    commit(&lake, &mut state, "a", Mode::Extend, &[day(0), day(1)], 5).await;

    // Each of these starts from an empty view of the lake.
    let all = commit(&lake, &mut State::default(), "b", Mode::Extend, &[day(1)], 9).await;
    assert_eq!(all, Outcome::AlreadyCovered { by_entry: 1 });
    let inside = commit(&lake, &mut State::default(), "c", Mode::Extend, &[cell(0, Some(2))], 9).await;
    assert_eq!(inside, Outcome::AlreadyCovered { by_entry: 1 });
    let some = commit(&lake, &mut State::default(), "d", Mode::Extend, &[day(1), day(2)], 9).await;
    assert_eq!(some, Outcome::Committed { entry: 2, superseded: vec![day(1)], settled: true });
    let older = commit(&lake, &mut State::default(), "e", Mode::Replace { read_at: 3 }, &[day(0)], 4).await;
    assert_eq!(older, Outcome::Stale { by_entry: 1 });

    let refused = async |name: &str, mode: Mode, window: Window| {
        let proposal = staged(&lake, name, mode, &[window], 20).await;
        lake.commit(&mut State::default(), &proposal).await.unwrap_err().kind()
    };
    commit(&lake, &mut state, "f", Mode::Extend, &[cell(3, Some(0))], 9).await;
    let part = commit(&lake, &mut State::default(), "g", Mode::Extend, &[day(3)], 10).await;
    assert_eq!(part, Outcome::AlreadyCovered { by_entry: 3 }, "what is left of it is for the next run");
    assert_eq!(refused("h", Mode::Replace { read_at: 4 }, cell(0, Some(1))).await, Kind::Usage);
    assert_eq!(refused("i", Mode::Replace { read_at: 1 }, day(0)).await, Kind::Temporary);
    // Rows that would be added are in no other commit, so that there is nothing to leave to others.
    assert_eq!(refused("j", Mode::Merge { read_at: 1 }, day(0)).await, Kind::Temporary);
    let older = staged(&lake, "k", Mode::Merge { read_at: 1 }, &[day(0)], 4).await;
    assert_eq!(lake.commit(&mut State::default(), &older).await.unwrap_err().kind(), Kind::Temporary);
    let state = assert_exact(&store).await;
    assert_eq!(state.next(), 4);
}

pub(super) async fn files_are_read_wherever_they_are(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let file = data_file("messages", Some(day(0)), "some-file");
    stage(&lake, &file).await;
    assert_eq!(lake.read(&file).await.unwrap().bytes().await.unwrap(), "some-file");
    store.rename(&file.staged_key().path(), &file.key().path()).await.unwrap();
    assert_eq!(lake.read(&file).await.unwrap().bytes().await.unwrap(), "some-file");
}

pub(super) async fn a_file_that_was_replaced_meanwhile_is_told_from_one_that_is_lost(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let mut state = State::default();
    commit(&lake, &mut state, "old", Mode::Extend, &[day(0)], 1).await;
    let old = state.files_of(day(0)).next().unwrap().file.clone();
    commit(&lake, &mut state, "new", Mode::Replace { read_at: 2 }, &[day(0)], 2).await;
    assert_eq!(lake.read(&old).await.unwrap_err().kind(), Kind::Temporary);
    let new = state.files_of(day(0)).next().unwrap().file.clone();
    store.delete(&new.key().path()).await.unwrap();
    assert_eq!(lake.read(&new).await.unwrap_err().kind(), Kind::Data);
}

pub(super) async fn a_commit_of_files_that_are_not_there_is_undone_and_says_so(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let mut state = State::default();
    commit(&lake, &mut state, "old", Mode::Extend, &[day(0)], 1).await;
    let mut proposal = staged(&lake, "new", Mode::Replace { read_at: 2 }, &[day(0)], 2).await;
    proposal.add.push(data_file("reactions", Some(day(0)), "never-staged"));
    assert_eq!(lake.commit(&mut state, &proposal).await.unwrap_err().kind(), Kind::Temporary);
    let state = assert_exact(&store).await;
    assert_eq!(state.files_of(day(0)).map(|live| live.entry).collect::<Vec<_>>(), [1]);
}

pub(super) async fn large_files_are_staged_in_parts_and_an_aborted_one_leaves_nothing(place: &Place) {
    let lake = lake(&place.store().await);
    let run_id = Uuid::from_u128(5);
    let chunk = bytes::Bytes::from(vec![7u8; 3_000_001]);
    let mut kept = lake.stage(run_id, "kept").unwrap();
    let mut aborted = lake.stage(run_id, "aborted").unwrap();
    for _ in 0..9 {
        kept.write(chunk.clone()).await.unwrap();
        aborted.write(chunk.clone()).await.unwrap();
    }
    aborted.abort().await.unwrap();
    let object = kept.finish().await.unwrap();
    let key = Key::Staged { run_id, file: "kept".to_owned() };
    assert_eq!(objects(lake.store()).await, std::slice::from_ref(&key));
    let bytes = lake.store().get(&key.path()).await.unwrap().bytes().await.unwrap();
    assert_eq!(object.bytes, 27_000_009);
    assert_eq!(bytes, vec![7u8; 27_000_009]);
    assert_eq!(object.xxh3, format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes)));
}

pub(super) async fn long_lists_lie_aside_once(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let mut state = State::default();
    let mut proposal = staged(&lake, "a", Mode::Extend, &[day(0), day(1), day(2)], 1).await;
    let lists = super::super::Lists {
        missing_channels: (0..5000).map(|number| format!("messaging:{number}")).collect(),
        failed_channels: vec![Exception { cid: "messaging:x".into(), reason: "task failed".into() }],
        task_ids: vec!["t".into()],
        ..super::super::Lists::default()
    };
    proposal.covers[0].record.lists = lists.clone();
    proposal.covers[1].record.lists = lists.clone();
    proposal.covers[2].record.lists.task_ids.push("t".into());
    lake.commit(&mut state, &proposal).await.unwrap();
    assert_eq!(objects(&store).await.iter().filter(|key| matches!(key, Key::Lists(_))).count(), 1);
    let records: Vec<_> = state.covers().map(|covered| covered.cover.record.clone()).collect();
    assert_eq!(records.iter().map(CellRecord::missing_channels).collect::<Vec<_>>(), [5000, 5000, 0]);
    assert_eq!(lake.lists(&records[1]).await.unwrap(), lists);
    let in_entry = &records[1].lists;
    assert_eq!(
        (in_entry.len(), &in_entry.failed_channels),
        (1, &lists.failed_channels),
        "few that failed are there too"
    );
    assert_eq!(lake.lists(&records[2]).await.unwrap().task_ids, ["t"]);

    let key = Key::Lists(records[0].lists_aside.as_ref().unwrap().xxh3.clone());
    store.put(&key.path(), "{}".into()).await.unwrap();
    assert_eq!(lake.lists(&records[0]).await.unwrap_err().kind(), Kind::Data);
}

pub(super) async fn a_hole_in_the_log_is_refused(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let mut state = State::default();
    for number in 0..3 {
        commit(&lake, &mut state, &format!("r{number}"), Mode::Extend, &[day(number)], 1).await;
    }
    store.delete(&Key::Entry(2).path()).await.unwrap();
    let error = lake.state().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.report().contains("00000002.json` is gone"), "{}", error.report());
}

pub(super) async fn a_snapshot_is_a_shortcut_and_nothing_more(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let mut state = State::default();
    for number in 0..305 {
        let proposal = Proposal {
            commit_id: Uuid::now_v7(),
            mode: Mode::Extend,
            covers: vec![cover(day(number), 1)],
            add: Vec::new(),
            origin: None,
        };
        lake.commit(&mut state, &proposal).await.unwrap();
    }
    let found: Vec<Key> = objects(&store).await.into_iter().filter(|key| matches!(key, Key::Snapshot(_))).collect();
    assert_eq!(found, [Key::Snapshot(200), Key::Snapshot(300)], "of three, two are kept");

    let mut replayed = State::default();
    lake.refresh(&mut replayed).await.unwrap();
    assert_eq!(lake.state().await.unwrap(), replayed);

    // What is no snapshot of ours is none.
    let other = object_store::path::Path::from("_chatlake/snapshots/00000000000000000400.json");
    store.put(&other, r#"{"reader_version":1,"xxh3":"","state":{}}"#.into()).await.unwrap();
    assert_eq!(lake.state().await.unwrap(), replayed);

    // With the log's first half out of reach, only a snapshot can be the way.
    store.delete(&Key::Entry(50).path()).await.unwrap();
    assert_eq!(lake.state().await.unwrap(), replayed);
    let bytes = store.get(&Key::Snapshot(300).path()).await.unwrap().bytes().await.unwrap();
    let mut damaged = bytes.to_vec();
    damaged[bytes.len() / 2] ^= 1;
    store.put(&Key::Snapshot(300).path(), damaged.into()).await.unwrap();
    assert_eq!(lake.state().await.unwrap(), replayed);
    store.put(&Key::Snapshot(200).path(), "{}".into()).await.unwrap();
    assert_eq!(lake.state().await.unwrap_err().kind(), Kind::Data);
}

pub(super) async fn a_store_that_ignores_conditions_is_found_out(place: &Place) {
    let mut store = FaultStore::new(place.store().await);
    let honest: Arc<dyn ObjectStore> = Arc::new(store.clone());
    assert!(lake(&honest).probe_conditional_put(Uuid::from_u128(1)).await.unwrap());
    store.ignores_conditions = true;
    let careless: Arc<dyn ObjectStore> = Arc::new(store);
    assert!(!lake(&careless).probe_conditional_put(Uuid::from_u128(2)).await.unwrap());
    assert_eq!(objects(&honest).await, []);
}

fn identity() -> Identity {
    Identity {
        format: FORMAT,
        app_key: "app".to_owned(),
        source: Source::Stream,
        selection: Selection::default(),
        include: Include::default(),
        partition_by: vec!["event_date".to_owned()],
    }
}

pub(super) async fn a_lake_belongs_to_one_app_and_one_selection(place: &Place) {
    let store = place.store().await;
    let lake = lake(&store);
    let mut wanted = identity();
    wanted.selection.channel_types = vec!["team".to_owned(), "messaging".to_owned()];
    assert_eq!(lake.identity().await.unwrap(), None);
    lake.ensure_identity(&wanted).await.unwrap();
    wanted.selection.channel_types.reverse();
    lake.ensure_identity(&wanted).await.unwrap();

    let mut other = identity();
    other.selection.filter = Some(json!({"frozen": {"$eq": false}}));
    other.include.truncated_messages = true;
    let error = lake.ensure_identity(&other).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(
        error.to_string(),
        "the lake at the lake was made for something else: \
         `include.truncated_messages` is false in the lake and true in this run; \
         `selection.channel_types` is [\"messaging\",\"team\"] in the lake and not set in this run; \
         `selection.filter` is not set in the lake and {\"frozen\":{\"$eq\":false}} in this run"
    );
}

pub(super) async fn whoever_claims_a_lake_second_is_held_to_the_first(place: &Place) {
    let store = place.store().await;
    let (lake, mut other) = (lake(&store), identity());
    other.app_key = "other".to_owned();
    let (ours, theirs) = (identity(), other);
    let (a, b) = futures::join!(lake.ensure_identity(&ours), lake.ensure_identity(&theirs));
    assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1);
}

pub(super) async fn a_newer_lake_is_refused(place: &Place) {
    let store = place.store().await;
    let mut newer = serde_json::to_value(identity()).unwrap();
    newer["format"] = json!(FORMAT + 1);
    store.put(&Key::Identity.path(), newer.to_string().into()).await.unwrap();
    let error = lake(&store).ensure_identity(&identity()).await.unwrap_err();
    assert!(error.report().contains("newer chatlake"), "{}", error.report());
}
