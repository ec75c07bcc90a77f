//! The log up to an entry, folded, so that a reader need not begin at its beginning. A snapshot is only a shortcut: one
//! that is missing or damaged costs time, nothing else.

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::Lake;
use super::entry::READER_VERSION;
use super::layout::Key;
use super::state::State;
use super::store::store_error;
use crate::error::{Error, Kind, Result};

/// Entries from one snapshot to the next: the most that a reader replays, but for a snapshot whose writer died.
const EVERY: u64 = 100;

#[derive(Serialize, Deserialize)]
struct Snapshot<'a> {
    reader_version: u32,
    /// Hash of the bytes of `state`.
    xxh3: String,
    #[serde(borrow)]
    state: &'a RawValue,
}

impl Lake {
    /// Writes a snapshot when one is due after the last entry of `state`. Everybody's would have the same bytes, so one
    /// that is there already is as good.
    pub(super) async fn snapshot_if_due(&self, state: &State) {
        let through = state.next() - 1;
        if !through.is_multiple_of(EVERY) || through == 0 {
            return;
        }
        let bytes = match to_json(state) {
            Ok(bytes) => bytes,
            Err(error) => return tracing::warn!(%error, through, "the log's snapshot cannot be made"),
        };
        let key = Key::Snapshot(through).path();
        match self.store().put_opts(&key, bytes.into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
            Err(error) => tracing::warn!(%error, through, "the log's snapshot cannot be written"),
        }
    }

    /// The state of the last good snapshot; of an empty log when there is none.
    pub(super) async fn last_snapshot(&self) -> Result<State> {
        for through in self.snapshots().await?.into_iter().rev() {
            match self.snapshot(through).await? {
                Some(state) => return Ok(state),
                None => tracing::warn!(through, "the log's snapshot is damaged, reading the log from an earlier one"),
            }
        }
        Ok(State::default())
    }

    /// The numbers of the snapshots that are there, good or not, in order.
    pub async fn snapshots(&self) -> Result<Vec<u64>> {
        let cannot = |error| store_error("cannot list the log's snapshots", self.display_url(), error);
        let listed: Vec<_> = self.store().list(Some(&Key::snapshots())).try_collect().await.map_err(cannot)?;
        let number = |object: &ObjectMeta| match Key::parse(&object.location)? {
            Key::Snapshot(number) => Some(number),
            _ => None,
        };
        let mut numbers: Vec<u64> = listed.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The state in a snapshot; `None` for one that is damaged or gone.
    pub async fn snapshot(&self, through: u64) -> Result<Option<State>> {
        let cannot = |error| store_error("cannot read the log's snapshots", self.display_url(), error);
        match self.store().get(&Key::Snapshot(through).path()).await {
            Ok(found) => from_json(through, &found.bytes().await.map_err(cannot)?),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(cannot(error)),
        }
    }
}

fn to_json(state: &State) -> serde_json::Result<Vec<u8>> {
    let state = serde_json::value::to_raw_value(state)?;
    let xxh3 = format!("{:032x}", xxh3_128(state.get().as_bytes()));
    serde_json::to_vec(&Snapshot { reader_version: READER_VERSION, xxh3, state: &state })
}

/// `None` for one that is damaged.
fn from_json(through: u64, bytes: &[u8]) -> Result<Option<State>> {
    let Ok(snapshot) = serde_json::from_slice::<Snapshot<'_>>(bytes) else { return Ok(None) };
    if snapshot.reader_version > READER_VERSION {
        let message = format!(
            "the lake's log needs format {}, this chatlake reads up to {READER_VERSION}",
            snapshot.reader_version
        );
        return Err(Error::new(Kind::Usage, message).hint("use the newer chatlake that wrote to this lake"));
    }
    let state = snapshot.state.get();
    if format!("{:032x}", xxh3_128(state.as_bytes())) != snapshot.xxh3 {
        return Ok(None);
    }
    Ok(serde_json::from_str::<State>(state).ok().filter(|state| state.next() == through + 1))
}
