//! The running simulator.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::seed::Size;
use crate::server;
use crate::service::Service;
use crate::switches::Switches;
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

/// A running simulator, stopped when dropped. It has a thread of its own, so a test may block or pause its own runtime. What can
/// be looked at and changed is its [`Service`]'s.
#[derive(Debug)]
pub struct Simulator {
    service: Service,
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
        let service = Service::new(config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let served = Arc::clone(&service.app);
        let thread = std::thread::Builder::new().name("simulator".into()).spawn(move || {
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => server::serve(listener, served, stopped).await,
                    Err(error) => tracing::error!(%error, "cannot serve"),
                }
            });
        })?;
        Ok(Self { service, address, stop, thread: Some(thread) })
    }

    /// What goes into `STREAM_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The environment of a client.
    pub fn env(&self) -> [(&'static str, String); 3] {
        [
            ("STREAM_BASE_URL", self.base_url()),
            ("STREAM_API_KEY", self.key().to_owned()),
            ("STREAM_API_SECRET", self.secret().to_owned()),
        ]
    }

    /// Stops and closes all connections. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Deref for Simulator {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
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
