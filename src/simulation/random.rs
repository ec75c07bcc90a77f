//! Numbers from a seed.

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The dice of one history, shared by all who take part. SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(Arc<Mutex<u64>>);

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// A number below `end`.
    pub(super) fn below(&self, end: u64) -> u64 {
        split_mix(&mut self.0.lock().unwrap()) % end
    }

    /// True this often in a thousand.
    pub(super) fn per_mille(&self, chances: u64) -> bool {
        self.below(1_000) < chances
    }

    pub(super) fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    /// Mostly a few milliseconds, at times some seconds, hardly ever more than a day: a machine that slept.
    pub(super) fn delay(&self) -> Duration {
        match self.below(2_000) {
            0 => Duration::from_secs(26 * 3600),
            1..40 => Duration::from_millis(self.below(20_000)),
            _ => Duration::from_micros(self.below(30_000)),
        }
    }
}

thread_local! {
    static JITTER: Cell<u64> = const { Cell::new(0) };
}

/// Seeds the jitter of clients on this thread.
pub(super) fn seed_jitter(seed: u64) {
    JITTER.set(seed);
}

/// A number in `[0, 1)`.
pub(super) fn jitter() -> f64 {
    let mut state = JITTER.get();
    let number = split_mix(&mut state);
    JITTER.set(state);
    (number >> 11) as f64 / (1u64 << 53) as f64
}
