//! The sockets: reads requests in full, has them answered, and sends answers as well or badly as they ask for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::Response;
use futures::stream;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service;

use crate::answer::{Answer, Disturbance, Question, parse_query};
use crate::app::App;

/// Marks a response that must not be sent.
#[derive(Clone, Copy)]
struct Unsent;

/// Larger bodies end the connection; the API itself refuses far smaller ones with an error of its own.
const LARGEST_READ_BYTES: usize = 64 * 1024 * 1024;

/// Serves until `stop` changes or its sender is gone; open connections end with it.
pub(crate) async fn serve(listener: TcpListener, app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let router = Router::new().fallback(handle).layer(DefaultBodyLimit::disable()).with_state(app);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: a pause lets connections end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        connections.spawn(async move {
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let mut router = router.clone();
                async move {
                    let Ok(response) = router.call(request.map(Body::new)).await;
                    if response.extensions().get::<Unsent>().is_some() { Err(dropped()) } else { Ok(response) }
                }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                tracing::trace!(%error, "connection ended");
            }
        });
    }
}

fn dropped() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "dropped on purpose")
}

async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_READ_BYTES).await else { return send(&Answer::reset()) };
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let question = Question {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: parse_query(head.uri.query().unwrap_or_default()),
        headers,
        body,
    };
    // A file is written when it is first downloaded, which takes a while.
    let answer = tokio::task::spawn_blocking(move || app.answer(&question)).await;
    send(&answer.unwrap_or_else(|error| Answer::new(500, "text/plain", format!("the simulator failed: {error}"))))
}

fn send(answer: &Answer) -> Response {
    let mut builder = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    if answer.content_length {
        builder = builder.header("content-length", answer.body.len());
    }
    let mut response = builder.body(body(answer)).unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(format!("the simulator made a wrong response: {error}")));
        *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    if answer.disturbance == Disturbance::Reset {
        response.extensions_mut().insert(Unsent);
    }
    response
}

fn body(answer: &Answer) -> Body {
    let (end, cut, delay_ms) = match answer.disturbance {
        Disturbance::Cut { after_bytes } => (after_bytes.min(answer.body.len()), true, 0),
        Disturbance::Slow { delay_ms } => (answer.body.len(), false, delay_ms),
        Disturbance::None | Disturbance::Reset => (answer.body.len(), false, 0),
    };
    if !cut && delay_ms == 0 && answer.body.len() <= answer.chunk_bytes && answer.content_length {
        return Body::from(answer.body.clone());
    }
    let (content, size) = (answer.body.slice(..end), answer.chunk_bytes.max(1));
    Body::from_stream(stream::unfold((content, false), move |(mut left, ended)| async move {
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        if left.is_empty() {
            // Waiting once lets hyper send what it has buffered; an error right away would take that along.
            tokio::task::yield_now().await;
            return (cut && !ended).then(|| (Err(dropped()), (left, true)));
        }
        let piece: Bytes = left.split_to(size.min(left.len()));
        Some((Ok(piece), (left, ended)))
    }))
}
