//! Edits, deletes and reactions that came late.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::json;
use simulator::switches::Switches;
use simulator::{Size, World};

use crate::bench::{Bench, Place, Ran, at, hours, seed, two_days};

/// Edits, deletes for good and softly, new reactions and withdrawn ones, a late message. Yields the ids deleted for good.
pub fn change(bench: &Bench) -> Vec<String> {
    let truth = bench.simulator.truth();
    let now = bench.simulator.now();
    let live: Vec<_> = truth.messages.iter().filter(|message| message.deleted_at.is_none()).collect();
    let is_parent = |id: &str| truth.messages.iter().any(|message| message.parent_id.as_deref() == Some(id));
    let hard: Vec<String> = live
        .iter()
        .skip(7)
        .step_by(11)
        .filter(|message| !is_parent(&message.id))
        .take(4)
        .map(|m| m.id.clone())
        .collect();
    // Of a message with more reactions than its export shows, nobody can tell that one was withdrawn.
    let is_crowded = |id: &str| truth.reactions.iter().filter(|reaction| reaction.message_id == id).count() >= 10;
    let mut shown = truth.reactions.iter().filter(|reaction| !is_crowded(&reaction.message_id));
    let reaction = shown.find(|reaction| !hard.contains(&reaction.message_id)).unwrap();
    bench.simulator.world(|world| {
        for message in live.iter().skip(2).step_by(29).take(5).filter(|message| !hard.contains(&message.id)) {
            world.edit(&message.id, "changed my mind", now).unwrap();
        }
        for message in live.iter().skip(4).step_by(37).take(5).filter(|message| !hard.contains(&message.id)) {
            world.soft_delete(&message.id, now).unwrap();
        }
        for message in live.iter().skip(5).step_by(23).take(5).filter(|message| !hard.contains(&message.id)) {
            world.react(&message.id, "amara", "late", now).unwrap();
        }
        world.unreact(&reaction.message_id, &reaction.user_id, &reaction.reaction_type, now).unwrap();
        for id in &hard {
            world.hard_delete(id).unwrap();
        }
    });
    assert_eq!(hard.len(), 4);
    hard
}

fn replace(place: Place, more: &[&str]) -> (Bench, Vec<String>) {
    let bench = Bench::with(World::seeded(seed(), &two_days()), Switches::default(), place).unwrap();
    bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
    let hard = change(&bench);
    bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "already_committed");
    let mut arguments = vec!["--replace"];
    arguments.extend(more);
    let summary = bench.sync("2026-01-05", "2026-01-07", &arguments).assert_status(0, "committed");
    assert!(summary["vanished"].as_u64().unwrap() >= 5, "{summary}");
    (bench, hard)
}

#[test]
fn replacing_shows_the_new_state_and_keeps_what_vanished() {
    let (bench, hard) = replace(Place::Folder, &[]);
    let contents = bench.assert_exact("2026-01-05", "2026-01-07");
    contents.assert_one_file_each(&["messages", "reactions"]);
    let mut vanished: Vec<_> =
        contents.messages.iter().filter(|message| message.vanished).map(|message| message.id.clone()).collect();
    vanished.sort();
    let mut hard = hard;
    hard.sort();
    assert_eq!(vanished, hard);
    // Once vanished, it stays with the time at which it was first missed.
    let first = vanished_at(&bench);
    let summary = bench.sync("2026-01-05", "2026-01-07", &["--replace"]).assert_status(0, "committed");
    assert_eq!(summary["vanished"], 0);
    assert_eq!(vanished_at(&bench), first);
    bench.assert_exact("2026-01-05", "2026-01-07");
}

fn vanished_at(bench: &Bench) -> BTreeMap<String, i64> {
    let rows = bench.rows("messages");
    let time = |row: &serde_json::Value| Some((row["id"].as_str()?.to_owned(), row["_vanished_at"].as_i64()?));
    rows.iter().filter_map(time).collect()
}

#[test]
fn replacing_on_s3() {
    if std::env::var("CHATLAKE_TEST_S3_ENDPOINT").is_ok() {
        let (bench, _) = replace(Place::S3, &[]);
        bench.assert_exact("2026-01-05", "2026-01-07").assert_one_file_each(&["messages", "reactions"]);
    }
}

#[test]
fn vanished_rows_can_be_removed() {
    let (bench, _) = replace(Place::Folder, &["--on-vanish", "remove"]);
    let contents = bench.assert_exact("2026-01-05", "2026-01-07");
    assert!(contents.messages.iter().all(|message| !message.vanished));
    assert!(contents.reactions.iter().all(|reaction| !reaction.vanished));
}

#[test]
fn a_message_that_comes_back_is_live_again() {
    let (bench, hard) = replace(Place::Folder, &[]);
    let truth = bench.simulator.truth();
    let cid = &truth.messages[0].cid;
    let mut message = simulator::Message::new(&hard[0], "amara", "back", at("2026-01-05T12:00:00Z"));
    message.updated_at = bench.simulator.now();
    let kept = bench.read().messages.into_iter().find(|message| message.id == hard[0]).unwrap();
    message.created_at = jiff::Timestamp::from_microsecond(kept.created_at).unwrap();
    assert!(cid.contains(':'));
    bench.simulator.world(|world| world.add_message(&kept.cid, message)).unwrap();
    bench.sync("2026-01-05", "2026-01-07", &["--replace"]).assert_status(0, "committed");
    let contents = bench.assert_exact("2026-01-05", "2026-01-07");
    assert_eq!(contents.messages.iter().filter(|message| message.vanished).count(), hard.len() - 1);
}

#[test]
fn an_unchanged_replacement_rewrites_nothing() {
    let bench = Bench::new(&two_days());
    bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
    let files = |bench: &Bench| {
        let mut names: Vec<_> = walk(&std::path::Path::new(&bench.lake).join("messages"));
        names.sort();
        names
    };
    let before = files(&bench);
    let summary = bench.sync("2026-01-05", "2026-01-07", &["--replace"]).assert_status(0, "committed");
    let statuses: Vec<_> = summary["cells"].as_array().unwrap().iter().map(|cell| cell["status"].clone()).collect();
    assert_eq!(statuses, ["unchanged", "unchanged"]);
    assert!(!summary["partitions_changed"].to_string().contains("event_date"), "{summary}");
    assert_eq!(files(&bench), before);
    bench.assert_exact("2026-01-05", "2026-01-07");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn one_changed_day_of_two_is_the_only_one_rewritten() {
    let bench = Bench::new(&two_days());
    bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
    let message = bench.simulator.truth().messages_in(at("2026-01-06"), at("2026-01-07")).next().unwrap().clone();
    bench.simulator.world(|world| world.edit(&message.id, "changed", message.updated_at + hours(1))).unwrap();
    let summary = bench.sync("2026-01-05", "2026-01-07", &["--replace"]).assert_status(0, "committed");
    let statuses: Vec<_> = summary["cells"].as_array().unwrap().iter().map(|cell| cell["status"].clone()).collect();
    assert_eq!(statuses, ["unchanged", "committed"]);
    assert!(summary["partitions_changed"].to_string().contains("messages/event_date=2026-01-06"), "{summary}");
    assert!(!summary["partitions_changed"].to_string().contains("event_date=2026-01-05"), "{summary}");
    bench.assert_exact("2026-01-05", "2026-01-07");
}

#[test]
fn a_revisit_finds_what_changed_when_the_day_is_old_enough() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-07T00:10:00Z"));
    bench.run(&["sync", "--json", "--start", "2026-01-05"]).assert_status(0, "committed");
    let before = bench.exports();
    assert_eq!(bench.run(&["revisit", "--json", "--plan"]).code, 0);
    // The fifth is a day old, and was exported when it was: nothing is due.
    bench.run(&["revisit", "--json"]).assert_status(0, "nothing_to_do");
    assert_eq!(bench.exports(), before);
    bench.set_time(at("2026-01-08T00:10:00Z"));
    let hard = change(&bench);
    let summary = bench.run(&["revisit", "--json"]).assert_status(0, "committed");
    let days: Vec<_> = summary["cells"].as_array().unwrap().iter().map(|cell| cell["since"].clone()).collect();
    assert_eq!(days, ["2026-01-06T00:00:00Z"]);
    bench.run(&["revisit", "--json"]).assert_status(0, "nothing_to_do");
    bench.set_time(at("2026-01-14T00:10:00Z"));
    let summary = bench.run(&["revisit", "--json"]).assert_status(0, "committed");
    assert_eq!(summary["cells"].as_array().unwrap().len(), 2);
    let contents = bench.assert_exact("2026-01-05", "2026-01-07");
    assert_eq!(contents.messages.iter().filter(|message| message.vanished).count(), hard.len());
    bench.set_time(at("2026-02-14T00:10:00Z"));
    bench.run(&["revisit", "--json"]).assert_status(0, "nothing_to_do");
}

#[test]
fn hourly_cells_become_one_file_by_a_revisit() {
    let mut bench = Bench::new(&Size { days: 1, ..two_days() });
    bench.set_time(at("2026-01-06T00:10:00Z"));
    let first = bench
        .run(&["sync", "--json", "--window", "1h", "--start", "2026-01-05", "--revisit", "none"])
        .assert_status(0, "committed");
    assert_eq!(first["cells"].as_array().unwrap().len(), 24);
    assert_eq!(first["export_tasks"]["requested"], 2, "24 cells are one span");
    let hourly = bench.assert_exact("2026-01-05", "2026-01-06");
    assert!(hourly.files["messages"]["event_date=2026-01-05"] > 12, "{:?}", hourly.files);
    bench.set_time(at("2026-01-07T00:10:00Z"));
    let hard = change(&bench);
    let summary = bench.run(&["revisit", "--json", "--window", "1h"]).assert_status(0, "committed");
    assert_eq!(summary["cells"].as_array().unwrap().len(), 1);
    let daily = bench.assert_exact("2026-01-05", "2026-01-06");
    daily.assert_one_file_each(&["messages", "reactions"]);
    assert_eq!(daily.messages.iter().filter(|message| message.vanished).count(), hard.len());
}

#[test]
fn a_replacement_of_more_files_than_may_be_open_works() {
    let bench = Bench::new(&Size { days: 4, messages_per_channel_day: 12, ..two_days() });
    let range = ["2026-01-05", "2026-01-09"];
    bench.sync(range[0], range[1], &["--window", "1h"]).assert_status(0, "committed");
    let hourly = bench.assert_exact(range[0], range[1]);
    let files: u64 = ["messages", "reactions"].iter().flat_map(|dataset| hourly.files[*dataset].values()).sum();
    assert!(files > 96, "{files}");
    let hard = change(&bench);
    let plain = bench.command(&["sync", "--json", "--replace", "--since", range[0], "--until", range[1]]);
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -n 96 && exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    limited.env_clear().envs(bench.env()).current_dir(bench.folder.path());
    Ran::from(limited.output().unwrap()).assert_status(0, "committed");
    let replaced = bench.assert_exact(range[0], range[1]);
    assert_eq!(replaced.messages.iter().filter(|message| message.vanished).count(), hard.len());
}

#[test]
fn unchanged_hours_become_one_file_too() {
    let mut bench = Bench::new(&Size { days: 1, ..two_days() });
    bench.set_time(at("2026-01-06T00:10:00Z"));
    bench
        .run(&["sync", "--json", "--window", "1h", "--start", "2026-01-05", "--revisit", "none"])
        .assert_status(0, "committed");
    bench.set_time(at("2026-01-07T00:10:00Z"));
    bench.run(&["sync", "--json", "--window", "1h"]).assert_status(0, "committed");
    bench.assert_exact("2026-01-05", "2026-01-06").assert_one_file_each(&["messages", "reactions"]);
}

#[test]
fn rows_of_a_channel_that_is_gone_are_carried_over() {
    let bench = Bench::new(&two_days());
    bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
    let truth = bench.simulator.truth();
    let gone = truth.messages[0].cid.clone();
    bench.simulator.world(|world| world.delete_channel(&gone, at("2026-02-01"), true)).unwrap();
    let other = truth.messages.iter().find(|message| message.cid != gone).unwrap();
    bench.simulator.world(|world| world.edit(&other.id, "changed", at("2026-02-01"))).unwrap();
    let summary = bench.sync("2026-01-05", "2026-01-07", &["--replace"]).assert_status(0, "committed");
    assert_eq!(summary["missing_channels"], json!([gone]));
    assert_eq!(summary["vanished"], 0);
    let mut expected = bench.simulator.truth();
    expected.messages.extend(truth.messages.iter().filter(|message| message.cid == gone).cloned());
    expected.reactions.extend(truth.reactions.iter().filter(|reaction| reaction.cid == gone).cloned());
    bench.assert_holds(&expected, "2026-01-05", "2026-01-07");
}

#[test]
fn snapshots_are_added_and_never_replaced() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-08T10:00:00Z"));
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    let first = bench.read();
    bench.set_time(at("2026-01-09T10:00:00Z"));
    bench.sync("2026-01-05", "2026-01-06", &["--replace"]).assert_status(0, "committed");
    let second = bench.read();
    for dataset in ["channels", "members", "users"] {
        let days: Vec<_> = second.files[dataset].keys().cloned().collect();
        assert_eq!(days, ["snapshot_date=2026-01-08", "snapshot_date=2026-01-09"], "{dataset}");
        assert_eq!(second.rows[dataset], 2 * first.rows[dataset], "{dataset}");
    }
    assert_eq!(second.rows["messages"], first.rows["messages"]);
}

#[test]
fn a_file_that_is_gone_or_damaged_stops_a_revisit_and_is_made_good_by_a_replacement() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-07T00:10:00Z"));
    bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
    // As long as an entry is the last, a file of it that is gone means that it was never settled.
    bench.sync("2026-01-01", "2026-01-02", &[]).assert_status(0, "committed");
    bench.set_time(at("2026-01-09T00:10:00Z"));
    for damage in [|path: &std::path::Path| std::fs::remove_file(path).unwrap(), flip_a_byte] {
        let folder = std::path::Path::new(&bench.lake).join("messages/event_date=2026-01-06");
        let path = walk(&folder).remove(0);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        damage(&path);
        let ran = bench.run(&["revisit", "--json", "--revisit", "1h,4d"]);
        ran.assert_refused(65, &[&name, "chatlake sync --replace"]);
        let ran = bench.sync("2026-01-05", "2026-01-07", &["--replace"]);
        ran.assert_status(0, "committed");
        assert!(ran.stderr.contains(&name), "{}", ran.stderr);
        bench.assert_exact("2026-01-05", "2026-01-07").assert_one_file_each(&["messages", "reactions"]);
        bench.sync("2026-01-02", "2026-01-03", &[]);
        bench.set_time(at("2026-01-11T00:10:00Z"));
    }
}

fn flip_a_byte(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn the_exports_of_a_revisit_that_was_refused_are_looked_at_again_and_not_paid_twice() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-07T00:10:00Z"));
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    bench.set_time(at("2026-01-07T01:10:00Z"));
    let line = simulator::BadLine::Text { text: "{".into() };
    let lines = vec![simulator::Insertion { at_line: 1, line }; 11];
    let effect = simulator::Effect::BadLines { lines };
    bench.simulator.add_fault(simulator::Fault::on("ExportChannels", effect));
    let before = bench.exports();
    let arguments = ["revisit", "--json", "--revisit", "25h"];
    bench.run(&arguments).assert_refused(65, &["--max-rejected"]);
    let asked = bench.exports() - before;
    let more = [&arguments[..], &["--max-rejected", "11"]].concat();
    let summary = bench.run(&more).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"]["adopted"], asked);
    assert_eq!(bench.exports(), before + asked);
}
