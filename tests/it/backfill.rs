//! History in large spans.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use simulator::switches::Switches;
use simulator::{Channel, Message, Size, User, World};

use crate::bench::{Bench, Place, Ran, Random, at, hours, seed};
use crate::memory::assert_fits;

const DAYS: u64 = 3 * 365 + 1;

/// Channels whose messages are scattered over so many days since 2023 began.
fn scattered(days: u64, channels: u64, messages_per_channel: u64) -> World {
    let mut random = Random(seed());
    let mut world = World::empty();
    let begin = at("2023-01-01");
    for number in 0..7 {
        world.add_user(User::new(format!("user-{number}"), format!("User {number}"), begin - hours(24)));
    }
    for number in 0..channels {
        let created_at = begin - SignedDuration::from_millis(i64::try_from(1 + random.below(86_400_000)).unwrap());
        let channel = Channel::new("team", format!("c{number}"), created_at).with_members(["user-1"]);
        let cid = world.add_channel(channel).unwrap();
        for message in 0..messages_per_channel {
            let sent_at = begin + SignedDuration::from_millis(i64::try_from(random.below(days * 86_400_000)).unwrap());
            let user = format!("user-{}", random.below(7));
            let mut message = Message::new(format!("m-{number}-{message}"), user, "hello", sent_at);
            if random.below(10) == 0 {
                message.reactions.push(simulator::Reaction::new("user-2", "like", sent_at + hours(1)));
            }
            world.add_message(&cid, message).unwrap();
        }
    }
    world
}

pub fn unlimited() -> Switches {
    let limits = [("ExportChannels".to_owned(), 100_000), ("GetTask".to_owned(), 100_000)].into();
    Switches { limits, ..Switches::default() }
}

fn backfill(bench: &Bench, until: &str, more: &[&str]) -> Ran {
    let mut arguments = vec!["backfill", "--json", "--since", "2023-01-01", "--until", until];
    arguments.extend(more);
    bench.run(&arguments)
}

fn assert_no_channel_is_asked_for_more_often_than(spans: usize, bench: &Bench) {
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for cid in bench.simulator.calls_of("ExportChannels").into_iter().flat_map(|call| call.cids) {
        *asked.entry(cid).or_default() += 1;
    }
    assert_eq!(asked.len(), 60);
    assert!(asked.values().all(|times| *times <= spans), "{asked:?}");
}

#[test]
fn three_years_of_five_thousand_channels_are_one_request_for_each_25_of_them() {
    let bench = Bench::with(scattered(DAYS, 5_000, 3), unlimited(), Place::Folder).unwrap();
    let span = ["backfill", "--json", "--since", "2023-01-01", "--until", "2026-01-01", "--span", "1096d"];
    let summary = assert_fits(&bench, &span, 96).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"]["requested"], 200);
    assert_eq!(bench.exports(), 200, "5000 channels by 25, once");
    assert_eq!(summary["cells"].as_array().unwrap().len() as u64, DAYS);
    assert_eq!(summary["frontier"], serde_json::Value::Null);
    let contents = bench.assert_exact("2023-01-01", "2026-01-01");
    contents.assert_one_file_each(&["messages", "reactions", "channels", "members", "users"]);
    assert_eq!(contents.files["messages"].len() as u64, DAYS, "a file for each day");
    assert_eq!(contents.rows["channels"], 5_000, "one snapshot");
    backfill(&bench, "2026-01-01", &[]).assert_status(0, "already_committed");
    assert_eq!(bench.exports(), 200);
}

#[test]
fn spans_are_committed_newest_first_and_each_asks_once_for_each_channel() {
    let bench = Bench::with(scattered(100, 60, 30), unlimited(), Place::Folder).unwrap();
    let until = "2023-04-11";
    let ran = bench.run(&["backfill", "--since", "2023-01-01", "--until", until, "--span", "30d", "--plan"]);
    let since: Vec<&str> = ran.stdout.lines().skip(1).filter_map(|line| line.split('T').next()).take(4).collect();
    assert_eq!(since, ["2023-03-12", "2023-02-10", "2023-01-11", "2023-01-01"], "{ran:#?}");
    assert_eq!(bench.exports(), 0);
    let summary = backfill(&bench, until, &["--span", "30d"]).assert_status(0, "committed");
    // 60 channels by 25.
    assert_eq!(summary["export_tasks"]["requested"], 4 * 3);
    assert_no_channel_is_asked_for_more_often_than(4, &bench);
    let log = bench.folder.path().join("lake/_chatlake/log");
    let mut entries: Vec<_> = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let first = |path: &std::path::PathBuf| {
        let entry: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let actions = entry["actions"].as_array().unwrap();
        actions
            .iter()
            .find_map(|action| action["cover"]["window"]["since"].as_str().map(|since| since[..10].to_owned()))
    };
    let committed: Vec<String> = entries.iter().filter_map(first).collect();
    assert_eq!(committed, since);
    bench.assert_exact("2023-01-01", until).assert_one_file_each(&["messages", "reactions"]);
}

#[cfg(debug_assertions)]
#[test]
fn a_backfill_that_dies_goes_on_where_it_was_and_pays_nothing_twice() {
    // One request at a time: what is in flight at a death may be paid for twice.
    let spans = ["--span", "10d", "--max-concurrent-exports", "1"];
    for point in ["put-entry:before#2", "put-entry:after#2", "put-task:after#8"] {
        let mut bench = Bench::with(scattered(40, 60, 40), unlimited(), Place::Folder).unwrap();
        bench.set("CHATLAKE_CRASH_AT", point);
        let ran = backfill(&bench, "2023-02-10", &spans);
        assert_eq!(ran.signal, Some(6), "{point}: {ran:#?}");
        bench.set("CHATLAKE_CRASH_AT", "");
        backfill(&bench, "2023-02-10", &spans).assert_status(0, "committed");
        assert_eq!(bench.exports(), 4 * 3, "{point}");
        assert_no_channel_is_asked_for_more_often_than(4, &bench);
        bench.assert_exact("2023-01-01", "2023-02-10").assert_one_file_each(&["messages"]);
    }
}

#[test]
fn a_backfill_and_a_sync_work_on_one_lake_at_once() {
    let size = Size { channels: 12, days: 6, messages_per_channel_day: 5, ..Size::default() };
    let mut bench = Bench::with(World::seeded(seed(), &size), unlimited(), Place::Folder).unwrap();
    bench.set_time(at("2026-01-12T00:30:00Z"));
    let history =
        bench.start(&["backfill", "--json", "--since", "2026-01-05", "--until", "2026-01-11", "--span", "2d"]);
    let sync = bench.run(&["sync", "--json", "--start", "2026-01-08", "--revisit", "none"]);
    let history = Ran::from(history.wait_with_output().unwrap());
    assert_eq!((history.code, sync.code), (0, 0), "{history:#?} {sync:#?}");
    bench.assert_exact("2026-01-05", "2026-01-12");
    let summary = bench.run(&["sync", "--json", "--start", "2026-01-08", "--revisit", "none"]).summary();
    assert_eq!(summary["frontier"], "2026-01-12T00:00:00Z");
    let status = bench.run(&["status", "--json"]).summary();
    assert_eq!(status["gaps"].as_array().unwrap().len(), 0, "{status}");
}
