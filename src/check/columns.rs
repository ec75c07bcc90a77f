//! The rows that came of an export: columns that nothing fills, and what no column takes.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use serde_json::{Map, Value};

use super::keys::Keys;
use crate::columns::Schemas;
use crate::schema::DATASETS;

/// What is known of each dataset's rows, by its place in [`DATASETS`].
#[derive(Debug, Default)]
pub(super) struct Filled {
    of: BTreeMap<usize, Dataset>,
}

/// The rows of one dataset.
#[derive(Debug, Default)]
struct Dataset {
    rows: u64,
    /// Columns, and how many rows have a value.
    filled: BTreeMap<String, u64>,
    untaken: Keys,
    misfits: Keys,
}

/// What a dataset lacks, or has too much.
pub(super) struct Gaps<'a> {
    pub(super) dataset: &'static str,
    pub(super) rows: u64,
    pub(super) unfilled: Vec<String>,
    pub(super) untaken: &'a Keys,
    pub(super) misfits: &'a Keys,
}

impl Filled {
    pub(super) fn batch(&mut self, dataset: usize, batch: &RecordBatch) {
        let found = self.of.entry(dataset).or_default();
        found.rows += batch.num_rows() as u64;
        let schema = batch.schema();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let name = field.name();
            *found.filled.entry(name.clone()).or_default() += (column.len() - column.null_count()) as u64;
            match name.as_str() {
                "_rescued" => add_keys("", column, &mut found.misfits),
                _ => find_custom("", name, column, &mut found.untaken),
            }
        }
    }

    /// Of each dataset that has rows. Quarantine is none of the format's.
    pub(super) fn gaps<'a>(&'a self, schemas: &'a Schemas) -> impl Iterator<Item = Gaps<'a>> {
        self.of.iter().filter(|(dataset, _)| DATASETS[**dataset] != "quarantine").map(|(dataset, found)| {
            let columns = schemas.get(*dataset).columns.iter().map(|column| column.name.as_str());
            // What begins with an underscore is chatlake's own; custom data is told by its keys.
            let columns = columns.filter(|name| !name.starts_with('_') && !matches!(*name, "custom" | "raw"));
            let is_unfilled = |name: &&str| found.filled.get(*name).is_none_or(|rows| *rows == 0);
            Gaps {
                dataset: DATASETS[*dataset],
                rows: found.rows,
                unfilled: columns.filter(is_unfilled).map(str::to_owned).collect(),
                untaken: &found.untaken,
                misfits: &found.misfits,
            }
        })
    }
}

/// Custom data, of a row or of what is inside of it.
fn find_custom(prefix: &str, name: &str, column: &ArrayRef, keys: &mut Keys) {
    match column.data_type() {
        DataType::Utf8 if name == "custom" => add_keys(prefix, column, keys),
        DataType::List(_) => find_custom(prefix, &format!("{name}[]"), column.as_list::<i32>().values(), keys),
        DataType::Struct(fields) => {
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                find_custom(&format!("{prefix}{name}."), field.name(), column, keys);
            }
        }
        _ => {}
    }
}

/// The keys of a column of JSON objects. Of the path of a value only the beginning: what follows may be named by somebody.
fn add_keys(prefix: &str, column: &ArrayRef, keys: &mut Keys) {
    let Some(texts) = column.as_string_opt::<i32>() else { return };
    for text in texts.iter().flatten() {
        let Ok(object) = serde_json::from_str::<Map<String, Value>>(text) else { continue };
        for (path, value) in object {
            keys.add(prefix, path.split(['.', '[']).next().unwrap_or_default(), &value);
        }
    }
}
