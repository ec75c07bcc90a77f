//! What Stream is asked: for `n` active channels, of which there are some hundred, a span costs `n / 25` exports and `n / 30` queries, each
//! rounded up, and two queries more at most, whatever else the app holds and however many cells the span has. How often a task is
//! asked for is tested where it is decided, in virtual time.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::Value;
use simulator::switches::Switches;
use simulator::{Call, Channel, Message, World};

use crate::bench::{Bench, Place, at, hours};

const DAY: [&str; 2] = ["2026-01-05", "2026-01-06"];

/// An app with so many channels that had a message at noon of so many days before the 6th, and as many that had none.
fn app(active: usize, days: i32) -> World {
    let mut world = World::empty();
    let end = at(DAY[1]);
    let noon = |days_ago: i32| end - hours(12) - hours(24) * days_ago;
    let mut add = |name: String, created_at, messages: &[jiff::Timestamp]| {
        let cid = world.add_channel(Channel::new("team", &name, created_at)).unwrap();
        for (number, sent_at) in messages.iter().enumerate() {
            world.add_message(&cid, Message::new(format!("{name}-{number}"), "user-1", "hello", *sent_at)).unwrap();
        }
    };
    for number in 0..active {
        let created_at = noon(days) - hours(24 * 30) + SignedDuration::from_secs(i64::try_from(number).unwrap());
        add(format!("active-{number}"), created_at, &(0..days).map(noon).collect::<Vec<_>>());
        // Among them in order of creation: one that is silent since, and one in which nobody ever spoke; and one of later.
        let between = created_at + SignedDuration::from_millis(500);
        match number % 3 {
            0 => add(format!("silent-{number}"), between, &[noon(days)]),
            1 => add(format!("empty-{number}"), between, &[]),
            _ => add(format!("later-{number}"), end + hours(1), &[end + hours(2)]),
        }
    }
    world
}

fn bench(world: World) -> Bench {
    Bench::with(world, Switches::default(), Place::Folder).unwrap()
}

/// Calls of an endpoint since the last time.
struct Spent {
    exports: Vec<Call>,
    queries: usize,
    polls: usize,
}

impl Spent {
    fn of(bench: &Bench) -> Self {
        let queries = bench.simulator.calls_of("QueryChannels");
        // A run begins with a query for one channel, which proves the key and tells the time.
        let (greetings, queries): (Vec<_>, Vec<_>) = queries.into_iter().partition(|call| call.body["limit"] == 1);
        assert_eq!(greetings.len(), 1);
        let exports = bench.simulator.calls_of("ExportChannels");
        let polls = bench.simulator.calls_of("GetTask").len();
        bench.simulator.clear_calls();
        Self { exports, queries: queries.len(), polls }
    }

    /// What so many active channels cost in so many spans.
    #[track_caller]
    fn assert_thrifty(&self, active: usize, spans: usize) {
        let (exports, most_queries) = (spans * active.div_ceil(25), spans * (active.div_ceil(30) + 2));
        println!("{active} channels: {} exports, {} queries of {most_queries}", self.exports.len(), self.queries);
        assert_eq!(self.exports.len(), exports, "exports of {active} channels");
        assert!(self.queries <= most_queries, "{} queries for {active} channels", self.queries);
        // Tasks of these tests have ended when they are asked for.
        assert_eq!(self.polls, exports, "polls for {active} channels");
        let asked: Vec<&String> = self.exports.iter().flat_map(|call| &call.cids).collect();
        assert_eq!(asked.len(), spans * active);
        assert!(asked.iter().all(|cid| cid.starts_with("team:active-")), "{asked:?}");
        assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), active);
    }
}

fn rows(summary: &Value) -> u64 {
    summary["datasets"]["messages"]["rows"].as_u64().unwrap_or_default()
}

#[test]
fn a_day_costs_what_its_active_channels_cost() {
    for active in [0, 1, 25, 26, 30, 31, 60, 61, 90, 700] {
        let bench = bench(app(active, 1));
        let summary = bench.sync(DAY[0], DAY[1], &[]).assert_status(0, "committed");
        assert_eq!(rows(&summary), active as u64);
        Spent::of(&bench).assert_thrifty(active, 1);
        // What is covered costs nothing.
        bench.sync(DAY[0], DAY[1], &[]).assert_status(0, "already_committed");
        assert_eq!(bench.simulator.calls(), []);
    }
}

/// Every page begins with the last channel of the one before, which shows that none of the same instant was passed over. So a page
/// brings 29 new ones, which makes a query more than in smaller apps from 930 channels on.
#[test]
fn a_thousand_channels_take_a_query_for_every_29_of_them() {
    let bench = bench(app(1_500, 1));
    let summary = bench.sync(DAY[0], DAY[1], &[]).assert_status(0, "committed");
    assert_eq!(rows(&summary), 1_500);
    let spent = Spent::of(&bench);
    assert_eq!((spent.exports.len(), spent.queries), (60, 53));
    assert_eq!(spent.queries, 1_499usize.div_ceil(29) + 1);
}

#[test]
fn a_span_of_many_cells_costs_what_one_cell_costs() {
    let bench = bench(app(61, 3));
    let summary = bench.sync("2026-01-03", DAY[1], &["--window", "6h"]).assert_status(0, "committed");
    assert_eq!((summary["cells"].as_array().unwrap().len(), rows(&summary)), (12, 3 * 61));
    Spent::of(&bench).assert_thrifty(61, 1);
}

#[test]
fn a_backfill_costs_each_of_its_spans_once() {
    let bench = bench(app(61, 20));
    let arguments = ["backfill", "--json", "--since", "2025-12-17", "--until", DAY[1], "--span", "10d"];
    let summary = bench.run(&arguments).assert_status(0, "committed");
    assert_eq!((summary["cells"].as_array().unwrap().len(), rows(&summary)), (20, 20 * 61));
    Spent::of(&bench).assert_thrifty(61, 2);
}
