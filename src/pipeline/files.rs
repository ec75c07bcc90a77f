//! A span from files on disk: from their bytes to a proposal as an export takes it.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::file_decoder::{FileDecoder, FileError};
use super::{Decoded, Exported, Pipeline, Requests};
use crate::convert::file::ExportFile;
use crate::decode::{NumberedCells, Routes, Tally, Task, day_of_cell, numbered};
use crate::error::{Error, Kind, Result};
use crate::lake::State;
use crate::plan::Span;
use crate::sort::collector::Collector;
use crate::window::Window;

/// Days that files may have messages of: more than there was chat.
const MAX_DAYS: usize = 36_525;

/// Where the messages of files belong.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Into their days, beside what is there.
    Days,
    /// Into these cells, of which they hold everything, if they are of these channels. Other messages are left out.
    Declared {
        /// The cells.
        span: Span,
        /// The channels; none: all.
        channels: Option<Arc<HashSet<String>>>,
        /// The types of channels; none: all.
        channel_types: Vec<String>,
    },
}

impl Pipeline<'_> {
    /// Decodes files and stages what becomes of them; nothing if there is no message in them and that is accepted.
    pub async fn convert(
        &self,
        state: &mut State,
        files: &[ExportFile],
        into: Destination,
    ) -> Result<Option<Exported>> {
        let settings = self.settings;
        let collector =
            Arc::new(Collector::new(self.schemas, settings.memory.sort_bytes(), settings.temp_dir.as_deref()));
        let mut tally = Tally::default();
        let mut requests = Requests::default();
        {
            let most = settings.memory.decoders();
            // Few files are decoded by several each.
            let of_each = most / files.len().clamp(1, most);
            let mut decoded = stream::iter(files.iter().map(|file| self.decode(file, &into, &collector, of_each)))
                .buffer_unordered(most);
            while let Some(one) = decoded.try_next().await? {
                tally.add(one);
            }
        }
        if let Destination::Declared { channel_types, .. } = &into {
            check_types(channel_types, &tally)?;
        }
        requests.channels = tally.channels_returned.len() as u64;
        requests.bytes = files.iter().map(|file| file.bytes).sum();
        requests.exported_at = files.iter().map(|file| file.exported_at).min();
        requests.task_ids = files.iter().map(|file| file.content_id.clone()).collect();
        requests.task_ids.sort_unstable();
        let (span, cells): (Span, NumberedCells) = match into {
            Destination::Declared { span, .. } => {
                let cells = numbered(&span.cells);
                (span, cells)
            }
            Destination::Days => {
                let cells: NumberedCells = tally.cells.iter().map(|cell| (*cell, day_of_cell(*cell))).collect();
                if cells.len() > MAX_DAYS {
                    let message = format!("the files hold messages of {} different days", cells.len());
                    return Err(Error::new(Kind::Data, message)
                        .hint("nothing was committed: these are no exports of a chat, or their times are wrong"));
                }
                (Span::merge(cells.values().copied().collect()), cells)
            }
        };
        let begun_at = requests.exported_at.unwrap_or(Timestamp::MIN);
        if cells.is_empty() {
            let refused = self.check(state, Window::day_of(begun_at), 0, &requests, &tally);
            return match refused {
                Ok(()) => Ok(None),
                Err(refusal) => Err(self.keep_set_aside(refusal, collector).await),
            };
        }
        if span.merges {
            // Decoding takes its time: what others have added meanwhile is part of what there is.
            self.lake.refresh(state).await?;
        }
        let before = self.before(state, &span).await?;
        self.stage(state, &span, before, Decoded { collector, requests, tally, cells, begun_at }).await.map(Some)
    }

    async fn decode(
        &self,
        file: &ExportFile,
        into: &Destination,
        collector: &Arc<Collector>,
        decoders: usize,
    ) -> Result<Tally> {
        let Self { settings, progress, .. } = self;
        let (routes, channels) = match into {
            Destination::Days => (Routes::into_days(file.exported_at, settings.by_channel_type), None),
            Destination::Declared { span, channels, .. } => {
                let routes = Routes::new(&span.cells, 0, file.exported_at, settings.by_channel_type).of_anything();
                (routes, channels.clone())
            }
        };
        let task = Task {
            task_id: file.content_id.clone(),
            exported_at: file.exported_at,
            channels,
            users: None,
            superseded: Arc::default(),
            routes: Arc::new(routes),
            keep_raw: settings.keep_raw,
        };
        let decoder = FileDecoder::new(self.schemas, file.version, task, Arc::clone(collector))
            .of_file(&file.name)
            .within(settings.memory)
            .with_temp_dir(settings.temp_dir.as_deref());
        let mut bytes = file.open().await?;
        let read = decoder.read_with(decoders, &mut bytes, self.cpu, |chunk| progress.downloaded(chunk.len())).await;
        let (tally, _) = read.map_err(|error| match error {
            FileError::Broken(why) => file.is_broken(&why),
            FileError::Download(error) => error.into(),
            FileError::Other(error) => error,
        })?;
        progress.decoded(tally.messages());
        tracing::debug!(file = file.name, messages = tally.messages(), "decoded");
        Ok(tally)
    }
}

/// Refuses channels of types that a lake does not have.
fn check_types(channel_types: &[String], tally: &Tally) -> Result<()> {
    let is_wanted = |cid: &String| {
        let channel_type = cid.split_once(':').map(|(channel_type, _)| channel_type);
        channel_types.is_empty() || channel_types.iter().any(|wanted| Some(wanted.as_str()) == channel_type)
    };
    let Some(cid) = tally.channels_returned.iter().filter(|cid| !is_wanted(cid)).min() else { return Ok(()) };
    let message = format!(
        "the files hold channels that the lake does not select, such as `{cid}`: it is of the types `{}`",
        channel_types.join("`, `")
    );
    Err(Error::new(Kind::Data, message).hint("nothing was committed; convert exports of these types alone"))
}
