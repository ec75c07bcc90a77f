use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryArray, Int64Array, ListBuilder, MapBuilder, StringArray,
    StringBuilder, StructBuilder, TimestampMicrosecondArray, UInt8Array, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, UInt8Type};
use proptest::prelude::*;

use super::*;
use crate::sort::batch::row_bytes;
use crate::sort::hidden;

/// What the tests sort: the hidden columns and a few of each shape that datasets have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    cell: u32,
    partition: usize,
    cid: Option<String>,
    id: i64,
    rank: u8,
    version: Option<i64>,
    hash: u8,
    text_bytes: usize,
    tags: Vec<String>,
}

const PARTITIONS: [&str; 3] = ["2026-01-01", "2026-01-02", "2026-01-03"];

impl Row {
    /// The order by its definition. A missing version is the lowest, so it comes last.
    fn order(&self) -> impl Ord + use<> {
        (self.identity(), self.rank, std::cmp::Reverse(self.version), self.hash)
    }

    fn identity(&self) -> (u32, usize, Option<String>, i64) {
        (self.cell, self.partition, self.cid.clone(), self.id)
    }
}

fn batch(rows: &[Row]) -> RecordBatch {
    let partitions: DictionaryArray<Int32Type> = rows.iter().map(|row| PARTITIONS[row.partition]).collect();
    let hashes = rows.iter().map(|row| Some([row.hash; 16]));
    let hashes = FixedSizeBinaryArray::try_from_sparse_iter_with_size(hashes, 16).unwrap();
    let texts = rows.iter().map(|row| (row.text_bytes > 0).then(|| "x".repeat(row.text_bytes)));
    let mut tags = ListBuilder::new(StructBuilder::new(
        Fields::from(vec![Field::new("name", DataType::Utf8, true)]),
        vec![Box::new(StringBuilder::new())],
    ));
    let mut counts = MapBuilder::new(None, StringBuilder::new(), Int64Array::builder(0));
    for row in rows {
        for tag in &row.tags {
            tags.values().field_builder::<StringBuilder>(0).unwrap().append_value(tag);
            tags.values().append(true);
            counts.keys().append_value(tag);
            counts.values().append_value(row.id);
        }
        tags.append(!row.tags.is_empty());
        counts.append(true).unwrap();
    }
    RecordBatch::try_from_iter_with_nullable([
        (hidden::CELL, Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.cell))) as ArrayRef, false),
        (hidden::PARTITION, Arc::new(partitions), false),
        (hidden::RANK, Arc::new(UInt8Array::from_iter_values(rows.iter().map(|row| row.rank))), false),
        (hidden::HASH, Arc::new(hashes), false),
        ("cid", Arc::new(rows.iter().map(|row| row.cid.as_deref()).collect::<StringArray>()), true),
        ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id))), false),
        ("updated_at", Arc::new(rows.iter().map(|row| row.version).collect::<TimestampMicrosecondArray>()), true),
        ("text", Arc::new(texts.collect::<StringArray>()), true),
        ("tags", Arc::new(tags.finish()), true),
        ("counts", Arc::new(counts.finish()), true),
    ])
    .unwrap()
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let column = |name| batch.column_by_name(name).unwrap();
    let partitions = arrow::compute::cast(column(hidden::PARTITION), &DataType::Utf8).unwrap();
    let cids = column("cid").as_string::<i32>();
    let versions = column("updated_at").as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    let tags = column("tags").as_list::<i32>();
    let counts = column("counts").as_map();
    let mut rows = Vec::new();
    for row in 0..batch.num_rows() {
        let names = tags.value(row);
        let names = names.as_struct().column(0).as_string::<i32>();
        let names: Vec<String> = names.iter().flatten().map(str::to_owned).collect();
        let keys = counts.value(row);
        let keys: Vec<_> = keys.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        assert_eq!(keys, names);
        assert_eq!(tags.is_null(row), names.is_empty());
        let partition = partitions.as_string::<i32>().value(row);
        rows.push(Row {
            cell: column(hidden::CELL).as_primitive::<arrow::datatypes::UInt32Type>().value(row),
            partition: PARTITIONS.iter().position(|&known| known == partition).unwrap(),
            cid: (!cids.is_null(row)).then(|| cids.value(row).to_owned()),
            id: column("id").as_primitive::<Int64Type>().value(row),
            rank: column(hidden::RANK).as_primitive::<UInt8Type>().value(row),
            version: (!versions.is_null(row)).then(|| versions.value(row)),
            hash: column(hidden::HASH).as_fixed_size_binary().value(row)[0],
            text_bytes: column("text").as_string::<i32>().value(row).len(),
            tags: names,
        });
    }
    rows
}

fn sorter(budget_bytes: usize, fan_in: usize) -> Sorter {
    let schema = batch(&[]).schema();
    let spec = hidden::sort_spec(&schema, &["cid", "id"], &["updated_at"]).unwrap();
    Sorter { fan_in, ..Sorter::new(schema, &spec, budget_bytes, None).unwrap() }
}

fn row(cell: u32, id: i64) -> Row {
    let cid = Some("messaging:general".to_owned());
    Row { cell, partition: 0, cid, id, rank: 0, version: None, hash: 0, text_bytes: 10, tags: vec!["a".to_owned()] }
}

fn any_row() -> impl Strategy<Value = Row> {
    let cid = prop::option::weighted(0.9, "[ab]{0,2}");
    let tags = prop::collection::vec("[a-c]{1,4}", 0..3);
    let version = prop::option::of(-2i64..3);
    let text_bytes = prop_oneof![9 => 0usize..40, 1 => 2_000usize..4_000];
    (0u32..3, 0usize..3, cid, -2i64..3, 0u8..2, version, any::<u8>(), text_bytes, tags).prop_map(
        |(cell, partition, cid, id, rank, version, hash, text_bytes, tags)| Row {
            cell,
            partition,
            cid,
            id,
            rank,
            version,
            hash,
            text_bytes,
            tags,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_budget_gives_what_sorting_all_at_once_gives(
        mut all in prop::collection::vec(any_row(), 0..400),
        batch_rows in 1usize..60,
        nearly_sorted: bool,
        budget_bytes in prop_oneof![Just(0usize), 1_000usize..60_000, Just(64 << 20)],
        fan_in in 2usize..6,
    ) {
        // Rows equal in the whole order would leave it open which one wins.
        let mut seen = BTreeMap::new();
        all.retain(|row| seen.insert((row.identity(), row.rank, row.version, row.hash), ()).is_none());
        if nearly_sorted {
            all.sort_by_key(Row::order);
            let swaps = all.len() / 50;
            for at in 0..swaps {
                all.swap(at * 37 % swaps.max(1), at);
            }
        }
        let mut sorter = sorter(budget_bytes, fan_in);
        let whole = batch(&all);
        for start in (0..all.len()).step_by(batch_rows) {
            // Half of the batches are slices of a large one.
            let rows = batch_rows.min(all.len() - start);
            let part = if start % 2 == 0 { whole.slice(start, rows) } else { batch(&all[start..start + rows]) };
            sorter.push(part).unwrap();
        }
        let pairs = Arc::new(Mutex::new(Vec::new()));
        let seen = pairs.clone();
        let mut sorted = sorter
            .finish_with(move |winner, loser| {
                let one = |at: RowRef<'_>| rows(&at.batch.slice(at.row, 1)).remove(0);
                seen.lock().unwrap().push((one(winner), one(loser)));
            })
            .unwrap();
        let mut found = Vec::new();
        for batch in sorted.by_ref() {
            let batch = batch.unwrap();
            prop_assert!((1..=MAX_BATCH_ROWS).contains(&batch.num_rows()));
            let bytes = row_bytes(&batch)[batch.num_rows()];
            prop_assert!(batch.num_rows() == 1 || bytes <= (budget_bytes / 8).max(1), "{bytes} of {budget_bytes}");
            found.extend(rows(&batch));
        }

        all.sort_by_key(Row::order);
        let mut wanted: Vec<Row> = Vec::new();
        let mut wanted_pairs = Vec::new();
        for row in all {
            match wanted.last() {
                Some(winner) if winner.identity() == row.identity() => wanted_pairs.push((winner.clone(), row)),
                _ => wanted.push(row),
            }
        }
        prop_assert_eq!(found, wanted);
        prop_assert_eq!(sorted.duplicates(), wanted_pairs.len() as u64);
        prop_assert_eq!(&*pairs.lock().unwrap(), &wanted_pairs);
    }
}

#[test]
fn rows_in_order_are_one_run_and_are_not_copied() {
    let mut sorter = sorter(64 << 20, FAN_IN);
    let rows = 5_000;
    let first = batch(&(0..rows).map(|id| row(0, id)).collect::<Vec<_>>());
    let texts = first.column_by_name("text").unwrap().as_string::<i32>().values().as_ptr();
    sorter.push(first).unwrap();
    sorter.push(batch(&(rows..2 * rows).map(|id| row(0, id)).collect::<Vec<_>>())).unwrap();
    assert_eq!(sorter.memory.len(), 1);
    let sorted: Vec<_> = sorter.finish().unwrap().map(Result::unwrap).collect();
    assert_eq!(sorted.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [5_000, 5_000]);
    assert_eq!(sorted[0].column_by_name("text").unwrap().as_string::<i32>().values().as_ptr(), texts);
}

#[test]
fn interleaved_streams_are_one_run_each() {
    let mut sorter = sorter(64 << 20, FAN_IN);
    for id in 0..50 {
        for cell in [2, 0, 1] {
            sorter.push(batch(&[row(cell, 2 * id), row(cell, 2 * id + 1)])).unwrap();
        }
    }
    assert_eq!(sorter.memory.len(), 3);
}

#[test]
fn what_is_in_order_continues_its_file_and_stays_within_the_budget() {
    let budget_bytes = 256 << 10;
    let mut sorter = sorter(budget_bytes, FAN_IN);
    for start in 0..200 {
        sorter.push(batch(&(0..20).map(|id| row(start, id)).collect::<Vec<_>>())).unwrap();
        assert!(sorter.memory_bytes() <= budget_bytes);
    }
    assert!(sorter.has_spilled());
    assert_eq!(sorter.spilled.len(), 1);
    let rows: usize = sorter.finish().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 200 * 20);
}

#[test]
fn open_files_stay_few_however_much_is_spilled() {
    let mut sorter = sorter(0, 3);
    // Against the order, so that every batch is a run of its own.
    for cell in (0..100).rev() {
        sorter.push(batch(&[row(cell, 1)])).unwrap();
        assert!(sorter.spilled.len() <= 3 * 5, "{}", sorter.spilled.len());
    }
    let cells: Vec<u32> =
        sorter.finish().unwrap().flat_map(|batch| rows(&batch.unwrap())).map(|row| row.cell).collect();
    assert_eq!(cells, (0..100).collect::<Vec<_>>());
}

#[test]
fn huge_rows_are_merged_fewer_at_a_time() {
    let mut sorter = sorter(1 << 20, FAN_IN);
    for id in (0..24).rev() {
        sorter.push(batch(&[Row { text_bytes: 200_000, ..row(0, id) }])).unwrap();
    }
    // Half of the budget holds two such rows, not one of each file.
    assert!(sorter.spilled.len() > 2, "{}", sorter.spilled.len());
    assert_eq!(sorter.mergeable(&sorter.spilled), 2);
    let ids: Vec<i64> = sorter.finish().unwrap().flat_map(|batch| rows(&batch.unwrap())).map(|row| row.id).collect();
    assert_eq!(ids, (0..24).collect::<Vec<_>>());
}

#[test]
fn a_sort_may_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let sorter = sorter(0, 2);
    is_send(&sorter);
    is_send(&sorter.finish().unwrap());
}

#[test]
fn without_an_identity_every_row_is_kept() {
    let schema = batch(&[]).schema();
    let spec = SortSpec { keys: vec![SortKey::descending(&schema, "id").unwrap()], dedup_prefix: 0 };
    let mut sorter = Sorter::new(schema, &spec, 1 << 20, None).unwrap();
    sorter.push(batch(&[row(0, 1), row(0, 2), row(0, 2), row(0, 3)])).unwrap();
    let mut sorted = sorter.finish().unwrap();
    let ids: Vec<i64> = sorted.by_ref().flat_map(|batch| rows(&batch.unwrap())).map(|row| row.id).collect();
    assert_eq!(ids, [3, 2, 2, 1]);
    assert_eq!(sorted.duplicates(), 0);
}

#[test]
fn what_cannot_be_sorted_is_refused() {
    let schema = batch(&[]).schema();
    assert!(matches!(SortKey::ascending(&schema, "nope"), Err(SortError::Column(name)) if name == "nope"));
    let spec = |keys, dedup_prefix| Sorter::new(schema.clone(), &SortSpec { keys, dedup_prefix }, 0, None).map(|_| ());
    let key = SortKey { column: 0, descending: false };
    assert!(matches!(spec(vec![], 0), Err(SortError::Spec(_))));
    assert!(matches!(spec(vec![key], 2), Err(SortError::Spec(_))));
    assert!(matches!(spec(vec![SortKey { column: 99, ..key }], 0), Err(SortError::Column(_))));
    let other = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    let mut sorter = sorter(0, 2);
    assert!(matches!(sorter.push(other), Err(SortError::Arrow(_))));
    // What was refused is missing, so nothing comes out at all.
    assert!(matches!(sorter.push(batch(&[row(0, 1)])), Err(SortError::Failed)));
    assert!(matches!(sorter.finish().map(|_| ()), Err(SortError::Failed)));
}

#[test]
fn a_temporary_directory_that_is_not_there_is_told_with_what_to_do() {
    let schema = batch(&[]).schema();
    let spec = hidden::sort_spec(&schema, &["id"], &[]).unwrap();
    let mut sorter = Sorter::new(schema, &spec, 0, Some(Path::new("/nonexistent/chatlake"))).unwrap();
    let error = Error::from(sorter.push(batch(&[row(0, 1)])).unwrap_err());
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.report().contains("--temp-dir"), "{}", error.report());
}
