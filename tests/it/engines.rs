//! What analysts' engines make of a lake: DuckDB, Polars, PyArrow, pandas, DataFusion and Spark read it alike, and the statements
//! that `chatlake schema` prints show it to Spark, Trino and Athena.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use chatlake::schema::{self, Schema};
use serde_json::{Value, json};
use simulator::switches::{ChannelLines, Switches};
use simulator::{BadLine, Effect, Fault, Insertion, Size, World};

use crate::bench::{Bench, Place, at, hours, seed, two_days};

/// The output of a script in `tests/tools` for this input.
pub fn script(name: &str, arguments: &[&str], input: &str) -> Value {
    script_with(&BTreeMap::new(), name, arguments, input)
}

/// The same with these variables besides.
pub fn script_with(env: &BTreeMap<String, String>, name: &str, arguments: &[&str], input: &str) -> Value {
    let python = std::env::var("CHATLAKE_TEST_PYTHON").expect("CHATLAKE_TEST_PYTHON: run the tests by ./test");
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/tools", name].iter().collect();
    let mut command = Command::new(python);
    command.envs(env);
    command.arg(path).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?} failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn ddl(bench: &Bench, engine: &str, more: &[&str]) -> String {
    sql(bench, "ddl", engine, more)
}

fn sql(bench: &Bench, format: &str, engine: &str, more: &[&str]) -> String {
    let ran = bench.run(&[&["schema", "--format", format, "--engine", engine], more].concat());
    assert_eq!(ran.code, 0, "{ran:#?}");
    ran.stdout
}

/// A lake with rows in every dataset.
fn full(arguments: &[&str]) -> Bench {
    full_at(Place::Folder, arguments).unwrap()
}

fn full_at(place: Place, arguments: &[&str]) -> Option<Bench> {
    let switches = Switches { read_lines: ChannelLines::PerChannel, calls_and_devices: true, ..Switches::default() };
    let bench = Bench::with(World::seeded(seed(), &two_days()), switches, place)?;
    let lines = vec![Insertion { at_line: 0, line: BadLine::Text { text: "no JSON, 'quoted' \u{e9}".into() } }];
    bench.simulator.add_fault(Fault::on("ExportChannels", Effect::BadLines { lines }));
    bench.sync("2026-01-05", "2026-01-07", arguments).assert_status(0, "committed");
    assert_eq!(bench.run(&["users", "--user-id", "amara"]).code, 0);
    Some(bench)
}

/// Where a dataset is below the lake.
fn folder(dataset: &str) -> &str {
    match dataset {
        "quarantine" => "_quarantine",
        "other" => "user_exports/other",
        dataset => dataset,
    }
}

/// What each day's run is told to promote: nothing, a key, and the key with another type and one more.
const PROMOTED: [(&str, &str); 3] = [
    ("2026-01-05", ""),
    ("2026-01-06", "[promote.messages]\norder_id = 'int64'\n"),
    (
        "2026-01-07",
        "[promote.messages]\norder_id = 'string'\namount = { type = 'float64', path = 'order.amount', unit = 'EUR' }\n",
    ),
];

/// A lake of three days whose files have three schemas.
fn evolved() -> Bench {
    let bench = Bench::new(&Size { channels: 12, days: 3, ..two_days() });
    for (number, message) in bench.simulator.truth().messages.iter().enumerate() {
        let order_id = if message.created_at < at("2026-01-07") { json!(number) } else { json!(format!("A-{number}")) };
        let change = |world: &mut World| {
            world.change_message(&message.id, |message| {
                message.custom.insert("order_id".to_owned(), order_id);
                message.custom.insert("order".to_owned(), json!({ "amount": 0.5, "paid": true }));
            })
        };
        bench.simulator.world(change).unwrap();
    }
    for (day, config) in PROMOTED {
        std::fs::write(bench.folder.path().join("chatlake.toml"), config).unwrap();
        let end = (at(day) + hours(24)).to_string();
        bench.sync(day, &end, &["--config", "chatlake.toml"]).assert_status(0, "committed");
    }
    bench
}

#[test]
fn every_engine_reads_the_same_from_lakes_with_one_schema_and_with_three() {
    let benches = [full(&[]), full(&["--partition-by", "event_date,channel_type"]), evolved()];
    let statements = [
        ddl(&benches[0], "spark", &[]),
        ["messages", "reactions"].map(|dataset| ddl(&benches[1], "spark", &[dataset])).concat(),
        ddl(&benches[2], "spark", &["messages"]),
    ];
    let lakes = benches.iter().map(|bench| &bench.lake).zip(&statements);
    let mut job: Vec<Value> = lakes.map(|(lake, tables)| json!({ "lake": lake, "tables": tables })).collect();
    let in_duckdb = ["ddl", "views"].map(|format| sql(&benches[0], format, "duckdb", &[])).concat();
    job[0]["views"] = json!({ "duckdb": in_duckdb, "spark": sql(&benches[0], "views", "spark", &[]) });
    let found = script("read_engines.py", &[], &Value::from(job).to_string());
    let has_spark = found["spark"] == true;
    for (bench, lake) in benches.iter().zip(found["lakes"].as_array().unwrap()) {
        all_read_alike(bench, lake, if has_spark { 6 } else { 5 });
    }
    three_versions_are_one_table(found["lakes"][2]["messages"].as_array().unwrap());
    if has_spark {
        tables_are_whole(&benches[0], &found["lakes"][0]["tables"], schema::all());
        let views = found["lakes"][0]["views"].as_object().unwrap();
        assert_eq!(views.len(), schema::all().len() - 2, "{views:?}");
        assert!(views.values().all(|rows| rows.as_u64() > Some(0)), "{views:?}");
        tables_are_whole(&benches[1], &found["lakes"][1]["tables"], &schema::all()[..2]);
        let types = [0, 1, 2].map(|lake| &found["lakes"][lake]["tables"]["messages"]["types"]);
        assert_eq!(types.map(|types| types["channel_type"] == "string"), [false, true, false]);
        let promoted = ["order_id", "order_id__string", "amount"].map(|column| &types[2][column]);
        assert_eq!(promoted, ["bigint", "string", "double"]);
    }
}

/// All rows, and the day of their folder as a date.
fn all_read_alike(bench: &Bench, lake: &Value, count: usize) {
    assert_eq!(lake["differences"], json!([]));
    let messages = bench.read().rows["messages"];
    let engines = lake["engines"].as_object().unwrap();
    assert_eq!(engines.len(), count);
    for (engine, rows) in engines {
        assert_eq!(*rows, messages, "{engine}");
        assert_eq!(lake["days"][engine], "date32[day]", "{engine}");
    }
}

#[test]
fn a_lake_in_a_bucket_reads_like_one_in_a_folder() {
    let Some(bench) = full_at(Place::S3, &[]) else { return };
    let job = json!([{ "lake": bench.lake }]).to_string();
    let found = script_with(bench.env(), "read_engines.py", &[], &job);
    all_read_alike(&bench, &found["lakes"][0], 5);
}

/// Rows of every dataset, and every column with its comment.
fn tables_are_whole(bench: &Bench, tables: &Value, schemas: &[Arc<Schema>]) {
    let rows = bench.read().rows;
    assert_eq!(tables.as_object().unwrap().len(), schemas.len());
    for schema in schemas {
        let (dataset, table) = (&schema.dataset, &tables[&schema.dataset]);
        let counted = rows.get(dataset.as_str()).copied();
        let expected = counted.unwrap_or_else(|| bench.rows(folder(dataset)).len() as u64);
        assert_eq!(table["rows"], expected, "{dataset}");
        assert!(expected > 0, "{dataset}");
        assert_eq!(table["absent"], json!([]), "{dataset}");
        for column in &schema.columns {
            let comment = table["comments"][&column.name].as_str().unwrap();
            let doc = column.doc.trim_end_matches('.').replace(';', " -");
            assert!(comment.starts_with(&doc), "{dataset}.{}: {comment}", column.name);
        }
    }
    let types = &tables["messages"]["types"];
    assert_eq!(
        [&types["event_date"], &types["created_at"], &types["reaction_counts"]],
        ["date", "timestamp", "map<string,bigint>"]
    );
}

/// A message that is gone is no current one, and what was exported several times is there once, as it was last.
#[test]
fn views_show_what_is_so_now() {
    const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];
    let bench = full(&[]);
    let gone = bench.simulator.truth().messages_in(at(RANGE[0]), at(RANGE[1])).next().unwrap().id.clone();
    bench.simulator.world(|world| world.hard_delete(&gone)).unwrap();
    bench.sync(RANGE[0], RANGE[1], &["--replace"]).assert_status(0, "committed");
    let left = bench.simulator.truth().messages_in(at(RANGE[0]), at(RANGE[1])).count();

    let statements = [ddl(&bench, "duckdb", &[]), sql(&bench, "views", "duckdb", &[])].concat();
    let twice = |table: &str, key: &str| format!("SELECT count(*) > count(DISTINCT ({key})) FROM {table}");
    let queries = [
        "SELECT count(*) FROM current_messages".to_owned(),
        format!("SELECT count(*) FROM messages WHERE id = '{gone}' AND _vanished_at IS NOT NULL"),
        format!("SELECT count(*) FROM current_messages WHERE id = '{gone}'"),
        "SELECT count(*) FROM current_reactions WHERE _vanished_at IS NOT NULL".to_owned(),
        twice("channels", "cid"),
        twice("latest_channels", "cid"),
        twice("members", "cid, user_id"),
        twice("latest_members", "cid, user_id"),
        twice("users", "id"),
        twice("latest_users", "id"),
        "SELECT (SELECT count(DISTINCT cid) FROM channels) - (SELECT count(*) FROM latest_channels)".to_owned(),
        "SELECT count(*) FROM latest_channels JOIN channels USING (cid) WHERE channels._exported_at > latest_channels._exported_at"
            .to_owned(),
    ];
    let found = script("run_sql.py", &[], &json!({ "statements": statements, "queries": queries }).to_string());
    let values: Vec<&Value> = found.as_array().unwrap().iter().map(|rows| &rows[0][0]).collect();
    let (yes, no) = (json!(true), json!(false));
    let wanted = [&json!(left), &json!(1), &json!(0), &json!(0), &yes, &no, &yes, &no, &yes, &no, &json!(0), &json!(0)];
    assert_eq!(values, wanted);
}

/// Each value is in the column that its day had for it, or in `custom` if it had none.
fn three_versions_are_one_table(messages: &[Value]) {
    let days: BTreeSet<&str> = messages.iter().map(|row| row["event_date"].as_str().unwrap()).collect();
    assert_eq!(days.into_iter().collect::<Vec<_>>(), PROMOTED.map(|(day, _)| day));
    for row in messages {
        let custom: Value = serde_json::from_str(row["custom"].as_str().unwrap()).unwrap();
        let [number, text, amount] = [&row["order_id"], &row["order_id__string"], &row["amount"]];
        // A key that is promoted from inside an object stays in the object too.
        assert_eq!(custom["order"], json!({ "amount": 0.5, "paid": true }));
        match row["event_date"].as_str().unwrap() {
            "2026-01-05" => {
                assert!(number.is_null() && text.is_null() && amount.is_null(), "{row}");
                assert!(custom["order_id"].is_u64(), "{row}");
            }
            "2026-01-06" => {
                assert!(number.is_u64() && text.is_null() && amount.is_null(), "{row}");
                assert!(custom["order_id"].is_null(), "{row}");
            }
            _ => {
                assert!(number.is_null() && text.as_str().unwrap().starts_with("A-"), "{row}");
                assert!(custom["order_id"].is_null(), "{row}");
                assert_eq!(*amount, json!(0.5));
            }
        }
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
        let folder = folder(&schema.dataset);
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

#[test]
fn views_of_every_engine_have_the_columns_of_their_tables() {
    let bench = Bench::new(&Size { channels: 1, days: 1, ..two_days() });
    let arguments = ["--location", "s3://bucket/chat", "--partition-by", "event_date,channel_type"];
    for engine in ["trino", "athena", "spark"] {
        let views = script("parse_sql.py", &[engine], &sql(&bench, "views", engine, &arguments));
        let mut left: BTreeSet<&str> = views.as_object().unwrap().keys().map(String::as_str).collect();
        for schema in schema::all() {
            let by_event = schema.partition_by.column() == "event_date";
            let name = format!("{}_{}", if by_event { "current" } else { "latest" }, schema.dataset);
            if !left.remove(name.as_str()) {
                assert!(["other", "quarantine"].contains(&schema.dataset.as_str()), "{engine}: {name}");
                continue;
            }
            let mut names: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
            names.push(schema.partition_by.column());
            names.extend(by_event.then_some("channel_type"));
            assert_eq!(views[&name], json!({ "columns": names, "from": [schema.dataset] }), "{engine}");
        }
        assert_eq!(left, BTreeSet::new(), "{engine}");
    }
}

/// Without files there is nothing that DuckDB could take a view's columns from.
#[test]
fn duckdb_is_told_of_the_datasets_that_a_lake_has() {
    let bench = Bench::new(&Size { channels: 4, days: 1, ..two_days() });
    let all = ddl(&bench, "duckdb", &[]);
    assert_eq!(all, "-- DuckDB shows files, and this lake has none yet.\n");
    let told = bench.run(&["schema", "messages"]);
    assert!(told.code == 0 && told.stderr.contains("there is no lake yet"), "a wrong name is no empty lake: {told:#?}");
    bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    let statements = [ddl(&bench, "duckdb", &[]), sql(&bench, "views", "duckdb", &[])].concat();
    for absent in ["reads", "other", "quarantine"] {
        assert!(!statements.contains(absent), "{absent}: {statements}");
    }
    let queries = ["SELECT count(*) FROM current_messages", "SELECT count(*) FROM latest_users"];
    let found = script("run_sql.py", &[], &json!({ "statements": statements, "queries": queries }).to_string());
    assert_eq!(found[0][0][0], bench.read().rows["messages"]);
    assert!(found[1][0][0].as_u64() > Some(0));
    assert!(ddl(&bench, "duckdb", &["reads"]).contains("reads/**/*.parquet"), "one that is named is shown");
    assert!(ddl(&bench, "spark", &[]).contains("`reads`"), "a table has its own columns");
}

/// Name, type and comment of each column, without what is said differently: quotes, and whether a time is an instant.
fn columns(table: &Value) -> Vec<[String; 3]> {
    let columns: Vec<[String; 3]> = serde_json::from_value(table["columns"].clone()).unwrap();
    let plain =
        |kind: &str| kind.replace('"', "").replace("TIMESTAMPTZ", "TIMESTAMP").replace("TIMESTAMP(3)", "TIMESTAMP");
    columns.into_iter().map(|[name, kind, comment]| [name, plain(&kind), comment]).collect()
}

#[test]
fn an_engine_without_ddl_and_ddl_without_an_engine_are_refused_with_the_choices() {
    let bench = Bench::new(&Size { channels: 1, days: 1, ..two_days() });
    const ENGINES: &str = "duckdb, trino, athena or spark";
    for format in ["ddl", "views"] {
        bench.run(&["schema", "--format", format]).assert_refused(2, &["add --engine with", ENGINES]);
    }
    bench.run(&["schema", "--engine", "athena"]).assert_refused(2, &["--format ddl", ENGINES]);
    bench.run(&["schema", "--format", "ddl", "--engine", "hive"]).assert_refused(2, &["duckdb, trino, athena, spark"]);
    bench.run(&["schema", "orders"]).assert_refused(2, &["no dataset `orders`", "messages, reactions"]);
}
