//! What revisits find, in numbers: against what the simulator was told to change, and against the rows before and after.

use std::collections::BTreeMap;

use chatlake::lake::{Changes, Revisit};
use serde_json::{Value, json};
use simulator::switches::Switches;
use simulator::{Channel, Effect, Fault, Message, Size, User, World};

use crate::bench::{Bench, Place, at, hours, seed, two_days};
use crate::columns::configure;
use crate::inside::Inside;
use crate::replace::change;

/// A day with one message at half past every hour, `m-00` to `m-23`, in two channels, and three reactions to `m-03`.
fn quiet_day() -> Bench {
    let mut world = World::empty();
    for id in ["amara", "jonas", "mei"] {
        world.add_user(User::new(id, id, at("2025-01-01")));
    }
    for id in ["general", "random"] {
        world.add_channel(Channel::new("team", id, at("2025-01-01")).with_members(["amara", "jonas", "mei"])).unwrap();
    }
    for hour in 0..24 {
        let sent_at = at("2026-01-05T00:30:00Z") + hours(hour);
        let message = Message::new(format!("m-{hour:02}"), "amara", "Good morning", sent_at);
        world.add_message(["team:general", "team:random"][usize::try_from(hour).unwrap() % 2], message).unwrap();
    }
    for user in ["amara", "jonas", "mei"] {
        world.react("m-03", user, "like", at("2026-01-05T03:40:00Z")).unwrap();
    }
    let mut bench = Bench::with(world, Switches::default(), Place::Folder).unwrap();
    bench.set_time(at("2026-01-06T00:10:00Z"));
    bench
}

/// Two edits, two deletions for good, a soft one, an import, two reactions and one that is withdrawn.
fn change_quiet_day(bench: &Bench) {
    let morning = |time: &str| at(&format!("2026-01-06T{time}Z"));
    bench
        .simulator
        .world(|world| {
            world.edit("m-00", "Good evening", morning("01:30:00"))?;
            world.edit("m-23", "Good evening", morning("00:20:00"))?;
            world.soft_delete("m-22", morning("00:40:00"))?;
            world.hard_delete("m-12")?;
            world.hard_delete("m-13")?;
            world.add_message("team:general", Message::new("late", "mei", "Moved here", at("2026-01-05T20:15:00Z")))?;
            world.react("m-01", "jonas", "love", morning("02:00:00"))?;
            world.react("m-02", "jonas", "love", morning("20:00:00"))?;
            world.unreact("m-03", "mei", "like", morning("20:00:00"))
        })
        .unwrap();
}

/// What the latest revisit of each cell has found, by the log.
fn revisits(bench: &Bench) -> Vec<Vec<Revisit>> {
    Inside::of(bench).state().covers().map(|covered| covered.cover.record.revisits.clone()).collect()
}

fn counts(changes: &Value) -> [u64; 3] {
    ["inserted", "edited", "vanished"].map(|name| changes[name].as_u64().unwrap())
}

fn revisited(summary: &Value) -> ([u64; 2], [u64; 3], [u64; 3]) {
    let found = &summary["revisited"];
    let cells = ["cells", "differed"].map(|name| found[name].as_u64().unwrap());
    (cells, counts(&found["messages"]), counts(&found["reactions"]))
}

#[test]
fn a_revisit_counts_what_was_changed_and_how_old_it_was_whether_hours_or_a_day_were_exported() {
    for window in ["1h", "1d"] {
        let mut bench = quiet_day();
        let first = bench.run(&["sync", "--json", "--start", "2026-01-05", "--window", window, "--revisit", "none"]);
        assert_eq!(revisited(&first.assert_status(0, "committed")), ([0; 2], [0; 3], [0; 3]));
        change_quiet_day(&bench);
        bench.set_time(at("2026-01-07T00:10:00Z"));
        let summary = bench.run(&["revisit", "--json", "--window", window]).assert_status(0, "committed");
        // A reaction is in the counts of its message, too.
        assert_eq!(revisited(&summary), ([1, 1], [1, 6, 2], [2, 0, 1]), "{window}");
        // m-23 and m-22 were young. An import, a deletion for good and a withdrawn reaction say no time but that of the export.
        assert_eq!(summary["revisited"]["messages"]["ages"], json!({"1h": 1, "6h": 1, "2d": 7}), "{window}");
        assert_eq!(summary["revisited"]["reactions"]["ages"], json!({"2d": 3}), "{window}");
        let found = revisits(&bench);
        assert_eq!((found.len(), found[0].len()), (1, 1));
        assert_eq!(found[0][0].window.to_string(), "2026-01-05T00:00:00Z..2026-01-06T00:00:00Z");
        assert_eq!(found[0][0].previous_exported_at.duration_since(at("2026-01-06T00:10:00Z")).as_mins(), 0);
        assert_eq!(found[0][0].exported_at.duration_since(at("2026-01-07T00:10:00Z")).as_mins(), 0);
        bench.assert_exact("2026-01-05", "2026-01-06");
    }
}

#[test]
fn every_revisit_is_remembered_and_one_that_finds_nothing_most_of_all() {
    let mut bench = quiet_day();
    bench.run(&["sync", "--json", "--start", "2026-01-05"]).assert_status(0, "committed");
    change_quiet_day(&bench);
    let mut found = Vec::new();
    for time in ["2026-01-07T00:10:00Z", "2026-01-13T00:10:00Z"] {
        bench.set_time(at(time));
        found.push(revisited(&bench.run(&["revisit", "--json"]).assert_status(0, "committed")));
    }
    bench.set_time(at("2026-02-20"));
    bench.simulator.world(|world| world.edit("m-05", "Good night", at("2026-02-19"))).unwrap();
    let ran = bench.sync("2026-01-05", "2026-01-06", &["--replace", "-v"]);
    let replaced = ran.assert_status(0, "committed");
    assert!(ran.stderr.contains("0 inserted, 1 edited, 0 vanished"), "{}", ran.stderr);
    found.push(revisited(&replaced));
    assert_eq!(replaced["revisited"]["messages"]["ages"], json!({"90d": 1}));
    let nothing = ([1, 0], [0; 3], [0; 3]);
    assert_eq!(found, [([1, 1], [1, 6, 2], [2, 0, 1]), nothing, ([1, 1], [0, 1, 0], [0; 3])]);
    let remembered = revisits(&bench).remove(0);
    assert_eq!(remembered.len(), 3);
    assert_eq!(remembered[1].messages, Changes::default());
    let status = bench.run(&["status", "--json"]).summary();
    let rows: Vec<_> = status["revisits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (row["age"].as_str().unwrap(), row["days"].clone(), row["differed"].clone(), counts(&row["messages"]))
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("1d", json!(1), json!(1), [1, 6, 2]),
            ("7d", json!(1), json!(0), [0; 3]),
            ("30d", json!(1), json!(1), [0, 1, 0]),
        ]
    );
    let text = bench.run(&["status"]).stdout;
    for part in
        ["revisits", "1 within 1h, 1 within 6h, 10 within 2d, 1 within 90d", "at 30d still 1 of 1 days differed"]
    {
        assert!(text.contains(part), "`{part}`: {text}");
    }
    assert_eq!(bench.run(&["verify", "--deep", "--json"]).code, 0);
    let text = bench.run(&["sync", "--since", "2026-01-05", "--until", "2026-01-06", "--replace"]).stdout;
    assert!(text.contains("1 cell exported again, 0 differed: messages 0 inserted, 0 edited, 0 vanished"), "{text}");
}

#[test]
fn what_comes_back_is_inserted_and_what_stays_away_vanishes_once() {
    for more in [&[][..], &["--on-vanish", "remove"]] {
        let bench = quiet_day();
        let replace = |more: &[&str]| {
            let arguments = [&["--replace"], more].concat();
            revisited(&bench.sync("2026-01-05", "2026-01-06", &arguments).assert_status(0, "committed"))
        };
        bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
        let kept = bench.simulator.world(|world| world.message("m-12").unwrap().1.clone());
        bench.simulator.world(|world| world.hard_delete("m-12")).unwrap();
        assert_eq!(replace(more), ([1, 1], [0, 0, 1], [0; 3]));
        assert_eq!(replace(more), ([1, 0], [0; 3], [0; 3]));
        bench.simulator.world(|world| world.add_message("team:general", kept)).unwrap();
        assert_eq!(replace(more), ([1, 1], [1, 0, 0], [0; 3]));
        assert_eq!(replace(&["--on-vanish", "remove"]), ([1, 0], [0; 3], [0; 3]));
    }
}

#[test]
fn channels_that_are_filled_in_or_gone_are_no_changes() {
    let bench = quiet_day();
    let fault = Fault::on("ExportChannels", Effect::FailTask { description: "export failed".into() });
    bench.simulator.add_fault(fault.for_channel("team:random").times(0));
    assert_eq!(bench.sync("2026-01-05", "2026-01-06", &[]).code, 69);
    bench.simulator.clear_faults();
    let filled = bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    assert_eq!(revisited(&filled), ([0; 2], [0; 3], [0; 3]));
    assert_eq!(revisits(&bench), [vec![]]);
    bench.simulator.world(|world| world.delete_channel("team:random", at("2026-01-06"), true)).unwrap();
    let summary = bench.sync("2026-01-05", "2026-01-06", &["--replace"]).assert_status(0, "committed");
    assert_eq!(revisited(&summary), ([1, 0], [0; 3], [0; 3]));
    assert_eq!(revisits(&bench)[0].len(), 1);
}

/// Columns that say nothing about a row itself, by the schemas.
const NOT_COMPARED: [&str; 8] = [
    "_exported_at",
    "_export_task_id",
    "_vanished_at",
    "raw",
    "member",
    "mentioned_groups",
    "quoted_message",
    "reaction_groups",
];

/// What a row says, by its key, and whether it has vanished.
fn rows(bench: &Bench, dataset: &str, key: &[&str]) -> BTreeMap<String, (Value, bool)> {
    let mut rows = BTreeMap::new();
    for mut row in bench.rows(dataset) {
        let key = key.iter().map(|name| row[name].to_string()).collect();
        let vanished = !row["_vanished_at"].is_null();
        for name in NOT_COMPARED {
            row.as_object_mut().unwrap().remove(name);
        }
        unsign(&mut row);
        rows.insert(key, (row, vanished));
    }
    rows
}

/// Links without what signs them.
fn unsign(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("https://") => {
            let end = text.find('?').unwrap_or(text.len());
            text.truncate(end);
        }
        Value::Array(items) => items.iter_mut().for_each(unsign),
        Value::Object(object) => object.values_mut().for_each(unsign),
        _ => {}
    }
}

#[test]
fn the_numbers_are_those_of_the_rows_before_and_after() {
    let bench = Bench::with(World::seeded(seed(), &two_days()), Switches::default(), Place::Folder).unwrap();
    let range = ["2026-01-05", "2026-01-07"];
    bench.sync(range[0], range[1], &["--window", "6h"]).assert_status(0, "committed");
    for changed in [true, false, true] {
        let datasets = [("messages", &["cid", "id"][..]), ("reactions", &["cid", "message_id", "user_id", "type"])];
        let before = datasets.map(|(dataset, key)| rows(&bench, dataset, key));
        if changed {
            change(&bench);
        }
        let summary = bench.sync(range[0], range[1], &["--replace"]).assert_status(0, "committed");
        for ((dataset, key), before) in datasets.into_iter().zip(before) {
            let after = rows(&bench, dataset, key);
            let was = |key: &String| before.get(key).filter(|(_, vanished)| !vanished);
            let live = || after.iter().filter(|(_, (_, vanished))| !vanished);
            let expected = [
                live().filter(|(key, _)| was(key).is_none()).count(),
                live().filter(|(key, (row, _))| was(key).is_some_and(|(old, _)| old != row)).count(),
                after.iter().filter(|(key, (_, vanished))| *vanished && was(key).is_some()).count(),
            ];
            let found = &summary["revisited"][dataset];
            assert_eq!(counts(found), expected.map(|number| number as u64), "{dataset}");
            let ages = found["ages"].as_object().map_or(0, |ages| ages.values().map(|n| n.as_u64().unwrap()).sum());
            assert_eq!(ages, counts(found).iter().sum::<u64>(), "{dataset}: {found}");
            assert_eq!(ages > 0, changed, "{dataset}: {found}");
        }
        assert_eq!(summary["revisited"]["cells"], 8);
    }
    assert!(revisits(&bench).iter().all(|cell| cell.len() == 3));
}

#[test]
fn a_damaged_file_is_nothing_to_compare_with() {
    let bench = Bench::new(&Size { channels: 4, days: 1, ..two_days() });
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    // As long as an entry is the last, a file of it that is gone means that it was never settled.
    bench.sync("2026-01-01", "2026-01-02", &[]).assert_status(0, "committed");
    let file = crate::inspect::data_files(std::path::Path::new(&bench.lake), "messages").remove(0);
    std::fs::remove_file(file).unwrap();
    let summary = bench.sync("2026-01-05", "2026-01-06", &["--replace"]).assert_status(0, "committed");
    assert_eq!(revisited(&summary), ([0; 2], [0; 3], [0; 3]));
    let summary = bench.sync("2026-01-05", "2026-01-06", &["--replace"]).assert_status(0, "committed");
    assert_eq!(revisited(&summary), ([1, 0], [0; 3], [0; 3]));
}

#[test]
fn rows_that_were_written_under_other_columns_are_not_taken_for_edited() {
    let mut bench = quiet_day();
    let order = json!({"order_id": 7}).as_object().unwrap().clone();
    for id in ["m-04", "m-06"] {
        bench.simulator.world(|world| world.change_message(id, |message| message.custom = order.clone())).unwrap();
    }
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    let mut found = Vec::new();
    for columns in ["[promote.messages]\norder_id = \"int64\"", "[promote.messages]\norder_id = \"int64\"", ""] {
        configure(&mut bench, columns);
        bench.simulator.world(|world| world.hard_delete("m-12")).ok();
        let summary = bench.sync("2026-01-05", "2026-01-06", &["--replace"]).assert_status(0, "committed");
        assert_eq!(summary["revisited"]["messages"]["edited"], 0, "{summary}");
        found.push((summary["revisited"]["messages"]["incomparable"].as_u64(), summary["vanished"].clone()));
    }
    assert_eq!(found, [(Some(2), json!(1)), (None, json!(0)), (Some(2), json!(0))]);
    let text = bench.run(&["status"]).stdout;
    assert!(text.contains("4 rows were written under another schema"), "{text}");
}
