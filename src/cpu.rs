//! CPU work, kept off the threads that wait for the network.

use futures::future::Either;

use crate::error::{Error, Kind};

/// Where CPU work is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cpu {
    /// On threads of its own.
    #[default]
    Threads,
    /// On the thread that asks: in simulations, which must do everything in one order.
    Inline,
}

impl Cpu {
    /// Begins the work; the future waits for it. Once begun it is done to its end, even if nobody waits any more.
    pub fn run<T, E, W>(self, work: W) -> impl Future<Output = Result<T, E>> + use<T, E, W>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        W: FnOnce() -> Result<T, E> + Send + 'static,
    {
        match self {
            Self::Inline => Either::Left(async { work() }),
            Self::Threads => {
                // What the work logs is of the run that asked for it.
                let span = tracing::Span::current();
                let at_work = tokio::task::spawn_blocking(move || span.in_scope(work));
                Either::Right(async {
                    let died = |error| Error::new(Kind::Internal, "a worker thread died").because(error);
                    at_work.await.unwrap_or_else(|error| Err(died(error).into()))
                })
            }
        }
    }
}
