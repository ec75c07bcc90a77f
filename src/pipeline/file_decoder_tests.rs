use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::decode::Routes;

fn decoder(version: ExportVersion, task: Task) -> FileDecoder<Arc<Collector>> {
    let schemas = Schemas::default();
    FileDecoder::new(&schemas, version, task, Arc::new(Collector::new(&schemas, 1 << 20, None)))
}

/// What becomes of these bytes, arriving in pieces of this size.
fn decode_in(bytes: &[u8], step: usize) -> Result<Tally, FileError> {
    decode_as(ExportVersion::V2, bytes, step)
}

fn decode_as(version: ExportVersion, bytes: &[u8], step: usize) -> Result<Tally, FileError> {
    let routes = Routes::new(&[], 0, jiff::Timestamp::UNIX_EPOCH, false);
    let chunks = || bytes.chunks(step).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    let one = decoder(version, task(routes.clone())).push(chunks()).and_then(FileDecoder::finish);
    let many = in_blocks(decoder(version, task(routes)), chunks(), 3, 20);
    match (&one, &many) {
        (Ok((one, _)), Ok((many, _))) => assert_eq!(one, many, "of one decoder and of several"),
        (one, many) => assert_eq!(
            format!("{:?}", one.as_ref().err()),
            format!("{:?}", many.as_ref().err()),
            "of one decoder and of several"
        ),
    }
    one.map(|(tally, _)| tally)
}

fn task(routes: Routes) -> Task {
    Task {
        task_id: "t".to_owned(),
        exported_at: jiff::Timestamp::UNIX_EPOCH,
        channels: None,
        users: None,
        superseded: Arc::default(),
        routes: Arc::new(routes),
        keep_raw: false,
    }
}

struct Pieces(std::vec::IntoIter<Bytes>);

impl Chunks for Pieces {
    async fn chunk(&mut self) -> Result<Option<Bytes>, FileError> {
        Ok(self.0.next())
    }
}

fn in_blocks(
    decoder: FileDecoder<Arc<Collector>>,
    chunks: Vec<Bytes>,
    decoders: usize,
    block_bytes: usize,
) -> Result<(Tally, Arc<Collector>), FileError> {
    let mut pieces = Pieces(chunks.into_iter());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(decoder.read_blocks(decoders, block_bytes, &mut pieces, Cpu::Threads, |_| {}))
}

/// Messages, users and reactions on lines of their own, which may come before their message and far from it.
fn shuffled_lines(random: &mut impl FnMut(u64) -> u64) -> String {
    let mut lines = Vec::new();
    for message in 0..300 {
        let cid = format!("messaging:{}", random(7));
        lines.push(format!(
            r#"{{"id":"m{message}","cid":"{cid}","type":"regular","text":"t","user":{{"id":"u{}"}},"created_at":"2026-01-0{}T00:00:00Z","reaction_counts":{{"like":2}}}}"#,
            random(20),
            1 + random(3)
        ));
        for reaction in 0..random(3) {
            let message = random(310);
            lines.push(format!(
                r#"{{"message_id":"m{message}","user_id":"u{reaction}","type":"like","score":{},"created_at":"2026-01-05T00:00:00Z"}}"#,
                lines.len()
            ));
        }
    }
    for last in (1..lines.len()).rev() {
        lines.swap(last, usize::try_from(random(last as u64 + 1)).unwrap());
    }
    lines.join("\n") + "\n"
}

#[test]
fn several_decoders_make_the_rows_of_one() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("SEED={seed}");
    let mut state = seed | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..20 {
        let lines = shuffled_lines(&mut random);
        let new = || decoder(ExportVersion::V2, task(Routes::into_days(jiff::Timestamp::UNIX_EPOCH, false)));
        let rows = |(tally, collector): (Tally, Arc<Collector>)| {
            let mut rows = Vec::new();
            for dataset in 0..crate::schema::DATASETS.len() {
                let Some(batches) = Collector::take(&collector, dataset).unwrap() else { continue };
                let schema = Arc::clone(batches.schema());
                let batches: Vec<_> = batches.collect::<Result<_, _>>().unwrap();
                rows.push((dataset, arrow::compute::concat_batches(&schema, &batches).unwrap()));
            }
            (tally, rows)
        };
        let chunks = || lines.as_bytes().chunks(997).map(Bytes::copy_from_slice).collect::<Vec<_>>();
        let wanted = rows(new().push(chunks()).unwrap().finish().unwrap());
        assert!(wanted.0.rejected > 0 && wanted.0.lines["reactions"] > 100);
        let (decoders, block_bytes) = (2 + random(4), 1 + random(5000));
        let (decoders, block_bytes) = (usize::try_from(decoders).unwrap(), usize::try_from(block_bytes).unwrap());
        let found = rows(in_blocks(new(), chunks(), decoders, block_bytes).unwrap());
        assert_eq!(found.0, wanted.0, "{decoders} decoders, blocks of {block_bytes}");
        assert!(found.1 == wanted.1, "{decoders} decoders, blocks of {block_bytes}");
    }
}

fn decode(bytes: &[u8]) -> Result<Tally, FileError> {
    decode_in(bytes, 7)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const LINES: &[u8] = b"{\"type\":\"invoice\",\"data\":{\"id\":1}}\n{\"type\":\"invoice\",\"data\":{\"id\":2}}";
const USER: &str = r#"{"user":{"id":"ada"}}"#;

#[test]
fn a_last_line_needs_no_break_but_an_end() {
    assert_eq!(decode(LINES).unwrap().unclassified.of("invoice"), 2);
    let second = LINES.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for end in second + 1..LINES.len() {
        let cut = decode(&LINES[..end]);
        assert!(matches!(&cut, Err(FileError::Broken(why)) if why.contains("line 2")), "{end}: {cut:?}");
    }
    assert_eq!(decode(&LINES[..second]).unwrap().unclassified.of("invoice"), 1);
    assert_eq!(decode(b"").unwrap(), Tally::default());
}

#[test]
fn a_last_line_that_is_not_looked_into_needs_an_end_as_well() {
    let nested =
        |levels: usize| format!("{{\"user\":{{\"id\":\"a]\",\"x\":{}{}}}}}", "[".repeat(levels), "]".repeat(levels));
    let numbers = format!("{{\"user\":{{\"id\":\"a]\",\"x\":[0{}]}}}}", ",0".repeat(crate::json::MAX_VALUES));
    let deep_enough = decode_in(nested(200).as_bytes(), 1 << 20).unwrap();
    assert_eq!((deep_enough.lines["users"], deep_enough.rejected), (1, 0));
    for (line, reason) in [(nested(300), "too_deep"), (numbers, "too_many_values")] {
        assert_eq!(decode_in(line.as_bytes(), 1 << 20).unwrap().reasons, BTreeMap::from([(reason, 1)]));
        for cut in [1, 2, 3] {
            let cut = decode_in(&line.as_bytes()[..line.len() - cut], 1 << 20);
            assert!(matches!(&cut, Err(FileError::Broken(_))), "{reason}: {cut:?}");
        }
    }
}

#[test]
fn gzip_that_ends_early_is_broken() {
    let whole = gzip(LINES);
    assert_eq!(decode(&whole).unwrap().unclassified.of("invoice"), 2);
    for end in 11..whole.len() {
        assert!(matches!(decode(&whole[..end]), Err(FileError::Broken(_))), "{end}");
    }
}

/// Bytes that are no export, or one with something wrong in it: the reasons of what was set aside, and what was understood.
#[test]
fn bad_input_has_its_reason() {
    let two_members = [gzip(format!("{USER}\n").as_bytes()), gzip(USER.as_bytes())].concat();
    let deep = format!("{{\"user\":{}{}}}\n{USER}\n", "[".repeat(10_000), "]".repeat(10_000)).into_bytes();
    let array = format!("[{USER},{USER},\n1]\n");
    for (name, bytes, users, reasons) in [
        ("nothing", Vec::new(), 0, ""),
        ("blank lines", b"\n\r\n  \n\t\n".to_vec(), 0, ""),
        ("a byte order mark", format!("\u{feff}{USER}\n").into_bytes(), 1, ""),
        ("CRLF", format!("{USER}\r\n\r\n{USER}\r\n").into_bytes(), 2, ""),
        ("a lone CR", format!("{USER}\r{USER}\n{USER}\r").into_bytes(), 1, "1 not_json"),
        ("two gzip members", two_members, 2, ""),
        ("an array as one line", format!("[{USER},{USER},1]").into_bytes(), 2, "1 unclassified"),
        ("an array over two lines", array.into_bytes(), 0, "2 not_json"),
        ("not UTF-8", [format!("{USER}\n").as_bytes(), b"{\"user\":{\"id\":\"\xff\"}}\n"].concat(), 1, "1 not_utf8"),
        ("NUL bytes", format!("{USER}\n\0\0\0\n{{\0}}\n").into_bytes(), 1, "2 not_json"),
        ("NULs after a value", format!("{USER}\0\0\n{USER}\n").into_bytes(), 1, "1 not_json"),
        ("a depth of 10,000", deep, 1, "1 too_deep"),
        ("CSV", b"id,text\nm1,hello\n".to_vec(), 0, "2 not_json"),
        ("a JSON error", br#"{"code":16,"message":"no such thing","StatusCode":404}"#.to_vec(), 0, "1 unclassified"),
    ] {
        for step in [1, 7, bytes.len() + 1] {
            let tally = decode_in(&bytes, step).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert_eq!(tally.lines.values().sum::<u64>(), users, "{name}");
            let mut found: BTreeMap<&str, u64> = tally.reasons.clone();
            found.extend((!tally.unclassified.is_empty()).then(|| ("unclassified", tally.unclassified.total())));
            let found: Vec<_> = found.iter().map(|(reason, lines)| format!("{lines} {reason}")).collect();
            assert_eq!(found.join(", "), reasons, "{name}");
            assert_eq!(tally.unrecognised_files, u64::from(users == 0 && !reasons.is_empty()), "{name}");
        }
    }
}

#[test]
fn files_that_are_broken_say_how() {
    let whole = gzip(format!("{USER}\n").as_bytes());
    let garbage = [&whole[..], b"garbage after the end"].concat();
    let padded = [&whole[..], &[0; 64]].concat();
    let mut flipped = gzip(USER.repeat(400).as_bytes());
    let middle = flipped.len() - 6;
    flipped[middle] ^= 0xff;
    for (name, bytes, why) in [
        ("a cut gzip", whole[..whole.len() - 1].to_vec(), "cannot be decompressed"),
        ("garbage after gzip", garbage, "cannot be decompressed"),
        ("zeros after gzip", padded, "cannot be decompressed"),
        ("a wrong checksum", flipped, "cannot be decompressed"),
        ("a cut line", USER.as_bytes()[..9].to_vec(), "ends in the middle of line 1"),
    ] {
        let found = decode(&bytes);
        assert!(matches!(&found, Err(FileError::Broken(text)) if text.contains(why)), "{name}: {found:?}");
    }
}

#[test]
fn what_is_no_export_is_named() {
    let utf16: Vec<u8> = format!("\u{feff}{USER}\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let html = "<!DOCTYPE html>\n<html><body>Sign in at https://wifi.example/?token=abc</body></html>";
    for (bytes, what) in [
        (html.as_bytes().to_vec(), "looks like an HTML page"),
        (gzip(html.repeat(20).as_bytes()), "looks like an HTML page"),
        (b"PK\x03\x04\x14\0\0\0rest".to_vec(), "is a zip file"),
        (utf16, "is UTF-16 text"),
        (gzip(&gzip(USER.as_bytes())), "is a gzip file inside another"),
        (b"[\n  {\n    \"channel\": {}\n  }\n]\n".to_vec(), "is JSON over several lines"),
    ] {
        for step in [1, 7, bytes.len()] {
            let Err(FileError::Other(error)) = decode_in(&bytes, step) else { panic!("{what}: not refused") };
            assert_eq!(error.kind(), Kind::Data);
            let report = error.report();
            assert!(report.contains(&format!("the file of export task t {what}")), "{report}");
            assert!(!report.contains("abc"), "{report}");
        }
    }
}

/// A line is never held beyond the limit, however long it is.
#[test]
fn a_line_of_100_mb_is_skipped_and_reported() {
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let task = |task_id: &str| Task {
        task_id: task_id.to_owned(),
        exported_at: jiff::Timestamp::UNIX_EPOCH,
        channels: None,
        users: None,
        superseded: Arc::default(),
        routes: Arc::new(Routes::new(&[], 0, jiff::Timestamp::UNIX_EPOCH, false)),
        keep_raw: false,
    };
    let huge = || {
        let mut decoder =
            decoder(ExportVersion::V2, task("t")).push(vec![Bytes::from(format!("{USER}\n{{\"user\":\""))]).unwrap();
        for _ in 0..100 {
            decoder = decoder.push(vec![piece.clone()]).unwrap();
        }
        decoder
    };
    let ended = huge().push(vec![Bytes::from(format!("\"}}\n{USER}\n"))]).unwrap();
    let (tally, _) = ended.finish().unwrap();
    assert_eq!((tally.lines["users"], tally.reasons), (2, BTreeMap::from([("line_too_long", 1)])));
    let shown = tally.first_set_aside.of(|_| true)[0].to_string();
    assert!(shown.starts_with("line 2 of export task t: line_too_long (104857611 bytes"), "{shown}");
    let endless = huge().finish();
    assert!(
        matches!(&endless, Err(FileError::Broken(why)) if why.contains("has no end after 10485")),
        "{:?}",
        endless.err()
    );
}

const CHANNEL: &str = r#"{"channel":{"cid":"team:a","id":"a","type":"team","created_at":"2026-01-01T00:00:00Z"},"messages":[],"members":[{"user_id":"ada"},{"user_id":"bob"}],"draft":null}"#;

#[test]
fn an_array_of_channels_is_what_its_elements_are_on_lines() {
    let array = format!("[\n{CHANNEL} ,\n {} ]", CHANNEL.replace("team:a", "team:b"));
    let lines = format!("{CHANNEL}\n{}\n", CHANNEL.replace("team:a", "team:b"));
    let wanted = decode(lines.as_bytes()).unwrap();
    assert_eq!((wanted.lines["channels"], wanted.lines["members"], wanted.rejected), (2, 4, 0));
    for bytes in [array.clone().into_bytes(), gzip(array.as_bytes())] {
        for step in [1, 7, 10_000] {
            assert_eq!(decode_as(ExportVersion::V1, &bytes, step).unwrap(), wanted);
        }
    }
    assert_eq!(decode_as(ExportVersion::V1, b"[]", 1).unwrap(), Tally::default());
    for end in 1..array.len() {
        let cut = decode_as(ExportVersion::V1, &array.as_bytes()[..end], 7);
        assert!(matches!(cut, Err(FileError::Broken(_))), "{end}: {cut:?}");
    }
}
