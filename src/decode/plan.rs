//! Schemas, compiled: keys become slots, and each column knows which slots to look at.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::envelope::telling;
use super::scan::Keys;
use super::table::hidden_schema;
use crate::columns::Schemas;
use crate::names::Names;
use crate::schema::{self, Context, Kind, Schema, Source};

/// A set of slots of one object.
pub(super) type SlotSet = u128;

/// Keys of an object that may be taken: one slot is for `custom`.
pub const MAX_KEYS: usize = SlotSet::BITS as usize - 1;

/// Every dataset, compiled, in the order of [`schema::DATASETS`].
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every key that any object may have, those that tell what it is first.
    pub(super) names: Arc<Names>,
    pub(super) tables: Vec<TablePlan>,
}

/// One dataset.
#[derive(Debug)]
pub(super) struct TablePlan {
    /// The schema of its batches.
    pub(super) arrow: SchemaRef,
    pub(super) object: ObjectPlan,
    pub(super) emits: Vec<EmitPlan>,
    pub(super) well_known: WellKnown,
    /// Whether a row depends on its own object alone, so that the same object need not be decoded twice.
    pub(super) context_free: bool,
}

/// The columns that tell where a row belongs.
#[derive(Debug)]
pub(super) struct WellKnown {
    pub(super) id: Option<usize>,
    pub(super) cid: Option<usize>,
    pub(super) created_at: Option<usize>,
    pub(super) updated_at: Option<usize>,
    pub(super) user_id: Option<usize>,
}

/// An object: a row, or a struct inside one.
#[derive(Debug)]
pub(super) struct ObjectPlan {
    pub(super) keys: Keys,
    pub(super) columns: Vec<ColumnPlan>,
    pub(super) ignored: SlotSet,
    /// The slot of `custom`, where a column takes its content.
    pub(super) custom_slot: Option<usize>,
    /// Custom keys from inside of which something is promoted: they stay in `custom` as they are.
    pub(super) custom_slots: SlotSet,
    /// The slots whose values a JSON column keeps as they are.
    pub(super) held: SlotSet,
    /// Columns and their sources inside an object that give way to others: what they say may differ.
    pub(super) rivals: Vec<(usize, usize)>,
}

#[derive(Debug)]
pub(super) struct ColumnPlan {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) sources: Vec<SourcePlan>,
    /// The slots that it looks at; none if it takes more than values of slots.
    pub(super) slots: Option<SlotSet>,
    pub(super) required: bool,
    pub(super) empty_is_null: bool,
    pub(super) lenient: bool,
    pub(super) promoted: bool,
    /// The keys inside `custom` that it may take.
    pub(super) custom_keys: Vec<String>,
    pub(super) nested: Option<ObjectPlan>,
}

#[derive(Debug)]
pub(super) enum SourcePlan {
    Path { slot: usize, rest: Vec<String> },
    Each { slot: usize, key: Option<String> },
    Entries { slot: usize },
    Join(usize, usize),
    Context(Context),
    Rest,
    Misfits,
}

/// An embedded object, or each element of an array, that becomes a row of another table.
#[derive(Debug)]
pub(super) struct EmitPlan {
    pub(super) slot: usize,
    pub(super) key: Option<String>,
    pub(super) each: bool,
    pub(super) table: usize,
}

impl SourcePlan {
    /// The slots it looks at.
    pub(super) fn slots(&self) -> SlotSet {
        match self {
            Self::Path { slot, .. } | Self::Each { slot, .. } | Self::Entries { slot } => 1 << slot,
            Self::Join(a, b) => 1 << a | 1 << b,
            Self::Context(_) | Self::Rest | Self::Misfits => 0,
        }
    }

    /// The slots that it takes whole. Of an object that it takes one key of, the rest is somebody else's.
    pub(super) fn whole_slots(&self) -> SlotSet {
        match self {
            Self::Path { rest, .. } if !rest.is_empty() => 0,
            source => source.slots(),
        }
    }
}

impl Plan {
    pub(crate) fn new(schemas: &Schemas) -> Self {
        let mut keys: Vec<&str> = telling().chain(["custom"]).collect();
        for schema in schemas.iter() {
            add_keys(&schema.columns, &mut keys);
            keys.extend(outer(schema).flat_map(Source::keys));
        }
        let names = Arc::new(Names::new(keys));
        Self { tables: schemas.iter().map(|schema| TablePlan::new(&names, schema)).collect(), names }
    }
}

fn add_keys<'s>(columns: &'s [schema::Column], keys: &mut Vec<&'s str>) {
    for column in columns {
        keys.extend(column.sources.iter().flat_map(Source::keys));
        add_keys(&column.fields, keys);
    }
}

/// What is looked for beside columns.
fn outer(schema: &Schema) -> impl Iterator<Item = &Source> {
    schema.emits.iter().map(|emit| &emit.source).chain(schema.ignored.iter().map(|ignored| &ignored.source))
}

impl TablePlan {
    fn new(names: &Arc<Names>, schema: &Schema) -> Self {
        let object = ObjectPlan::new(
            names,
            &schema.columns,
            outer(schema),
            schema.ignored.iter().map(|ignored| &ignored.source),
        );
        let emits = schema
            .emits
            .iter()
            .filter_map(|emit| {
                let table = schema::DATASETS.iter().position(|dataset| *dataset == emit.dataset)?;
                let slot = object.keys.find(emit.source.keys().first()?)?;
                let (key, each) = match &emit.source {
                    Source::Path(path) => (path.get(1).cloned(), false),
                    Source::Each { key, .. } => (key.clone(), true),
                    _ => return None,
                };
                Some(EmitPlan { slot, key, each, table })
            })
            .collect();
        let context_free = !schema.columns.iter().flat_map(|column| &column.sources).any(|source| {
            matches!(source, Source::Context(Context::Cid | Context::MessageId | Context::MessageCreatedAt))
        });
        let column = |name: &str| object.columns.iter().position(|column| column.name == name);
        let well_known = WellKnown {
            id: column("id"),
            cid: column("cid"),
            created_at: column("created_at"),
            updated_at: column("updated_at"),
            user_id: column("user_id"),
        };
        Self { arrow: hidden_schema(schema), object, emits, well_known, context_free }
    }
}

impl ObjectPlan {
    fn new<'s>(
        names: &Arc<Names>,
        columns: &'s [schema::Column],
        more: impl Iterator<Item = &'s Source>,
        ignored: impl Iterator<Item = &'s Source>,
    ) -> Self {
        let sources = columns.iter().flat_map(|column| &column.sources);
        let takes_custom = sources.clone().any(|source| *source == Source::Rest);
        let mut texts: Vec<Box<str>> = Vec::new();
        let known = sources.chain(more).flat_map(Source::keys).chain(takes_custom.then_some("custom"));
        for key in known {
            if !texts.iter().any(|text| **text == *key) {
                texts.push(key.into());
            }
        }
        let keys = Keys::new(names, texts);
        debug_assert!(keys.len() <= SlotSet::BITS as usize, "slots fit their set");
        let slot = |key: &str| keys.find(key).unwrap_or_default();
        let custom_slots = custom_keys(columns).into_iter().fold(0, |set, key| set | 1 << slot(key));
        let ignored = ignored.flat_map(Source::keys).fold(0, |set, key| set | 1 << slot(key));
        let custom_slot = takes_custom.then(|| slot("custom"));
        let columns: Vec<_> = columns.iter().map(|column| ColumnPlan::new(names, column, &slot, custom_slot)).collect();
        let rivals = columns
            .iter()
            .enumerate()
            .flat_map(|(number, column)| (1..column.sources.len()).map(move |source| (number, source)))
            .filter(|(column, source)| {
                matches!(&columns[*column].sources[*source], SourcePlan::Path { slot, rest }
                    if !rest.is_empty() && Some(*slot) != custom_slot)
            })
            .collect();
        let held = columns
            .iter()
            .filter(|column| column.kind == Kind::Json)
            .flat_map(|column| &column.sources)
            .fold(0, |held, source| held | source.whole_slots());
        Self { keys, columns, ignored, custom_slot, custom_slots, held, rivals }
    }
}

/// The keys from inside of which promoted columns take something, and that nothing takes whole.
fn custom_keys(columns: &[schema::Column]) -> Vec<&str> {
    let sources = |promoted: bool| {
        columns.iter().filter(move |column| column.promoted == promoted).flat_map(|column| &column.sources)
    };
    let is_taken = |key: &str| {
        sources(false).any(|source| source.keys().contains(&key))
            || sources(true).any(|source| matches!(source, Source::Path(path) if path.len() == 1 && path[0] == key))
    };
    sources(true).flat_map(Source::keys).filter(|key| *key != "custom" && !is_taken(key)).collect()
}

impl ColumnPlan {
    fn new(
        names: &Arc<Names>,
        column: &schema::Column,
        slot: &impl Fn(&str) -> usize,
        custom_slot: Option<usize>,
    ) -> Self {
        let sources = column
            .sources
            .iter()
            .map(|source| match source {
                Source::Path(path) => SourcePlan::Path { slot: slot(&path[0]), rest: path[1..].to_vec() },
                Source::Each { array, key } => SourcePlan::Each { slot: slot(array), key: key.clone() },
                Source::Entries(object) => SourcePlan::Entries { slot: slot(object) },
                Source::Join(a, b) => SourcePlan::Join(slot(a), slot(b)),
                Source::Context(context) => SourcePlan::Context(*context),
                Source::Rest => SourcePlan::Rest,
                Source::Misfits => SourcePlan::Misfits,
            })
            .collect::<Vec<_>>();
        let is_slots =
            |source: &SourcePlan| !matches!(source, SourcePlan::Context(_) | SourcePlan::Rest | SourcePlan::Misfits);
        let slots = sources.iter().all(is_slots).then(|| sources.iter().fold(0, |set, source| set | source.slots()));
        let custom_key = |source: &SourcePlan| match source {
            SourcePlan::Path { slot, rest } if Some(*slot) == custom_slot && rest.len() == 1 => Some(rest[0].clone()),
            _ => None,
        };
        let custom_keys = sources.iter().filter_map(custom_key).collect();
        let nested = (!column.fields.is_empty())
            .then(|| ObjectPlan::new(names, &column.fields, std::iter::empty(), std::iter::empty()));
        Self {
            name: column.name.clone(),
            kind: column.kind,
            sources,
            slots,
            required: column.required,
            empty_is_null: column.empty_is_null,
            lenient: column.lenient,
            promoted: column.promoted,
            custom_keys,
            nested,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_fits_the_slot_set() {
        for table in Plan::new(&Schemas::default()).tables {
            assert!(table.object.keys.len() <= MAX_KEYS);
        }
    }
}
