//! One object into the columns of one row.
//!
//! Each column takes the first of its sources that is present, not null and fits. Keys that no schema names go to `custom`,
//! values that fit no column to `_rescued`, with their path: of what came in, nothing is lost.

use std::borrow::Cow;

use super::column::{ColumnBuilder, Values};
use super::context::{Given, Surroundings};
use super::nested::{Each, append_counts, append_each, append_entries, append_struct, element_text};
use super::path;
use super::plan::{ColumnPlan, ObjectPlan, SlotSet, SourcePlan};
use super::scan::Scan;
use super::value::{self, Time};
use crate::json::Value;
use crate::schema::Kind;

/// What builds up beside the columns while a row is filled. Reused from row to row.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Path and JSON text of what fits nowhere.
    pub(super) misfits: Vec<(String, String)>,
    pub(super) duplicate_keys: u64,
    path: String,
    text: String,
}

impl Row {
    pub(super) fn clear(&mut self) {
        self.misfits.clear();
        self.duplicate_keys = 0;
        self.path.clear();
    }

    pub(super) fn misfit(&mut self, key: &str, value: Value<'_>) {
        let outside = self.enter(key);
        self.misfits.push((self.path.clone(), value.raw().to_owned()));
        self.leave(outside);
    }

    /// A value further down.
    fn misfit_inside(&mut self, key: &str, rest: &[String], value: Value<'_>) {
        let outside = self.enter(key);
        for key in rest {
            self.enter(key);
        }
        self.misfits.push((self.path.clone(), value.raw().to_owned()));
        self.leave(outside);
    }

    pub(super) fn misfit_element(&mut self, key: &str, index: usize, value: Value<'_>) {
        let outside = self.enter_element(key, index);
        self.misfits.push((self.path.clone(), value.raw().to_owned()));
        self.leave(outside);
    }

    /// Goes down to a key; what comes back leads out again.
    pub(super) fn enter(&mut self, key: &str) -> usize {
        let outside = self.path.len();
        path::push_key(&mut self.path, key);
        outside
    }

    /// Goes down to an element of a key.
    pub(super) fn enter_element(&mut self, key: &str, index: usize) -> usize {
        let outside = self.enter(key);
        path::push_index(&mut self.path, index);
        outside
    }

    pub(super) fn leave(&mut self, outside: usize) {
        self.path.truncate(outside);
    }
}

/// The text that a column would take from an object; `""` counts as none where ids are meant.
pub(super) fn text_of<'a>(column: &ColumnPlan, scan: &Scan<'a>, around: &Surroundings<'a>) -> Option<Cow<'a, str>> {
    let empty_is_none = column.required || column.empty_is_null;
    column
        .sources
        .iter()
        .filter_map(|source| match source {
            SourcePlan::Context(context) => match around.get(*context)? {
                Given::Text(text) => Some(Cow::Borrowed(text)),
                Given::Integer(_) | Given::Time(_) => None,
            },
            source => text_in(source, scan),
        })
        .find(|text| !(empty_is_none && text.is_empty()))
}

/// The time that a column would take from an object.
pub(super) fn time_of(column: &ColumnPlan, scan: &Scan<'_>) -> Option<i64> {
    column.sources.iter().find_map(|source| match source {
        SourcePlan::Path { slot, rest } if rest.is_empty() => match value::time(scan.present(*slot)?)? {
            Time::At(us) => Some(us),
            Time::Never => None,
        },
        _ => None,
    })
}

/// The text that an object itself has for a source.
fn text_in<'a>(source: &SourcePlan, scan: &Scan<'a>) -> Option<Cow<'a, str>> {
    match source {
        SourcePlan::Path { slot, rest } => walk(scan.present(*slot)?, rest)?.text(),
        SourcePlan::Join(a, b) => {
            let (a, b) = (scan.present(*a)?.text()?, scan.present(*b)?.text()?);
            (!a.is_empty() && !b.is_empty()).then(|| Cow::Owned(format!("{a}:{b}")))
        }
        _ => None,
    }
}

#[inline]
fn walk<'a>(value: Value<'a>, rest: &[String]) -> Option<Value<'a>> {
    if rest.is_empty() {
        return Some(value);
    }
    rest.iter().try_fold(value, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// Why an object cannot be a row: the reason to count by, and the first required column without a value.
pub(super) fn missing(plan: &ObjectPlan, scan: &Scan<'_>, around: &Surroundings<'_>) -> Option<(&'static str, String)> {
    let column = plan.columns.iter().filter(|column| column.required).find(|column| match column.kind {
        Kind::Timestamp => {
            time_of(column, scan).is_none()
                && !column
                    .sources
                    .iter()
                    .any(|source| matches!(source, SourcePlan::Context(context) if around.get(*context).is_some()))
        }
        _ => text_of(column, scan, around).is_none(),
    })?;
    let looked_at = column.sources.iter().fold(0, |slots, source| slots | source.slots());
    let unfit = slots(looked_at).find_map(|slot| scan.present(slot));
    Some(match unfit {
        Some(value) if value.text().is_none_or(|text| !text.is_empty()) => {
            let found: String = value.raw().chars().take(64).collect();
            ("wrong_type", format!("`{}` is {found}", column.name))
        }
        _ => ("missing_field", format!("no `{}`", column.name)),
    })
}

/// Appends one value to each column. `consumed` names the slots of what became rows elsewhere.
pub(super) fn fill(
    plan: &ObjectPlan,
    builders: &mut [ColumnBuilder],
    scan: &Scan<'_>,
    around: &Surroundings<'_>,
    consumed: SlotSet,
    row: &mut Row,
) {
    let (emitted, consumed) = (consumed, consumed | plan.ignored);
    let custom = plan.custom_slot.map_or(0, |slot| 1 << slot);
    let mut filler = Filler { plan, scan, around, emitted, consumed, custom, taken_custom: Vec::new() };
    let (mut rest_done, mut misfits_done) = (false, false);
    for (column, builder) in plan.columns.iter().zip(builders) {
        if column.slots.is_some_and(|slots| slots & scan.present == 0) {
            builder.append_null();
            continue;
        }
        let is_there = match column.sources.first() {
            Some(SourcePlan::Rest) => {
                rest_done = true;
                filler.write_custom(row) && append_text(builder, &row.text)
            }
            Some(SourcePlan::Misfits) => {
                misfits_done = true;
                filler.leftovers(rest_done, row);
                row.write_misfits() && append_text(builder, &row.text)
            }
            _ => filler.append(column, builder, row),
        };
        if !is_there {
            builder.append_null();
        }
    }
    if !misfits_done {
        filler.leftovers(rest_done, row);
    }
}

impl Row {
    /// Writes what fits nowhere into `text`; false if there is none.
    fn write_misfits(&mut self) -> bool {
        if self.misfits.is_empty() {
            return false;
        }
        self.text.clear();
        for (path, raw) in &self.misfits {
            push_entry(&mut self.text, path, raw);
        }
        self.text.push('}');
        true
    }
}

/// Appends a text; false if the column takes none.
fn append_text(builder: &mut ColumnBuilder, text: &str) -> bool {
    let Values::Text(builder) = builder.values() else { return false };
    builder.append_value(text);
    true
}

pub(super) fn push_entry(text: &mut String, key: &str, raw: &str) {
    text.push(if text.is_empty() { '{' } else { ',' });
    if key.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        text.push('"');
        text.push_str(key);
        text.push('"');
    } else {
        text.push_str(&serde_json::Value::from(key).to_string());
    }
    text.push(':');
    text.push_str(raw);
}

struct Filler<'f, 'a> {
    plan: &'f ObjectPlan,
    scan: &'f Scan<'a>,
    around: &'f Surroundings<'f>,
    emitted: SlotSet,
    consumed: SlotSet,
    /// That of `custom` itself.
    custom: SlotSet,
    /// Keys inside `custom` that a column holds, with their JSON text.
    taken_custom: Vec<(&'f str, &'a str)>,
}

impl<'f, 'a> Filler<'f, 'a> {
    /// Appends the value of the first source that has one that fits; false if none has.
    fn append(&mut self, column: &'f ColumnPlan, builder: &mut ColumnBuilder, row: &mut Row) -> bool {
        for source in &column.sources {
            match source {
                SourcePlan::Path { slot, rest } => {
                    let Some(value) = self.scan.present(*slot) else { continue };
                    let Some(value) = walk(value, rest) else { continue };
                    match append_value(column, builder.values(), value, row) {
                        Fit::Taken => {
                            self.take(column, source, value);
                            return true;
                        }
                        Fit::Nothing => self.take(column, source, value),
                        Fit::Misfit if column.promoted => self.rescue(*slot, rest, value, row),
                        Fit::Misfit => {}
                    }
                }
                SourcePlan::Each { slot, key } => {
                    let Some(value) = self.scan.present(*slot) else { continue };
                    let is_held = self.plan.held & (1 << slot) != 0;
                    let each = Each { name: self.plan.keys.name(*slot), key: key.as_deref(), is_held };
                    if append_each(column, builder.values(), each, value, row) {
                        self.consumed |= source.slots();
                        return true;
                    }
                }
                SourcePlan::Entries { slot } => {
                    let Some(value) = self.scan.present(*slot) else { continue };
                    if append_entries(column, builder.values(), self.plan.keys.name(*slot), value, row) {
                        self.consumed |= source.slots();
                        return true;
                    }
                }
                SourcePlan::Join(..) => {
                    if text_in(source, self.scan).is_some_and(|text| append_text(builder, &text)) {
                        self.consumed |= source.slots();
                        return true;
                    }
                }
                SourcePlan::Context(context) => {
                    if self.around.get(*context).is_some_and(|given| append_given(builder, given)) {
                        return true;
                    }
                }
                SourcePlan::Rest | SourcePlan::Misfits => {}
            }
        }
        false
    }

    #[inline]
    fn take(&mut self, column: &'f ColumnPlan, source: &SourcePlan, value: Value<'a>) {
        self.taken_custom.extend(column.custom_keys.iter().map(|key| (key.as_str(), value.raw())));
        self.consumed |= source.whole_slots() & !self.custom;
    }

    /// A promoted value that does not fit. One that is a key of its own is rescued with all others that no column took.
    fn rescue(&mut self, slot: usize, rest: &'f [String], value: Value<'a>, row: &mut Row) {
        if rest.is_empty() {
            return;
        }
        if let ([key], true) = (rest, self.plan.custom_slot == Some(slot)) {
            self.taken_custom.push((key, value.raw()));
        }
        row.misfit_inside(self.plan.keys.name(slot), rest, value);
    }

    /// Writes every key that the schema does not know, and the content of `custom`, into `row.text`; false if there is none.
    fn write_custom(&mut self, row: &mut Row) -> bool {
        row.text.clear();
        let mut text = std::mem::take(&mut row.text);
        let mut inner = Vec::new();
        if let Some(slot) = self.plan.custom_slot
            && let Some(custom) = self.scan.present(slot)
        {
            if let Some(entries) = custom.entries() {
                inner.extend(entries);
                inner.reverse();
                inner.sort_by(|a, b| a.0.cmp(&b.0));
                let before = inner.len();
                inner.dedup_by(|later, first| later.0 == first.0);
                row.duplicate_keys += (before - inner.len()) as u64;
                inner.retain(|(key, value)| {
                    !self.taken_custom.iter().any(|(taken, raw)| taken == key && *raw == value.raw())
                });
            } else {
                row.misfit("custom", custom);
            }
        }
        let mut inner = inner.into_iter().peekable();
        for (key, value) in self.beside_custom().iter() {
            while let Some((key, value)) = inner.next_if(|(inner, _)| inner < key) {
                push_entry(&mut text, &key, value.raw());
            }
            // The same key inlined and under `custom`: once if they agree, else the nested one is the custom value.
            if let Some((inner_key, inner_value)) = inner.next_if(|(inner, _)| inner == key) {
                if inner_value.raw() != value.raw() {
                    row.misfit(key, *value);
                }
                push_entry(&mut text, &inner_key, inner_value.raw());
            } else {
                push_entry(&mut text, key, value.raw());
            }
        }
        for (key, value) in inner {
            push_entry(&mut text, &key, value.raw());
        }
        let any = !text.is_empty();
        if any {
            text.push('}');
        }
        row.text = text;
        any
    }

    /// The keys that the schema does not know, and those from inside of which something was promoted, in their order.
    fn beside_custom(&self) -> Cow<'_, [(Cow<'a, str>, Value<'a>)]> {
        if self.plan.custom_slots == 0 {
            return Cow::Borrowed(&self.scan.unknown);
        }
        let promoted = slots(self.plan.custom_slots).filter_map(|slot| {
            let value = self.scan.present(slot)?;
            Some((Cow::Owned(self.plan.keys.name(slot).to_owned()), value))
        });
        let mut all: Vec<_> = promoted.chain(self.scan.unknown.iter().cloned()).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Cow::Owned(all)
    }

    /// What no column took: into the misfits, unless a column holds the same by another way.
    fn leftovers(&mut self, rest_done: bool, row: &mut Row) {
        let custom = self.custom | self.plan.custom_slots;
        for slot in slots(self.scan.present & !self.consumed & !custom) {
            if let Some(value) = self.scan.present(slot).filter(|_| !self.is_repeated(slot)) {
                row.misfit(self.plan.keys.name(slot), value);
            }
        }
        for (column, source) in &self.plan.rivals {
            self.outvoted(&self.plan.columns[*column], &self.plan.columns[*column].sources[*source], row);
        }
        if !rest_done {
            for (key, value) in &self.scan.unknown {
                row.misfit(key, *value);
            }
        }
    }

    /// The id of an object that became a row elsewhere, if the column holds another id: nothing else would tell of the two.
    fn outvoted(&self, column: &ColumnPlan, source: &SourcePlan, row: &mut Row) {
        let SourcePlan::Path { slot, rest } = source else { return };
        let Some(value) = self.scan.present(*slot).filter(|_| self.emitted & (1 << slot) != 0) else { return };
        let Some(id) = walk(value, rest) else { return };
        if id.text() != text_of(column, self.scan, self.around) {
            row.misfit_inside(self.plan.keys.name(*slot), rest, id);
        }
    }

    fn is_repeated(&self, slot: usize) -> bool {
        self.plan.columns.iter().any(|column| {
            let mut texts =
                column.sources.iter().filter_map(|source| Some((source.whole_slots(), self.texts(source)?)));
            let Some((_, winner)) = texts.next() else { return false };
            texts.any(|(slots, other)| slots & (1 << slot) != 0 && other == winner)
        })
    }

    fn texts(&self, source: &SourcePlan) -> Option<Vec<Cow<'a, str>>> {
        match source {
            SourcePlan::Each { slot, key } => {
                let elements = self.scan.present(*slot)?.elements()?;
                elements.map(|element| element_text(element, key.as_deref())).collect()
            }
            source => text_in(source, self.scan).map(|text| vec![text]),
        }
    }
}

/// The slots of a set, in order.
fn slots(set: SlotSet) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(set), |set| Some(set & set.wrapping_sub(1)))
        .take_while(|set| *set != 0)
        .map(|set| set.trailing_zeros() as usize)
}

/// Appends what does not come from JSON; false if the column is of another type.
fn append_given(builder: &mut ColumnBuilder, given: Given<'_>) -> bool {
    match (given, builder.values()) {
        (Given::Text(text), Values::Text(builder)) => builder.append_value(text),
        (Given::Integer(number), Values::Integer(builder)) => builder.append_value(number),
        (Given::Time(Time::At(us)), Values::Time(builder)) => builder.append_value(us),
        _ => return false,
    }
    true
}

/// How a value and a column get along.
enum Fit {
    /// Appended.
    Taken,
    /// It says that there is nothing; another source may have more.
    Nothing,
    Misfit,
}

fn append_value(column: &ColumnPlan, values: &mut Values, value: Value<'_>, row: &mut Row) -> Fit {
    match (column.kind, values) {
        (Kind::String, Values::Text(builder)) => {
            let Some(text) = value.text() else { return Fit::Misfit };
            if text.is_empty() && (column.empty_is_null || column.required) {
                return Fit::Nothing;
            }
            builder.append_value(&text);
        }
        (Kind::Json, Values::Text(builder)) => {
            builder.append_value(value.raw());
        }
        (Kind::Int64, Values::Integer(builder)) => {
            let Some(number) = value::integer(value, column.lenient) else { return Fit::Misfit };
            builder.append_value(number);
        }
        (Kind::Float64, Values::Float(builder)) => {
            let Some(number) = value::float(value, column.lenient) else { return Fit::Misfit };
            builder.append_value(number);
        }
        (Kind::Bool, Values::Boolean(builder)) => {
            let Some(boolean) = value::boolean(value) else { return Fit::Misfit };
            builder.append_value(boolean);
        }
        (Kind::Timestamp, Values::Time(builder)) => match value::time(value) {
            Some(Time::At(us)) => builder.append_value(us),
            Some(Time::Never) => return Fit::Nothing,
            None => return Fit::Misfit,
        },
        (Kind::CountMap, values) => {
            if !append_counts(column, values, value, row) {
                return Fit::Misfit;
            }
        }
        (Kind::Struct, values) => {
            if !append_struct(column, values, value, row) {
                return Fit::Misfit;
            }
        }
        _ => return Fit::Misfit,
    }
    Fit::Taken
}
