//! How requests to Stream end, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ApiError;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Ok,
    /// Refused for the rate limit.
    Limited,
    /// Refused for another reason.
    Refused,
    /// Stream failed, could not be reached, or its answer was lost.
    Failed,
}

impl Outcome {
    /// Every outcome, in the order they are declared.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Limited, Self::Refused, Self::Failed];

    /// The name, as in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    pub(super) fn of<T>(result: &Result<T, ApiError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(ApiError::Refused { refusal, .. }) => match refusal.status {
                429 => Self::Limited,
                400..500 => Self::Refused,
                _ => Self::Failed,
            },
            Err(_) => Self::Failed,
        }
    }
}

/// Those of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    counts: [AtomicU64; Outcome::ALL.len()],
    pub(super) retries: AtomicU64,
}

impl Outcomes {
    pub(super) fn count(&self, outcome: Outcome) {
        self.counts[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn of(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize].load(Relaxed)
    }
}
