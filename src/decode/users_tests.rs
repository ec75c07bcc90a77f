//! Lines of user exports: nothing in them belongs to a cell, and what is of no known kind is kept.

use super::tests::{Decoded, decode_task};
use super::*;

fn decode(users: &[&str], superseded: &[&str], lines: &[&str]) -> Decoded {
    let exported_at = crate::window::parse_time("2026-02-01T10:00:00Z").unwrap();
    let set = |ids: &[&str]| Arc::new(ids.iter().map(|id| (*id).to_owned()).collect());
    let task = Task {
        task_id: "task-1".to_owned(),
        exported_at,
        channels: None,
        users: Some(set(users)),
        superseded: set(superseded),
        routes: Arc::new(Routes::of_users(exported_at)),
        keep_raw: false,
    };
    decode_task(&Schemas::default().of_users(), task, lines)
}

const MESSAGE: &str = r#"{"message": {"id": "m1", "cid": "a:b", "text": "hi", "created_at": "2020-01-01T10:00:00Z", "user": null,
    "latest_reactions": [{"message_id": "m1", "user_id": "v", "user": null, "type": "like"}]}}"#;

#[test]
fn messages_of_any_time_are_rows_of_the_day_of_the_export() {
    let decoded = decode(&["u", "v"], &[], &[&MESSAGE.replace("null,\n", "\"u\",\n")]);
    assert_eq!(decoded.one("messages", "user_id"), "u");
    assert_eq!(decoded.one("messages", "__partition"), "export_date=2026-02-01");
    assert_eq!((decoded.tally.rejected, decoded.tally.without_author), (0, 0));
    assert_eq!(decoded.tally.users_returned, ["u".to_owned()].into());
}

#[test]
fn what_names_nobody_is_the_only_users_who_was_asked_for() {
    let reaction = r#"{"reaction": {"message_id": "other", "user": null, "type": "wow"}}"#;
    let call = r#"{"type": "call", "data": {"id": "c"}}"#;
    let decoded = decode(&["u"], &[], &[MESSAGE, reaction, call]);
    assert_eq!(decoded.one("messages", "user_id"), "u");
    assert_eq!(decoded.column("reactions", "user_id"), ["v", "u"], "an embedded reaction may be anybody's");
    assert_eq!(decoded.one("other", "user_id"), "u");
    assert_eq!(decoded.tally.without_author, 0);
    let several = decode(&["u", "v"], &[], &[MESSAGE, reaction, call]);
    assert_eq!((several.one("messages", "user_id"), several.tally.without_author), ("∅".to_owned(), 1));
    assert_eq!(several.one("other", "user_id"), "∅");
    assert_eq!((several.tally.rejected, several.rows("quarantine")), (1, 1), "a reaction of nobody is no reaction");
}

#[test]
fn a_reaction_to_a_message_that_is_not_there_is_kept_without_its_channel() {
    let line = r#"{"type": "reaction", "data": {"message_id": "m9", "user_id": "u", "type": "like", "score": 2}}"#;
    let decoded = decode(&["u", "v"], &[], &[line]);
    assert_eq!(["cid", "message_created_at", "score"].map(|name| decoded.one("reactions", name)), ["∅", "∅", "2"]);
    assert_eq!(decoded.tally.users_returned, ["u".to_owned()].into());
}

#[test]
fn kinds_without_a_dataset_are_kept_whole_with_what_can_be_told_of_them() {
    let lines = [
        r#"{"type": "call", "data": {"id": "c1", "created_by": {"id": "u"}, "created_at": "2026-01-01T00:00:00Z"}}"#,
        r#"{"device": {"id": "d1", "user_id": "v", "push_provider": "apn"}}"#,
        r#"{"id": "d2", "push_provider": "apn", "user": "u"}"#,
        r#"{"note": [1, 2]}"#,
        "7",
        r#"{"type": "user", "data": {"id": "u", "role": "user"}, "hint": 1}"#,
    ];
    let decoded = decode(&["u", "v"], &[], &lines);
    assert_eq!(decoded.column("other", "kind"), ["call", "device", "device", "note", "unknown", "beside.hint"]);
    assert_eq!(decoded.column("other", "id"), ["c1", "d1", "d2", "∅", "∅", "∅"]);
    assert_eq!(decoded.column("other", "user_id"), ["u", "v", "u", "∅", "∅", "∅"]);
    assert_eq!(decoded.column("other", "json")[..5], lines[..5]);
    assert_eq!(decoded.column("other", "created_at")[0], "1767225600000000");
    assert_eq!((decoded.tally.unclassified.total(), decoded.tally.rejected), (6, 0));
    assert_eq!(decoded.rows("quarantine"), 0);
}

#[test]
fn messages_of_users_whom_a_newer_export_brings_are_passed_over() {
    let message = |id: &str, user: &str| {
        MESSAGE.replace("\"m1\", \"cid", &format!("\"{id}\", \"cid")).replace("null,\n", &format!("\"{user}\",\n"))
    };
    let decoded = decode(&["u", "v"], &["v"], &[&message("m1", "u"), &message("m2", "v")]);
    assert_eq!(decoded.column("messages", "id"), ["m1"]);
}

#[test]
fn what_does_not_fit_is_in_quarantine_by_the_day_of_the_export() {
    let decoded = decode(&["u"], &[], &["{", r#"{"message": {"id": "m1", "text": "no channel", "user": "u"}}"#]);
    assert_eq!(decoded.tally.rejected, 2);
    assert_eq!(decoded.column("quarantine", "__partition"), ["snapshot_date=2026-02-01"; 2]);
}
