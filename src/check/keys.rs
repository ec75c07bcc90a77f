//! Keys and the types of their values, fit to be shown: keys are an app's own, values are its users'.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// Keys that are told apart in one place.
const MAX_KEYS: usize = 200;
/// The longest key that is shown.
const MAX_CHARS: usize = 48;
/// Digits of a key that make it look like somebody's id.
const MAX_DIGITS: usize = 3;
/// What a key is called that may be a value.
const REDACTED: &str = "<redacted>";
/// What further keys are counted as.
const OTHERS: &str = "<others>";

/// How often each key has a value of each JSON type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Keys(BTreeMap<String, BTreeMap<&'static str, u64>>);

impl Keys {
    pub(super) fn add(&mut self, prefix: &str, key: &str, value: &Value) {
        let name = format!("{prefix}{}", shown(key));
        let name = if self.0.len() < MAX_KEYS || self.0.contains_key(&name) { name } else { OTHERS.to_owned() };
        *self.0.entry(name).or_default().entry(type_of(value)).or_default() += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `order_id number, tags array`: each key with its types.
impl std::fmt::Display for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (key, types)) in self.0.iter().enumerate() {
            let types: Vec<&str> = types.keys().copied().collect();
            write!(f, "{}{key} {}", if number > 0 { ", " } else { "" }, types.join("|"))?;
        }
        Ok(())
    }
}

/// A key, unless it looks like what apps file things under: ids, addresses, names.
pub(super) fn shown(key: &str) -> &str {
    let is_word = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let digits = key.bytes().filter(u8::is_ascii_digit).count();
    let begins = key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if is_word && begins && digits <= MAX_DIGITS && key.len() <= MAX_CHARS { key } else { REDACTED }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_may_be_values_are_not_shown_and_keys_without_end_are_counted_as_one() {
        for key in ["order_id", "pageX2", "_rev", "x-priority"] {
            assert_eq!(shown(key), key);
        }
        for key in ["user-17788", "ada@example.com", "0190c5d4", "Ada Lovelace", "", "é", &"x".repeat(49)] {
            assert_eq!(shown(key), REDACTED, "{key}");
        }
        let mut keys = Keys::default();
        keys.add("", "a", &json!(1));
        keys.add("", "a", &json!("x"));
        keys.add("in.", "b", &json!(null));
        assert_eq!(keys.to_string(), "a number|string, in.b null");
        let word = |mut number: u32| {
            let mut word = String::from("k");
            while number > 0 {
                word.push(char::from(b'a' + u8::try_from(number % 26).unwrap_or(0)));
                number /= 26;
            }
            word
        };
        (0..1000).for_each(|number| keys.add("", &word(number), &json!(1)));
        assert_eq!(keys.0.len(), MAX_KEYS + 1);
    }
}
