//! Running a command again is always right.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use simulator::{Effect, Fault};

use crate::bench::{Bench, Ran, at, two_days};

#[test]
fn a_covered_range_asks_stream_for_nothing() {
    let bench = Bench::new(&two_days());
    let first = bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
    assert_eq!(first["export_tasks"]["requested"], 2, "44 channels are two requests");
    let before = bench.read();
    bench.simulator.clear_calls();
    let again = bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "already_committed");
    assert_eq!(bench.simulator.calls().len(), 0);
    assert_eq!(again["export_tasks"]["requested"], 0);
    assert_eq!(again["api_calls"], 0);
    assert_eq!(again["partitions_changed"], json!([]));
    let statuses: Vec<_> = again["cells"].as_array().unwrap().iter().map(|cell| cell["status"].clone()).collect();
    assert_eq!(statuses, ["already_committed", "already_committed"]);
    assert_eq!(bench.read().files, before.files);
}

#[test]
fn overlapping_ranges_export_only_what_is_missing() {
    let bench = Bench::new(&two_days());
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    bench.simulator.clear_calls();
    let second = bench.sync("2026-01-05T12:00:00Z", "2026-01-07", &[]).assert_status(0, "committed");
    let statuses: Vec<_> = second["cells"].as_array().unwrap().iter().map(|cell| cell["status"].clone()).collect();
    assert_eq!(statuses, ["already_committed", "committed"]);
    for call in bench.simulator.calls_of("ExportChannels") {
        assert!(call.since.unwrap() >= at("2026-01-05T23:59:59Z"), "{call:?}");
    }
    bench.assert_exact("2026-01-05", "2026-01-07");
}

#[test]
fn ranges_that_cut_days_become_exact_days() {
    let bench = Bench::new(&two_days());
    for (since, until) in [
        ("2026-01-05T07:11:13.000001Z", "2026-01-05T15:00:00Z"),
        ("2026-01-05", "2026-01-05T10:00:00Z"),
        ("2026-01-05T09:00:00+02:00", "2026-01-07"),
    ] {
        bench.sync(since, until, &[]).assert_status(0, "committed");
    }
    bench.assert_exact("2026-01-05", "2026-01-07");
}

#[test]
fn a_range_without_messages_is_covered_and_may_have_its_own_exit_code() {
    let bench = Bench::new(&two_days());
    let ran = bench.sync("2026-01-20", "2026-01-21", &["--empty-exit-code", "99"]);
    let summary = ran.assert_status(99, "committed");
    assert_eq!(summary["cells"][0]["rows"], 0);
    bench.simulator.clear_calls();
    bench.sync("2026-01-20", "2026-01-21", &["--empty-exit-code", "99"]).assert_status(99, "already_committed");
    bench.sync("2026-01-20", "2026-01-21", &[]).assert_status(0, "already_committed");
    assert_eq!(bench.simulator.calls().len(), 0);
    bench.sync("2026-01-05", "2026-01-06", &["--empty-exit-code", "99"]).assert_status(0, "committed");
    bench.sync("2026-01-05", "2026-01-06", &["--empty-exit-code", "99"]).assert_status(0, "already_committed");
}

#[cfg(debug_assertions)]
#[test]
fn what_a_dead_run_committed_is_settled_by_a_run_that_has_nothing_to_do() {
    let bench = Bench::new(&two_days());
    let arguments = ["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-07"];
    let died = bench.command(&arguments).env(chatlake::crash::VARIABLE, "put-entry:after#1").status().unwrap();
    assert!(!died.success());
    assert_eq!(bench.read().rows["messages"], 0);
    bench.run(&arguments).assert_status(0, "already_committed");
    bench.assert_exact("2026-01-05", "2026-01-07");
}

/// It may have failed already, and wait for an answer that tells what it has to pay for.
#[test]
fn a_run_that_failed_is_stopped_while_it_waits_for_an_answer() {
    let bench = Bench::new(&two_days());
    let slow = Effect::SlowBody { chunk_bytes: 1, delay_ms: 1_000 };
    bench.simulator.add_fault(Fault::on("ExportChannels", slow));
    bench.simulator.add_fault(Fault::status("GetTask", 403).times(0));
    let mut child = bench.start(&["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-07"]);
    while bench.simulator.calls_of("GetTask").is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(10));
    }
    // It has the refusal by then, whose answer was at once.
    std::thread::sleep(Duration::from_millis(500));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 143, "{ran:#?}");
    assert!(ran.stderr.contains("this failed too"), "{}", ran.stderr);
    assert!(ran.stderr.contains("stopped before Stream had answered"), "{}", ran.stderr);
}

/// Starts a sync and stops it by this signal when Stream has begun both exports and the run waits for them.
fn stopped(bench: &Bench, signal: &str, arguments: &[&str]) -> Ran {
    bench.simulator.change_switches(|switches| switches.task_polls = 1_000);
    let mut child = bench.start(arguments);
    let asked = || bench.simulator.calls_of("GetTask").iter().map(|call| call.task_id.clone()).collect::<BTreeSet<_>>();
    while asked().len() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let ran = Ran::from(child.wait_with_output().unwrap());
    bench.simulator.change_switches(|switches| switches.task_polls = 1);
    bench.simulator.complete_tasks();
    assert_eq!(bench.read().rows["messages"], 0);
    ran
}

#[test]
fn the_exports_of_a_run_that_was_stopped_are_not_paid_twice() {
    for (signal, code) in [("-KILL", -1), ("-INT", 130), ("-TERM", 143)] {
        for more in [&[][..], &["--replace"]] {
            let bench = Bench::new(&two_days());
            let mut arguments = vec!["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-07"];
            arguments.extend(more);
            let ran = stopped(&bench, signal, &arguments);
            assert_eq!(ran.code, code, "{ran:#?}");
            if code > 0 {
                ran.assert_refused(code, &["stopped by SIG", "run the same command again"]);
                assert_eq!(ran.summary()["status"], "failed");
                assert_eq!(ran.summary()["export_tasks"]["requested"], 2, "it says what it has paid for");
            }
            assert_eq!(bench.exports(), 2);
            let summary = bench.run(&arguments).assert_status(0, "committed");
            assert_eq!(bench.exports(), 2, "nothing was asked for again");
            assert_eq!(summary["export_tasks"], json!({"adopted": 2, "failed": 0, "requested": 0}));
            bench.assert_exact("2026-01-05", "2026-01-07").assert_one_file_each(&["messages", "reactions"]);
            let journals = std::path::Path::new(&bench.lake).join("_chatlake/runs");
            assert_eq!(files_below(&journals), 0, "nobody needs the journals any more");
        }
    }
}

fn files_below(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.map(|entry| entry.unwrap().path()).map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}

#[test]
fn an_automatic_run_goes_on_with_the_span_of_the_one_that_died() {
    let mut bench = Bench::new(&simulator::Size { days: 3, ..two_days() });
    bench.set_time(at("2026-01-06T00:10:00Z"));
    let arguments = ["sync", "--json", "--start", "2026-01-05", "--revisit", "none"];
    stopped(&bench, "-KILL", &arguments);
    // Two days later the span is longer: the day that was asked for is brought in first, the rest asked for.
    bench.set_time(at("2026-01-08T00:10:00Z"));
    let summary = bench.run(&arguments).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"], json!({"adopted": 2, "failed": 0, "requested": 2}));
    assert_eq!(bench.exports(), 4);
    bench.assert_exact("2026-01-05", "2026-01-08").assert_one_file_each(&["messages", "reactions"]);
}

#[test]
fn an_export_that_stream_has_forgotten_is_asked_for_anew() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-08T00:00:00Z"));
    let arguments = ["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-07"];
    stopped(&bench, "-KILL", &arguments);
    bench.set_time(at("2026-03-20T00:00:00Z"));
    let summary = bench.run(&arguments).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"], json!({"adopted": 0, "failed": 0, "requested": 2}));
    bench.assert_exact("2026-01-05", "2026-01-07");
}

#[test]
fn a_replacement_never_uses_an_export_that_is_older_than_what_is_there() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-08T00:00:00Z"));
    let arguments = ["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-07", "--replace"];
    stopped(&bench, "-KILL", &arguments);
    // A day and an hour later, its answers are no news any more.
    bench.set_time(at("2026-01-09T01:00:00Z"));
    let message = bench.simulator.truth().messages_in(at("2026-01-05"), at("2026-01-06")).next().unwrap().clone();
    bench.simulator.world(|world| world.edit(&message.id, "changed", at("2026-01-08T12:00:00Z"))).unwrap();
    let summary = bench.run(&arguments).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"], json!({"adopted": 0, "failed": 0, "requested": 2}));
    bench.assert_exact("2026-01-05", "2026-01-07");
}

#[test]
fn an_export_that_was_asked_for_more_serves_whoever_wants_a_part_of_it() {
    let bench = Bench::new(&simulator::Size { days: 3, ..two_days() });
    stopped(&bench, "-KILL", &["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-08"]);
    assert_eq!(bench.exports(), 2);
    // The day in the middle first, so that what is left is not what was asked for.
    for (since, until, cells) in [("2026-01-06", "2026-01-07", 1), ("2026-01-05", "2026-01-08", 3)] {
        let summary = bench.sync(since, until, &[]).assert_status(0, "committed");
        assert_eq!(summary["cells"].as_array().unwrap().len(), cells);
        assert_eq!(summary["export_tasks"]["requested"], 0, "{summary}");
        assert_eq!((&summary["out_of_window"], &summary["rejected"]), (&json!(0), &json!(0)));
    }
    assert_eq!(bench.exports(), 2, "nothing was asked for again");
    bench.assert_exact("2026-01-05", "2026-01-08").assert_one_file_each(&["messages", "reactions"]);
}
