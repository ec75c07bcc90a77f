//! Stream and the network on a bad day.

use serde_json::json;
use simulator::switches::{Compression, FailureStatus, RangeSupport, Switches};
use simulator::{Clock, Effect, Fault, Size, World};

use crate::bench::{Bench, Place, at, seed, two_days};

const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

fn survives(switches: Switches, faults: Vec<Fault>) {
    let bench = Bench::with(World::seeded(seed(), &two_days()), switches, Place::Folder).unwrap();
    for fault in faults {
        bench.simulator.add_fault(fault);
    }
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    bench.assert_exact(RANGE[0], RANGE[1]).assert_one_file_each(&["messages", "reactions"]);
    assert_eq!(bench.simulator.faults(), [], "every fault has happened");
}

#[test]
fn downloads_that_are_cut_go_on() {
    for compression in [Compression::None, Compression::Gzip, Compression::ContentEncoding] {
        for range in [RangeSupport::Honoured, RangeSupport::Ignored] {
            let cut = Fault::on("Download", Effect::CutBody { after_bytes: 3_000 });
            survives(Switches { compression, range, ..Switches::default() }, vec![cut.clone(), cut]);
        }
    }
}

#[test]
fn rate_limits_and_server_errors_are_waited_out() {
    let answers = [("QueryChannels", 429), ("QueryChannels", 500), ("GetTask", 503), ("Download", 503)];
    survives(Switches::default(), answers.map(|(endpoint, status)| Fault::status(endpoint, status)).to_vec());
    survives(Switches::default(), vec![Fault::status("ExportChannels", 429), Fault::on("GetTask", Effect::Reset)]);
}

#[test]
fn slow_downloads_are_no_failure() {
    survives(Switches::default(), vec![Fault::on("Download", Effect::SlowBody { chunk_bytes: 20_000, delay_ms: 5 })]);
}

#[test]
fn a_file_that_changes_under_a_download_is_not_mixed() {
    let bench = Bench::new(&two_days());
    bench.simulator.add_fault(Fault::on("Download", Effect::CutBody { after_bytes: 3_000 }));
    bench.simulator.add_fault(Fault::on("Download", Effect::NewEtag));
    bench
        .sync(RANGE[0], RANGE[1], &[])
        .assert_refused(75, &["changed while it was read", "run the same command again"]);
    assert_eq!(bench.read().messages.len(), 0);
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
fn one_channel_that_stream_cannot_export_does_not_hold_up_the_others() {
    for failure_status in [FailureStatus::Failed, FailureStatus::Error] {
        let bench = Bench::new(&two_days());
        bench.simulator.change_switches(|switches| switches.failure_status = failure_status);
        let truth = bench.simulator.truth();
        let poisonous = truth.messages[0].cid.clone();
        let effect = Effect::FailTask { description: "export failed: internal".into() };
        bench.simulator.add_fault(Fault::on("ExportChannels", effect).for_channel(&poisonous).times(0));
        let ran = bench.sync(RANGE[0], RANGE[1], &[]);
        let summary = ran.assert_status(69, "partial");
        assert_eq!(summary["failed_channels"], json!([poisonous]));
        ran.assert_refused(69, &[&poisonous, "runs ask for them again, the first in an hour"]);
        let mut rest = truth.clone();
        rest.messages.retain(|message| message.cid != poisonous);
        rest.reactions.retain(|reaction| reaction.cid != poisonous);
        bench.assert_holds(&rest, RANGE[0], RANGE[1]);
        // It is asked for alone, and everything else stays as it is.
        bench.simulator.clear_calls();
        let edited = rest.messages.last().unwrap();
        let now = bench.simulator.now();
        bench.simulator.world(|world| world.edit(&edited.id, "not asked for", now)).unwrap();
        bench.sync(RANGE[0], RANGE[1], &[]).assert_status(69, "partial");
        bench.simulator.clear_faults();
        let summary = bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
        assert_eq!((&summary["failed_channels"], &summary["vanished"]), (&json!([]), &json!(0)));
        assert_eq!(summary["cells"].as_array().unwrap().len(), 2, "each is told once: {summary}");
        let asked: Vec<_> = bench.simulator.calls_of("ExportChannels").into_iter().flat_map(|call| call.cids).collect();
        assert!(asked.iter().all(|cid| *cid == poisonous), "{asked:?}");
        bench.assert_holds(&truth, RANGE[0], RANGE[1]).assert_one_file_each(&["messages", "reactions"]);
        bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "already_committed");
        bench.sync(RANGE[0], RANGE[1], &["--replace"]).assert_status(0, "committed");
        bench.assert_exact(RANGE[0], RANGE[1]);
    }
}

#[test]
#[cfg(debug_assertions)]
fn what_is_left_of_a_failed_export_is_asked_for_before_it_is_given_up() {
    let mut bench = Bench::new(&two_days());
    let truth = bench.simulator.truth();
    let mut cids: Vec<String> = truth.messages.iter().map(|message| message.cid.clone()).collect();
    cids.dedup();
    let selection = ["--channel", &cids[0], "--channel", &cids[1], "--max-concurrent-exports", "1"];
    let effect = Effect::FailTask { description: "export failed: internal".into() };
    bench.simulator.add_fault(Fault::on("ExportChannels", effect));
    // It dies when one of the two channels has been asked for by itself, and the other has not.
    bench.set(chatlake::crash::VARIABLE, "put-task:after#2");
    assert_eq!(bench.sync(RANGE[0], RANGE[1], &selection).code, -1);
    assert_eq!(bench.exports(), 2);
    bench.set(chatlake::crash::VARIABLE, "");
    let summary = bench.sync(RANGE[0], RANGE[1], &selection).assert_status(0, "committed");
    assert_eq!(summary["failed_channels"], json!([]));
    assert_eq!(bench.exports(), 3, "only what was left is asked for");
}

#[test]
fn when_stream_fails_every_export_the_cells_are_all_exceptions_and_filled_later() {
    let bench = Bench::new(&two_days());
    let effect = Effect::FailTask { description: "export failed: internal".into() };
    bench.simulator.add_fault(Fault::on("ExportChannels", effect).times(0));
    let summary = bench.sync(RANGE[0], RANGE[1], &[]).assert_status(69, "partial");
    assert_eq!(summary["failed_channels"].as_array().unwrap().len(), 42, "all but the deleted and the empty one");
    bench.simulator.clear_faults();
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    bench.assert_exact(RANGE[0], RANGE[1]).assert_one_file_each(&["messages", "reactions"]);
}

/// A year's history is as old as it is when it is first asked for; what failed then does not wait another year.
/// An app whose lake lacks a channel that Stream failed when its days were exported again; the channel.
fn lacking_a_channel(bench: &Bench) -> String {
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    let poisonous = bench.simulator.truth().messages[0].cid.clone();
    let effect = Effect::FailTask { description: "export failed: internal".into() };
    bench.simulator.add_fault(Fault::on("ExportChannels", effect).for_channel(&poisonous).times(0));
    bench.sync(RANGE[0], RANGE[1], &["--replace"]).assert_status(69, "partial");
    bench.simulator.clear_faults();
    poisonous
}

#[test]
fn what_vanished_while_a_channel_failed_is_known_once_it_is_filled_in() {
    let bench = Bench::new(&two_days());
    let poisonous = lacking_a_channel(&bench);
    let truth = bench.simulator.truth();
    let of_day = truth.messages_in(at("2026-01-05"), at("2026-01-06")).filter(|message| message.cid == poisonous);
    // All of a day, so that nothing comes for it. Replies go with their parents.
    bench.simulator.world(|world| of_day.for_each(|message| drop(world.hard_delete(&message.id))));
    let summary = bench.sync(RANGE[0], RANGE[1], &["--on-vanish", "remove"]).assert_status(0, "committed");
    assert!(summary["vanished"].as_u64().unwrap() > 0, "{summary}");
    bench.assert_exact(RANGE[0], RANGE[1]);
    assert_eq!(bench.run(&["verify", "--deep"]).code, 0);
}

#[test]
#[cfg(debug_assertions)]
fn a_fill_that_died_is_gone_on_with_although_further_cells_lack_the_channel_by_now() {
    let mut bench = Bench::new(&Size { days: 3, ..two_days() });
    let poisonous = bench.simulator.truth().messages[0].cid.clone();
    let effect = Effect::FailTask { description: "export failed: internal".into() };
    let fault = Fault::on("ExportChannels", effect).for_channel(&poisonous).times(0);
    bench.simulator.add_fault(fault.clone());
    bench.set_time(at("2026-11-20T12:00:00Z"));
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(69, "partial");
    bench.simulator.clear_faults();
    bench.set_time(at("2026-11-20T12:10:00Z"));
    bench.set(chatlake::crash::VARIABLE, "put-task:after#1");
    assert_eq!(bench.sync(RANGE[0], RANGE[1], &[]).code, -1);
    bench.set(chatlake::crash::VARIABLE, "");
    bench.simulator.add_fault(fault);
    bench.sync(RANGE[1], "2026-01-08", &[]).assert_status(69, "partial");
    bench.simulator.clear_faults();
    bench.set_time(at("2026-11-20T12:20:00Z"));
    let exports = bench.exports();
    let summary = bench.sync(RANGE[0], "2026-01-08", &[]).assert_status(0, "committed");
    assert_eq!((bench.exports() - exports, &summary["export_tasks"]["adopted"]), (1, &json!(1)), "{summary}");
    bench.assert_exact(RANGE[0], "2026-01-08");
}

#[test]
#[cfg(debug_assertions)]
fn what_failed_for_a_run_that_died_long_ago_is_asked_for_anew() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-11-20T12:00:00Z"));
    let poisonous = bench.simulator.truth().messages[0].cid.clone();
    let effect = Effect::FailTask { description: "export failed: internal".into() };
    bench.simulator.add_fault(Fault::on("ExportChannels", effect).for_channel(&poisonous).times(0));
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(69, "partial");
    bench.set_time(at("2026-11-21T12:00:00Z"));
    bench.set(chatlake::crash::VARIABLE, "put-task:after#1");
    assert_eq!(bench.sync(RANGE[0], RANGE[1], &[]).code, -1);
    bench.set(chatlake::crash::VARIABLE, "");
    bench.simulator.clear_faults();
    bench.set_time(at("2026-11-25T12:00:00Z"));
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
#[cfg(debug_assertions)]
fn a_replacement_that_died_after_its_commit_does_not_serve_the_next() {
    let mut bench = Bench::new(&two_days());
    // Whole seconds, as Stream may tell them.
    let stand_still = |bench: &mut Bench, time: &str| {
        bench.set_time(at(time));
        bench.simulator.set_clock(Clock::Fixed { at: at(time) });
    };
    stand_still(&mut bench, "2026-11-20T12:00:00Z");
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    stand_still(&mut bench, "2026-11-20T13:00:00Z");
    bench.set(chatlake::crash::VARIABLE, "put-entry:after#1");
    assert_eq!(bench.sync(RANGE[0], RANGE[1], &["--replace"]).code, -1);
    bench.set(chatlake::crash::VARIABLE, "");
    let id = bench.simulator.truth().messages[0].id.clone();
    bench.simulator.world(|world| world.edit(&id, "changed", at("2026-11-20T13:00:00Z"))).unwrap();
    stand_still(&mut bench, "2026-11-20T14:00:00Z");
    bench.sync(RANGE[0], RANGE[1], &["--replace"]).assert_status(0, "committed");
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
fn a_damaged_day_does_not_hold_up_what_others_lack() {
    let bench = Bench::new(&two_days());
    let poisonous = lacking_a_channel(&bench);
    let damaged = std::path::Path::new(&bench.lake).join("messages/event_date=2026-01-06");
    let file = std::fs::read_dir(damaged).unwrap().next().unwrap().unwrap().path();
    std::fs::write(file, "PAR1").unwrap();
    bench.sync(RANGE[0], RANGE[1], &[]).assert_refused(65, &["event_date=2026-01-06"]);
    let status: serde_json::Value = serde_json::from_str(&bench.run(&["status", "--json"]).stdout).unwrap();
    let exceptions = status["exceptions"].as_array().unwrap();
    assert_eq!((exceptions.len(), &exceptions[0]["since"]), (1, &json!("2026-01-06T00:00:00Z")), "{status}");
    assert_eq!(exceptions[0]["failed"][0]["cid"], json!(poisonous));
}

#[test]
fn what_failed_in_old_cells_is_asked_for_again_ever_more_rarely_and_by_a_backfill_at_once() {
    for command in [&["sync"][..], &["revisit"], &["backfill", "--since", RANGE[0], "--until", RANGE[1]]] {
        let mut bench = Bench::new(&two_days());
        bench.set_time(at("2026-11-28T12:00:00Z"));
        let truth = bench.simulator.truth();
        let poisonous = truth.messages[0].cid.clone();
        let effect = Effect::FailTask { description: "export failed: internal".into() };
        bench.simulator.add_fault(Fault::on("ExportChannels", effect).for_channel(&poisonous).times(0));
        let again = |bench: &Bench| bench.run(&[command, &["--json", "--revisit", "none"]].concat());
        let begins = ["sync", "--json", "--revisit", "none", "--start", RANGE[0]];
        bench.run(&begins).assert_status(69, "partial");
        if command[0] != "backfill" {
            bench.set_time(at("2026-11-28T12:59:00Z"));
            again(&bench).assert_status(0, "nothing_to_do");
            bench.set_time(at("2026-11-28T13:01:00Z"));
            bench.simulator.clear_calls();
            again(&bench).assert_status(69, "partial");
            assert_eq!(bench.simulator.calls_of("ExportChannels").len(), 1, "one for all days");
            bench.set_time(at("2026-11-28T14:00:00Z"));
            again(&bench).assert_status(0, "nothing_to_do");
            bench.set_time(at("2026-11-28T14:03:00Z"));
        }
        bench.simulator.clear_faults();
        bench.simulator.clear_calls();
        again(&bench).assert_status(0, "committed");
        let asked: Vec<_> = bench.simulator.calls_of("ExportChannels").into_iter().flat_map(|call| call.cids).collect();
        assert!(asked.contains(&poisonous), "{command:?}");
        bench.assert_holds(&truth, RANGE[0], RANGE[1]);
    }
}

#[test]
fn an_export_that_never_ends_is_given_up_in_time() {
    let bench = Bench::new(&two_days());
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::StuckTask).times(0));
    bench.sync(RANGE[0], RANGE[1], &["--task-deadline", "3s"]).assert_refused(75, &["--task-deadline"]);
    assert_eq!(bench.read().messages.len(), 0);
    // The next run waits as long again for what the first had begun, and then asks anew.
    bench.simulator.clear_faults();
    let summary = bench.sync(RANGE[0], RANGE[1], &["--task-deadline", "3s"]).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"], json!({"adopted": 0, "failed": 0, "requested": 2}));
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
fn a_file_that_is_forbidden_for_good_is_asked_for_anew_by_the_next_run() {
    let bench = Bench::new(&two_days());
    bench.simulator.add_fault(Fault::status("Download", 403).times(0));
    bench.sync(RANGE[0], RANGE[1], &[]).assert_refused(77, &["is refused (HTTP 403)"]);
    bench.simulator.clear_faults();
    for call in bench.simulator.calls_of("Download") {
        bench.simulator.add_fault(Fault::status("Download", 403).times(0).containing(&call.path));
    }
    let summary = bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    assert!(summary["export_tasks"]["requested"].as_u64().unwrap() >= 1, "{summary}");
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
fn a_truncated_file_is_never_taken_for_a_whole_one() {
    let bench = Bench::new(&two_days());
    let lines = vec![simulator::Insertion { at_line: 0, line: simulator::BadLine::TruncatedTail { bytes: 40 } }];
    let cut = Fault::on("ExportChannels", Effect::BadLines { lines });
    bench.simulator.add_fault(cut.clone());
    let summary = bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"], json!({"adopted": 0, "failed": 1, "requested": 4}), "halves of one of two");
    bench.assert_exact(RANGE[0], RANGE[1]);

    let bench = Bench::new(&two_days());
    let poisonous = bench.simulator.truth().messages[0].cid.clone();
    bench.simulator.add_fault(cut.for_channel(&poisonous).times(0));
    let ran = bench.sync(RANGE[0], RANGE[1], &[]);
    assert_eq!(ran.assert_status(69, "partial")["failed_channels"], json!([poisonous]));
    ran.assert_refused(69, &["ends in the middle of line"]);
    bench.simulator.clear_faults();
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
fn an_export_request_without_an_answer_is_left_to_the_next_run() {
    let bench = Bench::new(&two_days());
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::LoseAnswer));
    let ran = bench.sync(RANGE[0], RANGE[1], &[]);
    ran.assert_refused(75, &["cannot be known", "run the same command again"]);
    assert_eq!(bench.exports(), 2, "the other request is made and written down");
    let summary = bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"], json!({"adopted": 1, "failed": 0, "requested": 1}));
    assert_eq!(bench.exports(), 3);
    bench.assert_exact(RANGE[0], RANGE[1]).assert_one_file_each(&["messages", "reactions"]);

    let bench = Bench::new(&simulator::Size { channels: 200, days: 1, messages_per_channel_day: 1, ..two_days() });
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::LoseAnswer).times(0));
    let ran = bench.sync(RANGE[0], RANGE[1], &["--max-concurrent-exports", "1"]);
    ran.assert_refused(75, &["cannot be known"]);
    assert!(bench.exports() <= 4, "{} requests into the void", bench.exports());
}
