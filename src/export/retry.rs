//! Whether and when to send a request again: a pure decision.
//!
//! A repeated export is a second task that is paid for, so what matters is whether Stream may have started the first:
//!
//! | what happened | may have been done | repeated |
//! |---|---|---|
//! | no connection | no | yes |
//! | 429, or a 5xx or 408 with Stream's own error body: the API itself says that it did not do it | no | yes |
//! | the connection broke or timed out after sending, a 5xx or 2xx that is not Stream's | perhaps | queries freely, exports never |
//! | anything else, or `unrecoverable` | no | never |

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// How a request failed, as far as repeating it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was not done; Stream may have said how long to wait.
    NotDone {
        /// From `Retry-After` or `X-RateLimit-Reset`.
        wait: Option<Duration>,
    },
    /// It may have been done.
    Ambiguous,
    /// Repeating it gives the same answer.
    Final,
}

/// How often and how long to try.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Tries in all, the first included.
    pub max_attempts: u32,
    /// How many ambiguous failures may be followed by another try.
    pub max_ambiguous: u32,
    /// The longest first wait; it doubles with every attempt.
    pub base: Duration,
    /// The longest wait, unless Stream asks for more.
    pub cap: Duration,
    /// No wait ends later than this after the first try.
    pub deadline: Duration,
}

impl Default for Policy {
    /// Rides out a minute of rate limiting and a few minutes of trouble; what lasts longer is the scheduler's to retry.
    fn default() -> Self {
        Self {
            max_attempts: 8,
            max_ambiguous: u32::MAX,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(30),
            deadline: Duration::from_secs(300),
        }
    }
}

/// What was tried so far, the failure to decide on included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tried {
    /// Tries that failed.
    pub(super) attempts: u32,
    /// Those whose failure was ambiguous.
    pub(super) ambiguous: u32,
}

impl Tried {
    /// Counts a failure.
    pub(super) fn count(&mut self, failure: Failure) {
        self.attempts += 1;
        self.ambiguous += u32::from(failure == Failure::Ambiguous);
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Try again after this long.
    Wait(Duration),
    /// The failure stands.
    GiveUp,
}

/// Full jitter under a doubling ceiling; what Stream asks for is waited in full, with jitter on top so that clients do not come back in step.
/// `tried` includes this failure, `elapsed` counts from the first try, `random` is in `[0, 1)`.
pub(super) fn decide(tried: Tried, elapsed: Duration, failure: Failure, policy: &Policy, random: f64) -> Decision {
    let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 };
    let asked = match failure {
        Failure::Final => return Decision::GiveUp,
        Failure::Ambiguous if tried.ambiguous > policy.max_ambiguous => return Decision::GiveUp,
        Failure::Ambiguous => None,
        Failure::NotDone { wait } => wait,
    };
    if tried.attempts >= policy.max_attempts {
        return Decision::GiveUp;
    }
    let wait = match asked {
        Some(asked) => asked.saturating_add(policy.base.mul_f64(random)),
        None => {
            let doublings = tried.attempts.saturating_sub(1).min(16);
            policy.base.saturating_mul(1 << doublings).min(policy.cap).mul_f64(random)
        }
    };
    if elapsed.saturating_add(wait) > policy.deadline { Decision::GiveUp } else { Decision::Wait(wait) }
}

/// A number in `[0, 1)` for jitter: the standard library seeds every hasher anew from the system's randomness.
pub(super) fn random_unit() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LATER: Failure = Failure::NotDone { wait: None };

    fn tried(attempts: u32, ambiguous: u32) -> Tried {
        Tried { attempts, ambiguous }
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let policy = Policy { max_attempts: 100, ..Policy::default() };
        let wait = |attempts| decide(tried(attempts, 0), Duration::ZERO, LATER, &policy, 1.0);
        let seconds = [1, 2, 4, 8, 16, 30, 30];
        for (attempt, seconds) in (1..).zip(seconds) {
            assert_eq!(wait(attempt), Decision::Wait(Duration::from_secs(seconds)));
        }
        assert_eq!(wait(99), Decision::Wait(Duration::from_secs(30)));
    }

    #[test]
    fn ambiguous_failures_have_a_limit_of_their_own() {
        let exports = Policy { max_ambiguous: 0, ..Policy::default() };
        assert_eq!(decide(tried(1, 1), Duration::ZERO, Failure::Ambiguous, &exports, 0.5), Decision::GiveUp);
        assert!(matches!(decide(tried(2, 0), Duration::ZERO, LATER, &exports, 0.5), Decision::Wait(_)));
        let queries = Policy::default();
        assert!(matches!(decide(tried(2, 2), Duration::ZERO, Failure::Ambiguous, &queries, 0.5), Decision::Wait(_)));
    }

    #[test]
    fn a_final_failure_is_never_repeated() {
        assert_eq!(decide(tried(1, 0), Duration::ZERO, Failure::Final, &Policy::default(), 0.0), Decision::GiveUp);
    }

    #[test]
    fn a_wait_past_the_deadline_is_not_begun() {
        let asked = Failure::NotDone { wait: Some(Duration::from_secs(301)) };
        assert_eq!(decide(tried(1, 0), Duration::ZERO, asked, &Policy::default(), 0.0), Decision::GiveUp);
    }

    #[test]
    fn jitter_differs() {
        let numbers: Vec<_> = (0..64).map(|_| random_unit()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number != numbers[0]));
    }

    fn failures() -> impl Strategy<Value = Failure> {
        prop_oneof![
            Just(LATER),
            (0u64..120_000).prop_map(|ms| Failure::NotDone { wait: Some(Duration::from_millis(ms)) }),
            Just(Failure::Ambiguous),
            Just(Failure::Final),
        ]
    }

    proptest! {
        #[test]
        fn every_series_of_failures_ends(
            failures in prop::collection::vec((failures(), 0.0f64..1.0), 40),
            max_attempts in 1u32..20,
            max_ambiguous in 0u32..3,
        ) {
            let policy = Policy { max_attempts, max_ambiguous, ..Policy::default() };
            let mut so_far = Tried::default();
            let mut elapsed = Duration::ZERO;
            let mut ended = false;
            for (failure, random) in failures {
                so_far.count(failure);
                match decide(so_far, elapsed, failure, &policy, random) {
                    Decision::GiveUp => {
                        ended = true;
                        break;
                    }
                    Decision::Wait(wait) => {
                        if let Failure::NotDone { wait: Some(asked) } = failure {
                            prop_assert!(wait >= asked);
                        } else {
                            prop_assert!(wait <= policy.cap);
                        }
                        elapsed += wait;
                    }
                }
                prop_assert!(elapsed <= policy.deadline);
            }
            prop_assert!(ended);
            prop_assert!(so_far.attempts <= max_attempts);
            prop_assert!(so_far.ambiguous <= max_ambiguous + 1);
        }
    }
}
