//! `verify`: a healthy lake passes, each kind of damage is found and named.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use simulator::World;
use simulator::switches::Switches;

use crate::bench::{Bench, Place, Ran, at, seed, two_days};
use crate::inspect::{RANGE, data_files, fill, json_of, lake, small, walk};

/// A copy of the lake that may be damaged.
struct Copy<'a> {
    bench: &'a Bench,
    lake: PathBuf,
}

impl<'a> Copy<'a> {
    fn of(bench: &'a Bench, name: &str) -> Self {
        let lake = bench.folder.path().join(name);
        for path in walk(Path::new(&bench.lake)) {
            let to = lake.join(path.strip_prefix(&bench.lake).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&path, to).unwrap();
        }
        Self { bench, lake }
    }

    fn verify(&self, more: &[&str]) -> Ran {
        self.bench.run(&[&["verify", "--json", "--lake", &self.lake.to_string_lossy()], more].concat())
    }

    /// It is found, and this is said about this object, and nothing else.
    #[track_caller]
    fn assert_found(&self, more: &[&str], key: &str, what: &str) {
        let report = json_of(&self.verify(more), 65);
        let found = report["differences"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{report:#}");
        let text = |name: &str| found[0][name].as_str().unwrap();
        assert!(text("key").contains(key), "`{key}`: {report:#}");
        assert!(text("what").contains(what), "`{what}`: {report:#}");
        assert!(!text("next").is_empty());
    }

    fn path(&self, key: &str) -> PathBuf {
        self.lake.join(key)
    }

    fn message_file(&self) -> PathBuf {
        data_files(&self.lake, "messages").remove(0)
    }
}

/// The entry of this number, to be changed.
fn change_entry(lake: &Path, number: u64, change: impl FnOnce(&mut Value)) {
    let path = lake.join(format!("_chatlake/log/{number:020}.json"));
    let mut entry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut entry);
    fs::write(path, serde_json::to_vec(&entry).unwrap()).unwrap();
}

#[test]
fn a_healthy_lake_verifies_clean_wherever_it_is() {
    for place in [Place::Folder, Place::S3] {
        let world = World::seeded(seed(), &two_days());
        let Some(bench) = Bench::with(world, Switches::default(), place) else { continue };
        fill(&bench);
        let report = json_of(&bench.run(&["verify", "--json"]), 0);
        assert_eq!(report["differences"], json!([]), "{report}");
        assert_eq!((&report["entries"], &report["cells"]), (&json!(2), &json!(2)));
        let report = json_of(&bench.run(&["verify", "--json", "--deep", "--against-stream", "30", "--seed", "7"]), 0);
        assert_eq!(report["deep"]["rows"], report["rows"], "{report}");
        let compared = &report["against_stream"];
        assert_eq!(compared["seed"], 7);
        assert_eq!(compared["channel_days"], 30, "{report}");
        assert!(compared["messages"].as_u64().unwrap() > 30, "{report}");
        for none in ["lost", "wrong", "gone", "changed", "not_exported"] {
            assert_eq!(compared[none], 0, "{none}: {report}");
        }
        let ran = bench.run(&["verify", "--deep"]);
        assert!(ran.stdout.contains("nothing differs"), "{ran:#?}");
        assert_eq!(bench.run(&["gc", "--json"]).summary()["objects"], json!([]));
        assert_eq!(bench.run(&["gc", "--json", "--delete"]).summary()["objects"], json!([]));
    }
}

#[test]
fn a_lake_by_channel_type_and_hour_verifies_clean() {
    let bench = Bench::new(&small());
    let more = ["--partition-by", "event_date,channel_type", "--window", "6h"];
    bench.sync(RANGE[0], RANGE[1], &more).assert_status(0, "committed");
    let report = json_of(&bench.run(&["verify", "--json", "--deep", "--against-stream", "10"]), 0);
    assert_eq!(report["cells"], 8);
    assert_eq!(report["differences"], json!([]));
}

#[test]
fn partitions_of_snapshots_may_be_dropped_whole_and_not_in_part() {
    let bench = lake();
    // Whether the files of the last entry were ever there cannot be told by looking. The next run does not undo it for them.
    let early = Copy::of(&bench, "early");
    data_files(&early.lake, "users").iter().for_each(|path| fs::remove_file(path).unwrap());
    early.verify(&[]).assert_refused(65, &["users/snapshot_date=", "is gone"]);
    let place = early.lake.to_string_lossy();
    let messages = || bench.run(&["files", "--dataset", "messages", "--lake", &place]).stdout;
    let before = messages();
    let ran = bench.sync("2026-01-21", "2026-01-22", &["--lake", &place]);
    ran.assert_status(0, "committed");
    assert!(ran.stderr.contains("committed files are gone"), "{}", ran.stderr);
    assert_eq!((messages(), before.lines().count()), (before.clone(), 2));
    bench.sync("2026-01-20", "2026-01-21", &[]).assert_status(0, "committed");
    let lake = Copy::of(&bench, "retention");
    let users = data_files(&lake.lake, "users");
    assert_eq!(users.len(), 2, "a file for each export");
    fs::remove_file(&users[0]).unwrap();
    lake.assert_found(&[], "users/snapshot_date=", "is gone");
    fs::remove_file(&users[1]).unwrap();
    let report = json_of(&lake.verify(&["--deep"]), 0);
    assert_eq!(report["expired_files"], 2);
    let ran = bench.run(&["files", "--lake", &lake.lake.to_string_lossy()]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(!ran.stdout.contains("/users/") && ran.stdout.contains("/members/"), "{}", ran.stdout);
    let none = bench.run(&["files", "--dataset", "users", "--lake", &lake.lake.to_string_lossy()]);
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
}

#[test]
fn damage_of_objects_is_found_and_named() {
    let bench = lake();
    let copy = |name: &str| Copy::of(&bench, name);
    let day = "messages/event_date=2026-01-05";

    let lake = copy("deleted");
    fs::remove_file(lake.message_file()).unwrap();
    lake.assert_found(&[], day, "is gone");
    lake.assert_found(&["--deep"], day, "is gone");

    let lake = copy("truncated");
    let bytes = fs::read(lake.message_file()).unwrap();
    fs::write(lake.message_file(), &bytes[..bytes.len() - 1]).unwrap();
    lake.assert_found(&["--deep"], day, "bytes, the log says");

    let lake = copy("flipped");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 3] ^= 1;
    fs::write(lake.message_file(), &flipped).unwrap();
    json_of(&lake.verify(&[]), 0);
    lake.assert_found(&["--deep"], day, "is not what was written");

    let lake = copy("no-footer");
    let mut flipped = bytes.clone();
    let end = flipped.len();
    flipped[end - 8..end - 4].fill(0xff);
    fs::write(lake.message_file(), &flipped).unwrap();
    lake.assert_found(&[], day, "footer that cannot be read");

    let lake = copy("foreign");
    fs::write(lake.path("messages/event_date=2026-01-05/_SUCCESS"), "").unwrap();
    lake.assert_found(&[], "messages/event_date=2026-01-05/_SUCCESS", "no data file");
    fs::remove_file(lake.path("messages/event_date=2026-01-05/_SUCCESS")).unwrap();
    fs::write(lake.path("README.md"), "mine").unwrap();
    json_of(&lake.verify(&[]), 0);
    fs::write(lake.path("_chatlake/log/notes.txt"), "mine").unwrap();
    lake.assert_found(&[], "_chatlake/log/notes.txt", "none of chatlake's");

    let lake = copy("stray");
    fs::copy(lake.message_file(), lake.path("messages/event_date=2026-01-05/0123.parquet")).unwrap();
    lake.assert_found(&[], "messages/event_date=2026-01-05/0123.parquet", "is not in the log");
}

#[test]
fn damage_of_the_log_is_found_and_named() {
    let bench = lake();
    let copy = |name: &str| Copy::of(&bench, name);
    let first = "_chatlake/log/00000000000000000001.json";

    let lake = copy("no-entry");
    fs::remove_file(lake.path(first)).unwrap();
    lake.assert_found(&[], first, "is gone, entry 2 is there");

    let lake = copy("bad-entry");
    fs::write(lake.path(first), "{\"reader_version\": 1").unwrap();
    lake.assert_found(&[], first, "is no entry of the lake's log");

    let lake = copy("broken-rule");
    change_entry(&lake.lake, 2, |entry| entry["settled"] = json!(0));
    lake.assert_found(&[], "00000000000000000002.json", "settled");

    let lake = copy("last-entry");
    fs::remove_file(lake.path("_chatlake/log/00000000000000000002.json")).unwrap();
    let report = json_of(&lake.verify(&[]), 65);
    assert!(report["differences"].to_string().contains("is not in the log"), "{report}");

    let lake = copy("snapshot");
    let snapshot = "_chatlake/snapshots/00000000000000000001.ndjson.gz";
    fs::create_dir_all(lake.path("_chatlake/snapshots")).unwrap();
    fs::write(lake.path(snapshot), "{}").unwrap();
    lake.assert_found(&[], snapshot, "is damaged");
    fs::rename(lake.path(snapshot), lake.path("_chatlake/snapshots/00000000000000000009.ndjson.gz")).unwrap();
    lake.assert_found(&[], "snapshots/00000000000000000009.ndjson.gz", "the log ends with 2");

    let lake = copy("record");
    change_entry(&lake.lake, 2, |entry| {
        let cover = entry["actions"].as_array_mut().unwrap().iter_mut().find_map(|action| action.get_mut("cover"));
        cover.unwrap()["record"]["rows"]["messages"] = json!(1);
    });
    lake.assert_found(&[], "00000000000000000002.json", "says 1 row of messages");

    let lake = copy("lists");
    change_entry(&lake.lake, 2, |entry| {
        let cover = entry["actions"].as_array_mut().unwrap().iter_mut().find_map(|action| action.get_mut("cover"));
        cover.unwrap()["record"]["lists_aside"] =
            json!({"xxh3": "0123", "missing_channels": 0, "failed_channels": 0, "task_ids": 500});
    });
    lake.assert_found(&[], "_chatlake/lists/0123.json", "is gone, entry 2");
    fs::create_dir_all(lake.path("_chatlake/lists")).unwrap();
    fs::write(lake.path("_chatlake/lists/0123.json"), "{}").unwrap();
    lake.assert_found(&[], "_chatlake/lists/0123.json", "is damaged");

    let lake = copy("identity");
    fs::write(lake.path("_chatlake/lake.json"), "{}").unwrap();
    lake.assert_found(&[], "_chatlake/lake.json", "not a lake's identity");
    fs::remove_file(lake.path("_chatlake/lake.json")).unwrap();
    lake.assert_found(&[], "_chatlake/lake.json", "is gone");
    let folder = lake.lake.to_string_lossy().into_owned();
    bench.run(&["status", "--lake", &folder]).assert_refused(65, &["_chatlake/lake.json", "restore it"]);
}

#[test]
fn a_lost_or_damaged_file_is_repaired_by_replacing_its_day() {
    let bench = lake();
    let repairs: [fn(&Path); 4] = [
        |file| fs::remove_file(file).unwrap(),
        |file| fs::write(file, "cut").unwrap(),
        |file| {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 3;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        },
        |file| fs::remove_dir_all(file.parent().unwrap()).unwrap(),
    ];
    for damage in repairs {
        // Not the day of the last entry, which another run would undo.
        let file = data_files(Path::new(&bench.lake), "messages").remove(0);
        bench.sync("2026-01-06", "2026-01-07", &["--replace"]).assert_status(0, "committed");
        damage(&file);
        let report = json_of(&bench.run(&["verify", "--json", "--deep"]), 65);
        let next = report["differences"][0]["next"].as_str().unwrap();
        let command = next.split_once("chatlake ").unwrap().1;
        let ran = bench.run(&[&command.split(' ').collect::<Vec<_>>()[..], &["--json"]].concat());
        ran.assert_status(0, "committed");
        assert!(ran.stderr.contains("replaced without what a damaged file held"), "{ran:#?}");
        json_of(&bench.run(&["verify", "--json", "--deep", "--against-stream", "50"]), 0);
        bench.assert_exact(RANGE[0], RANGE[1]);
    }
}

/// Writes a file of the lake anew with other rows, and makes the log agree.
fn rewrite(lake: &Path, file: &Path, rows: impl FnOnce(&RecordBatch) -> Vec<u32>) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    let all = concat_batches(&schema, &batches).unwrap();
    let taken = take_record_batch(&all, &UInt32Array::from(rows(&all))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
    writer.write(&taken).unwrap();
    writer.close().unwrap();
    fs::write(file, &bytes).unwrap();
    let id = file.file_stem().unwrap().to_str().unwrap();
    let more = i64::try_from(taken.num_rows()).unwrap() - i64::try_from(all.num_rows()).unwrap();
    for number in 1..=2 {
        change_entry(lake, number, |entry| {
            let actions = entry["actions"].as_array_mut().unwrap();
            let Some(added) = actions.iter_mut().filter_map(|action| action.get_mut("add")).find(|add| add["id"] == id)
            else {
                return;
            };
            added["rows"] = json!(taken.num_rows());
            added["bytes"] = json!(bytes.len());
            added["xxh3"] = json!(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes)));
            let (cell, dataset) = (added["cell"].clone(), added["dataset"].as_str().unwrap().to_owned());
            let cover =
                actions.iter_mut().filter_map(|action| action.get_mut("cover")).find(|cover| cover["window"] == cell);
            let said = &mut cover.unwrap()["record"]["rows"][dataset.as_str()];
            *said = json!(said.as_i64().unwrap() + more);
        });
    }
}

fn numbers(batch: &RecordBatch) -> std::ops::Range<u32> {
    0..u32::try_from(batch.num_rows()).unwrap()
}

#[test]
fn rows_that_are_twice_or_out_of_order_are_found() {
    let bench = lake();
    for dataset in ["messages", "reactions"] {
        let lake = Copy::of(&bench, &format!("twice-{dataset}"));
        let file = data_files(&lake.lake, dataset).remove(0);
        rewrite(&lake.lake, &file, |batch| [0].into_iter().chain(numbers(batch)).collect());
        json_of(&lake.verify(&[]), 0);
        lake.assert_found(&["--deep"], dataset, "1 row twice");

        let lake = Copy::of(&bench, &format!("disorder-{dataset}"));
        let file = data_files(&lake.lake, dataset).remove(0);
        rewrite(&lake.lake, &file, |batch| {
            let mut rows: Vec<u32> = numbers(batch).collect();
            rows.swap(0, 1);
            rows
        });
        lake.assert_found(&["--deep"], dataset, "1 row out of order; the first: row 2");
    }
}

#[test]
fn rows_outside_of_their_cell_are_found() {
    let bench = lake();
    let lake = Copy::of(&bench, "outside");
    let (first, second) = (data_files(&lake.lake, "messages").remove(0), data_files(&lake.lake, "messages").remove(1));
    fs::copy(&second, &first).unwrap();
    // The log agrees with what was put in its place, but for the time of its rows.
    rewrite(&lake.lake, &first, |batch| numbers(batch).collect());
    let (rows, bytes) = (rows_of(&second), fs::metadata(&first).unwrap().len());
    assert!(bytes > 0);
    change_entry(&lake.lake, 1, |entry| {
        for action in entry["actions"].as_array_mut().unwrap() {
            if let Some(cover) =
                action.get_mut("cover").filter(|cover| cover["window"]["since"] == "2026-01-05T00:00:00Z")
            {
                cover["record"]["rows"]["messages"] = json!(rows);
            }
        }
    });
    let report = json_of(&lake.verify(&["--deep"]), 65);
    assert!(report["differences"].to_string().contains("outside of their cell"), "{report:#}");
}

fn rows_of(file: &Path) -> usize {
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap();
    builder.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum()
}

#[test]
fn a_lost_message_is_found_by_asking_stream() {
    let bench = lake();
    let lake = Copy::of(&bench, "lost");
    // Neither the first nor the last of its day, which the log would miss.
    let truth = bench.simulator.truth();
    let mut messages: Vec<_> = truth.messages_in(at("2026-01-05"), at("2026-01-06")).collect();
    messages.sort_by_key(|message| message.created_at);
    let missing = messages[messages.len() / 2];
    rewrite(&lake.lake, &lake.message_file(), |batch| {
        let column = |name: &str| batch.column_by_name(name).unwrap().clone();
        let ids = column("id");
        let ids = arrow::array::AsArray::as_string::<i32>(&ids);
        let kept: Vec<u32> = numbers(batch).filter(|row| ids.value(*row as usize) != missing.id).collect();
        assert_eq!(kept.len() + 1, batch.num_rows());
        kept
    });
    json_of(&lake.verify(&["--deep"]), 0);
    lake.assert_found(&["--against-stream", "200"], "messages/event_date=2026-01-05", &missing.id);
    let report = lake.verify(&["--against-stream", "200"]).summary();
    assert_eq!(report["against_stream"]["lost"], 1);
    assert!(report["differences"][0]["next"].as_str().unwrap().contains("--replace --since 2026-01-05T00:00:00Z"));
}

#[test]
fn what_changed_since_is_told_from_what_was_exported_wrongly() {
    let bench = lake();
    let truth = bench.simulator.truth();
    let live: Vec<_> = truth
        .messages_in(at("2026-01-05"), at("2026-01-06"))
        .filter(|message| message.deleted_at.is_none() && message.parent_id.is_none())
        .collect();
    let (edited, deleted, falsified) = (live[1], live[3], live[5]);
    let later = bench.simulator.now() + jiff::SignedDuration::from_secs(60);
    bench.simulator.world(|world| world.edit(&edited.id, "changed", later)).unwrap();
    bench.simulator.world(|world| world.hard_delete(&deleted.id)).unwrap();
    let report = json_of(&bench.run(&["verify", "--json", "--against-stream", "200"]), 0);
    assert_eq!(report["against_stream"]["changed"], 1, "{report}");
    assert!(report["against_stream"]["gone"].as_u64().unwrap() >= 1, "{report}");
    // Stream says that it was so all along.
    let change = |message: &mut simulator::Message| message.text = "other".into();
    bench.simulator.world(|world| world.change_message(&falsified.id, change)).unwrap();
    let ran = bench.run(&["verify", "--json", "--against-stream", "200"]);
    let report = json_of(&ran, 65);
    assert_eq!(report["against_stream"]["wrong"], 1, "{report}");
    assert!(report["differences"][0]["what"].as_str().unwrap().contains(&falsified.id), "{report}");
    ran.assert_refused(65, &["1 difference", "--replace"]);
}

#[test]
fn comparing_with_stream_needs_the_keys_of_the_lakes_app() {
    let mut bench = lake();
    bench.set("STREAM_API_KEY", "another-key");
    bench.run(&["verify", "--against-stream", "1"]).assert_refused(2, &["another-key"]);
    bench.set("STREAM_API_KEY", "");
    bench.run(&["verify", "--against-stream", "1"]).assert_refused(77, &["STREAM_API_KEY"]);
    for arguments in [&["verify"][..], &["status"], &["files"], &["gc"]] {
        assert_eq!(bench.run(arguments).code, 0, "{arguments:?}");
    }
    bench.run(&["verify", "--against-stream", "0"]).assert_refused(2, &["--against-stream"]);
    bench.run(&["verify", "--seed", "1"]).assert_refused(2, &["--against-stream"]);
}

#[test]
fn an_export_that_is_not_whole_shows_no_loss() {
    let bench = Bench::new(&two_days());
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "committed");
    let arguments = ["verify", "--json", "--against-stream", "200"];
    let lines = vec![simulator::Insertion { at_line: 0, line: simulator::BadLine::TruncatedTail { bytes: 40 } }];
    bench.simulator.add_fault(simulator::Fault::on("ExportChannels", simulator::Effect::BadLines { lines }));
    let report = json_of(&bench.run(&arguments), 0);
    let compared = &report["against_stream"];
    assert!(
        compared["not_exported"].as_u64().unwrap() > 0 && compared["channel_days"].as_u64().unwrap() > 0,
        "{report}"
    );
    assert_eq!((&compared["lost"], &compared["wrong"]), (&json!(0), &json!(0)), "{report}");

    let page = simulator::Effect::Status {
        status: 200,
        code: None,
        body: Some("<html><body>Sign in</body></html>".to_owned()),
        headers: std::collections::BTreeMap::new(),
    };
    bench.simulator.add_fault(simulator::Fault::on("Download", page));
    bench.run(&arguments).assert_refused(65, &["looks like an HTML page"]);
}
