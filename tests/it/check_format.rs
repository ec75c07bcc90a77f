//! What this app's exports look like: `check --export`, against every form that the simulator has.

use std::collections::BTreeSet;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};
use simulator::switches::{
    Address, Bound, Compression, CustomPlace, Envelope, FilterBy, KindNames, RangeSupport, ReactionForm, Switches,
    TimestampForm, UserForm, UserLines,
};
use simulator::{Effect, Fault, Size, Truth, World};

use crate::bench::{Bench, Place, at, hours, two_days};

const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

fn bench(switches: Switches) -> Bench {
    Bench::with(World::seeded(7, &Size { channels: 12, ..two_days() }), switches, Place::Folder).unwrap()
}

/// The channel with the most messages that have reactions.
fn busiest(truth: &Truth) -> String {
    let count = |cid: &&String| {
        let reactions = truth.reactions.iter().filter(|reaction| {
            truth.messages.iter().any(|message| message.id == reaction.message_id && message.cid == **cid)
        });
        (reactions.count(), (*cid).clone())
    };
    truth.channels.iter().max_by_key(count).unwrap().clone()
}

/// The report on that channel, which shows nothing that is somebody's.
#[track_caller]
fn report(bench: &Bench, more: &[&str]) -> Value {
    let truth = bench.simulator.truth();
    let cid = busiest(&truth);
    let range = ["check", "--export", &cid, "--since", RANGE[0], "--until", RANGE[1], "-q"];
    let text = bench.run(&[&range[..], more].concat());
    let json = bench.run(&[&range[..], &["--json"], more].concat());
    assert_eq!((text.code, json.code), (0, 0), "{text:#?}{json:#?}");
    for ran in [&text, &json] {
        ran.assert_no_secret();
        let messages = truth.messages.iter().flat_map(|message| [&message.id, &message.text]);
        let users = truth.messages.iter().filter_map(|message| message.user_id.as_ref());
        for value in messages.chain(users).chain([&cid]).filter(|value| value.len() > 4) {
            assert!(!ran.stdout.contains(value.as_str()), "`{value}` is shown in {}", ran.stdout);
        }
    }
    assert!(!Path::new(&bench.lake).exists(), "nothing is written");
    json.summary()
}

fn keys(counts: &Value) -> Vec<&str> {
    counts.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_report_to_paste() {
    let bench = bench(Switches { reactions: ReactionForm::Both, ..Switches::default() });
    let cid = busiest(&bench.simulator.truth());
    let range = ["check", "--export", &cid, "--since", RANGE[0], "--until", RANGE[1], "-q"];
    assert_snapshot!("check_export", bench.run(&range).stdout);
    let json = serde_json::to_string_pretty(&report(&bench, &[])).unwrap();
    assert_snapshot!("check_export_json", json);
}

/// Every text that is a value somewhere in it.
fn texts(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(found.insert(text.clone())),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(object) => object.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

#[test]
fn no_value_of_any_export_is_shown() {
    // What lines say they are, and what the report itself says.
    const WORDS: [&str; 7] =
        ["message", "channel", "reaction", "user", "channel_member", "file", "2026-01-05T00:00:00Z"];
    let is_word = |value: &str| {
        let mut columns = chatlake::schema::all().iter().flat_map(|schema| &schema.columns);
        WORDS.contains(&value) || columns.any(|column| column.name == value)
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for envelope in [Envelope::TypeData, Envelope::Bare, Envelope::Element] {
        let bench = bench(Switches { envelope, reactions: ReactionForm::Both, ..Switches::default() });
        let mut values = BTreeSet::new();
        let file = runtime.block_on(crate::samples::export(&bench.simulator, "v2", serde_json::json!({})));
        for line in file.split(|byte| *byte == b'\n') {
            texts(&serde_json::from_slice(line).unwrap_or_default(), &mut values);
        }
        values.retain(|value| value.len() > 3 && !is_word(value));
        assert!(values.len() > 500, "{}", values.len());
        for cid in bench.simulator.truth().channels.iter().step_by(3) {
            let ran = bench.run(&["check", "-q", "--export", cid, "--since", RANGE[0], "--until", RANGE[1]]);
            let words: BTreeSet<&str> =
                ran.stdout.split(|c: char| !(c.is_alphanumeric() || "_-:.".contains(c))).collect();
            let is_shown = |value: &&String| {
                let is_one_word = value.chars().all(char::is_alphanumeric);
                words.contains(value.as_str()) || (!is_one_word && ran.stdout.contains(value.as_str()))
            };
            let shown: Vec<_> = values.iter().filter(is_shown).collect();
            assert_eq!((ran.code, &shown), (0, &vec![]), "{}", ran.stdout);
        }
    }
}

#[test]
fn envelopes_and_names_are_told() {
    for (envelope, expected) in [
        (Envelope::TypeData, &["{data, type}"][..]),
        (Envelope::TypeItem, &["{item, type}"]),
        (Envelope::SingleKey, &["{<kind>: ...}"]),
        (Envelope::Bare, &["{...}, no envelope"]),
        (Envelope::Element, &["{channel, members, messages}"]),
        (Envelope::Mixed, &["{...}, no envelope", "{<kind>: ...}", "{data, type}", "{item, type}"]),
    ] {
        let found = report(&bench(Switches { envelope, ..Switches::default() }), &[]);
        assert_eq!(keys(&found["envelopes"]), expected, "{found}");
        let kinds = &found["kinds"];
        assert!(kinds["messages"].as_u64() > Some(5) && kinds["channels"] == 1, "{found}");
        assert_eq!((&found["rejected"], &found["unknown_kinds"]), (&json!({}), &json!({})));
    }
    for (kind_names, names) in [
        (KindNames::Singular, ["channel", "channel_member", "message"]),
        (KindNames::Member, ["channel", "member", "message"]),
        (KindNames::Plural, ["channels", "members", "messages"]),
    ] {
        let found = report(&bench(Switches { kind_names, ..Switches::default() }), &[]);
        assert_eq!(keys(&found["names"]), names, "{found}");
    }
}

#[test]
fn version_1_is_told_by_its_parts() {
    let found = report(&bench(Switches::default()), &["--export-version", "v1"]);
    assert_eq!(found["version"], "v1");
    assert_eq!(keys(&found["names"]), ["channel", "members", "messages"]);
    assert!(found["kinds"]["messages"].as_u64() > Some(5), "{found}");
    assert_eq!(found["custom"]["convention"], "inlined");
    assert_eq!((&found["bounds"]["since"], &found["bounds"]["until"]), (&json!("inclusive"), &json!("inclusive")));
}

#[test]
fn custom_data_users_channels_and_times_are_told() {
    for (custom, convention) in
        [(CustomPlace::Inlined, "inlined"), (CustomPlace::Nested, "nested"), (CustomPlace::Both, "both")]
    {
        let found = report(&bench(Switches { custom, ..Switches::default() }), &[]);
        assert_eq!(found["custom"]["convention"], convention, "{found}");
        assert!(!keys(&found["datasets"]["messages"]["keys_without_column"]).is_empty(), "{found}");
    }
    for (users, address, expected, channels) in [
        (UserForm::Object, Address::Cid, "objects in user", "cid"),
        (UserForm::Id, Address::TypeId, "ids in user", "channel_type and channel_id"),
    ] {
        let found = report(&bench(Switches { users, address, ..Switches::default() }), &[]);
        assert!(found["users"][expected].as_u64() > Some(5), "{found}");
        assert_eq!(keys(&found["addresses"]), [channels], "{found}");
    }
    let found = report(&bench(Switches { timestamps: TimestampForm::Nanoseconds, ..Switches::default() }), &[]);
    assert_eq!(keys(&found["timestamps"]), ["whole number of 19 digits"]);
    let found = report(&bench(Switches::default()), &[]);
    assert!(keys(&found["timestamps"]).iter().all(|form| form.starts_with("RFC 3339 with Z and ")), "{found}");
    let lines = Switches { user_lines: UserLines::Once, reactions: ReactionForm::Both, ..Switches::default() };
    let found = report(&bench(lines), &[]);
    assert!(found["kinds"]["users"].as_u64() > Some(0) && found["reactions"]["lines"].as_u64() > Some(0), "{found}");
}

#[test]
fn how_files_are_served_is_told() {
    for (compression, stored, encoding) in [
        (Compression::None, "none", Value::Null),
        (Compression::Gzip, "gzip", Value::Null),
        (Compression::ContentEncoding, "gzip", json!("gzip")),
    ] {
        let found = report(&bench(Switches { compression, ..Switches::default() }), &[]);
        assert_eq!((&found["compression"], &found["served"]["content_encoding"]), (&json!(stored), &encoding));
        assert_eq!(found["served"]["content_length"], found["bytes"]);
    }
    let bare = Switches { range: RangeSupport::Ignored, etag: false, content_length: false, ..Switches::default() };
    let served = report(&bench(bare), &[])["served"].take();
    assert_eq!((&served["range"], &served["etag"]), (&json!("ignored"), &json!("none")));
    assert_eq!(served["content_length"], Value::Null);
    let served = report(&bench(Switches::default()), &[])["served"].take();
    assert_eq!((&served["range"], &served["etag"]), (&json!("honoured"), &json!("strong")));
}

#[test]
fn bounds_are_told_by_messages_that_stand_on_them() {
    let word = |bound| if bound == Bound::Closed { "inclusive" } else { "exclusive" };
    for since_bound in [Bound::Closed, Bound::Open] {
        for until_bound in [Bound::Closed, Bound::Open] {
            for filter_by in [FilterBy::CreatedAt, FilterBy::UpdatedAt] {
                let bench = bench(Switches { since_bound, until_bound, ..Switches::default() });
                bench.simulator.change_switches(|switches| switches.filter_by = filter_by);
                let cid = busiest(&bench.simulator.truth());
                let ran = bench.run(&["check", "--json", "--export", &cid]);
                let bounds = ran.summary()["bounds"].take();
                assert_eq!(bounds, json!({ "since": word(since_bound), "until": word(until_bound) }));
                assert_eq!(bench.exports(), 2);
            }
        }
    }
}

#[test]
fn what_stream_selects_by_is_told_where_a_message_shows_it() {
    for (filter_by, code, time) in [(FilterBy::CreatedAt, 0, "created_at"), (FilterBy::UpdatedAt, 65, "updated_at")] {
        let bench = bench(Switches { filter_by, ..Switches::default() });
        let truth = bench.simulator.truth();
        let cid = busiest(&truth);
        let mut of_channel = truth.messages.iter().filter(|message| message.cid == cid);
        let first = of_channel.find(|message| message.created_at < at("2026-01-06")).unwrap().id.clone();
        let second = of_channel.find(|message| message.created_at > at("2026-01-06")).unwrap().id.clone();
        let later = at("2026-01-06") + hours(5);
        bench.simulator.world(|world| world.edit(&first, "changed", later)).unwrap();
        bench.simulator.world(|world| world.edit(&second, "changed", later + hours(48))).unwrap();
        let day = ["--since", "2026-01-06", "--until", "2026-01-07"];
        let ran = bench.run(&[&["check", "--json", "--export", cid.as_str()], &day[..]].concat());
        assert_eq!(ran.code, code, "{ran:#?}");
        assert_eq!(ran.summary()["selects_by"]["time"], time, "{}", ran.stdout);
    }
}

#[test]
fn without_a_range_the_last_day_with_messages_is_exported() {
    let bench = bench(Switches::default());
    let truth = bench.simulator.truth();
    let cid = busiest(&truth);
    let last = truth.messages.iter().filter(|message| message.cid == cid).map(|message| message.created_at).max();
    let found = bench.run(&["check", "--json", "--export", &cid]).summary();
    let day = chatlake::window::Window::day_of(last.unwrap());
    assert_eq!((&found["since"], &found["until"]), (&json!(day.since), &json!(day.until)));
    assert!(found["kinds"]["messages"].as_u64() > Some(0), "{found}");
}

#[test]
fn what_cannot_be_exported_says_why() {
    let bench = bench(Switches::default());
    let cid = busiest(&bench.simulator.truth());
    bench.run(&["check", "--export", "general"]).assert_refused(2, &["`general` is no channel", "type:id"]);
    bench.run(&["check", "--export", "messaging:nobody"]).assert_refused(2, &["lists no channel", "--since"]);
    let range = ["--since", RANGE[0], "--until", RANGE[1]];
    let on = |cid: &str| bench.run(&[&["check", "--export", cid], &range[..]].concat());
    on("messaging:nobody").assert_refused(2, &["does not know channel"]);
    bench.run(&["check", "--since", RANGE[0], "--until", RANGE[1]]).assert_refused(2, &["--export"]);
    bench.run(&["check", "--export", &cid, "--since", RANGE[1], "--until", RANGE[0]]).assert_refused(2, &["--since"]);
    let quiet = ["--since", "2020-01-01", "--until", "2020-01-02"];
    let ran = bench.run(&[&["check", "--export", cid.as_str()], &quiet[..]].concat());
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.stdout.contains("not told: it takes two messages"), "{}", ran.stdout);
    bench.simulator.add_fault(Fault::status("ExportChannels", 403));
    on(&cid).assert_refused(77, &["server-side exports"]);
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::FailTask { description: "no".into() }));
    on(&cid).assert_refused(69, &["Stream failed export task"]);
    let page = "<!DOCTYPE html><title>Sign in, Ada</title>".to_owned();
    let page = Effect::Status { status: 200, code: None, body: Some(page), headers: Default::default() };
    bench.simulator.add_fault(Fault::on("Download", page).times(0));
    let ran = on(&cid);
    ran.assert_refused(65, &["looks like an HTML page", "proxy"]);
    assert!(!ran.stderr.contains("Ada"), "{}", ran.stderr);
}

#[test]
fn a_form_that_is_not_known_is_reported_by_its_keys() {
    let bench = bench(Switches::default());
    let cid = busiest(&bench.simulator.truth());
    let lines = "{\"what\":\"message\",\"body\":{\"text\":\"hello\"}}\n".repeat(3);
    let answer = Effect::Status { status: 200, code: None, body: Some(lines), headers: Default::default() };
    bench.simulator.add_fault(Fault::on("Download", answer).times(0));
    let ran = bench.run(&["check", "--export", &cid]);
    ran.assert_refused(65, &["form that is not known"]);
    assert!(ran.stdout.contains("3 unknown: {body, what}"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("hello"), "{}", ran.stdout);
}
