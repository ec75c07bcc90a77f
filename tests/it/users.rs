//! Exports of users: exact under every reading of what Stream does not document, and never asked for twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use simulator::switches::{
    Address, Authors, Compression, CustomPlace, Envelope, FailureStatus, KindNames, Switches, TimestampForm, TooMuch,
    UserForm,
};
use simulator::{BadLine, Channel, Effect, Fault, Insertion, Message, Size, TruthOptions, User, World};

use crate::bench::{Bench, Place, Ran, at, hours, seed};
use crate::inside::Inside;
use crate::memory::assert_fits;

/// More users than two requests take.
pub fn size() -> Size {
    Size { channels: 14, users: 64, days: 2, messages_per_channel_day: 12, ..Size::default() }
}

fn bench(switches: Switches) -> Bench {
    Bench::with(World::seeded(seed(), &size()), switches, Place::Folder).unwrap()
}

/// Everybody whom the app has.
fn everybody(bench: &Bench) -> Vec<String> {
    bench.simulator.world(|world| world.users().keys().cloned().collect())
}

/// Users who have written something, those first who have a reaction to it that is exported.
fn authors(bench: &Bench) -> Vec<String> {
    let truth = bench.simulator.truth();
    let shown: BTreeSet<&str> = truth
        .reactions
        .iter()
        .filter(|reaction| reaction.embedded)
        .map(|reaction| reaction.message_id.as_str())
        .collect();
    let mut authors: BTreeMap<String, bool> = BTreeMap::new();
    for message in &truth.messages {
        let Some(author) = message.user_id.clone() else { continue };
        *authors.entry(author).or_default() |= shown.contains(message.id.as_str());
    }
    let (reacted_to, others): (Vec<_>, Vec<_>) = authors.into_iter().partition(|(_, is_shown)| *is_shown);
    reacted_to.into_iter().chain(others).map(|(author, _)| author).collect()
}

/// `users --json` over these users.
fn export(bench: &Bench, user_ids: &[String], more: &[&str]) -> Ran {
    bench.run(&arguments(bench, user_ids, more).iter().map(String::as_str).collect::<Vec<_>>())
}

fn arguments(bench: &Bench, user_ids: &[String], more: &[&str]) -> Vec<String> {
    let file = bench.folder.path().join("users.txt");
    fs::write(&file, user_ids.join("\n")).unwrap();
    let fixed = ["users", "--json", "--rate-share", "1", "--users-file", file.to_str().unwrap()];
    fixed.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
}

/// Requests for exports that made a task.
fn tasks(bench: &Bench) -> usize {
    bench.simulator.calls_of("ExportUsers").iter().filter(|call| call.task_id.is_some()).count()
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or("∅").to_owned()
}

/// The lake holds what these users have in the app, once for each of so many exports.
#[track_caller]
fn assert_holds(bench: &Bench, user_ids: &[String], exports: usize) {
    let users: BTreeSet<&str> = user_ids.iter().map(String::as_str).collect();
    let options = TruthOptions { include_truncated_messages: true, include_soft_deleted_channels: true };
    let truth = bench.simulator.truth_with(options);
    let is_theirs = |id: &Option<String>| id.as_deref().is_some_and(|id| users.contains(id));
    let written: Vec<_> = truth.messages.iter().filter(|message| is_theirs(&message.user_id)).collect();
    let mut expected: Vec<_> = written
        .iter()
        .map(|message| {
            let at = message.created_at.as_microsecond();
            let user_id = message.user_id.clone().unwrap();
            (message.id.clone(), message.cid.clone(), user_id, message.text.clone(), at)
        })
        .collect();
    let row = |row: &Value| {
        let at = row["created_at"].as_i64().unwrap();
        (text(row, "id"), text(row, "cid"), text(row, "user_id"), text(row, "text"), at)
    };
    let mut found: Vec<_> = bench.rows("user_exports/messages").iter().map(row).collect();
    expected = std::iter::repeat_n(expected, exports).flatten().collect();
    expected.sort();
    found.sort();
    assert!(!expected.is_empty() && expected == found, "{} messages, {} found", expected.len(), found.len());

    let ids: BTreeSet<&str> = written.iter().map(|message| message.id.as_str()).collect();
    let mut expected: Vec<_> = truth
        .reactions
        .iter()
        .filter(|reaction| {
            let is_shown = reaction.embedded && ids.contains(reaction.message_id.as_str());
            users.contains(reaction.user_id.as_str()) || is_shown
        })
        .map(|reaction| {
            let of = (reaction.message_id.clone(), reaction.user_id.clone(), reaction.reaction_type.clone());
            (of, reaction.score, reaction.created_at.as_microsecond())
        })
        .collect();
    let rows = bench.rows("user_exports/reactions");
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| {
            let of = (text(row, "message_id"), text(row, "user_id"), text(row, "type"));
            (of, row["score"].as_i64().unwrap(), row["created_at"].as_i64().unwrap())
        })
        .collect();
    expected = std::iter::repeat_n(expected, exports).flatten().collect();
    expected.sort();
    found.sort();
    assert!(!expected.is_empty() && expected == found, "{} reactions, {} found", expected.len(), found.len());
    // A reaction that came with its message knows its channel, and one to a message of somebody else does not.
    let shown: BTreeSet<_> = truth
        .reactions
        .iter()
        .filter(|reaction| reaction.embedded)
        .map(|reaction| (&*reaction.message_id, &*reaction.user_id, &*reaction.reaction_type))
        .collect();
    for row in &rows {
        let [message_id, user_id, kind] = ["message_id", "user_id", "type"].map(|name| row[name].as_str().unwrap());
        let is_theirs = ids.contains(message_id);
        assert!(is_theirs || row["cid"].is_null(), "{row}");
        assert!(!is_theirs || !shown.contains(&(message_id, user_id, kind)) || row["cid"].is_string(), "{row}");
    }

    let found: BTreeSet<String> = bench.rows("user_exports/users").iter().map(|row| text(row, "id")).collect();
    assert!(users.iter().all(|id| found.contains(*id)));
}

/// Nothing of the users is among the channels' rows, plain readers see what the log says, and every row is as it should be.
#[track_caller]
fn assert_whole(bench: &Bench) {
    Inside::of(bench).assert_settled(&[]);
    let verified = bench.run(&["verify", "--deep", "--json"]);
    assert_eq!(verified.code, 0, "{verified:#?}");
}

#[test]
fn every_reading_of_what_is_not_documented_is_exact() {
    let plain = || Switches { calls_and_devices: true, ..Switches::default() };
    let readings = [
        plain(),
        Switches { envelope: Envelope::TypeItem, compression: Compression::Gzip, ..plain() },
        Switches {
            envelope: Envelope::SingleKey,
            kind_names: KindNames::Plural,
            custom: CustomPlace::Nested,
            ..plain()
        },
        Switches { envelope: Envelope::Bare, users: UserForm::Id, custom: CustomPlace::Both, ..plain() },
        Switches { envelope: Envelope::Mixed, address: Address::TypeId, users: UserForm::Id, ..plain() },
        Switches { timestamps: TimestampForm::Nanoseconds, compression: Compression::ContentEncoding, ..plain() },
    ];
    for switches in readings {
        let bench = bench(switches.clone());
        let users = everybody(&bench);
        let ran = export(&bench, &users, &[]);
        let summary = ran.assert_status(0, "committed");
        ran.assert_no_secret();
        assert_eq!(tasks(&bench), users.len().div_ceil(25), "{switches:?}");
        let counts = &summary["user_exports"];
        assert_eq!(*counts, json!({"asked": users.len(), "returned": users.len(), "missing": [], "failed": {}}));
        assert_eq!(summary["rejected"], 0, "{summary}");
        assert_holds(&bench, &users, 1);
        let other = bench.rows("user_exports/other");
        assert_eq!(other.len(), 2 * users.len());
        let kinds: BTreeMap<String, BTreeSet<String>> = other.iter().fold(BTreeMap::new(), |mut kinds, row| {
            kinds.entry(text(row, "kind")).or_default().insert(text(row, "user_id"));
            kinds
        });
        assert_eq!(kinds.len(), 2, "{:?}", kinds.keys());
        assert!(kinds.values().all(|found| found.iter().eq(users.iter().collect::<BTreeSet<_>>())), "{switches:?}");
        assert!(other.iter().all(|row| serde_json::from_str::<Value>(row["json"].as_str().unwrap()).is_ok()));
        assert_whole(&bench);
        // What reads the channels does not meet them.
        assert_eq!(bench.read().rows.values().sum::<u64>(), 0);
    }
}

#[test]
fn whoever_is_not_named_as_the_author_is_known_when_users_are_exported_one_by_one() {
    let bench = bench(Switches { authors: Authors::Null, ..Switches::default() });
    let users = authors(&bench)[..6].to_vec();
    let ran = export(&bench, &users, &[]);
    ran.assert_status(0, "committed");
    assert!(ran.stderr.contains("--users-per-request 1"), "{}", ran.stderr);
    assert!(bench.rows("user_exports/messages").iter().all(|row| row["user_id"].is_null()));
    let bench = Bench::with(World::seeded(7, &size()), bench.simulator.switches(), Place::Folder).unwrap();
    let users = authors(&bench)[..6].to_vec();
    export(&bench, &users, &["--users-per-request", "1"]).assert_status(0, "committed");
    assert_eq!(tasks(&bench), 6);
    assert_holds(&bench, &users, 1);
}

/// A bench one of whose users has one entity more than an export takes, and that user.
fn with_a_busy_user(too_much: TooMuch) -> (Bench, String) {
    let bench = bench(Switches { too_much, ..Switches::default() });
    let cid = bench.simulator.truth().messages[0].cid.clone();
    let busy = authors(&bench)[3].clone();
    bench.simulator.world(|world| {
        for number in 0..200 {
            world.send(&cid, &busy, &format!("message {number}"), at("2026-01-06T10:00:00Z")).unwrap();
        }
    });
    bench.simulator.change_switches(|switches| switches.entities_per_user = 150);
    (bench, busy)
}

#[test]
fn one_user_with_too_much_is_found_by_halves_and_the_others_are_exact() {
    for (too_much, count) in [(TooMuch::FailsTask, 25), (TooMuch::FailsTask, 60), (TooMuch::IsRefused, 60)] {
        let (bench, busy) = with_a_busy_user(too_much);
        let mut users: Vec<String> = everybody(&bench).into_iter().filter(|id| *id != busy).take(count - 1).collect();
        users.insert(0, busy.clone());
        users.sort();
        let ran = export(&bench, &users, &[]);
        let summary = ran.assert_status(69, "partial");
        ran.assert_refused(69, &[&busy, "more than 150 messages", "the rest is committed"]);
        let counts = &summary["user_exports"];
        assert_eq!((&counts["asked"], &counts["returned"]), (&json!(count), &json!(count - 1)));
        let reason = counts["failed"][&busy].as_str().unwrap();
        assert!(reason.contains("more than 150 messages"), "{reason}");
        // Whom a refusal names is asked for apart at once; a task that fails names nobody.
        let place = users.iter().position(|id| *id == busy).unwrap();
        let halvings =
            if too_much == TooMuch::IsRefused { 1 } else { halvings(place % 25, (count - place / 25 * 25).min(25)) };
        let groups = count.div_ceil(25);
        assert_eq!(bench.simulator.calls_of("ExportUsers").len(), groups + 2 * halvings, "{count}");
        assert_eq!(bench.simulator.calls_of("ExportUser").len(), 1);
        let others: Vec<String> = users.into_iter().filter(|id| *id != busy).collect();
        assert_holds(&bench, &others, 1);
        assert_whole(&bench);
        let status = bench.run(&["status"]);
        assert!(status.stdout.contains("1 failed"), "{}", status.stdout);
    }
}

/// How often a group of so many is halved, the larger half first, until the one at this place is alone: 4 or 5 times for 25.
fn halvings(mut place: usize, mut count: usize) -> usize {
    let mut halvings = 0;
    while count > 1 {
        let first = count.div_ceil(2);
        (place, count) = if place < first { (place, first) } else { (place - first, count - first) };
        halvings += 1;
    }
    halvings
}

#[test]
fn a_user_whose_tasks_fail_is_exported_without_one() {
    for failure_status in [FailureStatus::Failed, FailureStatus::Error] {
        let bench = bench(Switches { failure_status, calls_and_devices: true, ..Switches::default() });
        let users = authors(&bench)[..4].to_vec();
        let fails = Effect::FailTask { description: "internal".into() };
        bench.simulator.add_fault(Fault::on("ExportUsers", fails).containing(&format!("{:?}", users[1])).times(0));
        let summary = export(&bench, &users, &[]).assert_status(0, "committed");
        assert_eq!(summary["export_tasks"]["failed"], 3);
        assert_eq!(bench.simulator.calls_of("ExportUser").len(), 1);
        assert_holds(&bench, &users, 1);
        let rows = bench.rows("user_exports/messages");
        let of_him = rows.iter().filter(|row| text(row, "_export_task_id") == format!("users/{}/export", users[1]));
        assert!(of_him.count() > 0);
        assert_whole(&bench);
    }
}

#[test]
fn users_whom_stream_does_not_know_are_reported_and_the_others_come() {
    let bench = bench(Switches::default());
    let known = everybody(&bench)[..40].to_vec();
    let mut users = known.clone();
    users.extend(["nobody", "user", "gone-2"].map(str::to_owned));
    let summary = export(&bench, &users, &[]).assert_status(0, "committed");
    assert_eq!(summary["user_exports"]["missing"], json!(["gone-2", "nobody", "user"]));
    assert_eq!(summary["user_exports"]["returned"], 40);
    assert_holds(&bench, &known, 1);
    let only_unknown = export(&bench, &["nobody".to_owned()], &[]);
    let summary = only_unknown.assert_status(0, "committed");
    assert_eq!((&summary["user_exports"]["missing"], &summary["datasets"]), (&json!(["nobody"]), &json!({})));
    assert_whole(&bench);
}

#[test]
fn a_stream_that_exports_nobody_is_not_asked_for_everybody_one_by_one() {
    let bench = bench(Switches::default());
    // An app with room for thousands of requests, so that none waits.
    let headers: BTreeMap<String, String> = [("x-ratelimit-limit".to_owned(), "60000".to_owned())].into();
    for endpoint in ["ExportUsers", "ExportUser"] {
        let refused = Effect::Status { status: 400, code: None, body: None, headers: headers.clone() };
        bench.simulator.add_fault(Fault::on(endpoint, refused).times(0));
    }
    let users = everybody(&bench);
    let ran = export(&bench, &users, &["--max-concurrent-exports", "1"]);
    ran.assert_status(69, "failed");
    ran.assert_refused(69, &["no user can be exported; the last reason:", "scripted fault", "nothing was committed"]);
    assert_eq!(bench.simulator.calls_of("ExportUser").len(), 25);
    assert_eq!(Inside::of(&bench).state().user_exports().count(), 0);
    // A key that may not export is told at once.
    bench.simulator.clear_faults();
    bench.simulator.add_fault(Fault::status("ExportUsers", 403).times(0));
    bench.simulator.clear_calls();
    export(&bench, &users, &["--max-concurrent-exports", "1"]).assert_refused(77, &[]);
    assert_eq!(bench.simulator.calls_of("ExportUsers").len(), 1);
}

#[test]
fn bad_days_of_stream_and_the_network_change_nothing() {
    let bench = bench(Switches::default());
    let users = everybody(&bench);
    let fails = Effect::FailTask { description: "internal".into() };
    for fault in [
        Fault::status("ExportUsers", 429),
        Fault::status("ExportUsers", 500).after(1),
        Fault::on("ExportUsers", fails),
        Fault::status("GetTask", 503),
        Fault::on("GetTask", Effect::Reset).after(2),
        Fault::on("Download", Effect::CutBody { after_bytes: 3_000 }),
        Fault::status("Download", 403),
        Fault::status("Download", 503),
    ] {
        bench.simulator.add_fault(fault);
    }
    let summary = export(&bench, &users, &["--max-concurrent-exports", "1"]).assert_status(0, "committed");
    assert_eq!(bench.simulator.faults(), [], "every fault has happened");
    assert_eq!(summary["export_tasks"], json!({"requested": 5, "adopted": 0, "failed": 1}));
    assert_holds(&bench, &users, 1);
    assert_whole(&bench);
}

#[test]
fn a_request_without_an_answer_is_left_to_the_next_run() {
    let bench = bench(Switches::default());
    let users = everybody(&bench);
    bench.simulator.add_fault(Fault::on("ExportUsers", Effect::LoseAnswer).after(1));
    let one_by_one = ["--max-concurrent-exports", "1"];
    export(&bench, &users, &one_by_one).assert_refused(75, &["run the same command again"]);
    assert_eq!(tasks(&bench), 3);
    let status = bench.run(&["status", "--json"]).summary();
    assert_eq!(status["users_in_flight"][0]["users"], users.len());
    let summary = export(&bench, &users, &one_by_one).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"], json!({"requested": 1, "adopted": 2, "failed": 0}));
    assert_holds(&bench, &users, 1);
    // It is over: the next run looks anew.
    let summary = export(&bench, &users, &one_by_one).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"], json!({"requested": 3, "adopted": 0, "failed": 0}));
    assert_holds(&bench, &users, 2);
    assert_whole(&bench);
}

#[test]
fn more_rejects_than_allowed_are_refused_and_the_next_run_looks_at_the_same_exports() {
    let bench = bench(Switches::default());
    let users = authors(&bench)[..5].to_vec();
    let line = BadLine::Text { text: "{".to_owned() };
    let lines = vec![Insertion { at_line: 2, line }; 30];
    bench.simulator.add_fault(Fault::on("ExportUsers", Effect::BadLines { lines }));
    let ran = export(&bench, &users, &[]);
    ran.assert_refused(
        65,
        &["30 of", "lines of users do not fit", "not_json", "_chatlake/rejected/", "--max-rejected"],
    );
    assert!(!Path::new(&bench.lake).join("user_exports").exists());
    let summary = export(&bench, &users, &["--max-rejected", "30"]).assert_status(0, "committed");
    assert_eq!((&summary["rejected"], &summary["export_tasks"]["adopted"]), (&json!(30), &json!(1)));
    assert_eq!((tasks(&bench), bench.rows("_quarantine").len()), (1, 30));
    assert_holds(&bench, &users, 1);
    assert_whole(&bench);
}

#[test]
fn a_format_that_is_not_recognised_is_refused() {
    let bench = bench(Switches::default());
    let users = authors(&bench)[..2].to_vec();
    for (body, part) in [("<html>login</html>", "it is no export"), (r#"{"kind":"msg","x":{}}"#, "not recognised")] {
        bench.simulator.add_fault(Fault::on(
            "Download",
            Effect::Status { status: 200, code: None, body: Some(format!("{body}\n")), headers: BTreeMap::new() },
        ));
        export(&bench, &users, &[]).assert_refused(65, &[part]);
    }
    export(&bench, &users, &[]).assert_status(0, "committed");
    assert_eq!(tasks(&bench), 1);
    assert_holds(&bench, &users, 1);
}

#[test]
fn a_run_that_is_stopped_is_gone_on_with() {
    let bench = bench(Switches::default());
    let users = everybody(&bench);
    bench.simulator.change_switches(|switches| switches.task_polls = 1_000_000);
    let arguments = arguments(&bench, &users, &["--max-concurrent-exports", "3"]);
    let child = bench.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let followed =
        || bench.simulator.calls_of("GetTask").iter().map(|call| call.task_id.clone()).collect::<BTreeSet<_>>();
    while followed().len() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let killed = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ran = Ran::from(child.wait_with_output().unwrap());
    ran.assert_refused(143, &["stopped by SIGTERM"]);
    bench.simulator.complete_tasks();
    let summary = export(&bench, &users, &[]).assert_status(0, "committed");
    assert_eq!(summary["export_tasks"], json!({"requested": 0, "adopted": 3, "failed": 0}));
    assert_holds(&bench, &users, 1);
    assert_whole(&bench);
}

#[test]
fn runs_that_go_on_with_the_same_dead_one_commit_once() {
    let bench = bench(Switches::default());
    let users = everybody(&bench);
    bench.simulator.add_fault(Fault::status("Download", 403).times(0));
    assert_ne!(export(&bench, &users, &["--max-concurrent-exports", "1"]).code, 0);
    bench.simulator.clear_faults();
    let arguments = arguments(&bench, &users, &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let racing: Vec<_> = (0..4).map(|_| bench.start(&arguments)).collect();
    let ended: Vec<Ran> = racing.into_iter().map(|child| Ran::from(child.wait_with_output().unwrap())).collect();
    assert!(ended.iter().all(|ran| ran.code == 0), "{ended:#?}");
    let states: Vec<String> = ended.iter().map(|ran| text(&ran.summary(), "status")).collect();
    let committed = states.iter().filter(|status| *status == "committed").count();
    // Whoever came when all was over has looked anew.
    assert!(committed >= 1 && states.iter().all(|status| status == "committed" || status == "already_committed"));
    assert_eq!(Inside::of(&bench).state().user_exports().count(), committed);
    assert_holds(&bench, &users, committed);
    assert_whole(&bench);
}

/// Runs that begin at once, on each kind of store: whoever finds what another has asked for goes on with it, and the rest looks anew.
#[test]
fn of_runs_that_begin_together_each_export_is_committed_once() {
    for place in [Place::Folder, Place::S3] {
        let Some(bench) = Bench::with(World::seeded(seed(), &size()), Switches::default(), place) else { continue };
        let users = everybody(&bench);
        let arguments = arguments(&bench, &users, &[]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let racing: Vec<_> = (0..6).map(|_| bench.start(&arguments)).collect();
        let ended: Vec<Ran> = racing.into_iter().map(|child| Ran::from(child.wait_with_output().unwrap())).collect();
        assert!(ended.iter().all(|ran| ran.code == 0), "{ended:#?}");
        let committed = ended.iter().filter(|ran| ran.summary()["status"] == "committed").count();
        let state = Inside::of(&bench).state();
        assert_eq!(state.user_exports().count(), committed);
        let named: Vec<_> = state.user_exports().flat_map(|export| export.runs.clone()).collect();
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len(), "a run is in two entries");
        assert_holds(&bench, &users, committed);
        assert_whole(&bench);
        assert_eq!(Inside::of(&bench).records(), []);
    }
}

#[test]
fn a_lake_that_sync_keeps_has_both_side_by_side() {
    let mut bench = bench(Switches::default());
    let users = everybody(&bench);
    let range = ["2026-01-05", "2026-01-07"];
    bench.sync(range[0], range[1], &[]).assert_status(0, "committed");
    let before = bench.assert_exact(range[0], range[1]);
    let config = bench.folder.path().join("chatlake.toml");
    fs::write(&config, "[exclude]\nusers = [\"image\"]\nmessages = [\"html\"]\n").unwrap();
    export(&bench, &users, &["--config", config.to_str().unwrap()]).assert_status(0, "committed");
    let after = bench.assert_exact(range[0], range[1]);
    assert_eq!((before.rows, before.files), (after.rows, after.files), "rows of users leak into those of channels");
    for (dataset, column) in [("users", "image"), ("messages", "html")] {
        let rows = bench.rows(&format!("user_exports/{dataset}"));
        assert!(!rows.is_empty() && rows.iter().all(|row| row.get(column).is_none()), "{dataset}");
    }
    export(&bench, &users, &[]).assert_refused(2, &["this lake leaves out", "--config"]);
    let files = bench.run(&["files", "--dataset", "user_exports/messages"]);
    let listed: Vec<&str> = files.stdout.lines().collect();
    assert!(!listed.is_empty() && listed.iter().all(|path| path.contains("/user_exports/messages/export_date=")));
    assert!(listed.iter().all(|path| Path::new(path).exists()), "{listed:?}");
    let messages = bench.run(&["files", "--dataset", "messages"]);
    assert!(messages.stdout.lines().all(|path| !path.contains("user_exports")));
    // A week later nothing of it is garbage, and sync goes on.
    bench.set_time(bench.simulator.now() + hours(24 * 8));
    let gc = bench.run(&["gc", "--delete", "--json"]);
    assert_eq!(gc.code, 0, "{gc:#?}");
    assert_eq!(gc.summary()["foreign"], 0);
    let config = ["--config", config.to_str().unwrap()];
    bench.sync(range[0], range[1], &[&["--replace"], &config[..]].concat()).assert_status(0, "committed");
    assert_whole(&bench);
    // What is nobody's is found here, too, and a file that is lost.
    let stray = Path::new(&bench.lake).join("user_exports/messages/notes.txt");
    fs::write(&stray, "mine").unwrap();
    let verified = bench.run(&["verify"]);
    verified.assert_refused(65, &[]);
    assert!(verified.stdout.contains("user_exports/messages/notes.txt"), "{}", verified.stdout);
    fs::remove_file(&stray).unwrap();
    let folder = Path::new(listed[0]).parent().unwrap();
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(bench.run(&["verify"]).code, 0, "a folder that was dropped is a retention's work");
}

/// Sixteen users who have almost as much as an export takes.
#[test]
fn memory_does_not_follow_what_users_have_and_files_roll() {
    let mut world = World::empty();
    let created_at = at("2025-01-01");
    let users: Vec<String> = (0..16).map(|number| format!("writer-{number}")).collect();
    users.iter().for_each(|id| world.add_user(User::new(id, id, created_at)));
    let channel = Channel::new("messaging", "large", created_at).with_members(users.iter().cloned());
    let cid = world.add_channel(channel).unwrap();
    let messages = 8_000 * users.len();
    for number in 0..messages {
        let sent_at = at("2026-01-05") + jiff::SignedDuration::from_micros(i64::try_from(number).unwrap() * 1_000);
        let text = format!("message {number}, which is about as long as people write when they have something to say");
        let author = users[number % users.len()].clone();
        world.add_message(&cid, Message::new(format!("m-{number:07}"), author, text, sent_at)).unwrap();
    }
    let bench = Bench::with(world, Switches::default(), Place::Folder).unwrap();
    let arguments = arguments(&bench, &users, &["--target-file-size", "1MiB", "--compression", "none"]);
    let ran = assert_fits(&bench, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), 96);
    let summary = ran.assert_status(0, "committed");
    let written = &summary["datasets"]["user_exports/messages"];
    assert_eq!(written["rows"], messages);
    let (files, bytes) = (written["files"].as_u64().unwrap(), written["bytes"].as_u64().unwrap());
    assert!(files > 1 && ((files - 1) * 9..=files * 11).contains(&((bytes * 10) >> 20)), "{written}");
    assert_whole(&bench);
}

#[test]
fn who_is_meant_is_checked_before_anything_is_asked() {
    let bench = bench(Switches::default());
    bench.run(&["users"]).assert_refused(2, &["no user is named", "--user-id"]);
    bench.run(&["users", "--user-id", "a b"]).assert_refused(2, &["is no user id"]);
    bench.run(&["users", "--users-file", "nowhere.txt"]).assert_refused(2, &["cannot read"]);
    bench.run(&["users", "--user-id", "a", "--users-per-request", "26"]).assert_refused(2, &["not 1 to 25"]);
    assert_eq!(bench.simulator.calls().len(), 0);
    let users = authors(&bench);
    let planned = export(&bench, &users, &["--plan"]);
    assert_eq!(planned.code, 0, "{planned:#?}");
    let plan = planned.summary();
    assert_eq!((&plan["users"], &plan["requests"]), (&json!(users.len()), &json!(users.len().div_ceil(25))));
    assert_eq!(tasks(&bench), 0);
    assert!(!Path::new(&bench.lake).exists(), "a plan makes no lake");
    let by_name = bench.run(&["users", "--user-id", &users[0], &users[1], "--user-id", &users[0], "--rate-share", "1"]);
    assert_eq!(by_name.code, 0, "{by_name:#?}");
    for part in ["committed (", "2 users asked for, 2 came", "user_exports/messages"] {
        assert!(by_name.stdout.contains(part), "{}", by_name.stdout);
    }
    let mut other = bench;
    other.set("STREAM_API_KEY", "another");
    other.run(&["users", "--user-id", "a"]).assert_refused(2, &["was made for something else", "app_key"]);
}

#[test]
fn a_lake_of_files_takes_no_exports_of_users() {
    let bench = bench(Switches::default());
    let file = bench.folder.path().join("export.jsonl");
    let line = r#"{"message":{"id":"m","cid":"a:b","text":"t","user":"u","created_at":"2026-01-01T00:00:00Z"}}"#;
    fs::write(&file, line).unwrap();
    assert_eq!(bench.run(&["convert", file.to_str().unwrap()]).code, 0);
    bench.run(&["users", "--user-id", "a"]).assert_refused(2, &["made of files", "--lake"]);
}

#[cfg(debug_assertions)]
mod crash {
    use std::collections::BTreeSet;

    use chatlake::crash::VARIABLE;
    use uuid::Uuid;

    use super::*;

    const SIGABRT: i32 = 6;

    /// Ends a run at every durable step, before it and after it; the next one completes it without asking for anything again.
    #[test]
    fn a_run_that_dies_at_any_step_is_made_good_by_the_next_without_a_second_export() {
        let (mut bench, busy) = with_a_busy_user(TooMuch::FailsTask);
        let users = authors(&bench)[..8].to_vec();
        let others: Vec<String> = users.iter().filter(|id| **id != busy).cloned().collect();
        let more = ["--max-concurrent-exports", "1", "--users-per-request", "4", "-v"];
        let arguments = arguments(&bench, &users, &more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let root = bench.folder.path().join("rounds");
        let run =
            |bench: &mut Bench, at: &str| Ran::from(bench.command(&arguments).env(VARIABLE, at).output().unwrap());
        let next_lake = |bench: &mut Bench| {
            bench.use_lake(&root.join(Uuid::now_v7().to_string()));
            bench.simulator.clear_calls();
        };
        next_lake(&mut bench);
        let whole = run(&mut bench, "nowhere:before#1");
        whole.assert_status(69, "partial");
        let expected = tasks(&bench);
        assert_eq!(expected, 2 + 2 * 2);
        assert_holds(&bench, &others, 1);
        let named =
            whole.stderr.lines().filter_map(|line| line.split_once("durable step step=\"")?.1.strip_suffix('"'));
        let mut steps: BTreeSet<String> = named.map(str::to_owned).collect();
        let copies: Vec<_> = steps.iter().filter_map(|step| step.strip_prefix("rename-")).collect();
        steps.extend(copies.into_iter().map(|noun| format!("copy-{noun}")).collect::<Vec<_>>());
        assert!(steps.contains("put-users") && steps.contains("put-task") && steps.contains("put-entry"), "{steps:?}");
        let mut points = 0;
        for step in &steps {
            for side in ["before", "after"] {
                for nth in 1.. {
                    next_lake(&mut bench);
                    let at = format!("{step}:{side}#{nth}");
                    let died = run(&mut bench, &at);
                    if died.signal != Some(SIGABRT) {
                        died.assert_status(69, "partial");
                        break;
                    }
                    points += 1;
                    let again = run(&mut bench, "nowhere:before#1");
                    again.assert_status(69, "partial");
                    assert_eq!(again.summary()["user_exports"]["failed"].as_object().unwrap().len(), 1, "{at}");
                    // A task that nobody has written down is lost; of a run that had ended in order nothing is left to find.
                    let lost = usize::from(at.starts_with("put-task:before"));
                    let had_ended = Inside::of(&bench).state().user_exports().count() == 2;
                    let most = if had_ended { 2 * expected } else { expected + lost };
                    assert!(tasks(&bench) <= most, "{at}: {} tasks", tasks(&bench));
                    assert!(!had_ended || at.starts_with("delete-record"), "{at}");
                    assert_holds(&bench, &others, if had_ended { 2 } else { 1 });
                    let run_id: Uuid = again.summary()["run_id"].as_str().unwrap().parse().unwrap();
                    Inside::of(&bench).assert_settled(&[run_id]);
                }
            }
        }
        println!("{points} crash points of {} kinds of steps", steps.len());
        assert!(points > 60, "only {points} crash points");
    }

    #[test]
    fn an_export_whose_staged_files_are_deleted_is_undone_and_read_again() {
        let bench = bench(Switches::default());
        let users = everybody(&bench);
        let arguments = arguments(&bench, &users, &[]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let died = bench.command(&arguments).env(VARIABLE, "put-entry:after#1").output().unwrap();
        assert_eq!(Ran::from(died).signal, Some(SIGABRT));
        fs::remove_dir_all(Path::new(&bench.lake).join("_chatlake/staging")).unwrap();
        let again = export(&bench, &users, &[]);
        let summary = again.assert_status(0, "committed");
        assert!(again.stderr.contains("voiding their entry"), "{again:#?}");
        assert_eq!(summary["export_tasks"], json!({"requested": 0, "adopted": 3, "failed": 0}));
        assert_holds(&bench, &users, 1);
        assert_whole(&bench);
    }

    #[test]
    fn a_run_that_dies_after_its_commit_is_followed_by_one_that_asks_nothing() {
        let bench = bench(Switches::default());
        let users = everybody(&bench);
        let arguments = arguments(&bench, &users, &[]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let died = bench.command(&arguments).env(VARIABLE, "put-entry:after#1").output().unwrap();
        assert_eq!(Ran::from(died).signal, Some(SIGABRT));
        bench.simulator.clear_calls();
        let summary = export(&bench, &users, &[]).assert_status(0, "already_committed");
        assert_eq!((bench.simulator.calls().len(), &summary["api_calls"]), (0, &json!(0)));
        assert_eq!(summary["user_exports"]["returned"], users.len());
        assert_holds(&bench, &users, 1);
        assert_whole(&bench);
        assert_eq!(Inside::of(&bench).records(), []);
    }

    #[test]
    fn what_a_dead_run_asked_for_is_no_news_after_a_day() {
        let mut bench = bench(Switches::default());
        let users = everybody(&bench);
        let one_by_one = ["--max-concurrent-exports", "1"];
        let arguments = arguments(&bench, &users, &one_by_one);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let died = bench.command(&arguments).env(VARIABLE, "put-task:after#2").output().unwrap();
        assert_eq!(Ran::from(died).signal, Some(SIGABRT));
        bench.set_time(bench.simulator.now() + hours(25));
        let summary = export(&bench, &users, &one_by_one).assert_status(0, "committed");
        assert_eq!(summary["export_tasks"], json!({"requested": 3, "adopted": 0, "failed": 0}));
        assert_eq!(tasks(&bench), 5);
        assert_holds(&bench, &users, 1);
    }
}
