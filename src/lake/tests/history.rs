//! A long history costs no more requests than a short one. What it costs in time is measured by `benches/log.rs`.

use super::fault_store::FaultStore;
use super::*;
use crate::lake::entry::{Action, Entry, READER_VERSION};
use crate::lake::snapshot;

/// A lake of hours, each an entry with files of five datasets, with the snapshots that their commits had left.
async fn lake_of_hours(entries: u64) -> Arc<dyn ObjectStore> {
    let store = Place::memory().unwrap().store().await;
    let mut state = State::default();
    for number in 1..=entries {
        let since = origin() + SignedDuration::from_hours(i64::try_from(number).unwrap());
        let window = Window::new(since, since + SignedDuration::from_hours(1)).unwrap();
        let id =
            |name: &str| format!("{number:08}{}", xxhash_rust::xxh3::xxh3_64(format!("{number}{name}").as_bytes()));
        let files = ["messages", "reactions"].map(|name| data_file(name, Some(window), &id(name)));
        let snapshots = ["channels", "members", "users"].map(|name| data_file(name, None, &id(name)));
        let added: Vec<DataFile> = files.into_iter().chain(snapshots).collect();
        if number == entries {
            // Whoever comes next settles it; of all the others, only the log is looked at.
            for file in &added {
                stage(&lake(&store), file).await;
            }
        }
        let entry = Entry {
            reader_version: READER_VERSION,
            number,
            commit_id: Uuid::from_u128(u128::from(number)),
            settled: number - 1,
            single_writer: false,
            actions: [Action::Cover(cover(window, 1))].into_iter().chain(added.into_iter().map(Action::Add)).collect(),
            columns: None,
        };
        state.apply(&entry).unwrap();
        state.mark_settled();
        store.put(&Key::Entry(number).path(), entry.to_json().into()).await.unwrap();
        if number.is_multiple_of(100) {
            store.put(&Key::Snapshot(number).path(), snapshot::write(&state).unwrap().into()).await.unwrap();
        }
    }
    store
}

/// How many operations it takes to read the state, to commit a cell with it, and to replace that cell.
async fn operations(entries: u64) -> [usize; 3] {
    let store = lake_of_hours(entries).await;
    let counted = FaultStore::new(Arc::clone(&store));
    let through: Arc<dyn ObjectStore> = Arc::new(counted.clone());
    let mut state = lake(&through).state().await.unwrap();
    let reading = counted.operations();
    assert_eq!((state.next(), state.files().count()), (entries + 1, usize::try_from(entries).unwrap() * 5));
    let mut counts = vec![reading];
    for (name, mode) in [("first", Mode::Extend), ("second", Mode::Replace { read_at: entries + 2 })] {
        let proposal = staged(&lake(&store), name, mode, &[cell(-5, None)], i64::from(name == "second")).await;
        let before = counted.operations();
        assert!(entry_of(&lake(&through).commit(&mut state, &proposal).await.unwrap()).is_some());
        counts.push(counted.operations() - before);
    }
    counts.try_into().unwrap()
}

#[tokio::test]
async fn a_long_history_costs_no_more_operations_than_a_short_one() {
    let short = operations(150).await;
    // Two listings, the snapshot, and every entry after it.
    assert_eq!(short[0], 2 + 1 + 50);
    assert_eq!(operations(1_150).await, short);
}

#[tokio::test]
async fn a_snapshot_grows_with_what_is_live() {
    let bytes = async |entries: u64| {
        let object = lake_of_hours(entries).await.get(&Key::Snapshot(entries).path()).await.unwrap();
        object.bytes().await.unwrap().len()
    };
    let (short, long) = (bytes(200).await, bytes(1_000).await);
    assert!(long < short * 6, "{short} and {long} bytes");
    assert!(long < 5_000 * 60, "{} bytes for each file and its part of a cover", long / 5_000);
}
