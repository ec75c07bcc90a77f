//! Many processes on one lake at once. The log decides; nobody waits for anybody.

use std::collections::BTreeSet;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;
use simulator::switches::Switches;
use simulator::{Size, World};
use uuid::Uuid;

use crate::bench::{Bench, Place, Ran, Random, at, hours, is_long, seed, two_days};
use crate::inside::Inside;
use crate::replace;
use crate::watch::Watch;

const PROCESSES: usize = 16;
const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

/// Rounds in a folder and on an S3 server.
fn rounds(place: Place) -> usize {
    match place {
        Place::Folder => 2,
        Place::S3 if is_long() => 20,
        Place::S3 => 3,
    }
}

fn ended(children: Vec<Child>) -> Vec<Ran> {
    children.into_iter().map(|child| Ran::from(child.wait_with_output().unwrap())).collect()
}

fn run_ids(runs: &[Ran]) -> Vec<Uuid> {
    runs.iter().map(|ran| ran.summary()["run_id"].as_str().unwrap().parse().unwrap()).collect()
}

fn rows(summary: &Value) -> Vec<Value> {
    summary["cells"].as_array().unwrap().iter().map(|cell| cell["rows"].clone()).collect()
}

fn one_range(place: Place) {
    for round in 0..rounds(place) {
        let size = Size { channels: 12, ..two_days() };
        let Some(bench) = Bench::with(World::seeded(seed(), &size), Switches::default(), place) else { return };
        let watch = Watch::over(&bench);
        let arguments = ["sync", "--json", "--since", RANGE[0], "--until", RANGE[1]];
        let runs = ended((0..PROCESSES).map(|_| bench.start(&arguments)).collect());
        let seen = watch.end();
        println!("{place:?}, round {round}: {} exports, {seen:?}", bench.exports());
        assert!(runs.iter().all(|ran| ran.code == 0), "{runs:#?}");
        let summaries: Vec<Value> = runs.iter().map(Ran::summary).collect();
        let (won, lost): (Vec<&Value>, Vec<&Value>) =
            summaries.iter().partition(|summary| summary["status"] == "committed");
        assert_eq!(won.len(), 1, "{summaries:#?}");
        for summary in lost {
            assert_eq!((&summary["status"], rows(summary)), (&"already_committed".into(), rows(won[0])));
        }
        Inside::of(&bench).assert_settled(&run_ids(&runs));
        bench.assert_exact(RANGE[0], RANGE[1]).assert_one_file_each(&["messages", "reactions", "channels"]);
    }
}

fn disjoint_ranges(place: Place) {
    for round in 0..rounds(place) {
        let size = Size { channels: 12, days: PROCESSES, messages_per_channel_day: 4, ..Size::default() };
        let Some(bench) = Bench::with(World::seeded(seed(), &size), Switches::default(), place) else { return };
        let watch = Watch::over(&bench);
        let first = at("2026-01-05");
        let day = |number: usize| (first + hours(24 * i64::try_from(number).unwrap())).to_string();
        let start = |number| bench.start(&["sync", "--json", "--since", &day(number), "--until", &day(number + 1)]);
        let runs = ended((0..PROCESSES).map(start).collect());
        let seen = watch.end();
        println!("{place:?}, round {round}: {seen:?}");
        for ran in &runs {
            ran.assert_status(0, "committed");
        }
        let inside = Inside::of(&bench);
        assert_eq!(inside.state().next(), 1 + PROCESSES as u64);
        inside.assert_settled(&run_ids(&runs));
        bench.assert_exact(&day(0), &day(PROCESSES)).assert_one_file_each(&["messages", "reactions"]);
    }
}

#[test]
fn sixteen_runs_of_one_range_in_a_folder_commit_one_result() {
    one_range(Place::Folder);
}

#[test]
fn sixteen_runs_of_one_range_on_s3_commit_one_result() {
    one_range(Place::S3);
}

#[test]
fn sixteen_runs_of_disjoint_ranges_in_a_folder_all_land() {
    disjoint_ranges(Place::Folder);
}

#[test]
fn sixteen_runs_of_disjoint_ranges_on_s3_all_land() {
    disjoint_ranges(Place::S3);
}

#[test]
fn several_replacements_at_once_end_with_what_the_app_holds() {
    for place in [Place::Folder, Place::S3] {
        let Some(mut bench) = Bench::with(World::seeded(seed(), &two_days()), Switches::default(), place) else {
            return;
        };
        bench.set_time(at("2026-01-08T00:00:00Z"));
        bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
        bench.set_time(at("2026-01-09T00:00:00Z"));
        replace::change(&bench);
        let watch = Watch::over(&bench);
        let arguments = ["sync", "--json", "--since", RANGE[0], "--until", RANGE[1], "--replace"];
        let runs = ended((0..6).map(|_| bench.start(&arguments)).collect());
        let codes: Vec<i32> = runs.iter().map(|ran| ran.code).collect();
        println!("{place:?}: {codes:?}, {:?}", watch.end());
        // One that another overtakes is told to run again.
        assert!(codes.contains(&0) && codes.iter().all(|code| matches!(code, 0 | 75)), "{runs:#?}");
        let inside = Inside::of(&bench);
        inside.assert_settled(&[]);
        bench.assert_exact(RANGE[0], RANGE[1]).assert_one_file_each(&["messages", "reactions"]);
        bench.run(&arguments).assert_status(0, "committed");
        bench.assert_exact(RANGE[0], RANGE[1]);
    }
}

fn signal(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// A day passes and much changes while a process stands still; another run replaces the range meanwhile.
fn overtaken(bench: &mut Bench, sleeper: Child) -> Ran {
    signal(&sleeper, "-STOP");
    bench.simulator.change_switches(|switches| switches.task_polls = 1);
    bench.simulator.complete_tasks();
    bench.set_time(at("2026-01-09T06:00:00Z"));
    replace::change(bench);
    bench.sync(RANGE[0], RANGE[1], &["--replace"]).assert_status(0, "committed");
    signal(&sleeper, "-CONT");
    Ran::from(sleeper.wait_with_output().unwrap())
}

#[test]
fn a_process_that_stood_still_for_a_day_can_only_lose() {
    for replaces in [false, true] {
        let mut bench = Bench::new(&two_days());
        bench.set_time(at("2026-01-08T00:00:00Z"));
        let mut arguments = vec!["sync", "--json", "--since", RANGE[0], "--until", RANGE[1]];
        if replaces {
            bench.run(&arguments).assert_status(0, "committed");
            arguments.push("--replace");
        }
        bench.simulator.clear_calls();
        bench.simulator.change_switches(|switches| switches.task_polls = 1_000);
        let mut sleeper = bench.start(&arguments);
        let polled = |call: simulator::Call| call.task_id;
        while bench.simulator.calls_of("GetTask").into_iter().map(polled).collect::<BTreeSet<_>>().len() < 2 {
            assert!(sleeper.try_wait().unwrap().is_none(), "it ended early");
            std::thread::sleep(Duration::from_millis(10));
        }
        let ran = overtaken(&mut bench, sleeper);
        ran.assert_status(0, "already_committed");
        Inside::of(&bench).assert_settled(&run_ids(&[ran]));
        bench.assert_exact(RANGE[0], RANGE[1]).assert_one_file_each(&["messages", "reactions"]);
    }
}

#[test]
fn wherever_a_process_stood_still_for_a_day_the_later_export_stands() {
    let mut random = Random(seed());
    for round in 0..if is_long() { 60 } else { 6 } {
        let size = Size { channels: 12, messages_per_channel_day: 12, ..two_days() };
        let world = World::seeded(random.below(1_000_000), &size);
        let mut bench = Bench::with(world, Switches::default(), Place::Folder).unwrap();
        bench.set_time(at("2026-01-08T00:00:00Z"));
        let mut arguments = vec!["sync", "--json", "--since", RANGE[0], "--until", RANGE[1]];
        if round % 2 == 1 {
            bench.run(&arguments).assert_status(0, "committed");
            arguments.push("--replace");
        }
        let watch = Watch::over(&bench);
        let sleeper = bench.start(&arguments);
        std::thread::sleep(Duration::from_millis(random.below(250)));
        let ran = overtaken(&mut bench, sleeper);
        assert!(matches!(ran.code, 0 | 75), "{ran:#?}");
        let error = ran.summary()["error"].clone();
        println!("round {round}: {} {error}, {:?}", ran.code, watch.end());
        Inside::of(&bench).assert_settled(&[]);
        bench.assert_exact(RANGE[0], RANGE[1]).assert_one_file_each(&["messages", "reactions"]);
    }
}
