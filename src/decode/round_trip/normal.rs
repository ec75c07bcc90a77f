//! What reads differently, as `docs/datasets.md` lists it, and nothing else: two objects are the same if this makes them equal.

use jiff::Timestamp;

use super::json::{Json, Object};
use super::rebuild::{REST, pseudonym, stands_alone};
use crate::schema::{Column, Context, Emit, Ignored, Kind, Source};

/// What surrounds an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    pub(super) cid: Option<String>,
    pub(super) message_id: Option<String>,
}

/// The object that came in, or what its row says it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    In,
    Out,
}

/// What a schema says besides its columns.
pub(super) struct Beside<'a> {
    pub(super) emits: &'a [Emit],
    pub(super) ignored: &'a [Ignored],
    pub(super) around: &'a Around,
    /// Whether a row of this dataset holds that object.
    pub(super) is_row: &'a dyn Fn(&str, &Object) -> bool,
}

/// How a value and a column get along.
enum Fit {
    Takes(Json),
    Nothing,
    Not,
}

pub(super) fn normal(columns: &[Column], beside: Option<&Beside<'_>>, object: &Object, side: Side) -> Object {
    let original = object;
    let mut object = object.clone();
    let own_keys = columns.iter().flat_map(|column| &column.sources).flat_map(Source::keys);
    let emitted_keys = beside.iter().flat_map(|it| it.emits).flat_map(|emit| emit.source.keys());
    let ignored_keys = beside.iter().flat_map(|it| it.ignored).flat_map(|ignored| ignored.source.keys());
    let known: Vec<&str> = own_keys.chain(emitted_keys).chain(ignored_keys.clone()).chain(["custom"]).collect();
    for key in ignored_keys {
        object.remove(key);
    }
    // Null is the same as absent, where the key is known.
    object.retain(|key, value| *value != Json::Null || !known.contains(&key.as_str()));

    // Custom data reads the same nested and inlined.
    let mut rest = match side {
        Side::Out => object.remove(REST).map(|rest| rest.as_object().unwrap().clone()).unwrap_or_default(),
        Side::In => match object.get("custom") {
            Some(Json::Object(custom)) => {
                let custom = custom.clone();
                object.remove("custom");
                custom
            }
            _ => Object::new(),
        },
    };
    let is_pseudonym = |key: &str| side == Side::Out && key.starts_with('=');
    let unknown = |key: &str| !known.contains(&key) && !is_pseudonym(key);
    for key in object.keys().filter(|key| unknown(key)).cloned().collect::<Vec<_>>() {
        match rest.get(&key) {
            Some(same) if *same == object[&key] => drop(object.remove(&key)),
            Some(_) => {}
            None => {
                let value = object.remove(&key).unwrap();
                rest.insert(key, value);
            }
        }
    }

    // Of several ways to say one thing, those that agree are one.
    let is_held = |key: &str| {
        columns
            .iter()
            .any(|column| stands_alone(column) && matches!(&column.sources[0], Source::Path(path) if path[0] == key))
    };
    let mut lost = Vec::new();
    for column in columns.iter().filter(|column| !stands_alone(column)) {
        if matches!(column.sources[0], Source::Rest | Source::Misfits) {
            continue;
        }
        let winner = match side {
            Side::Out => object.remove(&pseudonym(column)),
            Side::In => column.sources.iter().find_map(|source| said(column, source, original, beside)),
        };
        for source in &column.sources {
            match source {
                Source::Path(path) if path.len() == 1 && !is_held(&path[0]) => {
                    agree(column, &mut object, &path[0], winner.as_ref());
                }
                Source::Path(path) if path[0] == "custom" => agree(column, &mut rest, &path[1], winner.as_ref()),
                Source::Join(one, other)
                    if joined(original, one, other).is_some_and(|text| Some(&Json::Text(text)) == winner.as_ref()) =>
                {
                    for key in [one, other].into_iter().filter(|key| !is_held(key)) {
                        object.remove(key);
                    }
                }
                Source::Each { array, key } if !is_held(array) => {
                    let Some(Json::Array(items)) = object.get(array) else { continue };
                    if texts(items, key.as_deref()) != winner {
                        continue;
                    }
                    let mut odd = Object::new();
                    for (index, item) in items.iter().enumerate() {
                        if text_of(item, key.as_deref()).is_none() {
                            odd.insert(format!("[{index}]"), item.clone());
                        } else if let (Json::Object(item), Some(beside), Side::In) = (item, beside, side)
                            && let Some(emit) = beside.emits.iter().find(|emit| emit.source.keys()[0] == array)
                            && !(beside.is_row)(&emit.dataset, item)
                        {
                            lost.push((
                                format!("no row of {}: {array}[{index}]", emit.dataset),
                                Json::Object(item.clone()),
                            ));
                        }
                    }
                    object.remove(array);
                    if !odd.is_empty() {
                        object.insert(array.clone(), Json::Object(odd));
                    }
                }
                _ => {}
            }
        }
        if let Some(winner) = winner {
            object.insert(pseudonym(column), winner);
        }
    }
    object.extend(lost);

    // Embedded objects are rows elsewhere, found by their ids.
    if let (Some(beside), Side::In) = (beside, side) {
        for emit in beside.emits {
            embedded(columns, beside, emit, &mut object);
        }
    }

    for column in columns.iter().filter(|column| stands_alone(column)) {
        in_place(column, &mut object, side);
    }
    if !rest.is_empty() {
        object.insert(REST.to_owned(), Json::Object(rest));
    }
    object
}

fn embedded(columns: &[Column], beside: &Beside<'_>, emit: &Emit, object: &mut Object) {
    let is_row = |value: &Json| value.as_object().is_some_and(|value| (beside.is_row)(&emit.dataset, value));
    match &emit.source {
        Source::Path(path) if path.len() == 1 => {
            let key = &path[0];
            let Some(value) = object.get(key).filter(|value| is_row(value)).cloned() else { return };
            object.remove(key);
            // An id that the column does not hold is not told by the row elsewhere.
            let mut differing = Object::new();
            for column in columns.iter().filter(|column| !stands_alone(column)) {
                for source in &column.sources {
                    if let Source::Path(path) = source
                        && path.len() == 2
                        && path[0] == *key
                        && let Some(id) = value.as_object().and_then(|value| value.get(&path[1]))
                        && *id != Json::Null
                        && object.get(&pseudonym(column)) != Some(id)
                    {
                        differing.insert(path[1].clone(), id.clone());
                    }
                }
            }
            if !differing.is_empty() {
                object.insert(key.clone(), Json::Object(differing));
            }
        }
        Source::Each { array, key: None }
            if object.get(array).and_then(Json::as_array).is_some_and(|items| items.iter().all(is_row)) =>
        {
            object.remove(array);
        }
        _ => {}
    }
}

/// What a source says, if its column can hold it.
fn said(column: &Column, source: &Source, object: &Object, beside: Option<&Beside<'_>>) -> Option<Json> {
    match source {
        Source::Path(path) => {
            let mut value = object.get(&path[0])?;
            for key in &path[1..] {
                value = value.as_object()?.get(key)?;
            }
            if let Fit::Takes(value) = fit(column, value) { Some(value) } else { None }
        }
        Source::Each { array, key } => texts(object.get(array)?.as_array()?, key.as_deref()),
        Source::Join(one, other) => joined(object, one, other).map(Json::Text),
        Source::Context(context) => {
            let around = beside?.around;
            match context {
                Context::Cid => around.cid.clone(),
                Context::MessageId => around.message_id.clone(),
                _ => None,
            }
            .map(Json::Text)
        }
        _ => None,
    }
}

fn joined(object: &Object, one: &str, other: &str) -> Option<String> {
    let text = |key: &str| object.get(key)?.as_text().filter(|text| !text.is_empty());
    Some(format!("{}:{}", text(one)?, text(other)?))
}

fn text_of(item: &Json, key: Option<&str>) -> Option<Json> {
    match key {
        None => item.as_text().map(Json::text),
        Some(key) => item.as_object()?.get(key)?.as_text().filter(|text| !text.is_empty()).map(Json::text),
    }
}

/// The texts of a list; none if it has other things only.
fn texts(items: &[Json], key: Option<&str>) -> Option<Json> {
    let texts: Vec<Json> = items.iter().filter_map(|item| text_of(item, key)).collect();
    (items.is_empty() || !texts.is_empty()).then_some(Json::Array(texts))
}

/// Removes what says the same as the column, or nothing.
fn agree(column: &Column, object: &mut Object, key: &str, winner: Option<&Json>) {
    let Some(value) = object.get(key) else { return };
    match fit(column, value) {
        Fit::Takes(value) if Some(&value) != winner => {}
        Fit::Not => {}
        Fit::Takes(_) | Fit::Nothing => drop(object.remove(key)),
    }
}

fn in_place(column: &Column, object: &mut Object, side: Side) {
    let key = column.sources[0].keys()[0].to_owned();
    let Some(value) = object.get_mut(&key) else { return };
    let inner = |value: &Json| match value {
        Json::Object(fields) => Json::Object(normal(&column.fields, None, fields, side)),
        other => other.clone(),
    };
    match (&column.sources[0], value) {
        (Source::Entries(_), Json::Object(entries)) => {
            entries.retain(|_, value| *value != Json::Null);
            entries.values_mut().for_each(|value| *value = inner(value));
        }
        (Source::Each { .. }, Json::Array(items)) if column.kind == Kind::StructList => {
            items.iter_mut().for_each(|item| *item = inner(item));
        }
        (Source::Each { .. }, _) => {}
        (Source::Path(_), value) if column.kind == Kind::Struct => *value = inner(value),
        (Source::Path(_), Json::Object(entries)) if column.kind == Kind::CountMap => {
            entries.retain(|_, value| *value != Json::Null);
            entries.values_mut().for_each(|value| {
                if let Some(count) = integer(value, false) {
                    *value = count;
                }
            });
        }
        (_, value) => match fit(column, value) {
            Fit::Takes(same) => *value = same,
            Fit::Nothing => drop(object.remove(&key)),
            Fit::Not => {}
        },
    }
}

/// What a column makes of a value.
fn fit(column: &Column, value: &Json) -> Fit {
    let takes = |value: Option<Json>| value.map_or(Fit::Not, Fit::Takes);
    match column.kind {
        _ if *value == Json::Null => Fit::Nothing,
        Kind::String => match value.as_text() {
            Some("") if column.empty_is_null || column.required => Fit::Nothing,
            Some(text) => Fit::Takes(Json::text(text)),
            None => Fit::Not,
        },
        Kind::Int64 => takes(integer(value, column.lenient)),
        Kind::Float64 => takes(float(value, column.lenient)),
        Kind::Bool => takes(matches!(value, Json::Bool(_)).then(|| value.clone())),
        Kind::Timestamp => match time(value) {
            Some(us) if us == GO_ZERO_US => Fit::Nothing,
            Some(us) => Fit::Takes(Json::Text(format!("at {us} µs"))),
            None if value.as_text() == Some("") => Fit::Nothing,
            None => Fit::Not,
        },
        Kind::Json => Fit::Takes(value.clone()),
        Kind::StringList | Kind::CountMap | Kind::Struct | Kind::StructList => Fit::Not,
    }
}

fn digits(value: &Json, lenient: bool) -> Option<&str> {
    match value {
        Json::Number(digits) => Some(digits),
        Json::Text(text) if lenient => Some(text),
        _ => None,
    }
}

/// `12.0` is the whole number 12.
fn integer(value: &Json, lenient: bool) -> Option<Json> {
    let digits = digits(value, lenient)?;
    let whole = digits.parse::<i64>().ok().or_else(|| {
        let float = digits.parse::<f64>().ok()?;
        (float.fract() == 0.0 && float.abs() < 2f64.powi(53)).then_some(float as i64)
    });
    whole.map(|whole| Json::Number(whole.to_string()))
}

/// Numbers are doubles.
fn float(value: &Json, lenient: bool) -> Option<Json> {
    let float = digits(value, lenient)?.parse::<f64>().ok().filter(|float| float.is_finite())?;
    Some(Json::Number(format!("{float:?}")))
}

const GO_ZERO_US: i64 = -62_135_596_800_000_000;

/// Times are microseconds, whatever their spelling.
fn time(value: &Json) -> Option<i64> {
    match value {
        Json::Number(digits) => nanoseconds(digits),
        Json::Text(text) => {
            let second_before = text.replacen(":60", ":59", 1);
            let leap_us = i64::from(second_before != *text) * 1_000_000;
            match second_before.parse::<Timestamp>() {
                Ok(at) => Some(i64::try_from(at.as_nanosecond().div_euclid(1_000)).unwrap() + leap_us),
                Err(_) => nanoseconds(text),
            }
        }
        _ => None,
    }
}

fn nanoseconds(digits: &str) -> Option<i64> {
    match digits.parse::<i64>().ok()? {
        -6_795_364_578_871_345_152 => Some(GO_ZERO_US),
        ns if ns.unsigned_abs() >= 100_000_000_000_000_000 => Some(ns.div_euclid(1_000)),
        _ => None,
    }
}
