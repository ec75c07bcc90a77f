use arrow::array::{
    ArrayRef, Int64Array, ListBuilder, MapBuilder, StringArray, StringBuilder, StructBuilder, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Fields, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use super::*;

/// Rows `start..end`, in order of (cid, created_at, id); every tenth text is null and texts do not compress well.
fn batch(start: u64, end: u64, text_bytes: usize) -> RecordBatch {
    let rows = start..end;
    let text = |row: u64| {
        let block = |i: usize| format!("{:032x}", xxh3_128(&[row.to_le_bytes(), (i as u64).to_le_bytes()].concat()));
        (0..text_bytes.div_ceil(32)).map(block).collect::<String>()
    };
    let mut mentions = ListBuilder::new(StringBuilder::new());
    let fields = Fields::from(vec![Field::new("url", DataType::Utf8, true)]);
    let mut attachments = ListBuilder::new(StructBuilder::new(fields, vec![Box::new(StringBuilder::new())]));
    let mut counts = MapBuilder::new(None, StringBuilder::new(), Int64Array::builder(0));
    for row in rows.clone() {
        if row % 3 == 0 {
            mentions.values().append_value(format!("user-{}", row % 7));
            attachments.values().field_builder::<StringBuilder>(0).unwrap().append_value("https://cdn.example/a.png");
            attachments.values().append(true);
            counts.keys().append_value("like");
            counts.values().append_value(3);
        }
        mentions.append(row % 5 != 0);
        attachments.append(true);
        counts.append(true).unwrap();
    }
    let times = rows.clone().map(|row| 1_767_225_600_000_000 + i64::try_from(row).unwrap() * 1_000_000);
    RecordBatch::try_from_iter_with_nullable([
        ("cid", Arc::new(StringArray::from_iter_values(rows.clone().map(|_| "messaging:general"))) as ArrayRef, false),
        ("created_at", Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")), false),
        ("id", Arc::new(StringArray::from_iter_values(rows.clone().map(|row| format!("message-{row:09}")))), false),
        ("text", Arc::new(rows.clone().map(|row| (row % 10 != 0).then(|| text(row))).collect::<StringArray>()), true),
        ("custom", Arc::new(rows.map(|_| Some(r#"{"color":"red"}"#)).collect::<StringArray>()), true),
        ("mentions", Arc::new(mentions.finish()), true),
        ("attachments", Arc::new(attachments.finish()), true),
        ("counts", Arc::new(counts.finish()), true),
    ])
    .unwrap()
}

fn options() -> FileOptions {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    FileOptions {
        compression: Compression::ZSTD(ZstdLevel::try_new(1).unwrap()),
        sorting_columns: names(&["cid", "created_at", "id"]),
        bloom_columns: names(&["id", "cid", "mentions"]),
        stats_columns: names(&["text"]),
        unique_columns: names(&["id", "text"]),
        json_columns: names(&["custom"]),
        time_column: Some("created_at".to_owned()),
        metadata: vec![("chatlake.dataset".to_owned(), "messages".to_owned())],
        ..FileOptions::default()
    }
}

/// Writes the batches, draining after each; the bytes, the summary and how many drains had something.
fn write(batches: &[RecordBatch], options: &FileOptions) -> (Bytes, FileSummary, usize) {
    let mut file = ParquetFile::create(batches[0].schema(), options).unwrap();
    let (mut bytes, mut drains) = (Vec::new(), 0);
    for batch in batches {
        assert_eq!(file.write(batch).unwrap(), batch.num_rows());
        let drained = file.take_encoded();
        drains += usize::from(!drained.is_empty());
        bytes.extend_from_slice(&drained);
    }
    let (tail, summary) = file.finish().unwrap();
    bytes.extend_from_slice(&tail);
    (Bytes::from(bytes), summary, drains)
}

/// All rows; what the file says about itself is no part of their schema.
fn read(bytes: &Bytes) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let schema = Arc::new(Schema::new(builder.schema().fields().clone()));
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

fn metadata(bytes: &Bytes) -> ParquetMetaData {
    ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required).parse_and_finish(bytes).unwrap()
}

#[test]
fn drained_bytes_are_a_valid_file_that_reads_back_the_same() {
    let batches = [batch(0, 3_000, 200), batch(3_000, 3_001, 200), batch(3_001, 9_000, 200)];
    let options = FileOptions { row_group_bytes: 512 << 10, ..options() };
    let (bytes, summary, drains) = write(&batches, &options);
    assert!(drains > 1, "{drains}");
    let schema = batches[0].schema();
    assert_eq!(read(&bytes), concat_batches(&schema, &batches).unwrap());
    assert_eq!(summary.rows, 9_000);
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert_eq!(summary.min_us, Some(1_767_225_600_000_000));
    assert_eq!(summary.max_us, Some(1_767_225_600_000_000 + 8_999 * 1_000_000));
    assert!(metadata(&bytes).num_row_groups() > 3);
}

#[test]
fn identical_input_gives_identical_bytes() {
    let batches = [batch(0, 2_000, 50), batch(2_000, 4_000, 50)];
    let options = FileOptions { row_group_bytes: 200 << 10, ..options() };
    assert_eq!(write(&batches, &options).0, write(&batches, &options).0);
}

#[test]
fn a_file_declares_its_order_origin_statistics_and_encodings() {
    let (bytes, _, _) = write(&[batch(0, 5_000, 100)], &FileOptions { row_group_bytes: 300 << 10, ..options() });
    let metadata = metadata(&bytes);
    let created_by = metadata.file_metadata().created_by().unwrap();
    assert_eq!(created_by, format!("chatlake version {}", env!("CARGO_PKG_VERSION")));
    let pairs = metadata.file_metadata().key_value_metadata().unwrap();
    assert!(pairs.contains(&KeyValue::new("chatlake.dataset".to_owned(), "messages".to_owned())));
    let schema = metadata.file_metadata().schema_descr();
    let leaf = |name: &str| schema.columns().iter().position(|leaf| leaf.path().parts()[0] == name).unwrap();
    assert_eq!(schema.column(leaf("custom")).logical_type_ref(), Some(&LogicalType::Json));
    assert_eq!(schema.column(leaf("text")).logical_type_ref(), Some(&LogicalType::String));
    let pages = metadata.page_index().unwrap();
    let mut first = 0;
    for (group, row_group) in metadata.row_groups().iter().enumerate() {
        let sorting: Vec<_> = row_group.sorting_columns().unwrap().iter().map(|column| column.column_idx).collect();
        assert_eq!(sorting, [0, 1, 2]);
        let has = |name, encoding| row_group.column(leaf(name)).encodings().any(|found| found == encoding);
        assert!(has("created_at", Encoding::DELTA_BINARY_PACKED));
        assert!(!has("created_at", Encoding::RLE_DICTIONARY));
        assert!(!has("id", Encoding::RLE_DICTIONARY));
        assert!(has("cid", Encoding::RLE_DICTIONARY));
        for name in ["cid", "created_at", "id"] {
            assert!(pages.column_index(group, leaf(name)).unwrap().is_sorted(), "{name}");
        }
        assert!(row_group.column(leaf("text")).column_index_range().is_some());
        assert!(row_group.column(leaf("custom")).column_index_range().is_none());
        let text = row_group.column(leaf("text")).statistics().unwrap();
        assert!(text.max_bytes_opt().unwrap().len() <= STATISTICS_BYTES);
        let next = first + u64::try_from(row_group.num_rows()).unwrap();
        assert_eq!(text.null_count_opt(), Some(next.div_ceil(10) - u64::div_ceil(first, 10)));
        first = next;
        assert!(row_group.column(leaf("mentions")).statistics().is_some());
        assert!(row_group.column(leaf("mentions")).column_index_range().is_some());
        assert!(row_group.column(leaf("custom")).statistics().is_none());
        assert!(!pages.offset_index(group, leaf("text")).unwrap().page_locations().is_empty());
    }
}

#[test]
fn bloom_filters_know_every_value_and_few_others() {
    let (bytes, _, _) = write(&[batch(0, 5_000, 100)], &FileOptions { row_group_bytes: 300 << 10, ..options() });
    let metadata = metadata(&bytes);
    let mut first = 0;
    for group in metadata.row_groups() {
        let filter = |name: &str| {
            let column = group.columns().iter().find(|column| column.column_path().parts()[0] == name).unwrap();
            Sbbf::read_from_column_chunk(column, &bytes).unwrap()
        };
        let ids = filter("id").unwrap();
        let next = first + u64::try_from(group.num_rows()).unwrap();
        for row in first..next {
            assert!(ids.check(format!("message-{row:09}").as_str()), "{row}");
        }
        let strangers = (100_000..110_000u64).filter(|row| ids.check(format!("message-{row:09}").as_str())).count();
        assert!(strangers < 300, "{strangers}");
        // Sized by the row group's values, not by the most it might have held.
        assert!(ids.num_blocks() * 32 <= 32 + 3 * (next - first) as usize, "{}", ids.num_blocks());
        assert!(filter("cid").unwrap().check("messaging:general"));
        assert!(filter("mentions").unwrap().check("user-3"));
        assert!(filter("text").is_none());
        first = next;
    }
    assert_eq!(first, 5_000);
}

#[test]
fn a_full_row_group_fills_its_bloom_filter() {
    let rows = u64::try_from(ROW_GROUP_ROWS).unwrap();
    let ids = |ids: std::ops::Range<u64>| {
        StringArray::from_iter_values(ids.map(|id| format!("{:032x}", xxh3_128(&id.to_le_bytes()))))
    };
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids(0..rows)) as ArrayRef)]).unwrap();
    let options = FileOptions { bloom_columns: vec!["id".to_owned()], ..FileOptions::default() };
    let (bytes, _, _) = write(&[batch], &options);
    let metadata = metadata(&bytes);
    assert_eq!(metadata.num_row_groups(), 1);
    let filter = Sbbf::read_from_column_chunk(metadata.row_group(0).column(0), &bytes).unwrap().unwrap();
    assert_eq!(filter.num_blocks() * 32, 128 << 10);
    let strangers = ids(rows..rows + 10_000);
    let seeming = strangers.iter().flatten().filter(|id| filter.check(*id)).count();
    assert!(seeming < 150, "{seeming}");
}

/// Readers take a row group as it is encoded, so that many rows that compress well are one; up to a size that can be decoded.
#[test]
fn a_row_group_ends_by_what_is_encoded() {
    let options = FileOptions { row_group_bytes: 4 << 20, row_group_rows: 16_384, ..options() };
    for (text_bytes, groups) in [(2_000, 1), (8_000, 2)] {
        let text = StringArray::from_iter_values((0..10_000).map(|_| "x".repeat(text_bytes)));
        let mut columns = batch(0, 10_000, 0).columns().to_vec();
        columns[3] = Arc::new(text);
        let batch = RecordBatch::try_new(batch(0, 0, 0).schema(), columns).unwrap();
        let (bytes, _, _) = write(&[batch], &options);
        assert_eq!(metadata(&bytes).num_row_groups(), groups, "rows with {text_bytes} bytes");
    }
}

#[test]
fn a_row_group_bounds_memory() {
    let options = FileOptions { target_file_bytes: 3 << 20, row_group_bytes: 1 << 20, ..options() };
    let mut file = ParquetFile::create(batch(0, 1, 1).schema(), &options).unwrap();
    let mut row = 0;
    while !file.is_full() {
        let rows = file.write(&batch(row, row + 500, 400)).unwrap();
        // Bloom filters being filled count, at 128 KiB for each of three columns at most.
        assert!(file.memory_bytes() <= 3 << 20, "{}", file.memory_bytes());
        file.take_encoded();
        row += rows as u64;
    }
    assert_eq!(file.finish().unwrap().1.rows, row);
}

/// Rows `start..end` of which each shape has other columns that weigh: texts that do or do not compress, ids alone, or texts that
/// stop compressing in the middle of what is written.
fn shaped(shape: Shape, start: u64, end: u64, seed: u64) -> RecordBatch {
    let words = ["hello", "thanks", "tomorrow", "the", "order", "is", "late", "see", "you", "there", "again", "please"];
    let noise = |row: u64, i: u64| xxh3_128(&[seed, row, i].map(u64::to_le_bytes).concat());
    let noisy = |row: u64| (0..10).map(|i| format!("{:032x}", noise(row, i))).collect::<String>();
    let prose = |row: u64| {
        let word = |i| words[usize::try_from(noise(row, i) % 12).unwrap()];
        (0..5 + u64::try_from(noise(row, 0) % 90).unwrap()).map(word).collect::<Vec<_>>().join(" ")
    };
    let text = |row: u64| match shape {
        Shape::Prose => Some(prose(row)),
        Shape::Noise => Some(noisy(row)),
        Shape::Ids => None,
        Shape::Changing => Some(if row % 20_000 < 10_000 { prose(row) } else { noisy(row) }),
    };
    let rows = start..end;
    let ids = rows.clone().map(|row| format!("{:032x}", noise(row, 100)));
    let text: StringArray = rows.clone().map(text).collect();
    let columns = batch(start, end, 0).columns().to_vec();
    let columns = columns.into_iter().enumerate().map(|(index, column)| match index {
        2 => Arc::new(StringArray::from_iter_values(ids.clone())) as ArrayRef,
        3 => Arc::new(text.clone()),
        _ => column,
    });
    RecordBatch::try_new(batch(0, 0, 0).schema(), columns.collect()).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Prose,
    Noise,
    Ids,
    Changing,
}

#[test]
fn files_of_any_rows_come_within_a_tenth_of_the_target() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    for shape in [Shape::Prose, Shape::Noise, Shape::Ids, Shape::Changing] {
        for (target_file_bytes, row_group_bytes) in [(1 << 20, 32 << 20), (1 << 20, 1 << 20), (4 << 20, 8 << 20)] {
            // As many rows as `Memory` would allow: bloom filters being filled take no more than a part of a row group.
            let row_group_rows = row_group_bytes / 64;
            let options = FileOptions { target_file_bytes, row_group_bytes, row_group_rows, ..options() };
            let mut sizes = Vec::new();
            let mut row = 0;
            while sizes.len() < 3 {
                let mut file = ParquetFile::create(batch(0, 0, 0).schema(), &options).unwrap();
                let first = row;
                while !file.is_full() {
                    row += file.write(&shaped(shape, row, row + 8_192, seed)).unwrap() as u64;
                    file.take_encoded();
                }
                let (_, summary) = file.finish().unwrap();
                assert_eq!(summary.rows, row - first);
                sizes.push(summary.bytes);
            }
            let near = target_file_bytes / 10 * 9..=target_file_bytes / 10 * 11;
            println!("{shape:?} {target_file_bytes} {row_group_bytes}: {sizes:?}");
            assert!(sizes.iter().all(|size| near.contains(size)), "{shape:?}, target {target_file_bytes}: {sizes:?}");
        }
    }
}

#[test]
fn rows_behind_a_full_file_are_left_to_the_next() {
    let options = FileOptions { target_file_bytes: 100 << 10, ..options() };
    let all = batch(0, 3_000, 200);
    let (mut rows, mut files) = (0, Vec::new());
    while rows < all.num_rows() {
        let mut file = ParquetFile::create(all.schema(), &options).unwrap();
        let rest = all.slice(rows, all.num_rows() - rows);
        let taken = file.write(&rest).unwrap();
        assert!(file.is_full() || taken == rest.num_rows());
        let (bytes, summary) = file.finish().unwrap();
        assert_eq!(read(&bytes), rest.slice(0, taken));
        assert_eq!(summary.rows, taken as u64);
        let second = |row: usize| Some(1_767_225_600_000_000 + i64::try_from(row).unwrap() * 1_000_000);
        assert_eq!((summary.min_us, summary.max_us), (second(rows), second(rows + taken - 1)));
        rows += taken;
        files.push(bytes.len());
    }
    assert!(files.len() > 3, "{files:?}");
}

#[test]
fn huge_rows_make_small_pages_and_row_groups() {
    let huge = batch(1, 9, 1_000_000);
    let options = FileOptions { row_group_bytes: 4 << 20, compression: Compression::UNCOMPRESSED, ..options() };
    let (bytes, _, _) = write(std::slice::from_ref(&huge), &options);
    assert_eq!(read(&bytes), huge);
    let metadata = metadata(&bytes);
    assert!(metadata.num_row_groups() >= 2, "{}", metadata.num_row_groups());
    for group in metadata.row_groups() {
        assert!(group.total_byte_size() <= 5 << 20, "{}", group.total_byte_size());
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let (bytes, summary, _) = write(&[batch(0, 0, 0)], &options());
    assert_eq!((summary.rows, summary.min_us, summary.max_us), (0, None, None));
    assert_eq!(metadata(&bytes).num_row_groups(), 0);
    assert_eq!(read(&bytes).num_rows(), 0);
}

#[test]
fn a_file_that_lacks_a_batch_is_never_finished() {
    let mut file = ParquetFile::create(batch(0, 0, 0).schema(), &options()).unwrap();
    let other = batch(0, 5, 0).project(&[2, 1, 0]).unwrap();
    assert!(matches!(file.write(&other), Err(FileError::Schema(_))));
    assert!(matches!(file.write(&batch(0, 5, 0)), Err(FileError::Failed)));
    assert!(matches!(file.finish(), Err(FileError::Failed)));
}

#[test]
fn options_that_name_no_fitting_column_are_refused() {
    let schema = batch(0, 0, 0).schema();
    let nope = || vec!["nope".to_owned()];
    let list = || vec!["mentions".to_owned()];
    let wrong = [
        FileOptions { bloom_columns: nope(), ..options() },
        FileOptions { sorting_columns: list(), ..options() },
        FileOptions { json_columns: list(), ..options() },
        FileOptions { time_column: Some("id".to_owned()), ..options() },
    ];
    for options in wrong {
        assert!(matches!(ParquetFile::create(schema.clone(), &options), Err(FileError::Column { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_batching_and_row_group_size_reads_back_the_same(
        sizes in prop::collection::vec((0u64..200, 0usize..300), 1..6),
        row_group_bytes in 1usize..60_000,
    ) {
        let mut batches = Vec::new();
        let mut start = 0;
        for (rows, text_bytes) in sizes {
            batches.push(batch(start, start + rows, text_bytes));
            start += rows;
        }
        // Bloom filters in the making would end every row group at once here.
        let options = FileOptions { row_group_bytes, bloom_columns: Vec::new(), ..options() };
        let (bytes, summary, _) = write(&batches, &options);
        prop_assert_eq!(summary.rows, start);
        prop_assert_eq!(read(&bytes), concat_batches(&batches[0].schema(), &batches).unwrap());
    }
}
