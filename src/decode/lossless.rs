//! Nothing of a line is lost: every value of it is found again in a column, in `custom`, in `_rescued`, in the row of another
//! dataset that it made, or in quarantine.
//!
//! What reads differently but is the same: times are microseconds; a number in a text, where a column takes it, is a number.
//! What carries nothing is not looked for: null, `""`, and Go's zero time.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::content::row_hashes;
use crate::schema::{Column, Source};
use crate::sort::hidden::{self, visible};
use crate::window::{Grid, Window, parse_time};
use crate::write::parquet_file::{FileOptions, ParquetFile};
use crate::write::parquet_read::read_old;

/// Values and keys as text.
#[derive(Default)]
struct Found {
    values: BTreeSet<String>,
    keys: BTreeSet<String>,
}

impl Found {
    fn json(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(flag) => self.value(flag),
            Value::Number(number) => self.value(number),
            Value::String(text) => self.value(text),
            Value::Array(items) => items.iter().for_each(|item| self.json(item)),
            Value::Object(object) => {
                for (key, value) in object {
                    self.keys.insert(key.clone());
                    self.json(value);
                }
            }
        }
    }

    fn value(&mut self, value: impl std::fmt::Display) {
        self.values.insert(value.to_string());
    }

    fn column(&mut self, column: &ArrayRef) {
        let valid = (0..column.len()).filter(|row| column.is_valid(*row));
        match column.data_type() {
            DataType::Utf8 => {
                for row in valid {
                    let text = column.as_string::<i32>().value(row);
                    match serde_json::from_str::<Value>(text) {
                        Ok(value @ (Value::Object(_) | Value::Array(_))) => self.json(&value),
                        // A JSON column holds a text in quotes, a text column without.
                        Ok(Value::String(inner)) => self.value(inner),
                        // As it is read from the line that it is compared with.
                        Ok(Value::Number(number)) => self.value(number),
                        _ => {}
                    }
                    self.value(text);
                }
            }
            DataType::Boolean => valid.for_each(|row| self.value(column.as_boolean().value(row))),
            DataType::Int32 => valid.for_each(|row| self.value(column.as_primitive::<Int32Type>().value(row))),
            DataType::Int64 => valid.for_each(|row| self.value(column.as_primitive::<Int64Type>().value(row))),
            DataType::UInt32 => valid.for_each(|row| self.value(column.as_primitive::<UInt32Type>().value(row))),
            DataType::Float64 => valid.for_each(|row| {
                let number = column.as_primitive::<Float64Type>().value(row);
                self.value(json!(number));
                self.value(number);
            }),
            DataType::Timestamp(..) => {
                valid.for_each(|row| self.value(column.as_primitive::<TimestampMicrosecondType>().value(row)));
            }
            DataType::List(_) => self.column(column.as_list::<i32>().values()),
            DataType::Struct(_) => column.as_struct().columns().iter().for_each(|column| self.column(column)),
            DataType::Map(..) => {
                let entries = column.as_map();
                entries.keys().as_string::<i32>().iter().flatten().for_each(|key| {
                    self.keys.insert(key.to_owned());
                });
                self.column(entries.values());
            }
            DataType::FixedSizeBinary(_) | DataType::UInt8 => {}
            other => panic!("columns of {other} are not looked into"),
        }
    }

    /// Whether a value of a line is here in one of its forms.
    fn has(&self, value: &Value) -> bool {
        let at = |text: &str| text.parse::<Timestamp>().ok().map(|at| at.as_nanosecond().div_euclid(1_000).to_string());
        match value {
            Value::String(text) => {
                text.is_empty()
                    || text.starts_with("0001-01-01T00:00:00")
                    || self.values.contains(text)
                    || at(text).is_some_and(|us| self.values.contains(&us))
            }
            Value::Number(number) => {
                let nanoseconds = number.as_i64().map(|ns| ns.div_euclid(1_000).to_string());
                let float = number.as_f64().map(|float| float.to_string());
                [Some(number.to_string()), nanoseconds, float]
                    .into_iter()
                    .flatten()
                    .any(|text| self.values.contains(&text))
            }
            other => self.values.contains(&other.to_string()),
        }
    }

    /// What of a line is not here.
    fn lost(&self, value: &Value, path: &str, lost: &mut Vec<String>) {
        match value {
            Value::Null => {}
            Value::Array(items) => items.iter().for_each(|item| self.lost(item, &format!("{path}[]"), lost)),
            Value::Object(object) => {
                for (key, value) in object.iter().filter(|(key, _)| !IGNORED.contains(&key.as_str())) {
                    let path = format!("{path}.{key}");
                    let carries_something = !matches!(value, Value::Null);
                    if carries_something && !self.keys.contains(key) && !known_names().contains(key) {
                        lost.push(format!("the key {path}"));
                    }
                    self.lost(value, &path, lost);
                }
            }
            leaf if self.has(leaf) => {}
            leaf => lost.push(format!("{path} = {leaf}")),
        }
    }
}

/// The keys that schemas read, at any depth, and those of envelopes.
fn known_names() -> &'static BTreeSet<String> {
    static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        fn source(source: &Source, names: &mut BTreeSet<String>) {
            match source {
                Source::Path(keys) => names.extend(keys.iter().cloned()),
                Source::Each { array, key } => names.extend([Some(array.clone()), key.clone()].into_iter().flatten()),
                Source::Join(one, other) => names.extend([one.clone(), other.clone()]),
                Source::Context(_) | Source::Rest | Source::Misfits => {}
            }
        }
        fn columns(of: &[Column], names: &mut BTreeSet<String>) {
            for column in of {
                column.sources.iter().for_each(|from| source(from, names));
                columns(&column.fields, names);
            }
        }
        let mut names = BTreeSet::from(
            ["custom", "data", "item", "messages", "message", "channel", "member", "user", "reaction", "read", "poll"]
                .map(str::to_owned),
        );
        for schema in crate::schema::all() {
            columns(&schema.columns, &mut names);
            schema.emits.iter().for_each(|emit| source(&emit.source, &mut names));
            schema.ignored.iter().for_each(|ignored| source(&ignored.source, &mut names));
        }
        names
    });
    &NAMES
}

/// What schemas leave out on purpose.
const IGNORED: [&str; 2] = ["own_reactions", "own_votes"];

/// The batches of these lines, decoded as one file.
fn decoded(lines: &[Value]) -> Vec<(usize, RecordBatch)> {
    let day = Window::new(parse_time("2026-01-01").unwrap(), parse_time("2026-01-02").unwrap()).unwrap();
    let cells = Grid::default().cells(day);
    let exported_at = parse_time("2026-02-01").unwrap();
    let routes = Arc::new(Routes::new(&cells, 1_000, exported_at, false));
    let task = Task {
        task_id: "t".to_owned(),
        exported_at,
        channels: None,
        superseded: Arc::default(),
        routes,
        keep_raw: false,
    };
    let mut decoder = Decoder::new(&Schemas::default(), task);
    for (number, line) in lines.iter().enumerate() {
        let text = line.to_string();
        let bytes = text.as_bytes();
        let line = Line { number: number as u64, offset: 0, length: bytes.len() as u64, bytes };
        decoder.line(line).unwrap();
    }
    decoder.finish().unwrap().0
}

/// What is lost of them.
fn lost(lines: &[Value]) -> Vec<String> {
    let mut found = Found::default();
    for (_, batch) in decoded(lines) {
        batch.columns().iter().for_each(|column| found.column(column));
    }
    let mut lost = Vec::new();
    for line in lines {
        // As parsed from its text, like everything it is compared with.
        found.lost(&serde_json::from_str(&line.to_string()).unwrap(), "", &mut lost);
    }
    lost
}

/// A line in each envelope. What the envelope itself says is told from what it holds.
fn envelopes(kind: &str, entity: &Value) -> Vec<Value> {
    let mut shapes = vec![
        json!({ "type": kind, "data": entity }),
        json!({ "type": kind, "item": entity }),
        json!({ kind: entity }),
        json!({ "type": kind, "data": entity, "beside": 7, "more": { "deep": [true] }, "none": null }),
        json!({ "type": kind, "data": entity, "item": { "second": 8 } }),
        json!({ "data": { kind: entity } }),
        json!({ "type": kind, "data": { kind: entity } }),
    ];
    if kind == "message" || kind == "channel" {
        shapes.push(entity.clone());
    }
    if kind == "message" {
        shapes.push(json!({ "channel": { "type": "team", "id": "a", "cid": "team:a", "created_at": "2025-01-01T00:00:00Z" }, "messages": [entity] }));
    }
    shapes
}

/// The kind that an envelope names is not in any row: the row's dataset is.
fn without_kind(lost: Vec<String>, kind: &str) -> Vec<String> {
    lost.into_iter().filter(|lost| *lost != format!(".type = {kind:?}")).collect()
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(|number: f64| json!(number)),
        "\\PC{0,12}".prop_map(Value::from),
        "[a-z0-9]{6,10}".prop_map(Value::from),
        (1_600_000_000i64..1_800_000_000, 0u32..1_000_000_000)
            .prop_map(|(s, ns)| { Timestamp::new(s, i32::try_from(ns).unwrap()).unwrap().to_string().into() }),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A name that some schema reads, or one that none does.
fn name() -> impl Strategy<Value = String> {
    let known: Vec<String> = known_names().iter().cloned().collect();
    prop_oneof![prop::sample::select(known), "[a-z_]{3,9}", "\\PC{1,4}"]
}

fn entity(required: Value) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(name(), anything(), 0..12).prop_map(move |more| {
        let mut object: Map<String, Value> = more.into_iter().collect();
        object.extend(required.as_object().cloned().unwrap_or_default());
        Value::Object(object)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn of_a_message(entity in entity(json!({"id": "m-1", "cid": "team:a", "created_at": "2026-01-01T10:00:00Z", "text": "hello"}))) {
        for line in envelopes("message", &entity) {
            prop_assert_eq!(without_kind(lost(std::slice::from_ref(&line)), "message"), Vec::<String>::new(), "{}", line);
        }
    }

    #[test]
    fn of_a_channel(entity in entity(json!({"id": "a", "type": "team", "cid": "team:a", "created_at": "2025-01-01T00:00:00Z"}))) {
        for line in envelopes("channel", &entity) {
            prop_assert_eq!(without_kind(lost(std::slice::from_ref(&line)), "channel"), Vec::<String>::new(), "{}", line);
        }
    }

    #[test]
    fn of_the_rest(entity in entity(json!({"id": "x", "user_id": "amara", "cid": "team:a", "message_id": "m-1", "type": "like"}))) {
        for kind in ["member", "user", "reaction", "read", "poll"] {
            for line in envelopes(kind, &entity) {
                prop_assert_eq!(without_kind(lost(std::slice::from_ref(&line)), kind), Vec::<String>::new(), "{}", line);
            }
        }
    }

    #[test]
    fn of_no_known_kind(value in anything()) {
        let line = json!({ "kind": "surprise", "payload": value });
        prop_assert_eq!(lost(&[line]), Vec::<String>::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_row_has_the_content_hash_that_it_has_when_it_is_read_back(
        entities in prop::collection::vec(entity(json!({"id": "m-1", "cid": "team:a", "created_at": "2026-01-01T10:00:00Z"})), 1..4),
    ) {
        let lines: Vec<Value> = entities.iter().flat_map(|entity| envelopes("message", entity)).collect();
        for (dataset, batch) in decoded(&lines) {
            let schema = &crate::schema::all()[dataset];
            let mut file = ParquetFile::create(schema.arrow(), &FileOptions::default()).unwrap();
            file.write(&visible(&batch)).unwrap();
            let mut hashes = Vec::new();
            for old in read_old(file.finish().unwrap().0, &schema.arrow(), 1 << 10).unwrap() {
                let old = old.unwrap();
                let read = row_hashes(&schema.columns, old.columns(), old.num_rows());
                hashes.extend(read.iter().flatten().map(<[u8]>::to_vec));
            }
            let wanted = batch.column_by_name(hidden::HASH).unwrap().as_fixed_size_binary();
            let wanted: Vec<Vec<u8>> = wanted.iter().flatten().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(hashes, wanted, "{}", schema.dataset);
        }
    }
}
