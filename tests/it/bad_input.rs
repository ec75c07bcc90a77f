//! Exports that are not as they should be: what is shown, where it is kept, and what becomes of the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};
use simulator::switches::{FilterBy, Switches};
use simulator::{BadLine, Effect, Fault, Insertion, Size, World};

use crate::bench::{Bench, Place, Ran, at};
use crate::inspect::walk;

const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

/// Always the same app, so that what is printed is the same.
fn app() -> Bench {
    let size = Size { channels: 12, days: 2, messages_per_channel_day: 6, ..Size::default() };
    Bench::with(World::seeded(7, &size), Switches::default(), Place::Folder).unwrap()
}

fn text(text: &str) -> BadLine {
    BadLine::Text { text: text.to_owned() }
}

fn with_lines(lines: Vec<BadLine>) -> Bench {
    let bench = app();
    let lines = lines.into_iter().rev().map(|line| Insertion { at_line: 3, line }).collect();
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::BadLines { lines }));
    bench
}

fn sync(bench: &Bench, more: &[&str]) -> Ran {
    bench.sync(RANGE[0], RANGE[1], more)
}

/// What a refused run has kept.
fn kept(bench: &Bench, ran: &Ran) -> Vec<Value> {
    let run_id = ran.summary()["run_id"].as_str().unwrap().to_owned();
    let folder = format!("_chatlake/rejected/{run_id}");
    assert!(ran.stderr.contains(&format!("all are kept in {}/{folder}/*.parquet", bench.lake)), "{}", ran.stderr);
    bench.rows(&folder)
}

fn by(rows: &[Value], column: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row[column].as_str().unwrap_or("none").to_owned()).or_default() += 1;
    }
    counts
}

/// The error as it is printed, without what differs from run to run.
fn printed(bench: &Bench, ran: &Ran, rows: &[Value]) -> String {
    let report = &ran.stderr[ran.stderr.find("error: ").unwrap()..];
    let mut report = report.replace(&bench.lake, "<lake>");
    report = report.replace(ran.summary()["run_id"].as_str().unwrap(), "<run>");
    for task in by(rows, "export_task_id").into_keys() {
        report = report.replace(&task, "<task>");
    }
    report
}

#[test]
fn rejects_of_a_refused_span_are_shown_and_kept() {
    let mut lines = vec![
        text("{\"type\":\"message\",\"data\":{\"id\":\"\u{1b}[2Jm\u{7}\""),
        text(
            r#"{"message":{"id":"m-1","attachments":[{"image_url":"https://cdn/x.png?Key=k&Signature=s"}],"text":"why?"}}"#,
        ),
        BadLine::NotUtf8,
        BadLine::Deep { depth: 5_000 },
        text("null"),
        text(r#"{"type":"device","data":{"id":"token"}}"#),
    ];
    lines.extend((0..8).map(|number| text(&format!("{{{number}"))));
    let bench = with_lines(lines);
    let ran = sync(&bench, &[]);
    ran.assert_refused(65, &["12 of", "--max-rejected"]);
    assert!(!ran.stderr.contains("Signature"), "{}", ran.stderr);
    let rows = kept(&bench, &ran);
    assert_snapshot!("too_many_rejects", printed(&bench, &ran, &rows));
    let reasons = [("missing_field", 1), ("not_json", 9), ("not_utf8", 1), ("too_deep", 1), ("unclassified", 2)];
    assert_eq!(by(&rows, "reason"), reasons.map(|(reason, rows)| (reason.to_owned(), rows)).into());
    assert_eq!(bench.read().messages.len(), 0);

    // The same command looks at the same exports. Who replaces gets others, unless more is allowed than the time before.
    sync(&bench, &[]).assert_refused(65, &["12 of", "sync --replace --since 2026-01-05"]);
    assert_eq!(bench.exports(), 1);

    // What was kept is in nobody's way.
    let summary = sync(&bench, &["--max-rejected", "12"]).assert_status(0, "committed");
    assert_eq!((&summary["rejected"], &summary["export_tasks"]["adopted"]), (&json!(12), &json!(1)));
    bench.assert_exact(RANGE[0], RANGE[1]);
    assert_eq!(by(&bench.rows("_quarantine"), "reason"), by(&rows, "reason"));
    assert_eq!(bench.run(&["verify", "--deep", "--json"]).code, 0);
    let folder = Path::new(&bench.lake).join("_chatlake/rejected");
    assert_eq!(walk(&folder).len(), 2);
    assert_eq!(bench.run(&["gc", "--json", "--delete"]).summary()["objects"], json!([]), "they are young");
    for path in walk(&folder) {
        crate::gc::age(&path, 8);
    }
    let report = bench.run(&["gc", "--json", "--delete"]).summary();
    assert_eq!((&report["objects"][0]["reason"], walk(&folder).len()), (&json!("rejected"), 0), "{report}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "empty folders go too");
}

#[test]
fn whoever_replaces_what_was_refused_gets_new_exports_or_allows_more() {
    let mut bench = app();
    bench.set_time(at("2026-01-08T00:00:00Z"));
    sync(&bench, &[]).assert_status(0, "committed");
    let exports = bench.exports();
    let replace = |bench: &Bench, more: &[&str]| sync(bench, &[&["--replace"], more].concat());
    let broken = |bench: &Bench| {
        let lines = (0..20).map(|_| Insertion { at_line: 3, line: text("no JSON") }).collect();
        bench.simulator.add_fault(Fault::on("ExportChannels", Effect::BadLines { lines }));
    };
    // Times are whole seconds: what was asked for in the second of the last commit would not be gone on with anyway.
    bench.set_time(at("2026-01-08T01:00:00Z"));
    broken(&bench);
    replace(&bench, &[]).assert_refused(65, &["20 of", "the same command as it is asks for new ones"]);
    // Those are broken as well, and then those of the third time are not.
    broken(&bench);
    replace(&bench, &[]).assert_refused(65, &["20 of"]);
    assert_eq!(bench.exports(), exports + 2);
    let summary = replace(&bench, &[]).assert_status(0, "committed");
    assert_eq!((bench.exports(), &summary["rejected"]), (exports + 3, &json!(0)), "{summary}");

    bench.set_time(at("2026-01-08T02:00:00Z"));
    broken(&bench);
    replace(&bench, &[]).assert_refused(65, &["20 of"]);
    let summary = replace(&bench, &["--max-rejected", "20"]).assert_status(0, "committed");
    assert_eq!((bench.exports(), &summary["rejected"]), (exports + 4, &json!(20)), "{summary}");
    let journals = Path::new(&bench.lake).join("_chatlake/runs");
    assert_eq!(walk(&journals).len(), 0, "nobody needs the journals any more");
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
fn what_was_refused_is_known_by_its_exports_and_not_by_its_days() {
    let mut bench = app();
    bench.set_time(at("2026-01-08T00:00:00Z"));
    sync(&bench, &[]).assert_status(0, "committed");
    bench.set_time(at("2026-01-08T01:00:00Z"));
    let lines = (0..20).map(|_| Insertion { at_line: 3, line: text("no JSON") }).collect();
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::BadLines { lines }));
    bench.set(chatlake::crash::VARIABLE, "put-task:after#1");
    assert_eq!(sync(&bench, &["--replace"]).code, -1);
    bench.set(chatlake::crash::VARIABLE, "");
    // A part of the days is brought by the same export, and then by one of its own.
    let exports = bench.exports();
    let replace_one = |bench: &Bench| bench.sync(RANGE[0], "2026-01-06", &["--replace"]);
    replace_one(&bench).assert_refused(65, &["20 of"]);
    assert_eq!(bench.exports(), exports);
    replace_one(&bench).assert_status(0, "committed");
    assert_eq!(bench.exports(), exports + 1);
}

#[test]
fn a_revisit_that_is_refused_waits_for_the_answers_that_are_on_their_way() {
    let mut bench = app();
    let channels = ["--channels-per-request", "8", "--max-concurrent-exports", "2"];
    bench.set_time(at("2026-01-07T12:00:00Z"));
    sync(&bench, &channels).assert_status(0, "committed");
    bench.set_time(at("2026-01-20T12:00:00Z"));
    bench.simulator.add_fault(Fault::on("Download", answer("<html>")));
    let slow = Effect::SlowBody { chunk_bytes: 8, delay_ms: 300 };
    bench.simulator.add_fault(Fault::on("ExportChannels", slow));
    let exports = bench.exports();
    let revisit = |bench: &Bench| bench.run(&[&["revisit", "--json"], &channels[..]].concat());
    revisit(&bench).assert_refused(65, &["it is no export"]);
    let both_days = bench.exports();
    assert_eq!(both_days - exports, 4);
    let summary = revisit(&bench).assert_status(0, "committed");
    assert_eq!((bench.exports(), &summary["export_tasks"]["adopted"]), (both_days, &json!(2)), "{summary}");
}

#[test]
fn a_refusal_stands_although_its_lines_cannot_be_kept() {
    let bench = with_lines(vec![text("{"); 11]);
    fs::create_dir_all(Path::new(&bench.lake).join("_chatlake")).unwrap();
    fs::write(Path::new(&bench.lake).join("_chatlake/rejected"), "no folder").unwrap();
    sync(&bench, &[]).assert_refused(65, &["11 of", "line 4 of export task", "and 6 more", "could not be kept"]);
}

#[test]
fn lines_of_an_unknown_format_are_shown_and_kept() {
    let bench = app();
    for cid in bench.simulator.truth().channels {
        bench.simulator.world(|world| world.channel_mut(&cid).unwrap().messages.clear());
    }
    let lines = [r#"{"kind":"msg","payload":{}}"#, r#"{"v3.message":{"id":1}}"#];
    let lines = lines.map(|line| Insertion { at_line: 0, line: text(line) }).to_vec();
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::BadLines { lines }));
    let ran = sync(&bench, &[]);
    ran.assert_refused(65, &["--accept-empty"]);
    let rows = kept(&bench, &ran);
    assert_eq!(by(&rows, "kind"), [("unknown".to_owned(), 1), ("v3.message".to_owned(), 1)].into());
    assert_snapshot!("unknown_format", printed(&bench, &ran, &rows));
}

#[test]
fn a_file_in_which_nothing_is_known_is_refused_although_others_are_good() {
    // Few enough lines to pass as rejects, and yet all of what some channels had.
    for body in ["oops\n", r#"{"code":16,"message":"gone","StatusCode":404}"#, "id,text\nm-1,hello\n"] {
        let mut bench = app();
        bench.set("CHATLAKE_CHANNELS_PER_REQUEST", "4");
        bench.simulator.add_fault(Fault::on("Download", answer(body)));
        let ran = sync(&bench, &[]);
        ran.assert_refused(65, &["format of the exports is not recognised", "nothing that is known in 1 of 3 files"]);
        assert_eq!(kept(&bench, &ran).len(), body.lines().count());
        sync(&bench, &[]).assert_status(0, "committed");
        bench.assert_exact(RANGE[0], RANGE[1]);
    }
}

#[test]
fn messages_outside_of_the_span_are_shown_and_kept() {
    let bench = app();
    sync(&bench, &[]).assert_status(0, "committed");
    bench.simulator.change_switches(|switches| switches.filter_by = FilterBy::UpdatedAt);
    let old = bench.simulator.truth().messages_in(at("2026-01-05"), at("2026-01-06")).next().unwrap().clone();
    bench.simulator.world(|world| world.edit(&old.id, "later", at("2026-01-06T13:00:00Z"))).unwrap();
    let ran = bench.sync("2026-01-06", RANGE[1], &["--replace"]);
    ran.assert_refused(65, &["updated_at", "out_of_window"]);
    assert!(kept(&bench, &ran).iter().any(|row| row["line"].as_str().unwrap().contains(&old.id)));
}

fn answer(body: &str) -> Effect {
    Effect::Status { status: 200, code: None, body: Some(body.to_owned()), headers: BTreeMap::new() }
}

#[test]
fn what_is_no_export_is_named_and_the_next_run_looks_again() {
    let utf16: String = "{\"type\":\"message\"}".chars().flat_map(|char| [char, '\0']).collect();
    for (body, what) in [
        ("<!DOCTYPE html>\n<html><body><h1>Sign in</h1></body></html>", "looks like an HTML page"),
        ("<?xml version=\"1.0\"?><Error><Code>SlowDown</Code></Error>", "looks like an XML document"),
        ("PK\u{3}\u{4}\u{14}\0", "is a zip file"),
        (&utf16, "is UTF-16 text"),
        ("[\n  {\n    \"channel\": {}\n  }\n]", "is JSON over several lines"),
    ] {
        let bench = app();
        bench.simulator.add_fault(Fault::on("Download", answer(body)));
        sync(&bench, &[]).assert_refused(65, &[what, "it is no export", "it begins with: ", "--replace"]);
        assert_eq!(bench.read().messages.len(), 0);
        let summary = sync(&bench, &[]).assert_status(0, "committed");
        assert_eq!(summary["export_tasks"]["requested"], 0, "{summary}");
        bench.assert_exact(RANGE[0], RANGE[1]);
    }
}

#[test]
fn a_file_of_nothing_is_not_believed() {
    for body in ["", "\n\r\n \n"] {
        let bench = app();
        bench.simulator.add_fault(Fault::on("Download", answer(body)));
        sync(&bench, &[]).assert_refused(65, &["their exports hold none", "--accept-empty"]);
        sync(&bench, &[]).assert_status(0, "committed");
        bench.assert_exact(RANGE[0], RANGE[1]);
    }
}

#[test]
fn a_line_of_100_mb_costs_no_memory_and_not_the_rest() {
    let bench = with_lines(vec![BadLine::Overlong { bytes: 100 << 20 }]);
    let mut child = bench.start(&["sync", "--json", "--since", RANGE[0], "--until", RANGE[1]]);
    let mut peak_kib = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak_kib = peak.unwrap_or(peak_kib);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let summary = Ran::from(child.wait_with_output().unwrap()).assert_status(0, "committed");
    assert_eq!(summary["rejected"], 1);
    bench.assert_exact(RANGE[0], RANGE[1]);
    let rows = bench.rows("_quarantine");
    assert_eq!((&rows[0]["reason"], &rows[0]["bytes"]), (&json!("line_too_long"), &json!(100 << 20)));
    // The line is held up to its limit of 64 MiB, and not a byte of what follows.
    assert!((1..256 << 10).contains(&peak_kib), "{} MiB", peak_kib >> 10);
    println!("{} MiB at most", peak_kib >> 10);
}

#[test]
fn kinds_without_a_dataset_are_counted_by_name() {
    let bench = with_lines(vec![
        text(r#"{"type":"device","data":{"id":"token","push_provider":"apn"}}"#),
        text(r#"{"type":"device","data":{"id":"token-2","push_provider":"apn"}}"#),
        text(r#"{"type":"future_channel_ban","item":{"target_id":"u-1"}}"#),
        text(r#"{"call":{"id":"c"}}"#),
        text(r#"{"type":"message","data":{"id":"m-late","cid":"x:y"},"seq":7}"#),
    ]);
    let wanted = json!({"device": 2, "future_channel_ban": 1, "call": 1, "beside.seq": 1});
    let summary = sync(&bench, &[]).assert_status(0, "committed");
    assert_eq!(summary["unclassified"], wanted);
    let status = bench.run(&["status", "--json"]).summary();
    assert_eq!((&status["unclassified"], &status["unclassified_kinds"]), (&json!(5), &wanted));
    let shown = bench.run(&["status"]).stdout;
    assert!(shown.contains("5 lines of unknown kinds") && shown.contains("2 device, 1 beside.seq, 1 call"), "{shown}");
    let rows = bench.rows("_quarantine");
    assert_eq!(by(&rows, "reason"), [("missing_field".to_owned(), 1), ("unclassified".to_owned(), 5)].into());

    // A file that calls every line something else does not make the log grow.
    let lines = (0..200).map(|number| text(&format!(r#"{{"kind {number}":{{}}}}"#))).collect();
    let bench = with_lines(lines);
    let summary = sync(&bench, &[]).assert_status(0, "committed");
    assert_eq!(
        (&summary["unclassified"]["others"], summary["unclassified"].as_object().unwrap().len()),
        (&json!(168), 33)
    );
}
