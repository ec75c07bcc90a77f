//! Promoted columns and exclusions, from the configuration to what readers find.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use simulator::switches::{ChannelLines, Compression, Envelope, ReactionForm, Switches, UserLines};
use simulator::{Size, World};

use crate::bench::{Bench, Place, seed};

/// Writes the configuration of the runs that follow.
pub fn configure(bench: &mut Bench, text: &str) {
    let path = bench.folder.path().join("chatlake.toml");
    fs::write(&path, text).unwrap();
    bench.set("CHATLAKE_CONFIG", path.to_str().unwrap());
}

/// Three days in which every message has an order.
pub fn orders() -> World {
    let mut world =
        World::seeded(seed(), &Size { channels: 6, days: 3, messages_per_channel_day: 5, ..Size::default() });
    let ids: Vec<String> =
        world.channels().flat_map(|channel| channel.messages.iter().map(|message| message.id.clone())).collect();
    for (number, id) in ids.iter().enumerate() {
        let order = json!({"order_id": number, "order": {"amount": 0.5 + number as f64, "lines": [1, 2]}});
        let custom = order.as_object().unwrap().clone();
        world.change_message(id, |message| message.custom = custom).unwrap();
    }
    world
}

fn custom(row: &Value) -> Value {
    serde_json::from_str(row["custom"].as_str().unwrap()).unwrap()
}

#[test]
fn a_schema_is_shown_as_a_run_would_write_it() {
    let bench = Bench::with(orders(), Switches::default(), Place::Folder).unwrap();
    let path = bench.folder.path().join("wanted.toml");
    fs::write(&path, "[promote.messages]\norder_id = \"int64\"\n[exclude]\nmessages = [\"html\"]\n").unwrap();
    let wanted = ["--config", "wanted.toml"];
    let shown = |more: &[&str]| {
        let ran = bench.run(&[&["schema", "messages"], more].concat());
        assert_eq!(ran.code, 0, "{ran:#?}");
        ["order_id", "html"]
            .map(|name| ran.stdout.lines().any(|line| line.trim_start().starts_with(&format!("{name} "))))
    };
    assert_eq!((shown(&[]), shown(&wanted)), ([false, true], [true, false]));
    // In a lake that promotes it as something else, it gets the name that a run would give it.
    let mut other = bench;
    configure(&mut other, "[promote.messages]\norder_id = \"string\"");
    other.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    let ran = other.run(&["schema", "messages", "--config", "wanted.toml"]);
    assert!(ran.stdout.contains("order_id__int64"), "{ran:#?}");
    let ran = other.run(&["schema", "messages"]);
    assert!(!ran.stdout.contains("order_id__int64") && ran.stdout.contains("order_id"), "{ran:#?}");
    other.sync("2026-01-06", "2026-01-07", &wanted).assert_status(0, "committed");
    let rows = other.rows("messages");
    assert!(rows.iter().any(|row| row["order_id__int64"].is_i64()));
}

#[test]
fn promotions_come_and_go_and_every_value_stays_where_readers_find_it() {
    let mut bench = Bench::with(orders(), Switches::default(), Place::Folder).unwrap();
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    configure(
        &mut bench,
        "[promote.messages]\norder_id = \"int64\"\namount = { type = \"float64\", path = \"order.amount\" }",
    );
    let ran = bench.sync("2026-01-06", "2026-01-07", &["-v"]);
    ran.assert_status(0, "committed");
    assert!(
        ran.stderr.contains("the columns of the lake change")
            && ran.stderr.contains("promotes messages.order_id int64"),
        "{}",
        ran.stderr
    );
    configure(&mut bench, "[promote.messages]\norder_id = \"string\"");
    let ran = bench.sync("2026-01-07", "2026-01-08", &["-v"]);
    ran.assert_status(0, "committed");
    for part in ["no longer promotes messages.amount", "promotes messages.order_id__string string from `order_id`"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    bench.assert_exact("2026-01-05", "2026-01-08");
    assert_eq!(bench.run(&["verify", "--deep"]).code, 0);

    let rows = bench.rows("messages");
    for day in ["2026-01-05", "2026-01-06", "2026-01-07"] {
        let of_day: Vec<&Value> = rows.iter().filter(|row| row["event_date"] == day).collect();
        assert!(of_day.len() > 10);
        for row in of_day {
            match day {
                "2026-01-05" => assert!(custom(row)["order_id"].is_u64() && row["order_id"].is_null(), "{row}"),
                "2026-01-06" => {
                    assert!(row["order_id"].is_u64() && row["amount"].is_f64(), "{row}");
                    assert!(custom(row)["order_id"].is_null(), "{row}");
                    // What stands around a promoted value stays whole.
                    assert_eq!(custom(row)["order"]["amount"], row["amount"]);
                }
                // A number is no text: it is kept beside the column.
                _ => {
                    assert!(row["order_id"].is_null() && row["order_id__string"].is_null() && row["amount"].is_null());
                    let rescued: Value = serde_json::from_str(row["_rescued"].as_str().unwrap()).unwrap();
                    assert!(rescued["order_id"].is_u64(), "{row}");
                }
            }
        }
    }
}

#[test]
fn rows_that_stay_from_an_older_file_keep_what_was_promoted_then() {
    let mut bench = Bench::with(orders(), Switches::default(), Place::Folder).unwrap();
    configure(&mut bench, "[promote.messages]\norder_id = \"int64\"");
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    let before = bench.rows("messages");
    let gone = before[3]["id"].as_str().unwrap().to_owned();
    bench.simulator.world(|world| world.hard_delete(&gone)).unwrap();
    configure(&mut bench, "");
    bench.sync("2026-01-05", "2026-01-06", &["--replace"]).assert_status(0, "committed");
    let after = bench.rows("messages");
    let kept = after.iter().find(|row| row["id"] == gone.as_str()).unwrap();
    assert!(!kept["_vanished_at"].is_null());
    assert_eq!(kept["order_id"], before[3]["order_id"]);
    let others = after.iter().filter(|row| row["id"] != gone.as_str());
    assert!(others.clone().count() > 10);
    others.for_each(|row| assert!(row["order_id"].is_null() && custom(row)["order_id"].is_u64(), "{row}"));
    bench.assert_exact("2026-01-05", "2026-01-06");
}

const SECRET: &str = "hunter2-8f3a";

/// Secrets wherever an export may have them.
fn secrets() -> World {
    let mut world = orders();
    let users: Vec<String> = world.users().keys().cloned().collect();
    for id in &users {
        let mut user = world.users()[id].clone();
        user.custom.insert("email".to_owned(), json!({"address": format!("{SECRET}@example.com"), "at": [SECRET]}));
        world.add_user(user);
    }
    let ids: Vec<String> =
        world.channels().flat_map(|channel| channel.messages.iter().map(|message| message.id.clone())).collect();
    for id in &ids {
        world
            .change_message(id, |message| {
                message.text = SECRET.to_owned();
                message.custom.insert("card".to_owned(), json!({"number": SECRET, "kind": "visa"}));
                message.attachments = vec![json!({"type": "file", "title": SECRET, "pin": SECRET, "text": "fine"})];
                message.quoted_message_id = Some(ids[0].clone()).filter(|first| first != id);
            })
            .unwrap();
    }
    world
}

const EXCLUDE: &str = r#"
    [exclude]
    messages = ["text", "html", "custom.card.number", "attachments[].title", "attachments[].pin"]
    users = ["email"]
"#;

/// Every file below a folder that holds these bytes.
fn files_with(folder: &Path, bytes: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_with(&path, bytes, found);
        } else if memchr::memmem::find(&fs::read(&path).unwrap(), bytes).is_some() {
            found.push(path.display().to_string());
        }
    }
}

fn lake_files_with_secrets(bench: &Bench) -> Vec<String> {
    let mut found = Vec::new();
    files_with(Path::new(&bench.lake), SECRET.as_bytes(), &mut found);
    found
}

#[test]
fn what_is_left_out_is_nowhere_in_the_bytes_of_the_lake() {
    for envelope in [Envelope::Mixed, Envelope::Element] {
        let switches = Switches {
            envelope,
            compression: Compression::Gzip,
            read_lines: ChannelLines::PerChannel,
            user_lines: UserLines::Once,
            reactions: ReactionForm::Both,
            ..Switches::default()
        };
        let mut bench = Bench::with(secrets(), switches, Place::Folder).unwrap();
        // Without compression, so that a search of the bytes would find it.
        let plain = ["--compression", "none", "--keep-raw"];
        let mut open = plain.to_vec();
        open.extend(["--lake", "open"]);
        bench.sync("2026-01-05", "2026-01-06", &open).assert_status(0, "committed");
        let mut found = Vec::new();
        files_with(&bench.folder.path().join("open"), SECRET.as_bytes(), &mut found);
        assert!(found.len() >= 3, "the search finds nothing where there is something: {found:?}");

        configure(&mut bench, EXCLUDE);
        bench.sync("2026-01-05", "2026-01-07", &plain).assert_status(0, "committed");
        assert_eq!(lake_files_with_secrets(&bench), Vec::<String>::new());
        let rows = bench.rows("messages");
        assert!(rows.len() > 50);
        for row in &rows {
            assert!(row.get("text").is_none() && row["raw"].is_string(), "{row}");
            assert_eq!(custom(row)["card"], json!({"kind": "visa"}));
            assert_eq!(row["attachments"][0]["text"], "fine");
        }
        assert!(bench.rows("users").iter().any(|row| row["name"].is_string()));
    }
}

#[test]
fn an_exclusion_that_comes_later_takes_effect_with_the_next_export_of_a_day() {
    let mut bench = Bench::with(secrets(), Switches::default(), Place::Folder).unwrap();
    let plain = ["--compression", "none", "--keep-raw"];
    bench.sync("2026-01-05", "2026-01-06", &plain).assert_status(0, "committed");
    // A row that no export delivers any more must lose it as well.
    let gone = bench.rows("messages")[2]["id"].as_str().unwrap().to_owned();
    bench.simulator.world(|world| world.hard_delete(&gone)).unwrap();
    configure(&mut bench, EXCLUDE);
    let mut again = plain.to_vec();
    again.push("--replace");
    let summary = bench.sync("2026-01-05", "2026-01-06", &again).assert_status(0, "committed");
    assert_eq!(summary["cells"][0]["status"], "committed");
    let summary = bench.sync("2026-01-05", "2026-01-06", &again).assert_status(0, "committed");
    assert_eq!(summary["cells"][0]["status"], "unchanged");
    let left = lake_files_with_secrets(&bench);
    assert!(left.iter().all(|path| path.contains("snapshot_date=")), "{left:?}");
    let rows = bench.rows("messages");
    let kept = rows.iter().find(|row| row["id"] == gone.as_str()).unwrap();
    assert!(!kept["_vanished_at"].is_null());
    assert_eq!(custom(kept)["card"], json!({"kind": "visa"}));
    assert_eq!(bench.run(&["verify", "--deep"]).code, 0);
}

#[test]
fn a_run_that_forgets_the_exclusions_of_its_lake_is_refused() {
    let mut bench = Bench::with(secrets(), Switches::default(), Place::Folder).unwrap();
    configure(&mut bench, EXCLUDE);
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    let exports = bench.exports();
    configure(&mut bench, "[exclude]\nmessages = [\"text\"]");
    let ran = bench.sync("2026-01-06", "2026-01-07", &[]);
    ran.assert_refused(2, &["this lake leaves out", "`users.email`", "--lift-exclusions"]);
    assert_eq!(bench.exports(), exports);
    let ran = bench.sync("2026-01-06", "2026-01-07", &["--lift-exclusions", "-v"]);
    ran.assert_status(0, "committed");
    assert!(ran.stderr.contains("no longer leaves out users.email"), "{}", ran.stderr);
    bench.sync("2026-01-07", "2026-01-08", &[]).assert_status(0, "committed");
}

#[test]
fn a_configuration_that_cannot_be_understood_is_refused_before_anything_is_asked() {
    let mut bench = Bench::with(orders(), Switches::default(), Place::Folder).unwrap();
    configure(&mut bench, "[promote.messages]\norder_id = \"integer\"");
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_refused(2, &["chatlake.toml", "int64", "line 2"]);
    bench.set("CHATLAKE_CONFIG", "nowhere.toml");
    bench
        .sync("2026-01-05", "2026-01-06", &[])
        .assert_refused(2, &["cannot read the configuration nowhere.toml", "--config"]);
    assert_eq!(bench.simulator.calls().len(), 0);
}
