//! What a lake's configuration makes of a line: promoted columns, exclusions.

use serde_json::{Value, json};

use super::tests::{Decoded, decode_with};
use crate::columns::{Columns, Schemas};
use crate::config;

fn schemas(config: &str) -> Schemas {
    let wanted = config::parse(config, std::path::Path::new("test.toml")).unwrap().wanted;
    Schemas::new(&Columns::default().with(&wanted).unwrap()).unwrap()
}

fn message(more: &Value) -> String {
    let mut message = json!({"id": "m1", "cid": "messaging:a", "text": "hi", "created_at": "2026-01-01T10:00:00Z", "user": {"id": "u"}});
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"type": "message", "data": message}).to_string()
}

fn decode(config: &str, more: &Value) -> Decoded {
    decode_with(&schemas(config), &[&message(more)])
}

const PROMOTE: &str = r#"
    [promote.messages]
    order_id = "int64"
    amount = { type = "float64", path = "order.amount" }
    due = { type = "timestamp", path = "custom.due_at" }
    tags = "json"
"#;

/// `order_id, amount, due, tags, custom, _rescued`
fn values(more: &Value) -> [String; 6] {
    let decoded = decode(PROMOTE, more);
    ["order_id", "amount", "due", "tags", "custom", "_rescued"].map(|name| decoded.one("messages", name))
}

#[test]
fn promoted_keys_are_columns_whether_they_are_inlined_or_nested() {
    let custom = json!({"order_id": 7, "order": {"amount": 1.5, "n": 2}, "due_at": "2026-01-02T00:00:00Z", "tags": ["a"], "left": 1});
    let wanted = ["7", "1.5", "1767312000000000", r#"["a"]"#, r#"{"left":1,"order":{"amount":1.5,"n":2}}"#, "∅"];
    assert_eq!(values(&custom), wanted);
    assert_eq!(values(&json!({"custom": custom})), wanted);
    let mut both = custom.clone();
    both["custom"] = custom;
    assert_eq!(values(&both), wanted);
}

#[test]
fn a_promoted_value_that_does_not_fit_is_rescued_with_its_path() {
    let custom = json!({"order_id": "7", "order": {"amount": "much"}, "due_at": 5});
    let whole = r#"{"order":{"amount":"much"}}"#;
    let rescued = |prefix: &str| json!({format!("{prefix}order_id"): "7", format!("{prefix}order.amount"): "much", format!("{prefix}due_at"): 5});
    for (more, prefix) in [(custom.clone(), ""), (json!({"custom": custom}), "custom.")] {
        let [order_id, amount, due, _, custom, found] = values(&more);
        assert_eq!([order_id.as_str(), &amount, &due, &custom], ["∅", "∅", "∅", whole]);
        assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), rescued(prefix));
    }
}

#[test]
fn null_and_absent_promoted_keys_are_null() {
    assert_eq!(values(&json!({})), ["∅"; 6]);
    assert_eq!(values(&json!({"order_id": null, "custom": {"due_at": null}}))[..3], ["∅"; 3]);
}

#[test]
fn a_key_that_is_not_promoted_any_more_is_custom_again() {
    let columns = Columns::default().with(&config::parse(PROMOTE, std::path::Path::new("x")).unwrap().wanted).unwrap();
    let schemas = Schemas::new(&columns.with(&crate::columns::Wanted::default()).unwrap()).unwrap();
    let decoded = decode_with(&schemas, &[&message(&json!({"order_id": 7}))]);
    assert_eq!(decoded.one("messages", "order_id"), "∅");
    assert_eq!(decoded.one("messages", "custom"), r#"{"order_id":7}"#);
}

#[test]
fn what_is_left_out_is_in_no_row_of_any_dataset() {
    let exclude = r#"
        [exclude]
        messages = ["text", "custom.ssn", "attachments[].title"]
        users = ["name", "secret"]
    "#;
    let user =
        json!({"id": "u", "name": "SECRET-1", "secret": "SECRET-2", "custom": {"secret": "SECRET-3", "fine": 1}});
    let good = message(&json!({
        "text": "SECRET-4", "ssn": "SECRET-5", "custom": {"ssn": "SECRET-6", "kept": 1}, "user": user,
        "attachments": [{"title": "SECRET-7", "text": "fine"}],
        "quoted_message": {"id": "q", "text": "SECRET-8", "user": user},
        "latest_reactions": [{"type": "like", "user_id": "u", "user": user}],
    }));
    let nobody_asked = good.replace("messaging:a", "messaging:zzz");
    let unknown = json!({"type": "device", "data": {"ssn": "SECRET-9", "user": user, "kept": true}}).to_string();
    let broken = format!("{{{good}");
    let deep = format!("{}\"SECRET\"{}", "[".repeat(300), "]".repeat(300));
    let schemas = schemas(exclude);
    let decoded = decode_with(&schemas, &[&good, &nobody_asked, &unknown, &broken, &deep]);
    let all = decoded.everything();
    assert!(!all.contains("SECRET"), "{all}");
    assert_eq!(decoded.one("messages", "custom"), r#"{"kept":1}"#);
    assert_eq!(decoded.rows("quarantine"), 4);
    let lines = decoded.column("quarantine", "line");
    assert!(lines[0].contains("messaging:zzz") && lines[1].contains(r#""kept":true"#), "{lines:?}");
    assert_eq!(lines[2..], ["∅", "∅"]);
    assert!(decoded.column("quarantine", "detail")[2].contains("withheld"));
}
