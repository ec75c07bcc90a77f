//! Deterministic simulation: the production code from `Run::execute` down, on a store in memory and on Stream's stand-in without
//! a socket, in virtual time, on one thread. A seed decides everything that the world may decide: delays, faults, deaths,
//! what is asked of each run and what people do to the chat meanwhile. The same seed gives the same history.
//!
//! ```text
//! SEED=17 cargo nextest run simulation                     one history again
//! SEEDS=100000 cargo nextest run --release simulation      a long run
//! ```
//! While it runs, a reader looks at every commit ([`check`]); at its end everything heals, and the lake must equal the app.

mod actor;
mod check;
mod history;
pub(crate) mod planted;
mod random;
mod store;
mod stream;

use std::collections::BTreeMap;

use self::history::{History, Outcome};
use self::planted::Bug;

/// Histories that the test run makes, and the long one.
const DEFAULT_SEEDS: u64 = 150;
const LONG_SEEDS: u64 = 5_000;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds to try: the one that is named, or so many from a start that differs from day to day.
fn seeds() -> std::ops::Range<u64> {
    match (from_env("SEED"), from_env("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => {
            let default =
                if from_env("CHATLAKE_TEST_LONG").is_some_and(|value| value != 0) { LONG_SEEDS } else { DEFAULT_SEEDS };
            let start = u64::try_from(jiff::Timestamp::now().as_second() / 86_400).unwrap_or(0) * 1_000_000;
            start..start + count.unwrap_or(default)
        }
    }
}

/// Tries seeds on as many threads as there are cores. Yields the first that fails, by number.
fn first_failure(seeds: std::ops::Range<u64>, bug: Option<Bug>) -> (Option<(u64, String)>, Outcome) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let results = std::sync::Mutex::new((BTreeMap::new(), Outcome::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end || !results.lock().unwrap().0.is_empty() {
                        return;
                    }
                    let made = History::make(seed, bug);
                    let mut results = results.lock().unwrap();
                    results.1.add(&made.outcome);
                    if let Some(error) = made.error {
                        results.0.insert(seed, error);
                    }
                }
            });
        }
    });
    let (failures, outcome) = results.into_inner().unwrap();
    (failures.into_iter().next(), outcome)
}

#[test]
fn every_history_ends_with_an_exact_lake() {
    let seeds = seeds();
    println!("SEEDS {seeds:?}");
    let begun = std::time::Instant::now();
    let (failure, outcome) = first_failure(seeds.clone(), None);
    if let Some((seed, error)) = failure {
        if from_env("SEED").is_some() {
            let trace = History::make(seed, None).trace;
            println!("{}", trace.join("\n"));
        }
        panic!("SEED={seed}: {error}");
    }
    let count = seeds.end - seeds.start;
    println!("{count} histories in {:.1} s: {outcome:?}", begun.elapsed().as_secs_f64());
    if count >= 50 {
        assert!(outcome.commits > count && outcome.deaths > count / 2 && outcome.faults > count, "{outcome:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in [from_env("SEED").unwrap_or(3), 4, 5] {
        let (one, other) = (History::make(seed, None), History::make(seed, None));
        let differs = one.trace.iter().zip(&other.trace).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("SEED={seed}: step {at} is `{}` and then `{}`", one.trace[at], other.trace[at]);
        }
        assert_eq!(one.trace.len(), other.trace.len(), "SEED={seed}");
        assert!(one.trace.len() > 200, "SEED={seed}: {} steps", one.trace.len());
    }
}

/// Seeds within which a planted bug must be found.
const BUDGET: u64 = 3_000;

fn assert_caught(bug: Bug) {
    let (failure, outcome) = first_failure(1..1 + BUDGET, Some(bug));
    let (seed, error) = failure.unwrap_or_else(|| panic!("{bug:?} was not caught by {BUDGET} seeds: {outcome:?}"));
    println!("{bug:?} is caught by seed {seed}: {error}");
    assert!(History::make(seed, Some(bug)).error.is_some(), "a failing seed fails again");
    assert_eq!(History::make(seed, None).error, None, "without the bug it passes");
}

#[test]
fn a_put_that_is_believed_without_looking_is_caught() {
    assert_caught(Bug::LostPut);
}

#[test]
fn deleting_before_moving_is_caught() {
    assert_caught(Bug::DeleteBeforeRename);
}

#[test]
fn an_older_export_that_replaces_a_newer_one_is_caught() {
    assert_caught(Bug::OlderReplacesNewer);
}
