//! Where requests leave the process: the seam between chatlake and Stream. The network is on the other side, or, in
//! simulations, Stream's stand-in itself.

use std::error::Error as StdError;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Request, Response};

/// Sends requests.
pub trait Transport: Send + Sync {
    /// Sends a request, and answers when the head of the response is there. The body comes as it is read.
    fn send(&self, request: Request) -> BoxFuture<'static, Result<Response, SendError>>;
}

/// Why no answer came, or only a part of one. Shown without the URL, which may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("{}", if self.is_unsent { "no connection" } else { "no answer" })]
pub struct SendError {
    source: Box<dyn StdError + Send + Sync>,
    /// There was no connection, so nothing was sent.
    pub(super) is_unsent: bool,
}

impl SendError {
    /// A request that may have been received.
    pub fn lost(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: source.into(), is_unsent: false }
    }

    /// A request that was certainly not received.
    pub fn unsent(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: source.into(), is_unsent: true }
    }
}

impl From<reqwest::Error> for SendError {
    fn from(error: reqwest::Error) -> Self {
        let is_unsent = error.is_connect();
        Self { source: error.without_url().into(), is_unsent }
    }
}

impl Transport for reqwest::Client {
    fn send(&self, request: Request) -> BoxFuture<'static, Result<Response, SendError>> {
        let client = self.clone();
        async move { client.execute(request).await.map_err(SendError::from) }.boxed()
    }
}
