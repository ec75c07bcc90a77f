//! `arrow-json-peer IN.ndjson OUT.parquet`: what a Rust programmer writes first. The schema is inferred from the first 10,000 lines.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, input, output] = arguments.as_slice() else {
        return Err("two names are needed: what to read and what to write".into());
    };
    let mut lines = BufReader::with_capacity(1 << 20, File::open(input)?);
    let (inferred, _) = infer_json_schema(&mut lines, Some(10_000))?;
    lines.rewind()?;
    let schema = Arc::new(Schema::new(writable(inferred.fields())));
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(8192).build_decoder()?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(File::create(output)?, schema, Some(properties))?;
    loop {
        let bytes = lines.fill_buf()?;
        let is_end = bytes.is_empty();
        let decoded = decoder.decode(bytes)?;
        let is_batch_full = decoded < bytes.len();
        lines.consume(decoded);
        if is_batch_full || is_end {
            if let Some(batch) = decoder.flush()? {
                writer.write(&batch)?;
            }
            if is_end {
                break;
            }
        }
    }
    writer.close()?;
    Ok(())
}

/// Without the structs that have no field, which Parquet does not know, and nullable.
fn writable(fields: &Fields) -> Fields {
    fields
        .iter()
        .filter_map(|field| Some(Arc::new(Field::new(field.name(), writable_type(field)?, true)) as FieldRef))
        .collect()
}

fn writable_type(field: &Field) -> Option<DataType> {
    match field.data_type() {
        DataType::Struct(fields) => Some(DataType::Struct(writable(fields)))
            .filter(|kind| !matches!(kind, DataType::Struct(fields) if fields.is_empty())),
        DataType::List(element) => {
            let kind = writable_type(element)?;
            Some(DataType::List(Arc::new(Field::new(element.name(), kind, true))))
        }
        DataType::Null => None,
        other => Some(other.clone()),
    }
}
