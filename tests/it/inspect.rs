//! Looking at a lake: `status`, `files`.

use std::fs;
use std::path::{Path, PathBuf};

use chatlake::export::{ExportOptions, ExportTask};
use chatlake::journal::{Journal, Record, SpanRecord};
use chatlake::lake::Lake;
use chatlake::window::Window;
use serde_json::{Value, json};
use simulator::{Effect, Fault, Size};
use uuid::Uuid;

use crate::bench::{Bench, Ran, at, two_days};

/// The days of [`lake`].
pub const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

/// Fewer channels than one request takes.
pub fn small() -> Size {
    Size { channels: 12, ..two_days() }
}

/// Two days, the second of them exported again: two entries, and files of both.
pub fn lake() -> Bench {
    let bench = Bench::new(&small());
    fill(&bench);
    bench
}

/// Both entries, into an empty lake.
pub fn fill(bench: &Bench) {
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    let message = bench.simulator.truth().messages_in(at("2026-01-06"), at("2026-01-07")).next().unwrap().clone();
    let now = bench.simulator.now();
    bench.simulator.world(|world| world.edit(&message.id, "changed", now)).unwrap();
    bench.sync("2026-01-06", "2026-01-07", &["--replace"]).assert_status(0, "committed");
}

/// The JSON of a command that ended with this code, and showed no secret.
pub fn json_of(ran: &Ran, code: i32) -> Value {
    assert_eq!(ran.code, code, "{ran:#?}");
    ran.assert_no_secret();
    ran.summary()
}

/// Every file below a folder, in order.
pub fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The files of a dataset, or of a folder of it, in order.
pub fn data_files(lake: &Path, dataset: &str) -> Vec<PathBuf> {
    walk(&lake.join(dataset))
}

#[test]
fn a_place_without_a_lake_is_refused_by_all() {
    let bench = Bench::new(&small());
    for command in ["status", "files", "verify", "gc"] {
        bench.run(&[command]).assert_refused(2, &["there is no lake at", "--lake"]);
        bench.run(&[command, "--lake", ""]).assert_refused(2, &["CHATLAKE_LAKE"]);
    }
    assert!(!Path::new(&bench.lake).exists());
}

#[test]
fn status_shows_gaps_exceptions_and_totals() {
    let bench = Bench::new(&Size { days: 4, ..small() });
    let poisonous = bench.simulator.truth().messages[0].cid.clone();
    bench.simulator.add_fault(
        Fault::on("ExportChannels", Effect::FailTask { description: "export failed".into() })
            .for_channel(&poisonous)
            .times(0),
    );
    let ran = bench.sync("2026-01-05", "2026-01-06", &[]);
    assert_eq!(ran.code, 69, "{ran:#?}");
    bench.simulator.clear_faults();
    bench.sync("2026-01-07", "2026-01-09", &["--single-writer"]).assert_status(0, "committed");
    let status = json_of(&bench.run(&["status", "--json"]), 0);
    assert_eq!(
        status["coverage"],
        json!([
            {"since": "2026-01-05T00:00:00Z", "until": "2026-01-06T00:00:00Z"},
            {"since": "2026-01-07T00:00:00Z", "until": "2026-01-09T00:00:00Z"},
        ])
    );
    assert_eq!(status["gaps"], json!([{"since": "2026-01-06T00:00:00Z", "until": "2026-01-07T00:00:00Z"}]));
    let exception = &status["exceptions"][0];
    assert_eq!((&exception["failed_channels"], &exception["failed"][0]["cid"]), (&json!(1), &json!(poisonous)));
    assert_eq!(status["single_writer_entries"], 1);
    assert_eq!((&status["entries"], &status["cells"], &status["in_flight"]), (&json!(2), &json!(3), &json!([])));
    let contents = bench.read();
    for dataset in ["messages", "reactions", "channels", "users"] {
        assert_eq!(status["datasets"][dataset]["rows"], contents.rows[dataset], "{dataset}");
        assert_eq!(status["datasets"][dataset]["files"], contents.files[dataset].values().sum::<u64>(), "{dataset}");
    }
    let ran = bench.run(&["status"]);
    let failed = format!("1 channel failed: {poisonous}: Stream failed export task");
    for part in ["gaps         2026-01-06", &failed, "1 entry put without conditional writes", "messages"] {
        assert!(ran.stdout.contains(part), "`{part}`: {}", ran.stdout);
    }
    json_of(&bench.run(&["verify", "--json", "--deep", "--against-stream", "60"]), 0);
}

/// What a run leaves that died when Stream had begun an export.
pub fn leave_a_journal(bench: &Bench, day: &str) -> Uuid {
    let run_id = Uuid::now_v7();
    let cell = Window::day_of(at(day));
    let margin = jiff::SignedDuration::from_millis(1);
    let span = SpanRecord {
        begun_at: bench.simulator.now(),
        cells: vec![cell],
        asked: Window::new(cell.since - margin, cell.until + margin).unwrap(),
        replaces: false,
        options: ExportOptions::default(),
    };
    let task = ExportTask { task_id: "t-1".into(), requested_at: span.begun_at, cids: vec!["a:b".into()] };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let lake = Lake::open(&bench.lake, &chatlake::lake::Env::new()).await.unwrap();
        let journal = Journal::new(&lake, run_id);
        let span = journal.write(&Record::Span(span)).await.unwrap();
        journal.write(&Record::Task { span, task }).await.unwrap();
    });
    run_id
}

#[test]
fn status_shows_what_a_run_has_begun_and_names_a_damaged_record() {
    let bench = lake();
    let run_id = leave_a_journal(&bench, "2026-01-08").to_string();
    let status = json_of(&bench.run(&["status", "--json"]), 0);
    let in_flight = &status["in_flight"][0];
    assert_eq!(in_flight["run_id"], run_id.as_str());
    assert_eq!((&in_flight["since"], &in_flight["cells"]), (&json!("2026-01-08T00:00:00Z"), &json!(1)));
    assert_eq!(in_flight["tasks"], 1);
    assert!(bench.run(&["status"]).stdout.contains(&run_id));
    let record = Path::new(&bench.lake).join(format!("_chatlake/runs/{run_id}/00000000.json"));
    fs::write(&record, "{").unwrap();
    for command in ["status", "gc"] {
        bench
            .run(&[command])
            .assert_refused(65, &[&format!("_chatlake/runs/{run_id}/00000000.json"), "delete that object"]);
    }
}

/// Puts the files of the last entry back to where they were before it was settled.
fn unsettle(lake: &Path, number: u64) -> usize {
    let path = lake.join(format!("_chatlake/log/{number:020}.json"));
    let entry: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut moved = 0;
    for file in entry["actions"].as_array().unwrap().iter().filter_map(|action| action.get("add")) {
        let text = |name: &str| file[name].as_str().unwrap();
        let name = format!("{}.parquet", text("id"));
        let staging = lake.join("_chatlake/staging").join(text("run_id"));
        fs::create_dir_all(&staging).unwrap();
        fs::rename(lake.join(text("dataset")).join(text("partition")).join(&name), staging.join(&name)).unwrap();
        moved += 1;
    }
    moved
}

#[test]
fn a_day_that_has_lost_its_last_row_is_told_although_it_has_no_file() {
    let bench = lake();
    let emptied = || json_of(&bench.run(&["files", "--json", "--written-since", "2026-01-01"]), 0)["emptied"].clone();
    assert_eq!(emptied(), json!([]));
    let truth = bench.simulator.truth();
    let ids = truth.messages_in(at("2026-01-06"), at("2026-01-07")).map(|message| &message.id);
    // Replies go with their parents.
    bench.simulator.world(|world| ids.for_each(|id| drop(world.hard_delete(id))));
    let ran = bench.sync("2026-01-06", "2026-01-07", &["--replace", "--on-vanish", "remove", "--accept-empty"]);
    ran.assert_status(0, "committed");
    assert_eq!(emptied(), json!(["messages/event_date=2026-01-06", "reactions/event_date=2026-01-06"]));
}

#[test]
fn files_are_listed_where_they_are_settled_or_not() {
    let bench = lake();
    let lake = Path::new(&bench.lake);
    let listed = |arguments: &[&str]| -> Vec<PathBuf> {
        let ran = bench.run(&[&["files"], arguments].concat());
        assert_eq!(ran.code, 0, "{ran:#?}");
        let mut paths: Vec<PathBuf> = ran.stdout.lines().map(PathBuf::from).collect();
        paths.sort();
        paths
    };
    let all: Vec<PathBuf> = walk(lake).into_iter().filter(|path| !path.starts_with(lake.join("_chatlake"))).collect();
    assert_eq!(listed(&[]), all);
    assert_eq!(listed(&["--dataset", "messages"]), data_files(lake, "messages"));
    let second: Vec<PathBuf> = data_files(lake, "messages/event_date=2026-01-06");
    assert_eq!(listed(&["--dataset", "messages", "--since", "2026-01-06"]), second);
    assert_eq!(
        listed(&["--dataset", "messages", "--since", "2026-01-06", "--until", "2026-01-06"]),
        [""; 0].map(PathBuf::from)
    );
    assert_eq!(listed(&["--dataset", "users", "--since", "2026-01-06"]).len(), 0, "snapshots have no cells");
    assert_eq!(listed(&["--written-since", "2026-01-01"]), all);
    assert_eq!(listed(&["--written-since", "2200-01-01"]).len(), 0);
    bench.run(&["files", "--dataset", "massages"]).assert_refused(2, &["massages", "messages"]);

    let moved = unsettle(lake, 2);
    let files = json_of(&bench.run(&["files", "--json"]), 0);
    let unsettled: Vec<&Value> =
        files["files"].as_array().unwrap().iter().filter(|file| file["settled"] == false).collect();
    assert_eq!(unsettled.len(), moved);
    assert!(unsettled.iter().all(|file| file["key"].as_str().unwrap().starts_with("_chatlake/staging/")), "{files}");
    assert!(listed(&[]).iter().all(|path| path.exists()));
    let status = json_of(&bench.run(&["status", "--json"]), 0);
    assert_eq!(status["pending"]["staged_files"], moved, "{status}");
    assert!(bench.run(&["status"]).stdout.contains("unsettled    entry 2"));
    json_of(&bench.run(&["verify", "--json", "--deep"]), 0);
    bench.run(&["gc", "--delete"]);
    bench.sync("2026-01-07", "2026-01-08", &[]).assert_status(0, "committed");
    assert_eq!(json_of(&bench.run(&["status", "--json"]), 0)["pending"], Value::Null);
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
fn a_file_that_is_gone_is_named_by_files_too() {
    let bench = lake();
    let file = data_files(Path::new(&bench.lake), "messages").remove(0);
    fs::remove_file(&file).unwrap();
    bench.run(&["files"]).assert_refused(65, &["is gone or cut", "chatlake verify", "messages/event_date=2026-01-05"]);
}
