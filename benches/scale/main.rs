//! What an app costs by its number of channels: hour after hour a run brings in the fiftieth of them that was active, through
//! `Run::execute` and all below it. The network, the exports' data and the store's disks are what is missing.
//!
//!     cargo bench --bench scale [-- CELLS [CHANNELS...]]
//!
//! 720 cells of an hour by default, for apps of 10,000, 100,000 and 1,000,000 channels. Time is virtual and passes at the pace
//! that Stream's limits allow. CPU is of the thread that does everything but decoding, sorting and encoding, kernel included and
//! Stream's stand-in left out.

mod app;
mod cost;
mod history;

use std::time::Duration;

use chatlake::lake::{Key, snapshot};
use jiff::SignedDuration;
use object_store::path::Path;

use self::app::App;
use self::history::{History, RunCost};

/// That of the program.
#[cfg(all(unix, not(target_os = "macos")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const DAY_CELLS: u64 = 24;

fn main() -> Result<()> {
    // `cargo bench` adds an argument of its own.
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let numbers: Vec<u64> = arguments.map(|text| text.parse()).collect::<std::result::Result<_, _>>()?;
    let (cells, apps) = match numbers.as_slice() {
        [] => (30 * DAY_CELLS, &[10_000, 100_000, 1_000_000][..]),
        [cells] => (*cells, &[10_000, 100_000, 1_000_000][..]),
        [cells, apps @ ..] => (*cells, apps),
    };
    for channels in apps {
        // Each app has a clock of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(play(cells, *channels))?;
    }
    Ok(())
}

async fn play(cells: u64, channels: u64) -> Result<()> {
    let mut history = History::of(channels)?;
    println!("\n{channels} channels, {} of them active in each of {cells} hours", history.app.active());
    let mut runs = Vec::new();
    println!("  after    covers   files  snapshot KB |  CPU ms: state  planning  discovery  commit");
    for cell in 1..=cells {
        runs.push(history.hour().await?);
        if [1, DAY_CELLS, 10 * DAY_CELLS, 30 * DAY_CELLS].contains(&cell) || cell == cells {
            report_parts(&history, cell).await?;
        }
    }
    report_runs(&history, &runs).await
}

async fn report_parts(history: &History, cell: u64) -> Result<()> {
    let state = history.lake.state().await?;
    let parts = history.parts().await?;
    let snapshot = snapshot::write(&state)?;
    println!(
        "  {:<8} {:>6} {:>7} {:>12.1} | {:>14.2} {:>9.2} {:>10.2} {:>7.2}",
        if cell.is_multiple_of(DAY_CELLS) { format!("{} d", cell / DAY_CELLS) } else { format!("{cell} h") },
        state.covers().count(),
        state.files().count(),
        snapshot.len() as f64 / 1e3,
        ms(parts.state),
        ms(parts.planning),
        ms(parts.discovery),
        ms(parts.commit),
    );
    Ok(())
}

async fn report_runs(history: &History, runs: &[RunCost]) -> Result<()> {
    let mean = |of: &dyn Fn(&RunCost) -> f64| runs.iter().map(of).sum::<f64>() / runs.len().max(1) as f64;
    let most = |of: &dyn Fn(&RunCost) -> f64| runs.iter().map(of).fold(0.0, f64::max);
    let cpu = |run: &RunCost| ms(run.cpu);
    println!(
        "  a cell   {:.0} queries, {:.0} exports of {:.0} channels, {:.0} polls; {:.1} minutes, {:.1} at most",
        mean(&|run| run.asked.queries as f64),
        mean(&|run| run.asked.exports as f64),
        mean(&|run| run.asked.channels as f64),
        mean(&|run| run.asked.polls as f64),
        mean(&|run| minutes(run.took)),
        most(&|run| minutes(run.took)),
    );
    println!(
        "           {:.1} ms CPU, {:.1} at most; of the first day {:.1}, of the last {:.1}; and {:.1} for what is left of the data",
        mean(&cpu),
        most(&cpu),
        mean_of(runs.iter().take(24).map(cpu)),
        mean_of(runs.iter().rev().take(24).map(cpu)),
        mean(&|run| ms(run.data_cpu)),
    );
    for (what, folder) in
        [("entries", Key::log()), ("lists", Path::from("_chatlake/lists")), ("snapshots", Key::snapshots())]
    {
        let sizes = history.sizes(&folder).await?;
        let (sum, most) = (sizes.iter().sum::<u64>(), sizes.iter().max().copied().unwrap_or(0));
        println!("  {what}  {} objects of {:.1} KB, {most} bytes at most", sizes.len(), sum as f64 / 1e3);
    }
    let store = history.sizes(&Path::default()).await?;
    println!(
        "  memory   {} MB at most so far, of which the lake's objects are {} MB",
        cost::peak_kb() / 1024,
        store.iter().sum::<u64>() >> 20
    );
    println!("  the app's clock shows {}", App::now());
    Ok(())
}

fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn minutes(duration: SignedDuration) -> f64 {
    duration.as_secs_f64() / 60.0
}
