//! What analysts' engines make of a lake: DuckDB, Polars, PyArrow and Spark read it alike, and the statements that
//! `chatlake schema --format ddl` prints show it to Spark, Trino and Athena.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use chatlake::schema;
use serde_json::{Value, json};
use simulator::switches::{ChannelLines, Switches};
use simulator::{BadLine, Effect, Fault, Insertion, Size, World};

use crate::bench::{Bench, Place, seed, two_days};

/// The output of a script in `tests/tools` for this input.
fn script(name: &str, arguments: &[&str], input: &str) -> Value {
    let python = std::env::var("CHATLAKE_TEST_PYTHON").expect("CHATLAKE_TEST_PYTHON: run the tests by ./test");
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/tools", name].iter().collect();
    let mut command = Command::new(python);
    command.arg(path).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?} failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn ddl(bench: &Bench, engine: &str, more: &[&str]) -> String {
    let ran = bench.run(&[&["schema", "--format", "ddl", "--engine", engine], more].concat());
    assert_eq!(ran.code, 0, "{ran:#?}");
    ran.stdout
}

/// A lake with rows in every dataset.
fn full(arguments: &[&str]) -> Bench {
    let switches = Switches { read_lines: ChannelLines::PerChannel, ..Switches::default() };
    let bench = Bench::with(World::seeded(seed(), &two_days()), switches, Place::Folder).unwrap();
    let lines = vec![Insertion { at_line: 0, line: BadLine::Text { text: "no JSON, 'quoted' \u{e9}".into() } }];
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::BadLines { lines }));
    bench.sync("2026-01-05", "2026-01-07", arguments).assert_status(0, "committed");
    bench
}

#[test]
fn every_engine_reads_the_same_from_a_lake() {
    let by_type = ["--partition-by", "event_date,channel_type"];
    let benches = [(full(&[]), &[][..]), (full(&by_type), &by_type)];
    let job: Vec<Value> = benches
        .iter()
        .map(|(bench, arguments)| json!({ "lake": bench.lake, "statements": ddl(bench, "spark", arguments) }))
        .collect();
    let found = script("read_engines.py", &[], &Value::from(job).to_string());
    for ((bench, arguments), lake) in benches.iter().zip(found["lakes"].as_array().unwrap()) {
        assert_eq!(lake["differences"], json!([]));
        let rows = bench.read().rows;
        for (engine, shape) in lake["engines"].as_object().unwrap() {
            assert_eq!(shape["rows"], rows["messages"], "{engine}");
        }
        if found["spark"] == false {
            continue;
        }
        for schema in schema::all() {
            let table = &lake["tables"][&schema.dataset];
            if schema.dataset == "quarantine" {
                assert_eq!(table["rows"], bench.rows("_quarantine").len());
            } else {
                assert_eq!(table["rows"], rows[&schema.dataset], "{}", schema.dataset);
            }
            assert!(table["rows"].as_u64().unwrap() > 0, "{}", schema.dataset);
            assert_eq!(table["absent"], json!([]), "{}", schema.dataset);
            for column in &schema.columns {
                let comment = table["comments"][&column.name].as_str().unwrap();
                assert!(comment.starts_with(column.doc.trim_end_matches('.')), "{}: {comment}", column.name);
            }
        }
        let types = &lake["tables"]["messages"]["types"];
        assert_eq!(types["event_date"], "date");
        assert_eq!(types["created_at"], "timestamp");
        assert_eq!(types["reaction_counts"], "map<string,bigint>");
        assert_eq!(types["channel_type"] == "string", !arguments.is_empty());
    }
}

/// Spark's statement is tried on files, so the others are right if they declare the same.
#[test]
fn the_same_columns_are_declared_to_every_engine() {
    let bench = Bench::new(&Size { channels: 1, days: 1, ..two_days() });
    let arguments = ["--location", "s3://bucket/chat", "--partition-by", "event_date,channel_type"];
    let [trino, athena, spark] =
        ["trino", "athena", "spark"].map(|engine| script("parse_sql.py", &[engine], &ddl(&bench, engine, &arguments)));
    for schema in schema::all() {
        let [trino, athena, spark] = [&trino, &athena, &spark].map(|tables| &tables[&schema.dataset]);
        let mut partitions = vec![schema.partition_by.column()];
        partitions.extend((partitions[0] == "event_date").then_some("channel_type"));
        let names: Vec<&str> =
            schema.columns.iter().map(|column| column.name.as_str()).chain(partitions.clone()).collect();
        let folder = if schema.dataset == "quarantine" { "_quarantine" } else { &schema.dataset };
        for table in [trino, athena, spark] {
            assert_eq!(columns(table).iter().map(|column| column[0].as_str()).collect::<Vec<_>>(), names);
            assert_eq!(columns(table), columns(spark));
            assert_eq!(table["partitions"], json!(partitions));
            assert_eq!(table["format"], "PARQUET");
            assert_eq!(table["location"].as_str().unwrap().trim_end_matches('/'), format!("s3://bucket/chat/{folder}"));
        }
        let template: String = partitions.iter().map(|name| format!("{name}=${{{name}}}/")).collect();
        assert_eq!(athena["properties"]["storage.location.template"], format!("s3://bucket/chat/{folder}/{template}"));
        assert_eq!(athena["properties"][format!("projection.{}.type", partitions[0])], "date");
    }
}

/// Name, type and comment of each column, without what is said differently: quotes, and whether a time is an instant.
fn columns(table: &Value) -> Vec<[String; 3]> {
    let columns: Vec<[String; 3]> = serde_json::from_value(table["columns"].clone()).unwrap();
    let plain =
        |kind: &str| kind.replace('"', "").replace("TIMESTAMPTZ", "TIMESTAMP").replace("TIMESTAMP(3)", "TIMESTAMP");
    columns.into_iter().map(|[name, kind, comment]| [name, plain(&kind), comment]).collect()
}
