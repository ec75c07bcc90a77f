//! The log up to an entry, folded, so that a reader need not begin at its beginning. A snapshot is only a shortcut: one
//! that is missing or damaged costs time, nothing else.
//!
//! It is compressed lines of JSON: a head, every cover, every live file, every export of users, and the hash of all lines before. So it is written
//! and read line by line, and the same state is always the same lines.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::{ObjectMeta, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::Lake;
use super::entry::READER_VERSION;
use super::layout::Key;
use super::state::{ColumnsAt, Covered, Live, Pending, State};
use super::store_error::store_error;
use super::user_export::ExportedUsers;
use crate::error::{Error, Kind, Result};

/// Entries from one snapshot to the next: the most that a reader replays, but for a snapshot whose writer died.
const EVERY: u64 = 100;
/// Snapshots that are kept: one to read, and one in case that it is damaged.
const KEPT: usize = 2;
/// The longest line that is read: far more than an entry of a year has pending.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// What is found of a snapshot that was listed.
#[derive(Debug)]
pub enum Snapshot {
    /// The state that it holds.
    Good(Box<State>),
    /// Something else.
    Damaged,
    /// Nothing: newer ones have superseded it meanwhile.
    Gone,
}

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Row<H, C, F, U> {
    Head(H),
    Cover(C),
    File(F),
    UserExport(U),
    /// The hash of the lines before, each with its end.
    Xxh3(String),
}

#[derive(Serialize, Deserialize)]
struct Head<P> {
    reader_version: u32,
    through: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<P>,
    #[serde(default)]
    single_writer_entries: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<ColumnsAt>,
}

impl Lake {
    /// Writes a snapshot when one is due after the last entry of `state`. Everybody's would hold the same lines, so one
    /// that is there already is as good.
    pub(super) async fn snapshot_if_due(&self, state: &State) {
        let through = state.next() - 1;
        if !through.is_multiple_of(EVERY) || through == 0 {
            return;
        }
        let bytes = match write(state) {
            Ok(bytes) => bytes,
            Err(error) => return tracing::warn!(%error, through, "the log's snapshot cannot be made"),
        };
        let key = Key::Snapshot(through).path();
        match self.store().put_opts(&key, bytes.into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) => {
                if let Err(error) = self.delete_superseded_snapshots().await {
                    tracing::warn!(%error, "the log's older snapshots are left behind");
                }
            }
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
            Err(error) => tracing::warn!(%error, through, "the log's snapshot cannot be written"),
        }
    }

    async fn delete_superseded_snapshots(&self) -> Result<()> {
        let superseded = self.snapshots().await?.into_iter().skip(KEPT);
        self.delete(superseded.map(|number| Key::Snapshot(number).path()).collect()).await
    }

    /// The numbers of the snapshots that are there, good or not, newest first.
    pub async fn snapshots(&self) -> Result<Vec<u64>> {
        let cannot = |error| store_error("cannot list the log's snapshots", self.display_url(), error);
        let listed: Vec<_> = self.store().list(Some(&Key::snapshots())).try_collect().await.map_err(cannot)?;
        let number = |object: &ObjectMeta| match Key::parse(&object.location)? {
            Key::Snapshot(number) => Some(number),
            _ => None,
        };
        let mut numbers: Vec<u64> = listed.iter().filter_map(number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// The state of the last good snapshot; of an empty log when there is none.
    pub(super) async fn last_snapshot(&self) -> Result<State> {
        for through in self.snapshots().await? {
            match self.snapshot(through).await? {
                Snapshot::Good(state) => return Ok(*state),
                Snapshot::Damaged => {
                    tracing::warn!(through, "the log's snapshot is damaged, reading the log from an earlier one");
                }
                Snapshot::Gone => {}
            }
        }
        Ok(State::default())
    }

    /// Reads the snapshot through this entry.
    pub async fn snapshot(&self, through: u64) -> Result<Snapshot> {
        let cannot = |error| store_error("cannot read the log's snapshots", self.display_url(), error);
        match self.store().get(&Key::Snapshot(through).path()).await {
            Ok(found) => Ok(match read(through, &found.bytes().await.map_err(cannot)?)? {
                Some(state) => Snapshot::Good(Box::new(state)),
                None => Snapshot::Damaged,
            }),
            Err(object_store::Error::NotFound { .. }) => Ok(Snapshot::Gone),
            Err(error) => Err(cannot(error)),
        }
    }
}

/// The bytes of a state's snapshot.
pub fn write(state: &State) -> io::Result<Vec<u8>> {
    let mut lines =
        Lines { gzip: GzEncoder::new(Vec::new(), Compression::fast()), hash: Box::default(), line: Vec::new() };
    let head = Head {
        reader_version: READER_VERSION,
        through: state.next() - 1,
        origin: state.origin(),
        pending: state.pending(),
        single_writer_entries: state.single_writer_entries(),
        columns: Some(state.columns().clone()).filter(|columns| columns.entry > 0),
    };
    lines.push(&Row::Head(head))?;
    state.covers().try_for_each(|covered| lines.push(&Row::Cover(covered)))?;
    state.files().try_for_each(|live| lines.push(&Row::File(live)))?;
    state.user_exports().try_for_each(|export| lines.push(&Row::UserExport(export)))?;
    let xxh3 = hex(&lines.hash);
    lines.push(&Row::Xxh3(xxh3))?;
    lines.gzip.finish()
}

/// The row types of a state that is written.
type Written<'a> = Row<Head<&'a Pending>, &'a Covered, &'a Live, &'a ExportedUsers>;
/// The row types of a state that is read.
type Found = Row<Head<Pending>, Covered, Live, ExportedUsers>;

struct Lines {
    gzip: GzEncoder<Vec<u8>>,
    hash: Box<Xxh3>,
    line: Vec<u8>,
}

impl Lines {
    fn push(&mut self, row: &Written<'_>) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, row)?;
        self.line.push(b'\n');
        self.hash.update(&self.line);
        self.gzip.write_all(&self.line)
    }
}

/// The state of a snapshot; `None` for one that is damaged.
pub fn read(through: u64, bytes: &[u8]) -> Result<Option<State>> {
    read_lines(through, BufReader::with_capacity(1 << 16, MultiGzDecoder::new(bytes)))
}

/// The state of a snapshot's lines, no longer compressed; `None` if they are damaged.
pub fn read_lines(through: u64, mut lines: impl BufRead) -> Result<Option<State>> {
    #[derive(Deserialize)]
    struct Version {
        head: ReaderVersion,
    }
    #[derive(Deserialize)]
    struct ReaderVersion {
        reader_version: u32,
    }
    let mut line = Vec::new();
    let mut hash = Xxh3::new();
    if next_line(&mut lines, &mut line).is_none() {
        return Ok(None);
    }
    let Ok(Version { head: ReaderVersion { reader_version } }) = serde_json::from_slice(&line) else { return Ok(None) };
    if reader_version > READER_VERSION {
        let message =
            format!("the lake's log needs format {reader_version}, this chatlake reads up to {READER_VERSION}");
        return Err(Error::new(Kind::Usage, message).hint("use the newer chatlake that wrote to this lake"));
    }
    let Ok(Found::Head(head)) = serde_json::from_slice(&line) else { return Ok(None) };
    if head.through != through || through == u64::MAX {
        return Ok(None);
    }
    let mut state = State::restore(
        through,
        head.origin,
        head.pending,
        head.single_writer_entries,
        head.columns.unwrap_or_default(),
    );
    let mut last_cover = None;
    let mut last_file = String::new();
    let mut last_export = 0;
    loop {
        hash.update(&line);
        if next_line(&mut lines, &mut line).is_none() {
            return Ok(None);
        }
        match serde_json::from_slice::<Found>(&line) {
            // In order, so that there are no two of anything.
            Ok(Row::Cover(covered)) if last_cover.is_none_or(|until| until <= covered.cover.window.since) => {
                last_cover = Some(covered.cover.window.until);
                state.add_cover(covered);
            }
            Ok(Row::File(live)) if last_file < live.file.id => {
                last_file.clone_from(&live.file.id);
                state.add_file(live);
            }
            Ok(Row::UserExport(export)) if last_export < export.entry => {
                last_export = export.entry;
                state.add_user_export(export);
            }
            Ok(Row::Xxh3(said)) => {
                let ends = said == hex(&hash) && next_line(&mut lines, &mut line).is_none() && line.is_empty();
                return Ok(ends.then_some(state));
            }
            Ok(_) | Err(_) => return Ok(None),
        }
    }
}

/// The next line with its end; `None` where there is no whole one.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> Option<()> {
    line.clear();
    lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', line).ok()?;
    line.ends_with(b"\n").then_some(())
}

fn hex(hash: &Xxh3) -> String {
    format!("{:032x}", hash.digest128())
}
