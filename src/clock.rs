//! The local clock. Everything that asks for the time asks here, so that tests and the demo can let days pass.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// Seconds to add to the clock of this machine; for tests that let days pass.
pub const OFFSET_VARIABLE: &str = "CHATLAKE_CLOCK_OFFSET_SECONDS";

/// The local time.
pub fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(now) = simulated::now() {
        return now;
    }
    let offset = SignedDuration::from_secs(offset().load(Ordering::Relaxed));
    Timestamp::now().saturating_add(offset).unwrap_or(Timestamp::MAX)
}

/// Lets time pass at once.
pub fn advance(seconds: i64) {
    offset().fetch_add(seconds, Ordering::Relaxed);
}

fn offset() -> &'static AtomicI64 {
    static OFFSET: OnceLock<AtomicI64> = OnceLock::new();
    OFFSET.get_or_init(|| {
        let seconds = std::env::var(OFFSET_VARIABLE).ok().and_then(|text| text.parse().ok());
        AtomicI64::new(seconds.unwrap_or(0))
    })
}

/// A length of time for a log.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The virtual time of the history that this thread simulates.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::Cell;

    use jiff::Timestamp;
    use tokio::time::Instant;

    thread_local! {
        static BEGUN: Cell<Option<(Timestamp, Instant)>> = const { Cell::new(None) };
    }

    /// Begins a history at this time, or ends it.
    pub(crate) fn set(begun_at: Option<Timestamp>) {
        BEGUN.set(begun_at.map(|at| (at, Instant::now())));
    }

    pub(super) fn now() -> Option<Timestamp> {
        let (begun_at, begun) = BEGUN.get()?;
        begun_at.saturating_add(begun.elapsed()).ok()
    }
}
