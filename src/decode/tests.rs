use std::collections::BTreeMap;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, StructArray, make_array};
use arrow::datatypes::{DataType, FieldRef, Int64Type, TimestampMicrosecondType, UInt32Type};
use arrow::util::display::array_value_to_string;
use jiff::SignedDuration;

use super::*;
use crate::schema::DATASETS;
use crate::window::{Grid, Window, parse_time};

const DAY: &str = "2026-01-01";

pub(super) fn task(channels: &[&str]) -> Task {
    let window = Window::new(parse_time(DAY).unwrap(), parse_time("2026-01-03").unwrap()).unwrap();
    let cells = Grid::new(SignedDuration::from_hours(24)).unwrap().cells(window);
    let exported_at = parse_time("2026-02-01T10:00:00Z").unwrap();
    Task {
        task_id: "task-1".to_owned(),
        exported_at,
        channels: Some(Arc::new(channels.iter().map(|cid| (*cid).to_owned()).collect())),
        users: None,
        superseded: Arc::default(),
        routes: Arc::new(Routes::new(&cells, 1_000, exported_at, false)),
        keep_raw: false,
    }
}

pub(super) struct Decoded {
    pub(super) batches: BTreeMap<&'static str, Vec<RecordBatch>>,
    pub(super) tally: Tally,
}

pub(super) fn decode(lines: &[&str]) -> Decoded {
    decode_with(&Schemas::default(), lines)
}

pub(super) fn decode_with(schemas: &Schemas, lines: &[&str]) -> Decoded {
    decode_task(schemas, Task { keep_raw: true, ..task(&["messaging:a", "messaging:b"]) }, lines)
}

pub(super) fn decode_task(schemas: &Schemas, task: Task, lines: &[&str]) -> Decoded {
    let mut decoder = Decoder::new(schemas, task);
    let mut offset = 0;
    for (number, line) in lines.iter().enumerate() {
        let (bytes, length) = (line.as_bytes(), line.len() as u64);
        decoder.line(Line { number: number as u64 + 1, offset, length, bytes }).unwrap();
        offset += length + 1;
    }
    gathered(decoder)
}

pub(super) fn gathered(decoder: Decoder) -> Decoded {
    let (ready, tally) = decoder.finish().unwrap();
    let mut batches: BTreeMap<&'static str, Vec<RecordBatch>> = BTreeMap::new();
    for (dataset, batch) in ready {
        batches.entry(DATASETS[dataset]).or_default().push(batch);
    }
    Decoded { batches, tally }
}

/// A value as text, `∅` for null; times in microseconds.
pub(super) fn shown(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "∅".to_owned();
    }
    array_value_to_string(&make_array(with_numbers_for_times(column.to_data())), row).unwrap()
}

/// Arrow shows times of a zone only with a table of all zones.
fn with_numbers_for_times(data: ArrayData) -> ArrayData {
    fn plain(data_type: &DataType) -> DataType {
        let field = |field: &FieldRef| Arc::new((**field).clone().with_data_type(plain(field.data_type())));
        match data_type {
            DataType::Timestamp(..) => DataType::Int64,
            DataType::List(inner) => DataType::List(field(inner)),
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
            other => other.clone(),
        }
    }
    let (data_type, children) = (plain(data.data_type()), data.child_data().to_vec());
    let children = children.into_iter().map(with_numbers_for_times).collect();
    data.into_builder().data_type(data_type).child_data(children).build().unwrap()
}

impl Decoded {
    /// Every value of every row as text.
    pub(super) fn everything(&self) -> String {
        let batches = self.batches.values().flatten();
        let columns = batches.flat_map(|batch| batch.columns().to_vec());
        let values = columns.flat_map(|column| (0..column.len()).map(|row| shown(&column, row)).collect::<Vec<_>>());
        values.collect::<Vec<_>>().join("\n")
    }

    pub(super) fn rows(&self, dataset: &str) -> usize {
        self.batches.get(dataset).map_or(0, |batches| batches.iter().map(RecordBatch::num_rows).sum())
    }

    /// The values of a column as text, `∅` for null.
    pub(super) fn column(&self, dataset: &str, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        for batch in self.batches.get(dataset).into_iter().flatten() {
            let column = batch.column_by_name(name).unwrap_or_else(|| panic!("{dataset} has no {name}"));
            for row in 0..column.len() {
                values.push(shown(column, row));
            }
        }
        values
    }

    pub(super) fn one(&self, dataset: &str, name: &str) -> String {
        let values = self.column(dataset, name);
        assert_eq!(values.len(), 1, "{dataset}.{name}: {values:?}");
        values[0].clone()
    }
}

pub(super) fn message(more: &str) -> String {
    format!(
        r#"{{"type":"message","data":{{"id":"m1","cid":"messaging:a","text":"hi","user":{{"id":"ada","role":"user","name":"Ada"}},"created_at":"2026-01-01T12:00:00.5Z","updated_at":"2026-01-01T13:00:00Z"{more}}}}}"#
    )
}

#[test]
fn a_message_becomes_a_row_and_its_author_another() {
    let decoded = decode(&[&message("")]);
    assert_eq!(decoded.tally.lines, BTreeMap::from([("messages", 1)]));
    assert_eq!(decoded.one("messages", "id"), "m1");
    assert_eq!(decoded.one("messages", "user_id"), "ada");
    assert_eq!(decoded.one("messages", "__partition"), "event_date=2026-01-01");
    let batch = &decoded.batches["messages"][0];
    assert_eq!(batch.column_by_name("__cell").unwrap().as_primitive::<UInt32Type>().value(0), 0);
    let created_at = batch.column_by_name("created_at").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(created_at.value(0), parse_time("2026-01-01T12:00:00.5Z").unwrap().as_microsecond());
    assert_eq!(decoded.one("messages", "custom"), "∅");
    assert_eq!(decoded.one("messages", "_rescued"), "∅");
    assert_eq!(decoded.one("messages", "_export_task_id"), "task-1");
    assert_eq!(decoded.one("users", "name"), "Ada");
    assert_eq!(decoded.one("users", "__partition"), "snapshot_date=2026-02-01");
    assert_eq!(decoded.rows("quarantine"), 0);
}

#[test]
fn unknown_keys_and_custom_join_in_one_column() {
    let decoded = decode(&[&message(r#","zeta":[1, 2],"alpha":null,"custom":{"mid":{"x":"\u00e9"},"zeta":[1, 2]}"#)]);
    assert_eq!(decoded.one("messages", "custom"), r#"{"alpha":null,"mid":{"x":"\u00e9"},"zeta":[1, 2]}"#);
    let decoded = decode(&[&message(r#","zeta":1,"custom":{"zeta":2}"#)]);
    assert_eq!(decoded.one("messages", "custom"), r#"{"zeta":2}"#);
    assert_eq!(decoded.one("messages", "_rescued"), r#"{"zeta":1}"#);
    let decoded = decode(&[&message(r#","custom":"free text""#)]);
    assert_eq!(decoded.one("messages", "_rescued"), r#"{"custom":"free text"}"#);
}

#[test]
fn a_value_that_does_not_fit_is_rescued_with_its_path() {
    let decoded = decode(&[&message(
        r#","reply_count":"many","deleted_at":"soon","pinned":1,"attachments":[{"type":"file","file_size":"12"},{"file_size":"big","title":5,"app":true}],"moderation":{"action":7,"x":1},"reaction_counts":{"like":"x"}"#,
    )]);
    assert_eq!(
        decoded.one("messages", "_rescued"),
        r#"{"attachments[1].title":5,"attachments[1].file_size":"big","moderation.action":7,"deleted_at":"soon","reply_count":"many","reaction_counts":{"like":"x"},"pinned":1}"#
    );
    let batch = &decoded.batches["messages"][0];
    let attachments = batch.column_by_name("attachments").unwrap().as_list::<i32>().value(0);
    let attachments: &StructArray = attachments.as_struct();
    let sizes = attachments.column_by_name("file_size").unwrap().as_primitive::<Int64Type>();
    assert_eq!((sizes.value(0), sizes.is_null(1)), (12, true));
    let custom = attachments.column_by_name("custom").unwrap();
    assert_eq!(array_value_to_string(custom, 1).unwrap(), r#"{"app":true}"#);
    assert_eq!(decoded.tally.rescued, 7);
}

#[test]
fn what_fits_of_a_list_or_a_map_stays() {
    let decoded = decode(&[&message(
        r#","restricted_visibility":["ada",5,null,"bob"],"mentioned_users":[{"id":"bob"},{"id":"","name":"X"},"eve",null,{"id":"eve"}],"reaction_counts":{"like":2,"a.b":"x","wow":null,"like":3},"attachments":[null,{"title":"t"},[1]],"mentioned_roles":[1,2]"#,
    )]);
    assert_eq!(decoded.one("messages", "restricted_visibility"), "[ada, bob]");
    assert_eq!(decoded.one("messages", "mentioned_user_ids"), "[bob, eve]");
    assert_eq!(decoded.one("messages", "reaction_counts"), "{like: 3}");
    let attachments = decoded.batches["messages"][0].column_by_name("attachments").unwrap().as_list::<i32>().value(0);
    let titles = attachments.as_struct().column_by_name("title").unwrap();
    assert_eq!((titles.len(), array_value_to_string(titles, 1).unwrap().as_str()), (3, "t"));
    assert_eq!(
        decoded.one("messages", "_rescued"),
        r#"{"mentioned_users[1]":{"id":"","name":"X"},"mentioned_users[2]":"eve","mentioned_users[3]":null,"attachments[0]":null,"attachments[2]":[1],"reaction_counts[\"a.b\"]":"x","restricted_visibility[1]":5,"restricted_visibility[2]":null,"mentioned_roles":[1,2]}"#
    );
    assert_eq!(decoded.column("users", "id"), ["ada", "bob", "eve"]);
    assert_eq!(decoded.tally.duplicate_keys, 1);
}

#[test]
fn reaction_groups_are_a_list_in_the_order_of_their_types() {
    let decoded = decode(&[&message(
        r#","reaction_groups":{"wow":{"count":1,"sum_scores":2.0,"first_reaction_at":1767268800000000000,"type":"x","latest_reactions_by":[]},"like":{"count":"two","count":"three"},"sad":7,"none":null}"#,
    )]);
    let groups = decoded.batches["messages"][0].column_by_name("reaction_groups").unwrap().as_list::<i32>().value(0);
    let field = |name: &str| groups.as_struct().column_by_name(name).unwrap();
    let text = |name: &str, row| array_value_to_string(field(name), row).unwrap();
    assert_eq!((text("type", 0), text("type", 1)), ("like".to_owned(), "wow".to_owned()));
    assert_eq!((field("count").is_null(0), text("count", 1)), (true, "1".to_owned()));
    assert_eq!((text("sum_scores", 1), text("latest_reactions_by", 1)), ("2".to_owned(), "[]".to_owned()));
    assert_eq!(text("custom", 1), r#"{"type":"x"}"#);
    let first = field("first_reaction_at").as_primitive::<TimestampMicrosecondType>().value(1);
    assert_eq!(first, 1_767_268_800_000_000);
    assert_eq!(
        decoded.one("messages", "_rescued"),
        r#"{"reaction_groups.like.count":"three","reaction_groups.sad":7}"#
    );
    assert_eq!(decoded.tally.duplicate_keys, 1);
}

#[test]
fn an_object_that_became_a_row_elsewhere_is_not_lost_to_another_id() {
    let decoded = decode(&[&message(
        r#","poll_id":"p1","poll":{"id":"p2","created_by_id":"ada","created_by":{"id":"bob"}},"channel":{"id":"b","type":"messaging","cid":"messaging:b"}"#,
    )]);
    assert_eq!(decoded.one("messages", "poll_id"), "p1");
    assert_eq!(decoded.one("messages", "_rescued"), r#"{"channel.cid":"messaging:b","poll.id":"p2"}"#);
    assert_eq!(decoded.one("polls", "_rescued"), r#"{"created_by.id":"bob"}"#);
    let decoded = decode(&[&message("").replace(r#""id":"ada""#, r#""id":"""#)]);
    assert_eq!(decoded.one("messages", "user_id"), "∅");
    assert_eq!(decoded.one("messages", "_rescued"), r#"{"user":{"id":"","role":"user","name":"Ada"}}"#);
}

#[test]
fn embedded_reactions_are_rows_of_the_message_day() {
    let decoded = decode(&[&message(
        r#","latest_reactions":[{"message_id":"m1","type":"like","score":1,"user":{"id":"bob","role":"user"},"user_id":"bob","created_at":"2026-01-05T00:00:00Z"},{"type":"love","user_id":"eve","created_at":"2026-01-01T00:00:00Z"}],"own_reactions":[{"type":"x"}],"reaction_counts":{"love":1,"like":1}"#,
    )]);
    assert_eq!(decoded.column("reactions", "message_id"), ["m1", "m1"]);
    assert_eq!(decoded.column("reactions", "user_id"), ["bob", "eve"]);
    assert_eq!(decoded.column("reactions", "__partition"), ["event_date=2026-01-01", "event_date=2026-01-01"]);
    assert_eq!(decoded.column("reactions", "cid"), ["messaging:a", "messaging:a"]);
    assert_eq!(decoded.column("users", "id"), ["ada", "bob"]);
    assert_eq!(decoded.one("messages", "_rescued"), "∅");
}

#[test]
fn a_message_is_cut_if_it_counts_more_reactions_than_came() {
    let embedded = |count: usize| {
        let reactions = (0..count).map(|user| format!(r#"{{"type":"like","user_id":"u{user}"}}"#)).collect::<Vec<_>>();
        format!(r#","latest_reactions":[{}]"#, reactions.join(","))
    };
    let line = |user: usize| format!(r#"{{"reaction":{{"message_id":"m1","type":"like","user":{{"id":"u{user}"}}}}}}"#);
    let is_cut = |more: String, users: &[usize]| {
        let mut lines = vec![message(&more)];
        lines.extend(users.iter().map(|user| line(*user)));
        // A line that comes before its message counts as well.
        lines.rotate_right(usize::from(users.len() > 1));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        !decode(&lines).tally.cut_reactions.is_empty()
    };
    let counted = |count: usize, counts: &str| format!("{}{counts}", embedded(count));
    assert!(!is_cut(counted(0, ""), &[]));
    assert!(!is_cut(counted(9, ""), &[]));
    assert!(is_cut(counted(10, ""), &[10, 11]), "what is not counted may go on");
    assert!(!is_cut(counted(10, r#","reaction_counts":{"like":8,"wow":2}"#), &[]));
    assert!(is_cut(counted(10, r#","reaction_counts":{"like":12}"#), &[]));
    assert!(is_cut(counted(10, r#","reaction_counts":{"like":12}"#), &[3, 10]), "one came twice");
    assert!(!is_cut(counted(10, r#","reaction_counts":{"like":12}"#), &[3, 10, 11]));
    assert!(is_cut(counted(2, r#","reaction_counts":{"like":3}"#), &[]));
    assert!(is_cut(counted(2, r#","reaction_counts":null,"reaction_groups":{"like":{"count":3}}"#), &[]));
    assert!(!is_cut(counted(3, r#","reaction_groups":{"like":{"count":3},"wow":null}"#), &[]));
    assert!(is_cut(counted(10, r#","reaction_counts":{"like":9}"#), &[]), "the count is behind");
    assert!(is_cut(counted(10, r#","reaction_counts":{"like":"x"}"#), &[]));
}

#[test]
fn reactions_on_their_own_lines_find_their_message_wherever_it_stands() {
    let reaction = r#"{"reaction":{"message_id":"m1","type":"like","user":"bob"}}"#;
    let orphan = r#"{"reaction":{"message_id":"gone","type":"like","user":"bob"}}"#;
    for lines in [[reaction, &message(""), orphan], [orphan, &message(""), reaction]] {
        let decoded = decode(&lines);
        assert_eq!(decoded.one("reactions", "cid"), "messaging:a");
        assert_eq!(decoded.one("reactions", "user_id"), "bob");
        assert_eq!(decoded.one("quarantine", "reason"), "unknown_message");
        assert_eq!(decoded.one("quarantine", "line"), r#"{"message_id":"gone","type":"like","user":"bob"}"#);
    }
}

#[test]
fn a_user_may_be_an_id_and_a_channel_two_keys() {
    let decoded = decode(&[
        r#"{"type":"message","item":{"id":"m1","channel_type":"messaging","channel_id":"b","user":"ada","text":"","created_at":1767312000000000000,"mentioned_users_ids":["bob"],"parent_id":"","pinned_at":"0001-01-01T00:00:00Z"}}"#,
    ]);
    assert_eq!(decoded.one("messages", "cid"), "messaging:b");
    assert_eq!(decoded.one("messages", "user_id"), "ada");
    assert_eq!(decoded.one("messages", "__partition"), "event_date=2026-01-02");
    assert_eq!(decoded.one("messages", "mentioned_user_ids"), "[bob]");
    assert_eq!(decoded.one("messages", "parent_id"), "∅");
    assert_eq!(decoded.one("messages", "pinned_at"), "∅");
    assert_eq!(decoded.one("messages", "_rescued"), "∅");
    assert_eq!(decoded.rows("users"), 0);
}

#[test]
fn an_element_is_taken_apart() {
    let decoded = decode(&[
        r#"{"channel":{"id":"a","type":"messaging","cid":"messaging:a","name":"General","created_by":{"id":"ada"},"config":{"name":"messaging"}},"messages":[{"id":"m1","text":"x","user":null,"created_at":"2026-01-01T00:00:00Z"}],"members":[{"user_id":"ada","user":{"id":"ada"},"channel_role":"channel_member"}],"extra":1}"#,
    ]);
    assert_eq!(decoded.one("channels", "name"), "General");
    assert_eq!(decoded.one("messages", "cid"), "messaging:a");
    assert_eq!(decoded.one("members", "cid"), "messaging:a");
    assert_eq!(decoded.one("users", "id"), "ada");
    assert_eq!(decoded.one("quarantine", "kind"), "beside.extra");
    assert_eq!(decoded.one("quarantine", "line"), r#"{"extra":1}"#);
    assert_eq!(decoded.tally.channels_returned, HashSet::from(["messaging:a".to_owned()]));
}

#[test]
fn what_stands_beside_an_entity_is_kept_beside_it() {
    let user = r#"{"id":"ada"}"#;
    let decoded = decode(&[
        &format!(r#"{{"type":"user","data":{user},"seq":7,"seq2":7,"none":null}}"#),
        r#"{"channel":{"id":"a","type":"messaging"},"members":[],"hidden":true,"muted":true}"#,
    ]);
    assert_eq!(decoded.one("users", "id"), "ada");
    let kinds = ["beside.seq", "beside.seq2", "beside.hidden", "beside.muted"];
    assert_eq!(decoded.column("quarantine", "kind"), kinds);
    // By its text alone a reject is told from another of its line.
    let lines = [r#"{"seq":7}"#, r#"{"seq2":7}"#, r#"{"hidden":true}"#, r#"{"muted":true}"#];
    assert_eq!(decoded.column("quarantine", "line"), lines);
    assert_eq!((decoded.tally.unclassified.total(), decoded.tally.rejected), (4, 0));
}

#[test]
fn an_address_beside_an_entity_is_its_own() {
    let message = r#"{"id":"m1","text":"x","created_at":"2026-01-01T00:00:00Z"}"#;
    let addressed = message.replace("{\"id\"", "{\"cid\":\"messaging:a\",\"id\"");
    for (beside, message, kept) in [
        (r#""cid":"messaging:a""#, message, 0),
        (r#""channel_type":"messaging","channel_id":"a""#, message, 0),
        (r#""cid":"messaging:a""#, addressed.as_str(), 0),
        (r#""cid":"messaging:b""#, addressed.as_str(), 1),
    ] {
        let decoded = decode(&[&format!(r#"{{"type":"message",{beside},"data":{message}}}"#)]);
        assert_eq!(decoded.one("messages", "cid"), "messaging:a", "{beside}");
        assert_eq!(decoded.rows("quarantine"), kept, "{beside}");
    }
    for (beside, kept) in [
        (r#""cid":"messaging:a","channel_id":"b""#, 2),
        (r#""channel_id":"a""#, 1),
        (r#""cid":"messaging:a","channel_id":5"#, 2),
    ] {
        let decoded = decode(&[&format!(r#"{{"type":"message",{beside},"data":[{addressed}]}}"#)]);
        assert_eq!((decoded.rows("messages"), decoded.rows("quarantine")), (1, kept), "{beside}");
    }
    // Nothing of a user says where it is.
    let decoded = decode(&[r#"{"type":"user","cid":"messaging:a","data":{"id":"ada"}}"#]);
    assert_eq!(decoded.one("quarantine", "line"), r#"{"cid":"messaging:a"}"#);
}

#[test]
fn envelopes_in_envelopes_are_opened() {
    let bare = message("");
    let bare = &bare[bare.find("\"data\":").unwrap() + 7..bare.len() - 1];
    for line in [
        format!(r#"{{"data":{{"item":{{"message":{bare}}}}}}}"#),
        format!(r#"{{"type":"message","data":{{"message":{bare}}}}}"#),
        format!(r#"{{"message":{{"type":"message","data":{bare},"v":2}}}}"#),
        format!(
            r#"{{"type":"channel","data":{{"channel":{{"cid":"messaging:a"}},"messages":[{{"message":{bare}}}]}}}}"#
        ),
    ] {
        let decoded = decode(&[&line]);
        assert_eq!(decoded.one("messages", "user_id"), "ada", "{line}");
        assert_eq!((decoded.tally.messages(), decoded.tally.rejected), (1, 0), "{line}");
        assert_eq!(decoded.rows("quarantine"), usize::from(line.contains("\"v\"")), "{line}");
    }
    // But not without end.
    let deep = format!("{}1{}", r#"{"message":"#.repeat(200), "}".repeat(200));
    assert_eq!(decode(&[&deep]).one("quarantine", "reason"), "missing_field");
    let deep = format!("{}1{}", r#"{"data":"#.repeat(200), "}".repeat(200));
    assert_eq!(decode(&[&deep]).one("quarantine", "line"), deep);
    // Another entity inside makes no message.
    let decoded = decode(&[r#"{"message":{"user":{"id":"ada"}}}"#]);
    assert_eq!((decoded.one("quarantine", "reason").as_str(), decoded.rows("users")), ("missing_field", 0));
}

#[test]
fn lists_of_anything_are_taken_apart_or_kept() {
    let decoded = decode(&[
        r#"{"channel":{"cid":"messaging:a"},"messages":[1,null,{"x":1}],"members":null,"pins":[{"a":1},2],"users":[{"id":"ada"}]}"#,
        r#"[[{"user":{"id":"bob"}}],null,"text",{"user":null}]"#,
    ]);
    assert_eq!(decoded.column("users", "id"), ["ada", "bob"]);
    assert_eq!(
        decoded.column("quarantine", "line"),
        ["1", "null", r#"{"x":1}"#, r#"{"pins":[{"a":1},2]}"#, "null", r#""text""#, r#"{"user":null}"#]
    );
    assert_eq!(decoded.tally.unclassified.to_string(), "2 unknown, 1 beside.pins, 1 user");
}

#[test]
fn what_is_left_out_is_in_no_line_that_is_set_aside() {
    let excluded = [("messages".to_owned(), ["html".to_owned()].into())].into();
    let columns = crate::columns::Columns { excluded, ..Default::default() };
    let bare = message(r#","html":"secret""#);
    let bare = &bare[bare.find("\"data\":").unwrap() + 7..bare.len() - 1];
    let deep = format!(r#"{{"html":"secret","a":{}{}}}"#, "[".repeat(300), "]".repeat(300));
    let decoded = decode_with(
        &Schemas::new(&columns).unwrap(),
        &[
            r#"{"html":"secret""#,
            &deep,
            &format!(r#"{{"message":{{"type":"message","data":{bare}}}}}"#),
            &format!(r#"{{"data":{{"item":{bare}}}}}"#),
            r#"{"type":"message","data":{"html":"secret"},"html":"secret","x":1}"#,
            r#"{"type":"device","data":{"html":"secret"}}"#,
        ],
    );
    assert_eq!((decoded.rows("messages"), decoded.rows("quarantine")), (2, 5));
    let shown: Vec<_> = decoded.tally.first_set_aside.of(|_| true).iter().map(ToString::to_string).collect();
    assert!(!decoded.everything().contains("secret") && !shown.join("\n").contains("secret"), "{shown:#?}");
    assert!(shown[0].ends_with("withheld, since exclusions are set)"), "{shown:#?}");
}

#[test]
fn what_cannot_be_used_is_kept_with_its_reason() {
    let deep = format!(r#"{{"message":{}{}}}"#, "[".repeat(400), "]".repeat(400));
    let decoded = decode(&[
        "{broken",
        &message("").replace("messaging:a", "messaging:zzz"),
        &message("").replace("2026-01-01T12", "2026-01-20T12"),
        &message("").replace("2026-01-01T12:00:00.5Z", "2025-12-31T23:59:59.9995Z"),
        &message("").replace("created_at", "creatd_at"),
        &message("").replace(r#""2026-01-01T12:00:00.5Z""#, "1767268800"),
        r#"{"type":"device","data":{"id":"x"}}"#,
        &deep,
        "{} x",
        "12",
    ]);
    assert_eq!(
        decoded.column("quarantine", "reason"),
        [
            "not_json",
            "channel_not_asked_for",
            "out_of_window",
            "missing_field",
            "wrong_type",
            "unclassified",
            "too_deep",
            "not_json",
            "unclassified"
        ]
    );
    assert_eq!(decoded.rows("messages"), 0);
    assert_eq!(decoded.tally.margin, 1);
    assert_eq!(decoded.tally.rejected, 6);
    assert_eq!(decoded.column("quarantine", "detail")[4], "`created_at` is 1767268800");
    assert_eq!((decoded.tally.out_of_window, decoded.tally.out_of_window_updated_inside), (1, 1));
    assert_eq!(decoded.tally.unclassified.to_string(), "1 device, 1 unknown");
    assert_eq!(decoded.column("quarantine", "line_number")[..3], ["1", "2", "3"]);
}

#[test]
fn bytes_that_are_no_text_are_kept_too() {
    let mut decoder = Decoder::new(&Schemas::default(), task(&["messaging:a"]));
    decoder.line(Line { number: 1, offset: 0, length: 3, bytes: b"{\xff}" }).unwrap();
    decoder.line(Line { number: 2, offset: 4, length: 900, bytes: b"{\"head" }).unwrap();
    let (ready, tally) = decoder.finish().unwrap();
    let batch = &ready[0].1;
    assert_eq!(tally.rejected, 2);
    let column = |name: &str, row| array_value_to_string(batch.column_by_name(name).unwrap(), row).unwrap();
    assert_eq!(column("reason", 0), "not_utf8");
    assert_eq!(column("line_base64", 0), "e/99");
    assert_eq!((column("reason", 1), column("bytes", 1)), ("line_too_long".to_owned(), "900".to_owned()));
}

#[test]
fn the_content_hash_sees_edits_and_nothing_else() {
    let hash = |line: &str| decode(&[line]).one("messages", "__hash");
    let plain = hash(&message(""));
    assert_eq!(plain, hash(&message("").replace(r#""name":"Ada""#, r#""name":"Ada L.""#)));
    assert_eq!(plain, hash(&message(r#","parent_id":"","pinned_at":null"#)));
    assert_ne!(plain, hash(&message("").replace(r#""hi""#, r#""hello""#)));
    assert_ne!(plain, hash(&message(r#","custom":{"a":1}"#)));
    let attached = |url: &str| hash(&message(&format!(r#","attachments":[{{"image_url":"{url}"}}]"#)));
    assert_eq!(attached("https://cdn/x.png?Expires=1"), attached("https://cdn/x.png?Expires=2"));
    assert_ne!(attached("https://cdn/x.png"), attached("https://cdn/y.png"));
}

#[test]
fn redundant_forms_of_one_fact_are_not_rescued() {
    let decoded = decode(&[&message(
        r#","channel_type":"messaging","channel_id":"a","user_id":"ada","mentioned_users":[{"id":"bob"}],"mentioned_users_ids":["bob"]"#,
    )]);
    assert_eq!(decoded.one("messages", "_rescued"), "∅");
    let decoded = decode(&[&message(r#","channel_type":"team","channel_id":"a","user_id":"eve""#)]);
    let rescued = decoded.one("messages", "_rescued");
    for part in [r#""channel_type":"team""#, r#""channel_id":"a""#, r#""user_id":"eve""#] {
        assert!(rescued.contains(part), "{rescued}");
    }
}

#[test]
fn channels_that_a_later_export_brings_are_passed_over() {
    let superseded = Arc::new(HashSet::from(["messaging:b".to_owned()]));
    let mut decoder = Decoder::new(&Schemas::default(), Task { superseded, ..task(&["messaging:a", "messaging:b"]) });
    for (number, cid) in ["messaging:a", "messaging:b"].into_iter().enumerate() {
        let lines = [
            format!(
                r#"{{"type":"message","data":{{"id":"m{number}","cid":"{cid}","text":"hi","created_at":"2026-01-01T10:00:00Z","latest_reactions":[{{"type":"like","user_id":"u","message_id":"m{number}"}}]}}}}"#
            ),
            format!(r#"{{"type":"reaction","data":{{"message_id":"m{number}","user_id":"v","type":"love"}}}}"#),
        ];
        for bytes in lines.iter().map(String::as_bytes) {
            decoder.line(Line { number: 1, offset: 0, length: bytes.len() as u64, bytes }).unwrap();
        }
    }
    let (ready, tally) = decoder.finish().unwrap();
    let rows = |name: &str| -> usize {
        ready.iter().filter(|(dataset, _)| DATASETS[*dataset] == name).map(|(_, batch)| batch.num_rows()).sum()
    };
    assert_eq!((rows("messages"), rows("reactions"), rows("quarantine"), tally.rejected), (1, 2, 0, 0));
}

#[test]
fn reactions_find_their_messages_wherever_they_stand_in_the_file() {
    let messages = (0..9).map(|n| {
        format!(
            r#"{{"message":{{"id":"m{n}","cid":"messaging:a","text":"hi","created_at":"2026-01-01T10:00:0{n}Z"}}}}"#
        )
    });
    let reactions =
        (0..10).map(|n| format!(r#"{{"reaction":{{"message_id":"m{n}","user_id":"u{n}","type":"like"}}}}"#));
    // Some before their message, some long after it, one of a message that never comes.
    let (messages, reactions): (Vec<String>, Vec<String>) = (messages.collect(), reactions.collect());
    let lines = [&reactions[4..7], &messages, &reactions[..4], &reactions[7..]].concat();
    let mut decoder = Decoder::new(&Schemas::default(), task(&["messaging:a"]));
    decoder.messages.in_memory = 2;
    for (number, line) in lines.iter().enumerate() {
        let (bytes, length) = (line.as_bytes(), line.len() as u64);
        decoder.line(Line { number: number as u64 + 1, offset: 0, length, bytes }).unwrap();
    }
    let (ready, tally) = decoder.finish().unwrap();
    let found: Vec<String> = ready
        .iter()
        .filter(|(dataset, _)| DATASETS[*dataset] == "reactions")
        .flat_map(|(_, batch)| {
            let ids = batch.column_by_name("message_id").unwrap().as_string::<i32>().clone();
            ids.iter().map(|id| id.unwrap().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(sorted, (0..9).map(|n| format!("m{n}")).collect::<Vec<_>>());
    assert_eq!(tally.reasons, BTreeMap::from([("unknown_message", 1)]));
}
