//! `gc` deletes what nothing refers to, and no run misses anything afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;
use simulator::Size;
use uuid::Uuid;

use crate::bench::{Bench, two_days};
use crate::inspect::{leave_a_journal, walk};

const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

fn lake() -> Bench {
    let bench = Bench::new(&Size { channels: 12, ..two_days() });
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    bench
}

pub fn age(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

/// An object of this many days.
fn object(lake: &str, key: &str, days: u64) -> PathBuf {
    let path = Path::new(lake).join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "garbage").unwrap();
    age(&path, days);
    path
}

fn file_name() -> String {
    format!("{}.parquet", Uuid::now_v7().simple())
}

/// One of each kind of garbage, of this age.
fn garbage(lake: &str, days: u64) -> Vec<PathBuf> {
    let run = Uuid::now_v7();
    let keys = [
        format!("_chatlake/staging/{run}/{}", file_name()),
        format!("_chatlake/staging/{run}/{}#1", file_name()),
        format!("messages/event_date=2026-01-05/{}", file_name()),
        format!("_quarantine/snapshot_date=2026-01-05/{}", file_name()),
        format!("_chatlake/probe/{}.json", Uuid::now_v7()),
    ];
    let mut paths: Vec<PathBuf> = keys.iter().map(|key| object(lake, key, days)).collect();
    paths.sort();
    paths
}

#[test]
fn what_is_old_and_nobodys_goes_and_all_else_stays() {
    let bench = lake();
    let lake = bench.lake.clone();
    let live = walk(Path::new(&lake));
    // A week's age for all of it makes no garbage of what the log knows.
    live.iter().for_each(|path| age(path, 30));
    let young = garbage(&lake, 5);
    let covered = leave_a_journal(&bench, "2026-01-05");
    let open = leave_a_journal(&bench, "2026-01-09");
    let records = |run: Uuid| walk(&Path::new(&lake).join(format!("_chatlake/runs/{run}")));
    [records(covered), records(open)].concat().iter().for_each(|path| age(path, 30));
    let foreign = [
        object(&lake, "messages/event_date=2026-01-05/mine.parquet", 30),
        object(&lake, "_chatlake/notes.txt", 30),
        object(&lake, "notes.txt", 30),
    ];
    let open_records = records(open);
    let mut old = [garbage(&lake, 8), records(covered)].concat();
    old.sort();
    let before = walk(Path::new(&lake));

    let report = bench.run(&["gc", "--json"]);
    assert_eq!(report.code, 0, "{report:#?}");
    let report = report.summary();
    let key = |path: &PathBuf| path.strip_prefix(&lake).unwrap().to_string_lossy().into_owned();
    let mut named: Vec<String> =
        report["objects"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap().to_owned()).collect();
    named.sort();
    assert_eq!(named, old.iter().map(key).collect::<Vec<_>>());
    assert_eq!((&report["deleted"], &report["foreign"]), (&json!(false), &json!(2)));
    assert_eq!(walk(Path::new(&lake)), before, "a dry run deletes nothing");
    let text = bench.run(&["gc"]).stdout;
    assert!(text.contains("would delete 7 objects") && text.contains("gc --delete"), "{text}");

    let report = bench.run(&["gc", "--json", "--delete"]).summary();
    assert_eq!((&report["deleted"], report["objects"].as_array().unwrap().len()), (&json!(true), old.len()));
    let mut kept = [live, young, foreign.to_vec(), open_records].concat();
    kept.sort();
    assert_eq!(walk(Path::new(&lake)), kept);
    assert!(!Path::new(&lake).join(format!("_chatlake/runs/{covered}")).exists(), "empty folders go too");
    assert_eq!(bench.run(&["gc", "--json", "--delete"]).summary()["objects"], json!([]));

    for path in foreign.iter().chain(&kept).filter(|path| path.to_string_lossy().contains("event_date=2026-01-05")) {
        if fs::read(path).is_ok_and(|bytes| bytes == b"garbage") {
            fs::remove_file(path).unwrap();
        }
    }
    bench.sync("2026-01-07", "2026-01-08", &[]).assert_status(0, "committed");
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
fn lists_are_garbage_only_while_no_run_may_be_at_work() {
    let bench = lake();
    let lists = object(&bench.lake, "_chatlake/lists/00000000000000000000000000000007.json", 30);
    let run = leave_a_journal(&bench, "2026-01-09");
    assert_eq!(bench.run(&["gc", "--json", "--delete"]).summary()["objects"], json!([]));
    assert!(lists.exists());
    let records = walk(&Path::new(&bench.lake).join(format!("_chatlake/runs/{run}")));
    records.iter().for_each(|path| age(path, 30));
    assert_eq!(bench.run(&["gc", "--json", "--delete"]).summary()["objects"][0]["reason"], "lists");
    assert!(!lists.exists());
}

#[test]
fn exports_of_a_run_that_died_are_adopted_after_gc() {
    let bench = Bench::new(&two_days());
    let arguments = ["sync", "--json", "--since", RANGE[0], "--until", RANGE[1]];
    bench.simulator.change_switches(|switches| switches.task_polls = 1_000);
    let mut child = bench.start(&arguments);
    while bench.simulator.calls_of("GetTask").is_empty() || bench.exports() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(20));
    }
    // While it is at work, and when it is dead.
    assert_eq!(bench.run(&["gc", "--json", "--delete"]).summary()["objects"], json!([]));
    child.kill().unwrap();
    child.wait().unwrap();
    walk(Path::new(&bench.lake)).iter().for_each(|path| age(path, 30));
    assert_eq!(bench.run(&["gc", "--json", "--delete"]).summary()["objects"], json!([]));
    bench.simulator.change_switches(|switches| switches.task_polls = 1);
    bench.simulator.complete_tasks();
    let summary = bench.run(&arguments).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"]["requested"], 0, "{summary}");
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
fn a_lake_without_its_log_is_left_alone() {
    let bench = lake();
    walk(Path::new(&bench.lake)).iter().for_each(|path| age(path, 30));
    let log = Path::new(&bench.lake).join("_chatlake/log");
    fs::remove_file(log.join("00000000000000000001.json")).unwrap();
    bench.run(&["gc", "--delete"]).assert_refused(65, &["is empty", "nothing was deleted", "_chatlake/log/"]);
    assert!(!walk(&Path::new(&bench.lake).join("messages")).is_empty());
}

#[test]
fn less_than_a_day_is_refused() {
    let bench = lake();
    bench.run(&["gc", "--older-than", "23h"]).assert_refused(2, &["--older-than", "at least a day"]);
    assert_eq!(bench.run(&["gc", "--older-than", "1d"]).code, 0);
}
