//! Exports on disk.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use simulator::switches::{
    Address, Compression, CustomPlace, Envelope, ReactionForm, Switches, TimestampForm, UserForm, UserLines,
};
use simulator::{Size, World};

use crate::bench::{Bench, Place, Ran, at, seed};
use crate::columns::orders;
use crate::memory::assert_fits;
use crate::samples;
use crate::version_1::one_channel;

const DAYS: [&str; 2] = ["2026-01-05", "2026-01-08"];

fn small() -> Size {
    Size { channels: 9, users: 12, days: 3, messages_per_channel_day: 6, ..Size::default() }
}

fn bench(switches: Switches) -> Bench {
    Bench::with(World::seeded(seed(), &small()), switches, Place::Folder).unwrap()
}

/// What the app holds between two days, as an export has it.
pub fn export(bench: &Bench, version: &str, since: &str, until: &str) -> Vec<u8> {
    let options = json!({ "messages_since": at(since).to_string(), "messages_until": at(until).to_string() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(samples::export(&bench.simulator, version, options))
}

fn write(bench: &Bench, name: &str, bytes: &[u8]) -> String {
    let path: PathBuf = bench.folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_string_lossy().into_owned()
}

fn convert(bench: &Bench, arguments: &[&str]) -> Ran {
    let arguments: Vec<&str> = ["convert", "--json"].iter().chain(arguments).copied().collect();
    let calls = bench.simulator.calls().len();
    // No key, no secret: nobody is asked.
    let mut command = bench.command(&arguments);
    for name in ["STREAM_API_KEY", "STREAM_API_SECRET", "STREAM_BASE_URL"] {
        command.env_remove(name);
    }
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(bench.simulator.calls().len(), calls, "a conversion touches no network");
    ran
}

/// The rows of a dataset, but for where they came from.
fn rows(bench: &Bench, dataset: &str) -> Vec<String> {
    let mut rows: Vec<String> = bench
        .rows(dataset)
        .into_iter()
        .map(|mut row| {
            let columns = row.as_object_mut().unwrap();
            assert!(columns.remove("_exported_at").is_some_and(|at| !at.is_null()));
            assert!(columns.remove("_export_task_id").is_some_and(|id| !id.is_null()));
            row.to_string()
        })
        .collect();
    rows.sort();
    rows
}

fn log_entries(bench: &Bench) -> usize {
    std::fs::read_dir(PathBuf::from(&bench.lake).join("_chatlake/log")).unwrap().count()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn files_in_every_form_make_the_lake_that_a_sync_makes() {
    let of = |envelope| Switches { envelope, ..Switches::default() };
    let other = Switches {
        users: UserForm::Id,
        address: Address::TypeId,
        custom: CustomPlace::Nested,
        timestamps: TimestampForm::Nanoseconds,
        user_lines: UserLines::PerChannel,
        reactions: ReactionForm::Both,
        ..of(Envelope::TypeItem)
    };
    let compressed = Switches { compression: Compression::Gzip, ..of(Envelope::Mixed) };
    let lines = [of(Envelope::TypeData), of(Envelope::SingleKey), of(Envelope::Bare), of(Envelope::Element)];
    for switches in lines.into_iter().chain([other, compressed]) {
        let mut bench = bench(switches.clone());
        for version in ["v2", "v1"] {
            let sync = bench.folder.path().join(format!("sync-{version}"));
            bench.use_lake(&sync);
            bench.sync(DAYS[0], DAYS[1], &["--export-version", version]).assert_status(0, "committed");
            let expected = ["messages", "reactions"].map(|dataset| rows(&bench, dataset));
            bench.use_lake(&bench.folder.path().join(format!("convert-{version}")));
            let file = write(&bench, &format!("{version}.export"), &export(&bench, version, DAYS[0], DAYS[1]));
            let summary = convert(&bench, &[&file]).assert_status(0, "committed");
            assert_eq!(summary["cells"].as_array().unwrap().len(), 3, "{summary}");
            assert_eq!(summary["rejected"], 0);
            let found = ["messages", "reactions"].map(|dataset| rows(&bench, dataset));
            assert!(found == expected, "{version} {switches:?}");
            let contents = bench.read();
            contents.assert_one_file_each(&["messages", "reactions", "channels", "members", "users"]);
            assert_eq!(bench.run(&["verify", "--deep"]).code, 0);
        }
    }
}

#[test]
fn the_same_content_is_converted_once_however_it_comes() {
    let bench = bench(Switches::default());
    let plain = export(&bench, "v2", DAYS[0], DAYS[1]);
    let file = write(&bench, "plain.json", &plain);
    let packed = write(&bench, "packed.gz", &gzip(&plain));
    let zstd = write(&bench, "packed.zst", &zstd::encode_all(&plain[..], 3).unwrap());
    let summary = convert(&bench, &[&zstd, &packed, &file]).assert_status(0, "committed");
    assert_eq!(summary["files"]["named"], 1, "{summary}");
    bench.assert_exact(DAYS[0], DAYS[1]).assert_one_file_each(&["messages", "channels"]);
    let entries = log_entries(&bench);
    let status = bench.run(&["status"]).stdout;
    assert!(status.contains("made of files") && status.contains("2026-01-05"), "{status}");
    for files in [&[file.as_str()][..], &[&packed, &zstd], &["packed.*"], &["p*.[jg]*"]] {
        let summary = convert(&bench, files).assert_status(0, "already_committed");
        assert_eq!(summary["cells"].as_array().unwrap().len(), 3, "{summary}");
    }
    let mut command = bench.command(&["convert", "--json", "-"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let bytes = gzip(&plain);
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    Ran::from(process.wait_with_output().unwrap()).assert_status(0, "already_committed");
    writer.join().unwrap();
    assert_eq!(log_entries(&bench), entries);
    // Read again on demand, it is found to be the same.
    let summary = convert(&bench, &[&file, "--replace"]).assert_status(0, "committed");
    assert!(summary["cells"].as_array().unwrap().iter().all(|cell| cell["status"] == "unchanged"), "{summary}");
    bench.assert_exact(DAYS[0], DAYS[1]).assert_one_file_each(&["messages", "reactions"]);
}

#[test]
fn stdin_is_converted_as_a_file_is() {
    let bench = bench(Switches::default());
    let file = write(&bench, "export.zst", &zstd::encode_all(&export(&bench, "v1", DAYS[0], DAYS[1])[..], 3).unwrap());
    let stdin = std::fs::File::open(&file).unwrap();
    let ran = Ran::from(bench.command(&["convert", "--json", "-"]).stdin(stdin).output().unwrap());
    ran.assert_status(0, "committed");
    bench.assert_exact(DAYS[0], DAYS[1]);
    convert(&bench, &[&file]).assert_status(0, "already_committed");
}

#[test]
fn files_of_the_same_days_are_merged_and_the_later_version_of_a_message_wins() {
    let mut bench = bench(Switches::default());
    let early = export(&bench, "v2", "2026-01-05", "2026-01-07");
    let truth = bench.simulator.truth();
    let mut ids = truth.messages_in(at("2026-01-06"), at("2026-01-07")).map(|message| message.id.clone());
    let (edited, deleted) = (ids.next().unwrap(), ids.next().unwrap());
    let now = bench.simulator.now();
    bench.simulator.world(|world| {
        world.edit(&edited, "as it was meant", now).unwrap();
        world.hard_delete(&deleted).unwrap();
    });
    let late = export(&bench, "v1", "2026-01-06", "2026-01-08");
    let (early, late) = (write(&bench, "early.json", &early), write(&bench, "late.json", &late));
    let mut outcomes = Vec::new();
    for (round, order) in [[&early, &late], [&late, &early]].into_iter().enumerate() {
        bench.use_lake(&bench.folder.path().join(format!("lake-{round}")));
        for file in order {
            convert(&bench, &[file]).assert_status(0, "committed");
        }
        for file in order {
            convert(&bench, &[file]).assert_status(0, "already_committed");
        }
        outcomes.push(["messages", "reactions"].map(|dataset| rows(&bench, dataset)));
        let contents = bench.read();
        contents.assert_one_file_each(&["messages", "reactions"]);
        assert!(contents.messages.iter().all(|message| !message.vanished));
        let text = |id: &str| contents.messages.iter().find(|message| message.id == id).unwrap().text.clone().unwrap();
        assert_eq!(text(&edited), "as it was meant");
        assert_ne!(text(&deleted), "", "what a later file does not have stays");
        assert_eq!(bench.run(&["verify", "--deep"]).code, 0);
    }
    bench.use_lake(&bench.folder.path().join("both"));
    convert(&bench, &[&early, &late]).assert_status(0, "committed");
    outcomes.push(["messages", "reactions"].map(|dataset| rows(&bench, dataset)));
    assert!(outcomes[0] == outcomes[1] && outcomes[1] == outcomes[2], "the order of files decides nothing");
}

#[test]
fn a_declared_range_is_covered_and_sync_asks_only_for_what_is_around_it() {
    let mut bench = bench(Switches::default());
    let file = write(&bench, "middle.json", &export(&bench, "v1", DAYS[0], DAYS[1]));
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    convert(&bench, &[&file]).assert_refused(2, &["kept by `sync`", "--since"]);
    let declared = [file.as_str(), "--since", "2026-01-06", "--until", "2026-01-07"];
    convert(&bench, &[&declared[..], &["--app-key", "other"]].concat()).assert_refused(2, &["app_key"]);
    let overlapping = [file.as_str(), "--since", "2026-01-05", "--until", "2026-01-07"];
    convert(&bench, &overlapping).assert_refused(2, &["covered already", "--replace"]);
    let early = [&declared[..], &["--exported-at", "2026-01-06T12:00:00Z"]].concat();
    convert(&bench, &early).assert_refused(2, &["the range ends at", "--until"]);
    let summary = convert(&bench, &declared).assert_status(0, "committed");
    assert!(summary["files"]["left_out"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["cells"].as_array().unwrap().len(), 1);
    convert(&bench, &declared).assert_status(0, "already_committed");
    bench.assert_exact("2026-01-05", "2026-01-07");
    bench.set_time(at("2026-01-08T00:30:00Z"));
    let exports = bench.exports();
    let summary = bench.run(&["sync", "--json", "--start", "2026-01-05", "--revisit", "none"]).summary();
    assert_eq!(summary["frontier"], "2026-01-08T00:00:00Z");
    assert_eq!(bench.exports(), exports + 1, "the day after, in one request");
    bench.assert_exact(DAYS[0], DAYS[1]).assert_one_file_each(&["messages", "reactions"]);
    assert_eq!(bench.run(&["verify", "--deep"]).code, 0);
}

#[test]
fn a_declared_range_replaces_older_cells_as_an_export_would() {
    let bench = bench(Switches::default());
    bench.sync(DAYS[0], DAYS[1], &[]).assert_status(0, "committed");
    let truth = bench.simulator.truth();
    let mut ids = truth.messages_in(at("2026-01-06"), at("2026-01-07")).map(|message| message.id.clone());
    let (edited, deleted) = (ids.next().unwrap(), ids.next().unwrap());
    let old = write(&bench, "old.json", &export(&bench, "v2", DAYS[0], DAYS[1]));
    let now = bench.simulator.now();
    bench.simulator.world(|world| {
        world.edit(&edited, "as it was meant", now).unwrap();
        world.hard_delete(&deleted).unwrap();
    });
    let new = write(&bench, "new.json", &export(&bench, "v2", DAYS[0], DAYS[1]));
    let range = ["--since", "2026-01-05", "--until", "2026-01-08", "--replace"];
    let long_ago = [&[old.as_str(), "--exported-at", "2026-01-09"][..], &range].concat();
    convert(&bench, &long_ago).assert_refused(2, &["older rows must not replace newer ones"]);
    let summary = convert(&bench, &[&[new.as_str()][..], &range].concat()).assert_status(0, "committed");
    assert!(summary["vanished"].as_u64().unwrap() > 0, "{summary}");
    let contents = bench.assert_exact(DAYS[0], DAYS[1]);
    assert!(contents.messages.iter().any(|message| message.id == deleted && message.vanished));
}

#[test]
fn what_is_no_export_or_is_cut_is_refused_and_nothing_is_committed() {
    let bench = bench(Switches::default());
    let lines = export(&bench, "v2", DAYS[0], DAYS[1]);
    let array = export(&bench, "v1", DAYS[0], DAYS[1]);
    let good = write(&bench, "good.json", &lines);
    let zstd = zstd::encode_all(&lines[..], 3).unwrap();
    for (name, bytes, parts) in [
        ("page.html", b"<!doctype html><html>sorry</html>".to_vec(), &["page.html looks like an HTML page"][..]),
        ("cut.json", lines[..lines.len() - 20].to_vec(), &["cut.json is not whole", "in the middle of line"]),
        ("cut-array.json", array[..array.len() - 20].to_vec(), &["cut-array.json is not whole", "element"]),
        ("cut.gz", gzip(&lines)[..200].to_vec(), &["cut.gz is not whole", "decompressed"]),
        ("cut.zst", zstd[..zstd.len() - 9].to_vec(), &["cut.zst is not whole", "decompressed"]),
        ("other.csv", b"id,text\n1,2\n".repeat(40), &["not recognised", "line 1 of", "other.csv: not_json"]),
        ("strange.json", b"{\"type\":\"invoice\",\"data\":{}}\n".to_vec(), &["not recognised", "--accept-empty"]),
        ("nothing.json", Vec::new(), &["hold no message", "--accept-empty"]),
    ] {
        let file = write(&bench, name, &bytes);
        let ran = convert(&bench, &[&file]);
        ran.assert_refused(65, parts);
        assert!(!ran.stderr.contains("Stream") && !ran.stderr.contains("same exports"), "{}", ran.stderr);
        assert!(bench.read().messages.is_empty(), "{name}");
    }
    for name in ["page.html", "cut.json", "cut-array.json"] {
        convert(&bench, &[&good, name]).assert_refused(65, &[name]);
    }
    convert(&bench, &["nothing.json", "--accept-empty"]).assert_status(0, "nothing_to_do");
    convert(&bench, &["*.xml"]).assert_refused(2, &["no file matches *.xml"]);
    convert(&bench, &["gone.json"]).assert_refused(2, &["there is no file gone.json"]);
    assert_eq!(convert(&bench, &[]).code, 2);
    assert!(bench.read().messages.is_empty());
    convert(&bench, &[&good, "--since", "2026-01-05", "--until", "2026-01-08"]).assert_refused(2, &["--since"]);
    let bad = [&lines[..], b"{\"type\":\"message\",\"data\":{}}\nno json\n"].concat();
    let bad = write(&bench, "bad.json", &bad);
    convert(&bench, &[&bad, "--max-rejected", "1"]).assert_refused(65, &["2 of", "bad.json: missing_field"]);
    let summary = convert(&bench, &[&bad, "--keep-raw"]).assert_status(0, "committed");
    assert_eq!(summary["rejected"], 2);
    assert!(bench.rows("messages").iter().all(|row| row["raw"].is_string()));
    bench.assert_exact(DAYS[0], DAYS[1]);
    bench.sync(DAYS[0], DAYS[1], &[]).assert_refused(2, &["`source` is \"files\""]);
}

#[test]
fn keys_are_promoted_and_left_out_as_in_a_sync() {
    let bench = bench(Switches::default());
    let file = write(&bench, "export.json", &export(&bench, "v2", DAYS[0], DAYS[1]));
    let config = write(&bench, "chatlake.toml", b"[exclude]\nmessages = [\"html\"]\n");
    convert(&bench, &[&file, "--config", &config, "--partition-by", "event_date,channel_type"])
        .assert_status(0, "committed");
    assert!(bench.rows("messages").iter().all(|row| row.get("html").is_none_or(Value::is_null)));
    let contents = bench.read();
    assert!(contents.files["messages"].keys().all(|partition| partition.contains("channel_type=")));
    let again = [file.as_str(), "--partition-by", "event_date"];
    convert(&bench, &again).assert_refused(2, &["partition_by"]);
    convert(&bench, &[&file]).assert_status(0, "already_committed");
}

#[test]
fn promoted_keys_are_columns_and_excluded_ones_are_nowhere() {
    let mut bench = Bench::with(orders(), Switches::default(), Place::Folder).unwrap();
    let files = ["v2", "v1"].map(|version| {
        let file = write(&bench, &format!("{version}.json"), &export(&bench, version, DAYS[0], DAYS[1]));
        (version, file)
    });
    let config = "[promote.messages]\norder_id = \"int64\"\namount = { type = \"float64\", path = \"order.amount\" }\n\
                  [exclude]\nmessages = [\"text\", \"custom.order.lines\"]\n";
    let config = write(&bench, "chatlake.toml", config.as_bytes());
    for (version, file) in files {
        bench.use_lake(&bench.folder.path().join(format!("lake-{version}")));
        convert(&bench, &[&file, "--config", &config, "--keep-raw"]).assert_status(0, "committed");
        let rows = bench.rows("messages");
        assert!(rows.len() > 50);
        for row in &rows {
            let (order_id, amount) = (row["order_id"].as_i64().unwrap(), row["amount"].as_f64().unwrap());
            assert!((amount - 0.5 - order_id as f64).abs() < 1e-9, "{row}");
            assert!(row.get("text").is_none(), "{row}");
            let raw: Value = serde_json::from_str(row["raw"].as_str().unwrap()).unwrap();
            let message = if raw["data"].is_object() { &raw["data"] } else { &raw };
            assert!(message["id"].is_string() && message["text"].is_null(), "{raw}");
            assert!(!format!("{}{raw}", row["custom"]).contains("\"lines\""), "{row}");
        }
        // Another file of that lake is converted alike without being told so, but for what is promoted.
        convert(&bench, &[&file]).assert_status(0, "already_committed");
        assert_eq!(bench.run(&["verify", "--deep"]).code, 0);
    }
}

#[test]
fn a_damaged_day_is_made_again_from_its_files() {
    let bench = bench(Switches::default());
    let first = write(&bench, "first.json", &export(&bench, "v2", "2026-01-05", "2026-01-07"));
    let second = write(&bench, "second.json", &export(&bench, "v2", "2026-01-06", "2026-01-08"));
    convert(&bench, &[&first]).assert_status(0, "committed");
    let day = PathBuf::from(&bench.lake).join("messages/event_date=2026-01-06");
    let file = std::fs::read_dir(day).unwrap().next().unwrap().unwrap().path();
    std::fs::write(file, "damaged").unwrap();
    convert(&bench, &[&second]).assert_refused(65, &["--replace"]);
    convert(&bench, &[&first, &second, "--replace"]).assert_status(0, "committed");
    bench.assert_exact(DAYS[0], DAYS[1]).assert_one_file_each(&["messages", "reactions"]);
    assert_eq!(bench.run(&["verify", "--deep"]).code, 0);
}

#[test]
fn memory_does_not_follow_the_files() {
    let bench = Bench::with(one_channel(120_000), Switches::default(), Place::Folder).unwrap();
    let array = export(&bench, "v1", "2026-01-05", "2026-01-06");
    let lines = export(&bench, "v2", "2026-01-05", "2026-01-06");
    write(&bench, "array.zst", &zstd::encode_all(&array[..], 3).unwrap());
    write(&bench, "lines.gz", &gzip(&lines));
    let mebibytes = (array.len() + lines.len()) >> 20;
    println!("{mebibytes} MiB of exports");
    let files = ["convert", "--json", "array.zst", "lines.gz"];
    assert_fits(&bench, &files, 96).assert_status(0, "committed");
    assert_fits(&bench, &[&files[..], &["--replace"]].concat(), 96).assert_status(0, "committed");
    assert_eq!(bench.read().messages.len(), 120_000);
}

#[test]
fn a_declared_range_holds_what_the_lake_selects() {
    let bench = bench(Switches::default());
    let file = write(&bench, "all.json", &export(&bench, "v2", DAYS[0], DAYS[1]));
    bench.sync("2026-01-05", "2026-01-06", &["--channel-type", "team"]).assert_status(0, "committed");
    let declared = [file.as_str(), "--since", "2026-01-06", "--until", "2026-01-08"];
    convert(&bench, &declared).assert_refused(65, &["does not select", "`team`"]);
}

#[cfg(debug_assertions)]
#[test]
fn a_conversion_that_dies_is_done_by_the_next_one() {
    let mut bench = bench(Switches::default());
    let first = write(&bench, "first.json", &export(&bench, "v2", "2026-01-05", "2026-01-07"));
    let second = write(&bench, "second.json", &export(&bench, "v1", "2026-01-06", "2026-01-08"));
    let points = ["put-identity:after#1", "put-entry:before#1", "put-entry:after#1", "rename-data:before#1"];
    let mut died = 0;
    for (round, point) in points.into_iter().chain(["rename-data:after#3", "delete-data:before#1"]).enumerate() {
        for merges in [false, true] {
            bench.use_lake(&bench.folder.path().join(format!("lake-{round}-{merges}")));
            if merges {
                convert(&bench, &[&first]).assert_status(0, "committed");
            }
            bench.set("CHATLAKE_CRASH_AT", point);
            died += usize::from(convert(&bench, &[&first, &second]).signal == Some(6));
            bench.set("CHATLAKE_CRASH_AT", "");
            let ran = convert(&bench, &[&second, &first]);
            assert_eq!(ran.code, 0, "{point}: {ran:#?}");
            bench.assert_exact(DAYS[0], DAYS[1]).assert_one_file_each(&["messages", "reactions"]);
            convert(&bench, &[&second, &first]).assert_status(0, "already_committed");
        }
    }
    assert!(died >= 6, "{died} deaths");
}

#[test]
fn conversions_at_once_lose_nothing() {
    let bench = bench(Switches::default());
    let files =
        [("2026-01-05", "2026-01-07"), ("2026-01-06", "2026-01-08"), ("2026-01-05", "2026-01-06"), (DAYS[0], DAYS[1])];
    let files = files.map(|(since, until)| {
        let file = write(&bench, &format!("{since}-{until}.json"), &export(&bench, "v2", since, until));
        std::thread::sleep(Duration::from_millis(1));
        file
    });
    let runs = files.each_ref().map(|file| bench.start(&["convert", "--json", "-v", file]));
    let ran = runs.map(|run| Ran::from(run.wait_with_output().unwrap()));
    let overtaken = ran.iter().map(|ran| ran.stderr.matches("reading the lake's days again").count()).sum::<usize>();
    println!("overtaken {overtaken} times");
    assert!(ran.iter().all(|ran| ran.code == 0), "whoever was overtaken reads the days again: {ran:#?}");
    bench.assert_exact(DAYS[0], DAYS[1]);
    let all: Vec<&str> = files.iter().map(String::as_str).collect();
    convert(&bench, &all).assert_status(0, "already_committed");
    bench.assert_exact(DAYS[0], DAYS[1]).assert_one_file_each(&["messages", "reactions"]);
}
