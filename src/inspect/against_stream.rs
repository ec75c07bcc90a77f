//! A sample of channel-days exported from Stream again and compared, message by message, with what the lake holds.
//!
//! What Stream has and the lake lacks is a loss. What the lake has and Stream lacks is gone since, what differs has changed since:
//! both are to be expected of a chat, unless Stream itself says that the change is older than the export.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::Path as FsPath;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use jiff::{SignedDuration, Timestamp};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::verify::Differences;
use super::verify_rows::{blocking, fetch};
use crate::columns::Schemas;
use crate::cpu::Cpu;
use crate::decode::{Routes, Task};
use crate::error::{Error, Kind, Result};
use crate::export::{
    Asked, Client, Discovery, Download, ExportOptions, ExportRequest, ExportTask, ExportVersion, Selection, TaskError,
};
use crate::figures::count;
use crate::lake::{DataFile, Identity, Key, Lake, Source, State};
use crate::pipeline::MARGIN;
use crate::pipeline::file_decoder::{FileDecoder, FileError, Rows};
use crate::schema::DATASETS;
use crate::window::Window;
use crate::write::parquet_read::ReadError;

/// Channels in one request: what Stream documents.
const CHANNELS_PER_REQUEST: usize = 25;
/// Pages of channels that Stream is asked for to find some that the lake may lack altogether.
const MAX_PAGES: usize = 20;
/// How long Stream may work on one export.
const DEADLINE: SignedDuration = SignedDuration::from_hours(24);

const COLUMNS: [&str; 8] =
    ["cid", "id", "text", "updated_at", "deleted_at", "message_text_updated_at", "_vanished_at", "_exported_at"];

/// What to compare.
pub struct Sample<'a> {
    /// Stream.
    pub client: &'a Client,
    /// How many channel-days.
    pub channel_days: u32,
    /// Which ones.
    pub seed: u64,
}

impl Sample<'_> {
    /// A seed that nobody chose.
    pub fn fresh_seed() -> u64 {
        xxh3_64(uuid::Uuid::now_v7().as_bytes()) % 1_000_000_000
    }
}

/// What the comparison showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// The seed, to compare the same again.
    pub seed: u64,
    /// Channel-days that were compared.
    pub channel_days: u64,
    /// Channel-days that Stream could not export.
    pub not_exported: u64,
    /// Messages in them, as Stream has them now.
    pub messages: u64,
    /// Messages that the lake lacks.
    pub lost: u64,
    /// Messages that changed before they were exported, and differ.
    pub wrong: u64,
    /// Messages that Stream has no more.
    pub gone: u64,
    /// Messages that changed since.
    pub changed: u64,
}

impl StreamReport {
    pub(super) fn to_text(self) -> String {
        let Self { seed, channel_days, not_exported, messages, lost, wrong, gone, changed } = self;
        let (channel_days, messages) = (count(channel_days, "channel-day"), count(messages, "message"));
        let failed = if not_exported > 0 { format!(", {not_exported} could not be exported") } else { String::new() };
        format!(
            "  against Stream: {channel_days}{failed}, {messages}: {lost} lost, {wrong} wrong, \
             {gone} gone since, {changed} changed since (--seed {seed})\n"
        )
    }
}

/// A day, the lake's schemas, its cells with the time that each is complete up to, and copies of its files.
struct Day {
    schemas: Schemas,
    window: Window,
    cells: Vec<(Window, Timestamp)>,
    files: Vec<(Key, File)>,
}

/// A message as Stream has it now.
struct Seen {
    created_us: i64,
    updated_us: Option<i64>,
    deleted_us: Option<i64>,
    /// The latest of all its changes.
    changed_us: Option<i64>,
    /// The hash of its text; none when the lake leaves texts out.
    text: Option<u64>,
    is_in_lake: bool,
}

type Messages = HashMap<(String, String), Seen>;

/// Picks the sample and compares it, a day at a time.
pub(super) async fn check(
    lake: &Lake,
    identity: &Identity,
    state: &State,
    sample: &Sample<'_>,
    temp: Option<&FsPath>,
    found: &mut Differences,
) -> Result<StreamReport> {
    if identity.source != Source::Stream || identity.app_key != sample.client.app_key() {
        let message =
            format!("the lake at {} was not exported from app `{}`", lake.display_url(), sample.client.app_key());
        return Err(
            Error::new(Kind::Usage, message).hint("set STREAM_API_KEY and its secret to those of the lake's app")
        );
    }
    let mut report = StreamReport { seed: sample.seed, ..StreamReport::default() };
    let days: BTreeSet<Window> = state.covers().map(|covered| Window::day_of(covered.cover.window.since)).collect();
    let days: Vec<Window> = days.into_iter().collect();
    if days.is_empty() {
        return Ok(report);
    }
    let mut random = Random(sample.seed);
    let mut counts: BTreeMap<Window, usize> = BTreeMap::new();
    for _ in 0..sample.channel_days {
        *counts.entry(days[random.below(days.len())]).or_default() += 1;
    }
    for (window, count) in counts {
        let day = fetch_day(lake, state, window, temp).await?;
        let mut cids = candidates(lake, identity, state, sample.client, &day).await?;
        let picked = random.pick(&mut cids, count);
        for cids in picked.chunks(CHANNELS_PER_REQUEST) {
            compare(identity, sample.client, &day, cids, &mut report, found).await?;
        }
    }
    Ok(report)
}

async fn fetch_day(lake: &Lake, state: &State, window: Window, temp: Option<&FsPath>) -> Result<Day> {
    let cells = state.covers_in(window).map(|covered| (covered.cover.window, covered.cover.complete_at())).collect();
    let mut files = Vec::new();
    let messages: Vec<&DataFile> =
        state.files_of(window).map(|live| &live.file).filter(|file| file.dataset == "messages").collect();
    for file in messages {
        let Some((copy, _)) = fetch(lake, file, &file.staged_key(), temp).await? else {
            return Err(Error::new(
                Kind::Temporary,
                format!("`{}` is gone, or another run has replaced it", file.key()),
            )
            .hint("run the same command again"));
        };
        files.push((file.key(), copy));
    }
    let schemas = Schemas::new(&state.columns().columns)?;
    Ok(Day { schemas, window, cells, files })
}

/// The channels of a day: those that the lake has messages of and those that Stream lists, without those that are known to be
/// missing. In order, so that a seed means the same again.
async fn candidates(
    lake: &Lake,
    identity: &Identity,
    state: &State,
    client: &Client,
    day: &Day,
) -> Result<Vec<String>> {
    let mut cids = BTreeSet::new();
    for (_, copy) in &day.files {
        let copy = copy.try_clone().map_err(unreadable)?;
        let more = blocking(move || {
            let mut cids = BTreeSet::new();
            each_batch(copy, &["cid"], |batch| {
                for cid in text(batch, "cid").into_iter().flat_map(StringArray::iter).flatten() {
                    if !cids.contains(cid) {
                        cids.insert(cid.to_owned());
                    }
                }
            })?;
            Ok(cids)
        });
        cids.extend(more.await?);
    }
    let selection = Selection {
        cids: lake.channels(&identity.selection).await?.unwrap_or_default(),
        channel_types: identity.selection.channel_types.clone(),
        filter: identity.selection.filter.as_ref().and_then(|filter| filter.as_object().cloned()),
    };
    let mut discovery = Discovery::new(client, selection, Some(day.window.since), day.window.until);
    for _ in 0..MAX_PAGES {
        let Some(page) = discovery.next_page().await? else { break };
        cids.extend(page.into_iter().map(|channel| channel.cid));
    }
    for covered in state.covers_in(day.window) {
        let lists = lake.lists(&covered.cover.record).await?;
        for cid in lists.missing_channels.iter().chain(lists.failed_channels.iter().map(|exception| &exception.cid)) {
            cids.remove(cid);
        }
    }
    Ok(cids.into_iter().collect())
}

async fn compare(
    identity: &Identity,
    client: &Client,
    day: &Day,
    cids: &[String],
    report: &mut StreamReport,
    found: &mut Differences,
) -> Result<()> {
    let (since, until) = (day.cells[0].0.since, day.cells[day.cells.len() - 1].0.until);
    let request = ExportRequest {
        cids: cids.to_vec(),
        since: since.saturating_sub(MARGIN).unwrap_or(since),
        until: until.saturating_add(MARGIN).unwrap_or(until),
        options: ExportOptions {
            include_truncated_messages: identity.include.truncated_messages,
            include_soft_deleted_channels: identity.include.soft_deleted_channels,
            clear_deleted_message_text: identity.include.clear_deleted_message_text,
            export_users: identity.include.users,
            version: ExportVersion::V2,
        },
    };
    let mut messages = Messages::new();
    let mut compared: HashSet<String> = HashSet::new();
    let mut asking = client.asking(request)?;
    while let Some(asked) = asking.next().await? {
        match asked {
            Asked::Task(task) => match read_task(client, day, &task, &mut messages).await? {
                true => compared.extend(task.cids),
                false => report.not_exported += task.cids.len() as u64,
            },
            // A channel that Stream does not know any more has none of its messages.
            Asked::Missing(cids) => compared.extend(cids),
            Asked::Unanswered(_, error) => return Err(error),
        }
    }
    report.channel_days += compared.len() as u64;
    report.messages += messages.len() as u64;
    let compared = Arc::new(compared);
    for (key, copy) in &day.files {
        let (copy, cells, of) = (copy.try_clone().map_err(unreadable)?, day.cells.clone(), Arc::clone(&compared));
        let compare = blocking(move || {
            let mut outcome = Outcome::default();
            each_batch(copy, &COLUMNS, |batch| outcome.rows(batch, &of, &cells, &mut messages))?;
            Ok((messages, outcome))
        });
        let (back, outcome) = compare.await?;
        messages = back;
        report.gone += outcome.gone;
        report.changed += outcome.changed;
        report.wrong += outcome.wrong;
        if let Some(first) = outcome.first_wrong {
            let what = format!(
                "has {} as they were before an earlier change; the first: {first}",
                count(outcome.wrong, "message")
            );
            found.add(key, what, again(day.window));
        }
    }
    report.lost += lost(day, &messages, found);
    Ok(())
}

fn again(day: Window) -> String {
    format!("export the day again: chatlake sync --replace --since {} --until {}", day.since, day.until)
}

/// Messages that no row was found for, by channel.
fn lost(day: &Day, messages: &Messages, found: &mut Differences) -> u64 {
    let mut lost: BTreeMap<&str, Vec<(&str, i64)>> = BTreeMap::new();
    for ((cid, id), seen) in messages {
        let complete_at = complete_at(&day.cells, seen.created_us);
        if !seen.is_in_lake && complete_at.is_some_and(|at| seen.created_us < at) {
            lost.entry(cid).or_default().push((id, seen.created_us));
        }
    }
    let mut total = 0;
    for (cid, mut messages) in lost {
        messages.sort_by_key(|message| (message.1, message.0));
        total += messages.len() as u64;
        let (id, created_us) = messages[0];
        let at = Timestamp::from_microsecond(created_us).unwrap_or_default();
        let what = format!("lacks {} of `{cid}`; the first: `{id}`, created {at}", count(messages.len(), "message"));
        found.add(format!("messages/event_date={}", day.window.date()), what, again(day.window));
    }
    total
}

/// Up to when the cell of an instant is complete.
fn complete_at(cells: &[(Window, Timestamp)], us: i64) -> Option<i64> {
    let inside = |(window, _): &&(Window, Timestamp)| {
        (window.since.as_microsecond()..window.until.as_microsecond()).contains(&us)
    };
    cells.iter().find(inside).map(|(_, at)| at.as_microsecond())
}

/// How the rows of a file compare.
#[derive(Default)]
struct Outcome {
    gone: u64,
    changed: u64,
    wrong: u64,
    first_wrong: Option<String>,
}

impl Outcome {
    fn rows(
        &mut self,
        batch: &RecordBatch,
        of: &HashSet<String>,
        cells: &[(Window, Timestamp)],
        messages: &mut Messages,
    ) {
        let (Some(cids), Some(ids)) = (text(batch, "cid"), text(batch, "id")) else { return };
        let time = |name: &str, row: usize| {
            let times = times(batch, name)?;
            times.is_valid(row).then(|| times.value(row))
        };
        for row in (0..batch.num_rows()).filter(|row| of.contains(cids.value(*row))) {
            let vanished = time("_vanished_at", row).is_some();
            let Some(seen) = messages.get_mut(&(cids.value(row).to_owned(), ids.value(row).to_owned())) else {
                self.gone += u64::from(!vanished);
                continue;
            };
            seen.is_in_lake = true;
            let same = seen.updated_us == time("updated_at", row)
                && seen.deleted_us == time("deleted_at", row)
                && seen.text.is_none_or(|text| text == text_hash(batch, row))
                && !vanished;
            if same {
                continue;
            }
            // What a row shows is as old as the export that brought it; the cell as a whole may be newer or older.
            let shown_at = [complete_at(cells, seen.created_us), time("_exported_at", row)].into_iter().flatten().min();
            let is_older = !vanished && seen.changed_us.zip(shown_at).is_some_and(|(changed, shown)| changed < shown);
            if is_older {
                self.wrong += 1;
                self.first_wrong.get_or_insert_with(|| format!("`{}` of `{}`", ids.value(row), cids.value(row)));
            } else {
                self.changed += 1;
            }
        }
    }
}

/// Waits for an export and takes its messages in; false when Stream fails it.
async fn read_task(client: &Client, day: &Day, task: &ExportTask, messages: &mut Messages) -> Result<bool> {
    let file = match client.wait_for_task(task, DEADLINE).await {
        Ok(file) => file,
        Err(error @ (TaskError::Failed { .. } | TaskError::Unknown { .. } | TaskError::Overdue { .. })) => {
            tracing::warn!(task_id = task.task_id, why = %error, "an export failed");
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    let cells: Vec<Window> = day.cells.iter().map(|(window, _)| *window).collect();
    let margin_us = i64::try_from(MARGIN.as_micros()).unwrap_or(0);
    let task = Task {
        task_id: task.task_id.clone(),
        exported_at: file.exported_at,
        channels: Some(Arc::new(task.cids.iter().cloned().collect())),
        users: None,
        superseded: Arc::default(),
        routes: Arc::new(Routes::new(&cells, margin_us, file.exported_at, false)),
        keep_raw: false,
    };
    let task_id = task.task_id.clone();
    let decoder = FileDecoder::new(&day.schemas, ExportVersion::V2, task, Messages::new());
    match decoder.read(&mut Download::new(client, file), Cpu::Threads, |_| {}).await {
        Ok((_, more)) => {
            messages.extend(more);
            Ok(true)
        }
        Err(FileError::Broken(why)) => {
            tracing::warn!(task_id, why, "an export failed");
            Ok(false)
        }
        Err(FileError::Download(error)) => Err(error.into()),
        Err(FileError::Other(error)) => Err(error),
    }
}

impl Rows for Messages {
    fn take(&mut self, dataset: usize, batch: RecordBatch) -> Result<()> {
        take_in((dataset, batch), self);
        Ok(())
    }
}

fn take_in((dataset, batch): (usize, RecordBatch), messages: &mut Messages) {
    let (Some(cids), Some(ids), Some(created_at)) =
        (text(&batch, "cid"), text(&batch, "id"), times(&batch, "created_at"))
    else {
        return;
    };
    if DATASETS[dataset] != "messages" {
        return;
    }
    for row in 0..batch.num_rows() {
        let time = |name: &str| times(&batch, name).filter(|times| times.is_valid(row)).map(|times| times.value(row));
        let (updated_us, deleted_us) = (time("updated_at"), time("deleted_at"));
        let seen = Seen {
            created_us: created_at.value(row),
            updated_us,
            deleted_us,
            changed_us: updated_us.max(deleted_us).max(time("message_text_updated_at")),
            text: batch.column_by_name("text").map(|_| text_hash(&batch, row)),
            is_in_lake: false,
        };
        let key = (cids.value(row).to_owned(), ids.value(row).to_owned());
        if messages.get(&key).is_none_or(|other| other.updated_us < seen.updated_us) {
            messages.insert(key, seen);
        }
    }
}

fn each_batch(copy: File, columns: &[&str], mut each: impl FnMut(&RecordBatch)) -> Result<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(copy).map_err(ReadError::from)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    for batch in builder.with_projection(mask).build().map_err(ReadError::from)? {
        each(&batch.map_err(ReadError::from)?);
    }
    Ok(())
}

fn text<'b>(batch: &'b RecordBatch, name: &str) -> Option<&'b StringArray> {
    batch.column_by_name(name)?.as_string_opt::<i32>()
}

fn times<'b>(batch: &'b RecordBatch, name: &str) -> Option<&'b TimestampMicrosecondArray> {
    batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()
}

fn text_hash(batch: &RecordBatch, row: usize) -> u64 {
    let text = text(batch, "text").filter(|text| text.is_valid(row)).map(|text| text.value(row));
    text.map_or(0, |text| xxh3_64(text.as_bytes()))
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(Kind::Temporary, "an export or a file of the lake cannot be read to its end")
        .because(error)
        .hint("run the same command again; if it stays so, look at the room in --temp-dir")
}

/// SplitMix64: the same numbers from the same seed, on every machine and in every version.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }

    /// So many of these, or all.
    fn pick(&mut self, from: &mut [String], count: usize) -> Vec<String> {
        let count = count.min(from.len());
        for at in 0..count {
            let other = at + self.below(from.len() - at);
            from.swap(at, other);
        }
        from[..count].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_picks_the_same_and_nothing_twice() {
        let pick = |seed| {
            let mut from: Vec<String> = (0..20).map(|number| number.to_string()).collect();
            Random(seed).pick(&mut from, 8)
        };
        assert_eq!(pick(7), pick(7));
        assert_ne!(pick(7), pick(8));
        assert_eq!(pick(7).into_iter().collect::<BTreeSet<_>>().len(), 8);
        assert_eq!(Random(1).pick(&mut ["a".to_owned()], 5), ["a"]);
    }
}
