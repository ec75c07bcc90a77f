//! What was paid: every export that Stream began, against what the journals said when the run that asked for it was over.

use std::collections::BTreeSet;

use chatlake::journal::Record;
use jiff::Timestamp;

use crate::bench::Bench;
use crate::inside::Inside;

/// The exports of one lake.
#[derive(Default)]
pub struct Ledger {
    /// Calls of the simulator that are accounted for.
    calls: usize,
    exports: Vec<Export>,
    /// Tasks that a journal or the log has named.
    written: BTreeSet<String>,
    /// Tasks that the log names.
    committed: BTreeSet<String>,
}

struct Export {
    task_id: String,
    cids: BTreeSet<String>,
    asked: [Option<Timestamp>; 2],
    failed: bool,
}

impl Ledger {
    /// An account that begins now.
    pub fn open(bench: &Bench) -> Self {
        Self { calls: bench.exports(), ..Self::default() }
    }

    /// A run is over, however it ended. A channel's window was asked for a second time only if its first export was not
    /// written down, which is one that was in flight when its run died; or failed; or was committed, and `replaces` wants a
    /// newer one. Nothing was asked for without an intent.
    #[track_caller]
    pub fn close_run(&mut self, bench: &Bench, replaces: bool, ended: bool) {
        let inside = Inside::of(bench);
        let calls = bench.simulator.calls_of("ExportChannels");
        let committed = inside.committed_tasks();
        let mut intents: Vec<BTreeSet<String>> = Vec::new();
        for record in inside.records() {
            match record {
                Record::Task { task, .. } => self.written.extend([task.task_id]),
                Record::Intent { cids, .. } => intents.push(cids.into_iter().collect()),
                Record::Span(_) => {}
            }
        }
        self.written.extend(committed.iter().cloned());
        for call in &calls[self.calls..] {
            let Some(task_id) = call.task_id.clone() else { continue };
            let failed = call.fault.as_deref() == Some("fail_task");
            let cids = call.cids.iter().cloned().collect();
            let export = Export { task_id, cids, asked: [call.since, call.until], failed };
            for earlier in &self.exports {
                let is_same = earlier.asked == export.asked && !earlier.cids.is_disjoint(&export.cids);
                let newer = replaces && self.committed.contains(&earlier.task_id);
                let was_known = self.written.contains(&earlier.task_id) && !earlier.failed && !newer;
                assert!(
                    !is_same || !was_known,
                    "task {} was written down, and {:?} were asked for again",
                    earlier.task_id,
                    export.cids
                );
            }
            // Once it is committed its journal may go.
            let is_intended = ended
                || committed.contains(&export.task_id)
                || intents.iter().any(|intent| intent.is_superset(&export.cids));
            assert!(is_intended, "{:?} were asked for without an intent", export.cids);
            self.exports.push(export);
        }
        self.calls = calls.len();
        self.committed = committed;
    }

    /// Exports that Stream began and nobody could know of.
    pub fn lost(&self) -> usize {
        self.exports.iter().filter(|export| !self.written.contains(&export.task_id)).count()
    }
}
