//! Lines of kinds that no dataset takes, counted by what they say they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Kinds that are told apart. Their names come from files, so nothing else keeps the counts small.
const MAX_KINDS: usize = 32;
/// Characters of a name that are kept.
const MAX_NAME: usize = 64;
/// Kinds that Stream is known to have and no dataset takes.
const KNOWN: [&str; 3] = ["device", "call", "future_channel_ban"];
/// What the names of keys that stand beside an entity begin with.
pub const BESIDE: &str = "beside.";
/// What further kinds are counted as.
const OTHERS: &str = "others";

/// How many lines there are of each kind; of a file with many, the first ones by name and the rest as one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kinds(BTreeMap<String, u64>);

impl Kinds {
    /// Adds lines of a kind.
    pub fn add(&mut self, kind: &str, lines: u64) {
        if let Some(count) = self.0.get_mut(kind) {
            *count += lines;
            return;
        }
        let name = if self.0.len() < MAX_KINDS { kind } else { OTHERS };
        *self.0.entry(name.to_owned()).or_default() += lines;
    }

    /// Adds all of another count.
    pub fn extend(&mut self, other: &Self) {
        for (kind, lines) in &other.0 {
            self.add(kind, *lines);
        }
    }

    /// Lines of all kinds.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Lines that may be anything: neither of a kind that is known to have no dataset, nor a key beside an entity.
    pub fn strange(&self) -> u64 {
        let is_known = |kind: &str| KNOWN.contains(&kind) || kind.starts_with(BESIDE);
        self.0.iter().filter(|(kind, _)| !is_known(kind)).map(|(_, lines)| lines).sum()
    }

    /// Lines of one kind.
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `12 device, 3 call`: the most frequent first.
impl std::fmt::Display for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut kinds: Vec<_> = self.0.iter().collect();
        kinds.sort_by_key(|(kind, lines)| (std::cmp::Reverse(**lines), kind.as_str()));
        for (number, (kind, lines)) in kinds.into_iter().enumerate() {
            write!(f, "{}{lines} {kind}", if number > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// What a file calls a kind, fit to be a name: short, and without anything that a terminal obeys.
pub fn name(kind: &str) -> String {
    kind.chars().take(MAX_NAME).map(|char| if is_active(char) { '\u{fffd}' } else { char }).collect()
}

/// Whether a terminal obeys it instead of showing it, the order of writing included.
pub(crate) fn is_active(char: char) -> bool {
    char.is_control() || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_without_end_are_counted_as_one() {
        let mut kinds = Kinds::default();
        (0..1000).for_each(|number| kinds.add(&format!("kind {number}"), 2));
        kinds.add("kind 7", 1);
        assert_eq!((kinds.total(), kinds.of("kind 7"), kinds.of(OTHERS)), (2001, 3, 968 * 2));
        assert_eq!(kinds.0.len(), MAX_KINDS + 1);
        let mut sum = kinds.clone();
        sum.extend(&kinds);
        assert_eq!((sum.total(), sum.0.len()), (4002, MAX_KINDS + 1));
    }

    #[test]
    fn the_most_frequent_is_named_first() {
        let mut kinds = Kinds::default();
        [("call", 1), ("device", 12), ("ban", 1)].into_iter().for_each(|(kind, lines)| kinds.add(kind, lines));
        assert_eq!(kinds.to_string(), "12 device, 1 ban, 1 call");
        kinds.add("beside.seq", 5);
        assert_eq!((kinds.total(), kinds.strange()), (19, 1));
        assert_eq!(name("a\u{1b}[2Jb\u{202e}"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(name(&"x".repeat(100)).len(), MAX_NAME);
    }
}
