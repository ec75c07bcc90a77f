//! Arrow builders, one per kind of column.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListArray, ListBuilder, MapBuilder, MapFieldNames,
    StringBuilder, StructArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use crate::schema::{Column, Kind};

/// The values of one column so far.
#[derive(Debug)]
pub(super) enum ColumnBuilder {
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

    fn append_null(&mut self) {
        for column in &mut self.columns {
            column.append_null();
        }
        self.validity.append(false);
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

    pub(super) fn append_null(&mut self) {
        match self {
            Self::Text(builder) => builder.append_null(),
            Self::Integer(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::TextList(builder) => builder.append(false),
            Self::CountMap(builder) => builder.append(false).expect("keys and values are appended in pairs"),
            Self::Struct(builder) => builder.append_null(),
            Self::StructList { offsets, elements, validity } => {
                offsets.push(offset(elements.len()));
                validity.append(false);
            }
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
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
