use super::*;
use crate::export::ExportOptions;
use crate::journal::SpanRecord;
use crate::lake::entry::Removed;
use crate::lake::{CellRecord, Cover, DataFile};
use crate::window::{Window, parse_time};

fn at(text: &str) -> Timestamp {
    parse_time(text).unwrap()
}

fn day(date: &str) -> Window {
    Window::day_of(at(date))
}

fn id(number: u8) -> String {
    Uuid::parse_str(&format!("01a20f64-9991-76c7-973d-24cd0113f3{number:02x}")).unwrap().simple().to_string()
}

fn file(number: u8, run: u8) -> DataFile {
    DataFile {
        dataset: "messages".into(),
        partition: "event_date=2026-01-01".into(),
        cell: Some(day("2026-01-01")),
        id: id(number),
        run_id: Uuid::from_u128(u128::from(run)),
        rows: 1,
        bytes: 100,
        xxh3: "0".into(),
        min_created_at: None,
        max_created_at: None,
    }
}

fn cover(exported_at: &str) -> Action {
    Action::Cover(Cover {
        window: day("2026-01-01"),
        exported_at: at(exported_at),
        as_of: None,
        run_id: Uuid::nil(),
        keep_files: false,
        record: CellRecord::default(),
    })
}

/// The first commit of a day, and its replacement, which is not known to be settled.
fn state() -> State {
    let mut state = State::default();
    state.go_on_with(vec![cover("2026-01-02"), Action::Add(file(1, 1))]);
    state.go_on_with(vec![cover("2026-01-09"), Action::Remove(Removed { id: id(1) }), Action::Add(file(2, 2))]);
    state
}

fn object(key: &str, modified_at: &str) -> Object {
    Object { path: path(key), bytes: 100, modified_at: at(modified_at) }
}

const OLD: &str = "2026-02-01";
const NEW: &str = "2026-02-18";

/// What is garbage on the twentieth of February.
fn garbage(state: &State, begun: &[Begun], objects: Vec<Object>) -> Vec<String> {
    let facts = Facts {
        objects,
        state: state.clone(),
        begun: begun.to_vec(),
        snapshots: vec![300, 200],
        lists: ["referred".to_owned()].into(),
        now: at("2026-02-20"),
        older_than: SignedDuration::from_hours(24 * 7),
    };
    doomed(&facts).into_iter().map(|doomed| doomed.key).collect()
}

fn is_garbage(state: &State, key: &Key, modified_at: &str) -> bool {
    !garbage(state, &[], vec![object(&key.to_string(), modified_at)]).is_empty()
}

#[test]
fn what_the_last_entry_adds_and_removes_stays_however_old() {
    let state = state();
    for key in [file(2, 2).staged_key(), file(2, 2).key(), file(1, 1).key()] {
        assert!(!is_garbage(&state, &key, OLD), "{key}");
    }
}

#[test]
fn staged_files_go_when_their_run_has_been_silent_for_long() {
    let staged = |number, run| file(number, run).staged_key();
    assert!(is_garbage(&state(), &staged(7, 7), OLD));
    assert!(!is_garbage(&state(), &staged(7, 7), NEW));
    // Another sign of life of the same run, be it a record or a file.
    let journal = Key::Journal { run_id: Uuid::from_u128(7), seq: 3 };
    for alive in [journal, staged(8, 7)] {
        let objects = vec![object(&staged(7, 7).to_string(), OLD), object(&alive.to_string(), NEW)];
        assert_eq!(garbage(&state(), &[], objects), [""; 0], "{alive}");
    }
    let other = vec![object(&staged(7, 7).to_string(), OLD), object(&staged(8, 8).to_string(), NEW)];
    assert_eq!(garbage(&state(), &[], other), [staged(7, 7).to_string()]);
}

#[test]
fn a_staged_file_that_was_moved_goes_at_once_if_the_moved_one_is_there() {
    let mut settled = state();
    settled.mark_settled();
    let (staged, last) = (file(2, 2).staged_key().to_string(), file(2, 2).key().to_string());
    assert_eq!(garbage(&settled, &[], vec![object(&staged, NEW), object(&last, NEW)]).join(" "), staged);
    assert_eq!(garbage(&settled, &[], vec![object(&staged, OLD)]), [""; 0], "it may be the only copy");
    let cut = Object { bytes: 99, ..object(&last, OLD) };
    assert_eq!(garbage(&settled, &[], vec![object(&staged, OLD), cut]), [""; 0]);
}

#[test]
fn stray_data_files_go_if_their_names_are_ours() {
    let mut settled = state();
    settled.mark_settled();
    assert!(is_garbage(&settled, &file(1, 1).key(), OLD), "it was replaced");
    assert!(!is_garbage(&settled, &file(1, 1).key(), NEW));
    assert!(!is_garbage(&settled, &file(2, 2).key(), OLD), "it is live");
    let named = |file: &str, dataset: &str| Key::Data {
        dataset: dataset.into(),
        partition: "event_date=2026-01-01".into(),
        file: file.into(),
    };
    assert!(!is_garbage(&settled, &named("yours", "messages"), OLD));
    assert!(!is_garbage(&settled, &named(&id(9), "user_exports"), OLD));
    assert!(is_garbage(&settled, &named(&id(9), "quarantine"), OLD));
}

#[test]
fn two_good_snapshots_stay_and_what_is_referred_to() {
    let state = state();
    assert!(is_garbage(&state, &Key::Snapshot(100), OLD));
    for key in [Key::Snapshot(200), Key::Snapshot(250), Key::Snapshot(300), Key::Snapshot(400)] {
        assert!(!is_garbage(&state, &key, OLD), "{key}");
    }
    assert!(!is_garbage(&state, &Key::Snapshot(100), NEW));
    for key in [Key::Identity, Key::Entry(1), Key::Entry(99), Key::Lists("referred".into())] {
        assert!(!is_garbage(&state, &key, OLD), "{key}");
    }
    assert!(is_garbage(&state, &Key::Probe(Uuid::nil()), OLD));
    assert!(!is_garbage(&state, &Key::Probe(Uuid::nil()), NEW));
}

#[test]
fn lists_stay_while_any_run_may_be_at_work() {
    let lists = Key::Lists("nobodys".into());
    assert!(is_garbage(&state(), &lists, OLD));
    assert!(!is_garbage(&state(), &lists, NEW));
    let journal = Key::Journal { run_id: Uuid::from_u128(7), seq: 0 };
    let objects = vec![object(&lists.to_string(), OLD), object(&journal.to_string(), NEW)];
    assert_eq!(garbage(&state(), &[], objects), [""; 0]);
}

#[test]
fn journals_go_when_nothing_is_left_to_bring_in_or_stream_has_forgotten() {
    let run_id = Uuid::from_u128(7);
    let begun = |date: &str, replaces| Begun {
        run_id,
        span: SpanRecord {
            begun_at: at("2026-01-08"),
            cells: vec![day(date)],
            asked: day(date),
            replaces,
            options: ExportOptions::default(),
        },
        tasks: Vec::new(),
        records: vec![0],
        refusal: None,
    };
    let record = Key::Journal { run_id, seq: 0 };
    let goes = |begun: &[Begun], modified_at: &str| {
        !garbage(&state(), begun, vec![object(&record.to_string(), modified_at)]).is_empty()
    };
    let (covered, replaced, open) = (begun("2026-01-01", false), begun("2026-01-01", true), begun("2026-01-02", false));
    assert!(goes(std::slice::from_ref(&covered), OLD));
    assert!(goes(&[replaced], OLD), "exported on the ninth, later than it was begun");
    assert!(!goes(&[covered, open.clone()], OLD), "its tasks may be adopted");
    assert!(!goes(&[], NEW));
    assert!(goes(&[], OLD), "records without a span say nothing");
    assert!(!goes(std::slice::from_ref(&open), OLD));
    assert!(goes(&[open], "2025-12-20"), "Stream keeps no export for so long");
}
