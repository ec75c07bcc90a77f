#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;

use super::*;
use crate::export::scripted::{Reply, Scripted};

/// How an app's database orders cids: nothing public says.
#[derive(Clone, Copy, Debug)]
enum Collation {
    Bytes,
    Backwards,
    NoCase,
}

/// How channels of one instant are ordered in an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ties {
    Stable,
    Shuffled,
}

/// QueryChannels over a list, as far as it is documented, with switches for how it may break.
struct Fake {
    channels: Vec<ChannelRef>,
    collation: Collation,
    ties: Ties,
    ignores_offset: bool,
    ignores_cid: bool,
    queries: usize,
}

impl Fake {
    fn new(channels: Vec<ChannelRef>) -> Self {
        Self {
            channels,
            collation: Collation::Bytes,
            ties: Ties::Stable,
            ignores_offset: false,
            ignores_cid: false,
            queries: 0,
        }
    }

    fn key(&self, cid: &str) -> (String, Vec<u8>) {
        match self.collation {
            Collation::Bytes => (String::new(), cid.bytes().collect()),
            Collation::Backwards => (String::new(), cid.bytes().map(|byte| !byte).chain([255]).collect()),
            Collation::NoCase => (cid.to_lowercase(), cid.bytes().collect()),
        }
    }

    fn answer(&mut self, query: &Query) -> Vec<ChannelRef> {
        self.queries += 1;
        let filter = query.filter.get("$and").map_or(&query.filter, |and| &and[0]);
        let time = |path: &str| filter.pointer(path).map(|at| at.as_str().unwrap().parse::<Timestamp>().unwrap());
        let text = |path: &str| filter.pointer(path).and_then(Value::as_str);
        let mut page: Vec<_> = self
            .channels
            .iter()
            .filter(|channel| {
                let created_at = channel.created_at.unwrap();
                let types = filter.pointer("/type/$in").and_then(Value::as_array);
                time("/created_at/$gte").is_none_or(|at| created_at >= at)
                    && time("/created_at/$lt").is_none_or(|at| created_at < at)
                    && time("/last_message_at/$gte").is_none_or(|at| channel.last_message_at >= Some(at))
                    && text("/type/$eq").is_none_or(|one| channel.channel_type == one)
                    && types.is_none_or(|types| types.contains(&json!(channel.channel_type)))
                    && (self.ignores_cid
                        || text("/cid/$gte").is_none_or(|from| self.key(&channel.cid) >= self.key(from))
                            && text("/cid/$lt").is_none_or(|before| self.key(&channel.cid) < self.key(before)))
            })
            .cloned()
            .collect();
        let salt = if self.ties == Ties::Shuffled { self.queries } else { 0 };
        page.sort_by_cached_key(|channel| {
            let mut hasher = DefaultHasher::new();
            (&channel.cid, salt).hash(&mut hasher);
            (channel.created_at, hasher.finish())
        });
        let offset = if self.ignores_offset { 0 } else { query.offset.min(MAX_OFFSET) };
        page.into_iter().skip(offset).take(PAGE_CHANNELS).collect()
    }

    /// Every channel that the walk yields, in order.
    fn walk(&mut self, mut walk: Walk) -> Result<Vec<String>, DiscoveryError> {
        let mut found = Vec::new();
        while let Some(query) = walk.query() {
            assert!(query.offset <= MAX_OFFSET);
            assert!(self.queries < 20_000, "the walk does not end");
            let page = self.answer(&query);
            found.extend(walk.accept(page)?.into_iter().map(|channel| channel.cid));
        }
        Ok(found)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn channel(channel_type: &str, id: &str, created: i64, last_message: Option<i64>) -> ChannelRef {
    ChannelRef {
        created_at: Some(at(created)),
        last_message_at: last_message.map(at),
        ..ChannelRef::from_cid(&format!("{channel_type}:{id}")).unwrap()
    }
}

fn everything() -> Walk {
    Walk::new(Selection::default(), None, at(1_000_000))
}

/// A crowd created at one instant, with a few before and after.
fn crowd(count: usize) -> Vec<ChannelRef> {
    let mut channels: Vec<_> =
        (0..count).map(|n| channel(["messaging", "team"][n % 2], &format!("c{n}"), 500, Some(600))).collect();
    for n in 0..40 {
        channels.push(channel("messaging", &format!("early{n}"), n, Some(600)));
        channels.push(channel("messaging", &format!("late{n}"), 501 + n, Some(600)));
    }
    channels
}

fn assert_complete(mut found: Vec<String>, channels: &[ChannelRef]) {
    let count = found.len();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), count, "a channel came twice");
    let wanted: BTreeSet<_> = channels.iter().map(|channel| channel.cid.clone()).collect();
    assert_eq!(BTreeSet::from_iter(found), wanted);
}

#[test]
fn a_plain_app_takes_one_query_for_each_page_and_one_to_be_sure() {
    let channels: Vec<_> = (0..291).map(|n| channel("messaging", &format!("c{n}"), n, Some(n))).collect();
    let mut fake = Fake::new(channels.clone());
    let found = fake.walk(everything()).unwrap();
    // Each page after the first begins with the last channel of the one before.
    assert_eq!(fake.queries, 1 + 9 + 1);
    assert_eq!(found, channels.iter().map(|channel| channel.cid.clone()).collect::<Vec<_>>());
}

#[test]
fn an_app_without_channels_takes_one_query() {
    let mut fake = Fake::new(Vec::new());
    assert!(fake.walk(everything()).unwrap().is_empty());
    assert_eq!(fake.queries, 1);
}

#[test]
fn ties_are_passed_by_offset() {
    for count in [29, 30, 31, 59, 60, 900, 1000] {
        let channels = crowd(count);
        let mut fake = Fake::new(channels.clone());
        assert_complete(fake.walk(everything()).unwrap(), &channels);
        assert!(fake.queries < 10 + count.div_ceil(29), "{count}: {}", fake.queries);
    }
}

#[test]
fn a_tie_that_offsets_cannot_pass_is_divided() {
    for (collation, ties) in
        [(Collation::Bytes, Ties::Stable), (Collation::Backwards, Ties::Shuffled), (Collation::NoCase, Ties::Shuffled)]
    {
        let channels = crowd(1200);
        let mut fake = Fake { collation, ties, ..Fake::new(channels.clone()) };
        assert_complete(fake.walk(everything()).unwrap(), &channels);
        assert!(fake.queries < 500, "{collation:?}: {}", fake.queries);
    }
}

#[test]
fn a_tie_is_divided_by_the_types_of_the_selection_first() {
    let channels = crowd(1200);
    let types = vec!["messaging".to_owned(), "team".to_owned()];
    let walk = Walk::new(Selection { channel_types: types, ..Selection::default() }, None, at(1_000_000));
    assert_complete(Fake::new(channels.clone()).walk(walk).unwrap(), &channels);
}

#[test]
fn an_api_that_ignores_offsets_is_no_endless_loop() {
    let channels = crowd(200);
    let mut fake = Fake { ignores_offset: true, ..Fake::new(channels.clone()) };
    assert_complete(fake.walk(everything()).unwrap(), &channels);
}

#[test]
fn a_tie_that_cannot_be_divided_is_an_error_that_names_it() {
    let mut fake = Fake { ignores_cid: true, ..Fake::new(crowd(1200)) };
    let error = fake.walk(everything()).unwrap_err();
    assert!(matches!(error, DiscoveryError::Tie { at: tie, .. } if tie == at(500)), "{error}");
    assert!(fake.queries < 100, "{}", fake.queries);
    assert_eq!(Error::from(error).kind(), Kind::Data);
}

#[test]
fn an_answer_out_of_order_is_an_error_and_stays_one() {
    let mut walk = everything();
    let page = || vec![channel("a", "1", 5, None), channel("a", "2", 4, None)];
    for _ in 0..2 {
        assert!(matches!(walk.accept(page()), Err(DiscoveryError::Unsorted { .. })));
        assert!(walk.query().is_some());
    }
}

#[test]
fn activity_and_creation_bound_the_walk() {
    let channels = vec![
        channel("a", "quiet", 0, None),
        channel("a", "old", 1, Some(50)),
        channel("a", "edge", 2, Some(100)),
        channel("a", "late", 200, Some(300)),
    ];
    let walk = Walk::new(Selection::default(), Some(at(100)), at(200));
    assert_eq!(Fake::new(channels).walk(walk).unwrap(), ["a:edge"]);
}

#[test]
fn the_users_filter_is_added_and_not_merged() {
    let filter = json!({ "created_at": { "$gt": "2020-01-01T00:00:00Z" }, "team": "red" });
    let selection = Selection {
        filter: filter.as_object().cloned(),
        channel_types: vec!["messaging".into()],
        ..Selection::default()
    };
    let query = Walk::new(selection, Some(at(0)), at(10)).query().unwrap();
    let own = json!({
        "created_at": { "$lt": "2023-11-14T22:13:30Z" },
        "last_message_at": { "$gte": "2023-11-14T22:13:20Z" },
        "type": { "$eq": "messaging" },
    });
    assert_eq!(query.filter, json!({ "$and": [own, filter] }));
}

#[test]
fn an_offset_page_that_repeats_a_channel_is_not_believed() {
    let crowd = crowd(60);
    let tie = |range: std::ops::Range<usize>| crowd[range].to_vec();
    let mut walk = everything();
    assert_eq!(walk.accept(tie(0..30)).unwrap().len(), 30);
    assert!(walk.accept(tie(0..30)).unwrap().is_empty());
    assert_eq!(walk.query().unwrap().offset, 29);
    // The overlap fits by chance, and a channel of the first page stands where another should.
    let mut page = tie(29..50);
    page[5] = crowd[3].clone();
    assert!(walk.accept(page).unwrap().is_empty());
    assert!(matches!(walk.step, Step::Parts { .. }));
}

#[test]
fn an_api_that_lists_channels_past_the_end_ends_there() {
    let mut walk = Walk::new(Selection::default(), None, at(10));
    let page: Vec<_> = (0..30).map(|n| channel("a", &format!("{n:02}"), n, None)).collect();
    assert_eq!(walk.accept(page).unwrap().len(), 10);
    assert_eq!(walk.query(), None);
}

#[test]
fn a_cut_is_never_the_lower_bound() {
    let page: Vec<_> = ["b", "a", "c"].map(|id| channel("m", id, 0, None)).into();
    let from = |cid: &str| Part { cid_from: Some(cid.into()), ..Part::default() };
    assert_eq!(middle_cid(&page, &Part::default()).unwrap(), "m:b");
    assert_eq!(middle_cid(&page, &from("m:b")).unwrap(), "m:c");
    assert_eq!(middle_cid(&page[..1], &from("m:b")), None);
}

fn channels() -> impl Strategy<Value = Vec<ChannelRef>> {
    let one = (
        "[a-c]|[A-C]",
        "[a-dA-D0-1_!-]{1,5}",
        prop_oneof![Just(7i64), Just(7i64), 0..30i64],
        prop::option::of(0..40i64),
    );
    prop::collection::vec(one, 0..400).prop_map(|all| {
        let mut once = HashSet::new();
        all.into_iter()
            .map(|(channel_type, id, created, last)| channel(&channel_type, &id, created, last))
            .filter(|channel| once.insert(channel.cid.clone()))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_channel_comes_exactly_once(
        channels in channels(),
        collation in prop::sample::select(vec![Collation::Bytes, Collation::Backwards, Collation::NoCase]),
        ties in prop::sample::select(vec![Ties::Stable, Ties::Shuffled]),
        ignores_offset in any::<bool>(),
        since in prop::option::of(0..40i64),
        types in prop::sample::select(vec![vec![], vec!["a".to_owned()], vec!["a".to_owned(), "B".to_owned()]]),
    ) {
        let selection = Selection { channel_types: types.clone(), ..Selection::default() };
        let mut fake = Fake { collation, ties, ignores_offset, ..Fake::new(channels.clone()) };
        let found = fake.walk(Walk::new(selection, since.map(at), at(25))).unwrap();
        let wanted: Vec<_> = channels
            .into_iter()
            .filter(|channel| {
                channel.created_at < Some(at(25))
                    && since.is_none_or(|since| channel.last_message_at >= Some(at(since)))
                    && (types.is_empty() || types.contains(&channel.channel_type))
            })
            .collect();
        assert_complete(found, &wanted);
    }
}

fn listed(channels: &[ChannelRef]) -> Reply {
    let list = channels.iter().map(|channel| {
        json!({ "channel": {
            "cid": channel.cid, "type": channel.channel_type, "id": channel.id, "name": "custom",
            "created_at": channel.created_at, "last_message_at": channel.last_message_at, "config": {},
        }, "messages": [] })
    });
    Reply::json(201, json!({ "channels": list.collect::<Vec<_>>(), "duration": "1ms" }))
}

#[tokio::test]
async fn pages_are_fetched_one_at_a_time() {
    let channels: Vec<_> = (0..70).map(|n| channel("messaging", &format!("c{n}"), n, Some(n))).collect();
    let mut fake = Fake::new(channels.clone());
    let server = Scripted::start(move |request| {
        let query = Query {
            filter: request.body["filter_conditions"].clone(),
            offset: usize::try_from(request.body["offset"].as_u64().unwrap()).unwrap(),
        };
        listed(&fake.answer(&query))
    })
    .await;
    let client = server.client();
    let mut discovery = Discovery::new(&client, Selection::default(), Some(at(0)), at(1000));
    let mut found = Vec::new();
    while let Some(page) = discovery.next_page().await.unwrap() {
        assert!(!page.is_empty() && page.len() <= PAGE_CHANNELS);
        found.extend(page);
    }
    assert_eq!(found, channels);
    let body = &server.requests()[0].body;
    assert_eq!((&body["limit"], &body["state"]), (&json!(30), &json!(false)));
    assert_eq!(body["sort"], json!([{ "field": "created_at", "direction": 1 }]));
}

#[tokio::test]
async fn a_failed_page_can_be_asked_for_again() {
    let page = vec![channel("a", "1", 1, None)];
    let server = Scripted::queue([
        listed(&page),
        Reply::error(403, 17, "not now"),
        listed(&[page[0].clone(), channel("a", "2", 2, None)]),
        listed(&[]),
    ])
    .await;
    let mut discovery = Discovery::new(&server.client(), Selection::default(), None, at(1000));
    assert_eq!(discovery.next_page().await.unwrap().unwrap().len(), 1);
    assert!(discovery.next_page().await.is_err());
    assert_eq!(discovery.next_page().await.unwrap().unwrap()[0].cid, "a:2");
    assert_eq!(discovery.next_page().await.unwrap(), None);
}

#[tokio::test]
async fn an_api_that_refuses_cid_ranges_makes_a_tie_an_error() {
    let mut fake = Fake::new(crowd(1200));
    let server = Scripted::start(move |request| {
        let filter = request.body["filter_conditions"].clone();
        if filter.get("cid").is_some() {
            return Reply::error(400, 4, "cid does not support $gte");
        }
        let offset = usize::try_from(request.body["offset"].as_u64().unwrap()).unwrap();
        listed(&fake.answer(&Query { filter, offset }))
    })
    .await;
    let mut discovery = Discovery::new(&server.client(), Selection::default(), None, at(1000));
    let error = loop {
        match discovery.next_page().await {
            Ok(page) => assert!(page.is_some(), "a silent cut"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DiscoveryError::Tie { .. }), "{error}");
}

#[tokio::test]
async fn named_channels_are_not_queried() {
    let server = Scripted::queue([]).await;
    let named =
        |cids: &[&str]| Selection { cids: cids.iter().map(ToString::to_string).collect(), ..Selection::default() };
    let mut discovery = Discovery::new(&server.client(), named(&["a:1", "b:2:x", "a:1"]), None, at(0));
    let page = discovery.next_page().await.unwrap().unwrap();
    let parts: Vec<_> = page.iter().map(|one| (one.channel_type.as_str(), one.id.as_str())).collect();
    assert_eq!(parts, [("a", "1"), ("b", "2:x")]);
    assert_eq!(discovery.next_page().await.unwrap(), None);

    let mut discovery = Discovery::new(&server.client(), named(&["a:1", "general"]), None, at(0));
    for _ in 0..2 {
        let error = discovery.next_page().await.unwrap_err();
        assert!(error.to_string().contains("`general`"));
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn hello_and_the_oldest_channel_take_one_call_each() {
    let server = Scripted::queue([
        listed(&[]).header("Date", "Tue, 01 Sep 2026 12:00:00 GMT"),
        listed(&[channel("a", "1", 9, None)]),
    ])
    .await;
    let client = server.client();
    let hello = client.hello().await.unwrap();
    assert!(hello.clock_offset.is_some());
    let oldest = client.oldest_channel(&Selection::default()).await.unwrap().unwrap();
    assert_eq!(oldest.created_at, Some(at(9)));
    let body = &server.requests()[1].body;
    assert_eq!((&body["limit"], &body["sort"][0]["direction"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_channel_without_a_date_is_an_error() {
    let server = Scripted::queue([Reply::json(201, json!({ "channels": [{ "channel": { "cid": "a:1" } }] }))]).await;
    let mut discovery = Discovery::new(&server.client(), Selection::default(), None, at(0));
    assert!(matches!(discovery.next_page().await, Err(DiscoveryError::Malformed(_))));
}

#[tokio::test]
async fn channels_that_an_answer_leaves_out_are_looked_up_again() {
    let names: Vec<String> = (0..4).map(|number| format!("a:{number}")).collect();
    let one = |number: usize| channel("a", &number.to_string(), 1, None);
    let server = Scripted::queue([listed(&[one(0), one(2)]), listed(&[one(3)]), listed(&[])]).await;
    let found = server.client().listed(&names).await.unwrap();
    let mut found: Vec<_> = found.into_keys().collect();
    found.sort();
    assert_eq!(found, ["a:0", "a:2", "a:3"]);
    let asked: Vec<_> =
        server.requests().iter().map(|request| request.body["filter_conditions"]["cid"]["$in"].clone()).collect();
    assert_eq!(asked, [json!(names), json!(["a:1", "a:3"]), json!(["a:1"])]);
}

#[tokio::test]
async fn of_many_named_channels_the_active_ones_are_yielded_and_the_others_told() {
    let names: Arc<[String]> = (10..40).map(|number| format!("a:{number}")).collect();
    let active = channel("a", "12", 1, Some(900));
    let quiet: Vec<_> = (13..39).map(|number| channel("a", &number.to_string(), 1, Some(100))).collect();
    let young = channel("a", "39", 2_000, Some(2_000));
    let answer: Vec<_> = [active.clone(), young].into_iter().chain(quiet).collect();
    let server = Scripted::queue([listed(&answer), listed(&[])]).await;
    let selection = Selection { cids: names, ..Selection::default() };
    let mut discovery = Discovery::new(&server.client(), selection, Some(at(500)), at(1_000));
    assert_eq!(discovery.next_page().await.unwrap(), Some(vec![active]));
    assert_eq!(discovery.next_page().await.unwrap(), None);
    assert_eq!((discovery.looked_up(), discovery.take_absent()), (30, vec!["a:10".to_owned(), "a:11".to_owned()]));
}
