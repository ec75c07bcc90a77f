//! Runs that are killed at any moment, on Stream's and the network's bad days, and started again until they end.

use std::process::Child;
use std::time::{Duration, Instant};

use simulator::switches::Switches;
use simulator::{Effect, Fault, Size, World};

use crate::bench::{Bench, Place, Ran, Random, at, hours, is_long, seed};
use crate::inside::Inside;
use crate::ledger::Ledger;
use crate::replace;
use crate::watch::{Seen, Watch};

const SIGKILL: i32 = 9;
const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];
/// Kills of one command before it may end in peace.
const KILLS: u32 = 12;

/// Something that goes wrong at one of the next calls.
pub fn fault(random: &mut Random, calls: u64) -> Fault {
    let endpoint = *random.pick(&["QueryChannels", "ExportChannels", "GetTask", "Download"]);
    let fault = match random.below(10) {
        0 | 1 => Fault::status(endpoint, 429),
        2 => Fault::status(endpoint, 500),
        3 => Fault::status(endpoint, 503),
        4 => Fault::on(endpoint, Effect::Reset),
        5 => Fault::on(endpoint, Effect::LoseAnswer),
        6 => Fault::on("Download", Effect::CutBody { after_bytes: usize::try_from(random.below(20_000)).unwrap() }),
        7 => Fault::on("Download", Effect::NewEtag),
        // As an expired URL is refused.
        8 => Fault::status("Download", 403),
        _ => Fault::on("ExportChannels", Effect::FailTask { description: "export failed: internal".into() }),
    };
    fault.after(u32::try_from(random.below(calls)).unwrap())
}

/// What is counted over all rounds.
#[derive(Debug, Default)]
struct Tally {
    rounds: u32,
    runs: u32,
    kills: u32,
    failures: u32,
    exports: usize,
    faults: usize,
    looks: u64,
    unsettled: u64,
}

impl Tally {
    fn saw(&mut self, seen: Seen) {
        self.looks += seen.looks;
        self.unsettled += seen.unsettled;
    }

    /// Runs a command again and again, killing it at random moments, until it ends with 0.
    fn survive(&mut self, bench: &Bench, random: &mut Random, ledger: &mut Ledger, arguments: &[&str]) {
        let replaces = arguments.contains(&"--replace");
        for attempt in 0.. {
            assert!(attempt < 10 * KILLS, "it never ends");
            if attempt < KILLS {
                bench.simulator.clear_faults();
                for _ in 0..random.below(4) {
                    bench.simulator.add_fault(fault(random, 8));
                }
            }
            let patience = if attempt < KILLS { 10 << random.below(8) } else { u64::MAX };
            let ran = killed_after(bench.start(arguments), Duration::from_millis(patience));
            self.runs += 1;
            ledger.close_run(bench, replaces, matches!(ran.code, 0 | 69));
            match (ran.signal, ran.code) {
                (Some(SIGKILL), _) => self.kills += 1,
                (_, 0) => break,
                (_, 69 | 75) => self.failures += 1,
                _ => panic!("{ran:#?}"),
            }
        }
    }

    /// A new lake, two days, a day of changes, the same two days again.
    fn round(&mut self, random: &mut Random) {
        let size = Size { channels: 24, users: 16, days: 2, messages_per_channel_day: 8, ..Size::default() };
        let polls = u32::try_from(1 + random.below(2)).unwrap();
        let world = World::seeded(random.below(1_000_000), &size);
        let has_s3 = std::env::var("CHATLAKE_TEST_S3_ENDPOINT").is_ok();
        let place = if is_long() && has_s3 && self.rounds % 4 == 3 { Place::S3 } else { Place::Folder };
        let mut bench = Bench::with(world, Switches::default(), place).expect("a lake in either place");
        bench.simulator.change_switches(|switches| switches.task_polls = polls);
        let limits = ["--channels-per-request", "4", "--rate-share", "1", "--max-concurrent-exports", "3"];
        let watch = Watch::over(&bench);
        let mut ledger = Ledger::open(&bench);
        bench.set_time(at("2026-01-07T00:10:00Z"));
        let sync = [&["sync", "--json", "--start", RANGE[0], "--revisit", "none"], &limits[..]].concat();
        self.survive(&bench, random, &mut ledger, &sync);
        // A channel whose export failed again and again is asked for again when an hour has passed.
        for hour in [2, 5, 12] {
            let status = bench.run(&["status", "--json"]).summary();
            if status["exceptions"].as_array().is_some_and(|cells| !cells.is_empty()) {
                println!("to be filled: {}", status["exceptions"]);
                bench.set_time(at("2026-01-07T00:10:00Z") + hours(hour));
                self.survive(&bench, random, &mut ledger, &sync);
            }
        }
        bench.assert_exact(RANGE[0], RANGE[1]).assert_one_file_each(&["messages", "reactions"]);

        bench.set_time(at("2026-01-09T00:00:00Z"));
        let mut hard = replace::change(&bench);
        let again = [&["sync", "--json", "--replace", "--since", RANGE[0], "--until", RANGE[1]], &limits[..]].concat();
        self.survive(&bench, random, &mut ledger, &again);
        self.saw(watch.end());
        let contents = bench.assert_exact(RANGE[0], RANGE[1]);
        contents.assert_one_file_each(&["messages", "reactions"]);
        let gone = contents.messages.iter().filter(|message| message.vanished).map(|message| message.id.clone());
        let mut gone: Vec<String> = gone.collect();
        gone.sort();
        hard.sort();
        assert_eq!(gone, hard);
        Inside::of(&bench).assert_settled(&[]);
        self.exports += bench.exports();
        self.faults += bench.simulator.calls().iter().filter(|call| call.fault.is_some()).count();
        self.rounds += 1;
    }
}

/// Ends a process when it has had this long, unless it has ended by itself.
fn killed_after(mut child: Child, patience: Duration) -> Ran {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() >= patience {
            child.kill().unwrap();
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ran::from(child.wait_with_output().unwrap())
}

#[test]
fn runs_that_are_killed_at_any_moment_lose_nothing_and_double_nothing() {
    let mut random = Random(seed());
    let budget = Duration::from_secs(if is_long() { 600 } else { 40 });
    let begun = Instant::now();
    let mut tally = Tally::default();
    while begun.elapsed() < budget {
        tally.round(&mut random);
        println!("{} s: {tally:?}", begun.elapsed().as_secs());
    }
    assert!(tally.kills > 0 && tally.looks > 0, "{tally:?}");
}
