//! What is printed: a difference here is a change of the contract with users.

use std::process::Command;

use insta::assert_snapshot;

use crate::bench::{Bench, two_days};

fn printed(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatlake"));
    let output = command.env_clear().env("COLUMNS", "110").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help() {
    assert_snapshot!("help", printed(&["--help"]));
    assert_snapshot!("help_sync", printed(&["sync", "--help"]));
    assert_snapshot!("help_revisit", printed(&["revisit", "--help"]));
    assert_snapshot!("help_backfill", printed(&["backfill", "--help"]));
    for command in ["users", "convert", "check", "status", "files", "verify", "gc", "init", "config"] {
        assert_snapshot!(format!("help_{command}"), printed(&[command, "--help"]));
    }
    assert_snapshot!("help_schema", printed(&["schema", "--help"]));
    assert_snapshot!("help_demo", printed(&["demo", "--help"]));
}

/// Every option, as a configuration.
#[test]
fn init() {
    assert_snapshot!("init", printed(&["init", "-"]));
}

#[test]
fn schema() {
    assert_snapshot!("schema_arrow", printed(&["schema", "--format", "arrow"]));
    assert_snapshot!("schema_reactions", printed(&["schema", "reactions"]));
    let json: serde_json::Value = serde_json::from_str(&printed(&["schema", "messages", "--format", "json"])).unwrap();
    assert_eq!(json["dataset"], "messages");
}

/// The names of what the summary says.
#[test]
fn summary_keys() {
    let bench = Bench::new(&two_days());
    let summary = bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let lines = [
        keys(&summary),
        keys(&summary["cells"][0]),
        keys(&summary["datasets"]["messages"]),
        keys(&summary["export_tasks"]),
        keys(&summary["revisited"]),
        keys(&summary["revisited"]["messages"]),
    ];
    assert_snapshot!("summary_keys", lines.join("\n"));
}

/// The names of what a run over users says and puts into the log.
#[test]
fn user_exports() {
    let bench = Bench::new(&simulator::Size { channels: 4, ..two_days() });
    bench.simulator.change_switches(|switches| switches.calls_and_devices = true);
    // Whoever has reacted, and who wrote that message, so that some of everything comes.
    let users: Vec<String> = bench.simulator.world(|world| {
        let messages = world.channels().flat_map(|channel| &channel.messages);
        let reactions = messages.flat_map(|message| message.reactions.iter().map(move |reaction| (message, reaction)));
        let involved = reactions.flat_map(|(message, reaction)| message.user_id.iter().chain([&reaction.user_id]));
        involved.take(6).cloned().collect()
    });
    let mut arguments = vec!["users", "--json", "--rate-share", "1", "--user-id", "nobody"];
    arguments.extend(users.iter().map(String::as_str));
    let summary = bench.run(&arguments).assert_status(0, "committed");
    let path = std::path::Path::new(&bench.lake).join("_chatlake/log/00000000000000000001.json");
    let mut entry: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    // Who has polls, and who has none, is a matter of chance.
    for counts in ["lines", "rows"] {
        let counts = entry["actions"][0]["user_export"][counts].as_object_mut().unwrap();
        counts.retain(|dataset, _| dataset.ends_with("messages"));
    }
    let shapes =
        serde_json::json!({ "summary": shape(&summary["user_exports"]), "entry": shape(&entry["actions"][0]) });
    assert_snapshot!("user_exports", serde_json::to_string_pretty(&shapes).unwrap());
}

/// The names of what the commands that look after a lake say.
#[test]
fn inspection_keys() {
    let bench = Bench::new(&simulator::Size { channels: 4, ..two_days() });
    bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
    bench.sync("2026-01-05", "2026-01-06", &["--replace"]).assert_status(0, "committed");
    crate::inspect::leave_a_journal(&bench, "2026-01-09");
    let mut shapes = serde_json::Map::new();
    for arguments in [&["status"][..], &["files"], &["verify", "--deep", "--against-stream", "1"], &["gc"]] {
        let ran = bench.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{ran:#?}");
        shapes.insert(arguments[0].to_owned(), shape(&ran.summary()));
    }
    assert_snapshot!("inspection_keys", serde_json::to_string_pretty(&shapes).unwrap());
}

/// The form of a log entry, with what differs from run to run blanked.
#[test]
fn log_entry() {
    let bench = Bench::new(&simulator::Size { channels: 4, days: 1, odd_channels: false, ..two_days() });
    bench.sync("2026-01-05", "2026-01-06", &["--compression", "none"]).assert_status(0, "committed");
    let path = std::path::Path::new(&bench.lake).join("_chatlake/log/00000000000000000001.json");
    let entry: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_snapshot!("log_entry", serde_json::to_string_pretty(&shape(&entry)).unwrap());
}

/// Values by their type; of a list its first element.
fn shape(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(items) => items.first().map(|item| vec![shape(item)]).unwrap_or_default().into(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        other => other.clone(),
    }
}

#[test]
fn a_person_reads_this() {
    let bench = Bench::new(&two_days());
    let ran = bench.run(&["sync", "--since", "2026-01-05", "--until", "2026-01-07", "-q"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert_eq!(ran.stderr, "", "quiet");
    assert!(ran.stdout.starts_with("committed ("), "{}", ran.stdout);
    for part in ["messages", "reactions", "2 cells committed", "2 exports"] {
        assert!(ran.stdout.contains(part), "`{part}`: {}", ran.stdout);
    }
}

#[test]
fn the_demo_makes_a_lake_whose_queries_work() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("my lake");
    let text = printed(&["demo", lake.to_str().unwrap()]);
    let python = std::env::var("CHATLAKE_TEST_PYTHON").expect("run the tests by ./test");
    let programs: Vec<String> = text
        .split("\n\n")
        .filter(|part| part.contains("\nimport "))
        // As it is pasted: what comes after the line that says with what.
        .map(|part| part.trim_start().split_once('\n').unwrap().1.to_owned())
        .collect();
    assert_eq!(programs.len(), 3, "{text}");
    for program in programs {
        let output = Command::new(&python).args(["-c", &program]).output().unwrap();
        assert!(output.status.success(), "{program}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).lines().count() >= 4, "{program}");
    }
    let again = Command::new(env!("CARGO_BIN_EXE_chatlake")).arg("demo").arg(&lake).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));
}
