//! The running simulator.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::app::{App, State};
use crate::calls::Call;
use crate::clock::Clock;
use crate::fault::Fault;
use crate::seed::Size;
use crate::server;
use crate::switches::Switches;
use crate::truth::{self, Truth, TruthOptions};
use crate::world::World;

/// How a simulator starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The app's API key.
    pub key: String,
    /// The app's secret.
    pub secret: String,
    /// What has happened so far.
    pub world: World,
    /// How the service behaves.
    pub switches: Switches,
    /// Its time.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            key: "simulated-key".into(),
            secret: "simulated-secret-that-protects-nothing".into(),
            world: World::seeded(1, &Size::default()),
            switches: Switches::default(),
            clock: Clock::default(),
        }
    }
}

/// A running simulator, stopped when dropped. It has a thread of its own, so a test may block or pause its own runtime.
#[derive(Debug)]
pub struct Simulator {
    app: Arc<App>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Binds and serves. When this returns, connections are accepted.
    pub fn start(config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = State::new(config.world, config.switches, config.clock);
        let app = Arc::new(App::new(config.key, config.secret, state));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let served = Arc::clone(&app);
        let thread = std::thread::Builder::new().name("simulator".into()).spawn(move || {
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => server::serve(listener, served, stopped).await,
                    Err(error) => tracing::error!(%error, "cannot serve"),
                }
            });
        })?;
        Ok(Self { app, address, stop, thread: Some(thread) })
    }

    /// What goes into `STREAM_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What goes into `STREAM_API_KEY`.
    pub fn key(&self) -> &str {
        &self.app.key
    }

    /// What goes into `STREAM_API_SECRET`.
    pub fn secret(&self) -> &str {
        &self.app.secret
    }

    /// The environment of a client.
    pub fn env(&self) -> [(&'static str, String); 3] {
        [
            ("STREAM_BASE_URL", self.base_url()),
            ("STREAM_API_KEY", self.key().to_owned()),
            ("STREAM_API_SECRET", self.secret().to_owned()),
        ]
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

    /// Stops and closes all connections. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
