//! What was paid: every export that Stream began, against what the journals said when the run that asked for it was over.

use std::collections::BTreeSet;

use chatlake::journal::Record;
use jiff::{SignedDuration, Timestamp};
use simulator::Call;

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
    /// Tasks that the log has named.
    committed: BTreeSet<String>,
}

#[derive(Debug)]
struct Export {
    at: Timestamp,
    task_id: String,
    cids: BTreeSet<String>,
    asked: [Option<Timestamp>; 2],
    failed: bool,
}

impl Export {
    /// None if Stream began nothing.
    fn of(call: &Call) -> Option<Self> {
        Some(Self {
            at: call.at,
            task_id: call.task_id.clone()?,
            cids: call.cids.iter().cloned().collect(),
            asked: [call.since, call.until],
            failed: call.fault.as_deref() == Some("fail_task"),
        })
    }
}

impl Ledger {
    /// An account of the lake as it is. What Stream exported for other lakes is written down in none of its journals.
    pub fn open(bench: &Bench) -> Self {
        let calls = bench.simulator.calls_of("ExportChannels");
        let exports = calls.iter().filter_map(Export::of).collect();
        let mut ledger = Self { calls: calls.len(), exports, ..Self::default() };
        ledger.read(bench);
        ledger
    }

    /// A run is over, however it ended. A channel's window was asked for a second time only if its first export was not
    /// written down, which is one that was in flight when its run died; or failed; or was committed, and `replaces` wants a
    /// newer one. Nothing was asked for without an intent.
    #[track_caller]
    pub fn close_run(&mut self, bench: &Bench, replaces: bool, ended: bool) {
        let committed_before = self.committed.clone();
        let last = self.exports.iter().filter(|export| committed_before.contains(&export.task_id));
        let last = last.map(|export| export.at).max().unwrap_or(Timestamp::MIN);
        let intents = self.read(bench);
        let calls = bench.simulator.calls_of("ExportChannels");
        for export in calls[self.calls..].iter().filter_map(Export::of) {
            for earlier in &self.exports {
                let is_same = earlier.asked == export.asked && !earlier.cids.is_disjoint(&export.cids);
                // Stream tells its time in seconds: what was asked for within one of the last commit's may be older than that.
                let is_old = earlier.at.duration_since(last) < SignedDuration::from_secs(2);
                let newer = replaces && (is_old || committed_before.contains(&earlier.task_id));
                let was_known = self.written.contains(&earlier.task_id) && !earlier.failed && !newer;
                let again =
                    || format!("{earlier:?} was written down, and {export:?} was asked for: {:#?}", self.exports);
                assert!(!is_same || !was_known, "{}", again());
            }
            // Once it is committed its journal may go.
            let is_intended = ended
                || self.committed.contains(&export.task_id)
                || intents.iter().any(|intent| intent.is_superset(&export.cids));
            assert!(is_intended, "{:?} were asked for without an intent", export.cids);
            self.exports.push(export);
        }
        self.calls = calls.len();
    }

    /// Takes in what is written down, and yields what was intended.
    fn read(&mut self, bench: &Bench) -> Vec<BTreeSet<String>> {
        let inside = Inside::of(bench);
        let mut intents: Vec<BTreeSet<String>> = Vec::new();
        for record in inside.records() {
            match record {
                Record::Task { task, .. } => self.written.extend([task.task_id]),
                Record::Intent { cids, .. } => intents.push(cids.into_iter().collect()),
                Record::Span(_) | Record::Users(_) | Record::Refused { .. } => {}
            }
        }
        // Those of cells that were replaced since then are named no more.
        self.committed.extend(inside.committed_tasks());
        self.written.extend(self.committed.iter().cloned());
        intents
    }
}
