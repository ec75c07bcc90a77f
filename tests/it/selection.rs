//! Some channels of an app: by filter, by type, by a list.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;

use simulator::switches::Switches;
use simulator::{Channel, Effect, Fault, Message, Reaction, World};

use crate::bench::{Bench, Place, Ran, at, hours, is_long};

const DAY: [&str; 2] = ["2026-01-05", "2026-01-06"];

/// Channels of two types and two teams, created on two days.
fn world() -> World {
    let mut world = World::empty();
    for (number, (channel_type, team)) in
        [("team", "blue"), ("team", "red"), ("messaging", "blue"), ("livestream", "")].into_iter().enumerate()
    {
        for half in [0, 1] {
            let created_at = at("2026-01-01T12:00:00Z") + hours(48 * half);
            let mut channel = Channel::new(channel_type, format!("c{number}{half}"), created_at).with_members(["ada"]);
            team.clone_into(&mut channel.team);
            let cid = world.add_channel(channel).unwrap();
            speak(&mut world, &cid);
        }
    }
    world
}

fn speak(world: &mut World, cid: &str) {
    let sent_at = at("2026-01-05T10:00:00Z");
    let mut message = Message::new(format!("m-{}", cid.replace(':', "-")), "ada", "hello", sent_at);
    message.reactions.push(Reaction::new("ada", "like", sent_at));
    world.add_message(cid, message).unwrap();
}

/// The channels of a lake, as another reader finds them.
fn channels(bench: &Bench) -> BTreeSet<String> {
    bench.read().messages.into_iter().map(|message| message.cid).collect()
}

fn set(cids: &[&str]) -> BTreeSet<String> {
    cids.iter().map(ToString::to_string).collect()
}

#[test]
fn a_filter_and_types_decide_which_channels_come() {
    let mut bench = Bench::with(world(), Switches::default(), Place::Folder).unwrap();
    let file = bench.folder.path().join("filter.json");
    std::fs::write(&file, "{\n  \"team\": \"blue\"\n}\n").unwrap();
    let at_file = format!("@{}", file.display());
    let old = r#"{"created_at":{"$lt":"2026-01-02T00:00:00Z"},"last_message_at":{"$exists":true}}"#;
    for (number, (arguments, wanted)) in [
        (vec!["--filter", r#"{"team":"blue"}"#], vec!["team:c00", "team:c01", "messaging:c20", "messaging:c21"]),
        (vec!["--filter", &at_file, "--channel-type", "team"], vec!["team:c00", "team:c01"]),
        (vec!["--channel-type", "messaging,livestream", "--filter", old], vec!["messaging:c20", "livestream:c30"]),
        (
            vec!["--filter", r#"{"$or":[{"team":"red"},{"cid":{"$in":["livestream:c30"]}}]}"#],
            vec!["team:c10", "team:c11", "livestream:c30"],
        ),
        (vec!["--channel", "team:c00", "--channel", "team:c00,livestream:c31"], vec!["team:c00", "livestream:c31"]),
    ]
    .into_iter()
    .enumerate()
    {
        bench.use_lake(&bench.folder.path().join(format!("lake-{number}")));
        bench.sync(DAY[0], DAY[1], &arguments).assert_status(0, "committed");
        assert_eq!(channels(&bench), set(&wanted), "{arguments:?}");
        bench.sync(DAY[0], DAY[1], &arguments).assert_status(0, "already_committed");
        bench.sync(DAY[0], DAY[1], &["--channel-type", "other"]).assert_refused(2, &["selection."]);
    }
}

#[test]
fn a_filter_that_stream_would_refuse_is_refused_before_anything_is_asked() {
    let bench = Bench::with(world(), Switches::default(), Place::Folder).unwrap();
    for (filter, part) in [
        (r#"{"team":{"$like":"b"}}"#, "`team.$like` is no operator of `team`"),
        (r#"{"$or":{"team":"blue"}}"#, "`$or` takes a list"),
        ("@nowhere.json", "cannot read the filter nowhere.json"),
        ("blue", "no JSON object"),
    ] {
        bench.sync(DAY[0], DAY[1], &["--filter", filter]).assert_refused(2, &[part]);
    }
    assert_eq!(bench.simulator.calls(), []);
    // What only Stream can know comes back in its words.
    bench.simulator.add_fault(Fault {
        endpoint: Some("QueryChannels".to_owned()),
        contains: Some("priority".to_owned()),
        cid: None,
        skip: 0,
        times: 0,
        effect: Effect::Status { status: 400, code: Some(4), body: None, headers: Default::default() },
    });
    let ran = bench.sync(DAY[0], DAY[1], &["--filter", r#"{"priority":1}"#]);
    ran.assert_refused(2, &["code 4", "change --filter or --channel-type", "docs/selection.md"]);
}

#[test]
fn an_expensive_filter_is_told_of_once() {
    let mut bench = Bench::with(world(), Switches::default(), Place::Folder).unwrap();
    let warned = |ran: &Ran| ran.stderr.matches("API budget").count();
    let cheap = bench.sync(DAY[0], DAY[1], &["--filter", r#"{"team":"blue"}"#]);
    assert_eq!(warned(&cheap), 0, "{cheap:#?}");
    bench.use_lake(&bench.folder.path().join("other"));
    let dear = bench.sync(DAY[0], DAY[1], &["--filter", r#"{"frozen":false,"member_count":{"$gt":0}}"#]);
    dear.assert_status(0, "committed");
    assert_eq!(warned(&dear), 1, "{dear:#?}");
    assert!(dear.stderr.contains("`frozen` is not indexed; `member_count` is not indexed"), "{dear:#?}");
    assert_eq!(channels(&bench).len(), 8);
}

/// So many channels, of which every so many-th has spoken.
fn listed(count: usize, step: usize) -> (World, String) {
    let mut world = World::empty();
    let mut list = "\u{feff}# the list\r\n\r\n".to_owned();
    world.add_channels_created_at("team", count, at("2026-01-01T12:00:00Z")).unwrap();
    for number in 0..count {
        let cid = format!("team:bulk-{number:05}");
        if number % step == 0 {
            speak(&mut world, &cid);
        }
        let _ = write!(list, "{cid}\r\n");
    }
    // Not of the list, and once more what is.
    let other = world.add_channel(Channel::new("team", "other", at("2026-01-01"))).unwrap();
    speak(&mut world, &other);
    list.push_str("team:bulk-00007\n");
    (world, list)
}

#[test]
fn a_listed_channel_that_stream_does_not_list_is_asked_for_once_and_only_if_deleted_ones_are_wanted() {
    for wants_deleted in [false, true] {
        let (mut world, mut list) = listed(40, 10);
        list.push_str("team:unknown\n");
        let deleted = "team:bulk-00010";
        world.delete_channel(deleted, at("2026-01-05T12:00:00Z"), false).unwrap();
        let mut bench = Bench::with(world, Switches::default(), Place::Folder).unwrap();
        std::fs::write(bench.folder.path().join("channels.txt"), list).unwrap();
        let mut run = |day: &str, now: &str| {
            bench.set_time(at(now));
            bench.simulator.clear_calls();
            let until = (at(day) + hours(24)).to_string();
            let options = if wants_deleted { &["--include-soft-deleted-channels"][..] } else { &[] };
            let summary = bench.sync(day, &until, &[&["--channels-file", "channels.txt"], options].concat());
            let summary = summary.assert_status(0, "committed");
            let calls = bench.simulator.calls_of("ExportChannels").into_iter();
            let asked: BTreeSet<String> = calls.flat_map(|call| call.cids).collect();
            (asked, summary["missing_channels"].clone(), channels(&bench))
        };
        let spoke = ["team:bulk-00000", "team:bulk-00020", "team:bulk-00030"];
        let (asked, missing, found) = run("2026-01-05", "2026-01-06T00:30:00Z");
        let (mut wanted, mut unlisted) = (set(&spoke), vec![deleted, "team:unknown"]);
        if wants_deleted {
            wanted.insert(deleted.to_owned());
            unlisted.remove(0);
        }
        assert_eq!(found, wanted);
        assert_eq!(missing, serde_json::json!(unlisted));
        if wants_deleted {
            wanted.insert("team:unknown".to_owned());
        }
        assert_eq!(asked, wanted);
        // Nothing can have come since, and who was unknown is not asked for again.
        let (asked, missing, _) = run("2026-01-06", "2026-01-07T00:30:00Z");
        assert_eq!(asked, set(&[]));
        assert_eq!(missing, serde_json::json!(unlisted));
    }
}

#[test]
fn of_a_hundred_thousand_listed_channels_those_that_spoke_are_exported() {
    let count: usize = if is_long() { 500_000 } else { 100_000 };
    let (world, mut list) = listed(count, count / 40);
    // Three that Stream does not know are missing, and no request is spent on them.
    list.push_str("team:x1\nteam:x2\nteam:x3\n");
    let limits = [("QueryChannels".to_owned(), 1_000_000)].into();
    let mut bench = Bench::with(world, Switches { limits, ..Switches::default() }, Place::Folder).unwrap();
    let path = bench.folder.path().join("channels.txt");
    std::fs::write(&path, &list).unwrap();
    let arguments = ["sync", "--json", "--since", DAY[0], "--until", DAY[1], "--channels-file"];
    let named = [&arguments[..], &["channels.txt"]].concat();
    bench.set_time(at("2026-01-06T00:30:00Z"));
    let begun = std::time::Instant::now();
    let (ran, peak_mib) = bench.run_watched(&named);
    let summary = ran.assert_status(0, "committed");
    println!("{peak_mib} MiB, {:?}", begun.elapsed());
    assert!(peak_mib <= 160, "{peak_mib} MiB for {count} channels");
    assert_eq!(channels(&bench).len(), 40);
    assert_eq!(bench.exports(), 2, "40 channels by 25");
    // One to begin with, the list by 30, and once more those that were not found.
    let queries = bench.simulator.calls_of("QueryChannels").len();
    assert_eq!(queries, 1 + (count + 3).div_ceil(30) + 1);
    assert_eq!(summary["missing_channels"], serde_json::json!(["team:x1", "team:x2", "team:x3"]), "{summary}");
    let identity = std::fs::metadata(bench.folder.path().join("lake/_chatlake/lake.json")).unwrap();
    assert!(identity.len() < 2_000, "{identity:?}");
    // The same list in another form is the same, and one with a channel less is another.
    let mut lines: Vec<&str> = list.lines().collect();
    lines.reverse();
    let reversed = bench.folder.path().join("reversed.txt");
    std::fs::write(&reversed, lines.join("\n").replace('\u{feff}', "")).unwrap();
    let mut command = bench.command(&[&arguments[..], &["-"]].concat());
    let again = Ran::from(command.stdin(File::open(&reversed).unwrap()).output().unwrap());
    again.assert_status(0, "already_committed");
    std::fs::write(&reversed, list.replacen("team:bulk-00001", "# left out", 1)).unwrap();
    let other = bench.run(&[&arguments[..], &["reversed.txt"]].concat());
    other.assert_refused(
        2,
        &[&format!("`selection.channels_file.channels` is {} in the lake and {} in this run", count + 3, count + 2)],
    );
    // A week later those that are still missing are not asked for, nor those that never spoke.
    bench.set_time(at("2026-01-14"));
    bench.simulator.clear_calls();
    bench.run(&["revisit", "--json", "--channels-file", "channels.txt"]).assert_status(0, "committed");
    assert_eq!(bench.exports(), 2);
    let verified = bench.run(&["verify", "--deep", "--against-stream", "3"]);
    assert_eq!(verified.code, 0, "{verified:#?}");
    // The list is part of the lake.
    let lists = bench.folder.path().join("lake/_chatlake/lists");
    let is_list = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "txt");
    let mut files = std::fs::read_dir(&lists).unwrap().map(|entry| entry.unwrap().path());
    let aside = files.find(is_list).unwrap();
    println!("{} bytes of list", aside.metadata().unwrap().len());
    std::fs::remove_file(&aside).unwrap();
    bench.run(&["verify"]).assert_refused(65, &[]);
    bench.run(&[&arguments[..], &["channels.txt"]].concat()).assert_status(0, "already_committed");
}

#[cfg(debug_assertions)]
#[test]
fn a_run_that_dies_while_it_writes_its_list_is_made_good_by_the_next() {
    for point in ["put-channels:before#1", "put-channels:after#1", "put-identity:before#1", "put-identity:after#1"] {
        let (world, list) = listed(1_100, 500);
        let mut bench = Bench::with(world, Switches::default(), Place::Folder).unwrap();
        std::fs::write(bench.folder.path().join("channels.txt"), list).unwrap();
        let run = |bench: &Bench| bench.sync(DAY[0], DAY[1], &["--channels-file", "channels.txt"]);
        bench.set("CHATLAKE_CRASH_AT", point);
        let ran = run(&bench);
        assert_eq!(ran.signal, Some(6), "{point}: {ran:#?}");
        bench.set("CHATLAKE_CRASH_AT", "");
        run(&bench).assert_status(0, "committed");
        assert_eq!(channels(&bench).len(), 3, "{point}");
        let verified = bench.run(&["verify", "--deep"]);
        assert_eq!(verified.code, 0, "{point}: {verified:#?}");
        let swept = bench.run(&["gc", "--json"]);
        assert_eq!(swept.code, 0, "{point}: {swept:#?}");
        assert!(!swept.stdout.contains(".txt"), "{point}: {swept:#?}");
    }
}

#[test]
fn a_bad_list_is_refused_with_its_lines() {
    let bench = Bench::with(world(), Switches::default(), Place::Folder).unwrap();
    let path = bench.folder.path().join("channels.txt");
    std::fs::write(&path, "team:c00\ngeneral\n\n:x\nteam:\nteam c01\nx\ny\nz\n").unwrap();
    let ran = bench.sync(DAY[0], DAY[1], &["--channels-file", "channels.txt"]);
    ran.assert_refused(2, &[
        "7 of its lines name no channel: line 2 `general`, line 4 `:x`, line 5 `team:`, line 6 `team c01`, line 7 `x`",
        "type:id, one to a line",
    ]);
    bench
        .sync(DAY[0], DAY[1], &["--channels-file", "nowhere.txt"])
        .assert_refused(2, &["nowhere.txt", "cannot be read"]);
    assert_eq!(bench.simulator.calls(), []);
}
