//! How late data changes, by what revisits have found: what to choose `--revisit` by.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::lake::revisit::OLDER;
use crate::lake::{Ages, Changes, State};
use crate::window::Window;

/// The ages by which revisits are told apart, in days.
const DAYS: [i64; 8] = [0, 1, 2, 3, 7, 14, 30, 90];

/// The revisits at an age, from this one to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RevisitsOfAge {
    /// The age of the days, from their end: `7d`.
    pub age: String,
    /// Days that were exported again, each time counted.
    pub days: u64,
    /// Those of them in which anything had changed since the export before.
    pub differed: u64,
    /// What had become of messages.
    pub messages: Changes,
    /// What had become of reactions.
    pub reactions: Changes,
}

impl RevisitsOfAge {
    /// Rows of both datasets.
    pub fn rows(&self) -> Changes {
        let mut rows = self.messages;
        rows.add(&self.reactions);
        rows
    }
}

/// What the records of all cells remember, youngest age first.
pub(super) fn of(state: &State) -> Vec<RevisitsOfAge> {
    // The hours of a day that were exported again together are one day.
    let mut days: BTreeMap<(i64, Window, Timestamp), bool> = BTreeMap::new();
    let mut ages: BTreeMap<i64, RevisitsOfAge> = BTreeMap::new();
    for revisit in state.covers().flat_map(|covered| &covered.cover.record.revisits) {
        let age = revisit.age();
        let reached = DAYS.iter().rev().find(|days| SignedDuration::from_hours(24 * **days) <= age).copied();
        let reached = reached.unwrap_or(DAYS[0]);
        let of_age = ages.entry(reached).or_default();
        of_age.messages.add(&revisit.messages);
        of_age.reactions.add(&revisit.reactions);
        *days.entry((reached, Window::day_of(revisit.window.since), revisit.exported_at)).or_default() |=
            revisit.differed();
    }
    for ((reached, ..), differed) in days {
        let of_age = ages.entry(reached).or_default();
        of_age.days += 1;
        of_age.differed += u64::from(differed);
    }
    ages.into_iter().map(|(days, of_age)| RevisitsOfAge { age: name(days), ..of_age }).collect()
}

fn name(days: i64) -> String {
    format!("{days}d")
}

/// The lines of a page for people.
pub(super) fn lines(revisits: &[RevisitsOfAge]) -> Vec<String> {
    let Some(last) = revisits.last() else { return Vec::new() };
    let mut lines = vec![format!(
        "{:>4} {:>8} {:>9} {:>14} {:>10} {:>10}",
        "age", "days", "differed", "rows inserted", "edited", "vanished"
    )];
    let mut ages = Ages::default();
    let mut incomparable = 0;
    for of_age in revisits {
        let rows = of_age.rows();
        ages.add(&rows.ages);
        incomparable += rows.incomparable;
        lines.push(format!(
            "{:>4} {:>8} {:>9} {:>14} {:>10} {:>10}",
            of_age.age, of_age.days, of_age.differed, rows.inserted, rows.edited, rows.vanished
        ));
    }
    let age = |(age, number)| if age == OLDER { format!("{number} later") } else { format!("{number} within {age}") };
    let ages: Vec<String> = ages.iter().map(age).collect();
    if !ages.is_empty() {
        lines.push(format!("rows changed, by the age of their message: {}", ages.join(", ")));
    }
    if incomparable > 0 {
        lines.push(format!("{incomparable} rows were written under another schema and cannot be compared"));
    }
    let RevisitsOfAge { age, days, differed, .. } = last;
    lines.push(match differed {
        _ if *age == name(DAYS[0]) => "no day was a day old: these say nothing about --revisit yet".to_owned(),
        0 => format!("at {age} none of {days} days differed any more: a later age in --revisit would hardly find more"),
        _ => format!(
            "at {age} still {differed} of {days} days differed: what changes later takes a later age in --revisit"
        ),
    });
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::lake::entry::Action;
    use crate::lake::{CellRecord, Cover, Revisit};

    fn day(number: i64) -> Window {
        Window::day_of(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * number))
    }

    fn revisit(window: Window, hours: i64, edited: u64) -> Revisit {
        let mut messages = Changes { edited, ..Changes::default() };
        (0..edited).for_each(|_| messages.ages.count(SignedDuration::from_hours(hours)));
        let exported_at = window.until + SignedDuration::from_hours(hours);
        let previous_exported_at = window.until;
        Revisit { window, exported_at, previous_exported_at, messages, reactions: Changes::default() }
    }

    fn state(revisits: &[(Window, Vec<Revisit>)]) -> State {
        let mut state = State::default();
        for (window, revisits) in revisits {
            let record = CellRecord { revisits: revisits.clone(), ..CellRecord::default() };
            let cover = Cover {
                window: *window,
                exported_at: window.until,
                as_of: None,
                run_id: Uuid::nil(),
                keep_files: false,
                record,
            };
            state.go_on_with(vec![Action::Cover(cover)]);
        }
        state
    }

    #[test]
    fn revisits_count_by_the_age_that_the_day_had_reached() {
        let of_day =
            |number| vec![revisit(day(number), 25, 3), revisit(day(number), 7 * 24 + 1, number.unsigned_abs())];
        let found = of(&state(&[(day(0), of_day(0)), (day(1), of_day(1))]));
        let counts: Vec<_> =
            found.iter().map(|of| (of.age.as_str(), of.days, of.differed, of.messages.edited)).collect();
        assert_eq!(counts, [("1d", 2, 2, 6), ("7d", 2, 1, 1)]);
        insta::assert_snapshot!(lines(&found).join("\n"));
        assert_eq!(of(&State::default()), []);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn hours_that_were_exported_again_together_are_one_day() {
        let hour = |hour: i64| {
            let since = day(0).since + SignedDuration::from_hours(hour);
            Window { since, until: since + SignedDuration::from_hours(1) }
        };
        let exported_at = day(0).until + SignedDuration::from_hours(30);
        let at_once = |number| Revisit { exported_at, ..revisit(hour(number), 24, u64::from(number == 1)) };
        let found = of(&state(&[(hour(0), vec![at_once(0)]), (hour(1), vec![at_once(1)])]));
        assert_eq!((found.len(), found[0].days, found[0].differed), (1, 1, 1));
        let quiet = of(&state(&[(day(0), vec![revisit(day(0), 5, 0)])]));
        assert_eq!(quiet[0].age, "0d");
        assert!(lines(&quiet).last().unwrap().contains("nothing about --revisit yet"));
    }
}
