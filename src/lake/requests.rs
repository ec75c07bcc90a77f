//! Requests to the store, told as they end: each attempt of the client's retries is one.

use std::time::Instant;

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{ClientOptions, Result};

use crate::clock::millis;

/// Connects as `object_store` does by itself.
#[derive(Debug, Default)]
pub(super) struct ToldRequests(ReqwestConnector);

impl HttpConnector for ToldRequests {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(Told(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Told(HttpClient);

#[async_trait::async_trait]
impl HttpService for Told {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let method = request.method().clone();
        // The same client asks for credentials, in paths and queries that are secrets. What is signed for S3 has this header.
        let is_signed = request.headers().contains_key("x-amz-content-sha256");
        let uri = request.uri();
        let host = uri.host().unwrap_or_default().to_owned();
        let path = is_signed.then(|| uri.path().to_owned());
        let sent = Instant::now();
        let ended = self.0.execute(request).await;
        let status = ended.as_ref().ok().map(|response| response.status().as_u16());
        tracing::debug!(%method, host, path, status, elapsed_ms = millis(sent.elapsed()), "request to the store");
        ended
    }
}
