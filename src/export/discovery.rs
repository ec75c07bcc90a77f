//! Which channels there are: all of an app's channels in pages, by a keyset on `created_at`, which never changes.
//!
//! QueryChannels has no cursor, gives at most 30 channels, and cannot skip more than 1000. So each query asks for
//! `created_at >= ` the last one seen and drops what was seen before. Channels of the same instant that fill a page are passed by
//! offset, each page overlapping the last by one channel, which shows when the order shifts underneath. What offsets cannot pass
//! (a shift, or more than 1000) is divided by type and then by `cid` ranges until each part fits in one page.
//! [`Walk`] is that logic without IO; [`Discovery`] feeds it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::client::{Answer, Client};
use super::endpoint::Endpoint;
use super::error::ApiError;
use super::filter;
use super::wire;
use crate::error::{Error, Kind, Result};

/// Stream's page: larger limits are silently cut to it.
const PAGE_CHANNELS: usize = 30;
/// The largest offset Stream honours; beyond it the same rows come back for ever.
const MAX_OFFSET: usize = 1000;
/// Queries for one instant's channels, before the tie counts as not divisible: enough for 50,000 channels and more.
const MAX_TIE_QUERIES: usize = 10_000;
/// Named channels that are not worth a query each time: one export request asks for them all.
const FEW_CHANNELS: usize = 25;
/// Queries by name that are sent at a time.
const LOOKUPS_AT_ONCE: usize = 8;

/// A channel that discovery found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRef {
    /// `type:id`.
    pub cid: String,
    /// The channel type.
    pub channel_type: String,
    /// The id inside the type.
    pub id: String,
    /// When it was created; none for a channel that was asked for by name.
    pub created_at: Option<Timestamp>,
    /// When its last message came; none if it has none, or was asked for by name.
    pub last_message_at: Option<Timestamp>,
}

impl ChannelRef {
    /// A channel by its cid; none if that is not `type:id`.
    pub fn from_cid(cid: &str) -> Option<Self> {
        let (channel_type, id) = cid.split_once(':')?;
        let named = !channel_type.is_empty() && !id.is_empty();
        named.then(|| Self {
            cid: cid.to_owned(),
            channel_type: channel_type.to_owned(),
            id: id.to_owned(),
            created_at: None,
            last_message_at: None,
        })
    }
}

/// Which channels to look for. Empty: every channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Exactly these; the rest of the selection does not apply. There may be a million.
    pub cids: Arc<[String]>,
    /// Only these types.
    pub channel_types: Vec<String>,
    /// Stream's own filter conditions, which must hold as well.
    pub filter: Option<Map<String, Value>>,
}

impl Selection {
    /// The first query for channels of a span.
    pub(super) fn query(&self, since: Option<Timestamp>, until: Timestamp) -> Value {
        let walk = Walk::new(self.clone(), since, until);
        let created_at = Map::from_iter([("$lt".to_owned(), json!(until))]);
        walk.filter(created_at, None)
    }

    /// Whether types or a filter choose, so that a misspelt one chooses nothing.
    pub fn is_query(&self) -> bool {
        self.cids.is_empty() && (!self.channel_types.is_empty() || self.filter.is_some())
    }

    /// Whether its named channels are so many that those without messages are to be found before anything is exported.
    pub fn is_looked_up(&self) -> bool {
        self.cids.len() > FEW_CHANNELS
    }

    /// Why listing these channels costs the app much of Stream's API budget; nothing if it does not.
    pub fn expenses(&self) -> Vec<String> {
        match self.query(Some(Timestamp::UNIX_EPOCH), Timestamp::MAX) {
            Value::Object(query) if self.cids.is_empty() => filter::expenses(&query).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// Why discovery cannot be complete. It never ends early instead.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// A channel without a usable name or date.
    #[error("Stream listed a channel without {0}")]
    Malformed(&'static str),
    /// The answer is not sorted as asked for, so paging by date would lose channels.
    #[error("Stream listed channels out of order: `{cid}` of {created_at} follows {after}")]
    Unsorted {
        /// The channel that is too old for its place.
        cid: String,
        /// Its date.
        created_at: Timestamp,
        /// The date before it.
        after: Timestamp,
    },
    /// More channels of one instant than paging can reach, and they cannot be divided.
    #[error("too many channels were created at {at}, and they cannot be told apart: {why}")]
    Tie {
        /// The instant.
        at: Timestamp,
        /// What was tried.
        why: &'static str,
    },
    /// A cid that is not `type:id`.
    #[error("`{0}` is no channel cid: use type:id, such as messaging:general")]
    Cid(String),
    /// The query failed.
    #[error("cannot list the app's channels")]
    Api(#[from] ApiError),
}

impl From<DiscoveryError> for Error {
    fn from(error: DiscoveryError) -> Self {
        let message = error.to_string();
        match error {
            DiscoveryError::Malformed(_) | DiscoveryError::Unsorted { .. } => {
                Self::new(Kind::Data, message).hint("report this; meanwhile name the channels with --channels-file")
            }
            DiscoveryError::Tie { .. } => Self::new(Kind::Data, message)
                .hint("divide them by --channel-type or --filter, or name the channels with --channels-file"),
            DiscoveryError::Cid(_) => Self::new(Kind::Usage, message).hint("check --channel and --channels-file"),
            DiscoveryError::Api(error) => error.into(),
        }
    }
}

/// One query to send.
#[derive(Clone, Debug, PartialEq)]
struct Query {
    filter: Value,
    offset: usize,
}

/// A part of one instant's channels: a type, and a range of cids in whatever order Stream compares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    channel_type: Option<String>,
    cid_from: Option<String>,
    cid_before: Option<String>,
}

#[derive(Debug)]
enum Step {
    /// Everything from `at` on.
    Keyset,
    /// Inside the channels of `at`: this offset, where the last channel of the page before should come first.
    Offset {
        offset: usize,
        overlap: String,
    },
    /// The channels of `at`, part by part; the last part is asked for next.
    Parts {
        parts: Vec<Part>,
        queries: usize,
        found: usize,
    },
    Done,
}

/// The walk over all channels: gives queries, takes pages.
struct Walk {
    selection: Selection,
    /// Only channels with a message since.
    since: Option<Timestamp>,
    /// Only channels created before.
    until: Timestamp,
    /// Where the keyset stands.
    at: Option<Timestamp>,
    /// The channels of `at` that were yielded.
    seen: HashSet<String>,
    step: Step,
}

impl Walk {
    fn new(selection: Selection, since: Option<Timestamp>, until: Timestamp) -> Self {
        Self { selection, since, until, at: None, seen: HashSet::new(), step: Step::Keyset }
    }

    /// The next query; none at the end.
    fn query(&self) -> Option<Query> {
        let (offset, part) = match &self.step {
            Step::Done => return None,
            Step::Keyset => (0, None),
            Step::Offset { offset, .. } => (*offset, None),
            Step::Parts { parts, .. } => (0, Some(parts.last()?)),
        };
        let mut created_at = Map::new();
        if let Some(at) = self.at {
            created_at.insert("$gte".into(), json!(at));
        }
        let until = if part.is_some() { self.after_tie() } else { self.until };
        created_at.insert("$lt".into(), json!(until));
        Some(Query { filter: self.filter(created_at, part), offset })
    }

    fn filter(&self, created_at: Map<String, Value>, part: Option<&Part>) -> Value {
        let mut filter = Map::new();
        filter.insert("created_at".into(), Value::Object(created_at));
        if let Some(since) = self.since {
            filter.insert("last_message_at".into(), json!({ "$gte": since }));
        }
        match (part.and_then(|part| part.channel_type.as_ref()), self.selection.channel_types.as_slice()) {
            (Some(one), _) => drop(filter.insert("type".into(), json!({ "$eq": one }))),
            (None, []) => {}
            (None, [one]) => drop(filter.insert("type".into(), json!({ "$eq": one }))),
            (None, types) => drop(filter.insert("type".into(), json!({ "$in": types }))),
        }
        if let Some(part) = part {
            let bounds = [("$gte", &part.cid_from), ("$lt", &part.cid_before)];
            let range: Map<_, _> = bounds
                .into_iter()
                .filter_map(|(operator, cid)| Some((operator.to_owned(), json!(cid.as_ref()?))))
                .collect();
            if !range.is_empty() {
                filter.insert("cid".into(), Value::Object(range));
            }
        }
        match &self.selection.filter {
            Some(user) if user.keys().any(|name| name.starts_with('$') || filter.contains_key(name)) => {
                json!({ "$and": [filter, user] })
            }
            // Side by side where nothing is lost: a query without joined filters costs Stream less.
            Some(user) => Value::Object(filter.into_iter().chain(user.clone()).collect()),
            None => Value::Object(filter),
        }
    }

    /// The first instant after the tie, at Stream's precision of a microsecond.
    fn after_tie(&self) -> Timestamp {
        let at = self.at.unwrap_or(Timestamp::UNIX_EPOCH);
        at.saturating_add(SignedDuration::from_micros(1)).unwrap_or(Timestamp::MAX).min(self.until)
    }

    /// Takes the answer to [`Walk::query`] and returns the channels in it that are new.
    fn accept(&mut self, page: Vec<ChannelRef>) -> Result<Vec<ChannelRef>, DiscoveryError> {
        // After an error the walk stands where it stood, so that asking again cannot look like the end.
        match std::mem::replace(&mut self.step, Step::Keyset) {
            Step::Done => {
                self.step = Step::Done;
                Ok(Vec::new())
            }
            Step::Keyset => self.accept_run(page, 0),
            Step::Offset { offset, overlap } => {
                // Every place of the tie holds another channel, or the order shifted and some may have slipped past.
                let again = |channel: &ChannelRef| channel.created_at == self.at && self.seen.contains(&channel.cid);
                if page.first().is_none_or(|first| first.cid != overlap) || page.iter().skip(1).any(again) {
                    self.divide();
                    return Ok(Vec::new());
                }
                self.accept_run(page, offset)
            }
            Step::Parts { parts, queries, found } => self.accept_part(page, parts, queries, found),
        }
    }

    fn accept_run(&mut self, page: Vec<ChannelRef>, offset: usize) -> Result<Vec<ChannelRef>, DiscoveryError> {
        check_order(&page)?;
        let Some(last) = page.last().map(|channel| channel.cid.clone()) else {
            self.step = Step::Done;
            return Ok(Vec::new());
        };
        let (full, next) = (page.len() >= PAGE_CHANNELS, offset + page.len() - 1);
        let past_until = page.iter().any(|channel| channel.created_at >= Some(self.until));
        let started_at = self.at;
        let new = self.take_new(page);
        // A page that is not full may be the last, one that brings nothing new is: the query in between makes sure.
        if past_until || (!full && new.is_empty()) {
            self.step = Step::Done;
        } else if self.at != started_at || (!full && offset == 0) {
            self.step = Step::Keyset;
        } else if next <= MAX_OFFSET {
            self.step = Step::Offset { offset: next, overlap: last };
        } else {
            self.divide();
        }
        Ok(new)
    }

    fn accept_part(
        &mut self,
        page: Vec<ChannelRef>,
        mut parts: Vec<Part>,
        queries: usize,
        found: usize,
    ) -> Result<Vec<ChannelRef>, DiscoveryError> {
        let tie = |why| DiscoveryError::Tie { at: self.at.unwrap_or(Timestamp::UNIX_EPOCH), why };
        let Some(part) = parts.pop() else { return Ok(Vec::new()) };
        check_order(&page)?;
        if part.cid_before.is_some() && page.iter().any(|channel| Some(&channel.cid) == part.cid_before.as_ref()) {
            return Err(tie("Stream does not honour a range of cids"));
        }
        if page.len() >= PAGE_CHANNELS {
            if queries >= MAX_TIE_QUERIES {
                return Err(tie("too many queries"));
            }
            let middle = middle_cid(&page, &part).ok_or_else(|| tie("a range of cids cannot be cut"))?;
            parts.push(Part { cid_from: Some(middle.clone()), ..part.clone() });
            parts.push(Part { cid_before: Some(middle), ..part });
            self.step = Step::Parts { parts, queries: queries + 1, found };
            return Ok(Vec::new());
        }
        let found = found + page.len();
        // The parts share one instant's `seen`, whatever finer digits they have.
        let new: Vec<_> = page.into_iter().filter(|channel| self.seen.insert(channel.cid.clone())).collect();
        if !parts.is_empty() {
            self.step = Step::Parts { parts, queries: queries + 1, found };
        } else if found == 0 {
            return Err(tie("Stream does not find them by their date"));
        } else {
            self.at = Some(self.after_tie());
            self.seen.clear();
        }
        Ok(new)
    }

    /// Asks for the channels of `at` again, in parts: by type if the selection names them, else as one.
    fn divide(&mut self) {
        let types = &self.selection.channel_types;
        let parts = if types.len() > 1 {
            types.iter().map(|one| Part { channel_type: Some(one.clone()), ..Part::default() }).collect()
        } else {
            vec![Part::default()]
        };
        self.step = Step::Parts { parts, queries: 0, found: 0 };
    }

    /// Drops what was yielded before and moves the keyset to the page's last instant.
    fn take_new(&mut self, page: Vec<ChannelRef>) -> Vec<ChannelRef> {
        let mut new = Vec::new();
        for channel in page {
            let Some(created_at) = channel.created_at.filter(|&at| at < self.until) else { continue };
            if self.at.is_some_and(|at| created_at < at) {
                continue;
            }
            if self.at != Some(created_at) {
                self.at = Some(created_at);
                self.seen.clear();
            }
            if self.seen.insert(channel.cid.clone()) {
                new.push(channel);
            }
        }
        new
    }
}

/// A cid of the page that cuts the part in two smaller ones. Stream's order of cids is not known, but any order that Stream
/// keeps is cut cleanly by a cid inside the range; the part's own lower bound would leave one half as large as the whole.
fn middle_cid(page: &[ChannelRef], part: &Part) -> Option<String> {
    let inside = page.iter().map(|channel| &channel.cid).filter(|&cid| Some(cid) != part.cid_from.as_ref());
    let mut cids: Vec<_> = inside.collect();
    cids.sort_unstable();
    cids.dedup();
    cids.get(cids.len() / 2).map(|&cid| cid.clone())
}

fn check_order(page: &[ChannelRef]) -> Result<(), DiscoveryError> {
    for pair in page.windows(2) {
        if let (Some(after), Some(created_at)) = (pair[0].created_at, pair[1].created_at)
            && created_at < after
        {
            return Err(DiscoveryError::Unsorted { cid: pair[1].cid.clone(), created_at, after });
        }
    }
    Ok(())
}

/// All channels of a selection, page by page: memory is one page, however many channels there are.
pub struct Discovery {
    client: Client,
    walk: Walk,
    named: Option<Named>,
}

/// Channels that the selection names, and how many of them were yielded or passed over.
struct Named {
    cids: Arc<[String]>,
    done: usize,
    /// Whether only those are wanted that had a message, and those that Stream does not list.
    are_looked_up: bool,
    absent: Vec<String>,
}

impl Discovery {
    /// Channels created before `until` with a message since `since` (none: with or without messages). Of channels that the selection
    /// names, a few are yielded as they are, and many are looked up.
    pub fn new(client: &Client, selection: Selection, since: Option<Timestamp>, until: Timestamp) -> Self {
        let named = (!selection.cids.is_empty()).then(|| Named {
            are_looked_up: since.is_some() && selection.is_looked_up(),
            cids: each_once(&selection.cids),
            done: 0,
            absent: Vec::new(),
        });
        Self { client: client.clone(), walk: Walk::new(selection, since, until), named }
    }

    /// How many of the channels that the selection names were looked up.
    pub fn looked_up(&self) -> usize {
        self.named.as_ref().filter(|named| named.are_looked_up).map_or(0, |named| named.done)
    }

    /// The channels that the selection names and Stream did not list, as far as they were looked up.
    pub fn take_absent(&mut self) -> Vec<String> {
        self.named.as_mut().map(|named| std::mem::take(&mut named.absent)).unwrap_or_default()
    }

    /// The next channels, never empty; none at the end. A channel comes once.
    pub async fn next_page(&mut self) -> Result<Option<Vec<ChannelRef>>, DiscoveryError> {
        while let Some(named) = self.named.as_mut().filter(|named| named.are_looked_up) {
            let cids = &named.cids[named.done..];
            let cids = &cids[..cids.len().min(LOOKUPS_AT_ONCE * PAGE_CHANNELS)];
            if cids.is_empty() {
                return Ok(None);
            }
            let listed = self.client.listed(cids).await?;
            let (since, until) = (self.walk.since, self.walk.until);
            named.absent.extend(cids.iter().filter(|cid| !listed.contains_key(*cid)).cloned());
            let is_active = |channel: &&ChannelRef| {
                channel.last_message_at >= since && channel.created_at.is_none_or(|created_at| created_at < until)
            };
            let page: Vec<_> = cids.iter().filter_map(|cid| listed.get(cid)).filter(is_active).cloned().collect();
            named.done += cids.len();
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        if let Some(named) = &mut self.named {
            let cids = named.cids[named.done..].iter().take(PAGE_CHANNELS);
            let page = cids.map(|cid| ChannelRef::from_cid(cid).ok_or_else(|| DiscoveryError::Cid(cid.clone())));
            let page = page.collect::<Result<Vec<_>, _>>()?;
            named.done += page.len();
            return Ok((!page.is_empty()).then_some(page));
        }
        while let Some(query) = self.walk.query() {
            let page = match self.client.query_channels(query, PAGE_CHANNELS).await {
                Ok(answer) => answer.body,
                Err(error) => return Err(self.explain(error)),
            };
            let new = self.walk.accept(page)?;
            if !new.is_empty() {
                return Ok(Some(new));
            }
        }
        Ok(None)
    }

    /// An input error while dividing a tie means that this app's API does not take ranges of cids.
    fn explain(&self, error: DiscoveryError) -> DiscoveryError {
        match (&error, &self.walk.step, self.walk.at) {
            (DiscoveryError::Api(api), Step::Parts { .. }, Some(at))
                if api.refusal().is_some_and(|refusal| refusal.status == 400) =>
            {
                DiscoveryError::Tie { at, why: "Stream refuses a range of cids" }
            }
            _ => error,
        }
    }
}

/// The same list without repetition, which for one in order is itself.
fn each_once(cids: &Arc<[String]>) -> Arc<[String]> {
    if cids.is_sorted_by(|one, next| one < next) {
        return Arc::clone(cids);
    }
    let mut once = HashSet::new();
    cids.iter().filter(|cid| once.insert(*cid)).cloned().collect()
}

/// What a first, cheap call shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hello {
    /// Stream's time.
    pub at: Timestamp,
    /// How far Stream's clock is ahead of the local one; none if Stream did not say.
    pub clock_offset: Option<SignedDuration>,
}

impl Client {
    /// Proves the credentials with one cheap call, and reads Stream's clock.
    pub async fn hello(&self) -> Result<Hello, DiscoveryError> {
        let answer = self.query_channels(oldest(&Selection::default()), 1).await?;
        Ok(Hello { at: answer.at, clock_offset: self.clock_offset() })
    }

    /// The selection's oldest channel by creation; none if there is none. Channels that the selection names are not looked at.
    pub async fn oldest_channel(&self, selection: &Selection) -> Result<Option<ChannelRef>, DiscoveryError> {
        Ok(self.query_channels(oldest(selection), 1).await?.body.into_iter().next())
    }

    /// Those of these channels that Stream lists, whatever their activity: deleted ones are not among them.
    pub async fn listed(&self, cids: &[String]) -> Result<HashMap<String, ChannelRef>, DiscoveryError> {
        let mut listed = HashMap::new();
        for at_once in cids.chunks(LOOKUPS_AT_ONCE * PAGE_CHANNELS) {
            let found = try_join_all(at_once.chunks(PAGE_CHANNELS).map(|cids| self.look_up(cids))).await?;
            listed.extend(found.into_iter().flatten().map(|channel| (channel.cid.clone(), channel)));
        }
        Ok(listed)
    }

    /// Asks again for those that are not in an answer until there is none: how many values Stream takes notice of is not documented.
    async fn look_up(&self, cids: &[String]) -> Result<Vec<ChannelRef>, DiscoveryError> {
        let mut listed = Vec::new();
        let mut left: Vec<&str> = cids.iter().map(String::as_str).collect();
        while !left.is_empty() {
            let query = Query { filter: json!({ "cid": { "$in": left } }), offset: 0 };
            let before = left.len();
            for channel in self.query_channels(query, PAGE_CHANNELS).await?.body {
                left.retain(|cid| *cid != channel.cid);
                listed.push(channel);
            }
            if left.len() == before {
                break;
            }
        }
        Ok(listed)
    }

    /// The channel of the app's latest message; none if there is no message.
    pub async fn latest_channel(&self) -> Result<Option<ChannelRef>, DiscoveryError> {
        let query = Query { filter: json!({ "last_message_at": { "$gte": Timestamp::UNIX_EPOCH } }), offset: 0 };
        let sort = wire::Sort { field: "last_message_at", direction: -1 };
        Ok(self.query_channels_by(sort, query, 1).await?.body.into_iter().next())
    }

    async fn query_channels(&self, query: Query, limit: usize) -> Result<Answer<Vec<ChannelRef>>, DiscoveryError> {
        self.query_channels_by(wire::Sort { field: "created_at", direction: 1 }, query, limit).await
    }

    async fn query_channels_by(
        &self,
        sort: wire::Sort,
        query: Query,
        limit: usize,
    ) -> Result<Answer<Vec<ChannelRef>>, DiscoveryError> {
        let body = wire::QueryChannels {
            filter_conditions: query.filter,
            sort: [sort],
            limit,
            offset: query.offset,
            state: false,
        };
        let answer: Answer<wire::QueriedChannels> = self.post(Endpoint::QueryChannels, &["channels"], &body).await?;
        let channels = answer.body.channels.into_iter().map(|state| channel_ref(state.channel));
        Ok(Answer { body: channels.collect::<Result<_, _>>()?, at: answer.at })
    }
}

/// The first query for a selection's channels, whatever their activity.
fn oldest(selection: &Selection) -> Query {
    let walk = Walk::new(selection.clone(), None, Timestamp::MAX);
    let every_date = Map::from_iter([("$gte".to_owned(), json!(Timestamp::UNIX_EPOCH))]);
    Query { filter: walk.filter(every_date, None), offset: 0 }
}

fn channel_ref(channel: wire::Channel) -> Result<ChannelRef, DiscoveryError> {
    let wire::Channel { cid, channel_type, id, created_at, last_message_at } = channel;
    let cid = if cid.is_empty() { format!("{channel_type}:{id}") } else { cid };
    let named = ChannelRef::from_cid(&cid).ok_or(DiscoveryError::Malformed("a type and id"))?;
    let created_at = Some(created_at.ok_or(DiscoveryError::Malformed("a creation date"))?);
    Ok(ChannelRef { created_at, last_message_at, ..named })
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
