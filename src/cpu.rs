//! CPU work, kept off the threads that wait for the network.

use crate::error::{Error, Kind};

/// Where CPU work is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cpu {
    /// On threads of its own.
    #[default]
    Threads,
    /// At once, on the thread that asks: in simulations, which must do everything in one order.
    Inline,
}

impl Cpu {
    /// Does the work and waits for it. Once begun it is done to its end, even if nobody waits any more.
    pub async fn run<T, E>(self, work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match self {
            Self::Inline => work(),
            Self::Threads => tokio::task::spawn_blocking(work)
                .await
                .unwrap_or_else(|error| Err(Error::new(Kind::Internal, "a worker thread died").because(error).into())),
        }
    }
}
