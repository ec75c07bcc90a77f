//! A busy day in hourly cells, with everything going wrong at once.

use std::collections::BTreeMap;
use std::time::Instant;

use simulator::switches::Switches;
use simulator::{Effect, Fault, Size, World};

use crate::bench::{Bench, Place, Random, at, is_long, seed};
use crate::inside::Inside;
use crate::kill;
use crate::ledger::Ledger;
use crate::watch::Watch;

const RANGE: [&str; 2] = ["2026-01-05", "2026-01-06"];

#[test]
fn a_busy_day_of_hourly_cells_is_exact_whatever_goes_wrong() {
    let mut random = Random(seed());
    let (channels, messages_per_channel_day, faults) = if is_long() { (500, 400, 300) } else { (60, 100, 20) };
    let size = Size { channels, users: 100, days: 1, messages_per_channel_day, odd_channels: true, ..Size::default() };
    let world = World::seeded(random.below(1_000_000), &size);
    let mut bench = Bench::with(world, Switches::default(), Place::Folder).unwrap();
    bench.set_time(at("2026-01-07T00:00:00Z"));
    // Finished exports wait for a core to read them, longer than this when there are many.
    bench.simulator.change_switches(|switches| switches.url_seconds = 10);
    let mut expired = 0;
    for _ in 0..faults {
        let fault = kill::fault(&mut random, faults);
        expired += u32::from(matches!(fault.effect, Effect::Status { status: 403, .. }));
        // Many refusals of one file would be no bad day but a lack of permission.
        if !matches!(fault.effect, Effect::Status { status: 403, .. }) || expired <= 2 {
            bench.simulator.add_fault(fault);
        }
    }
    for _ in 0..4 {
        let slow = Effect::SlowBody { chunk_bytes: 4_000, delay_ms: 20 };
        bench.simulator.add_fault(Fault::on("Download", slow).after(u32::try_from(random.below(faults)).unwrap()));
    }
    let arguments =
        ["--window", "1h", "--rate-share", "1", "--channels-per-request", if is_long() { "5" } else { "3" }];
    let begun = Instant::now();
    let watch = Watch::over(&bench);
    let mut ledger = Ledger::open(&bench);
    let mut codes: Vec<i32> = Vec::new();
    while codes.last() != Some(&0) {
        assert!(codes.len() < 100, "it never ends: {codes:?}");
        let ran = bench.sync(RANGE[0], RANGE[1], &arguments);
        assert!(matches!(ran.code, 0 | 69 | 75), "{ran:#?}");
        ledger.close_run(&bench, false, ran.code != 75);
        codes.push(ran.code);
        // Those that the runs did not come to happen in no later one either.
        if codes.len() == 50 {
            bench.simulator.clear_faults();
        }
    }
    let seconds = begun.elapsed().as_secs();
    let seen = watch.end();
    let mut happened: BTreeMap<String, usize> = BTreeMap::new();
    for call in bench.simulator.calls() {
        if let Some(fault) = call.fault {
            *happened.entry(format!("{} {fault} {}", call.endpoint, call.status)).or_default() += 1;
        }
    }
    Inside::of(&bench).assert_settled(&[]);
    let contents = bench.assert_exact(RANGE[0], RANGE[1]);
    println!(
        "{} messages of {channels} channels in {seconds} s, {} exports",
        contents.rows["messages"],
        bench.exports()
    );
    println!("exit codes {codes:?}, {seen:?}, faults {happened:#?}");
    assert_eq!(Inside::of(&bench).state().covers().count(), 24);
    assert!(happened.len() > 5, "{happened:?}");
}
