//! The query language of QueryChannels: filters compiled once, then applied to channels.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::Value;

use crate::entity::Channel;

/// A compiled filter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Field { name: String, test: Test },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    Eq(Operand),
    In(Vec<Operand>),
    Order(&'static [Ordering], Operand),
    Exists(bool),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Time(Timestamp),
    Json(Value),
}

const TIMES: [&str; 4] = ["created_at", "updated_at", "last_message_at", "last_updated"];
const RANGED: [&str; 5] = ["cid", "id", "type", "member_count", "team"];

impl Filter {
    pub(crate) fn parse(conditions: &Value) -> Result<Self, String> {
        let Value::Object(conditions) = conditions else {
            return Err("filter_conditions must be an object".into());
        };
        let mut all = Vec::new();
        for (name, condition) in conditions {
            match name.as_str() {
                "$and" | "$or" => {
                    let Value::Array(branches) = condition else { return Err(format!("{name} takes an array")) };
                    let branches = branches.iter().map(Self::parse).collect::<Result<Vec<_>, _>>()?;
                    all.push(if name == "$and" { Self::And(branches) } else { Self::Or(branches) });
                }
                name if name.starts_with('$') => return Err(format!("the operator {name} is not supported")),
                _ => all.extend(Self::parse_field(name, condition)?),
            }
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Self::And(all) })
    }

    fn parse_field(name: &str, condition: &Value) -> Result<Vec<Self>, String> {
        let field = |test| Self::Field { name: name.to_owned(), test };
        let Value::Object(operators) = condition else {
            return Ok(vec![field(Test::Eq(operand(name, condition)?))]);
        };
        let mut tests = Vec::new();
        for (operator, value) in operators {
            let order: Option<&'static [Ordering]> = match operator.as_str() {
                "$gt" => Some(&[Ordering::Greater]),
                "$gte" => Some(&[Ordering::Greater, Ordering::Equal]),
                "$lt" => Some(&[Ordering::Less]),
                "$lte" => Some(&[Ordering::Less, Ordering::Equal]),
                _ => None,
            };
            let test = match (operator.as_str(), order, value) {
                (_, Some(order), _) if TIMES.contains(&name) || RANGED.contains(&name) => {
                    Test::Order(order, operand(name, value)?)
                }
                (_, Some(_), _) => return Err(format!("{operator} is not supported for {name}")),
                ("$eq", ..) => Test::Eq(operand(name, value)?),
                ("$in", _, Value::Array(values)) => {
                    Test::In(values.iter().map(|value| operand(name, value)).collect::<Result<_, _>>()?)
                }
                ("$exists", _, Value::Bool(exists)) => Test::Exists(*exists),
                _ => return Err(format!("the operator {operator} is not supported, or not with this value")),
            };
            tests.push(field(test));
        }
        Ok(tests)
    }

    pub(crate) fn matches(&self, channel: &Channel) -> bool {
        match self {
            Self::And(filters) => filters.iter().all(|filter| filter.matches(channel)),
            Self::Or(filters) => filters.iter().any(|filter| filter.matches(channel)),
            Self::Field { name, test } if name == "members" => {
                let is_member = |operand: &Operand| match operand {
                    Operand::Json(Value::String(id)) => channel.members.iter().any(|member| member.user_id == *id),
                    _ => false,
                };
                match test {
                    Test::Eq(operand) => is_member(operand),
                    Test::In(operands) => operands.iter().any(is_member),
                    Test::Exists(exists) => channel.members.is_empty() != *exists,
                    Test::Order(..) => false,
                }
            }
            Self::Field { name, test } => {
                let value = value(channel, name);
                match test {
                    Test::Exists(exists) => value.is_some() == *exists,
                    Test::Eq(operand) => value.as_ref() == Some(operand),
                    Test::In(operands) => value.is_some_and(|value| operands.contains(&value)),
                    Test::Order(orders, operand) => {
                        value.and_then(|value| compare(&value, operand)).is_some_and(|order| orders.contains(&order))
                    }
                }
            }
        }
    }
}

fn operand(name: &str, value: &Value) -> Result<Operand, String> {
    if !TIMES.contains(&name) {
        return Ok(Operand::Json(value.clone()));
    }
    parse_time(value).map(Operand::Time).ok_or_else(|| format!("{name} takes an RFC 3339 time, not {value}"))
}

/// RFC 3339, or integer nanoseconds.
pub(crate) fn parse_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64().and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok()),
        _ => None,
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
        "created_by_id" => channel.created_by_id.clone().and_then(|id| json(id.into())),
        custom => channel.custom.get(custom).cloned().and_then(json),
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
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let refused = [
            json!({"created_at": "yesterday"}),
            json!({"frozen": {"$gt": 1}}),
            json!({"cid": {"$ne": "x"}}),
            json!({"$nor": []}),
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
