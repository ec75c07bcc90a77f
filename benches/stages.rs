//! The pure stages on their own: lines cut, decoded into each dataset, encoded as Parquet. Throughput is of the bytes that go in.
//!
//!     cargo bench --bench stages [-- FILTER]
//!     LINES=messages.ndjson cargo bench --bench stages     # the first 20,000 lines of a file, such as benches/compare/generate.py writes
//!
//! Without a file the lines are made here: messages in channels of 50, whose authors repeat.

use std::convert::Infallible;
use std::fmt::Write;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use arrow::array::RecordBatch;
use chatlake::columns::Schemas;
use chatlake::decode::{Decoder, Routes, Task};
use chatlake::json::Index;
use chatlake::ndjson::{Line, LineSplitter};
use chatlake::schema::DATASETS;
use chatlake::sort::hidden::visible;
use chatlake::window::parse_time;
use chatlake::write::parquet_file::{FileOptions, ParquetFile};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const LINES: usize = 20_000;

fn lines() -> String {
    let Ok(path) = std::env::var("LINES") else { return made() };
    let file = BufReader::new(std::fs::File::open(path).expect("LINES names a file"));
    file.lines().take(LINES).fold(String::new(), |mut all, line| {
        all.push_str(&line.expect("LINES is text"));
        all.push('\n');
        all
    })
}

fn made() -> String {
    let mut lines = String::new();
    for number in 0..LINES {
        let (channel, user, minute) = (number / 50, number * 7 % 311, number % 1440);
        let at = format!("2026-01-05T{:02}:{:02}:07.12345Z", minute / 60, minute % 60);
        let user = format!(
            r#"{{"id":"user-{user:05}","role":"user","created_at":"2025-02-01T10:00:00Z","updated_at":"2025-02-03T10:00:00Z","last_active":"2026-01-05T00:00:00Z","banned":false,"online":false,"name":"User {user}","image":"https://images.example.com/{user:08x}.png","custom":{{"city":"Oslo"}}}}"#
        );
        let text = "order parcel late today where is it ".repeat(1 + number % 5);
        writeln!(
            lines,
            r#"{{"id":"{number:08x}-4f2a-43ad-aa0e-033981450ba2","text":"{text}","html":"<p>{text}</p>\n","type":"regular","user":{user},"attachments":[],"latest_reactions":[],"own_reactions":[],"reaction_counts":{{}},"reaction_scores":{{}},"reaction_groups":null,"reply_count":0,"deleted_reply_count":0,"cid":"messaging:channel-{channel:06}","created_at":"{at}","updated_at":"{at}","shadowed":false,"mentioned_users":[{mentioned}],"silent":false,"pinned":false,"pinned_at":null,"pinned_by":null,"pin_expires":null,"parent_id":"","custom":{{"order":{number}}}}}"#,
            mentioned = if number % 20 == 0 { user.as_str() } else { "" },
        )
        .expect("a String takes everything");
    }
    lines
}

fn decode(schemas: &Schemas, lines: &str) -> Vec<(usize, RecordBatch)> {
    let exported_at = parse_time("2026-02-01").expect("a date");
    let mut decoder = Decoder::new(
        schemas,
        Task {
            task_id: "bench".to_owned(),
            exported_at,
            channels: None,
            superseded: Arc::default(),
            users: None,
            routes: Arc::new(Routes::into_days(exported_at, false)),
            keep_raw: false,
        },
    );
    let mut batches = Vec::new();
    let mut splitter = LineSplitter::new(1 << 20);
    let mut take = |line: Line<'_>| {
        decoder.line(line)?;
        batches.extend(decoder.take_ready());
        Ok::<_, std::io::Error>(())
    };
    splitter.push(lines.as_bytes(), &mut take).expect("nothing spills");
    let (rest, tally) = decoder.finish().expect("nothing spills");
    assert_eq!(tally.messages() as usize, lines.lines().count());
    batches.extend(rest);
    batches
}

fn stages(criterion: &mut Criterion) {
    let lines = lines();
    let bytes = Throughput::Bytes(lines.len() as u64);
    let schemas = Schemas::default();

    let mut group = criterion.benchmark_group("lines");
    group.throughput(bytes.clone());
    group.bench_function("split", |bencher| {
        bencher.iter(|| {
            let mut length = 0;
            let each = |line: Line<'_>| {
                length += line.length;
                Ok::<_, Infallible>(())
            };
            let Ok(()) = LineSplitter::new(1 << 20).push(lines.as_bytes(), each);
            black_box(length)
        });
    });
    group.bench_function("index", |bencher| {
        let mut index = Index::default();
        bencher.iter(|| lines.lines().filter(|line| index.parse(black_box(line)).is_ok()).count());
    });
    group.finish();

    let mut group = criterion.benchmark_group("decode");
    group.throughput(bytes).sample_size(20);
    group.bench_function("messages", |bencher| bencher.iter(|| decode(&schemas, black_box(&lines))));
    group.finish();

    let batches = decode(&schemas, &lines);
    let mut group = criterion.benchmark_group("encode");
    group.sample_size(20);
    for (dataset, name) in DATASETS.iter().enumerate() {
        let of_dataset: Vec<RecordBatch> =
            batches.iter().filter(|(number, _)| *number == dataset).map(|(_, batch)| visible(batch)).collect();
        let Some(first) = of_dataset.first() else { continue };
        let rows: usize = of_dataset.iter().map(RecordBatch::num_rows).sum();
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let options = FileOptions::default();
                let mut file = ParquetFile::create(first.schema(), &options).expect("a schema of ours");
                for batch in &of_dataset {
                    file.write(batch).expect("a batch of this schema");
                }
                file.finish().expect("nothing failed").0
            });
        });
    }
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
