//! Stream's filter JSON for channels, looked at before it is sent: what no document allows is refused here, with the place of the
//! mistake, since a run would otherwise learn of it only after it has begun. What depends on the app is left to Stream.
//!
//! Operators and fields are those of the documents of QueryChannels and its specification. Neither says how long `$in` or how deep
//! a filter may be: the limits are ours.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Values of one list: a longer one is a list of channels, for which there is `--channels-file`.
const MAX_VALUES: usize = 1000;
/// `$and`, `$or` and `$nor` inside each other, of which the query of a run needs one for itself.
const MAX_DEPTH: usize = 9;

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{at}` {reason}")]
pub struct FilterError {
    /// The path of the condition.
    pub at: String,
    /// What it should be.
    pub reason: String,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Text,
    Number,
    Flag,
    Time,
    /// A list of texts.
    Texts,
    /// Whatever the app has put there.
    Any,
}

/// A field that channels are found by, and the operators that it takes besides `$eq`, `$ne`, `$in` and `$nin`.
struct Field {
    holds: Holds,
    has_order: bool,
    more: &'static [&'static str],
}

/// Fields that say how a channel is to one user, whom a server does not name.
const OF_ONE_USER: [&str; 9] =
    ["archived", "blocked", "channel_role", "has_unread", "hidden", "invite", "joined", "muted", "pinned"];

const LOGICAL: [&str; 3] = ["$and", "$or", "$nor"];

const ORDER: [&str; 4] = ["$gt", "$gte", "$lt", "$lte"];

/// The fields whose conditions cost Stream little; any other makes the whole query expensive.
const INDEXED: [&str; 9] =
    ["cid", "type", "last_message_at", "last_updated", "created_at", "updated_at", "members", "has_unread", "team"];

impl Field {
    fn named(name: &str) -> Self {
        let of = |holds, has_order, more| Self { holds, has_order, more };
        match name {
            "cid" | "id" | "type" | "team" | "created_by_id" => of(Holds::Text, true, &["$exists"]),
            "created_at" | "updated_at" | "last_message_at" | "last_updated" => of(Holds::Time, true, &["$exists"]),
            "member_count" | "message_count" => of(Holds::Number, true, &["$exists"]),
            "frozen" | "disabled" => of(Holds::Flag, false, &["$exists"]),
            "distinct" => of(Holds::Flag, false, &[]),
            "members" | "filter_tags" => of(Holds::Texts, false, &["$exists"]),
            "app_banned" => of(Holds::Text, false, &[]),
            "member.user.name" => of(Holds::Text, false, &["$autocomplete"]),
            "name" => of(Holds::Text, true, &["$exists", "$autocomplete", "$q"]),
            _ => of(Holds::Any, true, &["$exists", "$autocomplete", "$contains", "$q"]),
        }
    }
}

impl Holds {
    fn takes(self, value: &Value) -> bool {
        match self {
            Self::Text | Self::Texts => value.is_string(),
            Self::Number => value.is_number(),
            Self::Flag => value.is_boolean(),
            Self::Time => match value {
                Value::String(text) => text.parse::<Timestamp>().is_ok(),
                Value::Number(nanoseconds) => nanoseconds.as_i64().is_some(),
                _ => false,
            },
            Self::Any => !value.is_object(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Text | Self::Texts => "a text",
            Self::Number => "a number",
            Self::Flag => "true or false",
            Self::Time => "a time as in RFC 3339, such as \"2026-01-01T00:00:00Z\"",
            Self::Any => "a value and no object",
        }
    }
}

/// Checks a filter that is to be sent along with a run's own conditions.
pub fn check(filter: &Map<String, Value>) -> Result<(), FilterError> {
    conditions(filter, "", MAX_DEPTH)
}

fn conditions(filter: &Map<String, Value>, at: &str, depth: usize) -> Result<(), FilterError> {
    for (name, condition) in filter {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let wrong = |reason: String| Err(FilterError { at: at.clone(), reason });
        if LOGICAL.contains(&name.as_str()) {
            let Value::Array(branches) = condition else { return wrong("takes a list of filters".to_owned()) };
            if branches.is_empty() {
                return wrong("takes at least one filter".to_owned());
            }
            let Some(depth) = depth.checked_sub(1) else {
                return wrong(format!("is too deep: {MAX_DEPTH} of {} may be inside each other", LOGICAL.join(", ")));
            };
            for (number, branch) in branches.iter().enumerate() {
                let at = format!("{at}[{number}]");
                let Value::Object(branch) = branch else {
                    return Err(FilterError { at, reason: "is no filter: write an object".to_owned() });
                };
                conditions(branch, &at, depth)?;
            }
        } else if name.starts_with('$') {
            return wrong(format!(
                "is no operator that joins filters: use {}, or write it inside a field",
                LOGICAL.join(", ")
            ));
        } else if name.is_empty() {
            return wrong("is no field".to_owned());
        } else if OF_ONE_USER.contains(&name.as_str()) {
            return wrong("tells what a channel is to one user, and exports are asked for by none".to_owned());
        } else {
            field(name, condition, &at)?;
        }
    }
    Ok(())
}

fn field(name: &str, condition: &Value, at: &str) -> Result<(), FilterError> {
    let Field { holds, has_order, more } = Field::named(name);
    let wrong = |at: String, reason: String| Err(FilterError { at, reason });
    let one = |at: String, value: &Value| {
        let is_right = holds.takes(value) && (name != "cid" || is_cid(value));
        let is_right = is_right && (name != "app_banned" || matches!(value.as_str(), Some("excluded" | "only")));
        match name {
            _ if is_right => Ok(()),
            "cid" => wrong(at, "takes type:id, such as \"messaging:general\"".to_owned()),
            "app_banned" => wrong(at, "takes \"excluded\" or \"only\"".to_owned()),
            _ => wrong(at, format!("takes {}", holds.words())),
        }
    };
    let all = |at: String, value: &Value| {
        let Value::Array(values) = value else { return wrong(at, "takes a list of values".to_owned()) };
        if values.is_empty() || values.len() > MAX_VALUES {
            let reason = format!("takes a list of 1 to {MAX_VALUES} values, and has {}", values.len());
            return wrong(at, reason);
        }
        values.iter().try_for_each(|value| one(at.clone(), value))
    };
    let equal = |at: String, value: &Value| match value {
        Value::Array(_) if holds == Holds::Texts => all(at, value),
        _ => one(at, value),
    };
    let Value::Object(operators) = condition else { return equal(at.to_owned(), condition) };
    if operators.is_empty() {
        return wrong(at.to_owned(), "has an object without an operator".to_owned());
    }
    for (operator, value) in operators {
        let at = format!("{at}.{operator}");
        match operator.as_str() {
            "$eq" | "$ne" => equal(at, value)?,
            "$in" | "$nin" => all(at, value)?,
            "$exists" if more.contains(&"$exists") => match value {
                Value::Bool(_) => {}
                _ => return wrong(at, "takes true or false".to_owned()),
            },
            // These look for a part of what a field holds.
            "$contains" | "$autocomplete" | "$q" if more.contains(&operator.as_str()) => match value {
                Value::String(text) if !text.is_empty() => {}
                Value::Number(_) | Value::Bool(_) if operator == "$contains" => {}
                _ => return wrong(at, "takes a text that is not empty".to_owned()),
            },
            order if has_order && ORDER.contains(&order) => one(at, value)?,
            _ => {
                let order: &[&str] = if has_order { &ORDER } else { &[] };
                let list: Vec<&str> = ["$eq", "$ne", "$in", "$nin"].iter().chain(order).chain(more).copied().collect();
                return wrong(at, format!("is no operator of `{name}`, which takes {}", list.join(", ")));
            }
        }
    }
    Ok(())
}

fn is_cid(value: &Value) -> bool {
    value.as_str().and_then(|text| text.split_once(':')).is_some_and(|(one, two)| !one.is_empty() && !two.is_empty())
}

/// Why Stream's database has to work for a query, by the rules of its API budget; nothing if it has not.
pub(super) fn expenses(query: &Map<String, Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let terms = expense(query, &mut found);
    if terms > 3 {
        found.insert(format!("{terms} conditions at once, where 3 are cheap"));
    }
    found
}

/// Adds what is expensive, and yields how many conditions must hold at once.
fn expense(query: &Map<String, Value>, found: &mut BTreeSet<String>) -> usize {
    let mut terms = 0;
    for (name, condition) in query {
        if LOGICAL.contains(&name.as_str()) {
            let branches = condition.as_array().map(Vec::as_slice).unwrap_or_default();
            let branches: Vec<usize> =
                branches.iter().filter_map(Value::as_object).map(|branch| expense(branch, found)).collect();
            if name == "$and" {
                terms += branches.iter().sum::<usize>();
            } else {
                // A run's own conditions always stand beside it.
                found.insert(format!("`{name}` beside other conditions"));
                terms += 1;
            }
            continue;
        }
        terms += 1;
        if !INDEXED.contains(&name.as_str()) {
            found.insert(format!("`{name}` is not indexed"));
        }
        for (operator, value) in condition.as_object().into_iter().flatten() {
            match (operator.as_str(), value) {
                ("$in", Value::Array(values)) if values.len() > 3 => {
                    found.insert(format!("`$in` with {} values, where 3 are cheap", values.len()));
                }
                ("$nin" | "$ne" | "$autocomplete" | "$contains" | "$q", _) => {
                    found.insert(format!("`{operator}`"));
                }
                _ => {}
            }
        }
    }
    terms
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
