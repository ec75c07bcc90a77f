//! The simulator's own time: real time with an offset, or a fixed instant that moves only when told.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Where the simulator takes its time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Real time plus an offset.
    Running {
        /// What is added to real time.
        offset_seconds: i64,
    },
    /// Stands still until it is advanced. Rate limits and signed URLs stand still with it.
    Fixed {
        /// The instant.
        at: Timestamp,
    },
}

impl Default for Clock {
    fn default() -> Self {
        Self::Running { offset_seconds: 0 }
    }
}

impl Clock {
    /// The current time, cut to microseconds as Stream stores it.
    pub fn now(&self) -> Timestamp {
        let now = match self {
            Self::Running { offset_seconds } => shift(Timestamp::now(), SignedDuration::from_secs(*offset_seconds)),
            Self::Fixed { at } => *at,
        };
        floor_us(now)
    }

    /// Moves the clock; a negative duration moves it back. A running clock moves by whole seconds.
    pub fn advance(&mut self, by: SignedDuration) {
        match self {
            Self::Running { offset_seconds } => *offset_seconds = offset_seconds.saturating_add(by.as_secs()),
            Self::Fixed { at } => *at = shift(*at, by),
        }
    }
}

/// `at + by`, kept inside what a timestamp can hold.
pub(crate) fn shift(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
}

/// `at` without digits finer than a microsecond.
pub(crate) fn floor_us(at: Timestamp) -> Timestamp {
    i64::try_from(at.as_nanosecond().div_euclid(1_000))
        .ok()
        .and_then(|us| Timestamp::from_microsecond(us).ok())
        .unwrap_or(at)
}
