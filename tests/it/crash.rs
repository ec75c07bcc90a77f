//! Every durable step of a run is its last: right before it and right after it the process dies, and whoever runs the same
//! command again ends with the same lake.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chatlake::crash::VARIABLE;
use chatlake::lake::{CellRecord, Changes, Cover, Mode, Proposal};
use chatlake::window::Window;
use object_store::ObjectStoreExt;
use simulator::switches::Switches;
use simulator::{Size, World};
use uuid::Uuid;

use crate::bench::{Bench, Contents, Place, Ran, Random, at, hours, is_long, seed};
use crate::inside::Inside;
use crate::ledger::Ledger;
use crate::replace;
use crate::watch::{Seen, Watch};

const SIGABRT: i32 = 6;
const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

/// Few channels, three requests.
fn small() -> Size {
    Size { channels: 9, users: 12, days: 2, messages_per_channel_day: 16, ..Size::default() }
}

/// One command on one kind of lake.
struct Matrix {
    bench: Bench,
    /// Where each round has a lake.
    root: PathBuf,
    /// The lake that each round starts from; none: an empty one.
    base: Option<PathBuf>,
    arguments: Vec<&'static str>,
    since: &'static str,
    until: &'static str,
    /// How often a step is tried at most, on each side.
    most: usize,
    /// What revisits have found in all, by the log of a run that did not die.
    found: Vec<[u64; 3]>,
}

impl Matrix {
    fn new(bench: Bench, more: &[&'static str]) -> Self {
        // One request after the other and at full pace: nothing waits.
        let mut arguments = vec!["sync", "--json", "--channels-per-request", "3"];
        arguments.extend(["--max-concurrent-exports", "1", "--rate-share", "1"]);
        arguments.extend(more);
        let base = Path::new(&bench.lake).exists().then(|| PathBuf::from(&bench.lake));
        let root = PathBuf::from(format!("{}-rounds", bench.lake));
        Self { bench, root, base, arguments, since: RANGE[0], until: RANGE[1], most: usize::MAX, found: Vec::new() }
    }

    fn replaces(&self) -> bool {
        self.arguments.contains(&"--replace")
    }

    /// The next lake to try on.
    fn next_lake(&mut self) {
        let lake = self.root.join(Uuid::now_v7().to_string());
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
        self.found = found_by_revisits(&self.bench);
        (steps, self.bench.assert_exact(self.since, self.until))
    }

    /// Dies at every one of these steps. Yields at how many points.
    fn explore(&mut self, wanted: impl Fn(&str) -> bool) -> usize {
        let begun = Instant::now();
        let (steps, expected) = self.whole();
        let (mut points, mut seen) = (0, Seen::default());
        for step in steps.iter().filter(|step| wanted(step)) {
            for side in ["before", "after"] {
                for nth in 1..=self.most {
                    let Some(looks) = self.round(&format!("{step}:{side}#{nth}"), &expected) else { break };
                    points += 1;
                    seen.looks += looks.looks;
                    seen.unsettled += looks.unsettled;
                }
            }
        }
        let seconds = begun.elapsed().as_secs();
        println!("{points} crash points of {} kinds of steps in {seconds} s; {seen:?}", steps.len());
        points
    }

    /// Dies at a point, runs again, compares. None if the run has no such point.
    fn round(&mut self, at: &str, expected: &Contents) -> Option<Seen> {
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
        if Path::new(&self.bench.lake).exists() {
            std::fs::remove_dir_all(&self.bench.lake).unwrap();
        }
        Some(seen)
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
        // A change is found once, and what was found before a death is not forgotten.
        assert_eq!(found_by_revisits(&self.bench), self.found);
        // Snapshots are added by every commit, and a replacement may have been committed before its run died.
        if !self.replaces() {
            assert_eq!(found.rows, expected.rows);
        }
    }
}

/// Messages and reactions inserted, edited and vanished, by all revisits that the log remembers.
fn found_by_revisits(bench: &Bench) -> Vec<[u64; 3]> {
    let (mut messages, mut reactions) = (Changes::default(), Changes::default());
    for covered in Inside::of(bench).state().covers() {
        for found in &covered.cover.record.revisits {
            messages.add(&found.messages);
            reactions.add(&found.reactions);
        }
    }
    [messages, reactions].map(|changes| [changes.inserted, changes.edited, changes.vanished]).into()
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
fn automatic(place: Place) -> Option<Matrix> {
    let mut bench = Bench::with(World::seeded(seed(), &small()), Switches::default(), place)?;
    bench.set_time(at("2026-01-07T00:10:00Z"));
    Some(Matrix::new(bench, &["--start", "2026-01-05", "--revisit", "none"]))
}

/// Both days are there, and have changed since.
fn replacement() -> Matrix {
    let mut bench = Bench::new(&small());
    bench.set_time(at("2026-01-08T00:00:00Z"));
    bench.sync(RANGE[0], RANGE[1], &["--rate-share", "1"]).assert_status(0, "committed");
    bench.set_time(at("2026-01-09T00:00:00Z"));
    replace::change(&bench);
    Matrix::new(bench, &["--since", RANGE[0], "--until", RANGE[1], "--replace"])
}

impl Matrix {
    /// The same command on the lake that a run leaves which dies there.
    fn after_death(mut self, at: &str) -> Self {
        self.next_lake();
        assert_eq!(self.run_until(at).signal, Some(SIGABRT));
        self.base = Some(PathBuf::from(&self.bench.lake));
        self
    }
}

#[test]
fn a_sync_that_dies_at_any_step_is_made_good_by_the_next() {
    let points = automatic(Place::Folder).unwrap().explore(|_| true);
    assert!(points > 60, "only {points} crash points");
}

#[test]
fn a_sync_on_s3_that_dies_at_any_step_is_made_good_by_the_next() {
    // Where S3 differs from a folder: a file is copied, and then deleted where it was.
    let differs = |step: &str| step == "copy-data" || step == "put-entry";
    if let Some(mut matrix) = automatic(Place::S3) {
        matrix.most = if is_long() { usize::MAX } else { 2 };
        let points = matrix.explore(|step| is_long() || differs(step));
        assert!(points >= 6, "only {points} crash points");
    }
}

#[test]
fn a_replacement_that_dies_at_any_step_is_made_good_by_the_next() {
    let points = replacement().explore(|_| true);
    assert!(points > 60, "only {points} crash points");
}

#[test]
fn a_run_that_dies_while_it_goes_on_with_a_dead_one_is_made_good_too() {
    let is_about_the_journal = |step: &str| step.contains("record") || step.contains("task") || step.contains("intent");
    let points = automatic(Place::Folder)
        .unwrap()
        .after_death("put-task:after#2")
        .explore(|step| is_long() || is_about_the_journal(step));
    assert!(points > 10, "only {points} crash points");
}

#[test]
fn a_run_that_dies_while_it_settles_for_a_dead_one_is_made_good_too() {
    let is_settling = |step: &str| step.ends_with("-data") || step.ends_with("-staged");
    let mut matrix = replacement().after_death("put-entry:after#1");
    matrix.most = if is_long() { usize::MAX } else { 4 };
    let points = matrix.explore(|step| is_long() || is_settling(step));
    assert!(points > 20, "only {points} crash points");
}

/// 98 entries are there; the run covers the days on both sides of one that is covered, and its second commit is the hundredth.
#[test]
fn a_sync_that_dies_around_a_snapshot_is_made_good_by_the_next() {
    let bench = Bench::new(&Size { days: 3, ..small() });
    bench.sync("2026-01-06", "2026-01-07", &["--rate-share", "1"]).assert_status(0, "committed");
    let inside = Inside::of(&bench);
    let mut state = inside.state();
    for day in 1..98 {
        let since = at("2025-01-01") + hours(24 * day);
        let window = Window::new(since, since + hours(24)).unwrap();
        let cover = Cover {
            window,
            exported_at: window.until + hours(1),
            as_of: None,
            run_id: Uuid::nil(),
            keep_files: false,
            record: CellRecord::default(),
        };
        let commit_id = Uuid::now_v7();
        let proposal = Proposal { commit_id, mode: Mode::Extend, covers: vec![cover], add: Vec::new(), origin: None };
        inside.runtime.block_on(inside.lake.commit(&mut state, &proposal)).unwrap();
    }
    assert_eq!(state.next(), 99);
    let mut matrix = Matrix::new(bench, &["--since", "2026-01-05", "--until", "2026-01-08"]);
    matrix.until = "2026-01-08";
    let points = matrix.explore(|step| is_long() || step.ends_with("-snapshot") || step.ends_with("-entry"));
    assert!(points >= 6, "only {points} crash points");
}

/// More tasks than an entry names itself.
#[test]
fn a_sync_that_dies_around_the_lists_of_an_entry_is_made_good_by_the_next() {
    let bench = Bench::new(&Size { channels: 104, days: 2, messages_per_channel_day: 1, ..small() });
    let mut matrix = Matrix::new(bench, &["--since", RANGE[0], "--until", RANGE[1]]);
    matrix.arguments.retain(|argument| !["3", "--channels-per-request"].contains(argument));
    matrix.arguments.extend(["--channels-per-request", "1"]);
    assert_eq!(matrix.explore(|step| step == "put-lists"), 2);
}

/// A file that is larger than one part of an upload.
#[test]
fn a_sync_that_dies_around_an_upload_in_parts_is_made_good_by_the_next() {
    let bench = Bench::new(&small());
    let mut random = Random(seed());
    let text: String = (0..9 << 20).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap())).collect();
    let cid = bench.simulator.truth().messages[0].cid.clone();
    bench.simulator.world(|world| world.send(&cid, "amara", &text, at("2026-01-05T12:00:00Z"))).unwrap();
    let mut matrix = Matrix::new(bench, &["--since", RANGE[0], "--until", RANGE[1], "--compression", "none"]);
    assert_eq!(matrix.explore(|step| step == "complete-staged"), 2);
}

/// Dies after the commit, loses what was staged for it and not moved yet, and is run again: the commit is void, and the cells
/// are exported again.
fn lose_staged(mut matrix: Matrix, moved: usize) {
    let (_, expected) = matrix.whole();
    matrix.next_lake();
    let mut ledger = Ledger::open(&matrix.bench);
    assert_eq!(matrix.run_until("put-entry:after#1").signal, Some(SIGABRT));
    ledger.close_run(&matrix.bench, matrix.replaces(), false);
    let inside = Inside::of(&matrix.bench);
    for file in &inside.state().pending().unwrap().added[..moved] {
        let (staged, last) = (file.staged_key().path(), file.key().path());
        inside.runtime.block_on(inside.lake.store().rename(&staged, &last)).unwrap();
    }
    std::fs::remove_dir_all(Path::new(&matrix.bench.lake).join("_chatlake/staging")).unwrap();
    let again = matrix.bench.run(&matrix.arguments);
    let summary = again.assert_status(0, "committed");
    assert!(again.stderr.contains("voiding their entry"), "{again:#?}");
    assert_eq!(summary["export_tasks"]["requested"], 0, "Stream still has what the dead run asked for");
    inside.assert_settled(&[summary["run_id"].as_str().unwrap().parse().unwrap()]);
    matrix.assert_same(&expected);
}

#[test]
fn a_commit_whose_staged_files_are_deleted_is_void_and_exported_again() {
    for moved in [0, 3] {
        lose_staged(automatic(Place::Folder).unwrap(), moved);
        lose_staged(replacement(), moved);
    }
}

#[test]
fn several_runs_may_settle_for_a_dead_one_at_once_and_die_of_it() {
    let mut matrix = replacement();
    let (_, expected) = matrix.whole();
    let mut matrix = matrix.after_death("put-entry:after#1");
    matrix.arguments.retain(|argument| *argument != "--replace");
    for round in 0..if is_long() { 40 } else { 4 } {
        matrix.next_lake();
        let watch = Watch::over(&matrix.bench);
        let step =
            ["rename-data:before#2", "rename-data:after#5", "delete-data:before#2", "delete-staged:after#3"][round % 4];
        let dying: Vec<_> =
            (0..3).map(|_| matrix.bench.command(&matrix.arguments).env(VARIABLE, step).spawn().unwrap()).collect();
        let living: Vec<_> = (0..2).map(|_| matrix.bench.start(&matrix.arguments)).collect();
        for mut child in dying {
            child.wait().unwrap();
        }
        for child in living {
            Ran::from(child.wait_with_output().unwrap()).assert_status(0, "already_committed");
        }
        watch.end();
        Inside::of(&matrix.bench).assert_settled(&[]);
        matrix.assert_same(&expected);
    }
}
