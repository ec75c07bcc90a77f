//! Bad input of every sort: the exit code tells the scheduler what to do, the message tells people.

use std::fs;

use simulator::switches::{FilterBy, Switches};
use simulator::{BadLine, Effect, Fault, Insertion, Size, World};

use crate::bench::{Bench, Place, at, seed, two_days};

const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

fn small() -> Size {
    Size { channels: 12, days: 2, messages_per_channel_day: 6, ..Size::default() }
}

fn sync(bench: &Bench, more: &[&str]) -> crate::bench::Ran {
    bench.sync(RANGE[0], RANGE[1], more)
}

#[test]
fn credentials_name_the_variable() {
    let mut bench = Bench::new(&small());
    let (key, secret) = (bench.simulator.key().to_owned(), bench.simulator.secret().to_owned());
    bench.set("STREAM_API_KEY", "another-key");
    sync(&bench, &[]).assert_refused(77, &["STREAM_API_KEY"]);
    bench.set("STREAM_API_KEY", "");
    sync(&bench, &[]).assert_refused(77, &["`STREAM_API_KEY` is not set"]);
    bench.set("STREAM_API_KEY", &key);
    bench.set("STREAM_API_SECRET", "wrong-and-private");
    let ran = sync(&bench, &[]);
    ran.assert_refused(77, &["STREAM_API_SECRET"]);
    assert!(!ran.stderr.contains("wrong-and-private") && !ran.stdout.contains("wrong-and-private"));
    bench.set("STREAM_API_SECRET", "");
    let file = bench.folder.path().join("secret");
    bench.set("STREAM_API_SECRET_FILE", &file.to_string_lossy());
    sync(&bench, &[]).assert_refused(77, &["STREAM_API_SECRET_FILE"]);
    fs::write(&file, format!("{secret}\n")).unwrap();
    sync(&bench, &[]).assert_status(0, "committed");
    assert_eq!(walk(&bench.folder.path().join("lake/_chatlake/runs")), [] as [std::path::PathBuf; 0]);
}

#[test]
fn what_cannot_be_reached_is_temporary() {
    let mut bench = Bench::new(&small());
    bench.set("STREAM_BASE_URL", "http://127.0.0.1:9");
    sync(&bench, &[]).assert_refused(75, &["127.0.0.1:9"]);
    bench.set("STREAM_BASE_URL", "not a url");
    sync(&bench, &[]).assert_refused(2, &["STREAM_BASE_URL"]);
}

#[test]
fn an_unreachable_or_missing_bucket() {
    let mut bench = Bench::new(&small());
    for (name, value) in
        [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s-private"), ("AWS_REGION", "us-east-1")]
    {
        bench.set(name, value);
    }
    bench.set("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    bench.set("CHATLAKE_LAKE", "s3://lake/x");
    sync(&bench, &[]).assert_refused(75, &["s3://lake/x"]);
    let Some(mut bench) = Bench::with(World::seeded(seed(), &small()), Switches::default(), Place::S3) else { return };
    bench.set("CHATLAKE_LAKE", "s3://no-such-bucket-of-ours/x");
    sync(&bench, &[]).assert_refused(2, &["no-such-bucket-of-ours"]);
    let lake = bench.lake.clone();
    bench.set("CHATLAKE_LAKE", &lake);
    bench.set("AWS_SECRET_ACCESS_KEY", "s-private");
    let ran = sync(&bench, &[]);
    ran.assert_refused(77, &["AWS_"]);
    assert!(!ran.stderr.contains("s-private"));
    assert_eq!(bench.exports(), 0);
}

#[test]
fn a_lake_that_is_no_folder_or_may_not_be_written() {
    let mut bench = Bench::new(&small());
    let file = bench.folder.path().join("a-file");
    fs::write(&file, "x").unwrap();
    for lake in [file.clone(), file.join("below")] {
        bench.set("CHATLAKE_LAKE", &lake.to_string_lossy());
        sync(&bench, &[]).assert_refused(2, &["is a file"]);
    }
    bench.set("CHATLAKE_LAKE", "ftp://somewhere/x");
    sync(&bench, &[]).assert_refused(2, &["s3://bucket/prefix"]);
    // Nobody may write here, root included.
    bench.set("CHATLAKE_LAKE", "/proc/lake");
    let ran = sync(&bench, &[]);
    assert!([75, 77].contains(&ran.code), "{ran:#?}");
    assert!(ran.stderr.contains("hint: "), "{ran:#?}");
    assert_eq!(bench.exports(), 0);
}

#[test]
fn a_range_that_makes_no_sense() {
    let bench = Bench::new(&small());
    for (arguments, part) in [
        (&["sync", "--since", "2026-01-05", "--until", "2026-01-05"][..], "is not before"),
        (&["sync", "--since", "2026-01-06", "--until", "2026-01-05"], "is not before"),
        (&["sync", "--since", "2026-01-06"], "--until"),
        (&["sync", "--since", "yesterday", "--until", "2026-01-05"], "no point in time"),
        (&["sync", "--window", "7h"], "does not divide a day"),
        (&["sync", "--replace"], "--since"),
        (&["synk"], "sync"),
        (&["sync", "--lake", ""], "CHATLAKE_LAKE"),
    ] {
        bench.run(arguments).assert_refused(2, &[part]);
    }
    assert!(bench.simulator.calls().is_empty());
}

#[test]
fn a_lake_belongs_to_one_app_and_one_selection() {
    let bench = Bench::new(&small());
    let cid = bench.simulator.truth().channels[0].clone();
    sync(&bench, &[]).assert_status(0, "committed");
    let before = bench.exports();
    for (more, part) in [
        (&["--channel", cid.as_str()][..], cid.as_str()),
        (&["--channel-type", "team"], "team"),
        (&["--filter", r#"{"frozen":false}"#], "frozen"),
        (&["--include-truncated-messages"], "truncated"),
        (&["--partition-by", "event_date,channel_type"], "channel_type"),
    ] {
        sync(&bench, more).assert_refused(2, &[part, "another --lake"]);
        bench.run(&[&["revisit"], more].concat()).assert_refused(2, &[part]);
    }
    let mut bench = bench;
    bench.set("STREAM_API_KEY", "another-key");
    sync(&bench, &[]).assert_refused(2, &["another-key"]);
    assert_eq!(bench.exports(), before);
}

#[test]
fn a_wider_run_on_a_narrow_lake() {
    let bench = Bench::new(&small());
    let cid = bench.simulator.truth().messages[0].cid.clone();
    sync(&bench, &["--channel", &cid]).assert_status(0, "committed");
    sync(&bench, &[]).assert_refused(2, &[&cid]);
    sync(&bench, &["--channel", "team:other"]).assert_refused(2, &[&cid]);
    sync(&bench, &["--channel", &cid]).assert_status(0, "already_committed");
    let mut truth = bench.simulator.truth();
    truth.messages.retain(|message| message.cid == cid);
    truth.reactions.retain(|reaction| reaction.cid == cid);
    bench.assert_holds(&truth, RANGE[0], RANGE[1]);
}

#[test]
fn a_channel_that_stream_does_not_know_is_reported_and_the_rest_goes_on() {
    for missing_channel in
        [simulator::switches::MissingChannel::NotFound, simulator::switches::MissingChannel::InputError]
    {
        let bench = Bench::new(&small());
        bench.simulator.change_switches(|switches| switches.missing_channel = missing_channel);
        let cids = bench.simulator.truth().channels;
        let list = bench.folder.path().join("channels");
        fs::write(&list, format!("# ours\n{}\nteam:never-was\n", cids.join("\n"))).unwrap();
        let summary = sync(&bench, &["--channels-file", &list.to_string_lossy()]).assert_status(0, "committed");
        assert_eq!(summary["missing_channels"], serde_json::json!(["team:never-was"]), "{missing_channel:?}");
        bench.assert_exact(RANGE[0], RANGE[1]);
    }
}

#[test]
fn a_revisit_of_nothing_is_refused() {
    let bench = Bench::new(&small());
    bench.run(&["revisit"]).assert_refused(2, &["there is no lake at", "check --lake"]);
    assert!(!fs::exists(&bench.lake).unwrap());
}

#[test]
fn a_day_whose_messages_are_all_gone_from_many_channels_is_not_believed_at_once() {
    let bench = Bench::new(&small());
    sync(&bench, &[]).assert_status(0, "committed");
    let cids = bench.simulator.truth().channels;
    let clear = |cids: &[String]| {
        for cid in cids {
            bench.simulator.world(|world| world.channel_mut(cid).unwrap().messages.clear());
        }
    };
    clear(&cids);
    sync(&bench, &["--replace"]).assert_refused(65, &["their exports hold none", "--accept-empty"]);
    assert!(!bench.read().live_messages().is_empty());
    sync(&bench, &["--replace", "--accept-empty"]).assert_status(0, "committed");
    assert!(bench.read().live_messages().is_empty());
}

fn broken(lines: Vec<BadLine>) -> Bench {
    let bench = Bench::new(&small());
    let lines = lines.into_iter().map(|line| Insertion { at_line: 3, line }).collect();
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::BadLines { lines }));
    bench
}

#[test]
fn broken_lines_are_kept_in_quarantine_and_the_rest_is_committed() {
    let bench = broken(vec![
        BadLine::Text { text: r#"{"type":"message","data":{"id":"#.into() },
        BadLine::NotUtf8,
        BadLine::Deep { depth: 5_000 },
        BadLine::Text { text: "null".into() },
        BadLine::Text { text: r#"{"type":"invoice","data":{"id":"i-1","total":3}}"#.into() },
    ]);
    let summary = sync(&bench, &[]).assert_status(0, "committed");
    assert!(summary["rejected"].as_u64().unwrap() >= 3, "{summary}");
    assert_eq!(summary["unclassified"]["invoice"], 1, "{summary}");
    bench.assert_exact(RANGE[0], RANGE[1]);
    let rows = bench.rows("_quarantine");
    assert_eq!(rows.len(), 5, "{rows:#?}");
    assert!(rows.iter().any(|row| row.to_string().contains("i-1")), "{rows:#?}");
}

#[test]
fn too_many_broken_lines_commit_nothing() {
    let bench = broken(vec![BadLine::Text { text: "{".into() }; 11]);
    sync(&bench, &[]).assert_refused(65, &["11 of", "--max-rejected"]);
    assert_eq!(bench.read().messages.len(), 0);
    let bench = broken(vec![BadLine::Text { text: "{".into() }; 11]);
    let summary = sync(&bench, &["--max-rejected", "11"]).assert_status(0, "committed");
    assert_eq!(summary["rejected"], 11);
    bench.assert_exact(RANGE[0], RANGE[1]);
}

#[test]
fn a_format_that_is_not_recognised_never_becomes_an_empty_lake() {
    let bench = Bench::new(&small());
    for cid in bench.simulator.truth().channels {
        bench.simulator.world(|world| world.channel_mut(&cid).unwrap().messages.clear());
    }
    let ran = sync(&bench, &[]);
    ran.assert_refused(65, &["--accept-empty"]);
    assert_eq!(bench.read().messages.len(), 0);
    let lines = vec![Insertion { at_line: 0, line: BadLine::Text { text: r#"{"kind":"msg","payload":{}}"#.into() } }];
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::BadLines { lines }));
    // The exports are there: looking at them again costs nothing and shows the same. New ones are asked for explicitly.
    sync(&bench, &[]).assert_refused(65, &["--accept-empty"]);
    sync(&bench, &["--replace"]).assert_refused(65, &["not recognised"]);
    assert!(!fs::exists(std::path::Path::new(&bench.lake).join("messages")).unwrap());
    sync(&bench, &["--accept-empty"]).assert_status(0, "committed");
}

#[test]
fn filtering_by_updated_at_stops_and_replaces_nothing() {
    let bench = Bench::new(&small());
    sync(&bench, &[]).assert_status(0, "committed");
    let before = bench.read();
    bench.simulator.change_switches(|switches| switches.filter_by = FilterBy::UpdatedAt);
    let old = bench.simulator.truth().messages_in(at("2026-01-05"), at("2026-01-06")).next().unwrap().clone();
    bench.simulator.world(|world| world.edit(&old.id, "later", at("2026-01-06T13:00:00Z"))).unwrap();
    let ran = bench.sync("2026-01-06", "2026-01-07", &["--replace"]);
    ran.assert_refused(65, &["updated_at"]);
    let after = bench.read();
    assert_eq!(after.files, before.files);
    assert_eq!(after.messages.len(), before.messages.len());
}

#[test]
fn clocks_that_disagree_are_found_before_anything_is_asked() {
    let bench = Bench::new(&small());
    bench.simulator.change_switches(|switches| switches.date_skew_seconds = -600);
    sync(&bench, &[]).assert_refused(75, &["clock", "NTP"]);
    assert_eq!(bench.exports(), 0);
    assert!(!fs::exists(&bench.lake).unwrap());
}

#[test]
fn secrets_and_signed_urls_are_not_shown_however_much_is_said() {
    let bench = Bench::new(&two_days());
    bench.simulator.add_fault(Fault::status("Download", 500));
    bench.simulator.add_fault(Fault::on("Download", Effect::CutBody { after_bytes: 5_000 }));
    let ran = sync(&bench, &["-vv", "--log-format", "json"]);
    ran.assert_status(0, "committed");
    ran.assert_no_secret();
    for line in ran.stderr.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    for path in walk(std::path::Path::new(&bench.lake)) {
        let bytes = fs::read(&path).unwrap();
        for secret in [bench.simulator.secret(), "X-Amz-Signature"] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}", path.display());
        }
    }
    bench.simulator.add_fault(Fault::status("Download", 403).times(0));
    let ran = bench.sync(RANGE[0], RANGE[1], &["--replace", "-vv"]);
    assert_ne!(ran.code, 0);
    ran.assert_no_secret();
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
