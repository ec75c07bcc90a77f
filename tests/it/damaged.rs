//! Exports and objects of a lake with bits turned, ends cut off and pieces of others in them: a clear error or what is still
//! right, never a panic and never an empty lake. The properties are those that `fuzz/` looks for longer.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use chatlake::error::{Error, Kind};
use chatlake::journal::begun_spans;
use chatlake::lake::entry::ListsAside;
use chatlake::lake::{CellRecord, Key, Lake};
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use uuid::Uuid;

use crate::bench::seed;
use crate::samples;

#[path = "../../fuzz/src/lib.rs"]
mod properties;

/// One thing that can happen to bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip { at: Index, bit: u8 },
    Cut { at: Index },
    Splice { at: Index, of: Index, from: Index, length: usize },
    Insert { at: Index, bytes: Vec<u8> },
    Replace { at: Index, length: usize, with: &'static str },
}

/// Of these, real and unreal values, most can stand anywhere in JSON.
const VALUES: [&str; 14] = [
    "null",
    "{}",
    "[]",
    "\"\"",
    "-1",
    "1e400",
    "18446744073709551615",
    "9223372036854775808",
    "9999-12-30T22:00:00Z",
    "-009999-01-02T01:59:59Z",
    "0001-01-01T00:00:00Z",
    "\\ud800",
    "\u{0}",
    "../..",
];

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let index = any::<Index>;
    let one = prop_oneof![
        (index(), 0u8..8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        index().prop_map(|at| Damage::Cut { at }),
        (index(), index(), index(), 1usize..300).prop_map(|(at, of, from, length)| Damage::Splice {
            at,
            of,
            from,
            length
        }),
        (index(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        (index(), 0usize..24, prop::sample::select(&VALUES[..])).prop_map(|(at, length, with)| Damage::Replace {
            at,
            length,
            with
        }),
    ];
    prop::collection::vec(one, 1..4)
}

fn damaged(original: &[u8], all: &[&[u8]], damage: &[Damage]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for damage in damage {
        if bytes.is_empty() {
            break;
        }
        let length_now = bytes.len();
        match damage {
            Damage::Flip { at, bit } => bytes[at.index(length_now)] ^= 1 << bit,
            Damage::Cut { at } => bytes.truncate(at.index(length_now)),
            Damage::Splice { at, of, from, length } => {
                let other = all[of.index(all.len())];
                let from = from.index(other.len());
                let at = at.index(length_now);
                bytes.splice(at..at, other[from..other.len().min(from + length)].iter().copied());
            }
            Damage::Insert { at, bytes: inserted } => {
                let at = at.index(length_now);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Damage::Replace { at, length, with } => {
                let at = at.index(length_now);
                bytes.splice(at..length_now.min(at + length), with.bytes());
            }
        }
    }
    bytes
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn runner(cases: u32) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[test]
fn damaged_exports_are_decoded_as_far_as_they_go() {
    let exports = runtime().block_on(samples::exports());
    let all: Vec<&[u8]> = exports.iter().map(Vec::as_slice).collect();
    let cases = (any::<Index>(), any::<u8>(), damage());
    let check = |(which, step, damage): (Index, u8, Vec<Damage>)| {
        let mut bytes = damaged(all[which.index(all.len())], &all, &damage);
        bytes.insert(0, step);
        properties::stream(&bytes);
        properties::file(&bytes);
        Ok(())
    };
    runner(200).run(&cases, check).unwrap();
    let lines: Vec<&[u8]> =
        all.iter().flat_map(|file| file.split(|byte| *byte == b'\n')).filter(|line| !line.is_empty()).collect();
    let check = |(which, _, damage): (Index, u8, Vec<Damage>)| {
        properties::line(&damaged(lines[which.index(lines.len())], &lines, &damage));
        Ok(())
    };
    runner(1000).run(&cases, check).unwrap();
}

#[test]
fn damaged_objects_of_a_lake_are_refused_or_read_as_something() {
    let objects = runtime().block_on(samples::objects());
    let all: Vec<&[u8]> = objects.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let check = |(which, reader, damage): (Index, u8, Vec<Damage>)| {
        let mut bytes = damaged(all[which.index(all.len())], &all, &damage);
        bytes.insert(0, reader);
        properties::object(&bytes);
        Ok(())
    };
    runner(1000).run(&(any::<Index>(), any::<u8>(), damage()), check).unwrap();
}

/// Refused as what it is, with the name of the object.
#[track_caller]
fn assert_named(error: &Error, key: &Key) {
    assert!(matches!(error.kind(), Kind::Data | Kind::Usage), "{}", error.report());
    assert!(error.report().contains(&key.to_string()) && error.report().contains("hint: "), "{}", error.report());
}

/// A lake of these objects.
async fn lake_of(objects: &[(Key, Vec<u8>)]) -> Lake {
    let lake = Lake::new(Arc::new(InMemory::new()), "memory".to_owned());
    for (key, bytes) in objects {
        lake.store().put(&key.path(), PutPayload::from(bytes.clone())).await.unwrap();
    }
    lake
}

#[test]
fn a_lake_with_one_damaged_object_names_it() {
    let runtime = runtime();
    let mut objects = runtime.block_on(samples::objects());
    let original = runtime.block_on(async { lake_of(&objects).await.state().await.unwrap() });
    // One that is older than the snapshot and so only read without it.
    let without_snapshot: Vec<(Key, Vec<u8>)> =
        objects.iter().filter(|(key, _)| !matches!(key, Key::Snapshot(_))).cloned().collect();
    objects.retain(|(key, _)| !matches!(key, Key::Entry(_)) || *key == Key::Entry(1));
    let lists = objects.iter().find_map(|(key, _)| match key {
        Key::Lists(name) => Some(name.clone()),
        _ => None,
    });
    let aside = ListsAside { xxh3: lists.unwrap(), missing_channels: 200, failed_channels: 1, task_ids: 1 };
    let record = CellRecord { lists_aside: Some(aside), ..CellRecord::default() };

    let check = async |which: Index, damage: Vec<Damage>, read_all: bool| {
        let mut objects = if read_all { without_snapshot.clone() } else { objects.clone() };
        let all: Vec<Vec<u8>> = objects.iter().map(|(_, bytes)| bytes.clone()).collect();
        let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let (key, bytes) = &mut objects[which.index(all.len())];
        let whole = bytes.clone();
        *bytes = damaged(bytes, &all, &damage);
        let (key, is_changed) = (key.clone(), *bytes != whole);
        let lake = lake_of(&objects).await;
        match (&key, lake.state().await) {
            // All of the log that there is, is its first entry: from the snapshot the whole, without it that.
            (Key::Snapshot(_), Ok(state)) => assert!(state == original || state.next() == 2),
            (Key::Entry(_), Ok(state)) => assert_eq!(state.next(), original.next()),
            (_, Ok(state)) => assert!(state == original),
            (Key::Entry(_), Err(error)) if read_all => {
                let broken_by_it = error.report().contains("breaks the rules");
                if !broken_by_it {
                    assert_named(&error, &key);
                }
            }
            (_, Err(error)) => panic!("{key}: {}", error.report()),
        }
        match (&key, lake.identity().await) {
            (_, Ok(identity)) => assert!(identity.is_some()),
            (key, Err(error)) => assert_named(&error, key),
        }
        match (&key, begun_spans(&lake, Uuid::max()).await) {
            (Key::Journal { .. }, Ok(_)) => {}
            (_, Ok(begun)) => assert_eq!(begun.len(), 1),
            (key, Err(error)) => assert_named(&error, key),
        }
        match (&key, lake.lists(&record).await) {
            (key, Ok(_)) => assert!(!is_changed || !matches!(key, Key::Lists(_))),
            (key, Err(error)) => assert_named(&error, key),
        }
    };
    let cases = (any::<Index>(), damage(), any::<bool>());
    let run = |(which, damage, read_all): (Index, Vec<Damage>, bool)| {
        runtime.block_on(check(which, damage, read_all));
        Ok(())
    };
    runner(500).run(&cases, run).unwrap();
}

/// Writes what the fuzzer begins with, where `CHATLAKE_TEST_FUZZ_CORPUS` names a folder for it.
#[test]
fn seeds_for_the_fuzzer() {
    let Some(corpus) = std::env::var_os("CHATLAKE_TEST_FUZZ_CORPUS").map(PathBuf::from) else { return };
    let mut count = 0;
    let mut write = |target: &str, first: &[u8], bytes: &[u8]| {
        let folder = corpus.join(target);
        std::fs::create_dir_all(&folder).unwrap();
        count += 1;
        std::fs::write(folder.join(format!("seed-{count:04}")), [first, bytes].concat()).unwrap();
    };
    // In chunks of 226 bytes.
    const STEP: u8 = 15;
    let runtime = runtime();
    for export in runtime.block_on(samples::exports()) {
        for target in ["stream", "file"] {
            write(target, &[STEP], &export);
            let mut compressed = Vec::new();
            GzEncoder::new(export.as_slice(), Compression::fast()).read_to_end(&mut compressed).unwrap();
            write(target, &[STEP], &compressed);
        }
        let lines = export.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{"));
        lines.step_by(3).for_each(|line| write("line", &[], line));
    }
    let (mut log, mut journal) = (Vec::new(), Vec::new());
    for (key, bytes) in runtime.block_on(samples::objects()) {
        let ended = [&bytes, b"\n".as_slice()].concat();
        match key {
            Key::Entry(_) => {
                write("object", &[0], &bytes);
                log.extend(ended);
            }
            Key::Snapshot(through) => {
                write("object", &[2], &bytes);
                let mut lines = String::new();
                MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut lines).unwrap();
                // The target adds the hash, and reads the hundredth.
                let (rows, _) = lines.trim_end().rsplit_once('\n').unwrap();
                let rows = rows.replace(&format!("\"through\":{through}"), "\"through\":100");
                write("object", &[2], format!("{rows}\n").as_bytes());
            }
            Key::Journal { .. } => journal.extend(ended),
            Key::Lists(_) => write("object", &[4], &bytes),
            _ => write("object", &[5], &bytes),
        }
        write("object", &[6], key.to_string().as_bytes());
    }
    write("object", &[1], &log);
    write("object", &[3], &journal);
    assert!(count > 100, "only {count} seeds");
}
