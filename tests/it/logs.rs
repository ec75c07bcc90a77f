//! What is logged: lines for people, which are few, and objects for machines, whose fields are a contract.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::Value;
use simulator::switches::Switches;
use simulator::{BadLine, Effect, Fault, Insertion, World};

use crate::bench::{Bench, Place, Ran, at, seed, two_days};

const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

/// What a command has logged as JSON.
fn events(ran: &Ran) -> Vec<Value> {
    ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn said<'e>(events: &'e [Value], message: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["message"] == message).collect()
}

#[test]
fn a_run_that_goes_well_says_nothing_where_nobody_watches() {
    let bench = Bench::new(&two_days());
    let ran = bench.sync(RANGE[0], RANGE[1], &[]);
    ran.assert_status(0, "committed");
    assert_eq!(ran.stderr, "");
    // What somebody should know is said, and once.
    let gone = bench.simulator.truth().messages[0].id.clone();
    bench.simulator.world(|world| world.hard_delete(&gone)).unwrap();
    bench.simulator.add_fault(Fault::on("Download", Effect::CutBody { after_bytes: 2_000 }));
    let ran = bench.sync(RANGE[0], RANGE[1], &["--replace"]);
    let summary = ran.assert_status(0, "committed");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains("the download broke off"), "{}", ran.stderr);
    assert!(lines[0].contains(&format!("run_id={}", summary["run_id"].as_str().unwrap())), "{}", ran.stderr);
}

#[test]
fn a_cell_is_one_event_with_the_figures_of_the_summary() {
    let bench = Bench::new(&two_days());
    let ran = bench.sync(RANGE[0], RANGE[1], &["--log-format", "json", "--window", "6h"]);
    let summary = ran.assert_status(0, "committed");
    let events = events(&ran);
    assert!(events.iter().all(|event| event["run_id"] == summary["run_id"] && event["name"] == "sync"), "{events:#?}");
    let cells = said(&events, "cell");
    let of_summary = summary["cells"].as_array().unwrap();
    assert_eq!((cells.len(), of_summary.len()), (8, 8));
    for (event, cell) in cells.iter().zip(of_summary) {
        let [since, until] = ["since", "until"].map(|end| cell[end].as_str().unwrap());
        assert_eq!(event["window"], format!("{since}..{until}"));
        assert_eq!([&event["status"], &event["messages"]], [&cell["status"], &cell["rows"]]);
    }
    for (figure, dataset) in [("messages", "messages"), ("reactions", "reactions")] {
        let told: u64 = cells.iter().map(|event| event[figure].as_u64().unwrap()).sum();
        assert_eq!(told, summary["datasets"][dataset]["rows"].as_u64().unwrap());
    }
    let written: u64 = cells.iter().map(|event| event["bytes"].as_u64().unwrap()).sum();
    let of_cells = ["messages", "reactions"].map(|dataset| summary["datasets"][dataset]["bytes"].as_u64().unwrap());
    assert_eq!(written, of_cells.iter().sum::<u64>());
}

/// Of a command that is no run.
fn events_at_a_store_that_refuses(bench: &mut Bench) -> Vec<Value> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    bench.set("AWS_ENDPOINT_URL", &format!("http://{}", listener.local_addr().unwrap()));
    bench.set("AWS_ACCESS_KEY_ID", "key");
    bench.set("AWS_SECRET_ACCESS_KEY", "secret");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = BufReader::new(connection.try_clone().unwrap()).lines();
            while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    let ran = bench.run(&["status", "--lake", "s3://bucket/lake", "--log-format", "json", "-v"]);
    assert_eq!(ran.code, 77, "{ran:#?}");
    events(&ran)
}

/// Events by name, each with its fields and their types: a difference is a change of the contract with whoever collects logs.
#[test]
fn names_and_fields_are_a_contract() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-07T01:00:00Z"));
    let mut all = Vec::new();
    let mut log_of = |bench: &Bench, arguments: &[&str], code: i32| {
        let ran = bench.run(&[arguments, &["--json", "--log-format", "json", "-v"]].concat());
        assert_eq!(ran.code, code, "{ran:#?}");
        let events = events(&ran);
        assert!(events.iter().all(|event| event["run_id"].is_string()), "{events:#?}");
        all.extend(events);
    };
    let mut log = |arguments: &[&str], code: i32| log_of(&bench, arguments, code);
    let lines = vec![Insertion { at_line: 0, line: BadLine::Text { text: "no JSON".into() } }];
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::BadLines { lines }));
    bench.simulator.add_fault(Fault::status("QueryChannels", 500));
    bench.simulator.add_fault(Fault::on("Download", Effect::CutBody { after_bytes: 2_000 }));
    let sync = ["sync", "--since", RANGE[0], "--until", RANGE[1]];
    log(&sync, 0);
    let gone = bench.simulator.truth().messages[0].id.clone();
    bench.simulator.world(|world| world.hard_delete(&gone)).unwrap();
    log(&[&sync[..], &["--replace"]].concat(), 0);
    log(&["users", "--user-id", "amara", "--user-id", "nobody"], 0);
    let lines = vec![Insertion { at_line: 0, line: BadLine::Text { text: "no JSON".into() } }];
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::BadLines { lines }));
    log(&[&sync[..], &["--replace", "--max-rejected", "0"]].concat(), 65);
    let another = bench.folder.path().join("another");
    bench.use_lake(&another);
    let cid = bench.simulator.truth().messages[0].cid.clone();
    bench.simulator.add_fault(
        Fault::on("ExportChannels", Effect::FailTask { description: "no".into() }).for_channel(&cid).times(0),
    );
    log_of(&bench, &["sync", "--start", RANGE[0]], 69);
    bench.set_time(at("2026-01-09T01:00:00Z"));
    log_of(&bench, &["revisit"], 69);
    log_of(&bench, &["backfill", "--since", "2026-01-01", "--until", RANGE[1], "--span", "90d"], 69);
    bench.simulator.add_fault(Fault::status("QueryChannels", 403).times(0));
    log_of(&bench, &["sync", "--since", RANGE[0], "--until", RANGE[1], "--replace"], 77);
    all.extend(events_at_a_store_that_refuses(&mut bench));

    let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in &all {
        let object = event.as_object().unwrap();
        let message = if object.contains_key("exit_code") { "(the error)" } else { event["message"].as_str().unwrap() };
        let level = event["level"].as_str().unwrap();
        let kind = |value: &Value| match value {
            Value::String(_) => "text",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            _ => "other",
        };
        let own = object
            .iter()
            .filter(|(name, _)| !["level", "message", "name", "run_id", "timestamp"].contains(&name.as_str()));
        let own = own.map(|(name, value)| format!("{name}: {}", kind(value)));
        fields.entry(format!("{level} {message}")).or_default().extend(own);
    }
    let lines = fields
        .iter()
        .map(|(event, fields)| format!("{event}\n    {}", fields.iter().cloned().collect::<Vec<_>>().join(", ")));
    insta::assert_snapshot!("log_fields", lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn an_error_is_an_event_too_with_what_to_do_next() {
    let mut bench = Bench::new(&two_days());
    bench.simulator.add_fault(Fault::status("QueryChannels", 403).times(0));
    let arguments = ["sync", "--since", RANGE[0], "--until", RANGE[1], "--json", "--log-format", "json"];
    let ran = bench.run(&arguments);
    assert_eq!(ran.code, 77);
    let events = events(&ran);
    let error = events.last().unwrap();
    assert_eq!(error["level"], "ERROR");
    assert_eq!(error["exit_code"], 77);
    assert_eq!(error["run_id"], ran.summary()["run_id"]);
    assert!(error["hint"].as_str().unwrap().contains("allow server-side exports"), "{error}");
    // Before there is a run, there is no id of one.
    bench.unset("STREAM_API_SECRET");
    let ran = bench.run(&arguments);
    let events = self::events(&ran);
    assert_eq!((ran.code, events.len()), (77, 1));
    assert!(events[0]["run_id"].is_null() && events[0]["hint"].is_string(), "{events:#?}");
}

#[test]
fn each_request_is_told_to_who_asks_for_it_and_no_secret() {
    let Some(bench) = Bench::with(World::seeded(seed(), &two_days()), Switches::default(), Place::S3) else { return };
    let ran = bench.sync(RANGE[0], RANGE[1], &["--log-format", "json", "-v"]);
    let summary = ran.assert_status(0, "committed");
    ran.assert_no_secret();
    let events = events(&ran);
    let calls = said(&events, "request to Stream");
    assert_eq!(calls.len() as u64, summary["api_calls"].as_u64().unwrap());
    assert!(!said(&events, "request for a file").is_empty(), "{}", ran.stderr);
    let to_the_store = said(&events, "request to the store");
    let commit = |event: &&&Value| {
        event["path"].as_str().is_some_and(|path| path.ends_with("_chatlake/log/00000000000000000001.json"))
    };
    let commits: Vec<_> = to_the_store.iter().filter(commit).filter(|event| event["method"] == "PUT").collect();
    assert!(commits.len() == 1 && commits[0]["status"] == 200, "{}", ran.stderr);
}
