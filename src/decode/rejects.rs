//! What cannot be used: counted, noted for people, and kept in quarantine with its reason and place.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::context::{Reject, Surroundings};
use super::object::Row;
use super::scan::Scan;
use super::set_aside::{SetAside, excerpt};
use super::table::Place;
use super::{At, Decoder, NO_CELL, OTHER, QUARANTINE};
use crate::json::{Index, Value};
use crate::kinds;
use crate::ndjson::Line;

impl Decoder {
    /// A line of a kind that has no dataset of its own.
    pub(super) fn unclassified(&mut self, at: At, kind: &str, raw: &str) {
        let kind = kinds::name(kind);
        self.tally.unclassified.add(&kind, 1);
        self.note(at, "unclassified", Some(&format!("kind `{kind}`")), raw.as_bytes());
        if self.task.users.is_some() {
            self.other(&kind, raw);
        } else {
            self.quarantine(&Reject { kind: Some(&kind), ..at.reject("unclassified", raw) }, None);
        }
    }

    /// Keeps a line of a user export that is of no known kind: whole, with what can be told of it.
    fn other(&mut self, kind: &str, raw: &str) {
        let (plan, task) = (Arc::clone(&self.plan), Arc::clone(&self.task));
        let kind = Reject { kind: Some(kind), ..Reject::default() };
        let around = Surroundings { raw: Some(raw), reject: Some(&kind), owner: task.owner(), ..task.surroundings() };
        let columns = &plan.tables[OTHER].object;
        // Of what is no object nothing can be told.
        let mut index = Index::default();
        let line = index.parse(raw).ok().and_then(|line| Scan::of(&columns.keys, payload(line)));
        let scan = line.unwrap_or_default();
        let place = self.snapshot.clone();
        let table = &mut self.tables[OTHER];
        table.append(columns, &scan, &around, 0, &place, raw.len(), &mut Row::default());
        if table.is_full()
            && let Some(batch) = table.take_batch()
        {
            self.ready.push((OTHER, batch));
        }
    }

    pub(super) fn reject(&mut self, at: At, reason: &'static str, detail: &str, raw: &str, kind: Option<&str>) {
        self.count_reject(at, reason, detail, raw.as_bytes());
        self.quarantine(&Reject { detail: Some(detail), kind, ..at.reject(reason, raw) }, None);
    }

    fn count_reject(&mut self, at: At, reason: &'static str, detail: &str, line: &[u8]) {
        self.tally.rejected += 1;
        *self.tally.reasons.entry(reason).or_default() += 1;
        self.note(at, reason, Some(detail), line);
    }

    /// Keeps the line for people, if it is one of the first.
    pub(super) fn note(&mut self, at: At, reason: &'static str, detail: Option<&str>, line: &[u8]) {
        let task = &self.task;
        self.tally.first_set_aside.add(reason, at.number, || SetAside {
            task_id: task.task_id.clone(),
            path: None,
            line_number: at.number,
            reason,
            detail: detail.map(|detail| excerpt(detail.as_bytes())),
            excerpt: excerpt(line),
        });
    }

    /// A line whose text is no JSON that can be looked into.
    pub(super) fn reject_text(&mut self, at: At, line: Line<'_>, text: &str, reason: &'static str, detail: &str) {
        if self.exclusions.is_empty() {
            self.reject(at, reason, detail, text, None);
        } else {
            self.reject_bytes(at, line, reason, detail);
        }
    }

    pub(super) fn reject_bytes(&mut self, at: At, line: Line<'_>, reason: &'static str, detail: &str) {
        // What must be left out cannot be found in it.
        let withheld = format!("{detail}; its bytes are withheld, since exclusions are set");
        let (detail, shown, encoded) = if self.exclusions.is_empty() {
            (detail, line.bytes, Some(BASE64_STANDARD.encode(line.bytes)))
        } else {
            (withheld.as_str(), &b""[..], None)
        };
        self.count_reject(at, reason, detail, shown);
        let reject = Reject {
            detail: Some(detail),
            bytes: line.length,
            line: None,
            line_base64: encoded.as_deref(),
            ..at.reject(reason, "")
        };
        self.quarantine(&reject, None);
    }

    pub(super) fn quarantine(&mut self, reject: &Reject<'_>, cid: Option<&str>) {
        let plan = Arc::clone(&self.plan);
        let task = Arc::clone(&self.task);
        let around = Surroundings { reject: Some(reject), cid, ..task.surroundings() };
        let place = Place { cell: NO_CELL, partition: task.routes.quarantine().into() };
        let bytes = reject.line.map_or(0, str::len) + reject.line_base64.map_or(0, str::len);
        let scan = Scan::default();
        let mut row = Row::default();
        let table = &mut self.tables[QUARANTINE];
        table.append(&plan.tables[QUARANTINE].object, &scan, &around, 0, &place, bytes, &mut row);
        if table.is_full()
            && let Some(batch) = table.take_batch()
        {
            self.ready.push((QUARANTINE, batch));
        }
    }
}

/// What stands in an envelope: under `data` or `item`, or under the only key; the object itself where there is none.
fn payload(line: Value<'_>) -> Value<'_> {
    let Some(entries) = line.entries() else { return line };
    let mut objects = entries.filter(|(key, _)| key != "type").take(2);
    match (objects.next(), objects.next()) {
        (Some((_, only)), None) if only.is_object() => only,
        _ => line,
    }
}

impl At {
    pub(super) fn reject<'a>(&self, reason: &'static str, raw: &'a str) -> Reject<'a> {
        Reject {
            reason,
            line_number: self.number,
            line_offset: self.offset,
            bytes: raw.len() as u64,
            line: Some(raw),
            ..Reject::default()
        }
    }
}
