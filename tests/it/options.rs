//! What each include option brings into a lake, by whichever command, and that a lake keeps to the ones it was made with.

use std::collections::{BTreeMap, BTreeSet};

use simulator::switches::{Switches, UserForm, UserLines};
use simulator::{Channel, Message, Reaction, User, World};

use crate::bench::{Bench, Place, at, hours};

const DAY: [&str; 2] = ["2026-01-05", "2026-01-06"];
const CHANNELS: [&str; 2] = ["--channel", "team:kept,team:cut,team:gone"];

const OPTIONS: [(&str, &str, &str); 4] = [
    ("--include-truncated-messages", "include.truncated_messages", "include_truncated_messages"),
    ("--include-soft-deleted-channels", "include.soft_deleted_channels", "include_soft_deleted_channels"),
    ("--clear-deleted-message-text", "include.clear_deleted_message_text", "clear_deleted_message_text"),
    ("--export-users", "include.users", "export_users"),
];

/// A channel with a deleted message, one that was truncated, and one that was deleted.
fn world() -> World {
    let mut world = World::empty();
    let morning = at("2026-01-05T09:00:00Z");
    for id in ["ada", "bob"] {
        world.add_user(User::new(id, id.to_uppercase(), morning - hours(48)));
    }
    for id in ["kept", "cut", "gone"] {
        let cid =
            world.add_channel(Channel::new("team", id, morning - hours(24)).with_members(["ada", "bob"])).unwrap();
        for number in [1, 2] {
            let sent_at = morning + hours(number);
            let mut message = Message::new(format!("{id}-{number}"), "ada", format!("text of {id}-{number}"), sent_at);
            message.reactions.push(Reaction::new("bob", "like", sent_at));
            world.add_message(&cid, message).unwrap();
        }
    }
    world.soft_delete("kept-2", morning + hours(5)).unwrap();
    world.truncate("team:cut", morning + hours(1), false).unwrap();
    world.delete_channel("team:gone", morning + hours(10), false).unwrap();
    world
}

/// The messages of a lake with their texts, as another reader finds them.
fn texts(bench: &Bench) -> BTreeMap<String, String> {
    let live = bench.read().live_messages();
    live.into_iter().map(|message| (message.id, message.text.unwrap_or_default())).collect()
}

fn expected(option: Option<&str>) -> BTreeMap<String, String> {
    let mut ids = BTreeSet::from(["kept-1", "kept-2", "cut-2"]);
    match option {
        Some("--include-truncated-messages") => drop(ids.insert("cut-1")),
        Some("--include-soft-deleted-channels") => ids.extend(["gone-1", "gone-2"]),
        _ => {}
    }
    let clears = option == Some("--clear-deleted-message-text");
    let text = |id: &str| if clears && id == "kept-2" { String::new() } else { format!("text of {id}") };
    ids.into_iter().map(|id| (id.to_owned(), text(id))).collect()
}

fn check(command: &str, version: &str) {
    let switches = Switches { users: UserForm::Id, user_lines: UserLines::None, ..Switches::default() };
    let mut bench = Bench::with(world(), switches, Place::Folder).unwrap();
    bench.set("CHATLAKE_EXPORT_VERSION", version);
    for option in [None].into_iter().chain(OPTIONS.map(Some)) {
        let name = option.map_or("none", |(flag, ..)| flag);
        bench.use_lake(&bench.folder.path().join(name));
        bench.set_time(at("2026-01-06T00:30:00Z"));
        let flag = option.map(|(flag, ..)| flag);
        let run = |flag: Option<&str>, more: &[&str]| {
            let arguments = [command, "--json", "--since", DAY[0], "--until", DAY[1]];
            bench.run(&[&arguments[..], &CHANNELS[..], more, flag.as_slice()].concat())
        };
        let what = format!("{command} {version} {name}");
        run(flag, &[]).assert_status(0, "committed");
        assert_eq!(texts(&bench), expected(flag), "{what}");
        if version == "v2" {
            let users = bench.read().rows.get("users").copied().unwrap_or(0);
            assert_eq!(users > 0, flag == Some("--export-users"), "{what}: {users} users");
        }
        // Whoever says something else is refused, before Stream is asked.
        let calls = bench.simulator.calls().len();
        for (other, field, _) in OPTIONS {
            let flag = if flag == Some(other) { None } else { Some(other) };
            run(flag, &[]).assert_refused(2, &[field, "choose another --lake"]);
        }
        assert_eq!(bench.simulator.calls().len(), calls, "{what}");
        run(flag, &[]).assert_status(0, "already_committed");
        // A revisit brings the same.
        bench.set_time(at("2026-01-07T00:30:00Z"));
        let revisit = bench.run(&[&["revisit", "--json"], &CHANNELS[..], flag.as_slice()].concat());
        assert_eq!(revisit.code, 0, "{what}: {revisit:#?}");
        assert_eq!(texts(&bench), expected(flag), "{what}");
        if let Some((flag, field, body)) = option {
            bench.run(&[&["revisit"], &CHANNELS[..]].concat()).assert_refused(2, &[field]);
            let asked = bench.simulator.calls_of("ExportChannels");
            assert!(asked.iter().rev().take(1).all(|call| call.body[body] == true), "{what}");
            let range = ["--since", DAY[0], "--until", DAY[1]];
            let one = bench.run(&[&["check", "--export", "team:cut", flag], &range[..]].concat());
            assert_eq!(one.code, 0, "{what}: {one:#?}");
            assert_eq!(bench.simulator.calls_of("ExportChannels").last().unwrap().body[body], true, "{what}");
        }
    }
}

#[test]
fn options_decide_what_a_sync_brings_as_lines() {
    check("sync", "v2");
}

#[test]
fn options_decide_what_a_sync_brings_as_an_array() {
    check("sync", "v1");
}

#[test]
fn options_decide_what_a_backfill_brings_as_lines() {
    check("backfill", "v2");
}

#[test]
fn options_decide_what_a_backfill_brings_as_an_array() {
    check("backfill", "v1");
}

#[test]
fn a_check_compares_the_command_line_with_the_lake_and_says_in_one_line_what_differs() {
    let bench = Bench::with(world(), Switches::default(), Place::Folder).unwrap();
    let options = ["--channel-type", "team", "--include-truncated-messages"];
    bench.sync(DAY[0], DAY[1], &options).assert_status(0, "committed");
    let identity = |more: &[&str], code: i32| {
        let ran = bench.run(&[&["check"], more].concat());
        assert_eq!(ran.code, code, "{ran:#?}");
        ran.stdout.lines().find(|line| line.contains("identity")).unwrap().to_owned()
    };
    assert!(identity(&[], 0).contains("a lake of this app, format 1"));
    assert!(identity(&options, 0).contains("of this app and of this selection"));
    let line = identity(&["--channel-type", "messaging"], 2);
    for part in [
        "`include.truncated_messages` is true in the lake and false in this run",
        "`selection.channel_types` is [\"team\"] in the lake and [\"messaging\"] in this run",
    ] {
        assert!(line.contains(part), "{line}");
    }
}
