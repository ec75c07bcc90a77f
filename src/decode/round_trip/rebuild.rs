//! A row back into the object it came from, as its schema tells: columns to their keys, then `_rescued` over them by path.

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use jiff::Timestamp;

use super::json::{Json, Object};
use crate::schema::{Column, Context, Kind, Source};

/// The key of what came from `custom`, or from a key that no schema knows.
pub(super) const REST: &str = "*";

/// The key of a column that has several sources: its row does not tell from which of them it came.
pub(super) fn pseudonym(column: &Column) -> String {
    format!("={}", column.name)
}

/// Whether a column says where its value stood.
pub(super) fn stands_alone(column: &Column) -> bool {
    match &column.sources[..] {
        [Source::Path(path)] => path.len() == 1,
        [Source::Each { key: None, .. } | Source::Entries(_)] => true,
        _ => false,
    }
}

/// A row; `column` gives its array by name.
pub(super) fn rebuild<'a>(columns: &[Column], array: impl Fn(&str) -> Option<&'a ArrayRef>, row: usize) -> Object {
    let mut object = Object::new();
    let mut rescued = None;
    for column in columns {
        let array = array(&column.name).expect("every column is in the batch");
        if array.is_null(row) {
            continue;
        }
        match &column.sources[0] {
            Source::Rest => {
                object.insert(REST.to_owned(), Json::parse(array.as_string::<i32>().value(row)));
            }
            Source::Misfits => rescued = Some(Json::parse(array.as_string::<i32>().value(row))),
            Source::Context(_) => {}
            source if stands_alone(column) => {
                object.insert(source.keys()[0].to_owned(), value(column, array, row));
            }
            _ => {
                object.insert(pseudonym(column), value(column, array, row));
            }
        }
    }
    if let Some(rescued) = rescued {
        for (path, value) in in_order(rescued.as_object().expect("misfits are an object")) {
            put(columns, &mut object, &path, value);
        }
    }
    object
}

fn value(column: &Column, array: &ArrayRef, row: usize) -> Json {
    match column.kind {
        Kind::String => Json::text(array.as_string::<i32>().value(row)),
        Kind::Json => Json::parse(array.as_string::<i32>().value(row)),
        Kind::Int64 => Json::Number(array.as_primitive::<Int64Type>().value(row).to_string()),
        Kind::Float64 => Json::Number(format!("{:?}", array.as_primitive::<Float64Type>().value(row))),
        Kind::Bool => Json::Bool(array.as_boolean().value(row)),
        Kind::Timestamp => {
            let us = array.as_primitive::<TimestampMicrosecondType>().value(row);
            Json::Text(Timestamp::from_microsecond(us).unwrap().to_string())
        }
        Kind::StringList => {
            let texts = array.as_list::<i32>().value(row);
            Json::Array(texts.as_string::<i32>().iter().map(|text| Json::text(text.unwrap())).collect())
        }
        Kind::CountMap => {
            let entries = array.as_map().value(row);
            let (keys, counts) = (entries.column(0).as_string::<i32>(), entries.column(1).as_primitive::<Int64Type>());
            let entries = keys.iter().zip(counts.iter());
            Json::Object(
                entries
                    .map(|(key, count)| (key.unwrap().to_owned(), Json::Number(count.unwrap().to_string())))
                    .collect(),
            )
        }
        Kind::Struct => Json::Object(inner(column, array.as_struct(), row)),
        Kind::StructList => {
            let elements = array.as_list::<i32>().value(row);
            let elements = elements.as_struct();
            let objects = (0..elements.len()).map(|row| (row, Json::Object(inner(column, elements, row))));
            let key = column.fields.iter().position(|field| field.sources == [Source::Context(Context::EntryKey)]);
            match key.map(|key| elements.column(key).as_string::<i32>()) {
                Some(keys) => Json::Object(objects.map(|(row, object)| (keys.value(row).to_owned(), object)).collect()),
                None => Json::Array(objects.map(|(_, object)| object).collect()),
            }
        }
    }
}

fn inner(column: &Column, fields: &StructArray, row: usize) -> Object {
    rebuild(&column.fields, |name| fields.column_by_name(name), row)
}

/// Whether a path leads to a column, or into one, and not to a key that no schema knows.
pub(super) fn names_a_column(columns: &[Column], path: &str) -> bool {
    let mut columns = columns;
    for step in steps(path) {
        let Step::Key(key) = step else { continue };
        match columns.iter().find(|column| stands_alone(column) && column.sources[0].keys() == [key.as_str()]) {
            Some(column) if column.kind == Kind::StructList || column.kind == Kind::Struct => columns = &column.fields,
            column => return column.is_some(),
        }
    }
    true
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Index(usize),
    Key(String),
}

/// Paths as `docs/datasets.md` describes them, outer ones and lower places first.
fn in_order(rescued: &Object) -> Vec<(Vec<Step>, Json)> {
    let mut paths: Vec<_> = rescued.iter().map(|(path, value)| (steps(path), value.clone())).collect();
    paths.sort_by(|(one, _), (other, _)| one.cmp(other));
    paths
}

fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let end = (0..quoted.len())
                .find(|at| quoted[*at..].starts_with("\"]") && trailing_backslashes(&quoted[..*at]).is_multiple_of(2))
                .unwrap();
            let Json::Text(key) = Json::parse(&format!("\"{}\"", &quoted[..end])) else { panic!("{path}") };
            steps.push(Step::Key(key));
            rest = &quoted[end + 2..];
        } else if let Some(index) = rest.strip_prefix('[') {
            let (index, after) = index.split_once(']').unwrap();
            steps.push(Step::Index(index.parse().unwrap()));
            rest = after;
        } else {
            let key = rest.strip_prefix('.').filter(|_| !steps.is_empty()).unwrap_or(rest);
            let end = key.find(['.', '[']).unwrap_or(key.len());
            steps.push(Step::Key(key[..end].to_owned()));
            rest = &key[end..];
        }
    }
    steps
}

fn trailing_backslashes(text: &str) -> usize {
    text.len() - text.trim_end_matches('\\').len()
}

/// Puts a rescued value where it stood.
fn put(columns: &[Column], object: &mut Object, path: &[Step], value: Json) {
    let [Step::Key(key), path @ ..] = path else { panic!("a path begins with a key: {path:?}") };
    let column = columns.iter().find(|column| stands_alone(column) && column.sources[0].keys() == [key]);
    let place = match (path, column) {
        ([], _) => {
            object.insert(key.clone(), value);
            return;
        }
        (_, Some(column)) if column.kind == Kind::StructList && matches!(path[0], Step::Index(_)) => {
            object.entry(key.clone()).or_insert_with(|| Json::Array(Vec::new()))
        }
        _ => object.entry(key.clone()).or_insert_with(|| Json::Object(Object::new())),
    };
    match (path, place) {
        // A list of texts closed up where this stood.
        ([Step::Index(index)], Json::Array(items)) if column.is_some_and(|it| it.kind == Kind::StringList) => {
            items.insert(*index, value);
        }
        ([Step::Index(index)], Json::Array(items)) => items[*index] = value,
        ([Step::Index(index), path @ ..], Json::Array(items)) => {
            let Json::Object(inner) = &mut items[*index] else { panic!("no object at {index}") };
            put(&column.unwrap().fields, inner, path, value);
        }
        ([Step::Index(index)], Json::Object(inner)) => {
            inner.insert(format!("[{index}]"), value);
        }
        ([Step::Key(entry), path @ ..], Json::Object(inner))
            if column.is_some_and(|it| it.kind == Kind::StructList) =>
        {
            if path.is_empty() {
                inner.insert(entry.clone(), value);
            } else {
                let Some(Json::Object(inner)) = inner.get_mut(entry) else { panic!("no entry {entry}") };
                put(&column.unwrap().fields, inner, path, value);
            }
        }
        (path, Json::Object(inner)) => put(column.map_or(&[], |column| &column.fields), inner, path, value),
        (path, place) => panic!("nothing to put at {path:?} of {place:?}"),
    }
}
