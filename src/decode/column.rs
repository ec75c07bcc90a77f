//! Arrow builders, one per kind of column.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    Array, ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListArray, ListBuilder, MapBuilder, MapFieldNames,
    StringBuilder, StructArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use crate::schema::{Column, Kind};

/// A column so far. Most columns are null in most rows, so nulls are counted and appended when a value follows.
#[derive(Debug)]
pub(super) struct ColumnBuilder {
    values: Values,
    owed_nulls: usize,
}

/// The values of one column so far.
#[derive(Debug)]
pub(super) enum Values {
    Text(StringBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Boolean(BooleanBuilder),
    Time(TimestampMicrosecondBuilder),
    TextList(ListBuilder<StringBuilder>),
    CountMap(Box<MapBuilder<StringBuilder, Int64Builder>>),
    Struct(StructBuilder),
    StructList { offsets: Vec<i32>, elements: StructBuilder, validity: NullBufferBuilder },
}

/// The values of one struct column so far.
#[derive(Debug)]
pub(super) struct StructBuilder {
    fields: Fields,
    pub(super) columns: Vec<ColumnBuilder>,
    validity: NullBufferBuilder,
}

impl StructBuilder {
    fn new(column: &Column) -> Self {
        Self {
            fields: column.arrow_fields(),
            columns: column.fields.iter().map(ColumnBuilder::new).collect(),
            validity: NullBufferBuilder::new(0),
        }
    }

    /// Ends an element whose fields were all appended.
    pub(super) fn append(&mut self, is_valid: bool) {
        self.validity.append(is_valid);
    }

    fn append_nulls(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.owed_nulls += rows;
        }
        self.validity.append_n_nulls(rows);
    }

    pub(super) fn len(&self) -> usize {
        self.validity.len()
    }

    fn finish(&mut self) -> StructArray {
        let length = self.validity.len();
        let columns = self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        let validity = self.validity.finish();
        StructArray::try_new_with_length(self.fields.clone(), columns, validity, length)
            .expect("fields and columns are made from the same schema")
    }
}

impl ColumnBuilder {
    pub(super) fn new(column: &Column) -> Self {
        Self { values: Values::new(column), owed_nulls: 0 }
    }

    #[inline]
    pub(super) fn append_null(&mut self) {
        self.owed_nulls += 1;
    }

    /// Where the next value is appended.
    #[inline]
    pub(super) fn values(&mut self) -> &mut Values {
        if self.owed_nulls > 0 {
            self.values.append_nulls(std::mem::take(&mut self.owed_nulls));
        }
        &mut self.values
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        self.values().finish()
    }
}

impl Values {
    fn new(column: &Column) -> Self {
        match column.kind {
            Kind::String | Kind::Json => Self::Text(StringBuilder::new()),
            Kind::Int64 => Self::Integer(Int64Builder::new()),
            Kind::Float64 => Self::Float(Float64Builder::new()),
            Kind::Bool => Self::Boolean(BooleanBuilder::new()),
            Kind::Timestamp => Self::Time(TimestampMicrosecondBuilder::new().with_data_type(column.data_type())),
            Kind::StringList => Self::TextList(ListBuilder::new(StringBuilder::new()).with_field(Field::new(
                "element",
                DataType::Utf8,
                false,
            ))),
            Kind::CountMap => {
                let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
                Self::CountMap(Box::new(MapBuilder::new(Some(names), StringBuilder::new(), Int64Builder::new())))
            }
            Kind::Struct => Self::Struct(StructBuilder::new(column)),
            Kind::StructList => Self::StructList {
                offsets: vec![0],
                elements: StructBuilder::new(column),
                validity: NullBufferBuilder::new(0),
            },
        }
    }

    fn append_nulls(&mut self, rows: usize) {
        match self {
            Self::Text(builder) => builder.append_nulls(rows),
            Self::Integer(builder) => builder.append_nulls(rows),
            Self::Float(builder) => builder.append_nulls(rows),
            Self::Boolean(builder) => builder.append_nulls(rows),
            Self::Time(builder) => builder.append_nulls(rows),
            Self::TextList(builder) => builder.append_nulls(rows),
            Self::CountMap(builder) => builder.append_nulls(rows).expect("keys and values are appended in pairs"),
            Self::Struct(builder) => builder.append_nulls(rows),
            Self::StructList { offsets, elements, validity } => {
                offsets.resize(offsets.len() + rows, offset(elements.len()));
                validity.append_n_nulls(rows);
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => {
                let texts = builder.finish();
                // The next batch is likely to be like this one: what has its room from the start need not be moved as it grows.
                let with_some_to_spare = |length: usize| length + length / 8;
                let (rows, bytes) = (with_some_to_spare(texts.len()), with_some_to_spare(texts.values().len()));
                *builder = StringBuilder::with_capacity(rows, bytes);
                Arc::new(texts)
            }
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish()),
            Self::TextList(builder) => Arc::new(builder.finish()),
            Self::CountMap(builder) => Arc::new(builder.finish()),
            Self::Struct(builder) => Arc::new(builder.finish()),
            Self::StructList { offsets, elements, validity } => {
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let elements = elements.finish();
                let field = Arc::new(Field::new("element", DataType::Struct(elements.fields().clone()), false));
                Arc::new(
                    ListArray::try_new(field, offsets, Arc::new(elements), validity.finish())
                        .expect("offsets count the elements"),
                )
            }
        }
    }
}

/// The end of a list in its elements. A batch is cut long before they are too many for 32 bits.
pub(super) fn offset(elements: usize) -> i32 {
    i32::try_from(elements).expect("a batch holds fewer than 2^31 list elements")
}
