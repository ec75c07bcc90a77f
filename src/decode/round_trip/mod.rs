//! The round trip: an entity becomes rows, and the rows give the entity back, but for what `docs/datasets.md` says reads
//! differently.
//!
//! ```text
//! SEED=17 cargo nextest run round_trip          one case again
//! CASES=20000 cargo nextest run round_trip      many
//! ```
//!
//! Nothing here uses the decoder's plan or its parser: rows are read by `schemas/*.json`, lines by a parser of their own.

mod fields;
mod generate;
mod json;
mod normal;
mod rebuild;

use arrow::array::AsArray;

use self::generate::{KINDS, Manners, Random, entity};
use self::json::{Json, Object};
use self::normal::{Around, Beside, Side, normal};
use self::rebuild::{names_a_column, rebuild};
use super::*;
use crate::window::{Grid, Window, parse_time};

/// Entities of each kind and manners.
const DEFAULT_CASES: u64 = 150;

struct Rows {
    batches: Vec<(&'static str, RecordBatch)>,
    tally: Tally,
}

fn decode(lines: &[&str]) -> Rows {
    let day = Window::new(parse_time("2026-01-01").unwrap(), parse_time("2026-01-02").unwrap()).unwrap();
    let exported_at = parse_time("2026-02-01").unwrap();
    let mut decoder = Decoder::new(
        &Schemas::default(),
        Task {
            task_id: "t".to_owned(),
            exported_at,
            channels: None,
            users: None,
            superseded: Arc::default(),
            routes: Arc::new(Routes::new(&Grid::default().cells(day), 1_000, exported_at, false)),
            keep_raw: false,
        },
    );
    for (number, line) in lines.iter().enumerate() {
        let bytes = line.as_bytes();
        decoder.line(Line { number: number as u64, offset: 0, length: bytes.len() as u64, bytes }).unwrap();
    }
    let (batches, tally) = decoder.finish().unwrap();
    let batches = batches.into_iter().map(|(dataset, batch)| (crate::schema::DATASETS[dataset], batch)).collect();
    Rows { batches, tally }
}

impl Rows {
    /// What the rows of a dataset say they were.
    fn rebuilt(&self, dataset: &str) -> Vec<Object> {
        let schema = crate::schema::find(dataset).unwrap();
        let batches = self.batches.iter().filter(|(name, _)| *name == dataset);
        let rows = batches.flat_map(|(_, batch)| (0..batch.num_rows()).map(move |row| (batch, row)));
        let (around, is_row) = (&Around::default(), &|_: &str, _: &Object| false);
        let beside = Beside { emits: &schema.emits, ignored: &schema.ignored, around, is_row };
        rows.map(|(batch, row)| {
            let object = rebuild(&schema.columns, |name| batch.column_by_name(name), row);
            normal(&schema.columns, Some(&beside), &object, Side::Out)
        })
        .collect()
    }

    /// What an object is, if nothing of it but what is a row elsewhere reads differently.
    fn wanted(&self, dataset: &str, object: &Object, around: &Around) -> Object {
        let schema = crate::schema::find(dataset).unwrap();
        let inside = self.inside(dataset, object, around);
        let is_row = |dataset: &str, object: &Object| {
            let wanted = self.wanted(dataset, object, &inside);
            self.rebuilt(dataset).contains(&wanted)
        };
        let beside = Beside { emits: &schema.emits, ignored: &schema.ignored, around, is_row: &is_row };
        normal(&schema.columns, Some(&beside), object, Side::In)
    }

    /// What surrounds the objects inside this one.
    fn inside(&self, dataset: &str, object: &Object, around: &Around) -> Around {
        let text = |key: &str| object.get(key)?.as_text().filter(|text| !text.is_empty()).map(str::to_owned);
        let (kind, id) = if dataset == "channels" { ("type", "id") } else { ("channel_type", "channel_id") };
        let joined = || Some(format!("{}:{}", text(kind)?, text(id)?));
        let embedded = || object.get("channel")?.as_object()?.get("cid")?.as_text().map(str::to_owned);
        match dataset {
            "messages" => Around {
                cid: text("cid").or_else(joined).or_else(embedded).or_else(|| around.cid.clone()),
                message_id: text("id"),
            },
            "channels" => Around { cid: text("cid").or_else(joined).or_else(|| around.cid.clone()), ..around.clone() },
            _ => around.clone(),
        }
    }

    /// What was rescued, though a column is there for it alone and nothing else said otherwise.
    fn misfits(&self) -> Vec<String> {
        let mut misfits = Vec::new();
        for (dataset, batch) in &self.batches {
            let Some(rescued) = batch.column_by_name("_rescued") else { continue };
            let schema = crate::schema::find(dataset).unwrap();
            for text in rescued.as_string::<i32>().iter().flatten() {
                let Json::Object(rescued) = Json::parse(text) else { panic!("misfits are an object") };
                misfits.extend(rescued.into_keys().filter(|path| names_a_column(&schema.columns, path)));
            }
        }
        misfits
    }

    fn quarantined(&self) -> Vec<Json> {
        let batches = self.batches.iter().filter(|(name, _)| *name == "quarantine");
        batches
            .flat_map(|(_, batch)| batch.column_by_name("line").unwrap().as_string::<i32>().iter().flatten())
            .map(Json::parse)
            .collect()
    }
}

/// The seeds to play.
fn seeds() -> std::ops::Range<u64> {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    match from_env("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("CASES").unwrap_or(DEFAULT_CASES),
    }
}

/// A line with an entity in it, and what surrounds the entity.
fn envelope(name: &str, text: &str, seed: u64) -> (String, Around) {
    let in_channel = Around { cid: Some("team:a".to_owned()), message_id: None };
    match (name, seed % 4) {
        ("message" | "member" | "read", 3) => {
            (format!(r#"{{"channel":{{"cid":"team:a"}},"messages":[],"{name}s":[{text}]}}"#), in_channel)
        }
        (name, form) => {
            let line = match form {
                0 => format!(r#"{{"item":{text},"type":"{name}"}}"#),
                1 => format!(r#"{{"{name}":{text}}}"#),
                _ => format!(r#"{{"type":"{name}","data":{text}}}"#),
            };
            let of_message = Around { message_id: Some("m-0".to_owned()), ..in_channel };
            (line, if name == "reaction" { of_message } else { Around::default() })
        }
    }
}

/// Decodes an entity, and compares what its rows say with what it was.
fn round_trip(kind: usize, manners: Manners, seed: u64) {
    let (name, _) = KINDS[kind];
    let text = entity(kind, manners, &mut Random(seed));
    if let Err(what) = compare(name, &text, seed, manners) {
        panic!("SEED={seed} {name}: {what}\n{text:.4000}");
    }
}

fn compare(name: &str, text: &str, form: u64, manners: Manners) -> Result<(), String> {
    let (line, around) = envelope(name, text, form);
    let message = r#"{"type":"message","data":{"id":"m-0","cid":"team:a","created_at":"2026-01-01T09:00:00Z"}}"#;
    let rows = if name == "reaction" { decode(&[message, &line]) } else { decode(&[&line]) };
    let Json::Object(object) = Json::parse(text) else { panic!("an entity is an object") };
    let quarantined = rows.quarantined();
    if !quarantined.is_empty() {
        return match manners {
            Manners::Bad if quarantined == [Json::Object(object)] => Ok(()),
            _ => Err(format!("rejected for {:?}, as {quarantined:?}", rows.tally.reasons)),
        };
    }
    let dataset = format!("{name}s");
    let wanted = rows.wanted(&dataset, &object, &around);
    let found = rows.rebuilt(&dataset);
    if !found.contains(&wanted) {
        let found = found.last().cloned().unwrap_or_default();
        let missing: Vec<_> = wanted.iter().filter(|(key, value)| found.get(*key) != Some(value)).collect();
        let other: Vec<_> = found.iter().filter(|(key, value)| wanted.get(*key) != Some(value)).collect();
        return Err(format!("wanted {missing:?}\nfound {other:?}"));
    }
    let misfits = rows.misfits();
    if manners == Manners::Good && !misfits.is_empty() {
        return Err(format!("rescued {misfits:?}"));
    }
    Ok(())
}

#[test]
fn of_any_entity_everything_is_found_again() {
    for seed in seeds() {
        for kind in 0..KINDS.len() {
            round_trip(kind, Manners::Bad, seed);
        }
    }
}

#[test]
fn of_no_known_kind_the_line_is_found_again() {
    for seed in seeds() {
        let text = entity(0, Manners::Bad, &mut Random(seed));
        let line = format!(r#"{{"kind":"surprise","payload":{text}}}"#);
        assert_eq!(decode(&[&line]).quarantined(), [Json::parse(&line)], "SEED={seed}");
    }
}

#[test]
fn of_an_entity_as_documented_everything_is_typed() {
    for seed in seeds() {
        for kind in 0..KINDS.len() {
            round_trip(kind, Manners::Good, seed);
        }
    }
}
