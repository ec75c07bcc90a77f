//! The HTTP shell: signs, paces, sends, retries, counts, and reads the clock that Stream's answers carry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Body, Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use url::{Host, Url};

use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::error::{ApiError, Refusal, excerpt};
use super::outcomes::{Outcome, Outcomes};
use super::pace::{Limits, Pace, parse_number};
use super::retry::{self, Decision, Policy, Tried};
use super::transport::{SendError, Transport};
use crate::clock::millis;
use crate::error::{Error, Kind, Result, with_causes};

/// Where Stream's API is unless the app's region says otherwise.
pub const DEFAULT_BASE_URL: &str = "https://chat.stream-io-api.com";

/// A rate limit's window, and so the longest sensible time until it is full again.
const LIMIT_WINDOW: Duration = Duration::from_secs(60);

/// Before Stream has answered at all, a wrong address or no network is likelier than a bad minute, and nothing is at stake yet.
const FIRST_CONTACT_ATTEMPTS: u32 = 4;

const CLIENT_NAME: &str = concat!("chatlake-", env!("CARGO_PKG_VERSION"));

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time without a byte, of an answer or a download.
    pub read_timeout: Duration,
    /// Time for one whole answer of the API; downloads have none.
    pub answer_timeout: Duration,
    /// The share of the app's rate limits to use, 0 to 1.
    pub rate_share: f64,
    /// How often and how long to retry.
    pub retry: Policy,
    /// The local clock.
    pub clock: fn() -> Timestamp,
    /// Jitter, in `[0, 1)`.
    pub random: fn() -> f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(90),
            rate_share: 0.5,
            retry: Policy::default(),
            clock: Timestamp::now,
            random: retry::random_unit,
        }
    }
}

impl Options {
    /// For somebody who waits for the answer: a bad moment is ridden out, a bad minute is told.
    pub fn brief() -> Self {
        Self {
            answer_timeout: Duration::from_secs(20),
            retry: Policy { max_attempts: 3, deadline: Duration::from_secs(15), ..Policy::default() },
            ..Self::default()
        }
    }
}

/// A client of Stream's server-side API. Clones share pace, counts and clock.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    credentials: Credentials,
    base_url: Url,
    options: Options,
    api: Arc<dyn Transport>,
    files: Arc<dyn Transport>,
    started: Instant,
    paces: [Mutex<Pace>; Endpoint::ALL.len()],
    calls: [AtomicU64; Endpoint::ALL.len()],
    outcomes: [Outcomes; Endpoint::ALL.len()],
    clock: Mutex<Option<Clock>>,
}

/// Stream's time at one instant.
#[derive(Clone, Copy)]
struct Clock {
    stream: Timestamp,
    local: Timestamp,
    at: Instant,
}

/// An answer, and Stream's time when it was given.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) body: T,
    pub(super) at: Timestamp,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("credentials", &self.shared.credentials).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for one app, over the network. Nothing is sent yet.
    pub fn new(credentials: Credentials, base_url: &str, options: Options) -> Result<Self> {
        let url = parse_base_url(base_url)?;
        let loopback = is_loopback(&url);
        if url.scheme() == "http" && !loopback {
            warn!("STREAM_BASE_URL is not https: the server token travels in the clear");
        }
        let build = |builder: reqwest::ClientBuilder| {
            let builder = builder
                .user_agent(CLIENT_NAME)
                .referer(false)
                .connect_timeout(options.connect_timeout)
                .read_timeout(options.read_timeout)
                // Shorter than any server's: a request on a connection that the server is closing would be ambiguous.
                .pool_idle_timeout(Duration::from_secs(20));
            // No proxy reaches this machine's own loopback.
            let builder = if loopback { builder.no_proxy() } else { builder };
            builder.build().map_err(|error| {
                Error::new(Kind::Usage, "cannot set up TLS")
                    .because(error)
                    .hint("install the system's CA certificates (package ca-certificates)")
            })
        };
        // A redirected API call would carry the key and the token to another place.
        let api = build(
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(options.answer_timeout),
        )?;
        let files = build(reqwest::Client::builder().redirect(reqwest::redirect::Policy::limited(5)))?;
        Self::over(Arc::new(api), Arc::new(files), credentials, base_url, options)
    }

    /// A client that sends calls to the API and downloads of signed URLs over these.
    pub fn over(
        api: Arc<dyn Transport>,
        files: Arc<dyn Transport>,
        credentials: Credentials,
        base_url: &str,
        options: Options,
    ) -> Result<Self> {
        let base_url = parse_base_url(base_url)?;
        let paces = Endpoint::ALL
            .map(|endpoint| Mutex::new(Pace::new(endpoint.default_limit_per_minute(), options.rate_share)));
        Ok(Self {
            shared: Arc::new(Shared {
                credentials,
                base_url,
                options,
                api,
                files,
                started: Instant::now(),
                paces,
                calls: Default::default(),
                outcomes: Default::default(),
                clock: Mutex::new(None),
            }),
        })
    }

    /// The app key: which app this is.
    pub fn app_key(&self) -> &str {
        self.shared.credentials.key()
    }

    /// Requests sent to this endpoint, repeats included.
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.shared.calls[endpoint.index()].load(Ordering::Relaxed)
    }

    /// Requests to this endpoint that have ended so.
    pub fn ended(&self, endpoint: Endpoint, outcome: Outcome) -> u64 {
        self.shared.outcomes[endpoint.index()].of(outcome)
    }

    /// Requests to this endpoint that were repeats.
    pub fn retries(&self, endpoint: Endpoint) -> u64 {
        self.shared.outcomes[endpoint.index()].retries.load(Ordering::Relaxed)
    }

    /// Requests sent to the API in all, repeats included.
    pub fn api_calls(&self) -> u64 {
        Endpoint::ALL.into_iter().map(|endpoint| self.calls(endpoint)).sum()
    }

    /// Requests a minute that the pace of this endpoint allows now.
    pub fn pace_per_minute(&self, endpoint: Endpoint) -> f64 {
        self.pace(endpoint).per_minute()
    }

    /// Stream's clock, from the last answer: at most about a second behind. None before the first answer.
    pub fn stream_now(&self) -> Option<Timestamp> {
        let clock = (*lock(&self.shared.clock))?;
        clock.stream.saturating_add(clock.at.elapsed()).ok()
    }

    /// How far Stream's clock is ahead of the local one (negative: behind), to about a second. None before the first answer.
    pub fn clock_offset(&self) -> Option<SignedDuration> {
        lock(&self.shared.clock).map(|clock| clock.stream.duration_since(clock.local))
    }

    /// Stream's clock, or the local one as long as Stream's is not known.
    pub(super) fn now(&self) -> Timestamp {
        self.stream_now().unwrap_or_else(self.shared.options.clock)
    }

    pub(super) fn options(&self) -> &Options {
        &self.shared.options
    }

    /// The way to signed URLs: it knows neither key nor token.
    pub(super) fn files(&self) -> &dyn Transport {
        self.shared.files.as_ref()
    }

    /// `POST` of a JSON body, paced and retried.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Answer<T>, ApiError> {
        let body = serde_json::to_vec(body).expect("request bodies have string keys and finite numbers only");
        self.call(endpoint, Method::POST, path, Some(body.into())).await
    }

    /// `GET`, paced and retried.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        path: &[&str],
    ) -> Result<Answer<T>, ApiError> {
        self.call(endpoint, Method::GET, path, None).await
    }

    /// Takes over a limit that an answer about another endpoint told.
    pub(super) fn set_limit(&self, endpoint: Endpoint, limit_per_minute: u32) {
        let limits = Limits { limit_per_minute: Some(limit_per_minute), ..Limits::default() };
        self.pace(endpoint).observe(self.elapsed(), limits);
    }

    async fn call<T: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        method: Method,
        path: &[&str],
        body: Option<Bytes>,
    ) -> Result<Answer<T>, ApiError> {
        let options = &self.shared.options;
        let mut policy = options.retry;
        if !endpoint.is_repeatable() {
            policy.max_ambiguous = 0;
        }
        if self.stream_now().is_none() {
            policy.max_attempts = policy.max_attempts.min(FIRST_CONTACT_ATTEMPTS);
        }
        let mut tried = Tried::default();
        let mut clock_corrected = false;
        self.wait_for_place(endpoint).await;
        let started = Instant::now();
        loop {
            let outcomes = &self.shared.outcomes[endpoint.index()];
            let sent = Instant::now();
            let ended = self.once(endpoint, method.clone(), path, body.clone()).await;
            let outcome = Outcome::of(&ended);
            outcomes.count(outcome);
            debug!(
                %endpoint,
                outcome = outcome.name(),
                status = ended.as_ref().map_or_else(|error| error.refusal().map(|refusal| refusal.status), |_| Some(200)),
                attempt = tried.attempts + 1,
                elapsed_ms = millis(sent.elapsed()),
                "request to Stream"
            );
            let error = match ended {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // The refusal itself told Stream's time, so the next token is right.
            if error.refusal().is_some_and(Refusal::is_clock) && !clock_corrected {
                clock_corrected = true;
                outcomes.retries.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let failure = error.failure();
            tried.count(failure);
            match retry::decide(tried, started.elapsed(), failure, &policy, (options.random)()) {
                Decision::GiveUp => return Err(error),
                Decision::Wait(wait) => {
                    info!(%endpoint, error = with_causes(&error), attempt = tried.attempts, wait_ms = millis(wait), "trying again");
                    tokio::time::sleep(wait).await;
                    self.wait_for_place(endpoint).await;
                    outcomes.retries.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    async fn wait_for_place(&self, endpoint: Endpoint) {
        let mut wait = self.pace(endpoint).reserve(self.elapsed());
        while !wait.is_zero() {
            tokio::time::sleep(wait).await;
            // While this one slept, another's answer may have said that the limit is spent.
            wait = self.pace(endpoint).held(self.elapsed());
        }
    }

    async fn once<T: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        method: Method,
        path: &[&str],
        body: Option<Bytes>,
    ) -> Result<Answer<T>, ApiError> {
        self.shared.calls[endpoint.index()].fetch_add(1, Ordering::Relaxed);
        let mut token = HeaderValue::from_str(&self.shared.credentials.token(self.now()))
            .expect("a token is base64 and dots, which a header may hold");
        token.set_sensitive(true);
        let mut request = Request::new(method, self.url(path));
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, token);
        headers.insert("stream-auth-type", HeaderValue::from_static("jwt"));
        headers.insert("x-stream-client", HeaderValue::from_static(CLIENT_NAME));
        headers.insert(header::ACCEPT, json.clone());
        if let Some(body) = body {
            headers.insert(header::CONTENT_TYPE, json);
            *request.body_mut() = Some(Body::from(body));
        }
        let host = || self.shared.base_url.origin().ascii_serialization();
        let lost = |error: SendError| ApiError::from_transport(endpoint, host(), error);
        let response = self.shared.api.send(request).await.map_err(lost)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let at = self.observe(endpoint, status, &headers);
        let most = endpoint.max_answer_bytes();
        let body = match read_body(response, most).await {
            Ok(body) => body,
            // The status has said enough.
            Err(_) if !status.is_success() => Some(Vec::new()),
            Err(error) => return Err(lost(error.into())),
        };
        let Some(body) = body else {
            return Err(ApiError::TooLong { endpoint, most_bytes: most });
        };
        if !status.is_success() {
            let refusal = Refusal::new(status, &body, retry_wait(status, &headers, at));
            return Err(ApiError::Refused { endpoint, refusal });
        }
        match serde_json::from_slice(&body) {
            Ok(body) => Ok(Answer { body, at }),
            Err(error) if body.starts_with(b"{") => {
                Err(ApiError::Unreadable { endpoint, excerpt: excerpt(&error.to_string(), 200) })
            }
            Err(_) => {
                let text = excerpt(&String::from_utf8_lossy(&body), 200);
                Err(ApiError::Unreadable { endpoint, excerpt: format!("`{text}`") })
            }
        }
    }

    /// Learns the clock and the limits from an answer's headers; returns Stream's time.
    fn observe(&self, endpoint: Endpoint, status: StatusCode, headers: &HeaderMap) -> Timestamp {
        let local = (self.shared.options.clock)();
        if let Some(stream) = text(headers, header::DATE.as_str()).and_then(parse_http_date) {
            *lock(&self.shared.clock) = Some(Clock { stream, local, at: Instant::now() });
        }
        let at = self.now();
        let number = |name| text(headers, name).and_then(parse_number);
        let limits = Limits {
            limit_per_minute: number("x-ratelimit-limit").and_then(|limit| u32::try_from(limit).ok()),
            remaining: number("x-ratelimit-remaining").map(|left| u32::try_from(left).unwrap_or(u32::MAX)),
            reset_in: reset_in(headers, at),
        };
        let mut pace = self.pace(endpoint);
        pace.observe(self.elapsed(), limits);
        if status == StatusCode::TOO_MANY_REQUESTS
            && let Some(wait) = retry_wait(status, headers, at)
        {
            pace.hold(self.elapsed(), wait.min(LIMIT_WINDOW));
        }
        at
    }

    fn pace(&self, endpoint: Endpoint) -> MutexGuard<'_, Pace> {
        lock(&self.shared.paces[endpoint.index()])
    }

    fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.shared.base_url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.query_pairs_mut().append_pair("api_key", self.shared.credentials.key());
        url
    }
}

fn parse_base_url(text: &str) -> Result<Url> {
    let refused = |why: &str| {
        Error::new(Kind::Usage, format!("STREAM_BASE_URL {why}"))
            .hint(format!("use the API's host as {DEFAULT_BASE_URL}, or leave it unset"))
    };
    let url: Url = text.trim().parse().map_err(|_| refused("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        Err(refused("must begin with https://"))
    } else if url.query().is_some() || !url.username().is_empty() || url.password().is_some() {
        Err(refused("must not hold a query or credentials"))
    } else {
        Ok(url)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The whole body; none if it is too long.
async fn read_body(mut response: Response, most: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await? {
        if body.len() + bytes.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&bytes);
    }
    Ok(Some(body))
}

/// How long an answer asks to wait: `Retry-After` first, else for a rate limit the time until it is full again.
pub(super) fn retry_wait(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let retry_after = text(headers, header::RETRY_AFTER.as_str()).and_then(|value| match parse_number(value) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => Some(until(parse_http_date(value)?, now)),
    });
    retry_after.or_else(|| (status == StatusCode::TOO_MANY_REQUESTS).then(|| reset_in(headers, now)).flatten())
}

fn reset_in(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let seconds = text(headers, "x-ratelimit-reset").and_then(parse_number)?;
    let reset = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(until(reset, now).min(LIMIT_WINDOW))
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn parse_http_date(value: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(value).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is plain numbers, whole at every instant.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
