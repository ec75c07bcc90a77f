//! When the next request may go: a share of Stream's limit, so that the app's own backend keeps the rest.
//!
//! Stream counts per minute and caps each second at a thirtieth of that. A token bucket holds both at once: with `n` requests a
//! minute to spend, a bucket of `n / 60` refilled at `(n - n / 60)` a minute lets at most `n` through in any minute and at most
//! `n / 30` in any second (but always one).

use std::time::Duration;

/// What Stream said about its limit in the headers of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// `X-RateLimit-Limit`: requests a minute.
    pub(super) limit_per_minute: Option<u32>,
    /// `X-RateLimit-Remaining`: what is left of this minute, for everyone who uses the app's key.
    pub(super) remaining: Option<u32>,
    /// How long until the limit is full again, from `X-RateLimit-Reset`.
    pub(super) reset_in: Option<Duration>,
}

/// The pace of one endpoint. Time is what has passed since any fixed instant.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    share: f64,
    limit_per_minute: u32,
    /// When the bucket will be full again.
    full_at: Duration,
    /// Nothing goes before: Stream said that the limit is spent.
    held_until: Duration,
}

impl Pace {
    /// A pace of `share` (0 to 1) of this limit.
    pub(super) fn new(limit_per_minute: u32, share: f64) -> Self {
        let share = if share.is_finite() { share.clamp(0.001, 1.0) } else { 1.0 };
        Self { share, limit_per_minute, full_at: Duration::ZERO, held_until: Duration::ZERO }
    }

    /// Requests a minute that this pace allows.
    pub(super) fn per_minute(&self) -> f64 {
        (f64::from(self.limit_per_minute) * self.share).max(f64::MIN_POSITIVE)
    }

    /// Takes the next free place and returns how long to wait for it.
    pub(super) fn reserve(&mut self, now: Duration) -> Duration {
        let bucket = (self.per_minute() / 60.0).max(1.0);
        // With less than two requests a minute the bucket alone is the limit of any minute, so the refill must stay under one.
        let refill_per_minute = (self.per_minute() - bucket).max(self.per_minute() / 2.0);
        let interval = Duration::from_secs_f64((60.0 / refill_per_minute).min(86_400.0));
        let tolerance = interval.mul_f64(bucket - 1.0);
        let at = now.max(self.full_at.saturating_sub(tolerance)).max(self.held_until);
        self.full_at = self.full_at.max(at) + interval;
        at - now
    }

    /// How long everyone must hold still, whatever place they have.
    pub(super) fn held(&self, now: Duration) -> Duration {
        self.held_until.saturating_sub(now)
    }

    /// Holds every request for this long from now.
    pub(super) fn hold(&mut self, now: Duration, wait: Duration) {
        self.held_until = self.held_until.max(now + wait);
    }

    /// Learns from an answer's headers: the limit, and whether it is spent.
    pub(super) fn observe(&mut self, now: Duration, limits: Limits) {
        if let Some(limit) = limits.limit_per_minute.filter(|&limit| limit > 0) {
            self.limit_per_minute = limit;
        }
        if let (Some(0), Some(wait)) = (limits.remaining, limits.reset_in) {
            self.hold(now, wait);
        }
    }
}

/// A number from a header that proxies may have joined: `300`, `300, 300`. The smallest counts.
pub(super) fn parse_number(value: &str) -> Option<u64> {
    value.split(',').map(|part| part.trim().parse().ok()).collect::<Option<Vec<u64>>>()?.into_iter().min()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_default_export_pace_is_one_request_about_every_two_seconds() {
        let mut pace = Pace::new(60, 0.5);
        assert_eq!(pace.reserve(Duration::ZERO), Duration::ZERO);
        let next = pace.reserve(Duration::ZERO).as_secs_f64();
        assert!((2.0..2.1).contains(&next), "{next}");
    }

    #[test]
    fn a_spent_limit_holds_everyone() {
        let mut pace = Pace::new(600, 0.5);
        let limits = Limits { limit_per_minute: Some(300), remaining: Some(0), reset_in: Some(seconds(7.0)) };
        pace.observe(seconds(1.0), limits);
        assert_eq!(pace.held(seconds(2.0)), seconds(6.0));
        assert_eq!(pace.reserve(seconds(2.0)), seconds(6.0));
        assert_eq!(pace.per_minute(), 150.0);
        pace.observe(seconds(9.0), Limits { limit_per_minute: Some(0), ..Limits::default() });
        assert_eq!(pace.per_minute(), 150.0);
        assert_eq!(pace.held(seconds(9.0)), Duration::ZERO);
    }

    #[test]
    fn joined_headers_are_read() {
        assert_eq!(parse_number("300"), Some(300));
        assert_eq!(parse_number("300, 300"), Some(300));
        assert_eq!(parse_number("300,60"), Some(60));
        for bad in ["", "x", "300, x", "-1"] {
            assert_eq!(parse_number(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_minute_and_no_second_gets_more_than_its_share(
            limit in 1u32..3_000,
            share in 0.05f64..=1.0,
            gaps_ms in prop::collection::vec(0u64..2_000, 1..400),
        ) {
            let mut pace = Pace::new(limit, share);
            let mut now = Duration::ZERO;
            let mut sent = Vec::new();
            for gap_ms in gaps_ms {
                now += Duration::from_millis(gap_ms);
                sent.push(now + pace.reserve(now));
            }
            prop_assert!(sent.is_sorted());
            let per_minute = f64::from(limit) * share;
            for (from, &start) in sent.iter().enumerate() {
                let within = |span: f64| {
                    sent[from..].iter().take_while(|&&at| at < start + seconds(span)).count() as f64
                };
                prop_assert!(within(60.0) <= per_minute.max(1.0) + 1e-6, "minute: {} of {per_minute}", within(60.0));
                prop_assert!(within(1.0) <= (per_minute / 30.0).max(1.0) + 1e-6, "second: {}", within(1.0));
            }
        }

        #[test]
        fn an_idle_pace_never_waits(limit in 1u32..100_000, share in 0.05f64..=1.0, idle_s in 1u64..1_000) {
            let mut pace = Pace::new(limit, share);
            pace.reserve(Duration::ZERO);
            let per_place = 2.0 * 60.0 / pace.per_minute();
            prop_assert_eq!(pace.reserve(seconds(per_place + 0.001) + Duration::from_secs(idle_s)), Duration::ZERO);
        }
    }
}
