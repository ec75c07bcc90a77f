//! Room for what does not fit in memory.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::{Finding, within};
use crate::error::{Error, Kind, Result};
use crate::figures::bytes;
use crate::temp_dir;

/// Below this a day of a middling app may not fit.
const ENOUGH_BYTES: u64 = 1 << 30;
/// What is written to see whether it can be.
const TRIED_BYTES: usize = 1 << 20;

pub(super) async fn finding(temp_dir: Option<&Path>) -> Finding {
    let folder = temp_dir.map_or_else(std::env::temp_dir, Path::to_owned);
    let look = tokio::task::spawn_blocking(move || look(&folder));
    within("temp dir", async move {
        look.await.unwrap_or_else(|error| Err(Error::new(Kind::Internal, "a worker thread died").because(error)))
    })
    .await
}

fn look(folder: &Path) -> Result<Finding> {
    let name = folder.display();
    write_into(folder).map_err(|error| temp_dir::failed(format!("cannot write a file in {name}"), error))?;
    const NEEDED: &str = "of a span, what does not fit in --memory-limit, about half as much again as its Parquet";
    let Some(free_bytes) = free_bytes(folder) else {
        return Ok(Finding::warning(
            format!("{name} can be written; how much room it has is not known. Needed: {NEEDED}"),
            "look yourself, or name another folder with --temp-dir",
        ));
    };
    let message = format!("{name} can be written and has {} free. Needed: {NEEDED}", bytes(free_bytes));
    let finding = if free_bytes < ENOUGH_BYTES {
        Finding::warning(message, "name a roomier folder with --temp-dir, or keep spans short")
    } else {
        Finding::ok(message)
    };
    Ok(Finding { figures: json!({ "free_bytes": free_bytes }), ..finding })
}

/// Writes a file that has no name, so that nothing is left whatever happens.
fn write_into(folder: &Path) -> io::Result<()> {
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![0; TRIED_BYTES])?;
    file.sync_all()
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::check::Verdict;

    #[test]
    fn a_folder_that_is_none_is_a_mistake_and_one_with_room_is_told_by_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let found = look(folder.path()).unwrap();
        assert!(matches!(found.result, Verdict::Ok | Verdict::Warning), "{found:?}");
        assert!(found.figures["free_bytes"].as_u64().is_some());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(look(&folder.path().join("missing")).unwrap_err().kind(), Kind::Usage);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(look(&file).unwrap_err().kind(), Kind::Usage);
    }
}
