//! Stream as one process sees it: the stand-in's answers, behind a network that delays and loses.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, stream};
use reqwest::{Body, Request, Response};
use simulator::{Clock, Served, Service};

use super::actor::Actor;
use crate::export::{SendError, Transport};

/// Bytes of a body that arrive at a time.
const PIECE_BYTES: usize = 4_000;

/// The way to Stream.
pub(super) struct SimulatedStream {
    service: Service,
    actor: Actor,
}

impl SimulatedStream {
    pub(super) fn new(service: &Service, actor: &Actor) -> Self {
        Self { service: service.clone(), actor: actor.clone() }
    }
}

impl Transport for SimulatedStream {
    fn send(&self, request: Request) -> BoxFuture<'static, Result<Response, SendError>> {
        let (service, actor) = (self.service.clone(), self.actor.clone());
        async move {
            let (method, path) = (request.method().as_str().to_owned(), request.url().path().to_owned());
            let what = format!("{method} {path}");
            let served = actor
                .step(|| what, None, async { Ok::<_, SendError>(ask(&service, &method, &path, &request)) })
                .await?;
            if served.is_lost {
                return Err(SendError::lost("connection reset"));
            }
            let body = Body::wrap_stream(pieces(&served.body, served.cut_after_bytes, actor));
            let mut response = http::Response::builder().status(served.status);
            for (name, value) in &served.headers {
                response = response.header(name, value);
            }
            response.body(body).map(Response::from).map_err(SendError::lost)
        }
        .boxed()
    }
}

/// Stream's time is everybody's.
fn ask(service: &Service, method: &str, path: &str, request: &Request) -> Served {
    service.set_clock(Clock::Fixed { at: crate::clock::now() });
    let headers: BTreeMap<String, String> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned()))
        .chain([("host".to_owned(), request.url().host_str().unwrap_or_default().to_owned())])
        .collect();
    let body = request.body().and_then(Body::as_bytes).map(Bytes::copy_from_slice).unwrap_or_default();
    service.answer(method, path, request.url().query().unwrap_or_default(), headers, body)
}

fn pieces(
    body: &Bytes,
    cut_after_bytes: Option<usize>,
    actor: Actor,
) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send + use<> {
    let end = cut_after_bytes.map_or(body.len(), |bytes| bytes.min(body.len()));
    let is_cut = cut_after_bytes.is_some();
    stream::unfold((body.slice(..end), false), move |(mut left, ended)| {
        let actor = actor.clone();
        async move {
            if left.is_empty() {
                return (is_cut && !ended).then(|| (Err(std::io::Error::other("connection reset")), (left, true)));
            }
            let piece = left.split_to(PIECE_BYTES.min(left.len()));
            let arrived = actor.step(|| format!("read {}", piece.len()), None, async { Ok(piece.clone()) }).await;
            Some((arrived, (left, ended)))
        }
    })
}
