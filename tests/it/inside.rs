//! A lake as the library sees it, and what must hold of it whatever has died.

use std::collections::BTreeSet;

use chatlake::journal::Record;
use chatlake::lake::{Key, Lake, State};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use uuid::Uuid;

use crate::bench::Bench;

/// A lake, opened by the library.
pub struct Inside {
    pub runtime: tokio::runtime::Runtime,
    pub lake: Lake,
}

impl Inside {
    /// The lake of a bench.
    pub fn of(bench: &Bench) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lake = runtime.block_on(Lake::open(&bench.lake, bench.env())).unwrap();
        Self { runtime, lake }
    }

    /// The log, folded.
    pub fn state(&self) -> State {
        self.runtime.block_on(self.lake.state()).unwrap()
    }

    /// Every object. All of them are chatlake's.
    pub fn objects(&self) -> BTreeSet<Key> {
        let listed: Vec<_> = self.runtime.block_on(self.lake.store().list(None).try_collect()).unwrap();
        let key = |path| Key::parse(path).unwrap_or_else(|| panic!("`{path}` is none of chatlake's"));
        listed.iter().map(|object| key(&object.location)).collect()
    }

    /// The journals of all runs.
    pub fn records(&self) -> Vec<Record> {
        let read = async |key: &Key| {
            let bytes = self.lake.store().get(&key.path()).await.unwrap().bytes().await.unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        let journals = self.objects().into_iter().filter(|key| matches!(key, Key::Journal { .. }));
        journals.map(|key| self.runtime.block_on(read(&key))).collect()
    }

    /// The exports that the covered cells come from.
    pub fn committed_tasks(&self) -> BTreeSet<String> {
        let lists = |record| self.runtime.block_on(self.lake.lists(record)).unwrap();
        self.state().covers().flat_map(|covered| lists(&covered.cover.record).task_ids).collect()
    }

    /// Nobody works on the lake any more: plain readers see what the log says, and nothing else lies about but what runs
    /// that died have left. Yields that.
    #[track_caller]
    pub fn assert_settled(&self, ended: &[Uuid]) -> Vec<Key> {
        let state = self.state();
        let objects = self.objects();
        let seen: BTreeSet<&Key> = objects.iter().filter(|key| matches!(key, Key::Data { .. })).collect();
        let said: BTreeSet<Key> = state.files().map(|live| live.file.key()).collect();
        assert_eq!(seen, said.iter().collect(), "plain readers see something else than the log says");
        let live: BTreeSet<Key> = state.files().map(|live| live.file.staged_key()).collect();
        let leftovers = leftovers_of_dead_runs(&objects);
        for key in &leftovers {
            assert!(!live.contains(key), "`{key}` is live and still staged");
            assert!(!ended.iter().any(|run| key.to_string().contains(&run.to_string())), "`{key}`: its run has ended");
        }
        leftovers
    }
}

/// What nobody reads any more and `chatlake gc` may remove.
pub fn leftovers_of_dead_runs(objects: &BTreeSet<Key>) -> Vec<Key> {
    let is_leftover = |key: &&Key| matches!(key, Key::Staged { .. } | Key::Journal { .. } | Key::Probe(_));
    objects.iter().filter(is_leftover).cloned().collect()
}
