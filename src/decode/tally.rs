//! What came of lines, in numbers and names.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::envelope::Kind;
use super::set_aside::FirstSetAside;
use crate::kinds::Kinds;

/// What the lines of a task turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entities by kind, embedded ones not counted.
    pub lines: BTreeMap<&'static str, u64>,
    /// Lines and objects that are broken or lack what identifies them, or that nobody asked for.
    pub rejected: u64,
    /// Rejects by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// The first lines of each reason, those of no known kind and those outside the span included.
    pub first_set_aside: FirstSetAside,
    /// Lines of no known kind, by the kind that they say they are.
    pub unclassified: Kinds,
    /// Files in which nothing is known.
    pub unrecognised_files: u64,
    /// Messages outside the span.
    pub out_of_window: u64,
    /// Those of them that were updated inside it.
    pub out_of_window_updated_inside: u64,
    /// Messages in the margin, which belong to the neighbouring cells.
    pub margin: u64,
    /// Values kept in `_rescued`.
    pub rescued: u64,
    /// Keys that came twice in one object.
    pub duplicate_keys: u64,
    /// Messages that have more reactions than the task delivered, or may have.
    pub cut_reactions: HashSet<u64>,
    /// The numbers of the cells that messages went to.
    pub cells: BTreeSet<u32>,
    /// Channels of which anything came.
    pub channels_returned: HashSet<String>,
    /// Users that were asked for and of whom anything came.
    pub users_returned: HashSet<String>,
    /// Messages of a user export that say nothing about who wrote them.
    pub without_author: u64,
}

impl Tally {
    /// Messages recognised, wherever they went.
    pub fn messages(&self) -> u64 {
        self.lines.get(Kind::Message.dataset()).copied().unwrap_or(0)
    }

    /// Adds what another task's lines were.
    pub fn add(&mut self, other: Self) {
        for (kind, lines) in other.lines {
            *self.lines.entry(kind).or_default() += lines;
        }
        self.unclassified.extend(&other.unclassified);
        for (reason, lines) in other.reasons {
            *self.reasons.entry(reason).or_default() += lines;
        }
        self.first_set_aside.extend(other.first_set_aside);
        self.rejected += other.rejected;
        self.unrecognised_files += other.unrecognised_files;
        self.out_of_window += other.out_of_window;
        self.out_of_window_updated_inside += other.out_of_window_updated_inside;
        self.margin += other.margin;
        self.rescued += other.rescued;
        self.duplicate_keys += other.duplicate_keys;
        self.cut_reactions.extend(other.cut_reactions);
        self.cells.extend(other.cells);
        self.channels_returned.extend(other.channels_returned);
        self.users_returned.extend(other.users_returned);
        self.without_author += other.without_author;
    }
}
