//! The first command with an app of one's own: `check`.

use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};
use simulator::switches::{MissingChannel, Switches};
use simulator::{Effect, Fault, Size, World};

use crate::bench::{Bench, Place, Ran, seed};
use crate::inspect::{fill, small, walk};
use crate::stores::{Limited, at_a_careless_store};

/// The results of a run with this exit code, by check.
#[track_caller]
fn results(ran: &Ran, code: i32) -> serde_json::Map<String, Value> {
    assert_eq!(ran.code, code, "{ran:#?}");
    ran.assert_no_secret();
    let report = ran.summary();
    assert_eq!(report["exit_code"], code, "{report}");
    let checks = report["checks"].as_array().unwrap().iter();
    checks.map(|check| (check["check"].as_str().unwrap().to_owned(), check["result"].clone())).collect()
}

/// Those that are not ok, with their result.
#[track_caller]
fn not_ok(ran: &Ran, code: i32) -> Value {
    results(ran, code).into_iter().filter(|(_, result)| result != "ok").collect::<serde_json::Map<_, _>>().into()
}

fn filters() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"/[^ ]*/lake", "[lake]");
    settings.add_filter(r"/tmp[^ ]*", "[temp]");
    settings.add_filter(r"and has [\d.]+ \w+ free", "and has [n] free");
    settings.add_filter(r#""free_bytes":\d+"#, r#""free_bytes":[n]"#);
    settings.add_filter(r"(oldest channel, `)[^`]+`", "${1}[cid]`");
    settings.add_filter(r#""oldest_channel":"[^"]+""#, r#""oldest_channel":"[cid]""#);
    settings.add_filter(r"of 20\d\d-\d\d-\d\d", "of [date]");
    settings.add_filter(r#""20\d\d-[^"]*""#, r#""[time]""#);
    settings.add_filter(r"clock is \d+s (ahead of|behind) this machine's", "clock and this machine's agree");
    settings.add_filter(r"\d+ left of this minute", "[n] left of this minute");
    settings.add_filter(r#""remaining":\d+"#, r#""remaining":[n]"#);
    settings.add_filter(r#""offset_seconds":-?\d+"#, r#""offset_seconds":0"#);
    settings.add_filter(r"(warning |ok      ) temp dir", "ok       temp dir");
    settings
}

#[test]
fn a_person_reads_each_capability_and_a_program_one_line() {
    let bench = Bench::new(&small());
    bench.simulator.change_switches(|switches| *switches = switches.clone().with_documented_limits());
    let ran = bench.run(&["check", "-q"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:#?}");
    let json = bench.run(&["check", "--json", "-q"]);
    filters().bind(|| {
        assert_snapshot!("check", ran.stdout);
        assert_snapshot!("check_json", json.stdout);
    });
}

#[test]
fn nothing_is_exported_and_nothing_is_left_behind() {
    for missing_channel in [MissingChannel::NotFound, MissingChannel::InputError] {
        let switches = Switches { missing_channel, ..Switches::default() };
        let bench = Bench::with(World::seeded(seed(), &small()), switches, Place::Folder).unwrap();
        assert_eq!(not_ok(&bench.run(&["check", "--json"]), 0), json!({ "versions and rules": "skipped" }));
        assert!(!Path::new(&bench.lake).exists());
        let asked = bench.simulator.calls_of("ExportChannels");
        assert!(asked.iter().all(|call| call.task_id.is_none()) && asked.len() == 1, "{asked:?}");
        assert_eq!(bench.simulator.calls_of("GetTask").len(), 0);
        fill(&bench);
        let before = walk(Path::new(&bench.lake));
        assert_eq!(not_ok(&bench.run(&["check", "--json"]), 0), json!({ "versions and rules": "skipped" }));
        assert_eq!(walk(Path::new(&bench.lake)), before);
    }
}

#[test]
fn credentials_are_asked_for_refused_and_shown_by_their_variable() {
    let mut bench = Bench::new(&small());
    let rest = json!({ "rate limits": "skipped", "permission": "skipped", "discovery": "skipped" });
    let with = |more: Value| {
        let mut all = rest.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all.as_object_mut().unwrap().insert("versions and rules".into(), "skipped".into());
        all
    };
    let (key, secret) = (bench.simulator.key().to_owned(), "another-secret-of-thirty-two-bytes-or-so");
    bench.set("STREAM_API_SECRET", secret);
    let ran = bench.run(&["check", "--json"]);
    assert_eq!(not_ok(&ran, 77), with(json!({ "credentials": "failed" })));
    assert!(ran.stdout.contains("STREAM_API_SECRET") && !ran.stdout.contains(secret), "{}", ran.stdout);
    bench.set("STREAM_API_KEY", "nobody");
    let ran = bench.run(&["check", "--json"]);
    assert_eq!(not_ok(&ran, 77), with(json!({ "credentials": "failed" })));
    assert!(ran.stdout.contains("STREAM_API_KEY"), "{}", ran.stdout);
    bench.set("STREAM_API_KEY", "");
    let ran = bench.run(&["check", "--json"]);
    assert_eq!(not_ok(&ran, 77), with(json!({ "credentials": "failed", "clock": "skipped" })));
    bench.set("STREAM_API_KEY", &key);
    bench.set("STREAM_BASE_URL", "http://127.0.0.1:9");
    let ran = bench.run(&["check", "--json"]);
    assert_eq!(not_ok(&ran, 75), with(json!({ "credentials": "failed", "clock": "skipped" })));
}

#[test]
fn one_refusal_does_not_hide_the_others() {
    let bench = Bench::new(&small());
    let refuse = |endpoint: &str, status, code, message: &str| {
        let body = json!({ "code": code, "message": message, "StatusCode": status, "duration": "1ms" }).to_string();
        let effect = Effect::Status { status, code: None, body: Some(body), headers: Default::default() };
        bench.simulator.add_fault(Fault::on(endpoint, effect).times(0));
    };
    refuse("ExportChannels", 403, 17, "not allowed to perform action ExportChannels");
    refuse("GetRateLimits", 429, 9, "too many requests");
    let ran = bench.run(&["check", "--json"]);
    let expected = json!({ "permission": "failed", "rate limits": "failed", "versions and rules": "skipped" });
    assert_eq!(not_ok(&ran, 77), expected);
    let ran = bench.run(&["check", "--settle", "10s"]);
    ran.assert_refused(77, &["2 of 12 checks failed: rate limits, permission"]);
    assert!(ran.stdout.contains("ask the app's owner to allow server-side exports"), "{}", ran.stdout);
    bench.simulator.clear_faults();
    refuse("ExportChannels", 400, 4, "channels: something else is wrong");
    let expected = json!({ "permission": "warning", "versions and rules": "skipped" });
    assert_eq!(not_ok(&bench.run(&["check", "--json"]), 0), expected);
    bench.simulator.clear_faults();
    refuse("QueryChannels", 403, 70, "no access to channels");
    let expected = json!({
        "credentials": "failed", "rate limits": "skipped", "permission": "skipped", "discovery": "skipped",
        "versions and rules": "skipped",
    });
    assert_eq!(not_ok(&bench.run(&["check", "--json"]), 77), expected);
}

#[test]
fn a_clock_may_be_off_by_half_of_what_settles() {
    let bench = Bench::new(&small());
    bench.simulator.change_switches(|switches| switches.date_skew_seconds = -60);
    assert_eq!(not_ok(&bench.run(&["check", "--json"]), 0), json!({ "versions and rules": "skipped" }));
    let ran = bench.run(&["check", "--json", "--settle", "1m"]);
    assert_eq!(not_ok(&ran, 75), json!({ "clock": "failed", "versions and rules": "skipped" }));
    assert!(ran.stdout.contains("behind") && ran.stdout.contains("NTP"), "{}", ran.stdout);
}

#[test]
fn rate_limits_say_what_is_taken_and_an_app_without_channels_is_pointed_out() {
    let bench = Bench::with(World::empty(), Switches::default(), Place::Folder).unwrap();
    bench.simulator.change_switches(|switches| switches.limits = [("ExportChannels".to_owned(), 120)].into());
    let ran = bench.run(&["check", "--json", "--rate-share", "0.25", "--channels-per-request", "100"]);
    let expected = json!({ "discovery": "warning", "versions and rules": "skipped" });
    assert_eq!(not_ok(&ran, 0), expected);
    let report = ran.summary();
    let figures = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "rate limits").unwrap();
    let figures = &figures["figures"];
    assert_eq!((&figures["limit_per_minute"], &figures["requests_per_minute"]), (&json!(120), &json!(30.0)));
    assert_eq!(figures["channels_per_hour"], json!(180_000.0));
}

#[test]
fn a_lake_of_another_app_and_a_damaged_log_are_told_apart() {
    let mut bench = Bench::new(&Size { channels: 4, ..small() });
    bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
    let log = Path::new(&bench.lake).join("_chatlake/log/00000000000000000001.json");
    let entry = std::fs::read(&log).unwrap();
    std::fs::write(&log, "{").unwrap();
    let skipped = "skipped";
    assert_eq!(not_ok(&bench.run(&["check", "--json"]), 65), json!({ "log": "failed", "versions and rules": skipped }));
    std::fs::write(&log, entry).unwrap();
    let identity = Path::new(&bench.lake).join("_chatlake/lake.json");
    let text = std::fs::read_to_string(&identity).unwrap();
    std::fs::write(&identity, text.replace(bench.simulator.key(), "other-key")).unwrap();
    let ran = bench.run(&["check", "--json"]);
    assert_eq!(not_ok(&ran, 2), json!({ "identity": "failed", "versions and rules": skipped }));
    assert!(!ran.stdout.contains("other-key"));
    let mut files: Value = serde_json::from_str(&text).unwrap();
    files["source"] = "files".into();
    std::fs::write(&identity, files.to_string()).unwrap();
    let ran = bench.run(&["check", "--json"]);
    assert_eq!(not_ok(&ran, 2), json!({ "identity": "failed", "versions and rules": skipped }));
    assert!(ran.stdout.contains("made of files"), "{}", ran.stdout);
    bench.set("CHATLAKE_LAKE", "");
    let all = ["lake", "objects", "conditional create", "versions and rules", "identity", "log"];
    let expected: serde_json::Map<_, _> = all.map(|check| (check.to_owned(), json!(skipped))).into_iter().collect();
    assert_eq!(not_ok(&bench.run(&["check", "--json"]), 0), json!(expected));
    bench.run(&["check", "--rate-share", "2"]).assert_refused(2, &["--rate-share"]);
}

#[cfg(target_os = "linux")]
#[test]
fn folders_that_cannot_be_written_are_a_matter_of_permission() {
    let bench = Bench::new(&small());
    // Nobody makes a folder there, root included.
    let ran = bench.run(&["check", "--json", "--lake", "/sys/kernel/chatlake", "--temp-dir", "/sys/kernel"]);
    let expected = json!({
        "objects": "failed", "conditional create": "failed", "versions and rules": "skipped", "temp dir": "failed",
    });
    assert_eq!(not_ok(&ran, 77), expected);
    let ran = bench.run(&["check", "--json", "--temp-dir", "missing"]);
    assert_eq!(not_ok(&ran, 2), json!({ "temp dir": "failed", "versions and rules": "skipped" }));
}

#[test]
fn a_bucket_is_tried_out_and_told_whether_it_keeps_versions() {
    let Some(bench) = Bench::with(World::seeded(seed(), &small()), Switches::default(), Place::S3) else { return };
    assert_eq!(not_ok(&bench.run(&["check", "--json"]), 0), json!({}));
    let ran = bench.run(&["check"]);
    assert!(ran.stdout.contains("no versions are kept") && ran.stdout.contains("lifecycle"), "{}", ran.stdout);
}

#[test]
fn a_bucket_that_keeps_versions_says_so() {
    let Ok(moto) = std::env::var("CHATLAKE_TEST_MOTO_ENDPOINT") else { return };
    let bucket = "chatlake-versioned";
    let url = format!("{moto}/{bucket}");
    let status = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        // One that is there already is refused, and as good.
        client.put(&url).send().await.unwrap();
        client.put(format!("{url}?versioning")).body(status).send().await.unwrap().error_for_status().unwrap();
    });
    let mut bench = Bench::new(&small());
    for (name, value) in [
        ("CHATLAKE_LAKE", format!("s3://{bucket}/it/{}", uuid::Uuid::now_v7()).as_str()),
        ("AWS_ENDPOINT_URL", &moto),
        ("AWS_ACCESS_KEY_ID", "anybody"),
        ("AWS_SECRET_ACCESS_KEY", "anything"),
        ("AWS_REGION", "us-east-1"),
    ] {
        bench.set(name, value);
    }
    let ran = bench.run(&["check"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.stdout.contains("old versions are kept") && ran.stdout.contains("noncurrent"), "{}", ran.stdout);
}

#[test]
fn a_store_that_ignores_conditions_loses_the_race() {
    let mut bench = Bench::new(&small());
    if !at_a_careless_store(&mut bench) {
        return;
    }
    let ran = bench.run(&["check", "--json"]);
    assert_eq!(not_ok(&ran, 73), json!({ "conditional create": "failed" }));
    assert!(ran.stdout.contains("8 of 8 writers") && ran.stdout.contains("--single-writer"), "{}", ran.stdout);
}

#[test]
fn what_a_bucket_does_not_allow_is_named() {
    let write = &["s3:ListBucket", "s3:GetObject", "s3:PutObject"][..];
    for (actions, part) in [(&write[..1], "cannot write"), (&write[..2], "cannot write"), (write, "delete")] {
        let Some(limited) = Limited::start(actions) else { return };
        let mut bench = Bench::new(&small());
        limited.lend_to(&mut bench);
        let ran = bench.run(&["check", "--json"]);
        let results = results(&ran, 77);
        assert_eq!((&results["objects"], &results["conditional create"]), (&json!("failed"), &json!("failed")));
        assert!(ran.stdout.contains(part), "{actions:?}: {}", ran.stdout);
        assert_eq!((&results["discovery"], &results["temp dir"] != "failed"), (&json!("ok"), true));
    }
}
