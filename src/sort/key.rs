//! Keys: bytes that compare like the rows they are made of.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use arrow::row::{RowConverter, Rows, SortField};

use super::{SortError, SortKey, SortSpec};

/// Makes keys of batches. Clones share the converters.
#[derive(Clone)]
pub(super) struct KeyMaker {
    identity: Arc<Part>,
    tiebreak: Option<Arc<Part>>,
}

struct Part {
    columns: Vec<usize>,
    converter: RowConverter,
}

/// The keys of a batch's rows. What identifies a row and what decides between equals are apart, since an encoded row
/// does not tell where one column ends.
pub(super) struct Keys {
    identity: Rows,
    tiebreak: Option<Rows>,
}

/// The key of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key<'a> {
    pub(super) identity: &'a [u8],
    tiebreak: &'a [u8],
}

/// A key that outlives its batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnedKey {
    identity: Vec<u8>,
    tiebreak: Vec<u8>,
}

impl KeyMaker {
    pub(super) fn new(schema: &Schema, spec: &SortSpec) -> Result<Self, SortError> {
        if spec.keys.is_empty() || spec.dedup_prefix > spec.keys.len() {
            return Err(SortError::Spec(format!(
                "{} of {} columns identify a row",
                spec.dedup_prefix,
                spec.keys.len()
            )));
        }
        let identity = if spec.dedup_prefix == 0 { spec.keys.len() } else { spec.dedup_prefix };
        let (identity, tiebreak) = spec.keys.split_at(identity);
        Ok(Self {
            identity: Arc::new(Part::new(schema, identity)?),
            tiebreak: if tiebreak.is_empty() { None } else { Some(Arc::new(Part::new(schema, tiebreak)?)) },
        })
    }

    pub(super) fn keys(&self, batch: &RecordBatch) -> Result<Keys, SortError> {
        Ok(Keys {
            identity: self.identity.rows(batch)?,
            tiebreak: self.tiebreak.as_ref().map(|part| part.rows(batch)).transpose()?,
        })
    }

    /// `keys` in the given order of row numbers.
    pub(super) fn reorder(&self, keys: &Keys, order: &[u32]) -> Keys {
        Keys {
            identity: self.identity.reorder(&keys.identity, order),
            tiebreak: self.tiebreak.as_ref().zip(keys.tiebreak.as_ref()).map(|(part, rows)| part.reorder(rows, order)),
        }
    }
}

impl Part {
    fn new(schema: &Schema, keys: &[SortKey]) -> Result<Self, SortError> {
        let mut fields = Vec::with_capacity(keys.len());
        for key in keys {
            let field = schema.fields().get(key.column).ok_or_else(|| SortError::Column(format!("#{}", key.column)))?;
            let options = SortOptions { descending: key.descending, nulls_first: !key.descending };
            fields.push(SortField::new_with_options(field.data_type().clone(), options));
        }
        Ok(Self { columns: keys.iter().map(|key| key.column).collect(), converter: RowConverter::new(fields)? })
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Rows, SortError> {
        let columns: Vec<_> = self.columns.iter().map(|&column| batch.column(column).clone()).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }

    fn reorder(&self, rows: &Rows, order: &[u32]) -> Rows {
        let mut reordered = self.converter.empty_rows(order.len(), rows.lengths().sum());
        for &row in order {
            reordered.push(rows.row(row as usize));
        }
        reordered
    }
}

impl Keys {
    pub(super) fn get(&self, row: usize) -> Key<'_> {
        Key {
            identity: self.identity.row(row).data(),
            tiebreak: self.tiebreak.as_ref().map_or(&[], |rows| rows.row(row).data()),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.identity.size() + self.tiebreak.as_ref().map_or(0, Rows::size)
    }
}

impl Key<'_> {
    pub(super) fn owned(&self) -> OwnedKey {
        OwnedKey { identity: self.identity.to_vec(), tiebreak: self.tiebreak.to_vec() }
    }
}

impl OwnedKey {
    pub(super) fn as_key(&self) -> Key<'_> {
        Key { identity: &self.identity, tiebreak: &self.tiebreak }
    }
}
