//! Lines into rows: what a line is, where it belongs, and its values straight into Arrow columns.
//!
//! A [`Decoder`] takes the lines of one export task and yields record batches of every dataset. It holds no tree and no
//! text of a row: a line is scanned once for its keys, and each value goes from its bytes to its column. What cannot be
//! used becomes a row of `quarantine`, with the reason and the line itself.

mod column;
mod context;
mod cut_reactions;
mod element;
pub mod envelope;
pub mod exclude;
mod fork;
mod hashed;
mod message_index;
mod nested;
mod object;
mod part;
mod path;
mod plan;
mod reaction;
mod rejects;
mod route;
mod scan;
mod set_aside;
mod spool;
mod table;
mod tally;
mod value;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use jiff::Timestamp;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use self::context::{Reject, Surroundings};
use self::cut_reactions::CutReactions;
use self::element::address;
use self::envelope::Kind;
use self::exclude::Exclusions;
use self::hashed::HashedSet;
use self::message_index::MessageIndex;
use self::object::{Row, missing, text_of, time_of};
pub use self::plan::MAX_KEYS;
pub(crate) use self::plan::Plan;
use self::plan::{SlotSet, TablePlan};
pub use self::route::{NO_CELL, NumberedCells, Route, Routes, day_of_cell, numbered};
use self::scan::{Scan, whole_characters};
pub(crate) use self::set_aside::excerpt;
pub use self::set_aside::{FirstSetAside, SetAside};
use self::spool::Spool;
pub use self::table::{HIDDEN_COLUMNS, hidden_schema};
use self::table::{Place, Table};
pub use self::tally::Tally;
use crate::columns::Schemas;
use crate::json::{Index, JsonError, Value};
use crate::ndjson::Line;

/// Hashes of objects seen, beyond which the memory of them starts anew.
const MAX_SEEN: usize = 1 << 16;

const MESSAGES: usize = 0;
const REACTIONS: usize = 1;
const OTHER: usize = 7;
const QUARANTINE: usize = 8;

/// What was asked for, which tells what to expect.
#[derive(Clone, Debug)]
pub struct Task {
    /// The export task.
    pub task_id: String,
    /// When Stream made it.
    pub exported_at: Timestamp,
    /// The channels it was asked for; none when nobody asked (files on disk).
    pub channels: Option<Arc<HashSet<String>>>,
    /// The users that it was asked for, when it is an export of users.
    pub users: Option<Arc<HashSet<String>>>,
    /// Those of them that a later export brings: the messages and reactions of such channels, the messages of such users, are
    /// passed over.
    pub superseded: Arc<HashSet<String>>,
    /// The cells of the span.
    pub routes: Arc<Routes>,
    /// Whether rows keep the JSON they came from.
    pub keep_raw: bool,
}

/// The identity of a message in [`Tally::cut_reactions`].
pub fn message_key(message_id: &str) -> u64 {
    xxh3_64(message_id.as_bytes())
}

/// Turns the lines of one task into record batches, each with its dataset's place in [`crate::schema::DATASETS`].
pub struct Decoder {
    plan: Arc<Plan>,
    exclusions: Arc<Exclusions>,
    /// The channel of the array's element that parts come from, once it is known.
    element: (u64, Option<String>),
    /// A part under its key.
    keyed: Vec<u8>,
    /// Where the values of the line at hand are.
    index: Index,
    /// The line at hand is a part of one that was too large.
    is_taken_apart: bool,
    task: Arc<Task>,
    tables: Vec<Table>,
    row: Row,
    seen: HashedSet,
    /// When each message of this task was created, and in which channel: reactions on lines of their own need it.
    messages: MessageIndex,
    /// The channel of the last message.
    channel: Channel,
    /// Where rows go that belong to the export as a whole.
    snapshot: Place,
    temp_dir: Option<PathBuf>,
    cids: Vec<String>,
    cid_numbers: HashMap<String, u32>,
    waiting: Spool,
    /// Parts of the element that came before its channel, and need it.
    early: Spool,
    cut_reactions: CutReactions,
    /// Rows that the message at hand made of its reactions.
    reaction_rows: usize,
    tally: Tally,
    ready: Vec<(usize, RecordBatch)>,
}

/// What the messages of a channel have in common.
#[derive(Debug, Default)]
struct Channel {
    cid: String,
    number: u32,
    is_asked_for: bool,
    is_superseded: bool,
    /// Where the last one went.
    place: Option<Place>,
}

/// Where an object stands in the file.
#[derive(Clone, Copy, Default)]
struct At {
    number: u64,
    offset: u64,
    /// Envelopes that were opened because what was in them was another.
    opened: u8,
    /// It has waited for the channel of its element, and none came.
    is_late: bool,
}

impl Decoder {
    /// A decoder for the lines of `task`, into rows of these schemas.
    pub fn new(schemas: &Schemas, task: Task) -> Self {
        let plan = Arc::clone(schemas.plan());
        let tables = schemas.iter().zip(&plan.tables).map(|(schema, table)| Table::new(schema, &table.arrow)).collect();
        Self::with(plan, Arc::clone(schemas.exclusions()), tables, Arc::new(task))
    }

    fn with(plan: Arc<Plan>, exclusions: Arc<Exclusions>, tables: Vec<Table>, task: Arc<Task>) -> Self {
        Self {
            index: Index::of(Arc::clone(&plan.names)),
            plan,
            exclusions,
            element: (0, None),
            keyed: Vec::new(),
            is_taken_apart: false,
            snapshot: Place { cell: NO_CELL, partition: task.routes.partition(NO_CELL, None).into() },
            task,
            tables,
            row: Row::default(),
            seen: HashedSet::default(),
            messages: MessageIndex::default(),
            channel: Channel::default(),
            temp_dir: None,
            cids: Vec::new(),
            cid_numbers: HashMap::new(),
            waiting: Spool::default(),
            early: Spool::default(),
            cut_reactions: CutReactions::default(),
            reaction_rows: 0,
            tally: Tally::default(),
            ready: Vec::new(),
        }
    }

    /// Spills to this folder, instead of the system's.
    #[must_use]
    pub fn with_temp_dir(mut self, temp_dir: Option<&Path>) -> Self {
        self.temp_dir = temp_dir.map(Path::to_owned);
        self
    }

    /// Takes one line. The only error is that of a full temporary disk.
    pub fn line(&mut self, line: Line<'_>) -> io::Result<()> {
        let at = At { number: line.number, offset: line.offset, ..At::default() };
        if line.is_too_long() {
            let detail = format!("{} bytes; only its beginning is kept", line.length);
            self.reject_bytes(at, line, "line_too_long", &detail);
            return Ok(());
        }
        let text = match simdutf8::compat::from_utf8(line.bytes) {
            Ok(text) => text,
            Err(error) => {
                self.reject_bytes(at, line, "not_utf8", &error.to_string());
                return Ok(());
            }
        };
        let Some(whole) = whole_characters(text) else {
            self.reject_text(at, line, text, "not_json", "an escape `\\u` without four digits");
            return Ok(());
        };
        let mut index = std::mem::take(&mut self.index);
        let parsed = match index.parse(&whole) {
            Ok(value) if self.exclusions.is_empty() => Ok(self.shape(value, at)),
            Ok(value) => {
                let kept = self.exclusions.line(value);
                index.parse(&kept).map(|value| self.shape(value, at))
            }
            Err(error) => Err(error),
        };
        self.index = index;
        match parsed {
            Ok(taken) => taken,
            Err(JsonError::TooMany) => self.take_apart(line, &whole),
            Err(error) => {
                let reason = if error == JsonError::TooDeep { "too_deep" } else { "not_json" };
                self.reject_text(at, line, text, reason, &error.to_string());
                Ok(())
            }
        }
    }

    /// Batches that are full.
    pub fn take_ready(&mut self) -> Vec<(usize, RecordBatch)> {
        std::mem::take(&mut self.ready)
    }

    /// The end of the file: what is left, and what the lines were.
    pub fn finish(mut self) -> io::Result<(Vec<(usize, RecordBatch)>, Tally)> {
        self.take_early()?;
        let mut index = std::mem::take(&mut self.index);
        loop {
            let is_last_chance = !self.messages.has_earlier();
            let mut waiting = std::mem::take(&mut self.waiting);
            waiting.drain(|number, offset, text| {
                if let Ok(value) = index.parse(text) {
                    self.reaction(value, At { number, offset, ..At::default() }, is_last_chance)?;
                }
                Ok(())
            })?;
            if is_last_chance {
                break;
            }
            self.messages.load_earlier()?;
        }
        self.empty_tables();
        self.tally.cut_reactions = self.cut_reactions.finish();
        let strange = self.tally.rejected + self.tally.unclassified.strange();
        self.tally.unrecognised_files = u64::from(self.tally.lines.is_empty() && strange > 0);
        Ok((self.ready, self.tally))
    }

    fn empty_tables(&mut self) {
        let rest = self.tables.iter_mut().enumerate().filter_map(|(table, rows)| Some((table, rows.take_batch()?)));
        self.ready.extend(rest);
    }

    fn entity(&mut self, kind: Kind, object: Value<'_>, cid: Option<&str>, at: At) -> io::Result<()> {
        *self.tally.lines.entry(kind.dataset()).or_default() += 1;
        match kind {
            Kind::Message => self.message(object, cid, at),
            Kind::Reaction => {
                if self.task.users.is_some() {
                    self.returned(object.get("user_id").and_then(Value::text).as_deref());
                }
                self.reaction(object, at, false)
            }
            kind => self.snapshot(kind, object, cid, at),
        }
    }

    fn message(&mut self, object: Value<'_>, cid: Option<&str>, at: At) -> io::Result<()> {
        let raw = object.raw();
        let plan = Arc::clone(&self.plan);
        let TablePlan { object: columns, well_known, .. } = &plan.tables[MESSAGES];
        let Some(scan) = Scan::of(&columns.keys, object) else {
            self.reject(at, "not_an_object", "a message should be one", raw, Some("messages"));
            return Ok(());
        };
        let task = Arc::clone(&self.task);
        let raw_kept = task.keep_raw.then_some(raw);
        let around = Surroundings { cid, raw: raw_kept, owner: task.owner(), ..task.surroundings() };
        if let Some(lack) = missing(columns, &scan, &around) {
            return self.incomplete(Kind::Message, object, cid, at, &lack);
        }
        let text = |column: Option<usize>| text_of(&columns.columns[column?], &scan, &around);
        let time = |column: Option<usize>| time_of(&columns.columns[column?], &scan);
        let (Some(id), Some(cid), Some(created_at_us)) =
            (text(well_known.id), text(well_known.cid), time(well_known.created_at))
        else {
            return Ok(());
        };
        if self.channel.cid != cid {
            self.enter_channel(&cid);
        }
        if !self.channel.is_asked_for {
            self.reject(at, "channel_not_asked_for", &cid, raw, Some("messages"));
            return Ok(());
        }
        let key = message_key(&id);
        self.messages.insert(key, (created_at_us, self.channel.number), self.temp_dir.as_deref())?;
        let is_superseded = if task.users.is_some() {
            let author = text(well_known.user_id);
            self.tally.without_author += u64::from(author.is_none());
            self.returned(author.as_deref());
            author.is_some_and(|author| task.superseded.contains(author.as_ref()))
        } else {
            self.channel.is_superseded
        };
        if is_superseded {
            return Ok(());
        }
        let cell = match task.routes.route(created_at_us) {
            Route::Cell(cell) => cell,
            Route::Margin => {
                self.tally.margin += 1;
                return Ok(());
            }
            Route::Outside => {
                self.tally.out_of_window += 1;
                let updated_inside = time(well_known.updated_at).is_some_and(|at_us| task.routes.is_near(at_us));
                self.tally.out_of_window_updated_inside += u64::from(updated_inside);
                self.note(at, "out_of_window", None, raw.as_bytes());
                let reject = Reject { created_at_us: Some(created_at_us), ..at.reject("out_of_window", raw) };
                self.quarantine(&Reject { kind: Some("messages"), ..reject }, Some(&cid));
                return Ok(());
            }
        };
        if self.channel.place.as_ref().is_none_or(|place| place.cell != cell) {
            self.tally.cells.insert(cell);
            self.channel.place = Some(Place { cell, partition: task.routes.partition(cell, Some(&cid)).into() });
        }
        let Some(place) = self.channel.place.clone() else { return Ok(()) };
        let children = Surroundings {
            cid: Some(&cid),
            message_id: Some(&id),
            message_created_at_us: Some(created_at_us),
            ..task.surroundings()
        };
        self.reaction_rows = 0;
        self.append(MESSAGES, &scan, &around, &children, &place, raw.len());
        let reactions = &plan.tables[REACTIONS].object;
        self.cut_reactions.message(key, columns, reactions, &scan, self.reaction_rows);
        Ok(())
    }

    /// Messages of one channel follow each other: what they have in common is looked up once.
    fn enter_channel(&mut self, cid: &str) {
        let is_asked_for = self.task.channels.as_ref().is_none_or(|channels| channels.contains(cid));
        if is_asked_for && !self.tally.channels_returned.contains(cid) {
            self.tally.channels_returned.insert(cid.to_owned());
        }
        self.channel = Channel {
            number: if is_asked_for { self.number_of(cid) } else { 0 },
            is_asked_for,
            is_superseded: self.task.superseded.contains(cid),
            place: None,
            cid: cid.to_owned(),
        };
    }

    /// Something came of this user.
    fn returned(&mut self, user_id: Option<&str>) {
        let Some((user_id, users)) = user_id.zip(self.task.users.as_ref()) else { return };
        if users.contains(user_id) && !self.tally.users_returned.contains(user_id) {
            self.tally.users_returned.insert(user_id.to_owned());
        }
    }

    fn snapshot(&mut self, kind: Kind, object: Value<'_>, cid: Option<&str>, at: At) -> io::Result<()> {
        let raw = object.raw();
        let table = dataset_index(kind);
        let task = Arc::clone(&self.task);
        let around = Surroundings { cid, ..task.surroundings() };
        if let Some(cid) = self.foreign_channel(kind, object, cid) {
            self.reject(at, "channel_not_asked_for", &cid, raw, Some(kind.dataset()));
            return Ok(());
        }
        if kind == Kind::User {
            self.returned(object.get("id").and_then(Value::text).as_deref());
        }
        let place = self.snapshot.clone();
        match self.row(table, object, &around, &place) {
            Ok(()) => Ok(()),
            Err(lack) => self.incomplete(kind, object, around.cid, at, &lack),
        }
    }

    /// The channel of a line, if it was not asked for.
    fn foreign_channel(&mut self, kind: Kind, object: Value<'_>, cid: Option<&str>) -> Option<String> {
        let cid = match kind {
            Kind::Channel => self.cid_of_channel(object)?,
            Kind::Member | Kind::Read => {
                let text = |key: &str| object.get(key).and_then(Value::text);
                address(text).or_else(|| cid.map(str::to_owned))?
            }
            _ => return None,
        };
        if self.task.channels.as_ref().is_some_and(|channels| !channels.contains(&cid)) {
            return Some(cid);
        }
        self.tally.channels_returned.insert(cid);
        None
    }

    /// Scans an object and appends it to a table. The error is a reason and what the object lacks.
    fn row(
        &mut self,
        table: usize,
        object: Value<'_>,
        around: &Surroundings<'_>,
        place: &Place,
    ) -> Result<(), (&'static str, String)> {
        let raw = object.raw();
        let plan = Arc::clone(&self.plan);
        if plan.tables[table].context_free {
            // The same user stands in every message it wrote.
            if self.seen.len() >= MAX_SEEN {
                self.seen.clear();
            }
            if !self.seen.insert(xxh3_128(raw.as_bytes()) ^ table as u128) {
                return Ok(());
            }
        }
        let TablePlan { object: columns, well_known, .. } = &plan.tables[table];
        let Some(scan) = Scan::of(&columns.keys, object) else {
            return Err(("not_an_object", format!("one of {} should be one", crate::schema::DATASETS[table])));
        };
        let around = Surroundings { raw: self.task.keep_raw.then_some(raw), ..*around };
        if let Some(lack) = missing(columns, &scan, &around) {
            return Err(lack);
        }
        let cid = well_known.cid.and_then(|column| text_of(&columns.columns[column], &scan, &around));
        let children = Surroundings { cid: cid.as_deref(), raw: None, ..around };
        self.append(table, &scan, &around, &children, place, raw.len());
        Ok(())
    }

    /// Appends a scanned object: first what it embeds, so that it keeps what did not fit elsewhere.
    fn append(
        &mut self,
        table: usize,
        scan: &Scan<'_>,
        around: &Surroundings<'_>,
        children: &Surroundings<'_>,
        place: &Place,
        bytes: usize,
    ) {
        let plan = Arc::clone(&self.plan);
        let consumed = self.embedded(&plan, table, scan, children, place);
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        self.tables[table].append(&plan.tables[table].object, scan, around, consumed, place, bytes, &mut row);
        self.tally.rescued += row.misfits.len() as u64;
        self.tally.duplicate_keys += row.duplicate_keys + scan.duplicate_keys;
        self.row = row;
        if self.tables[table].is_full()
            && let Some(batch) = self.tables[table].take_batch()
        {
            self.ready.push((table, batch));
        }
    }

    fn embedded(
        &mut self,
        plan: &Plan,
        table: usize,
        scan: &Scan<'_>,
        children: &Surroundings<'_>,
        place: &Place,
    ) -> SlotSet {
        let mut consumed = 0;
        let snapshot = self.snapshot.clone();
        for emit in &plan.tables[table].emits {
            let Some(value) = scan.present(emit.slot) else { continue };
            let place = if emit.table == REACTIONS { place } else { &snapshot };
            let mut complete = true;
            let mut emit_row = |object: Value<'_>| {
                let inner = match &emit.key {
                    Some(key) => object.get(key),
                    None => Some(object),
                };
                let is_row = inner
                    .filter(|inner| inner.is_object())
                    .is_some_and(|inner| self.row(emit.table, inner, children, place).is_ok());
                self.reaction_rows += usize::from(is_row && emit.table == REACTIONS);
                complete &= is_row;
            };
            if emit.each {
                value.elements().into_iter().flatten().for_each(&mut emit_row);
            } else {
                emit_row(value);
            }
            // An id in the place of an object, or a part of one that is kept whole elsewhere, is a column's business.
            let is_list = value.is_array();
            if emit.key.is_none() && complete && emit.each == is_list {
                consumed |= 1 << emit.slot;
            }
        }
        consumed
    }

    fn number_of(&mut self, cid: &str) -> u32 {
        if let Some(number) = self.cid_numbers.get(cid) {
            return *number;
        }
        let number = u32::try_from(self.cids.len()).unwrap_or(u32::MAX);
        self.cids.push(cid.to_owned());
        self.cid_numbers.insert(cid.to_owned(), number);
        number
    }
}

impl Task {
    /// The user whose export it is, if it is that of one alone.
    fn owner(&self) -> Option<&str> {
        let users = self.users.as_ref().filter(|users| users.len() == 1)?;
        users.iter().next().map(String::as_str)
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            exported_at_us: self.exported_at.as_microsecond(),
            export_task_id: Some(&self.task_id),
            ..Surroundings::default()
        }
    }
}

fn dataset_index(kind: Kind) -> usize {
    crate::schema::DATASETS.iter().position(|dataset| *dataset == kind.dataset()).unwrap_or(QUARANTINE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod columns_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod forms;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod part_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod round_trip;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod users_tests;
