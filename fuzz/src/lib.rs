//! What must hold for any bytes at all. Each function here is a fuzz target, and the ordinary tests run them too, on damaged
//! copies of real exports and real objects.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use arrow::array::Array;
use chatlake::columns::Schemas;
use chatlake::decode::{Decoder, Routes, Tally, Task};
use chatlake::decompress::Decompress;
use chatlake::export::ExportTask;
use chatlake::file_type::stranger;
use chatlake::journal::{Adopted, Begun, Record, adoptable, usable};
use chatlake::lake::entry::{Entry, Lists};
use chatlake::lake::identity::Identity;
use chatlake::lake::{Key, State, snapshot};
use chatlake::ndjson::{Line, LineSplitter};
use chatlake::schema::DATASETS;
use chatlake::window::{Grid, Window, parse_time};
use object_store::path::Path;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

/// Short enough for the fuzzer to write a longer one.
const MAX_LINE_BYTES: usize = 1 << 12;

/// The first byte says how the rest is cut into chunks.
fn chunks(data: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (step, rest) = data.split_first().map_or((0, data), |(step, rest)| (usize::from(*step), rest));
    (rest.chunks(step * step + 1).collect(), rest)
}

/// Bytes as they arrive.
pub fn stream(data: &[u8]) {
    lines(data);
    decompress(data);
}

/// Lines are the same however the bytes arrive, and each is found where it says it is.
fn lines(data: &[u8]) {
    let (chunks, whole) = chunks(data);
    let max_line_bytes = 1 + data.len() % 64;
    let split = |chunks: &[&[u8]]| {
        let mut seen = Vec::new();
        let (mut number, mut counted_to) = (1, 0);
        let mut each = |line: Line<'_>| -> Result<(), Infallible> {
            assert!(line.length > 0 && (line.is_too_long() == (line.length > max_line_bytes as u64)));
            assert!(line.bytes.len() <= max_line_bytes && !line.bytes.contains(&b'\n'));
            let from = usize::try_from(line.offset).expect("an offset in memory");
            let around = &whole[from..];
            let end = around.iter().position(|byte| *byte == b'\n').unwrap_or(around.len());
            let around = &around[..end];
            assert!(around.starts_with(line.bytes) || around.trim_ascii_end().ends_with(line.bytes));
            let between = &whole[counted_to..from];
            assert!(whole[..from].last().is_none_or(|byte| *byte == b'\n'));
            number += between.iter().filter(|byte| **byte == b'\n').count() as u64;
            counted_to = from;
            assert_eq!(line.number, number);
            seen.push((line.number, line.offset, line.length, line.bytes.to_vec()));
            Ok(())
        };
        let mut splitter = LineSplitter::new(max_line_bytes);
        let Ok(()) = chunks.iter().try_for_each(|chunk| splitter.push(chunk, &mut each));
        let Ok(()) = splitter.finish(&mut each);
        seen
    };
    assert_eq!(split(&chunks), split(&[whole]));
}

/// What comes out is the same however the bytes arrive, up to the same error; what is not compressed passes through.
fn decompress(data: &[u8]) {
    let (chunks, whole) = chunks(data);
    let pass = |chunks: &[&[u8]]| {
        let mut out = Vec::new();
        let mut each = |bytes: &[u8]| -> io::Result<()> {
            out.extend_from_slice(bytes);
            Ok(())
        };
        let mut decompress = Decompress::default();
        let result = chunks.iter().try_for_each(|chunk| decompress.push(chunk, &mut each));
        let result = result.and_then(|()| decompress.finish(&mut each));
        (result.is_ok(), out)
    };
    let (ok, out) = pass(&chunks);
    let (whole_ok, whole_out) = pass(&[whole]);
    assert_eq!(ok, whole_ok);
    if ok {
        assert_eq!(out, whole_out);
    }
    if !whole.starts_with(&[0x1f, 0x8b]) && !whole.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        assert!(ok && out == whole);
    }
}

/// One line of an export.
pub fn line(data: &[u8]) {
    let mut decoder = decoder(data.len() % 2 == 1);
    let line = Line { number: 1, offset: 0, length: data.len() as u64, bytes: data };
    decoder.line(line).expect("a temporary folder");
    check(decoder);
    let mut decoder = decoder_of_users();
    decoder.line(line).expect("a temporary folder");
    check(decoder);
}

/// A whole export: what may be compressed, lines, rows.
pub fn file(data: &[u8]) {
    let (chunks, whole) = chunks(data);
    let _ = stranger(whole, true);
    let mut decoder = decoder(true);
    let mut splitter = LineSplitter::new(MAX_LINE_BYTES);
    let mut decompress = Decompress::default();
    let mut decode = |line: Line<'_>| decoder.line(line);
    let mut result = Ok(());
    for chunk in chunks {
        result = decompress.push(chunk, |bytes| splitter.push(bytes, &mut decode));
        if result.is_err() {
            break;
        }
    }
    if result.is_ok() && decompress.finish(|bytes| splitter.push(bytes, &mut decode)).is_ok() {
        splitter.finish(&mut decode).expect("a temporary folder");
    }
    check(decoder);
}

/// A decoder that takes whatever channels come; of time, the days that the simulator's first messages are of.
fn decoder(keep_raw: bool) -> Decoder {
    let at = |text: &str| parse_time(text).expect("a time");
    let span = Window::new(at("2026-01-05"), at("2026-01-08")).expect("a window");
    let exported_at = at("2026-02-01");
    Decoder::new(
        &Schemas::default(),
        Task {
            task_id: "task".to_owned(),
            exported_at,
            channels: None,
            users: None,
            superseded: Arc::default(),
            routes: Arc::new(Routes::new(&Grid::default().cells(span), 1_000, exported_at, keep_raw)),
            keep_raw,
        },
    )
}

/// A decoder of an export of users.
fn decoder_of_users() -> Decoder {
    let exported_at = parse_time("2026-02-01").expect("a time");
    let task = Task {
        task_id: "task".to_owned(),
        exported_at,
        channels: None,
        users: Some(Arc::new(["amara".to_owned()].into())),
        superseded: Arc::default(),
        routes: Arc::new(Routes::of_users(exported_at)),
        keep_raw: true,
    };
    Decoder::new(&Schemas::default().of_users(), task)
}

/// Columns are what Arrow says they must be, and every line that no dataset took is in quarantine, or among the others of users.
fn check(decoder: Decoder) {
    let (batches, tally) = decoder.finish().expect("a temporary folder");
    let mut kept = 0;
    for (dataset, batch) in batches {
        for column in batch.columns() {
            column.to_data().validate_full().expect("valid columns");
        }
        if matches!(DATASETS[dataset], "quarantine" | "other") {
            kept += batch.num_rows() as u64;
        }
    }
    let Tally { rejected, unclassified, out_of_window, reasons, .. } = tally;
    assert_eq!(rejected, reasons.values().sum::<u64>());
    assert_eq!(kept, rejected + unclassified.total() + out_of_window);
}

/// One object of `_chatlake/`: the first byte says which, the rest is what lies there. What is read is written as the same.
pub fn object(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 7 {
        0 => entry(bytes),
        1 => log(bytes),
        2 => {
            // Few changes to compressed bytes get past the checksum: it is made to fit.
            let _ = snapshot::read(100, bytes).map(|state| state.as_ref().map(snapshot_is_stable));
            let mut lines = bytes.to_vec();
            lines.extend(format!("{{\"xxh3\":\"{:032x}\"}}\n", xxh3_128(bytes)).into_bytes());
            let _ = snapshot::read_lines(100, lines.as_slice()).map(|state| state.as_ref().map(snapshot_is_stable));
        }
        3 => journal(bytes),
        4 => {
            let name = format!("{:032x}", xxh3_128(bytes));
            let _ = Lists::from_json(&name, bytes).map(|lists| lists.len());
            assert!(Lists::from_json("another", bytes).is_err());
        }
        5 => {
            if let Ok(identity) = Identity::from_json(bytes, "lake") {
                assert!(identity.differences(&identity.clone().normalized()).is_empty());
                let _ = identity.check(&identity, "lake");
            }
        }
        _ => {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(path) = Path::parse(text.as_ref())
                && let Some(key) = Key::parse(&path)
            {
                assert_eq!(key.path(), path);
            }
        }
    }
}

fn entry(bytes: &[u8]) {
    if let Ok(entry) = Entry::from_json(1, bytes) {
        assert_eq!(Entry::from_json(1, &entry.to_json()).expect("what was written"), entry);
        let mut state = State::default();
        if state.apply(&entry).is_ok() {
            snapshot_is_stable(&state);
        }
    }
}

/// Entries line by line: whatever the log takes keeps its rules, and whatever it refuses changes nothing.
fn log(bytes: &[u8]) {
    let mut state = State::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(mut entry) = Entry::from_json(state.next(), line) else { continue };
        (entry.number, entry.settled) = (state.next(), state.next() - 1);
        let before = state.clone();
        if state.apply(&entry).is_err() {
            assert!(before == state);
        }
    }
    snapshot_is_stable(&state);
}

fn journal(bytes: &[u8]) {
    let key = Key::Journal { run_id: Uuid::nil(), seq: 0 };
    let records = bytes.split(|byte| *byte == b'\n').filter_map(|line| Record::from_json(&key, line).ok());
    let (mut begun, mut tasks): (Vec<Begun>, Vec<ExportTask>) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            Record::Span(span) => {
                let tasks = std::mem::take(&mut tasks);
                begun.push(Begun { run_id: Uuid::nil(), span, tasks, records: Vec::new(), refusal: None });
            }
            Record::Task { task, .. } => tasks.push(task),
            Record::Intent { .. } | Record::Users(_) | Record::Refused { .. } => {}
        }
    }
    for wanted in &begun {
        let adopted = adoptable(usable(&begun, &wanted.span, wanted.span.begun_at, None));
        // A task may name a channel twice, but no channel is in two tasks.
        let names = |adopted: &Adopted| -> BTreeSet<String> {
            adopted.task.cids.iter().filter(|cid| !adopted.superseded.contains(*cid)).cloned().collect()
        };
        let all: BTreeSet<String> = adopted.iter().flat_map(names).collect();
        assert_eq!(all.len(), adopted.iter().map(|adopted| names(adopted).len()).sum::<usize>());
    }
}

/// What can be asked of a state can be asked of this one, and its snapshot is read as the same.
fn snapshot_is_stable(state: &State) {
    let _ = state.frontier();
    for covered in state.covers() {
        let window = covered.cover.window;
        assert!(state.uncovered(window).is_empty() && state.covers_in(window).count() == 1);
        let day = Window::day_of(window.since);
        let _ = (state.uncovered(day), state.files_of(day).count());
    }
    let bytes = snapshot::write(state).expect("memory");
    let read = snapshot::read(state.next() - 1, &bytes).expect("this version");
    assert!(read.as_ref() == Some(state));
}
