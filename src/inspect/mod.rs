//! Looking after a lake: what it holds, where its files are, whether it is as the log says.
//!
//! Nothing here writes. All of it reads the log first and objects second, and since runs may commit meanwhile, whatever looks
//! wrong is looked at again with the log as it is then.

pub mod against_stream;
pub mod files;
pub mod lateness;
pub mod shape;
pub mod status;
pub mod verify;

mod verify_log;
mod verify_rows;

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::error::{Error, Kind, Result};
use crate::lake::store_error::store_error;
use crate::lake::{DataFile, Identity, Key, Lake, State};

/// How often the log may grow under an inspection before it gives up.
pub(crate) const ROUNDS: usize = 20;
/// Objects that are looked at at once.
pub(crate) const AT_ONCE: usize = 16;

/// An object as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it is.
    pub path: Path,
    /// Its size.
    pub bytes: u64,
    /// When it was written, by the store's clock.
    pub modified_at: Timestamp,
}

impl From<ObjectMeta> for Object {
    fn from(meta: ObjectMeta) -> Self {
        let modified_at = Timestamp::from_microsecond(meta.last_modified.timestamp_micros()).unwrap_or_default();
        Self { path: meta.location, bytes: meta.size, modified_at }
    }
}

/// Whose lake this is and what is in it. A place without a lake is refused: an empty answer would hide a wrong `--lake`.
pub async fn open(lake: &Lake) -> Result<(Identity, State)> {
    let identity = lake.identity().await?;
    if let Some(identity) = &identity {
        identity.check_format(lake.display_url())?;
    }
    let state = lake.state().await?;
    match identity {
        Some(identity) => Ok((identity, state)),
        None if state.next() == 1 => Err(no_lake(lake)),
        None => Err(Error::new(Kind::Data, format!("`{}` at {} is gone", Key::Identity, lake.display_url()))
            .hint("restore it from a version or a backup of the bucket")),
    }
}

pub(crate) fn no_lake(lake: &Lake) -> Error {
    Error::new(Kind::Usage, format!("there is no lake at {}", lake.display_url()))
        .hint("check --lake, or make the lake with `chatlake sync`")
}

/// Every object below a folder, or in the lake.
pub(crate) async fn objects(lake: &Lake, folder: Option<&Path>) -> Result<Vec<Object>> {
    let cannot = |error| store_error("cannot list the objects", lake.display_url(), error);
    lake.store().list(folder).map_ok(Object::from).try_collect().await.map_err(cannot)
}

/// The size of an object; none where there is none.
pub(crate) async fn size_of(lake: &Lake, key: &Key) -> Result<Option<u64>> {
    match lake.store().head(&key.path()).await {
        Ok(found) => Ok(Some(found.size)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(store_error("cannot look for a file", lake.display_url(), error)),
    }
}

/// Where a file that was not listed at its final key is, and how large.
pub(crate) async fn find(lake: &Lake, file: &DataFile) -> Result<Option<(Key, u64)>> {
    // The final key is looked at last: the file may have moved there meanwhile.
    for key in [file.staged_key(), file.key()] {
        if let Some(bytes) = size_of(lake, &key).await? {
            return Ok(Some((key, bytes)));
        }
    }
    Ok(None)
}

/// The files that somebody's retention has taken away, by id: snapshots and rejects belong to no cell, and their partitions may
/// be dropped, but only whole. Takes every file of a partition, and whether it is there.
pub(crate) fn expired<'a>(state: &State, files: impl Iterator<Item = (&'a DataFile, bool)>) -> HashSet<&'a str> {
    let unsettled: HashSet<&str> =
        state.pending().into_iter().flat_map(|pending| &pending.added).map(|file| file.id.as_str()).collect();
    let mut partitions: HashMap<(&str, &str), (bool, Vec<&str>)> = HashMap::new();
    for (file, is_there) in files.filter(|(file, _)| file.cell.is_none()) {
        let (any, ids) = partitions.entry((&file.dataset, &file.partition)).or_default();
        *any |= is_there || unsettled.contains(file.id.as_str());
        ids.push(&file.id);
    }
    partitions.into_values().filter(|(any, _)| !any).flat_map(|(_, ids)| ids).collect()
}

pub(crate) fn too_busy() -> Error {
    Error::new(Kind::Temporary, "other runs keep committing to this lake").hint("run the same command again")
}
