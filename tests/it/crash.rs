//! Every durable step of a run is its last: right before it and right after it the process dies, and whoever runs the same
//! command again ends with the same lake.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chatlake::crash::VARIABLE;
use simulator::Size;
use uuid::Uuid;

use crate::bench::{Bench, Contents, Ran, at};
use crate::inside::Inside;
use crate::ledger::Ledger;
use crate::watch::{Seen, Watch};

const SIGABRT: i32 = 6;
const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

/// Few channels, three requests.
fn small() -> Size {
    Size { channels: 9, users: 12, days: 2, messages_per_channel_day: 3, ..Size::default() }
}

/// One command on one kind of lake.
struct Matrix {
    bench: Bench,
    /// The lake that each round starts from; none: an empty one.
    base: Option<PathBuf>,
    arguments: Vec<&'static str>,
    since: &'static str,
    until: &'static str,
}

impl Matrix {
    fn new(bench: Bench, more: &[&'static str]) -> Self {
        // One request after the other and at full pace: nothing waits.
        let mut arguments = vec!["sync", "--json", "--channels-per-request", "3"];
        arguments.extend(["--max-concurrent-exports", "1", "--rate-share", "1"]);
        arguments.extend(more);
        let base = Path::new(&bench.lake).exists().then(|| PathBuf::from(&bench.lake));
        Self { bench, base, arguments, since: RANGE[0], until: RANGE[1] }
    }

    fn replaces(&self) -> bool {
        self.arguments.contains(&"--replace")
    }

    /// The next lake to try on.
    fn next_lake(&mut self) {
        let lake = self.bench.folder.path().join(Uuid::now_v7().to_string());
        if let Some(base) = &self.base {
            copy(base, &lake);
        }
        self.bench.use_lake(&lake);
    }

    fn run_until(&self, at: &str) -> Ran {
        Ran::from(self.bench.command(&self.arguments).arg("-v").env(VARIABLE, at).output().unwrap())
    }

    /// A run that does not die: the steps that it takes, and what comes out.
    fn whole(&mut self) -> (BTreeSet<String>, Contents) {
        self.next_lake();
        let ran = self.run_until("nowhere:before#1");
        assert_eq!(ran.code, 0, "{ran:#?}");
        let named = ran.stderr.lines().filter_map(|line| line.split_once("durable step step=\"")?.1.strip_suffix('"'));
        let mut steps: BTreeSet<String> = named.map(str::to_owned).collect();
        // On S3 a rename is two steps.
        let copies: Vec<_> = steps.iter().filter_map(|step| step.strip_prefix("rename-")).collect();
        steps.extend(copies.into_iter().map(|noun| format!("copy-{noun}")).collect::<Vec<_>>());
        (steps, self.bench.assert_exact(self.since, self.until))
    }

    /// Dies at every one of these steps. Yields at how many points.
    fn explore(&mut self, wanted: impl Fn(&str) -> bool) -> usize {
        let begun = Instant::now();
        let (steps, expected) = self.whole();
        let (mut points, mut seen, mut lost) = (0, Seen::default(), 0);
        for step in steps.iter().filter(|step| wanted(step)) {
            for side in ["before", "after"] {
                for nth in 1.. {
                    let Some((ledger, looks)) = self.round(&format!("{step}:{side}#{nth}"), &expected) else { break };
                    points += 1;
                    lost += ledger.lost();
                    seen.looks += looks.looks;
                    seen.unsettled += looks.unsettled;
                }
            }
        }
        let seconds = begun.elapsed().as_secs();
        println!(
            "{points} crash points of {} steps in {seconds} s; {seen:?}; {lost} exports lost in flight",
            steps.len()
        );
        points
    }

    /// Dies at a point, runs again, compares. None if the run has no such point.
    fn round(&mut self, at: &str, expected: &Contents) -> Option<(Ledger, Seen)> {
        self.next_lake();
        let mut ledger = Ledger::open(&self.bench);
        let watch = Watch::over(&self.bench);
        let died = self.run_until(at);
        if died.code == 0 {
            watch.end();
            return None;
        }
        println!("{at}");
        assert_eq!(died.signal, Some(SIGABRT), "{died:#?}");
        ledger.close_run(&self.bench, self.replaces(), false);
        let again = self.bench.run(&self.arguments);
        assert_eq!(again.code, 0, "{again:#?}");
        ledger.close_run(&self.bench, self.replaces(), true);
        let seen = watch.end();
        let run_id = again.summary()["run_id"].as_str().unwrap().parse().unwrap();
        Inside::of(&self.bench).assert_settled(&[run_id]);
        self.assert_same(expected);
        std::fs::remove_dir_all(&self.bench.lake).unwrap();
        Some((ledger, seen))
    }

    /// What readers see is what they see after a run that did not die, vanished rows included, and what the app holds.
    fn assert_same(&self, expected: &Contents) {
        let found = self.bench.assert_exact(self.since, self.until);
        let sorted = |contents: &Contents| {
            let (mut messages, mut reactions) = (contents.messages.clone(), contents.reactions.clone());
            messages.sort();
            reactions.sort();
            (messages, reactions)
        };
        assert!(sorted(&found) == sorted(expected), "other rows than those of a run that did not die");
        found.assert_one_file_each(&["messages", "reactions"]);
        // Snapshots are added by every commit, and a replacement may have been committed before its run died.
        if !self.replaces() {
            assert_eq!(found.rows, expected.rows);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// From the frontier on: both days are new.
fn automatic() -> Matrix {
    let mut bench = Bench::new(&small());
    bench.set_time(at("2026-01-07T00:10:00Z"));
    Matrix::new(bench, &["--start", "2026-01-05", "--revisit", "none"])
}

#[test]
fn a_sync_that_dies_at_any_step_is_made_good_by_the_next() {
    let points = automatic().explore(|_| true);
    assert!(points > 60, "only {points} crash points");
}
