//! `chatlake check --export CID`: one real export, and what this app's exports look like.
//!
//! Nothing is written. The report has keys, counts and the times that were asked for; of what people wrote, and of ids, nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::columns::{Filled, Gaps};
use super::keys::{Keys, shown};
use super::profile::{Counts, Custom, Profile, Reactions, Selected};
use crate::columns::Schemas;
use crate::cpu::Cpu;
use crate::decode::{Routes, Tally, Task};
use crate::error::{Error, Kind, Result};
use crate::export::{
    Asked, ChannelRef, Client, Download, ExportOptions, ExportRequest, ExportVersion, RangeForm, Selection, Served,
};
use crate::kinds::BESIDE;
use crate::pipeline::MARGIN;
use crate::pipeline::file_decoder::{FileDecoder, FileError, Rows};
use crate::window::Window;

/// How long Stream may work on an export of a day.
const DEADLINE: SignedDuration = SignedDuration::from_mins(15);

/// What to export.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The channel.
    pub cid: String,
    /// When; none: the last day in which it had messages.
    pub range: Option<Window>,
    /// What is in it, and the form of the file.
    pub options: ExportOptions,
}

/// What exports look like.
#[derive(Debug, Serialize)]
pub struct Format {
    version: ExportVersion,
    since: Timestamp,
    until: Timestamp,
    /// Exports that were asked for.
    exports: u32,
    /// Bytes of the first one's file, as they came.
    bytes: u64,
    compression: &'static str,
    served: Served,
    lines: u64,
    envelopes: Counts,
    names: Counts,
    kinds: BTreeMap<&'static str, u64>,
    unknown_kinds: Counts,
    rejected: BTreeMap<&'static str, u64>,
    custom: CustomForm,
    users: Counts,
    mentions: Counts,
    addresses: Counts,
    timestamps: Counts,
    reactions: ReactionForm,
    bounds: Bounds,
    selects_by: SelectsBy,
    datasets: BTreeMap<&'static str, DatasetForm>,
    #[serde(skip)]
    is_unrecognised: bool,
}

#[derive(Debug, Serialize)]
struct CustomForm {
    convention: &'static str,
    inlined: u64,
    nested: u64,
    in_both: u64,
}

#[derive(Debug, Serialize)]
struct ReactionForm {
    embedded: u64,
    most_embedded: u64,
    lines: u64,
    messages_with_more_than_ten: u64,
    messages_cut: u64,
}

/// Whether a message comes that is exactly as old as a bound says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bound {
    Inclusive,
    Exclusive,
    NotTold,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Bounds {
    since: Bound,
    until: Bound,
}

/// Which time of a message decides.
#[derive(Debug, Serialize)]
struct SelectsBy {
    time: &'static str,
    created_inside_updated_outside: u64,
    created_outside_updated_inside: u64,
}

#[derive(Debug, Serialize)]
struct DatasetForm {
    rows: u64,
    unfilled_columns: Vec<String>,
    keys_without_column: Keys,
    misfits: Keys,
}

/// Asks for an export with a margin around the range and looks at it; then, if there are two messages to tell by, for one that begins
/// and ends exactly with them.
pub async fn format(client: &Client, wanted: &Wanted) -> Result<Format> {
    if ChannelRef::from_cid(&wanted.cid).is_none() {
        let message = format!("`{}` is no channel", wanted.cid);
        return Err(Error::new(Kind::Usage, message).hint("write type:id, such as messaging:general"));
    }
    client.hello().await?;
    // Without them the requests keep to the documented limits.
    if let Err(error) = client.rate_limits().await {
        tracing::debug!(%error, "the app's rate limits are not known");
    }
    let range = match wanted.range {
        Some(range) => range,
        None => last_day(client, &wanted.cid).await?,
    };
    let asked = Window {
        since: range.since.saturating_sub(MARGIN).unwrap_or(range.since),
        until: range.until.saturating_add(MARGIN).unwrap_or(range.until),
    };
    let first = export(client, wanted, asked).await?;
    let exact = first.look.profile.ends.and_then(|(since, until)| Window::new(since, until).ok());
    let bounds = match exact {
        None => Bounds { since: Bound::NotTold, until: Bound::NotTold },
        Some(exact) => {
            let selected = export(client, wanted, exact).await?.look.profile.selected;
            let bound = |messages| if messages > 0 { Bound::Inclusive } else { Bound::Exclusive };
            Bounds { since: bound(selected.at_since), until: bound(selected.at_until) }
        }
    };
    Ok(Format::new(wanted.options.version, range, 1 + u32::from(exact.is_some()), bounds, first))
}

/// The day of a channel's last message.
async fn last_day(client: &Client, cid: &str) -> Result<Window> {
    let filter = Map::from_iter([("cid".to_owned(), json!({ "$eq": cid }))]);
    let selection = Selection { filter: Some(filter), ..Selection::default() };
    let name_range = "name another channel; or the time of its messages by --since and --until";
    let Some(channel) = client.oldest_channel(&selection).await? else {
        return Err(Error::new(Kind::Usage, format!("Stream lists no channel `{cid}`")).hint(name_range));
    };
    match channel.last_message_at {
        Some(at) => Ok(Window::day_of(at)),
        None => Err(Error::new(Kind::Usage, format!("channel `{cid}` has no message")).hint(name_range)),
    }
}

/// An export that was read to its end.
struct Exported {
    look: Look,
    tally: Tally,
    served: Served,
    bytes: u64,
    compression: &'static str,
}

/// Takes lines and rows.
struct Look {
    profile: Profile,
    filled: Filled,
}

impl Rows for Look {
    fn take(&mut self, dataset: usize, batch: RecordBatch) -> Result<()> {
        self.filled.batch(dataset, &batch);
        Ok(())
    }

    fn see(&mut self, key: Option<&str>, line: &[u8]) {
        self.profile.line(key, line);
    }
}

async fn export(client: &Client, wanted: &Wanted, asked: Window) -> Result<Exported> {
    let request = ExportRequest {
        cids: vec![wanted.cid.clone()],
        since: asked.since,
        until: asked.until,
        options: wanted.options,
    };
    let task = match client.asking(request)?.next().await? {
        Some(Asked::Task(task)) => task,
        Some(Asked::Unanswered(_, error)) => return Err(error),
        Some(Asked::Missing(_)) | None => {
            return Err(Error::new(Kind::Usage, format!("Stream does not know channel `{}`", wanted.cid))
                .hint("name a channel of this app, type:id"));
        }
    };
    let file = client.wait_for_task(&task, DEADLINE).await?;
    let served = client.served(&file).await.map_err(|error| {
        Error::new(Kind::Temporary, "cannot reach the file of the export")
            .because(error)
            .hint("check that no firewall stands before the store of Stream's exports, then run the same command again")
    })?;
    // Wide enough for every message that comes, whether or not it was asked for.
    let all = Window { since: Timestamp::UNIX_EPOCH, until: Timestamp::MAX };
    let task = Task {
        task_id: task.task_id,
        exported_at: file.exported_at,
        channels: None,
        users: None,
        superseded: Arc::default(),
        routes: Arc::new(Routes::new(&[all], 0, file.exported_at, false)),
        keep_raw: false,
    };
    let look = Look { profile: Profile::new(asked), filled: Filled::default() };
    let decoder = FileDecoder::new(&Schemas::default(), wanted.options.version, task, look);
    let head: Mutex<Vec<u8>> = Mutex::default();
    let mut download = Download::new(client, file);
    let read = decoder.read(&mut download, Cpu::Threads, |chunk| {
        let mut head = head.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = 4usize.saturating_sub(head.len());
        head.extend_from_slice(&chunk[..missing.min(chunk.len())]);
    });
    let (tally, look) = read.await.map_err(|error| match error {
        FileError::Broken(why) => Error::new(Kind::Data, format!("the export cannot be read: {why}"))
            .hint("run the same command again, which asks for another; if it stays so, report it"),
        FileError::Download(error) => error.into(),
        // Without what it shows of the file: this is to be pasted.
        FileError::Other(error) => Error::new(error.kind(), error.line())
            .hint("look whether a proxy answers in place of Stream's store; try --export-version v1, then report it"),
    })?;
    let compression = compression(&head.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Exported { look, tally, served, bytes: download.bytes_read(), compression })
}

fn compression(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "zstd",
        _ => "none",
    }
}

impl Format {
    fn new(version: ExportVersion, range: Window, exports: u32, bounds: Bounds, exported: Exported) -> Self {
        let Exported { look, tally, served, bytes, compression } = exported;
        let Look { profile, filled } = look;
        let gaps = |gaps: Gaps<'_>| {
            let Gaps { dataset, rows, unfilled, untaken, misfits } = gaps;
            let form = DatasetForm {
                rows,
                unfilled_columns: unfilled,
                keys_without_column: untaken.clone(),
                misfits: misfits.clone(),
            };
            (dataset, form)
        };
        let schemas = Schemas::default();
        Self {
            version,
            since: range.since,
            until: range.until,
            exports,
            bytes,
            compression,
            served,
            lines: profile.lines,
            datasets: filled.gaps(&schemas).map(gaps).collect(),
            unknown_kinds: unknown_kinds(&tally),
            is_unrecognised: tally.unrecognised_files > 0,
            rejected: tally.reasons,
            custom: CustomForm::new(profile.custom),
            reactions: ReactionForm::new(profile.reactions, tally.cut_reactions.len() as u64),
            kinds: tally.lines,
            bounds,
            selects_by: SelectsBy::new(profile.selected),
            envelopes: profile.envelopes,
            names: profile.names,
            users: profile.users,
            mentions: profile.mentions,
            addresses: profile.addresses,
            timestamps: profile.times,
        }
    }

    /// An error if runs would refuse such exports.
    pub fn outcome(&self) -> Result<()> {
        if self.is_unrecognised {
            return Err(Error::new(Kind::Data, "this app's exports have a form that is not known")
                .hint("report it with what is printed here, which holds no values; --export-version v1 may be known"));
        }
        if self.selects_by.created_outside_updated_inside > 0 {
            return Err(Error::new(Kind::Data, "Stream does not select this app's messages by created_at alone")
                .hint("report it with what is printed here: days would not be exact, and runs refuse such exports"));
        }
        Ok(())
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// A page to paste.
    pub fn to_text(&self) -> String {
        let Self { version, since, until, exports, bytes, served, .. } = self;
        let mut text = format!(
            "exports of version {} of this app, from one channel, {since} to {until}; {exports} asked for\n",
            version.as_str()
        );
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<13} {value}");
        };
        let or_none = |header: &Option<String>| header.clone().unwrap_or_else(|| "none".to_owned());
        let length = match served.content_length {
            Some(length) if length == *bytes => "right".to_owned(),
            Some(length) => format!("{length}, which is wrong"),
            None => "none".to_owned(),
        };
        let range = match served.range {
            RangeForm::Honoured => "honoured".to_owned(),
            RangeForm::Ignored => "ignored".to_owned(),
            RangeForm::Refused(status) => format!("refused with {status}"),
        };
        line("file", &format!("{bytes} bytes, compression {}", self.compression));
        line(
            "served with",
            &format!(
                "Content-Length {length}, Content-Type {}, Content-Encoding {}, ETag {}, Range {range}",
                or_none(&served.content_type),
                or_none(&served.content_encoding),
                json!(served.etag).as_str().unwrap_or_default(),
            ),
        );
        line("lines", &self.lines.to_string());
        line("envelopes", &list(&self.envelopes));
        line("names", &list(&self.names));
        line("kinds", &list(&self.kinds));
        if !self.unknown_kinds.is_empty() {
            line("unknown kinds", &list(&self.unknown_kinds));
        }
        if !self.rejected.is_empty() {
            line("rejected", &list(&self.rejected));
        }
        let CustomForm { convention, inlined, nested, in_both } = &self.custom;
        line(
            "custom data",
            &format!("{convention}: {inlined} inlined, {nested} under custom, {in_both} the same in both"),
        );
        line("users", &list(&self.users));
        line("mentions", &list(&self.mentions));
        line("addresses", &list(&self.addresses));
        line("timestamps", &list(&self.timestamps));
        let ReactionForm { embedded, most_embedded, lines, messages_with_more_than_ten, messages_cut } =
            &self.reactions;
        line(
            "reactions",
            &format!(
                "{embedded} embedded, at most {most_embedded} in a message; {lines} on lines of their own; \
                 {messages_with_more_than_ten} messages have more than ten, {messages_cut} came without some of theirs"
            ),
        );
        let bound = |bound| match bound {
            Bound::Inclusive => "inclusive",
            Bound::Exclusive => "exclusive",
            Bound::NotTold => "not told",
        };
        let Bounds { since, until } = self.bounds;
        let why = if since == Bound::NotTold { ": it takes two messages that were never changed" } else { "" };
        line("bounds", &format!("messages_since {}, messages_until {}{why}", bound(since), bound(until)));
        let SelectsBy { time, created_inside_updated_outside, created_outside_updated_inside } = &self.selects_by;
        line(
            "selects by",
            &format!(
                "{time}: {created_inside_updated_outside} messages created inside and updated outside came, \
                 {created_outside_updated_inside} the other way round"
            ),
        );
        for (dataset, form) in &self.datasets {
            let DatasetForm { rows, unfilled_columns, keys_without_column, misfits } = form;
            line(dataset, &format!("{rows} rows"));
            if !unfilled_columns.is_empty() {
                line("", &format!("nothing fills: {}", unfilled_columns.join(", ")));
            }
            if !keys_without_column.is_empty() {
                line("", &format!("no column takes: {keys_without_column}"));
            }
            if !misfits.is_empty() {
                line("", &format!("does not fit its column: {misfits}"));
            }
        }
        text.push_str("keys are shown and no values, but look through it before you give it away\n");
        text
    }
}

impl CustomForm {
    fn new(custom: Custom) -> Self {
        let convention = match (custom.inlined, custom.nested) {
            (0, 0) => "none seen",
            (_, 0) => "inlined",
            (0, _) => "nested",
            _ => "both",
        };
        Self { convention, inlined: custom.inlined, nested: custom.nested, in_both: custom.both }
    }
}

impl ReactionForm {
    fn new(reactions: Reactions, messages_cut: u64) -> Self {
        let Reactions { embedded, most_embedded, lines, messages_with_more } = reactions;
        Self { embedded, most_embedded, lines, messages_with_more_than_ten: messages_with_more, messages_cut }
    }
}

impl SelectsBy {
    fn new(selected: Selected) -> Self {
        let time = match (selected.by_created_at, selected.by_updated_at) {
            (0, 0) => "not told",
            (_, 0) => "created_at",
            (0, _) => "updated_at",
            _ => "either",
        };
        Self {
            time,
            created_inside_updated_outside: selected.by_created_at,
            created_outside_updated_inside: selected.by_updated_at,
        }
    }
}

/// What lines say they are, unless it may be a value.
fn unknown_kinds(tally: &Tally) -> Counts {
    let mut counts = Counts::new();
    if let Value::Object(kinds) = json!(tally.unclassified) {
        for (kind, lines) in kinds {
            let name = match kind.strip_prefix(BESIDE) {
                Some(key) => format!("{BESIDE}{}", shown(key)),
                None => shown(&kind).to_owned(),
            };
            *counts.entry(name).or_default() += lines.as_u64().unwrap_or(0);
        }
    }
    counts
}

fn list<N: std::fmt::Display>(counts: &BTreeMap<N, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}
