#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::export::Selection;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

/// What a run sends for this filter, of channels since a time.
fn query(filter: Value) -> Map<String, Value> {
    let selection = Selection { filter: Some(object(filter)), ..Selection::default() };
    object(selection.query(Some(Timestamp::UNIX_EPOCH), Timestamp::MAX))
}

#[test]
fn what_the_documents_show_is_taken() {
    for filter in [
        json!({}),
        json!({"type": "messaging", "members": {"$in": ["thierry"]}}),
        json!({"last_message_at": {"$gte": "2026-01-01T00:00:00Z", "$exists": true}}),
        json!({"created_at": {"$lt": 1_767_312_000_000_000_000_i64}}),
        json!({"cid": {"$in": ["messaging:a", "team:b"]}}),
        json!({"$or": [{"team": "blue"}, {"$and": [{"frozen": false}, {"member_count": {"$gt": 2}}]}]}),
        json!({"$nor": [{"type": {"$ne": "livestream"}}]}),
        json!({"members": ["amara", "jonas"]}),
        json!({"priority": {"$gt": 3}, "tags": {"$contains": "vip"}, "custom.category": "a", "odd": null}),
        json!({"name": {"$autocomplete": "gen"}, "member.user.name": {"$autocomplete": "am"}}),
        json!({"filter_tags": {"$in": ["a"]}, "app_banned": "only", "distinct": true}),
    ] {
        assert_eq!(check(&object(filter.clone())), Ok(()), "{filter}");
    }
}

#[test]
fn mistakes_are_told_by_their_place() {
    let long: Vec<String> = (0..1001).map(|number| format!("messaging:c{number}")).collect();
    let mut deep = json!({"team": "blue"});
    for _ in 0..=MAX_DEPTH {
        deep = json!({"$and": [deep]});
    }
    let reports: Vec<String> = [
        json!({"$xor": []}),
        json!({"$in": ["messaging"]}),
        json!({"$or": {"team": "blue"}}),
        json!({"$or": []}),
        json!({"$and": [{"team": "blue"}, "red"]}),
        json!({"$and": [{"team": "blue"}, {"created_at": {"$since": "2026-01-01"}}]}),
        json!({"created_at": {"$gte": "2026-01-01"}}),
        json!({"cid": {"$in": long}}),
        json!({"cid": {"$in": "messaging:a"}}),
        json!({"cid": "general"}),
        json!({"type": {"$in": []}}),
        json!({"type": 7}),
        json!({"frozen": {"$gt": false}}),
        json!({"frozen": "false"}),
        json!({"member_count": {"$gt": "2"}}),
        json!({"hidden": false}),
        json!({"app_banned": "yes"}),
        json!({"team": {}}),
        json!({"meta": {"a": 1}}),
        json!({"last_message_at": {"$exists": 1}}),
        deep,
    ]
    .into_iter()
    .map(|filter| check(&object(filter)).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(reports.join("\n"));
}

#[test]
fn a_cheap_filter_stays_cheap_beside_the_conditions_of_a_run() {
    for filter in [json!({}), json!({"team": "blue"}), json!({"members": {"$in": ["a", "b", "c"]}})] {
        assert!(expenses(&query(filter.clone())).is_empty(), "{filter}: {:?}", expenses(&query(filter.clone())));
    }
    for (filter, reason) in [
        (json!({"team": "blue", "type": "a"}), "4 conditions"),
        (json!({"created_at": {"$gte": "2026-01-01T00:00:00Z"}, "team": "a"}), "4 conditions"),
        (json!({"frozen": false}), "`frozen` is not indexed"),
        (json!({"type": {"$in": ["a", "b", "c", "d"]}}), "`$in` with 4 values"),
        (json!({"type": {"$ne": "a"}}), "`$ne`"),
        (json!({"$or": [{"team": "a"}, {"team": "b"}]}), "`$or`"),
    ] {
        let found = expenses(&query(filter.clone()));
        assert!(found.iter().any(|found| found.contains(reason)), "{filter}: {found:?}");
    }
}

/// Filters that are right, nearly right, and wrong, in about equal parts.
fn filters() -> impl Strategy<Value = Value> {
    let field = prop::sample::select(vec![
        "cid",
        "id",
        "type",
        "team",
        "created_at",
        "updated_at",
        "last_message_at",
        "last_updated",
        "member_count",
        "message_count",
        "frozen",
        "disabled",
        "distinct",
        "members",
        "filter_tags",
        "app_banned",
        "created_by_id",
        "member.user.name",
        "name",
        "priority",
        "custom.x",
        "hidden",
        "muted",
        "has_unread",
        "joined",
        "",
        "$xor",
        "$in",
    ]);
    let operator = prop::sample::select(vec![
        "$eq",
        "$ne",
        "$in",
        "$nin",
        "$gt",
        "$gte",
        "$lt",
        "$lte",
        "$exists",
        "$contains",
        "$autocomplete",
        "$q",
        "$x",
        "a",
    ]);
    let value = prop::sample::select(vec![
        json!("messaging:a"),
        json!("a"),
        json!(""),
        json!("only"),
        json!("2026-01-01T00:00:00Z"),
        json!("2026-01-01"),
        json!(5),
        json!(1.5),
        json!(true),
        json!(null),
        json!({}),
        json!([]),
        json!(["a:b"]),
        json!(["a", 1]),
        json!(["a", {}]),
        json!([true]),
        json!(["2026-01-01T00:00:00.5Z"]),
        json!(vec!["a:b"; 1000]),
        json!(vec!["a:b"; 1001]),
        json!([[1]]),
    ]);
    let operators = prop::collection::btree_map(operator.prop_map(str::to_owned), value.clone(), 0..3)
        .prop_map(|operators| Value::Object(operators.into_iter().collect()));
    let condition = prop_oneof![1 => value, 3 => operators];
    let leaf = prop::collection::btree_map(field.prop_map(str::to_owned), condition, 0..3)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()));
    leaf.prop_recursive(12, 24, 2, |inner| {
        let logical = prop::sample::select(vec!["$and", "$or", "$nor"]);
        let branches = prop_oneof![
            8 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            1 => inner,
            1 => Just(json!(["a"])),
        ];
        (logical, branches).prop_map(|(logical, branches)| json!({ logical: branches }))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_is_taken_here_is_taken_by_stream_and_nothing_else(filter in filters()) {
        let here = check(&object(filter.clone()));
        let there = simulator::check_filter(&Value::Object(query(filter.clone())));
        prop_assert_eq!(here.is_ok(), there.is_ok(), "{}: {:?} here, {:?} there", filter, here, there);
    }

    #[test]
    fn the_filter_and_the_conditions_of_a_run_both_hold(filter in filters()) {
        let (sent, own, user) = (query(filter.clone()), query(json!({})), object(filter));
        let joined = object(json!({ "$and": [own, user] }));
        let side_by_side = sent.len() == own.len() + user.len()
            && own.iter().chain(&user).all(|(name, condition)| sent.get(name) == Some(condition));
        let both = user.is_empty() && sent == own || side_by_side || sent == joined;
        prop_assert!(both, "{:?}", sent);
    }
}
