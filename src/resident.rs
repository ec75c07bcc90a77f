//! A process that stays: run after run, on the grid, until it is told to stop.

use std::pin::Pin;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Kind};

/// Runs begin so long after a cell has settled: Stream's clock, which decides, may be behind this machine's.
const LATE: SignedDuration = SignedDuration::from_secs(5);
/// How long a run that failed is waited for at first, and at most.
const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(30);
const LAST_RETRY: SignedDuration = SignedDuration::from_mins(15);
/// The longest sleep at a time: a machine that was suspended wakes up with another clock.
const NAP: Duration = Duration::from_secs(30);

/// When runs begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// From one to the next: at least a second.
    pub every: SignedDuration,
    /// How old a cell must be.
    pub settle: SignedDuration,
}

impl Rhythm {
    /// When the first run after this moment is due: cells end at multiples of `every` since 1970, and have to settle.
    pub fn next(self, after: Timestamp) -> Timestamp {
        let every_s = self.every.as_secs().max(1);
        let offset = self.settle + LATE;
        let past_s = after.as_second() - offset.as_secs();
        let end_s = (past_s.div_euclid(every_s) + 1) * every_s;
        Timestamp::from_second(end_s).and_then(|end| end.checked_add(offset)).unwrap_or(Timestamp::MAX)
    }

    /// The same after runs that failed, so many in a row: what may be better soon is tried soon.
    fn next_after(self, error: &Error, failures: u32, now: Timestamp) -> Timestamp {
        let next = self.next(now);
        if error.kind() != Kind::Temporary {
            return next;
        }
        let doubled = FIRST_RETRY.checked_mul(1 << (failures.clamp(1, 10) - 1)).unwrap_or(LAST_RETRY);
        now.checked_add(doubled.min(LAST_RETRY)).map_or(next, |soon| soon.min(next))
    }
}

/// Runs at once and then in this rhythm, one after the other. A run that takes longer than the rhythm is followed by the next that is
/// due, so that none overlap. Ends with what `stop` says, or with an error of usage, which nothing but another command cures.
pub async fn stay<S: Future<Output = Error>>(
    rhythm: Rhythm,
    clock: impl Fn() -> Timestamp,
    mut stop: Pin<&mut S>,
    mut run: impl AsyncFnMut(Pin<&mut S>) -> Option<Error>,
) -> Error {
    let mut failures = 0;
    loop {
        let due = match run(stop.as_mut()).await {
            Some(error) if matches!(error.kind(), Kind::Interrupted | Kind::Terminated | Kind::Usage) => return error,
            Some(error) => {
                failures += 1;
                let due = rhythm.next_after(&error, failures, clock());
                tracing::warn!(failures, next_run_at = %due, "the run failed");
                due
            }
            None => {
                failures = 0;
                rhythm.next(clock())
            }
        };
        tracing::debug!(next_run_at = %due, "waiting");
        while let Some(left) = Duration::try_from(due.duration_since(clock())).ok().filter(|left| !left.is_zero()) {
            tokio::select! {
                biased;
                error = stop.as_mut() => return error,
                () = tokio::time::sleep(left.min(NAP)) => {}
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;
    use std::pin::pin;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const HOURLY: Rhythm = Rhythm { every: SignedDuration::from_hours(1), settle: SignedDuration::from_mins(5) };

    #[test]
    fn a_run_is_due_when_a_cell_has_settled() {
        assert_eq!(HOURLY.next(at("2026-01-05T10:20:00Z")), at("2026-01-05T11:05:05Z"));
        assert_eq!(HOURLY.next(at("2026-01-05T11:05:04Z")), at("2026-01-05T11:05:05Z"));
        assert_eq!(HOURLY.next(at("2026-01-05T11:05:05Z")), at("2026-01-05T12:05:05Z"));
        let daily = Rhythm { every: SignedDuration::from_hours(24), ..HOURLY };
        assert_eq!(daily.next(at("2026-01-05T00:00:00Z")), at("2026-01-05T00:05:05Z"));
    }

    proptest! {
        #[test]
        fn the_next_run_is_later_by_the_rhythm_at_most(every_s in 1i64..200_000, settle_s in 0i64..10_000, now in -1_000_000i64..4_000_000_000) {
            let rhythm = Rhythm { every: SignedDuration::from_secs(every_s), settle: SignedDuration::from_secs(settle_s) };
            let now = Timestamp::from_second(now).unwrap();
            let wait = rhythm.next(now).duration_since(now);
            prop_assert!(wait > SignedDuration::ZERO && wait <= rhythm.every, "{wait:?}");
            prop_assert_eq!((rhythm.next(now) - rhythm.settle - LATE).as_second().rem_euclid(every_s), 0);
        }
    }

    /// Plays runs that end as told and take a minute each, until `stop` after `hours`; when they began, in minutes.
    async fn play(hours: u64, kinds: &[Option<Kind>]) -> (Vec<i64>, Kind) {
        let begun = Instant::now();
        let start = at("2026-01-05T10:20:00Z");
        let clock = || start.checked_add(SignedDuration::try_from(begun.elapsed()).unwrap()).unwrap();
        let stop = pin!(async move {
            tokio::time::sleep(Duration::from_secs(hours * 3600)).await;
            Error::new(Kind::Terminated, "stopped")
        });
        let runs = RefCell::new(Vec::new());
        let error = stay(HOURLY, clock, stop, async |_stop| {
            let number = runs.borrow().len();
            runs.borrow_mut().push(clock().duration_since(start).as_mins());
            tokio::time::sleep(Duration::from_secs(60)).await;
            let kind = kinds.get(number).copied().flatten()?;
            Some(Error::new(kind, "failed"))
        })
        .await;
        (runs.into_inner(), error.kind())
    }

    #[tokio::test(start_paused = true)]
    async fn runs_follow_the_grid_and_failures_are_tried_again() {
        use Kind::{Permission, Temporary, Usage};
        assert_eq!(play(3, &[]).await, (vec![0, 45, 105, 165], Kind::Terminated));
        // 30 seconds, one minute, two minutes after a minute of work each; then the grid.
        let failing = [Some(Temporary), Some(Temporary), Some(Temporary)];
        assert_eq!(play(1, &failing).await, (vec![0, 1, 3, 6, 45], Kind::Terminated));
        assert_eq!(play(1, &[Some(Permission)]).await, (vec![0, 45], Kind::Terminated));
        assert_eq!(play(1, &[None, Some(Usage)]).await, (vec![0, 45], Usage));
    }
}
