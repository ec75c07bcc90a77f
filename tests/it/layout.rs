//! How the files of a run are laid out for those who read a little of them.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use chatlake::schema::{self, Filter, Kind, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::LogicalType;
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use simulator::Size;

use crate::bench::Bench;

fn files(bench: &Bench, dataset: &str) -> Vec<PathBuf> {
    let pattern = format!("{}/{dataset}/*/*.parquet", bench.lake);
    glob::glob(&pattern).unwrap().map(Result::unwrap).collect()
}

fn metadata(path: &Path) -> ParquetMetaData {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    reader.parse_and_finish(&File::open(path).unwrap()).unwrap()
}

fn rows(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[test]
fn files_of_a_run_are_sorted_and_say_where_their_rows_are() {
    let bench = Bench::new(&Size { channels: 9, days: 2, messages_per_channel_day: 6, ..Size::default() });
    bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
    for schema in schema::all() {
        for path in files(&bench, &schema.dataset) {
            let (metadata, rows) = (metadata(&path), rows(&path));
            assert!(rows.num_rows() > 0 && metadata.num_row_groups() == 1, "{}", path.display());
            is_sorted(schema, &metadata, &rows);
            has_indexes(schema, &metadata);
            has_small_bloom_filters(schema, &path, &metadata, &rows);
            declares_json(schema, &metadata);
        }
    }
    for dataset in ["messages", "reactions", "channels", "members", "users"] {
        assert!(!files(&bench, dataset).is_empty(), "{dataset}");
    }
    let messages = &schema::all()[0];
    assert_eq!(messages.sort, ["cid", "created_at", "id"]);
    let blooms = messages.columns.iter().filter(|column| column.filter == Some(Filter::Bloom));
    let blooms: BTreeSet<&str> = blooms.map(|column| column.name.as_str()).collect();
    assert!(blooms.is_superset(&BTreeSet::from(["id", "user_id", "cid"])), "{blooms:?}");
}

fn is_sorted(schema: &Schema, metadata: &ParquetMetaData, rows: &RecordBatch) {
    let leaves = metadata.file_metadata().schema_descr();
    let declared = metadata.row_group(0).sorting_columns().unwrap();
    let names = declared.iter().map(|sorting| {
        assert!(!sorting.descending && sorting.nulls_first);
        leaves.column(usize::try_from(sorting.column_idx).unwrap()).path().string()
    });
    assert_eq!(names.collect::<Vec<_>>(), schema.sort);
    let columns: Vec<_> = schema.sort.iter().map(|name| rows.column_by_name(name).unwrap().clone()).collect();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let keys = RowConverter::new(fields).unwrap().convert_columns(&columns).unwrap();
    assert!(keys.iter().zip(keys.iter().skip(1)).all(|(one, next)| one <= next), "{} is not in order", schema.dataset);
}

/// Pages can be told apart by the columns that people filter by, and no others take room in the footer.
fn has_indexes(schema: &Schema, metadata: &ParquetMetaData) {
    for chunk in metadata.row_group(0).columns() {
        let root = &chunk.column_path().parts()[0];
        let Some(column) = schema.columns.iter().find(|column| column.name == *root) else { continue };
        let is_filter = column.filter.is_some() || schema.sort.contains(root);
        let name = format!("{}.{root}", schema.dataset);
        assert_eq!(chunk.column_index_range().is_some(), is_filter, "{name}");
        assert_eq!(chunk.statistics().is_some(), is_filter, "{name}");
        assert!(chunk.offset_index_range().is_some(), "{name}");
    }
}

/// Bloom filters hold all values, in room for no more than those.
fn has_small_bloom_filters(schema: &Schema, path: &Path, metadata: &ParquetMetaData, rows: &RecordBatch) {
    let file = File::open(path).unwrap();
    for column in &schema.columns {
        let mut chunks = metadata.row_group(0).columns().iter();
        let chunk = chunks.find(|chunk| chunk.column_path().parts()[0] == column.name).unwrap();
        let filter = Sbbf::read_from_column_chunk(chunk, &file).unwrap();
        let name = format!("{}.{}", schema.dataset, column.name);
        assert_eq!(filter.is_some(), column.filter == Some(Filter::Bloom), "{name}");
        let Some(filter) = filter else { continue };
        let values = cast(rows.column_by_name(&column.name).unwrap(), &DataType::Utf8).unwrap();
        let values: BTreeSet<&str> = values.as_string::<i32>().iter().flatten().collect();
        assert!(values.iter().all(|value| filter.check(*value)), "{name}");
        let bytes = filter.num_blocks() * 32;
        assert!(bytes <= 32 + 3 * values.len(), "{name}: {bytes} bytes for {} values", values.len());
    }
}

fn declares_json(schema: &Schema, metadata: &ParquetMetaData) {
    for leaf in metadata.file_metadata().schema_descr().columns() {
        let mut columns = schema.columns.iter();
        let column = columns.find(|column| leaf.path().parts() == std::slice::from_ref(&column.name));
        let Some(column) = column else { continue };
        let is_json = leaf.logical_type_ref() == Some(&LogicalType::Json);
        assert_eq!(is_json, column.kind == Kind::Json, "{}.{}", schema.dataset, column.name);
    }
}
