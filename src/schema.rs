//! The contract with analysts: which columns each dataset has, what they mean, and where in the JSON they come from.
//!
//! `schemas/<dataset>.json` is the single source. It is embedded in the binary and read once; decoder, Arrow schema, docs
//! and the `schema` command all follow it, so a new column is one entry there.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// The datasets, in the order in which documents list them.
pub const DATASETS: [&str; 9] =
    ["messages", "reactions", "channels", "members", "users", "reads", "polls", "other", "quarantine"];

/// What stands before the name of a dataset whose rows come from exports of users: the same columns, in folders of their own.
pub const USER_EXPORTS: &str = "user_exports/";

/// Every name under which a lake may have files: first the datasets that channels are exported to, then those of users.
pub static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let of_users = |dataset: &&&str| **dataset != "quarantine";
    let of_channels = DATASETS.iter().filter(|dataset| **dataset != "other").map(|dataset| (*dataset).to_owned());
    of_channels.chain(DATASETS.iter().filter(of_users).map(|dataset| format!("{USER_EXPORTS}{dataset}"))).collect()
});

static SCHEMAS: LazyLock<Vec<Arc<Schema>>> = LazyLock::new(|| {
    [
        include_str!("../schemas/messages.json"),
        include_str!("../schemas/reactions.json"),
        include_str!("../schemas/channels.json"),
        include_str!("../schemas/members.json"),
        include_str!("../schemas/users.json"),
        include_str!("../schemas/reads.json"),
        include_str!("../schemas/polls.json"),
        include_str!("../schemas/other.json"),
        include_str!("../schemas/quarantine.json"),
    ]
    .into_iter()
    .map(|text| Arc::new(serde_json::from_str(text).expect("embedded schemas are parsed by a unit test")))
    .collect()
});

/// The schema of a dataset, or of the same one of user exports, if there is one of this name.
pub fn find(dataset: &str) -> Option<Arc<Schema>> {
    let dataset = dataset.strip_prefix(USER_EXPORTS).unwrap_or(dataset);
    DATASETS.iter().position(|name| *name == dataset).map(|index| Arc::clone(&SCHEMAS[index]))
}

/// Every schema, in the order of [`DATASETS`].
pub fn all() -> &'static [Arc<Schema>] {
    &SCHEMAS
}

/// One dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The first folder of its files.
    pub dataset: String,
    /// What a row is.
    pub doc: String,
    /// Which date the partition folders carry.
    pub partition_by: PartitionBy,
    /// The columns that identify a row within one export.
    pub key: Vec<String>,
    /// The order of rows inside files; it contains the key.
    pub sort: Vec<String>,
    /// Of several rows with one key, the one with the highest values here is kept.
    #[serde(default)]
    pub version_by: Vec<String>,
    /// The columns, in file order.
    pub columns: Vec<Column>,
    /// Embedded objects that become rows of other datasets.
    #[serde(default)]
    pub emits: Vec<Emit>,
    /// Keys that are known and left out on purpose.
    #[serde(default)]
    pub ignored: Vec<Ignored>,
}

/// The date that a dataset's partitions carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionBy {
    /// The UTC day of the message: rows are replaced with their cell.
    EventDate,
    /// The UTC day of the export: rows are a snapshot and are never replaced.
    SnapshotDate,
    /// The UTC day of a user export: the same, for rows that only those have.
    ExportDate,
}

impl PartitionBy {
    /// The partition column's name.
    pub fn column(self) -> &'static str {
        match self {
            Self::EventDate => "event_date",
            Self::SnapshotDate => "snapshot_date",
            Self::ExportDate => "export_date",
        }
    }

    /// What its values mean.
    pub fn doc(self) -> &'static str {
        match self {
            Self::EventDate => "UTC day on which the message was sent; rows are replaced day by day",
            Self::SnapshotDate => "UTC day of the export; rows are added and never replaced",
            Self::ExportDate => "UTC day of the user export; rows are added and never replaced",
        }
    }
}

/// One column, or one field of a struct.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Where it comes from: the first that is present, not null and fits the type.
    pub sources: Vec<Source>,
    /// What it means.
    pub doc: String,
    /// The unit of its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// When it is null; absent for required columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_when: Option<String>,
    /// Never null: an object without it is quarantined.
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
    /// `""` means absent.
    #[serde(default, skip_serializing_if = "is_false")]
    pub empty_is_null: bool,
    /// A string that spells a number counts as one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lenient: bool,
    /// A custom key that a configuration gave a column of its own; never set in `schemas/`.
    #[serde(skip)]
    pub promoted: bool,
    /// How readers prune by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// How it counts when two exports of one row are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
    /// The fields of a struct.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Column>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// UTF-8 text.
    #[serde(rename = "string")]
    String,
    /// A whole number.
    #[serde(rename = "int64")]
    Int64,
    /// A number.
    #[serde(rename = "float64")]
    Float64,
    /// True or false.
    #[serde(rename = "bool")]
    Bool,
    /// Microseconds, UTC.
    #[serde(rename = "timestamp")]
    Timestamp,
    /// A JSON value as text.
    #[serde(rename = "json")]
    Json,
    /// A list of texts, none of them null.
    #[serde(rename = "list<string>")]
    StringList,
    /// Counts by name.
    #[serde(rename = "map<string,int64>")]
    CountMap,
    /// An object with typed fields.
    #[serde(rename = "struct")]
    Struct,
    /// A list of such objects.
    #[serde(rename = "list<struct>")]
    StructList,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "string",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Bool => "bool",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
            Self::StringList => "list<string>",
            Self::CountMap => "map<string,int64>",
            Self::Struct => "struct",
            Self::StructList => "list<struct>",
        })
    }
}

/// How readers prune row groups by a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// By a bloom filter: ids that are looked up.
    Bloom,
    /// By minimum and maximum.
    Stats,
}

/// How a column counts in the comparison of two exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hash {
    /// Not at all.
    Ignore,
    /// Without what follows `?` in it: signed URLs differ in every export.
    Url,
}

/// An embedded object, or each element of an array, that becomes a row elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emit {
    /// Where it is.
    pub source: Source,
    /// Which dataset takes it.
    pub dataset: String,
}

/// A key that is left out on purpose.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ignored {
    /// The key.
    pub source: Source,
    /// Why nothing is lost by it.
    pub doc: String,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Source {
    /// `a`, `a.b`: keys from the object down.
    Path(Vec<String>),
    /// `a[]`, `a[].b`: the elements of an array, or one key of each.
    Each {
        /// The array.
        array: String,
        /// The key of each element; the element itself when absent.
        key: Option<String>,
    },
    /// `a{}`: the entries of an object, in the order of their keys.
    Entries(String),
    /// `a:b`: two keys joined by a colon.
    Join(String, String),
    /// `@name`: what surrounds the object.
    Context(Context),
    /// `*`: what nothing else takes.
    Rest,
    /// `!`: what did not fit.
    Misfits,
}

/// What a row knows besides its own object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The channel around an embedded object.
    Cid,
    /// The message around a reaction.
    MessageId,
    /// When that message was created.
    MessageCreatedAt,
    /// When the export was asked for.
    ExportedAt,
    /// The export task.
    ExportTaskId,
    /// When the row was missed first.
    VanishedAt,
    /// The key of an entry of an object.
    EntryKey,
    /// The user whose export it is, if it is that of one alone.
    Owner,
    /// The line.
    Raw,
    /// A field of a rejected line, by its place in [`REJECT_FIELDS`].
    Reject(usize),
}

/// The fields of a rejected line that only the `quarantine` dataset has.
pub const REJECT_FIELDS: [&str; 9] =
    ["reason", "detail", "kind", "line_number", "line_offset", "bytes", "line", "line_base64", "created_at"];

impl Source {
    /// The key of the object that this source takes, if it takes one.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::Path(path) => vec![&path[0]],
            Self::Each { array, .. } => vec![array],
            Self::Entries(object) => vec![object],
            Self::Join(a, b) => vec![a, b],
            Self::Context(_) | Self::Rest | Self::Misfits => vec![],
        }
    }

    /// The paths of the values that it takes, from the object down; those of array elements without the array's brackets.
    pub fn paths(&self) -> Vec<Vec<String>> {
        match self {
            Self::Path(path) => vec![path.clone()],
            Self::Entries(object) => vec![vec![object.clone()]],
            Self::Each { array, key } => vec![std::iter::once(array).chain(key).cloned().collect()],
            Self::Join(a, b) => vec![vec![a.clone()], vec![b.clone()]],
            Self::Context(_) | Self::Rest | Self::Misfits => vec![],
        }
    }
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let source = if let Some(name) = text.strip_prefix('@') {
            Self::Context(match name {
                "cid" => Context::Cid,
                "message_id" => Context::MessageId,
                "message_created_at" => Context::MessageCreatedAt,
                "exported_at" => Context::ExportedAt,
                "export_task_id" => Context::ExportTaskId,
                "vanished_at" => Context::VanishedAt,
                "key" => Context::EntryKey,
                "owner" => Context::Owner,
                "raw" => Context::Raw,
                name => Context::Reject(
                    REJECT_FIELDS
                        .iter()
                        .position(|field| *field == name)
                        .ok_or(format!("no such context: `{text}`"))?,
                ),
            })
        } else if text == "*" {
            Self::Rest
        } else if text == "!" {
            Self::Misfits
        } else if let Some((array, key)) = text.split_once("[]") {
            let key = key.strip_prefix('.').map(str::to_owned);
            Self::Each { array: array.to_owned(), key }
        } else if let Some(object) = text.strip_suffix("{}") {
            Self::Entries(object.to_owned())
        } else if let Some((a, b)) = text.split_once(':') {
            Self::Join(a.to_owned(), b.to_owned())
        } else {
            Self::Path(text.split('.').map(str::to_owned).collect())
        };
        if text.is_empty() || source.keys().iter().any(|key| key.is_empty()) {
            return Err(format!("no such source: `{text}`"));
        }
        Ok(source)
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(&path.join(".")),
            Self::Each { array, key: None } => write!(f, "{array}[]"),
            Self::Each { array, key: Some(key) } => write!(f, "{array}[].{key}"),
            Self::Entries(object) => write!(f, "{object}{{}}"),
            Self::Join(a, b) => write!(f, "{a}:{b}"),
            Self::Context(context) => write!(
                f,
                "@{}",
                match context {
                    Context::Cid => "cid",
                    Context::MessageId => "message_id",
                    Context::MessageCreatedAt => "message_created_at",
                    Context::ExportedAt => "exported_at",
                    Context::ExportTaskId => "export_task_id",
                    Context::VanishedAt => "vanished_at",
                    Context::EntryKey => "key",
                    Context::Owner => "owner",
                    Context::Raw => "raw",
                    Context::Reject(index) => REJECT_FIELDS[*index],
                }
            ),
            Self::Rest => f.write_str("*"),
            Self::Misfits => f.write_str("!"),
        }
    }
}

impl Column {
    /// The Arrow type. Lists and maps hold no nulls of their own.
    pub fn data_type(&self) -> DataType {
        match self.kind {
            Kind::String | Kind::Json => DataType::Utf8,
            Kind::Int64 => DataType::Int64,
            Kind::Float64 => DataType::Float64,
            Kind::Bool => DataType::Boolean,
            Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::StringList => DataType::List(Arc::new(Field::new("element", DataType::Utf8, false))),
            Kind::CountMap => DataType::Map(
                Arc::new(Field::new(
                    "key_value",
                    DataType::Struct(Fields::from(vec![
                        Field::new("key", DataType::Utf8, false),
                        Field::new("value", DataType::Int64, true),
                    ])),
                    false,
                )),
                false,
            ),
            Kind::Struct => DataType::Struct(self.arrow_fields()),
            Kind::StructList => {
                DataType::List(Arc::new(Field::new("element", DataType::Struct(self.arrow_fields()), false)))
            }
        }
    }

    /// The Arrow fields of a struct's fields.
    pub fn arrow_fields(&self) -> Fields {
        self.fields.iter().map(Column::field).collect()
    }

    /// The Arrow field.
    pub fn field(&self) -> Field {
        Field::new(&self.name, self.data_type(), !self.required)
    }
}

impl Schema {
    /// The name under which a lake has its files.
    pub fn name(&self) -> String {
        let prefix = if self.partition_by == PartitionBy::ExportDate { USER_EXPORTS } else { "" };
        format!("{prefix}{}", self.dataset)
    }

    /// The Arrow schema of its files; partition columns are in the path only.
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(arrow::datatypes::Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>()))
    }

    /// The keys of an object that something takes, each once.
    pub fn keys(&self) -> Vec<&str> {
        let embedded = self.emits.iter().map(|emit| &emit.source);
        let ignored = self.ignored.iter().map(|ignored| &ignored.source);
        let columns = self.columns.iter().flat_map(|column| &column.sources);
        let mut keys = Vec::new();
        for key in columns.chain(embedded).chain(ignored).flat_map(Source::keys) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// The place of a column.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_embedded_schemas_hold_together() {
        for (name, schema) in DATASETS.iter().zip(all()) {
            assert_eq!(*name, schema.dataset);
            let names: HashSet<_> = schema.columns.iter().map(|column| &column.name).collect();
            assert_eq!(names.len(), schema.columns.len(), "{name}: a column twice");
            for column in schema.key.iter().chain(&schema.sort).chain(&schema.version_by) {
                assert!(names.contains(column), "{name}: no column {column}");
            }
            assert!(
                schema.key.iter().all(|column| schema.sort.contains(column)),
                "{name}: the sort order lacks the key"
            );
            for emit in &schema.emits {
                assert!(find(&emit.dataset).is_some(), "{name}: emits into {}", emit.dataset);
            }
            for column in &schema.columns {
                well_described(name, column);
            }
        }
    }

    #[test]
    fn of_an_object_that_a_column_looks_into_the_rest_is_kept_elsewhere() {
        for schema in all() {
            let whole = |key: &str| {
                let emitted = schema.emits.iter().any(|emit| emit.source.keys() == [key]);
                let held = |column: &Column| {
                    column.kind == Kind::Json && column.sources.contains(&Source::Path(vec![key.to_owned()]))
                };
                let is_line = |column: &Column| column.required && column.sources == [Source::Context(Context::Raw)];
                key == "custom" || emitted || schema.columns.iter().any(|column| held(column) || is_line(column))
            };
            for source in schema.columns.iter().flat_map(|column| &column.sources) {
                let looks_into = match source {
                    Source::Path(path) => path.len() > 1,
                    Source::Each { key, .. } => key.is_some(),
                    _ => false,
                };
                assert!(!looks_into || whole(source.keys()[0]), "{}: {source}", schema.dataset);
            }
        }
    }

    fn well_described(dataset: &str, column: &Column) {
        let place = format!("{dataset}.{}", column.name);
        assert!(!column.doc.is_empty(), "{place}: no doc");
        assert_eq!(column.null_when.is_some(), !column.required, "{place}: required and null_when exclude each other");
        let nested = matches!(column.kind, Kind::Struct | Kind::StructList);
        assert_eq!(nested, !column.fields.is_empty(), "{place}: fields belong to structs");
        assert!(!column.sources.is_empty(), "{place}: no source");
        let counts = matches!(column.kind, Kind::Int64 | Kind::Float64 | Kind::CountMap | Kind::Timestamp);
        assert_eq!(column.unit.is_some(), counts, "{place}: units belong to numbers and times");
        for field in &column.fields {
            well_described(&place, field);
        }
    }

    #[test]
    fn sources_print_as_they_were_written() {
        for text in ["a", "a.b", "a[]", "a[].b", "a{}", "a:b", "@cid", "@key", "@owner", "@reason", "*", "!"] {
            assert_eq!(Source::try_from(text.to_owned()).map(|source| source.to_string()), Ok(text.to_owned()));
        }
        for bad in ["", "@nothing", "[]", "{}", ":b"] {
            assert!(Source::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
