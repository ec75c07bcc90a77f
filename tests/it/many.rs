//! Many channels: discovery beyond Stream's offset limit, requests of 25, files that do not follow tasks.

use std::collections::BTreeSet;

use simulator::switches::Switches;
use simulator::{Message, Size, World};

use crate::bench::{Bench, Place, at, hours};

/// Channels that were all created in the same microsecond, each with a message.
fn tied(count: usize) -> World {
    let mut world = World::empty();
    let created_at = at("2025-12-01T08:00:00.123456Z");
    world.add_channels_created_at("team", count / 2, created_at).unwrap();
    world.add_channels_created_at("support", count - count / 2, created_at).unwrap();
    let cids: Vec<String> = world.channels().map(|channel| channel.cid()).collect();
    for (number, cid) in cids.iter().enumerate() {
        let sent_at = at("2026-01-05T10:00:00Z") + jiff::SignedDuration::from_millis(i64::try_from(number).unwrap());
        let mut message =
            Message::new(format!("message-{number:05}"), format!("user-{}", number % 7), "hello", sent_at);
        if number == 0 {
            message.reactions.push(simulator::Reaction::new("user-1", "like", sent_at + hours(1)));
        }
        world.add_message(cid, message).unwrap();
    }
    world
}

#[test]
fn fifteen_hundred_channels_of_one_instant_are_all_found_and_asked_for_once() {
    let bench = Bench::with(tied(1_500), Switches::default(), Place::Folder).unwrap();
    let summary = bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    assert_eq!(summary["cells"][0]["rows"], 1_500);
    assert_eq!(summary["export_tasks"]["requested"], 60);
    bench.assert_exact("2026-01-05", "2026-01-06").assert_one_file_each(&["messages"]);
    let calls = bench.simulator.calls_of("ExportChannels");
    assert_eq!(calls.len(), 60, "1500 channels by 25");
    let asked: Vec<&String> = calls.iter().flat_map(|call| &call.cids).collect();
    assert_eq!(asked.len(), 1_500);
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), 1_500);
    let listed = bench.simulator.calls_of("QueryChannels").len();
    println!("{listed} discovery calls for 1500 channels");
    assert!(listed <= 250, "{listed} discovery calls");
}

#[test]
fn two_hundred_channels_are_one_file_for_each_dataset_and_partition() {
    let size = Size { channels: 200, users: 40, days: 1, messages_per_channel_day: 4, ..Size::default() };
    let bench = Bench::new(&size);
    let summary = bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"]["requested"], 8);
    let contents = bench.assert_exact("2026-01-05", "2026-01-06");
    contents.assert_one_file_each(&["messages", "reactions", "channels", "members", "users"]);
    assert_eq!(contents.files["messages"].len(), 1);
    let users: BTreeSet<_> = bench.rows("users").iter().map(|row| row["id"].to_string()).collect();
    assert_eq!(users.len() as u64, contents.rows["users"], "one row per user and export");
}

#[test]
fn files_roll_at_the_target_size() {
    let size = Size { channels: 40, days: 1, messages_per_channel_day: 400, ..Size::default() };
    let bench = Bench::new(&size);
    let more = ["--target-file-size", "1MiB", "--compression", "none"];
    bench.sync("2026-01-05", "2026-01-06", &more).assert_status(0, "committed");
    let contents = bench.assert_exact("2026-01-05", "2026-01-06");
    assert!(contents.files["messages"]["event_date=2026-01-05"] >= 3, "{:?}", contents.files);
    let files = glob::glob(&format!("{}/messages/*/*.parquet", bench.lake)).unwrap();
    let mut sizes: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
    sizes.sort_unstable();
    // All but the last are near the target.
    assert!(sizes[1..].iter().all(|size| ((9 << 20) / 10..=(11 << 20) / 10).contains(size)), "{sizes:?}");
}

#[test]
fn partitions_by_channel_type() {
    let size = Size { channels: 16, days: 1, ..Size::default() };
    let bench = Bench::new(&size);
    bench
        .sync("2026-01-05", "2026-01-06", &["--partition-by", "event_date,channel_type"])
        .assert_status(0, "committed");
    let contents = bench.assert_exact("2026-01-05", "2026-01-06");
    let partitions: Vec<_> = contents.files["messages"].keys().cloned().collect();
    assert_eq!(
        partitions,
        [
            "event_date=2026-01-05/channel_type=livestream",
            "event_date=2026-01-05/channel_type=messaging",
            "event_date=2026-01-05/channel_type=support",
            "event_date=2026-01-05/channel_type=team"
        ]
    );
}

#[test]
fn little_memory_gives_the_same_lake() {
    let size = Size { channels: 60, days: 2, messages_per_channel_day: 200, ..Size::default() };
    let bench = Bench::new(&size);
    let ran = bench.sync("2026-01-05", "2026-01-07", &["--memory-limit", "64MiB", "-v"]);
    ran.assert_status(0, "committed");
    let spills = ran.stderr.matches("spilling sorted rows").count();
    println!("spilled {spills} times");
    assert!(spills > 1, "{spills}");
    bench.assert_exact("2026-01-05", "2026-01-07").assert_one_file_each(&["messages", "reactions"]);
}
