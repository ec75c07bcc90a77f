use proptest::prelude::*;

use super::*;

fn tree(value: Value<'_>) -> serde_json::Value {
    if let Some(entries) = value.entries() {
        return entries.map(|(key, value)| (key.into_owned(), tree(value))).collect();
    }
    if let Some(elements) = value.elements() {
        return elements.map(tree).collect();
    }
    serde_json::from_str(value.raw()).unwrap()
}

fn parse(text: &str) -> Result<serde_json::Value, JsonError> {
    Index::default().parse(text).map(tree)
}

#[test]
fn every_kind_of_value_is_found_where_it_stands() {
    let text = " { \"a\\\"b\" : [ 1 , -2.5e+3,\"\" , { } ,[],null ] ,\"k\":true,\"k\": \"\\u00e9\\n\" } ";
    let mut index = Index::default();
    let value = index.parse(text).unwrap();
    assert_eq!(value.raw(), text.trim());
    let entries: Vec<_> = value.entries().unwrap().map(|(key, value)| (key.into_owned(), value.raw())).collect();
    let list = "[ 1 , -2.5e+3,\"\" , { } ,[],null ]";
    assert_eq!(entries, [("a\"b".to_owned(), list), ("k".to_owned(), "true"), ("k".to_owned(), "\"\\u00e9\\n\"")]);
    let elements: Vec<_> = value.get("a\"b").unwrap().elements().unwrap().map(Value::raw).collect();
    assert_eq!(elements, ["1", "-2.5e+3", "\"\"", "{ }", "[]", "null"]);
    assert_eq!(value.get("k").unwrap().text().unwrap(), "é\n");
    assert!(value.get("x").is_none() && value.text().is_none() && value.elements().is_none());
}

#[test]
fn keys_are_recognised_in_any_order_and_at_any_depth() {
    let names = Arc::new(Names::new(["id", "user", "text"]));
    let mut index = Index::of(names);
    let mut keys = |text: &str| {
        let mut found = Vec::new();
        let mut objects = vec![index.parse(text).unwrap()];
        while let Some(object) = objects.pop() {
            for (key, value) in object.pairs().into_iter().flatten() {
                found.push((key.key_text().into_owned(), key.known()));
                objects.push(value);
            }
        }
        found.into_iter().map(|(key, known)| format!("{key} {known:?}")).collect::<Vec<_>>().join(", ")
    };
    for _ in 0..3 {
        assert_eq!(
            keys(r#"{"id":1,"user":{"id":2,"x":{"id":3},"text":4},"text":5,"":6,"t\u0065xt":7,"id":8}"#),
            "id Name(0), user Name(1), text Name(2),  Stranger, text Unseen, id Name(0), \
             id Name(0), x Stranger, text Name(2), id Name(0)"
        );
        assert_eq!(keys(r#"{"text":1,"user":[{"user":{}}],"id":2}"#), "text Name(2), user Name(1), id Name(0)");
    }
    let mut index = Index::default();
    let (key, _) = index.parse(r#"{"id":1}"#).unwrap().pairs().unwrap().next().unwrap();
    assert_eq!(key.known(), Known::Unseen);
}

#[test]
fn what_is_no_json_is_told_by_its_place() {
    let said = |text: &str| parse(text).unwrap_err().to_string();
    insta::assert_snapshot!(
        [
            "",
            "{",
            "{a",
            "{\"a\"",
            "{\"a\":1",
            "{\"a\":1,}",
            "[1 2]",
            "[1,]",
            "01",
            "-",
            "1.",
            "1e",
            "tru",
            "\"a",
            "\"\t\"",
            "\"\\x\"",
            "\"\\u12\"",
            "{} {}"
        ]
        .map(|text| format!("{text:?}: {}\n", said(text)))
        .concat()
    );
    assert_eq!(parse(&"[".repeat(MAX_DEPTH + 1)), Err(JsonError::TooDeep));
    assert_eq!(parse(&format!("[0{}]", ",0".repeat(MAX_VALUES))), Err(JsonError::TooMany));
}

#[test]
fn the_end_of_a_text_is_found_at_any_place() {
    for length in 0..40 {
        for special in ["\"", "\\", "\u{1f}", "\0"] {
            let text = format!(
                "{}{special}{}",
                "aé\u{80}~".repeat(length)[..].chars().take(length).collect::<String>(),
                "x\"\\".repeat(9)
            );
            let found = super::parser::special(text.as_bytes(), 0);
            assert_eq!(text.as_bytes()[found], special.as_bytes()[0], "{text:?}");
        }
    }
}

/// Lines that hold these objects again and again, deep and in lists too.
fn lines_of(users: &[serde_json::Value], picks: &[(prop::sample::Index, serde_json::Value)]) -> Vec<String> {
    let user = |pick: &prop::sample::Index| &users[pick.index(users.len())];
    let deep = |pick: &prop::sample::Index, depth: usize| {
        format!(r#"{}{{"user":{}}}{}"#, "[".repeat(depth), user(pick), "]".repeat(depth))
    };
    picks
        .iter()
        .enumerate()
        .map(|(line, (pick, other))| match line % 4 {
            0 => serde_json::json!({"user": user(pick), "x": other, "user_id": user(pick)}).to_string(),
            1 => format!(r#"{{"x":{other}, "user": {}, "y":{{"user":{}}}}}"#, user(pick), user(pick)),
            // As deep as may be, if the user has no depth of its own.
            2 => deep(pick, MAX_DEPTH - 2),
            _ => format!(r#"{{"user":{other},"user":{}"#, &user(pick).to_string()[..40]),
        })
        .collect()
}

#[test]
fn what_repeats_is_remembered() {
    let user = format!(r#"{{"id":"ada","custom":{{"a":[1,"\n"]}},"name":"{}"}}"#, "x".repeat(80));
    let mut index = Index::of(Arc::new(Names::new(["id", "user"])));
    let line = |user: &str| format!(r#" {{"id":"m1","user":{user},"text":"t"}}"#);
    index.parse(&line(&user)).unwrap();
    let mut places = Vec::new();
    let bytes = line(&user);
    let at = bytes.find(&user).unwrap();
    assert_eq!(index.repeats.take(bytes.as_bytes(), at, 1, &mut places), Some(at + user.len()));
    assert_eq!(index.repeats.take(line(&user.replace("[1", "[2")).as_bytes(), at, 1, &mut places), None);
    assert_eq!(index.repeats.take(bytes.as_bytes(), at, MAX_DEPTH, &mut places), None);
    assert_eq!(index.parse(&bytes).map(tree).unwrap(), serde_json::from_str::<serde_json::Value>(&bytes).unwrap());
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,20}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map(".{0,12}", inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn an_index_that_remembers_finds_what_a_new_one_does(
        users in prop::collection::vec(json(), 1..4),
        picks in prop::collection::vec((any::<prop::sample::Index>(), json()), 0..24),
    ) {
        let names = Arc::new(Names::new(["id", "user", "x"]));
        let pad = |user| serde_json::json!({"id": "i".repeat(60), "user": user});
        let users: Vec<_> = users.into_iter().map(pad).collect();
        let mut old = Index::of(Arc::clone(&names));
        for line in lines_of(&users, &picks) {
            let mut new = Index::of(Arc::clone(&names));
            prop_assert_eq!(old.parse(&line).err(), new.parse(&line).err(), "{}", line);
            prop_assert_eq!(&old.places, &new.places, "{}", line);
        }
    }

    #[test]
    fn values_are_those_of_another_parser(value in json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(parse(&text).unwrap(), serde_json::from_str::<serde_json::Value>(&text).unwrap());
    }

    #[test]
    fn texts_are_those_of_another_parser(pieces in prop::collection::vec(
        prop_oneof![
            Just("\\n".to_owned()), Just("\\\"".to_owned()), Just("\\\\".to_owned()), Just("\\/".to_owned()),
            "\\\\[bfrt]", "\\\\u[0-9a-fA-F]{4}", "\\\\ud[89ab][0-9a-f]{2}\\\\u[dD][c-f][0-9a-f]{2}", "[a-zé😀]{0,5}",
        ],
        0..8,
    )) {
        let text = format!("\"{}\"", pieces.concat());
        let mut index = Index::default();
        let found = index.parse(&text).unwrap().text().map(Cow::into_owned);
        prop_assert_eq!(found, serde_json::from_str::<String>(&text).ok(), "{}", text);
    }

    #[test]
    fn a_damaged_text_is_json_if_another_parser_says_so(
        value in json(), at: prop::sample::Index, with in "[\\x00-\\x7f]", replaces: bool,
    ) {
        let mut text: Vec<char> = serde_json::to_string(&value).unwrap().chars().collect();
        let at = at.index(text.len());
        text.splice(at..at + usize::from(replaces), with.chars());
        let text: String = text.into_iter().collect();
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(Index::default().parse(&text).is_ok(), is_json, "{}", text);
    }
}
