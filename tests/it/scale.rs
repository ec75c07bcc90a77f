//! What a lake says of itself does not follow the number of channels: hours of the bench's apps, small and large.

#[path = "../../benches/scale/app.rs"]
mod app;
#[path = "../../benches/scale/cost.rs"]
#[allow(dead_code)]
mod cost;
#[path = "../../benches/scale/history.rs"]
#[allow(dead_code)]
mod history;

use std::io::Read;

use chatlake::lake::{Key, snapshot};

use self::history::History;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CELLS: usize = 2;
/// An hour's entry: a cover and a file of each dataset that came.
const MOST_ENTRY_BYTES: u64 = 4_096;
/// By how much a cell's cover may differ: digits of numbers, and names that stand in it instead of in an object of their own.
const MOST_DIFFERENCE_BYTES: usize = 512;

/// What two hours leave in the log of an app's lake.
#[derive(Debug)]
struct Weight {
    covers: usize,
    files: usize,
    /// Of the snapshot, not compressed.
    state_bytes: usize,
    most_entry_bytes: u64,
}

fn weigh(channels: u64) -> Result<Weight> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let mut history = History::of(channels)?;
        for _ in 0..CELLS {
            let asked = history.hour().await?.asked;
            let (exports, channels) = (asked.exports, asked.channels);
            assert!(channels >= history.app.active(), "{asked:?}");
            assert_eq!(exports, channels.div_ceil(25), "{asked:?}");
        }
        let state = history.lake.state().await?;
        let mut lines = Vec::new();
        flate2::read::MultiGzDecoder::new(snapshot::write(&state)?.as_slice()).read_to_end(&mut lines)?;
        let entries = history.sizes(&Key::log()).await?;
        Ok(Weight {
            covers: state.covers().count(),
            files: state.files().count(),
            state_bytes: lines.len(),
            most_entry_bytes: entries.into_iter().max().unwrap_or(0),
        })
    })
}

#[test]
fn state_and_entries_are_as_large_for_a_thousand_channels_as_for_a_million() {
    let weights = [1_000, 20_000, 100_000, 1_000_000].map(|channels| weigh(channels).unwrap());
    println!("{weights:#?}");
    for weight in &weights {
        assert_eq!((weight.covers, weight.files), (CELLS, weights[0].files));
        assert!(weight.most_entry_bytes <= MOST_ENTRY_BYTES, "{weight:?}");
        let difference = weight.state_bytes.abs_diff(weights[0].state_bytes);
        assert!(difference <= CELLS * MOST_DIFFERENCE_BYTES, "{difference} bytes: {weights:?}");
    }
}
