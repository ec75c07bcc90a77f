//! Which channels a span asks for: those that Stream lists, and those that it does not list any more.

use std::collections::{BTreeSet, HashSet};

use crate::error::{Error, Result};
use crate::export::{ChannelRef, Client, Discovery};
use crate::lake::{Lake, State};
use crate::plan::Span;
use crate::settings::Settings;
use crate::window::Window;

use super::remembered::Remembered;
use crate::cpu::Cpu;

/// Channels in one query by name.
pub const PER_QUERY: u64 = 30;

/// Channels that are looked up at a time.
const LOOKUPS: usize = 240;

/// The channels of a span, page by page.
pub struct Channels<'a> {
    client: &'a Client,
    span: Window,
    includes_deleted: bool,
    discovery: Option<Discovery>,
    remembered: Remembered,
    /// Remembered, and not met yet.
    candidates: HashSet<String>,
    /// The same, once discovery is at its end.
    lookups: Vec<String>,
    /// What was done besides discovery.
    pub effort: Effort,
}

/// What asking for channels that were deleted has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Channels that were looked up by name, [`PER_QUERY`] to a query.
    pub looked_up: u64,
    /// Channels that Stream does not list, and that are asked for.
    pub unlisted: u64,
}

/// Some of them.
#[derive(Debug, Default)]
pub struct Page {
    /// To be asked for.
    pub channels: Vec<ChannelRef>,
    /// Named, and unknown to Stream.
    pub missing: Vec<String>,
}

impl<'a> Channels<'a> {
    /// Nothing is asked yet, but what the lake remembers is read, if that is needed.
    pub async fn of(
        client: &'a Client,
        lake: &Lake,
        state: &State,
        settings: &Settings,
        span: &Span,
        cpu: Cpu,
    ) -> Result<Self> {
        let window = span.window();
        let selection = &settings.selection;
        let includes_deleted = settings.export.include_soft_deleted_channels;
        // What is exported again was complete when it was exported first.
        let brings_new = !state.uncovered(window).is_empty();
        let mut remembered = Remembered::default();
        if includes_deleted && (brings_new || selection.is_looked_up()) {
            let days = days_remembered(settings);
            remembered = Remembered::read(lake, state, days, settings.temp_dir.as_deref(), cpu).await?;
        }
        let is_named = !selection.cids.is_empty();
        let candidates = if is_named { HashSet::new() } else { remembered.candidates(window) };
        let discovery = Discovery::new(client, selection.clone(), Some(window.since), window.until);
        Ok(Self {
            client,
            span: window,
            includes_deleted,
            discovery: Some(discovery),
            remembered,
            candidates,
            lookups: Vec::new(),
            effort: Effort::default(),
        })
    }

    /// These are asked for anyhow.
    pub fn leave_out<'c>(&mut self, cids: impl IntoIterator<Item = &'c str>) {
        for cid in cids {
            self.candidates.remove(cid);
        }
    }

    /// The next channels; none at the end. A channel comes once.
    pub async fn next(&mut self) -> Result<Option<Page>> {
        if let Some(discovery) = &mut self.discovery {
            if let Some(channels) = discovery.next_page().await? {
                for channel in &channels {
                    self.candidates.remove(&channel.cid);
                }
                return Ok(Some(Page { channels, missing: Vec::new() }));
            }
            let absent = discovery.take_absent();
            self.effort.looked_up += discovery.looked_up() as u64;
            self.discovery = None;
            let candidates: BTreeSet<String> = self.candidates.drain().collect();
            self.lookups = candidates.into_iter().collect();
            return Ok(Some(self.unlisted(absent, true)));
        }
        if self.lookups.is_empty() {
            return Ok(None);
        }
        let cids = self.lookups.split_off(self.lookups.len().saturating_sub(LOOKUPS));
        let listed = self.client.listed(&cids).await.map_err(Error::from)?;
        self.effort.looked_up += cids.len() as u64;
        let absent = cids.into_iter().filter(|cid| !listed.contains_key(cid)).collect();
        Ok(Some(self.unlisted(absent, false)))
    }

    /// Channels that Stream does not list: deleted, or never there. Those that are named are missing if no export could have them.
    fn unlisted(&mut self, cids: Vec<String>, are_named: bool) -> Page {
        let mut page = Page::default();
        for cid in cids {
            if !self.includes_deleted || self.remembered.is_gone(&cid) {
                page.missing.extend(are_named.then_some(cid));
            } else if !self.remembered.is_over(&cid, self.span) {
                page.channels.extend(ChannelRef::from_cid(&cid));
            }
        }
        self.effort.unlisted += page.channels.len() as u64;
        page
    }
}

/// As far back as days are exported again, and the day before that.
fn days_remembered(settings: &Settings) -> i64 {
    let longest = settings.rules.revisit.iter().max().map_or(0, |age| age.as_hours().div_euclid(24));
    longest.max(0) + 1
}
