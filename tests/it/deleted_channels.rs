//! Channels that Stream does not list any more, and that the lake remembers.

use std::collections::BTreeSet;

use simulator::switches::{ChannelLines, Switches};
use simulator::{Channel, Effect, Fault, Message, Reaction, TruthOptions, World};

use crate::bench::{Bench, Place, Ran, at, hours};

const DELETED: &str = "--include-soft-deleted-channels";
const GONE: &str = "team:gone";

/// Three channels that spoke on the fifth, of which one goes on speaking and one falls silent.
fn world() -> World {
    let mut world = World::empty();
    for id in ["loud", "quiet", "gone"] {
        let created_at = at("2026-01-04T09:00:00Z");
        world.add_channel(Channel::new("team", id, created_at).with_members(["ada"])).unwrap();
        say(&mut world, &format!("team:{id}"), &format!("{id}-5"), "2026-01-05T10:00:00Z");
    }
    for day in ["2026-01-06", "2026-01-07", "2026-01-08"] {
        say(&mut world, "team:loud", &format!("loud-{}", &day[9..]), &format!("{day}T10:00:00Z"));
    }
    world
}

fn say(world: &mut World, cid: &str, id: &str, sent_at: &str) {
    let mut message = Message::new(id, "ada", id, at(sent_at));
    message.reactions.push(Reaction::new("ada", "like", at(sent_at) + hours(1)));
    world.add_message(cid, message).unwrap();
}

fn bench_with(switches: Switches) -> Bench {
    Bench::with(world(), switches, Place::Folder).unwrap()
}

/// An automatic run half an hour into this day.
fn sync(bench: &mut Bench, day: &str, more: &[&str]) -> Ran {
    bench.set_time(at(day) + hours(1));
    bench.simulator.clear_calls();
    let arguments = ["sync", "--json", "--start", "2026-01-05", "--revisit", "none"];
    bench.run(&[&arguments[..], more].concat())
}

/// The channels that the last run has asked exports of.
fn asked(bench: &Bench) -> BTreeSet<String> {
    bench.simulator.calls_of("ExportChannels").into_iter().flat_map(|call| call.cids).collect()
}

/// Those that it has looked up by name.
fn looked_up(bench: &Bench) -> BTreeSet<String> {
    let calls = bench.simulator.calls_of("QueryChannels");
    let cids = calls.iter().filter_map(|call| call.body["filter_conditions"]["cid"]["$in"].as_array());
    cids.flatten().filter_map(|cid| cid.as_str().map(str::to_owned)).collect()
}

fn set(cids: &[&str]) -> BTreeSet<String> {
    cids.iter().map(ToString::to_string).collect()
}

/// What a lake with deleted channels holds.
fn assert_exact(bench: &Bench, until: &str) {
    let options = TruthOptions { include_soft_deleted_channels: true, ..TruthOptions::default() };
    bench.assert_holds(&bench.simulator.truth_with(options), "2026-01-05", until);
}

/// When the lake says that the channel was deleted, by its rows in order of export.
fn deletions(bench: &Bench) -> Vec<bool> {
    let mut rows = bench.rows("channels");
    rows.retain(|row| row["cid"] == GONE);
    rows.sort_by_key(|row| row["_exported_at"].as_i64());
    rows.iter().map(|row| !row["deleted_at"].is_null()).collect()
}

#[test]
fn a_channel_that_was_deleted_after_its_last_export_is_asked_for_once_more() {
    for channel_lines in [ChannelLines::PerChannel, ChannelLines::WithMessages] {
        let mut bench = bench_with(Switches { channel_lines, ..Switches::default() });
        sync(&mut bench, "2026-01-06", &[DELETED]).assert_status(0, "committed");
        assert_eq!((asked(&bench), looked_up(&bench)), (set(&["team:gone", "team:loud", "team:quiet"]), set(&[])));
        bench.simulator.world(|world| {
            say(world, GONE, "last-words", "2026-01-06T10:00:00Z");
            world.delete_channel(GONE, at("2026-01-06T12:00:00Z"), false).unwrap();
        });
        let plan = bench.run(&["sync", "--plan", "--since", "2026-01-06", "--until", "2026-01-07", DELETED]);
        let line = "2 channels looked up by name by 1 query, as the run will do again; 1 that Stream does not list are asked for";
        assert!(plan.stdout.contains(line), "{plan:#?}");
        let summary = sync(&mut bench, "2026-01-07", &[DELETED]).assert_status(0, "committed");
        assert_eq!(summary["missing_channels"], serde_json::json!([]), "{summary}");
        assert_eq!((asked(&bench), looked_up(&bench)), (set(&[GONE, "team:loud"]), set(&[GONE, "team:quiet"])));
        assert_exact(&bench, "2026-01-07");
        assert_eq!(deletions(&bench), [false, true]);
        // Nothing can have come since.
        sync(&mut bench, "2026-01-08", &[DELETED]).assert_status(0, "committed");
        assert_eq!(asked(&bench), set(&["team:loud"]));
        assert!(!looked_up(&bench).contains(GONE));
        assert_exact(&bench, "2026-01-08");
        // What is exported again was exported with all that it had.
        let replace = ["sync", "--json", "--replace", "--since", "2026-01-06", "--until", "2026-01-07", DELETED];
        bench.simulator.clear_calls();
        bench.run(&replace).assert_status(0, "committed");
        assert_eq!((asked(&bench), looked_up(&bench)), (set(&[GONE, "team:loud"]), set(&[])));
        assert_exact(&bench, "2026-01-08");
    }
}

#[test]
fn without_channel_rows_messages_tell_which_channels_there_were() {
    let mut bench = bench_with(Switches { channel_lines: ChannelLines::None, ..Switches::default() });
    sync(&mut bench, "2026-01-06", &[DELETED]).assert_status(0, "committed");
    bench.simulator.world(|world| {
        say(world, GONE, "last-words", "2026-01-06T10:00:00Z");
        world.delete_channel(GONE, at("2026-01-06T12:00:00Z"), false).unwrap();
    });
    sync(&mut bench, "2026-01-07", &[DELETED]).assert_status(0, "committed");
    assert_eq!((asked(&bench), looked_up(&bench)), (set(&[GONE, "team:loud"]), set(&[GONE, "team:quiet"])));
    assert_exact(&bench, "2026-01-07");
}

#[cfg(debug_assertions)]
#[test]
fn a_run_that_dies_with_a_deleted_channel_in_hand_is_gone_on_with() {
    for point in ["put-task:after#1", "put-entry:before#1", "put-entry:after#1"] {
        let mut bench = bench_with(Switches::default());
        sync(&mut bench, "2026-01-06", &[DELETED]).assert_status(0, "committed");
        bench.simulator.world(|world| {
            say(world, GONE, "last-words", "2026-01-06T10:00:00Z");
            world.delete_channel(GONE, at("2026-01-06T12:00:00Z"), false).unwrap();
        });
        let one_by_one = [DELETED, "--channels-per-request", "1", "--max-concurrent-exports", "1"];
        bench.set("CHATLAKE_CRASH_AT", point);
        let ran = sync(&mut bench, "2026-01-07", &one_by_one);
        assert_eq!(ran.signal, Some(6), "{point}: {ran:#?}");
        let mut exports = bench.exports();
        bench.set("CHATLAKE_CRASH_AT", "");
        let ran = sync(&mut bench, "2026-01-07", &one_by_one);
        assert_eq!(ran.code, 0, "{point}: {ran:#?}");
        exports += bench.exports();
        assert_eq!(exports, 2, "{point}: one for each of two channels");
        assert_exact(&bench, "2026-01-07");
        assert_eq!(deletions(&bench), [false, true], "{point}");
    }
}

#[test]
fn a_channel_that_was_deleted_for_good_is_missing_once() {
    let mut bench = bench_with(Switches::default());
    sync(&mut bench, "2026-01-06", &[DELETED]).assert_status(0, "committed");
    bench.simulator.world(|world| world.delete_channel(GONE, at("2026-01-06T12:00:00Z"), true).unwrap());
    let summary = sync(&mut bench, "2026-01-07", &[DELETED]).assert_status(0, "committed");
    assert_eq!(summary["missing_channels"], serde_json::json!([GONE]), "{summary}");
    assert!(asked(&bench).contains(GONE));
    let summary = sync(&mut bench, "2026-01-08", &[DELETED]).assert_status(0, "committed");
    assert_eq!(summary["missing_channels"], serde_json::json!([]), "{summary}");
    assert!(!asked(&bench).contains(GONE) && !looked_up(&bench).contains(GONE));
    // What it said is in the lake as it was.
    assert!(bench.read().live_messages().iter().any(|message| message.id == "gone-5"));
}

#[test]
fn a_channel_that_was_deleted_between_two_spans_of_history_is_in_both() {
    let mut bench = bench_with(Switches::default());
    bench.simulator.world(|world| say(world, GONE, "gone-7", "2026-01-07T10:00:00Z"));
    bench.set_time(at("2026-01-09T00:30:00Z"));
    let backfill = |since: &str| {
        bench.simulator.clear_calls();
        bench.run(&["backfill", "--json", "--since", since, "--until", "2026-01-08", "--span", "1d", DELETED])
    };
    backfill("2026-01-07").assert_status(0, "committed");
    bench.simulator.world(|world| world.delete_channel(GONE, at("2026-01-09T00:20:00Z"), false).unwrap());
    backfill("2026-01-05").assert_status(0, "committed");
    let exports = bench.simulator.calls_of("ExportChannels");
    assert_eq!(exports.iter().filter(|call| call.cids.iter().any(|cid| cid == GONE)).count(), 2, "both spans");
    assert_exact(&bench, "2026-01-08");
}

#[test]
fn a_channel_that_was_created_again_is_exported_as_what_it_is_now() {
    let mut bench = bench_with(Switches::default());
    sync(&mut bench, "2026-01-06", &[DELETED]).assert_status(0, "committed");
    bench.simulator.world(|world| {
        world.delete_channel(GONE, at("2026-01-06T12:00:00Z"), false).unwrap();
        world.add_channel(Channel::new("team", "gone", at("2026-01-06T13:00:00Z"))).unwrap();
        say(world, GONE, "new-6", "2026-01-06T15:00:00Z");
    });
    sync(&mut bench, "2026-01-07", &[DELETED]).assert_status(0, "committed");
    assert_eq!((asked(&bench), looked_up(&bench)), (set(&[GONE, "team:loud"]), set(&["team:quiet"])));
    let ids: BTreeSet<String> = bench.read().live_messages().into_iter().map(|message| message.id).collect();
    assert!(ids.contains("new-6") && ids.contains("gone-5"), "{ids:?}");
    assert_eq!(deletions(&bench), [false, false]);
    // Silent again, and deleted again: it is remembered by its second life.
    bench.simulator.world(|world| world.delete_channel(GONE, at("2026-01-07T01:00:00Z"), false).unwrap());
    sync(&mut bench, "2026-01-08", &[DELETED]).assert_status(0, "committed");
    assert_eq!(asked(&bench), set(&[GONE, "team:loud"]));
    assert_eq!(deletions(&bench), [false, false, true]);
}

/// Another channel of the day is filled in later, and the record of the day is made anew.
#[test]
fn a_channel_that_was_missing_before_its_second_life_is_not_taken_for_gone_after_a_fill() {
    let mut bench = bench_with(Switches::default());
    sync(&mut bench, "2026-01-06", &[DELETED]).assert_status(0, "committed");
    bench.simulator.world(|world| world.delete_channel(GONE, at("2026-01-06T01:30:00Z"), true).unwrap());
    let fails = Effect::FailTask { description: "export failed".into() };
    bench.simulator.add_fault(Fault::on("ExportChannels", fails).for_channel("team:quiet").times(0));
    bench.set_time(at("2026-01-06T02:00:00Z"));
    let replace = ["sync", "--json", "--replace", "--since", "2026-01-05", "--until", "2026-01-06", DELETED];
    let summary = bench.run(&replace).assert_status(69, "partial");
    assert_eq!(summary["missing_channels"], serde_json::json!([GONE]), "{summary}");
    bench.simulator.clear_faults();
    bench.simulator.world(|world| {
        world.add_channel(Channel::new("team", "gone", at("2026-01-06T13:00:00Z"))).unwrap();
        say(world, GONE, "new-6", "2026-01-06T15:00:00Z");
    });
    sync(&mut bench, "2026-01-07", &[DELETED]).assert_status(0, "committed");
    assert!(asked(&bench).is_superset(&set(&[GONE, "team:quiet"])), "{:?}", asked(&bench));
    bench.simulator.world(|world| {
        say(world, GONE, "last-7", "2026-01-07T10:00:00Z");
        world.delete_channel(GONE, at("2026-01-07T12:00:00Z"), false).unwrap();
    });
    sync(&mut bench, "2026-01-08", &[DELETED]).assert_status(0, "committed");
    assert!(asked(&bench).contains(GONE));
    assert!(bench.read().live_messages().iter().any(|message| message.id == "last-7"));
}

#[test]
fn without_the_option_nothing_of_the_sort_is_asked() {
    let mut bench = bench_with(Switches::default());
    sync(&mut bench, "2026-01-06", &[]).assert_status(0, "committed");
    bench.simulator.world(|world| {
        say(world, GONE, "last-words", "2026-01-06T10:00:00Z");
        world.delete_channel(GONE, at("2026-01-06T12:00:00Z"), false).unwrap();
    });
    sync(&mut bench, "2026-01-07", &[]).assert_status(0, "committed");
    assert_eq!((asked(&bench), looked_up(&bench)), (set(&["team:loud"]), set(&[])));
    assert!(bench.read().messages.iter().all(|message| message.id != "last-words"));
}
