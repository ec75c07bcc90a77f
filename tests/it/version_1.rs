//! Exports as one JSON array of channels (`--export-version v1`).

use simulator::switches::{Compression, Switches};
use simulator::{Channel, Message, User, World};

use crate::bench::{Bench, Place, at, seed, two_days};

const V1: [&str; 2] = ["--export-version", "v1"];

#[test]
fn an_array_of_channels_is_as_exact_as_lines() {
    for compression in [Compression::None, Compression::Gzip, Compression::ContentEncoding] {
        let switches = Switches { compression, chunk_bytes: 1_000, ..Switches::default() };
        let bench = Bench::with(World::seeded(seed(), &two_days()), switches, Place::Folder).unwrap();
        for (since, until) in [("2026-01-05", "2026-01-06"), ("2026-01-06", "2026-01-07")] {
            let summary = bench.sync(since, until, &V1).assert_status(0, "committed");
            for nothing in ["rejected", "out_of_window", "rescued", "duplicate_keys"] {
                assert_eq!(summary[nothing], 0, "{nothing}: {summary}");
            }
            assert_eq!(summary["unclassified"], serde_json::json!({}));
        }
        let contents = bench.assert_exact("2026-01-05", "2026-01-07");
        contents.assert_one_file_each(&["messages", "reactions"]);
        assert!(contents.rows["members"] > 50 && contents.rows["users"] >= 24, "{:?}", contents.rows);
        // The same again as lines is the same.
        let summary = bench.sync("2026-01-05", "2026-01-07", &["--replace"]).assert_status(0, "committed");
        assert!(summary["cells"].as_array().unwrap().iter().all(|cell| cell["status"] == "unchanged"), "{summary}");
    }
}

/// One channel with many messages, which as an array are one element.
pub fn one_channel(messages: usize) -> World {
    let mut world = World::empty();
    world.add_user(User::new("ada", "Ada", at("2025-01-01")));
    let cid = world.add_channel(Channel::new("team", "all", at("2026-01-01")).with_members(["ada"])).unwrap();
    for number in 0..messages {
        let sent_at = at("2026-01-05") + jiff::SignedDuration::from_micros(1 + i64::try_from(number).unwrap() * 1_000);
        let text = format!("message {number}, which is about as long as people write when they have something to say");
        world.add_message(&cid, Message::new(format!("m-{number:07}"), "ada", text, sent_at)).unwrap();
    }
    world
}

#[test]
fn a_channel_of_any_size_takes_no_more_memory_than_its_lines_would() {
    let bench = Bench::with(one_channel(120_000), Switches::default(), Place::Folder).unwrap();
    let peak_mib = |more: &[&str]| {
        let sync = ["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-06", "--memory-limit", "96MiB"];
        let (ran, peak_mib) = bench.run_watched(&[&sync, more].concat());
        ran.assert_status(0, "committed");
        peak_mib
    };
    let lines = peak_mib(&[]);
    let array = peak_mib(&["--export-version", "v1", "--lake", "other"]);
    println!("{lines} MiB as lines, {array} MiB as an array");
    assert!(array <= lines + 24, "{array} MiB as an array, {lines} MiB as lines");
    assert!(lines <= 96 && array <= 96, "{lines} MiB as lines, {array} MiB as an array");
    let again = peak_mib(&["--replace"]);
    assert!(again <= 96, "{again} MiB when the day is replaced");
}
