//! The cells of an exported span as they will stand in the log.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::Pipeline;
use super::exports::Requests;
use crate::decode::Tally;
use crate::error::Result;
use crate::kinds::Kinds;
use crate::lake::revisit::remember;
use crate::lake::{CellRecord, Cover, Covered, DataFile, Exception, Lists, Revisit, State};
use crate::plan::{Span, after};
use crate::schema::DATASETS;
use crate::sort::collector::belongs_to_cells;
use crate::window::Window;
use crate::write::{Content, Written};

impl Pipeline<'_> {
    /// The cells as they will stand in the log. Files of cells that came out as they were are thrown away again.
    pub(super) async fn covers(
        &self,
        state: &State,
        span: &Span,
        requests: &Requests,
        tally: &Tally,
        written: Written,
    ) -> Result<(Vec<Cover>, Vec<DataFile>, Vec<Window>)> {
        let exported_at = requests.exported_at.unwrap_or(Timestamp::MIN);
        let mut shared = CellRecord {
            lists: Lists {
                missing_channels: requests.missing.iter().cloned().collect(),
                failed_channels: requests
                    .failed
                    .iter()
                    .map(|(cid, reason)| Exception { cid: cid.clone(), reason: reason.clone() })
                    .collect(),
                task_ids: requests.task_ids.clone(),
                ..Lists::default()
            },
            ..CellRecord::default()
        };
        if span.only.is_none() && !span.merges {
            // Long ones are not held once for each cell of years.
            self.lake.put_lists_aside(&mut shared, &mut HashSet::new()).await?;
        }
        let mut last_lists = (None, Lists::default());
        let mut covers = Vec::new();
        let mut unchanged = Vec::new();
        for (index, (cell, window)) in written.cells.iter().enumerate() {
            let cell = *cell;
            let contents: BTreeMap<&str, Content> = DATASETS
                .iter()
                .enumerate()
                .filter(|(dataset, _)| belongs_to_cells(*dataset))
                .map(|(_, name)| (*name, written.contents.get(&(cell, *name)).copied().unwrap_or_default()))
                .collect();
            let keep_files = match &span.only {
                _ if written.damaged.contains(window) => false,
                None => span.replaces && is_unchanged(state, *window, &contents, &written.files, cell),
                Some(_) => is_as_it_was(state, *window, &contents),
            };
            if keep_files {
                unchanged.push(*window);
            }
            let is_revisit = span.replaces && !span.merges && span.only.is_none() && !written.damaged.contains(window);
            let found = is_revisit.then(|| revisit(state, *window, exported_at, &contents)).flatten();
            let before = state.covers_in(*window).flat_map(|covered| &covered.cover.record.revisits);
            // What is counted by line is known for the span: it stands with its first cell, so that sums are right.
            let first = index == 0;
            let count = |number: u64| if first { number } else { 0 };
            let record = CellRecord {
                channels_asked: requests.channels,
                channels_returned: tally.channels_returned.len() as u64,
                lists: shared.lists.clone(),
                lists_aside: shared.lists_aside.clone(),
                lines: if first {
                    tally.lines.iter().map(|(kind, lines)| ((*kind).to_owned(), *lines)).collect()
                } else {
                    BTreeMap::new()
                },
                rows: contents.iter().map(|(name, content)| ((*name).to_owned(), content.rows)).collect(),
                rejected: count(tally.rejected),
                unclassified: count(tally.unclassified.total()),
                unclassified_kinds: if first { tally.unclassified.clone() } else { Kinds::default() },
                out_of_window: count(tally.out_of_window),
                vanished: contents.values().map(|content| content.vanished).sum(),
                bytes_downloaded: count(requests.bytes),
                content: contents
                    .iter()
                    .map(|(name, content)| ((*name).to_owned(), format!("{:032x}", content.hash)))
                    .collect(),
                revisits: remember(before.cloned().chain(found)),
            };
            let mut cover =
                Cover { window: *window, exported_at, as_of: None, run_id: self.run_id, keep_files, record };
            if span.only.is_some()
                && let Some(filled) = state.covers_in(*window).next()
            {
                let name = filled.cover.record.lists_aside.as_ref().map(|aside| aside.xxh3.clone());
                // Cells of one export have one object between them.
                if name.is_none() || last_lists.0 != name {
                    last_lists = (name, self.lake.lists(&filled.cover.record).await?);
                }
                fill(&mut cover, &filled.cover, last_lists.1.clone());
            }
            if span.merges {
                for Covered { cover: before, .. } in state.covers_in(*window) {
                    // The order of covers is that of conversions, whenever their files were exported.
                    cover.exported_at = cover.exported_at.max(after(before.exported_at));
                    accumulate(&mut cover.record, &before.record, self.lake.lists(&before.record).await?);
                }
            }
            covers.push(cover);
        }
        let (dropped, add): (Vec<DataFile>, Vec<DataFile>) = written
            .files
            .into_iter()
            .map(|(_, file)| file)
            .partition(|file| file.cell.is_some_and(|cell| unchanged.contains(&cell)));
        self.discard(&dropped).await;
        Ok((covers, add, unchanged))
    }
}

/// A cover of a few channels becomes one of the whole cell: what it does not speak of is as it was.
fn fill(cover: &mut Cover, before: &Cover, lists: Lists) {
    cover.as_of = Some(before.complete_at());
    if cover.keep_files {
        // No row is of a task that brought nothing.
        cover.record.lists.task_ids.clear();
    }
    accumulate(&mut cover.record, &before.record, lists);
    cover.record.channels_asked = before.record.channels_asked;
    if cover.keep_files {
        cover.record.content.clone_from(&before.record.content);
    } else {
        // The hash of all rows is not known: the next revisit compares with nothing and writes the cell anew.
        cover.record.content.clear();
    }
}

/// Whether nothing new came for a cell and nothing vanished from it, so that what was written is what was there.
fn is_as_it_was(state: &State, window: Window, contents: &BTreeMap<&str, Content>) -> bool {
    let Some(before) = state.covers_in(window).next().map(|covered| &covered.cover.record) else { return false };
    contents.iter().all(|(name, content)| {
        // The hash is a sum over what came.
        content.hash == 0 && content.vanished == 0 && before.rows.get(*name).copied().unwrap_or(0) == content.rows
    })
}

/// A record that speaks of what came now speaks of what came before as well.
fn accumulate(record: &mut CellRecord, before: &CellRecord, lists: Lists) {
    record.channels_asked += before.channels_asked;
    record.channels_returned += before.channels_returned;
    record.lists.missing_channels.extend(lists.missing_channels);
    record.lists.missing_channels.sort_unstable();
    record.lists.missing_channels.dedup();
    for task_id in lists.task_ids {
        if !record.lists.task_ids.contains(&task_id) {
            record.lists.task_ids.push(task_id);
        }
    }
    for (kind, lines) in &before.lines {
        *record.lines.entry(kind.clone()).or_default() += lines;
    }
    record.rejected += before.rejected;
    record.unclassified += before.unclassified;
    record.unclassified_kinds.extend(&before.unclassified_kinds);
    record.out_of_window += before.out_of_window;
    record.bytes_downloaded += before.bytes_downloaded;
}

/// What exporting a cell again found; none if it was not exported before.
fn revisit(
    state: &State,
    window: Window,
    exported_at: Timestamp,
    contents: &BTreeMap<&str, Content>,
) -> Option<Revisit> {
    let changes = |dataset: &str| contents.get(dataset).map(|content| content.changes).unwrap_or_default();
    let previous_exported_at = state.covers_in(window).map(|covered| covered.cover.complete_at()).min()?;
    let (messages, reactions) = (changes("messages"), changes("reactions"));
    Some(Revisit { window, exported_at, previous_exported_at, messages, reactions })
}

/// Whether a cell holds what it held before, in as few files.
fn is_unchanged(
    state: &State,
    window: Window,
    contents: &BTreeMap<&str, Content>,
    files: &[(u32, DataFile)],
    cell: u32,
) -> bool {
    let mut before: BTreeMap<&str, u128> = contents.keys().map(|name| (*name, 0)).collect();
    for covered in state.covers_in(window) {
        // Its files have other columns, or hold what is left out by now.
        if covered.entry <= state.columns().entry {
            return false;
        }
        for (name, hash) in &mut before {
            // The hash is a sum over rows, so that of a day is the sum of those of its hours.
            let old = covered.cover.record.content.get(*name).and_then(|text| u128::from_str_radix(text, 16).ok());
            let Some(old) = old else { return false };
            *hash = hash.wrapping_add(old);
        }
    }
    let same = state.covers_in(window).next().is_some()
        && state.uncovered(window).is_empty()
        && contents.iter().all(|(name, content)| content.vanished == 0 && before.get(name) == Some(&content.hash));
    let mut counts: HashMap<(&str, &str), i64> = HashMap::new();
    for live in state.files_of(window) {
        *counts.entry((&live.file.dataset, &live.file.partition)).or_default() += 1;
    }
    for (_, file) in files.iter().filter(|(of, _)| *of == cell) {
        *counts.entry((&file.dataset, &file.partition)).or_default() -= 1;
    }
    same && counts.values().all(|more| *more <= 0)
}
