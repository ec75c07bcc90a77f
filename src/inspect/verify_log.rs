//! The log as a whole: every entry readable, by the rules, and folded to what its snapshots say.

use std::collections::BTreeMap;

use futures::StreamExt;

use super::verify::Differences;
use super::{AT_ONCE, Object, objects};
use crate::error::{Kind, Result};
use crate::lake::snapshot::Snapshot;
use crate::lake::{Key, Lake, State};

const RESTORE: &str = "the log is never edited: restore the object from a version or a backup of the bucket";

/// What the log comes to.
#[derive(Default)]
pub(super) struct Log {
    /// Its fold; none when it cannot be folded, not even from a snapshot on.
    pub(super) state: Option<State>,
    /// The objects with long lists that entries refer to, each with the first entry that does.
    pub(super) lists: BTreeMap<String, u64>,
    /// The entries that could be read.
    pub(super) entries: u64,
}

/// Reads every entry, from the first on.
pub(super) async fn check(lake: &Lake, found: &mut Differences) -> Result<Log> {
    let snapshots = lake.snapshots().await?;
    let listed = objects(lake, Some(&Key::log())).await?;
    let number = |object: &Object| match Key::parse(&object.path)? {
        Key::Entry(number) => Some(number),
        _ => None,
    };
    let last = listed.iter().filter_map(number).max().unwrap_or(0);
    let mut log = Log::default();
    let mut fold = Some(State::default());
    let mut entries =
        futures::stream::iter(1..=last).map(async |number| (number, lake.entry(number).await)).buffered(AT_ONCE);
    while let Some((number, entry)) = entries.next().await {
        let key = Key::Entry(number);
        let entry = match entry {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                found.add(key, format!("is gone, entry {last} is there"), RESTORE);
                fold = None;
                continue;
            }
            Err(error) if error.kind() == Kind::Data => {
                found.add(key, one_line(&error), RESTORE);
                fold = None;
                continue;
            }
            Err(error) => return Err(error),
        };
        log.entries += 1;
        for action in &entry.actions {
            if let Some(name) = action.lists_aside() {
                log.lists.entry(name.to_owned()).or_insert(number);
            }
        }
        let Some(state) = &mut fold else { continue };
        if let Err(broken) = state.apply(&entry) {
            found.add(key, broken.reason, "keep `_chatlake/log/` as it is and report this, with the entry");
            fold = None;
        } else if snapshots.contains(&number) {
            snapshot(lake, number, state, found).await?;
        }
    }
    for number in snapshots.into_iter().filter(|number| *number > last) {
        let what = format!("is a snapshot through entry {number}, but the log ends with {last}: entries are gone");
        found.add(Key::Snapshot(number), what, "restore `_chatlake/log/` from versions or a backup of the bucket");
    }
    log.state = match fold {
        Some(state) => Some(state),
        // A snapshot behind the damage is as good a beginning for the checks that follow.
        None => match lake.state().await {
            Ok(state) => Some(state),
            Err(error) if error.kind() == Kind::Data => None,
            Err(error) => return Err(error),
        },
    };
    Ok(log)
}

async fn snapshot(lake: &Lake, number: u64, state: &State, found: &mut Differences) -> Result<()> {
    let next = "delete it: a snapshot only saves time";
    match lake.snapshot(number).await? {
        Snapshot::Good(snapshot) if *snapshot == *state => {}
        Snapshot::Good(_) => found.add(Key::Snapshot(number), "is not what the log comes to", next),
        Snapshot::Damaged => found.add(Key::Snapshot(number), "is damaged", next),
        // By a run that has written a newer one since they were listed.
        Snapshot::Gone => {}
    }
    Ok(())
}

/// An error without its hint.
pub(super) fn one_line(error: &crate::error::Error) -> String {
    let report = error.report();
    let first = report.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;
    use crate::lake::snapshot::write;

    #[tokio::test]
    async fn a_snapshot_that_is_superseded_meanwhile_is_no_difference_and_a_damaged_one_is() {
        let lake = Lake::new(Arc::new(InMemory::new()), "memory".to_owned());
        let state = State::default();
        let good = write(&state).unwrap();
        for (bytes, differences) in [(None, 0), (Some(good.clone()), 0), (Some(good[1..].to_vec()), 1)] {
            if let Some(bytes) = bytes {
                lake.store().put(&Key::Snapshot(0).path(), bytes.into()).await.unwrap();
            }
            let mut found = Differences::default();
            snapshot(&lake, 0, &state, &mut found).await.unwrap();
            assert_eq!(found.total, differences);
        }
    }
}
