//! Exports on disk into a lake: of their own, where files are added to each other, or into one that is kept by `sync`, where they
//! cover a declared range as an export would.

pub mod file;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tracing::{Instrument, error_span};

use self::file::{ExportFile, expand};
use crate::columns::{Columns, Schemas};
use crate::cpu::Cpu;
use crate::error::{Error, Kind, Result};
use crate::figures::count;
use crate::lake::identity::FORMAT;
use crate::lake::{Cover, Identity, Include, Lake, Lists, Mode, Selection, Source, State};
use crate::pipeline::Pipeline;
use crate::pipeline::files::Destination;
use crate::plan::Span;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::summary::{CellStatus, CellSummary, FilesSummary, Summary};
use crate::window::{Grid, Window};

/// Which files, and what is known about them.
#[derive(Clone, Debug, Default)]
pub struct Exports {
    /// Names, patterns, or `-`.
    pub files: Vec<PathBuf>,
    /// When they were exported; none: when each was last written.
    pub exported_at: Option<Timestamp>,
    /// The app that they are of, if anyone knows.
    pub app_key: Option<String>,
    /// Whether the lake is partitioned by channel type too; none: as it is, or not.
    pub by_channel_type: Option<bool>,
}

/// Times that days are read again which others have added to meanwhile.
const ROUNDS: u32 = 5;

/// How an attempt ended.
enum Round {
    Done,
    /// Another run has added to the same days since they were read.
    Overtaken(Error),
}

/// One conversion. Of the settings it takes those of files and limits; a range is what the files hold all of.
pub struct Conversion<'a> {
    lake: &'a Lake,
    settings: Settings,
    exports: &'a Exports,
    progress: &'a Progress,
    summary: Summary,
}

impl<'a> Conversion<'a> {
    /// Nothing is done yet.
    pub fn new(lake: &'a Lake, settings: Settings, exports: &'a Exports, progress: &'a Progress) -> Self {
        let summary = Summary::new(lake, settings.single_writer);
        Self { lake, settings, exports, progress, summary }
    }

    /// Does it, unless `stop` says why to stop. The summary tells what was done, whether or not there is an error.
    pub async fn execute(self, stop: impl Future<Output = Error>) -> (Summary, Option<Error>) {
        let span = error_span!("convert", run_id = %self.summary.run_id);
        self.execute_in_span(stop).instrument(span).await
    }

    async fn execute_in_span(mut self, stop: impl Future<Output = Error>) -> (Summary, Option<Error>) {
        let begun = Instant::now();
        let error = tokio::select! {
            biased;
            result = self.run() => result.err(),
            error = stop => Some(error),
        };
        self.progress.finish();
        self.summary.cells.sort_by_key(|cell| cell.since);
        self.summary.end(begun.elapsed(), error.as_ref());
        (self.summary, error)
    }

    async fn run(&mut self) -> Result<()> {
        let found = self.lake.identity().await?;
        let identity = self.wanted_identity(found.as_ref())?;
        self.settings.by_channel_type = identity.partition_by.iter().any(|column| column == "channel_type");
        let mut state = self.lake.state().await?;
        self.lake.refuse_a_lost_log(&mut state).await?;
        // A run that died after its put has left files where no reader looks.
        self.lake.settle(&mut state).await?;
        self.summary.frontier = state.frontier();
        let files = self.identify().await?;
        for _ in 0..ROUNDS {
            match self.round(&mut state, &identity, files.clone()).await? {
                Round::Done => return Ok(()),
                Round::Overtaken(error) => tracing::info!(reason = error.line(), "reading the lake's days again"),
            }
        }
        Err(Error::new(Kind::Temporary, "other runs keep adding to the same days").hint("run the same command again"))
    }

    /// Brings in what of the files is not in the lake as it is now.
    async fn round(&mut self, state: &mut State, identity: &Identity, mut files: Vec<ExportFile>) -> Result<Round> {
        let known = self.known(state, self.settings.range).await?;
        let declared = match self.settings.range {
            Some(range) => match self.declared(state, range, &files, &known)? {
                Some(span) => Some(span),
                None => return Ok(Round::Done),
            },
            None => {
                self.drop_known(&mut files, &known);
                if files.is_empty() {
                    return Ok(Round::Done);
                }
                None
            }
        };
        let into = match declared {
            None => Destination::Days,
            Some(span) => Destination::Declared {
                span,
                channel_types: identity.selection.channel_types.clone(),
                channels: self
                    .lake
                    .channels(&identity.selection)
                    .await?
                    .map(|cids| Arc::new(cids.iter().cloned().collect())),
            },
        };
        self.begin(state, identity).await?;
        let schemas = Schemas::new(&state.columns().columns.with(&self.settings.columns)?)?;
        let pipeline = Pipeline {
            lake: self.lake,
            source: Source::Files,
            settings: &self.settings,
            schemas: &schemas,
            run_id: self.summary.run_id,
            progress: self.progress,
            cpu: Cpu::Threads,
        };
        self.progress.span(format!("converting {}", count(files.len(), "file")));
        files.iter().for_each(|_| self.progress.requested());
        let Some(converted) = pipeline.convert(state, &files, into).await? else { return Ok(Round::Done) };
        let summary = self.summary.files.get_or_insert_default();
        summary.bytes = files.iter().map(|file| file.bytes).sum();
        summary.left_out = converted.tally.margin;
        match (pipeline.land(state, &converted, &mut self.summary).await, converted.proposal.mode) {
            // What another conversion has added meanwhile is part of what there is.
            (Err(error), Mode::Merge { read_at }) if error.kind() == Kind::Temporary && state.next() > read_at => {
                Ok(Round::Overtaken(error))
            }
            (landed, _) => landed.map(|()| Round::Done),
        }
    }

    /// What the lake is, or is to become.
    fn wanted_identity(&self, found: Option<&Identity>) -> Result<Identity> {
        let url = self.lake.display_url();
        let range = self.settings.range;
        let mut wanted = match found {
            Some(identity) => identity.clone(),
            None => Identity {
                format: FORMAT,
                app_key: String::new(),
                source: Source::Files,
                selection: Selection::default(),
                include: Include::default(),
                partition_by: Vec::new(),
            },
        };
        let of_stream = found.is_some() && wanted.source == Source::Stream;
        match range {
            None if of_stream => {
                return Err(Error::new(Kind::Usage, format!("the lake at {url} is kept by `sync`: which of its days the files hold all of is not said"))
                    .hint("declare it with --since and --until, so that `sync` need not ask for them; or choose another --lake"));
            }
            Some(_) if !of_stream => {
                let message = match found {
                    Some(_) => {
                        format!("the lake at {url} is made of files, which cover the days that they have messages of")
                    }
                    None => {
                        format!("there is no lake at {url}, and only one that is kept by `sync` has ranges to cover")
                    }
                };
                return Err(Error::new(Kind::Usage, message)
                    .hint("leave out --since and --until; or make the lake with `chatlake sync` first"));
            }
            _ => {}
        }
        if let Some(app_key) = &self.exports.app_key {
            wanted.app_key.clone_from(app_key);
        }
        if self.exports.by_channel_type.is_some() || wanted.partition_by.is_empty() {
            let mut columns = vec!["event_date".to_owned()];
            columns.extend((self.exports.by_channel_type == Some(true)).then(|| "channel_type".to_owned()));
            wanted.partition_by = columns;
        }
        if let Some(found) = found {
            found.check(&wanted, url)?;
        }
        Ok(wanted)
    }

    /// Looks at all files, as many at a time as are decoded later. Those that hold the same are one.
    async fn identify(&mut self) -> Result<Vec<ExportFile>> {
        let named = expand(&self.exports.files)?;
        self.progress.says(&format!("looking at {}", count(named.len(), "file")));
        let (exported_at, temp_dir) = (self.exports.exported_at, &self.settings.temp_dir);
        let looks = named.into_iter().map(|named| {
            let temp_dir = temp_dir.clone();
            Cpu::Threads.run(move || ExportFile::identify(named, exported_at, temp_dir.as_deref()))
        });
        let found: Vec<ExportFile> =
            stream::iter(looks).buffered(self.settings.memory.decoders()).try_collect().await?;
        let mut files: BTreeMap<String, ExportFile> = BTreeMap::new();
        for file in found {
            // A copy is younger than what it was made of.
            match files.get_mut(&file.content_id) {
                Some(same) if same.exported_at <= file.exported_at => {}
                _ => drop(files.insert(file.content_id.clone(), file)),
            }
        }
        self.summary.files = Some(FilesSummary { named: files.len() as u64, ..FilesSummary::default() });
        Ok(files.into_values().collect())
    }

    /// The covers of the lake, or of a range, each with the files that it came from.
    async fn known(&self, state: &State, range: Option<Window>) -> Result<Vec<(Cover, HashSet<String>)>> {
        let mut aside: BTreeMap<String, Lists> = BTreeMap::new();
        let mut known = Vec::new();
        for covered in state.covers().filter(|covered| range.is_none_or(|range| range.overlaps(&covered.cover.window)))
        {
            let record = &covered.cover.record;
            let lists = match &record.lists_aside {
                None => record.lists.clone(),
                Some(name) => match aside.get(&name.xxh3) {
                    Some(lists) => lists.clone(),
                    None => {
                        let lists = self.lake.lists(record).await?;
                        aside.insert(name.xxh3.clone(), lists.clone());
                        lists
                    }
                },
            };
            known.push((covered.cover.clone(), lists.task_ids.into_iter().collect()));
        }
        Ok(known)
    }

    /// Leaves out files whose content is in the lake.
    fn drop_known(&mut self, files: &mut Vec<ExportFile>, known: &[(Cover, HashSet<String>)]) {
        if self.settings.replace {
            return;
        }
        let is_known = |file: &ExportFile| known.iter().any(|(_, ids)| ids.contains(&file.content_id));
        let (old, new): (Vec<ExportFile>, Vec<ExportFile>) = std::mem::take(files).into_iter().partition(is_known);
        *files = new;
        let summary = self.summary.files.get_or_insert_default();
        summary.known = old.len() as u64;
        if files.is_empty() {
            let came_from = |ids: &HashSet<String>| old.iter().any(|file| ids.contains(&file.content_id));
            let cells = known.iter().filter(|(_, ids)| came_from(ids));
            self.summary.cells.extend(cells.map(|(cover, _)| CellSummary::of(cover, CellStatus::AlreadyCommitted)));
        }
    }

    /// The cells of a declared range; none if they came from these very files.
    fn declared(
        &mut self,
        state: &State,
        range: Window,
        files: &[ExportFile],
        known: &[(Cover, HashSet<String>)],
    ) -> Result<Option<Span>> {
        let came_from_all = |ids: &HashSet<String>| files.iter().all(|file| ids.contains(&file.content_id));
        if state.uncovered(range).is_empty() && known.iter().all(|(_, ids)| came_from_all(ids)) {
            let cells = known.iter().map(|(cover, _)| CellSummary::of(cover, CellStatus::AlreadyCommitted));
            self.summary.cells.extend(cells);
            self.summary.files.get_or_insert_default().known = files.len() as u64;
            return Ok(None);
        }
        let times = || files.iter().map(|file| file.exported_at);
        let (first, last) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        if last < range.until {
            return Err(Error::new(Kind::Usage, format!("the range ends at {}, and the files are from {last}", range.until))
                .hint("what came later cannot be in them: choose an earlier --until; if they were exported later than they were last written, say when with --exported-at"));
        }
        if let Some((cover, _)) = known.first().filter(|_| !self.settings.replace) {
            let message =
                format!("covered already: {} of the range, such as `{}`", count(known.len(), "cell"), cover.window);
            return Err(Error::new(Kind::Usage, message).hint(
                "choose --since and --until so that they are left out, or replace them with --replace, if the files are newer",
            ));
        }
        if let Some((cover, _)) = known.iter().find(|(cover, _)| cover.exported_at >= first) {
            let message = format!(
                "`{}` was exported at {}, and the files are from {first}: older rows must not replace newer ones",
                cover.window, cover.exported_at
            );
            return Err(Error::new(Kind::Usage, message)
                .hint("leave it out of the range; if the files were exported later than they were last written, say when with --exported-at"));
        }
        let mut cells: Vec<Window> = known.iter().map(|(cover, _)| cover.window).collect();
        cells.extend(state.uncovered(range).into_iter().flat_map(|window| Grid::default().cells(window)));
        cells.sort_unstable();
        Ok(Some(Span::declared(cells, self.settings.replace)))
    }

    /// Proves the store before anything is written, and makes the lake if there is none.
    async fn begin(&self, state: &mut State, identity: &Identity) -> Result<()> {
        if !self.settings.single_writer {
            self.lake.require_conditional_put(self.summary.run_id).await?;
        }
        self.lake.ensure_identity(identity).await?;
        let wanted = |old: &Columns| old.with(&self.settings.columns);
        self.lake.change_columns(state, wanted).await?;
        Ok(())
    }
}
