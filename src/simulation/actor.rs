//! One process: it is slow, it is lied to, and it may die at any step.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::random::Random;

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done and answered.
    Done,
    /// It fails and is not done.
    NotDone,
    /// It is done, and its answer is an error.
    AnswerLost,
    /// The process dies before it is done.
    DiesBefore,
    /// It is done, and the process dies before it hears of it.
    DiesAfter,
}

/// What was done, in order: the history that a seed gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub(super) fn note(&self, step: String) {
        self.0.lock().unwrap().push(step);
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A process. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) name: String,
    random: Random,
    trace: Trace,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dead: AtomicBool,
    died: Notify,
    /// Operations until it dies.
    left: AtomicU64,
    /// Failures of the store, in a thousand.
    store_faults: u64,
    faults: AtomicU64,
}

impl Actor {
    /// A process that dies after `lifetime` operations, on a store with so many faults in a thousand operations.
    pub(super) fn new(name: String, random: &Random, trace: &Trace, lifetime: Option<u64>, store_faults: u64) -> Self {
        let shared = Shared {
            dead: AtomicBool::new(false),
            died: Notify::new(),
            left: AtomicU64::new(lifetime.unwrap_or(u64::MAX)),
            store_faults,
            faults: AtomicU64::new(0),
        };
        Self { name, random: random.clone(), trace: trace.clone(), shared: Arc::new(shared) }
    }

    /// Ends when the process has died.
    pub(super) async fn death(&self) {
        while !self.is_dead() {
            self.shared.died.notified().await;
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::Relaxed)
    }

    /// Faults of the store that it has met.
    pub(super) fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }

    fn die(&self) {
        self.shared.dead.store(true, Ordering::Relaxed);
        self.shared.died.notify_waiters();
        self.shared.died.notify_one();
    }

    fn fate(&self, may_fail: bool) -> Fate {
        let left = self.shared.left.fetch_sub(1, Ordering::Relaxed);
        if left == 0 {
            return if self.random.per_mille(500) { Fate::DiesBefore } else { Fate::DiesAfter };
        }
        if may_fail && self.random.per_mille(self.shared.store_faults) {
            self.shared.faults.fetch_add(1, Ordering::Relaxed);
            return if self.random.per_mille(500) { Fate::NotDone } else { Fate::AnswerLost };
        }
        Fate::Done
    }

    /// Nothing that a dead process began goes on.
    async fn go_on(&self, after: Duration) {
        sleep(after).await;
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// Does one operation, or what becomes of it. An error of the process's own making is `failure`.
    pub(super) async fn step<T, E>(
        &self,
        what: impl FnOnce() -> String,
        failure: Option<fn() -> E>,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.go_on(self.random.delay()).await;
        let fate = self.fate(failure.is_some());
        self.trace.note(format!("{} {} {fate:?}", self.name, what()));
        match (fate, failure) {
            (Fate::DiesBefore, _) => {
                self.die();
                std::future::pending().await
            }
            (Fate::DiesAfter, _) => {
                let _ = operation.await;
                self.die();
                std::future::pending().await
            }
            (Fate::NotDone, Some(failure)) => {
                self.go_on(self.random.delay()).await;
                Err(failure())
            }
            (Fate::AnswerLost, Some(failure)) => {
                let _ = operation.await;
                self.go_on(self.random.delay()).await;
                Err(failure())
            }
            _ => {
                let result = operation.await;
                self.go_on(self.random.delay()).await;
                result
            }
        }
    }
}
