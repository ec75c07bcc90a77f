//! Running a command again is always right.

use serde_json::json;

use crate::bench::{Bench, two_days};

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
        assert!(call.since.unwrap() >= crate::bench::at("2026-01-05T23:59:59Z"), "{call:?}");
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

#[test]
fn two_runs_at_once_commit_one_result() {
    let bench = Bench::new(&two_days());
    let arguments = ["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-07"];
    let children: Vec<_> = (0..3).map(|_| bench.start(&arguments)).collect();
    let mut committed = 0;
    for child in children {
        let ran = crate::bench::Ran::from(child.wait_with_output().unwrap());
        assert_eq!(ran.code, 0, "{ran:#?}");
        committed += usize::from(ran.summary()["status"] == "committed");
    }
    assert_eq!(committed, 1);
    let contents = bench.assert_exact("2026-01-05", "2026-01-07");
    contents.assert_one_file_each(&["messages", "reactions"]);
}

#[test]
fn disjoint_ranges_at_once_all_land() {
    let bench = Bench::new(&simulator::Size { days: 4, ..two_days() });
    let days = ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08", "2026-01-09"];
    let children: Vec<_> =
        days.windows(2).map(|day| bench.start(&["sync", "--json", "--since", day[0], "--until", day[1]])).collect();
    for child in children {
        crate::bench::Ran::from(child.wait_with_output().unwrap()).assert_status(0, "committed");
    }
    bench.assert_exact("2026-01-05", "2026-01-09").assert_one_file_each(&["messages", "reactions"]);
}

#[test]
fn a_killed_run_leaves_nothing_to_see_and_the_next_one_does_the_work() {
    let bench = Bench::new(&two_days());
    let arguments = ["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-07"];
    bench.simulator.change_switches(|switches| switches.task_polls = 1_000);
    let mut child = bench.start(&arguments);
    while bench.exports() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bench.read().messages.len(), 0);
    bench.simulator.change_switches(|switches| switches.task_polls = 1);
    bench.run(&arguments).assert_status(0, "committed");
    bench.assert_exact("2026-01-05", "2026-01-07").assert_one_file_each(&["messages", "reactions"]);
}

#[cfg(unix)]
#[test]
fn signals_end_a_run_in_order() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let bench = Bench::new(&two_days());
        bench.simulator.change_switches(|switches| switches.task_polls = 1_000);
        let child = bench.start(&["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-07"]);
        while bench.exports() == 0 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let killed = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let ran = crate::bench::Ran::from(child.wait_with_output().unwrap());
        ran.assert_refused(code, &["stopped by SIG", "run the same command again"]);
        assert_eq!(bench.read().rows["messages"], 0);
    }
}
