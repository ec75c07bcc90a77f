//! What a process that stays answers over HTTP: `/healthz` and `/metrics`.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::error::{Error, Kind, Result};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Listens at `host:port`.
pub async fn bind(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::new(Kind::Usage, format!("cannot listen at {address}"))
            .because(error)
            .hint("write --listen 127.0.0.1:9464, or 0.0.0.0:9464 for others; the port must be free")
    })
}

/// Answers until the process ends. `/healthz` says that it is alive, whatever its runs come to: those are for alerts.
pub async fn serve(listener: TcpListener, metrics: impl Fn() -> String + Clone + Send + Sync + 'static) {
    let metrics = get(move || std::future::ready(([(CONTENT_TYPE, OPEN_METRICS)], metrics())));
    let router = Router::new().route("/metrics", metrics).route("/healthz", get("ok\n"));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "nothing answers any more at --listen");
    }
}
