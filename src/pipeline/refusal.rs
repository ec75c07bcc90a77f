//! What must not become a commit, and where its lines are kept for whoever looks into it.

use std::fmt::Write;
use std::sync::Arc;

use super::{Pipeline, Requests, Written};
use crate::decode::{FirstSetAside, NumberedCells, Tally};
use crate::error::{Error, Kind, Result};
use crate::figures::count;
use crate::lake::layout::QUARANTINE;
use crate::lake::{Key, Source, State};
use crate::schema::DATASETS;
use crate::sort::collector::Collector;
use crate::window::Window;
use crate::write::{Vanishing, Writer};

/// Channels that may have had messages in a span whose exports hold none: they were deleted since.
const QUIET_CHANNELS: u64 = 3;

impl Pipeline<'_> {
    /// Refuses what must not become a commit. `held` channels have messages in what is replaced.
    pub(super) fn check(
        &self,
        state: &State,
        span: Window,
        held: u64,
        requests: &Requests,
        tally: &Tally,
    ) -> Result<()> {
        if tally.out_of_window > 0 && tally.out_of_window == tally.out_of_window_updated_inside {
            let message = format!(
                "Stream filters exports by `updated_at`: {} created outside of {span} came, all of them updated inside",
                count(tally.out_of_window, "message")
            );
            return Err(Error::new(Kind::Data, message)
                .showing(shown(&tally.first_set_aside, tally.out_of_window, |reason| reason == "out_of_window"))
                .hint("nothing was committed: cells by creation time cannot be filled this way; please report it"));
        }
        let is_of_files = self.source == Source::Files;
        if (requests.channels > 0 || is_of_files) && !self.settings.accept_empty {
            self.check_format(state, span, held, requests, tally)?;
        }
        let lines = tally.lines.values().sum::<u64>() + tally.rejected;
        if !self.settings.allows_rejects(tally.rejected, lines) {
            let of_span = if is_of_files { String::new() } else { format!(" of {span}") };
            let message = format!("{} of {lines} lines{of_span} do not fit ({})", tally.rejected, reasons(tally));
            return Err(Error::new(Kind::Data, message)
                .showing(shown(&tally.first_set_aside, tally.rejected, is_reject))
                .hint(format!(
                    "nothing was committed; to keep them in quarantine and commit the rest, run again with a higher \
                     --max-rejected{}",
                    self.what_again(span)
                )));
        }
        if is_of_files && tally.cells.is_empty() && !self.settings.accept_empty {
            return Err(Error::new(Kind::Data, "the files hold no message that belongs into the lake")
                .hint("nothing was committed; if that is right, run again with --accept-empty"));
        }
        Ok(())
    }

    /// What a run with another limit looks at, and how to get something else.
    fn what_again(&self, span: Window) -> String {
        let Window { since, until } = span;
        match self.source {
            Source::Stream if self.settings.replace => {
                ", which looks at the same exports; the same command as it is asks for new ones".to_owned()
            }
            Source::Stream => format!(
                ", which looks at the same exports; `chatlake sync --replace --since {since} --until {until}` asks for new ones"
            ),
            Source::Files => String::new(),
        }
    }

    /// Refuses exports that hold nothing of what they should hold: a format that nobody knows must not become an empty lake.
    fn check_format(&self, state: &State, span: Window, held: u64, requests: &Requests, tally: &Tally) -> Result<()> {
        // Once messages were recognised the format is known: a quiet hour whose only message was deleted is no reason to stop.
        let knows_format = state.covers().any(|covered| covered.cover.record.rows.get("messages") > Some(&0));
        // Nor can exports that failed be held against the format.
        let channels = requests.active_channels.max(held);
        let is_quiet = knows_format && channels <= QUIET_CHANNELS;
        let is_silent = channels > 0 && requests.failed.is_empty() && !is_quiet && tally.messages() == 0;
        let unclassified = tally.unclassified.total();
        let strange = match tally.unrecognised_files {
            0 if tally.messages() > 0 || tally.unclassified.strange() == 0 => None,
            0 => Some("no messages".to_owned()),
            files => Some(format!("nothing that is known in {files} of {} files", requests.task_ids.len())),
        };
        let (message, hint) = match strange {
            Some(strange) => {
                let mut message = format!("the format of the exports is not recognised: {strange}, but ");
                let rejects = reasons(tally);
                let _ = match (tally.rejected, unclassified) {
                    (_, 0) => write!(message, "lines that do not fit ({rejects})"),
                    (0, _) => write!(message, "lines of unknown kinds ({})", tally.unclassified),
                    _ => write!(
                        message,
                        "lines that do not fit ({rejects}) and lines of unknown kinds ({})",
                        tally.unclassified
                    ),
                };
                let hint = "nothing was committed; please report these lines, with other names and texts; to commit what is known and \
                            keep the rest in quarantine, run again with --accept-empty";
                (message, hint)
            }
            None if is_silent => {
                let hint = "nothing was committed; if the messages are really gone (truncated, deleted), run again with \
                            --accept-empty";
                (format!("{channels} channels had messages in {span}, but their exports hold none"), hint)
            }
            None => return Ok(()),
        };
        let is_shown = |reason: &str| reason != "out_of_window";
        Err(Error::new(Kind::Data, message)
            .showing(shown(&tally.first_set_aside, tally.rejected + unclassified, is_shown))
            .hint(format!("{hint}{}", self.what_again(span))))
    }

    /// Keeps the lines that would have gone to quarantine, and tells where. The refusal stands, whatever becomes of that.
    pub(super) async fn keep_set_aside(&self, refusal: Error, collector: Arc<Collector>) -> Error {
        match self.write_set_aside(collector).await {
            Ok(written) if written.files.is_empty() => refusal,
            Ok(_) => {
                let folder = Key::rejected_by(self.run_id);
                let lake = self.lake.display_url().trim_end_matches('/');
                refusal.showing([format!("all are kept in {lake}/{folder}/*.parquet")])
            }
            Err(error) => {
                tracing::warn!(error = error.report(), "the lines could not be kept");
                refusal.showing(["they could not be kept: the log says why".to_owned()])
            }
        }
    }

    async fn write_set_aside(&self, collector: Arc<Collector>) -> Result<Written> {
        let quarantine = DATASETS.iter().position(|dataset| *dataset == QUARANTINE).expect("a dataset of that name");
        let mut written = Written::default();
        let Some(rows) = self.cpu.run(move || collector.take(quarantine)).await? else { return Ok(written) };
        let writer = Writer {
            lake: self.lake.clone(),
            run_id: self.run_id,
            schemas: self.schemas.clone(),
            prefix: "",
            cells: NumberedCells::new(),
            vanishing: Arc::new(Vanishing::default()),
            options: self.settings.file.clone(),
            parts: self.settings.memory.parts(),
            cpu: self.cpu,
            key: |run_id, file| Key::Rejected { run_id, file },
        };
        writer.write(quarantine, rows, None, &mut written).await?;
        Ok(written)
    }
}

pub(super) fn is_reject(reason: &str) -> bool {
    !matches!(reason, "unclassified" | "out_of_window")
}

/// `11 not_json, 2 too_deep`.
pub(super) fn reasons(tally: &Tally) -> String {
    let reasons: Vec<_> = tally.reasons.iter().map(|(reason, lines)| format!("{lines} {reason}")).collect();
    reasons.join(", ")
}

/// The first lines, and how many more there are.
pub(super) fn shown(lines: &FirstSetAside, total: u64, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let first = lines.of(is_wanted);
    let more = total.saturating_sub(first.len() as u64);
    let more = (more > 0).then(|| format!("and {more} more"));
    first.into_iter().map(ToString::to_string).chain(more).collect()
}
