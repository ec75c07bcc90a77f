//! Without a range: from the frontier to now, and the revisits that are due.

use serde_json::json;
use simulator::{Fault, Size};

use crate::bench::{Bench, at, two_days};

#[test]
fn an_empty_lake_asks_for_a_start_and_shows_where_the_app_begins() {
    let bench = Bench::new(&two_days());
    let oldest = bench.simulator.world(|world| world.channels().map(|channel| channel.created_at).min()).unwrap();
    let date = oldest.to_string()[..10].to_owned();
    let ran = bench.run(&["sync", "--json"]);
    ran.assert_refused(2, &["--start", &date]);
    assert_eq!(ran.summary()["status"], "failed");
    bench.run(&["sync", "--plan"]).assert_refused(2, &["--start", &date]);
    assert_eq!(bench.exports(), 0);
    // Nothing is made of it, so a selection that was a mistake binds nobody.
    let none = ["sync", "--channel-type", "taem"];
    bench.run(&none).assert_refused(2, &["--start", "no channel of this selection"]);
    assert!(!std::path::Path::new(&bench.lake).exists());
}

#[test]
fn what_can_only_be_a_mistake_is_refused_before_a_lake_is_made() {
    let bench = Bench::new(&two_days());
    let days = ["sync", "--since", "2026-01-05", "--until", "2026-01-06"];
    let history = ["backfill", "--since", "2026-01-05", "--until", "2126-01-06T10:00:00Z"];
    for (command, parts) in [
        (&[&days[..], &["--channel-type", "taem"]].concat()[..], ["no channel of this selection", "--accept-empty"]),
        (&["sync", "--start", "2026-01-05", "--filter", r#"{"team":"bluee"}"#], ["no channel of this", "--filter"]),
        (&[&days[..], &["--channel="]].concat(), ["--channel is empty", "leave it out"]),
        (&["revisit", "--channel-type", ""], ["--channel-type is empty", "leave it out"]),
        (&[&days[..4], &["2126-01-06T10:00:00Z"]].concat(), ["--until is 2126-01-06T10:00:00Z", "days ahead"]),
        (&history, ["--until is 2126-01-06T10:00:00Z", "days ahead"]),
        (&["sync", "--start", "2126-01-05"], ["--start is 2126-01-05T00:00:00Z", "days ahead"]),
    ] {
        bench.run(command).assert_refused(2, &parts);
        if command[0] != "revisit" {
            bench.run(&[command, &["--plan"]].concat()).assert_refused(2, &parts);
        }
        assert!(!std::path::Path::new(&bench.lake).exists(), "{command:?}");
    }
    assert_eq!(bench.exports(), 0);
    let found = bench.run(&["check", "--json", "--channel-type", "taem"]).stdout;
    assert!(found.contains("the app has no channel of this selection"), "{found}");
    let found = bench.run(&["check", "--json", "--channel", "taem:general"]).stdout;
    assert!(found.contains("not known to Stream: 1 of 1 selected channel"), "{found}");
    // Of what has to settle for longer than a day nothing is ahead.
    let settling = [&days[..], &["--plan", "--settle", "99999d"]].concat();
    assert_eq!(bench.run(&settling).code, 0);
    // Its channels are to come.
    bench
        .run(&[&days[..], &["--json", "--channel-type", "taem", "--accept-empty"]].concat())
        .assert_status(0, "committed");
}

#[test]
fn a_lake_in_which_nothing_was_committed_can_be_made_anew() {
    let bench = Bench::new(&two_days());
    bench.simulator.add_fault(Fault::status("ExportChannels", 403).times(0));
    bench.sync("2026-01-05", "2026-01-06", &["--channel-type", "livestream"]).assert_refused(77, &[]);
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_refused(2, &["nothing was ever committed", "lake.json"]);
    std::fs::remove_file(std::path::Path::new(&bench.lake).join("_chatlake/lake.json")).unwrap();
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_refused(77, &[]);
}

#[test]
fn a_log_that_is_lost_is_not_begun_anew_beside_its_files() {
    let bench = Bench::new(&two_days());
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    // The entry is settled, so that its files are where readers look.
    bench.sync("2026-01-06", "2026-01-07", &[]).assert_status(0, "committed");
    std::fs::remove_dir_all(std::path::Path::new(&bench.lake).join("_chatlake/log")).unwrap();
    let exports = bench.exports();
    for arguments in [
        &["sync", "--start", "2026-01-05"][..],
        &["sync", "--since", "2026-01-05", "--until", "2026-01-06"],
        &["users", "--user-id", "amara"],
    ] {
        bench.run(arguments).assert_refused(65, &["the log of", "is empty", "restore"]);
    }
    assert_eq!(bench.exports(), exports);
    assert!(bench.run(&["verify"]).stdout.contains("the log is empty: restore"));
}

#[test]
fn runs_go_on_where_the_last_one_ended() {
    let mut bench = Bench::new(&Size { days: 4, ..two_days() });
    bench.set_time(at("2026-01-06T12:00:00Z"));
    let first = bench.run(&["sync", "--json", "--start", "2026-01-05"]).assert_status(0, "committed");
    assert_eq!(first["frontier"], "2026-01-06T00:00:00Z");
    let again = bench.run(&["sync", "--json"]).assert_status(0, "nothing_to_do");
    assert_eq!(again["frontier"], "2026-01-06T00:00:00Z");
    // Four minutes are fresher than five.
    bench.set_time(at("2026-01-07T00:04:00Z"));
    let early = bench.run(&["sync", "--json", "--revisit", "none"]).assert_status(0, "nothing_to_do");
    assert_eq!(early["frontier"], "2026-01-06T00:00:00Z");
    // Three days without a run are one span: each channel is asked for once.
    bench.set_time(at("2026-01-09T00:06:00Z"));
    bench.simulator.clear_calls();
    let caught_up = bench.run(&["sync", "--json", "--revisit", "none"]).assert_status(0, "committed");
    assert_eq!(caught_up["frontier"], "2026-01-09T00:00:00Z");
    assert_eq!(caught_up["cells"].as_array().unwrap().len(), 3);
    assert_eq!(bench.exports(), 2, "44 channels are two requests");
    bench.assert_exact("2026-01-05", "2026-01-09").assert_one_file_each(&["messages", "reactions"]);
    // The start is fixed: naming an earlier one changes nothing.
    let ran = bench.run(&["sync", "--json", "--start", "2026-01-01", "--revisit", "none"]);
    ran.assert_status(0, "nothing_to_do");
    assert!(ran.stderr.contains("chatlake backfill"), "{}", ran.stderr);
}

#[test]
fn due_revisits_are_part_of_a_run() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-06T00:10:00Z"));
    bench.run(&["sync", "--json", "--start", "2026-01-05"]).assert_status(0, "committed");
    let message = bench.simulator.truth().messages_in(at("2026-01-05"), at("2026-01-06")).next().unwrap().clone();
    bench.simulator.world(|world| world.edit(&message.id, "changed", at("2026-01-06T09:00:00Z"))).unwrap();
    bench.set_time(at("2026-01-07T00:10:00Z"));
    let summary = bench.run(&["sync", "--json"]).assert_status(0, "committed");
    let cells: Vec<_> = summary["cells"].as_array().unwrap().iter().map(|cell| cell["since"].clone()).collect();
    assert_eq!(cells.len(), 2, "{summary}");
    bench.assert_exact("2026-01-05", "2026-01-07");
}

#[test]
fn a_range_that_is_too_fresh_is_waited_for() {
    let mut bench = Bench::new(&Size { days: 1, ..two_days() });
    bench.set_time(at("2026-01-06T00:00:01Z"));
    // A message that arrives while the run waits belongs to the range.
    let child =
        bench.start(&["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-06", "--settle", "6s", "-v"]);
    while bench.simulator.calls().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let cid = bench.simulator.truth().messages[0].cid.clone();
    let late = at("2026-01-05T23:59:59.999Z");
    bench.simulator.world(|world| world.send(&cid, "amara", "just in time", late)).unwrap();
    let ran = crate::bench::Ran::from(child.wait_with_output().unwrap());
    ran.assert_status(0, "committed");
    assert!(ran.stderr.contains("waiting until the range has settled"), "{}", ran.stderr);
    for call in bench.simulator.calls_of("ExportChannels") {
        assert!(call.at >= at("2026-01-06T00:00:06Z"), "{call:?}");
    }
    bench.assert_exact("2026-01-05", "2026-01-06");
    let far = bench.sync("2026-01-05", "2026-02-06", &[]);
    far.assert_refused(2, &["--until is 2026-02-06T00:00:00Z, 30 days ahead", "in the past"]);
}

#[test]
fn a_plan_exports_nothing_and_writes_nothing() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-07T10:00:00Z"));
    let ran = bench.run(&["sync", "--plan", "--json", "--start", "2026-01-05"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(plan["spans"][0]["cells"], 2);
    assert_eq!(plan["spans"][0]["requests"], 2);
    assert!(plan["spans"][0]["channels"].as_u64().unwrap() > 40);
    let ran = bench.run(&["sync", "--plan", "--since", "2026-01-05", "--until", "2026-01-06"]);
    assert!(ran.stdout.contains("nothing was exported"), "{ran:#?}");
    assert_eq!(bench.exports(), 0);
    assert!(!std::path::Path::new(&bench.lake).exists());
    bench.run(&["sync", "--json", "--start", "2026-01-05"]).assert_status(0, "committed");
    let ran = bench.run(&["sync", "--plan", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap(), json!({"spans": []}));
}
