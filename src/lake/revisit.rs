//! What exporting a cell again found, as it stands in the log: how late an app's data changes, in numbers.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::window::Window;

/// How many revisits of a cell are remembered.
pub const REMEMBERED: usize = 16;

/// The bounds of ages by name, in hours. Older is [`OLDER`].
const BOUNDS: [(&str, i64); AGES - 1] = [
    ("1h", 1),
    ("6h", 6),
    ("1d", 24),
    ("2d", 2 * 24),
    ("3d", 3 * 24),
    ("7d", 7 * 24),
    ("14d", 14 * 24),
    ("30d", 30 * 24),
    ("90d", 90 * 24),
];
const AGES: usize = 10;
/// The name of all ages beyond the last bound.
pub const OLDER: &str = "more";

/// A cell that was exported again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revisit {
    /// The cell as it was then: it may have become a part of a larger one since.
    pub window: Window,
    /// When it was exported again.
    pub exported_at: Timestamp,
    /// Up to when all of it stood as it was exported before.
    pub previous_exported_at: Timestamp,
    /// What became of messages.
    #[serde(default)]
    pub messages: Changes,
    /// What became of reactions.
    #[serde(default)]
    pub reactions: Changes,
}

/// How rows of a cell differ from those of the export before. All zero: nothing has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// Rows that were not there before, or had vanished.
    pub inserted: u64,
    /// Rows that say something else.
    pub edited: u64,
    /// Rows that are not delivered any more.
    pub vanished: u64,
    /// Rows that look different, but whose old file was written under another schema: nobody knows whether they were edited.
    #[serde(skip_serializing_if = "is_zero")]
    pub incomparable: u64,
    /// How old the message was when its row, or that of its reaction, was inserted, edited or vanished.
    #[serde(skip_serializing_if = "Ages::is_empty")]
    pub ages: Ages,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Revisit {
    /// How old the day was: from its end to the export.
    pub fn age(&self) -> SignedDuration {
        self.exported_at.duration_since(Window::day_of(self.window.since).until)
    }

    /// Whether anything had changed, as far as one can tell.
    pub fn differed(&self) -> bool {
        [self.messages, self.reactions].iter().any(|changes| changes.total() > 0)
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inserted, edited, vanished, incomparable, .. } = self;
        write!(f, "{inserted} inserted, {edited} edited, {vanished} vanished")?;
        if *incomparable > 0 {
            write!(f, ", {incomparable} cannot be compared")?;
        }
        Ok(())
    }
}

impl Changes {
    /// Rows that have changed.
    pub fn total(&self) -> u64 {
        self.inserted + self.edited + self.vanished
    }

    /// Adds those of another cell.
    pub fn add(&mut self, other: &Self) {
        self.inserted += other.inserted;
        self.edited += other.edited;
        self.vanished += other.vanished;
        self.incomparable += other.incomparable;
        self.ages.add(&other.ages);
    }
}

/// How many there are of each age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages([u64; AGES]);

impl Ages {
    /// Counts one.
    pub fn count(&mut self, age: SignedDuration) {
        self.0[BOUNDS.partition_point(|(_, hours)| SignedDuration::from_hours(*hours) < age)] += 1;
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(number, more)| *number += more);
    }

    /// Takes away some that were counted.
    pub fn remove(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(number, less)| *number = number.saturating_sub(less));
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// The numbers that are not zero, each with the age that it goes up to, the youngest first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = BOUNDS.iter().map(|(name, _)| *name).chain([OLDER]);
        names.zip(self.0).filter(|(_, number)| *number > 0)
    }
}

impl Serialize for Ages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, number) in self.iter() {
            map.serialize_entry(name, &number)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Ages {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut ages = Self::default();
        for (name, number) in BTreeMap::<String, u64>::deserialize(deserializer)? {
            let place = BOUNDS.iter().position(|(bound, _)| *bound == name);
            let place = place.or((name == OLDER).then_some(AGES - 1));
            let place = place.ok_or_else(|| serde::de::Error::custom(format!("no such age: `{name}`")))?;
            ages.0[place] = number;
        }
        Ok(ages)
    }
}

/// The latest [`REMEMBERED`] of them, in the order of time.
pub fn remember(revisits: impl IntoIterator<Item = Revisit>) -> Vec<Revisit> {
    let mut revisits: Vec<Revisit> = revisits.into_iter().collect();
    revisits.sort_by_key(|revisit| (revisit.exported_at, revisit.window));
    let forgotten = revisits.len().saturating_sub(REMEMBERED);
    revisits.drain(..forgotten);
    revisits
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn revisit(hour: i64) -> Revisit {
        let window = Window::day_of(Timestamp::UNIX_EPOCH);
        Revisit {
            window,
            exported_at: window.until + SignedDuration::from_hours(hour),
            previous_exported_at: window.until,
            messages: Changes::default(),
            reactions: Changes::default(),
        }
    }

    #[test]
    fn an_age_is_counted_up_to_and_with_its_bound() {
        let mut ages = Ages::default();
        for seconds in [0, 3600, 3601, 24 * 3600, 90 * 24 * 3600, 90 * 24 * 3600 + 1] {
            ages.count(SignedDuration::from_secs(seconds));
        }
        assert_eq!(ages.iter().collect::<Vec<_>>(), [("1h", 2), ("6h", 1), ("1d", 1), ("90d", 1), ("more", 1)]);
        let mut rest = ages;
        rest.remove(&ages);
        assert!(rest.is_empty() && ages.total() == 6);
        let text = serde_json::to_string(&ages).unwrap();
        assert_eq!(text, r#"{"1h":2,"6h":1,"1d":1,"90d":1,"more":1}"#);
        assert_eq!(serde_json::from_str::<Ages>(&text).unwrap(), ages);
        assert!(serde_json::from_str::<Ages>(r#"{"4d":1}"#).is_err());
    }

    #[test]
    fn a_revisit_is_read_as_it_was_written_and_one_that_found_nothing_is_short() {
        let mut found = revisit(24);
        found.messages = Changes { inserted: 1, edited: 2, vanished: 3, incomparable: 4, ages: Ages::default() };
        found.messages.ages.count(SignedDuration::ZERO);
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Revisit>(&text).unwrap(), found);
        assert!(found.differed() && !revisit(24).differed());
        let nothing = serde_json::to_string(&Changes::default()).unwrap();
        assert_eq!(nothing, r#"{"inserted":0,"edited":0,"vanished":0}"#);
    }

    #[test]
    fn the_latest_are_remembered_in_order() {
        let many = remember((0..40).rev().map(revisit));
        assert_eq!(many.len(), REMEMBERED);
        let hours: Vec<i64> = many.iter().map(|revisit| revisit.age().as_hours()).collect();
        assert_eq!(hours, (24..40).collect::<Vec<_>>());
    }
}
