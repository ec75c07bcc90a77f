//! Rate limits: so many calls a minute per endpoint, and a thirtieth of them in any second.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::switches::Switches;

/// Calls of each endpoint in the current minute and second.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    used: BTreeMap<String, Used>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    minute: i64,
    in_minute: u32,
    second: i64,
    in_second: u32,
}

/// What is left after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    /// Unix seconds at which the minute ends.
    pub(crate) reset_s: i64,
    pub(crate) allowed: bool,
}

impl Limits {
    /// Counts a call; a refused one costs nothing.
    pub(crate) fn take(&mut self, endpoint: &str, switches: &Switches, now: Timestamp) -> Quota {
        let limit = limit(endpoint, switches);
        let used = self.current(endpoint, now);
        let allowed = used.in_minute < limit && used.in_second < limit.div_ceil(30);
        if allowed {
            used.in_minute += 1;
            used.in_second += 1;
        }
        Quota { limit, remaining: limit.saturating_sub(used.in_minute), reset_s: (used.minute + 1) * 60, allowed }
    }

    /// What is left, without a call.
    pub(crate) fn peek(&mut self, endpoint: &str, switches: &Switches, now: Timestamp) -> Quota {
        let limit = limit(endpoint, switches);
        let used = self.current(endpoint, now);
        Quota { limit, remaining: limit.saturating_sub(used.in_minute), reset_s: (used.minute + 1) * 60, allowed: true }
    }

    fn current(&mut self, endpoint: &str, now: Timestamp) -> &mut Used {
        let used = self.used.entry(endpoint.to_owned()).or_default();
        let (second, minute) = (now.as_second(), now.as_second().div_euclid(60));
        if used.minute != minute {
            *used = Used { minute, second, ..Used::default() };
        }
        if used.second != second {
            used.second = second;
            used.in_second = 0;
        }
        used
    }
}

fn limit(endpoint: &str, switches: &Switches) -> u32 {
    switches.limits.get(endpoint).copied().unwrap_or(switches.default_limit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_and_a_second_are_capped() {
        let switches = Switches::default().with_documented_limits();
        let mut limits = Limits::default();
        let mut take = |second| limits.take("ExportChannels", &switches, Timestamp::from_second(second).unwrap());
        assert_eq!(take(60), Quota { limit: 60, remaining: 59, reset_s: 120, allowed: true });
        assert!(take(60).allowed);
        assert!(!take(60).allowed, "two a second");
        for second in 61..90 {
            assert!(take(second).allowed && take(second).allowed);
        }
        assert!(!take(100).allowed, "sixty a minute");
        assert!(take(120).allowed);
    }
}
