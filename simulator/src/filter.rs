//! The query language of QueryChannels: filters compiled once, then applied to channels.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::entity::Channel;

/// A compiled filter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Nor(Vec<Filter>),
    Field { name: String, test: Test },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    Eq(Operand),
    Ne(Operand),
    In(Vec<Operand>),
    NotIn(Vec<Operand>),
    Order(&'static [Ordering], Operand),
    Exists(bool),
    Contains(Operand),
    /// The beginning of a word, or a whole one.
    Words {
        text: String,
        whole: bool,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Time(Timestamp),
    Json(Value),
}

const TIMES: [&str; 4] = ["created_at", "updated_at", "last_message_at", "last_updated"];
/// How long `$in` and how deep a filter may be is not documented.
const MOST_VALUES: usize = 1_000;
const MOST_LEVELS: usize = 10;

impl Filter {
    pub(crate) fn parse(conditions: &Value) -> Result<Self, String> {
        Self::parse_level(conditions, 0)
    }

    fn parse_level(conditions: &Value, level: usize) -> Result<Self, String> {
        let Value::Object(conditions) = conditions else {
            return Err(format!("expected object for field \"filter_conditions\" but got {}", kind(conditions)));
        };
        let mut all = Vec::new();
        for (name, condition) in conditions {
            match (name.as_str(), condition) {
                ("$and" | "$or" | "$nor", Value::Array(branches)) if !branches.is_empty() => {
                    if level == MOST_LEVELS {
                        return Err(format!("filters can be nested {MOST_LEVELS} levels deep"));
                    }
                    let parsed = branches.iter().map(|branch| Self::parse_level(branch, level + 1));
                    let branches = parsed.collect::<Result<Vec<_>, _>>()?;
                    all.push(match name.as_str() {
                        "$and" => Self::And(branches),
                        "$or" => Self::Or(branches),
                        _ => Self::Nor(branches),
                    });
                }
                ("$and" | "$or" | "$nor", other) => {
                    return Err(format!("{name} expects an array of filters that is not empty, got {}", kind(other)));
                }
                (name, _) if name.starts_with('$') => return Err(format!("unknown operator {name}")),
                (name, _) => all.extend(Self::parse_field(name, condition)?),
            }
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Self::And(all) })
    }

    fn parse_field(name: &str, condition: &Value) -> Result<Vec<Self>, String> {
        let supported = operators(name)?;
        let field = |test| Self::Field { name: name.to_owned(), test };
        let Value::Object(given) = condition else {
            return Ok(vec![field(Test::Eq(equal(name, condition)?))]);
        };
        if given.is_empty() {
            return Err(format!("field \"{name}\" has no operator"));
        }
        let mut tests = Vec::new();
        for (operator, value) in given {
            if !supported.split(' ').any(|one| one == operator) {
                return Err(format!(
                    "operator {operator} is not supported for field \"{name}\": use one of {supported}"
                ));
            }
            let wrong = || Err(format!("operator {operator} of field \"{name}\" does not take {value}"));
            tests.push(field(match (operator.as_str(), value) {
                ("$eq", _) => Test::Eq(equal(name, value)?),
                ("$ne", _) => Test::Ne(equal(name, value)?),
                ("$in", _) => Test::In(list(name, value)?),
                ("$nin", _) => Test::NotIn(list(name, value)?),
                ("$gt", _) => Test::Order(&[Ordering::Greater], operand(name, value)?),
                ("$gte", _) => Test::Order(&[Ordering::Greater, Ordering::Equal], operand(name, value)?),
                ("$lt", _) => Test::Order(&[Ordering::Less], operand(name, value)?),
                ("$lte", _) => Test::Order(&[Ordering::Less, Ordering::Equal], operand(name, value)?),
                ("$exists", Value::Bool(exists)) => Test::Exists(*exists),
                ("$autocomplete" | "$q", Value::String(text)) if !text.is_empty() => {
                    Test::Words { text: text.to_lowercase(), whole: operator == "$q" }
                }
                ("$contains", Value::String(text)) if text.is_empty() => return wrong(),
                ("$contains", Value::String(_) | Value::Number(_) | Value::Bool(_)) => {
                    Test::Contains(Operand::Json(value.clone()))
                }
                _ => return wrong(),
            }));
        }
        Ok(tests)
    }

    /// The channels that are all that can match, if the filter names them.
    pub(crate) fn cids(&self) -> Option<BTreeSet<&str>> {
        let text = |operand| match operand {
            &Operand::Json(Value::String(ref cid)) => Some(cid.as_str()),
            _ => None,
        };
        match self {
            Self::And(filters) => filters.iter().find_map(Self::cids),
            Self::Field { name, test } if name == "cid" => match test {
                Test::Eq(cid) => Some(text(cid).into_iter().collect()),
                Test::In(cids) => Some(cids.iter().filter_map(text).collect()),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn matches(&self, channel: &Channel) -> bool {
        match self {
            Self::And(filters) => filters.iter().all(|filter| filter.matches(channel)),
            Self::Or(filters) => filters.iter().any(|filter| filter.matches(channel)),
            Self::Nor(filters) => !filters.iter().any(|filter| filter.matches(channel)),
            Self::Field { name, test } => test.holds(&values(channel, name), name == "members"),
        }
    }
}

impl Test {
    /// Whether it holds for a field of these values: none if it is absent, several if it is a list.
    fn holds(&self, values: &[Operand], is_list: bool) -> bool {
        let is = |operand: &Operand| match operand {
            Operand::Json(Value::Array(all)) if is_list => {
                let all: Vec<Operand> = all.iter().cloned().map(Operand::Json).collect();
                all.iter().all(|one| values.contains(one)) && values.iter().all(|one| all.contains(one))
            }
            operand => values.contains(operand),
        };
        match self {
            Self::Eq(operand) => is(operand),
            Self::Ne(operand) => !is(operand),
            Self::In(operands) => operands.iter().any(is),
            Self::NotIn(operands) => !operands.iter().any(is),
            Self::Exists(exists) => values.is_empty() != *exists,
            Self::Order(orders, operand) => {
                values.iter().filter_map(|value| compare(value, operand)).any(|order| orders.contains(&order))
            }
            Self::Contains(Operand::Json(wanted)) => values.iter().any(|value| match value {
                Operand::Json(Value::Array(items)) => items.contains(wanted),
                Operand::Json(Value::String(text)) => wanted.as_str().is_some_and(|wanted| text.contains(wanted)),
                _ => false,
            }),
            Self::Contains(Operand::Time(_)) => false,
            Self::Words { text, whole } => values.iter().any(|value| {
                let Operand::Json(Value::String(value)) = value else { return false };
                let value = value.to_lowercase();
                if *whole {
                    value == *text
                } else {
                    value.split_whitespace().any(|word| word.starts_with(text.as_str()))
                }
            }),
        }
    }
}

/// What may be asked of a field. Fields that tell what a channel is to one user need one, which servers do not name.
fn operators(name: &str) -> Result<&'static str, String> {
    Ok(match name {
        "" => return Err("a field has no name".to_owned()),
        "cid" | "id" | "type" | "team" | "created_by_id" | "member_count" | "message_count" | "created_at"
        | "updated_at" | "last_message_at" | "last_updated" => "$eq $ne $in $nin $gt $gte $lt $lte $exists",
        "frozen" | "disabled" | "members" | "filter_tags" => "$eq $ne $in $nin $exists",
        "distinct" | "app_banned" => "$eq $ne $in $nin",
        "member.user.name" => "$eq $ne $in $nin $autocomplete",
        "name" => "$eq $ne $in $nin $gt $gte $lt $lte $exists $autocomplete $q",
        "archived" | "blocked" | "channel_role" | "has_unread" | "hidden" | "invite" | "joined" | "muted"
        | "pinned" => {
            return Err(format!("field \"{name}\" requires a user: set user or user_id"));
        }
        _ => "$eq $ne $in $nin $gt $gte $lt $lte $exists $autocomplete $contains $q",
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What a field is compared with as a whole.
fn equal(name: &str, value: &Value) -> Result<Operand, String> {
    match (name, value) {
        ("members" | "filter_tags", Value::Array(_)) => {
            list(name, value)?;
            Ok(Operand::Json(value.clone()))
        }
        _ => operand(name, value),
    }
}

fn list(name: &str, value: &Value) -> Result<Vec<Operand>, String> {
    match value {
        Value::Array(values) if (1..=MOST_VALUES).contains(&values.len()) => {
            values.iter().map(|value| operand(name, value)).collect()
        }
        _ => Err(format!("field \"{name}\" expects an array of 1 to {MOST_VALUES} values here")),
    }
}

fn operand(name: &str, value: &Value) -> Result<Operand, String> {
    let wanted = match name {
        _ if TIMES.contains(&name) => {
            return parse_time(value)
                .map(Operand::Time)
                .ok_or_else(|| format!("{name} takes an RFC 3339 time, not {value}"));
        }
        "cid" => match value.as_str().and_then(|cid| cid.split_once(':')) {
            Some((one, other)) if !one.is_empty() && !other.is_empty() => "string",
            _ => return Err(format!("{value} is not a cid")),
        },
        "app_banned" if !matches!(value.as_str(), Some("excluded" | "only")) => {
            return Err(format!("app_banned is one of [excluded only], not {value}"));
        }
        "id" | "type" | "team" | "created_by_id" | "members" | "filter_tags" | "app_banned" | "member.user.name"
        | "name" => "string",
        "member_count" | "message_count" => "number",
        "frozen" | "disabled" | "distinct" => "bool",
        _ if value.is_object() => return Err(format!("field \"{name}\" cannot be compared with an object")),
        _ => kind(value),
    };
    if kind(value) != wanted {
        return Err(format!("expected {wanted} for field \"{name}\" but got {}", kind(value)));
    }
    Ok(Operand::Json(value.clone()))
}

/// Whether QueryChannels takes these conditions; if not, what it answers.
pub fn check(conditions: &Value) -> Result<(), String> {
    Filter::parse(conditions).map(drop)
}

/// RFC 3339, or integer nanoseconds.
pub(crate) fn parse_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64().and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok()),
        _ => None,
    }
}

/// All values of a field that may be a list.
fn values(channel: &Channel, name: &str) -> Vec<Operand> {
    let texts =
        |texts: &mut dyn Iterator<Item = &String>| texts.cloned().map(|text| Operand::Json(text.into())).collect();
    match name {
        "members" => texts(&mut channel.members.iter().map(|member| &member.user_id)),
        "filter_tags" => texts(&mut channel.filter_tags.iter()),
        _ => value(channel, name).into_iter().collect(),
    }
}

fn value(channel: &Channel, name: &str) -> Option<Operand> {
    let json = |value: Value| Some(Operand::Json(value));
    match name {
        "created_at" => Some(Operand::Time(channel.created_at)),
        "updated_at" => Some(Operand::Time(channel.updated_at)),
        "last_updated" => Some(Operand::Time(channel.last_updated())),
        "last_message_at" => channel.last_message_at.map(Operand::Time),
        "cid" => json(channel.cid().into()),
        "type" => json(channel.channel_type.clone().into()),
        "id" => json(channel.id.clone().into()),
        "team" if channel.team.is_empty() => None,
        "team" => json(channel.team.clone().into()),
        "member_count" => json(channel.members.len().into()),
        "frozen" => json(channel.frozen.into()),
        "disabled" => json(channel.disabled.into()),
        "message_count" => json(channel.messages.len().into()),
        "distinct" => json(channel.id.starts_with("!members-").into()),
        "created_by_id" => channel.created_by_id.clone().and_then(|id| json(id.into())),
        // Who is banned, and what users are called, is not kept with channels.
        "app_banned" | "member.user.name" => None,
        custom => channel.custom.get(custom.strip_prefix("custom.").unwrap_or(custom)).cloned().and_then(json),
    }
}

fn compare(a: &Operand, b: &Operand) -> Option<Ordering> {
    match (a, b) {
        (Operand::Time(a), Operand::Time(b)) => Some(a.cmp(b)),
        (Operand::Json(Value::String(a)), Operand::Json(Value::String(b))) => Some(a.cmp(b)),
        (Operand::Json(Value::Number(a)), Operand::Json(Value::Number(b))) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        _ => None,
    }
}

/// Sorts by these (field, descending) in turn. Channels without a value come last; ties have an order that is stable
/// and that nobody can guess from the ids.
pub(crate) fn sort(channels: &mut [&Channel], fields: &[(String, bool)]) {
    channels.sort_by_cached_key(|channel| scatter(&channel.id));
    channels.sort_by(|a, b| {
        fields
            .iter()
            .map(|(name, descending)| match (value(a, name), value(b, name)) {
                (Some(a), Some(b)) => {
                    let order = compare(&a, &b).unwrap_or(Ordering::Equal);
                    if *descending { order.reverse() } else { order }
                }
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
            })
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    });
}

/// The fields that documentation lists as sortable, and custom ones are not served here.
pub(crate) const SORTABLE: [&str; 5] = ["last_updated", "last_message_at", "updated_at", "created_at", "member_count"];

fn scatter(text: &str) -> (u64, String) {
    let hash = text
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    (hash, text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn channel(id: &str, created_at: &str, last_message_at: Option<&str>) -> Channel {
        let mut channel = Channel::new("team", id, at(created_at)).with_members(["amara", "jonas"]);
        channel.last_message_at = last_message_at.map(at);
        channel.custom.insert("name".into(), "General".into());
        channel
    }

    #[test]
    fn operators_select() {
        let old = channel("old", "2026-01-01T00:00:00Z", None);
        let new = channel("new", "2026-01-02T00:00:00Z", Some("2026-01-05T12:00:00.5Z"));
        let selected = |filter: Value| {
            let filter = Filter::parse(&filter).unwrap();
            (filter.matches(&old), filter.matches(&new))
        };
        assert_eq!(selected(json!({})), (true, true));
        assert_eq!(selected(json!({"cid": "team:old"})), (true, false));
        assert_eq!(selected(json!({"cid": {"$in": ["team:new", "team:x"]}})), (false, true));
        assert_eq!(selected(json!({"cid": {"$gt": "team:new"}})), (true, false));
        assert_eq!(selected(json!({"last_message_at": {"$gte": "2026-01-05T12:00:00.5Z"}})), (false, true));
        assert_eq!(selected(json!({"last_message_at": {"$gt": "2026-01-05T12:00:00.5Z"}})), (false, false));
        assert_eq!(selected(json!({"last_message_at": {"$exists": false}})), (true, false));
        assert_eq!(selected(json!({"created_at": {"$gte": 1_767_312_000_000_000_000i64}})), (false, true));
        assert_eq!(selected(json!({"last_updated": {"$lte": "2026-01-01T00:00:00Z"}})), (true, false));
        assert_eq!(selected(json!({"members": {"$in": ["jonas"]}, "type": "team"})), (true, true));
        assert_eq!(selected(json!({"members": "nobody"})), (false, false));
        assert_eq!(selected(json!({"$or": [{"id": "old"}, {"name": "Other"}]})), (true, false));
        assert_eq!(selected(json!({"$and": [{"type": "team"}, {"id": {"$lt": "old"}}]})), (false, true));
        assert_eq!(selected(json!({"$nor": [{"id": "old"}]})), (false, true));
        assert_eq!(selected(json!({"id": {"$ne": "old"}, "team": {"$ne": "blue"}})), (false, true));
        assert_eq!(selected(json!({"id": {"$nin": ["old", "x"]}})), (false, true));
        assert_eq!(selected(json!({"members": ["jonas", "amara"]})), (true, true));
        assert_eq!(selected(json!({"members": ["jonas"]})), (false, false));
        assert_eq!(selected(json!({"name": {"$autocomplete": "gen"}})), (true, true));
        assert_eq!(selected(json!({"custom.name": {"$contains": "ener"}, "name": {"$q": "GENERAL"}})), (true, true));
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let refused = [
            json!({"created_at": "yesterday"}),
            json!({"frozen": {"$gt": 1}}),
            json!({"cid": {"$like": "x"}}),
            json!({"$nor": []}),
            json!({"hidden": true}),
            json!({"type": 7}),
            json!({"type": {"$in": []}}),
            json!([]),
        ];
        for filter in refused {
            assert!(Filter::parse(&filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn absent_values_sort_last_in_both_directions() {
        let a = channel("a", "2026-01-01T00:00:00Z", None);
        let b = channel("b", "2026-01-02T00:00:00Z", Some("2026-01-05T00:00:00Z"));
        for descending in [false, true] {
            let mut channels = [&a, &b];
            sort(&mut channels, &[("last_message_at".into(), descending)]);
            assert_eq!(channels.map(|channel| channel.id.as_str()), ["b", "a"]);
        }
    }
}
