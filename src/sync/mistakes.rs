//! What can only be a mistake, and is refused before anything is asked for or written.

use jiff::{SignedDuration, Timestamp};

use super::Run;
use crate::error::{Error, Kind, Result};
use crate::export::Selection;
use crate::figures::count;
use crate::lake::State;
use crate::settings::Settings;

/// How far in the future a range may end and still be waited for, until it has settled.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

/// A time that was asked for, and may be ahead of Stream's.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    pub(super) option: &'static str,
    pub(super) given: Timestamp,
    /// The end of the last cell that it means.
    pub(super) ends: Timestamp,
}

impl Run<'_> {
    /// Refuses what can only be a mistake: a time far ahead, and a new lake of a selection that no channel is in.
    pub(super) async fn refuse_mistakes(&self, state: &State, ahead: Option<Ahead>, now: Timestamp) -> Result<()> {
        if let Some(Ahead { option, given, .. }) = ahead.filter(|ahead| ahead.ends.duration_since(now) > LONGEST_WAIT) {
            let days = given.duration_since(now).as_hours() / 24;
            return Err(Error::new(Kind::Usage, format!("{option} is {given}, {} ahead", count(days.max(1), "day")))
                .hint(
                    "choose a time in the past: there is nothing to export yet, and no run waits for longer than a day",
                ));
        }
        let Settings { selection, accept_empty, .. } = self.settings;
        // Channels by name may be deleted ones, which Stream does not list.
        if state.next() == 1
            && selection.is_query()
            && !accept_empty
            && self.client.oldest_channel(selection).await?.is_none()
        {
            return Err(Error::new(
                Kind::Usage,
                "the app has no channel of this selection, and the lake would be made for it",
            )
            .hint("check --channel-type and --filter; if its channels are to come: --accept-empty"));
        }
        Ok(())
    }

    /// Where a lake without an origin is to begin.
    pub(super) fn first_start(&self, state: &State) -> Option<Ahead> {
        let start = self.settings.start.filter(|_| state.origin().is_none())?;
        Some(Ahead { option: "--start", given: start, ends: start })
    }

    /// An empty lake does not say where to begin; the app's oldest channel does.
    pub(super) async fn no_start(&self) -> Result<Error> {
        let oldest = self.client.oldest_channel(&self.settings.selection).await?.and_then(|channel| channel.created_at);
        let error = Error::new(Kind::Usage, "this lake has no beginning yet: the first automatic sync needs --start");
        Ok(match oldest {
            Some(at) => error.hint(format!(
                "the oldest channel was created at {at}; for everything since then: chatlake sync --start {}",
                crate::window::utc_date(at)
            )),
            None if self.settings.selection == Selection::default() => {
                error.hint("the app has no channels yet; for all that will come: chatlake sync --start <today>")
            }
            None => {
                error.hint("the app has no channel of this selection: check --channel, --channel-type and --filter")
            }
        })
    }
}
