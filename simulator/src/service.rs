//! The simulated service without a socket: what it is asked, what it answers, and what can be done to it meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::answer::{Disturbance, Question, parse_query};
use crate::app::{App, State};
use crate::calls::Call;
use crate::clock::Clock;
use crate::fault::Fault;
use crate::simulator::Config;
use crate::switches::Switches;
use crate::truth::{self, Truth, TruthOptions};
use crate::world::World;

/// The service of one app. Clones are the same service.
#[derive(Clone, Debug)]
pub struct Service {
    pub(crate) app: Arc<App>,
}

/// An answer, and how much of it arrives.
#[derive(Clone, Debug)]
pub struct Served {
    /// HTTP status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// The connection ends after this many bytes of the body.
    pub cut_after_bytes: Option<usize>,
    /// The connection ends without an answer.
    pub is_lost: bool,
}

impl Service {
    /// A service that nobody can connect to: it is asked by [`Service::answer`]. `listen` is of no use here.
    pub fn new(config: Config) -> Self {
        let state = State::new(config.world, config.switches, config.clock);
        Self { app: Arc::new(App::new(config.key, config.secret, state)) }
    }

    /// Answers a request at once; header names are lower case.
    pub fn answer(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: BTreeMap<String, String>,
        body: Bytes,
    ) -> Served {
        let question =
            Question { method: method.to_owned(), path: path.to_owned(), query: parse_query(query), headers, body };
        let answer = self.app.answer(&question);
        Served {
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
            cut_after_bytes: match answer.disturbance {
                Disturbance::Cut { after_bytes } => Some(after_bytes),
                _ => None,
            },
            is_lost: answer.disturbance == Disturbance::Reset,
        }
    }

    /// What goes into `STREAM_API_KEY`.
    pub fn key(&self) -> &str {
        &self.app.key
    }

    /// What goes into `STREAM_API_SECRET`.
    pub fn secret(&self) -> &str {
        &self.app.secret
    }

    /// Looks at the world or changes it; no call is answered meanwhile.
    pub fn world<T>(&self, with: impl FnOnce(&mut World) -> T) -> T {
        with(&mut self.app.state().world)
    }

    /// The switches in force.
    pub fn switches(&self) -> Switches {
        self.app.state().switches.clone()
    }

    /// Sets all switches. Tasks that exist keep theirs for the content of their files.
    pub fn set_switches(&self, switches: Switches) {
        self.app.state().set_switches(switches);
    }

    /// Changes some switches.
    pub fn change_switches(&self, change: impl FnOnce(&mut Switches)) {
        let mut state = self.app.state();
        let mut switches = state.switches.clone();
        change(&mut switches);
        state.set_switches(switches);
    }

    /// The calls so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.app.state().calls.iter().cloned().collect()
    }

    /// The calls of one endpoint, by its operation name.
    pub fn calls_of(&self, endpoint: &str) -> Vec<Call> {
        self.app.state().calls.iter().filter(|call| call.endpoint == endpoint).cloned().collect()
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        self.app.state().calls.clear();
    }

    /// What a complete lake holds, without truncated messages and deleted channels.
    pub fn truth(&self) -> Truth {
        self.truth_with(TruthOptions::default())
    }

    /// What a complete lake holds under these options.
    pub fn truth_with(&self, options: TruthOptions) -> Truth {
        truth::of(&self.app.state().world, options)
    }

    /// The simulator's time.
    pub fn now(&self) -> Timestamp {
        self.app.state().clock.now()
    }

    /// Moves the simulator's time.
    pub fn advance_clock(&self, by: SignedDuration) {
        self.app.state().clock.advance(by);
    }

    /// Replaces the simulator's clock.
    pub fn set_clock(&self, clock: Clock) {
        self.app.state().clock = clock;
    }

    /// Lets all tasks that exist reach their end by the next status call.
    pub fn complete_tasks(&self) {
        self.app.state().tasks.complete_all();
    }

    /// Lets something go wrong.
    pub fn add_fault(&self, fault: Fault) {
        self.app.state().faults.push(fault);
    }

    /// The faults that have not happened yet, or not often enough.
    pub fn faults(&self) -> Vec<Fault> {
        self.app.state().faults.clone()
    }

    /// Lets nothing go wrong any more.
    pub fn clear_faults(&self) {
        self.app.state().faults.clear();
    }
}
