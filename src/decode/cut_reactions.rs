//! Messages of which a task did not deliver every reaction: a message embeds its latest few, but counts them all.

use std::collections::{HashMap, HashSet};

use crate::json::Value;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::context::Surroundings;
use super::object::text_of;
use super::plan::ObjectPlan;
use super::scan::Scan;
use super::value;

/// Reactions that a message embeds at most; at this many, there may be more.
const EMBEDDED_REACTIONS: usize = 10;

/// Reactions remembered at most. Of messages beyond, it stays open whether all came.
const MAX_REMEMBERED: usize = 1 << 18;

/// The messages that wait for more of their reactions.
#[derive(Debug, Default)]
pub(super) struct CutReactions {
    waiting: HashMap<u64, Waiting>,
    remembered: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    /// How many there are; none if that is not certain.
    total: Option<u64>,
    came: HashSet<u64>,
}

impl CutReactions {
    /// A message, of which so many embedded reactions became rows.
    pub(super) fn message(
        &mut self,
        message: u64,
        messages: &ObjectPlan,
        reactions: &ObjectPlan,
        scan: &Scan<'_>,
        rows: usize,
    ) {
        let present = |key: &str| messages.keys.find(key).and_then(|slot| scan.present(slot));
        let embedded = || present("latest_reactions").and_then(Value::elements).into_iter().flatten();
        let total = match (present("reaction_counts"), present("reaction_groups")) {
            (Some(counts), _) => sum(counts, |count| value::integer(count, false)),
            (None, Some(groups)) => sum(groups, |group| value::integer(group.get("count")?, false)),
            (None, None) => None,
        };
        let is_open = match total {
            Some(total) => total > rows as u64 || rows >= EMBEDDED_REACTIONS && total < rows as u64,
            None => rows >= EMBEDDED_REACTIONS || embedded().count() >= EMBEDDED_REACTIONS,
        };
        if !is_open {
            return;
        }
        // Fewer than came are counted: the count is behind, so who knows what else is.
        let total = total.filter(|total| *total > rows as u64);
        self.wait(message, total);
        for reaction in embedded() {
            self.reaction(message, reactions, reaction);
        }
    }

    fn wait(&mut self, message: u64, total: Option<u64>) -> &mut Waiting {
        let waiting = self.waiting.entry(message).or_insert_with(|| Waiting { total, came: HashSet::new() });
        waiting.total = waiting.total.zip(total).map(|(one, other)| one.max(other));
        waiting
    }

    /// Adds the messages that wait elsewhere.
    pub(super) fn absorb(&mut self, other: Self) {
        for (message, Waiting { total, came }) in other.waiting {
            self.wait(message, total).came.extend(came);
        }
        self.remembered += other.remembered;
    }

    /// A reaction that became a row.
    pub(super) fn reaction(&mut self, message: u64, reactions: &ObjectPlan, reaction: Value<'_>) {
        let Some(waiting) = self.waiting.get_mut(&message) else { return };
        let Some(scan) = Scan::of(&reactions.keys, reaction) else { return };
        let around = Surroundings::default();
        let text = |name: &str| {
            let column = reactions.columns.iter().find(|column| column.name == name)?;
            text_of(column, &scan, &around)
        };
        let (Some(user), Some(kind)) = (text("user_id"), text("type")) else { return };
        if self.remembered < MAX_REMEMBERED {
            let identity = xxh3_64_with_seed(user.as_bytes(), xxh3_64(kind.as_bytes()));
            self.remembered += usize::from(waiting.came.insert(identity));
        }
    }

    /// Those that did not get all.
    pub(super) fn finish(self) -> HashSet<u64> {
        let is_cut = |waiting: &Waiting| waiting.total.is_none_or(|total| (waiting.came.len() as u64) < total);
        self.waiting.into_iter().filter(|(_, waiting)| is_cut(waiting)).map(|(message, _)| message).collect()
    }
}

/// What the entries of an object count together; none if one of them does not say.
fn sum<'a>(object: Value<'a>, count: impl Fn(Value<'a>) -> Option<i64>) -> Option<u64> {
    let mut total = 0u64;
    for (_, value) in object.entries()?.filter(|(_, value)| !value.is_null()) {
        total = total.checked_add(u64::try_from(count(value)?).ok()?)?;
    }
    Some(total)
}
