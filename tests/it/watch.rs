//! What holds at every instant: a thread that reads the log every few milliseconds while runs write and die.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use chatlake::lake::entry::Action;
use chatlake::lake::{DataFile, Key, State};
use object_store::ObjectStoreExt;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::bench::Bench;
use crate::inside::Inside;

const PAUSE: Duration = Duration::from_millis(4);

/// Reads a lake until it is ended.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What a watch has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// How often it looked.
    pub looks: u64,
    /// How often a plain glob showed something else than the log, which only an unsettled entry may cause.
    pub unsettled: u64,
}

impl Watch {
    /// Watches the lake of a bench from now on.
    pub fn over(bench: &Bench) -> Self {
        let inside = Inside::of(bench);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watch = move || {
            let (mut before, mut seen) = (State::default(), Seen::default());
            while !stopped.load(Ordering::Relaxed) {
                before = look(&inside, &before, &mut seen);
                std::thread::sleep(PAUSE);
            }
            look(&inside, &before, &mut seen);
            seen
        };
        Self { stop, thread: std::thread::Builder::new().name("watch".into()).spawn(watch).unwrap() }
    }

    /// Looks once more. Panics if anything did not hold at any time.
    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn look(inside: &Inside, before: &State, seen: &mut Seen) -> State {
    let state = inside.state();
    seen.looks += 1;
    assert!(state.next() >= before.next(), "the log has lost its last entry");
    let is_voided = (before.next()..state.next()).any(|number| {
        let entry = inside.runtime.block_on(inside.lake.entry(number)).unwrap().unwrap();
        entry.actions.iter().any(|action| matches!(action, Action::Void(_)))
    });
    if !is_voided {
        assert!(state.frontier() >= before.frontier(), "the frontier has gone back");
        for covered in before.covers() {
            let window = covered.cover.window;
            assert!(state.uncovered(window).is_empty(), "{window} is covered no more");
        }
    }
    let unsettled = glob(inside, &state);
    let unreadable = state.files().find_map(|live| inside.runtime.block_on(read(inside, &live.file)).err());
    let wrong = unreadable.or(unsettled.as_ref().err().cloned());
    // Whatever another run has committed meanwhile is looked at next time.
    if let Some(wrong) = wrong {
        assert_ne!(inside.state().next(), state.next(), "entry {}: {wrong}", state.next() - 1);
    }
    seen.unsettled += u64::from(unsettled == Ok(true));
    state
}

/// A live file is there and whole, wherever it is.
async fn read(inside: &Inside, file: &DataFile) -> Result<(), String> {
    let cannot = |error: &dyn std::fmt::Display| format!("`{}` cannot be read: {error}", file.key());
    let found = inside.lake.read(file).await.map_err(|error| cannot(&error.report()))?;
    let bytes: Bytes = found.bytes().await.map_err(|error| cannot(&error))?;
    let xxh3 = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes));
    if (bytes.len() as u64, &xxh3) != (file.bytes, &file.xxh3) {
        return Err(cannot(&"it is not what was written"));
    }
    let parquet = SerializedFileReader::new(bytes).map_err(|error| cannot(&error))?;
    let rows = parquet.metadata().file_metadata().num_rows();
    if rows.cast_unsigned() == file.rows { Ok(()) } else { Err(cannot(&format!("{rows} rows"))) }
}

/// What plain readers see is what the log says, but for the last entry's own files as long as those are on their way; and
/// nothing is taken away before all that replaces it is there. Yields whether they see something else.
fn glob(inside: &Inside, state: &State) -> Result<bool, String> {
    let seen: BTreeSet<Key> = inside.objects().into_iter().filter(|key| matches!(key, Key::Data { .. })).collect();
    let live: BTreeSet<Key> = state.files().map(|live| live.file.key()).collect();
    if seen == live {
        return Ok(false);
    }
    let Some(pending) = state.pending() else { return Err("plain readers see something else".to_owned()) };
    let added: BTreeSet<Key> = pending.added.iter().map(DataFile::key).collect();
    let removed: BTreeSet<Key> = pending.removed.iter().map(|live| live.file.key()).collect();
    let discarded: BTreeSet<Key> = pending.discarded.iter().map(DataFile::key).collect();
    if let Some(missing) = live.iter().find(|key| !seen.contains(key) && !added.contains(key)) {
        return Err(format!("`{missing}` is live and was settled, and plain readers do not see it"));
    }
    let may_be = |key: &Key| live.contains(key) || removed.contains(key) || discarded.contains(key);
    if let Some(foreign) = seen.iter().find(|key| !may_be(key)) {
        return Err(format!("plain readers see `{foreign}`, which is not live"));
    }
    if removed.iter().any(|key| !seen.contains(key)) {
        let is_there = |key: &&Key| inside.runtime.block_on(inside.lake.store().head(&key.path())).is_ok();
        if let Some(late) = added.iter().find(|key| !is_there(key)) {
            return Err(format!("files were taken away before `{late}` was there"));
        }
    }
    Ok(true)
}
