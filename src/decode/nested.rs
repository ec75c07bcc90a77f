//! Columns with something inside them: structs, lists and maps.
//!
//! What fits stays, and what does not is rescued alone, with its place: one odd element costs no other. A list or a map of
//! which nothing fits is rescued as a whole, since another source may be the one that is meant.

use std::borrow::Cow;

use crate::json::Value;

use super::column::{ColumnBuilder, Values, offset};
use super::context::Surroundings;
use super::object::{Row, fill};
use super::plan::{ColumnPlan, ObjectPlan};
use super::scan::Scan;
use super::value;

/// Appends an object as a struct; false if the value is none.
pub(super) fn append_struct(column: &ColumnPlan, values: &mut Values, object: Value<'_>, row: &mut Row) -> bool {
    let (Some(nested), Values::Struct(builder)) = (&column.nested, values) else { return false };
    let Some(scan) = Scan::of(&nested.keys, object) else { return false };
    let outside = row.enter(&column.name);
    fill_nested(nested, &mut builder.columns, &scan, None, row);
    row.leave(outside);
    builder.append(true);
    true
}

/// An array, as a source names it.
#[derive(Clone, Copy)]
pub(super) struct Each<'p> {
    pub(super) name: &'p str,
    /// The key of each element that is meant.
    pub(super) key: Option<&'p str>,
    /// Whether another column keeps the array as it is, so that nothing of it needs rescue.
    pub(super) is_held: bool,
}

/// Appends the elements of an array, or one key of each; false if the value is none, or nothing in it fits.
pub(super) fn append_each(
    column: &ColumnPlan,
    values: &mut Values,
    Each { name, key, is_held }: Each<'_>,
    array: Value<'_>,
    row: &mut Row,
) -> bool {
    let Some(elements) = array.elements() else { return false };
    let is_empty = elements.clone().next().is_none();
    match values {
        Values::TextList(builder) => {
            if !is_empty && elements.clone().all(|element| element_text(element, key).is_none()) {
                return false;
            }
            for (index, element) in elements.enumerate() {
                match element_text(element, key) {
                    Some(text) => {
                        builder.values().append_value(text);
                    }
                    None if is_held => {}
                    None => row.misfit_element(name, index, element),
                }
            }
            builder.append(true);
        }
        Values::StructList { offsets, elements: builder, validity } => {
            let Some(nested) = &column.nested else { return false };
            if !is_empty && !elements.clone().any(Value::is_object) {
                return false;
            }
            for (index, element) in elements.enumerate() {
                // What is no object keeps its place, so that those behind it keep theirs.
                let scan = Scan::of(&nested.keys, element).unwrap_or_else(|| {
                    row.misfit_element(name, index, element);
                    Scan::default()
                });
                let outside = row.enter_element(name, index);
                fill_nested(nested, &mut builder.columns, &scan, None, row);
                row.leave(outside);
                builder.append(true);
            }
            offsets.push(offset(builder.len()));
            validity.append(true);
        }
        _ => return false,
    }
    true
}

/// What a list of texts takes of an element. An id that is `""` is none.
pub(super) fn element_text<'a>(element: Value<'a>, key: Option<&str>) -> Option<Cow<'a, str>> {
    match key {
        None => element.text(),
        Some(key) => element.get(key)?.text().filter(|text| !text.is_empty()),
    }
}

/// Appends the entries of an object as structs that hold their keys; false if the value is none, or nothing in it fits.
pub(super) fn append_entries(
    column: &ColumnPlan,
    values: &mut Values,
    name: &str,
    object: Value<'_>,
    row: &mut Row,
) -> bool {
    let (Some(nested), Values::StructList { offsets, elements: builder, validity }) = (&column.nested, values) else {
        return false;
    };
    let Some((entries, duplicate_keys)) = entries(object) else { return false };
    if !entries.is_empty() && !entries.iter().any(|(_, value)| value.is_object()) {
        return false;
    }
    row.duplicate_keys += duplicate_keys;
    let outside = row.enter(name);
    for (key, value) in entries {
        let Some(scan) = Scan::of(&nested.keys, value) else {
            row.misfit(&key, value);
            continue;
        };
        let here = row.enter(&key);
        fill_nested(nested, &mut builder.columns, &scan, Some(&key), row);
        row.leave(here);
        builder.append(true);
    }
    row.leave(outside);
    offsets.push(offset(builder.len()));
    validity.append(true);
    true
}

/// Appends an object of whole numbers; false if the value is none, or nothing in it fits.
pub(super) fn append_counts(column: &ColumnPlan, values: &mut Values, object: Value<'_>, row: &mut Row) -> bool {
    let Values::CountMap(builder) = values else { return false };
    let Some((entries, duplicate_keys)) = entries(object) else { return false };
    if !entries.is_empty() && !entries.iter().any(|(_, value)| value::integer(*value, false).is_some()) {
        return false;
    }
    row.duplicate_keys += duplicate_keys;
    let outside = row.enter(&column.name);
    for (key, value) in entries {
        let Some(count) = value::integer(value, false) else {
            row.misfit(&key, value);
            continue;
        };
        builder.keys().append_value(key);
        builder.values().append_value(count);
    }
    row.leave(outside);
    builder.append(true).expect("keys and values are appended in pairs");
    true
}

type Entry<'a> = (Cow<'a, str>, Value<'a>);

/// The entries of an object that are not null, in the order of their keys, and how many came again later.
fn entries<'a>(object: Value<'a>) -> Option<(Vec<Entry<'a>>, u64)> {
    let mut entries: Vec<_> = object.entries()?.collect();
    let before = entries.len();
    // Stable and reversed, so that of equal keys the last one comes first and stays.
    entries.reverse();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries.dedup_by(|later, first| later.0 == first.0);
    let duplicate_keys = (before - entries.len()) as u64;
    entries.retain(|(_, value)| !value.is_null());
    Some((entries, duplicate_keys))
}

fn fill_nested(
    plan: &ObjectPlan,
    builders: &mut [ColumnBuilder],
    scan: &Scan<'_>,
    entry_key: Option<&str>,
    row: &mut Row,
) {
    row.duplicate_keys += scan.duplicate_keys;
    fill(plan, builders, scan, &Surroundings { entry_key, ..Surroundings::default() }, 0, row);
}
