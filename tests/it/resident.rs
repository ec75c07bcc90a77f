//! A process that stays, and what is told of runs to collectors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::json;
use simulator::Fault;

use crate::bench::{Bench, at, two_days};
use crate::engines::script;

/// How long something that must happen is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The value of a sample; 0 if it is not there yet.
fn value(metrics: &str, sample: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// What is said of metrics, and their samples without values, which come in any order.
fn without_values(metrics: &str) -> String {
    let (said, samples): (Vec<&str>, Vec<&str>) = metrics.lines().partition(|line| line.starts_with('#'));
    let mut names: Vec<&str> = samples.iter().map(|sample| sample.rsplit_once(' ').unwrap().0).collect();
    names.sort_unstable();
    [said, names].concat().join("\n")
}

/// Looks until `holds`.
#[track_caller]
fn until(address: &str, what: &str, holds: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let metrics = get(address, "/metrics");
        if holds(&metrics) {
            return metrics;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: never in\n{metrics}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Where a process answers, which it says first, and what else it says.
fn address_of(process: &mut Child) -> (String, impl FnOnce() -> String + use<>) {
    let mut log = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let address = line.trim().rsplit_once("http://").unwrap_or_else(|| panic!("no address in {line}")).1.to_owned();
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        rest
    });
    (address, move || rest.join().unwrap())
}

#[test]
fn a_process_that_stays_follows_the_days_survives_failures_and_stops_in_order() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-06T00:10:00Z"));
    let arguments =
        ["sync", "--json", "-v", "--every", "1s", "--window", "1d", "--settle", "1s", "--start", "2026-01-05"];
    let mut process = bench.start(&[&arguments[..], &["--listen", "127.0.0.1:0"]].concat());
    let (address, log) = address_of(&mut process);
    assert_eq!(get(&address, "/healthz"), "ok\n");
    let metrics =
        until(&address, "the first day", |metrics| value(metrics, "chatlake_runs_total{status=\"committed\"}") == 1.0);
    assert!(value(&metrics, "chatlake_rows_total{dataset=\"messages\"}") > 0.0, "{metrics}");
    assert!(value(&metrics, "chatlake_api_calls_total{endpoint=\"ExportChannels\",outcome=\"ok\"}") > 0.0, "{metrics}");
    assert!(value(&metrics, "chatlake_frontier_lag_seconds") >= 600.0, "{metrics}");
    assert!(value(&metrics, "process_resident_memory_bytes") > 1e6 || cfg!(not(target_os = "linux")), "{metrics}");
    let exports = bench.exports();

    bench.simulator.add_fault(Fault::status("QueryChannels", 403));
    let failed = |metrics: &str| value(metrics, "chatlake_runs_total{status=\"failed\"}");
    until(&address, "a failure", |metrics| failed(metrics) == 1.0);
    let metrics = until(&address, "a run after it", |metrics| value(metrics, "chatlake_last_run_exit_code") == 0.0);
    assert_eq!(failed(&metrics), 1.0);
    assert!(
        value(&metrics, "chatlake_api_calls_total{endpoint=\"QueryChannels\",outcome=\"refused\"}") == 1.0,
        "{metrics}"
    );

    let killed = std::process::Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = process.wait_with_output().unwrap();
    let log = log();
    assert_eq!(output.status.code(), Some(143), "{log}");
    assert!(log.contains("stopped by SIGTERM") && log.contains("next_run_at"), "{log}");
    // One line for each run that ended, and nothing was exported twice.
    let summaries = String::from_utf8(output.stdout).unwrap();
    let summaries: Vec<serde_json::Value> = summaries.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(summaries.len() >= 3, "{summaries:?}");
    assert_eq!(summaries.iter().filter(|summary| summary["status"] == "committed").count(), 1);
    assert_eq!(bench.exports(), exports);
    bench.assert_exact("2026-01-05", "2026-01-06");
}

#[test]
fn what_is_temporary_is_tried_soon_and_what_was_asked_for_outlives_the_process() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-07T00:10:00Z"));
    bench.simulator.change_switches(|switches| {
        switches.date_skew_seconds = -3600;
        switches.task_polls = 1_000_000;
    });
    let stays = ["sync", "--json", "-v", "--every", "1d", "--start", "2026-01-05", "--listen", "127.0.0.1:0"];
    let mut process = bench.start(&stays);
    let (address, log) = address_of(&mut process);
    // The next day is a day away, the next attempt 30 seconds.
    until(&address, "a failure", |metrics| value(metrics, "chatlake_last_run_exit_code") == 75.0);
    bench.simulator.change_switches(|switches| switches.date_skew_seconds = 0);
    // Told while the run is at work.
    let asked = "chatlake_api_calls_total{endpoint=\"ExportChannels\",outcome=\"ok\"}";
    until(&address, "an export", |metrics| {
        value(metrics, "chatlake_exports_in_flight") >= 1.0 && value(metrics, asked) >= 1.0
    });
    let killed = std::process::Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = process.wait_with_output().unwrap();
    let log = log();
    assert_eq!(output.status.code(), Some(143), "{log}");
    assert!(log.contains("the run failed failures=1"), "{log}");
    let exports = bench.exports();

    bench.simulator.change_switches(|switches| switches.task_polls = 1);
    bench.simulator.complete_tasks();
    let mut process = bench.start(&stays);
    let (address, _log) = address_of(&mut process);
    let metrics =
        until(&address, "both days", |metrics| value(metrics, "chatlake_last_success_timestamp_seconds") > 0.0);
    assert_eq!(value(&metrics, "chatlake_exports_total{outcome=\"adopted\"}"), exports as f64, "{metrics}");
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(bench.exports(), exports, "nothing was asked for again");
    bench.assert_exact("2026-01-05", "2026-01-07");
    let families = script("parse_metrics.py", &["openmetrics"], &metrics);
    assert_eq!(families["chatlake_exports"]["type"], "counter", "{families}");
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    let mut bench = Bench::new(&two_days());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let stays = ["sync", "--every", "1h", "--start", "2026-01-05"];
    bench.run(&[&stays[..], &["--listen", &taken]].concat()).assert_refused(2, &["cannot listen at", "--listen"]);
    bench.run(&["sync", "--every", "7h"]).assert_refused(2, &["does not divide a day", "--window"]);
    let once = bench.sync("2026-01-05", "2026-01-06", &["--listen", &taken]);
    assert!(once.code == 0 && once.stderr.contains("without --every"), "{once:#?}");
    // No origin: what only another command cures ends the process.
    bench.run(&["sync", "--every", "1h"]).assert_refused(2, &["--start"]);
    bench.unset("STREAM_API_SECRET");
    bench.run(&stays).assert_refused(77, &["STREAM_API_SECRET"]);
}

#[test]
fn one_run_leaves_its_metrics_in_a_file() {
    let mut bench = Bench::new(&two_days());
    let file = bench.folder.path().join("chatlake.prom");
    let path = file.to_str().unwrap();
    bench.sync("2026-01-05", "2026-01-06", &["--metrics-file", path]).assert_status(0, "committed");
    let metrics = std::fs::read_to_string(&file).unwrap();
    assert_eq!(value(&metrics, "chatlake_cells_total{status=\"committed\"}"), 1.0);
    // A lake of ranges has no frontier, and none is told.
    assert!(!metrics.contains("frontier"), "{metrics}");
    bench.set_time(at("2026-01-07T01:00:00Z"));
    let begins = ["sync", "--json", "--start", "2026-01-05", "--metrics-file", path];
    bench.run(&begins).assert_status(0, "committed");
    let metrics = std::fs::read_to_string(&file).unwrap();
    assert!(value(&metrics, "chatlake_frontier_lag_seconds") >= 3600.0, "{metrics}");
    assert!(value(&metrics, "chatlake_downloaded_bytes_total") > 0.0, "{metrics}");
    // Names, labels and what they mean are a contract.
    insta::assert_snapshot!("metrics", without_values(&metrics));
    let families = script("parse_metrics.py", &["text"], &metrics);
    assert_eq!(families["chatlake_rows"]["type"], "counter", "{families}");
    assert_eq!(families["chatlake_rows"]["samples"]["chatlake_rows_total"], json!(["dataset"]));
    assert_eq!(families["chatlake_exports_in_flight"]["type"], "gauge");
    let types = families.as_object().unwrap().values().map(|family| &family["type"]);
    assert!(types.clone().all(|of| of != "unknown" && of != "untyped"), "{families}");

    // A run that fails says so, and a run whose metrics cannot be written is what it is.
    let nowhere = bench.folder.path().join("nowhere/chatlake.prom");
    let ran = bench.sync("2026-01-05", "2026-01-06", &["--metrics-file", nowhere.to_str().unwrap()]);
    ran.assert_status(0, "already_committed");
    assert!(ran.stderr.contains("cannot write the metrics"), "{}", ran.stderr);
    bench.simulator.add_fault(Fault::status("QueryChannels", 403));
    bench.sync("2026-01-06", "2026-01-07", &["--replace", "--metrics-file", path]);
    assert_eq!(value(&std::fs::read_to_string(&file).unwrap(), "chatlake_last_run_exit_code"), 77.0);
}
