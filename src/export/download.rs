//! The bytes of a task's file, in order and whole, over as many connections as it takes.
//!
//! After a cut the rest is asked for with `Range` and `If-Range`, and only believed if it is the rest of the same file: same
//! validator, same length. Where ranges are not honoured the file is read again from the start, and the part already delivered
//! must hash to the same; nothing that was yielded can turn out to belong to another file.

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Response, StatusCode};
use tokio::time::Instant;
use tracing::{debug, warn};
use xxhash_rust::xxh3::Xxh3;

use super::client::{Client, retry_wait};
use super::error::ApiError;
use super::retry::{self, Decision, Failure, Tried};
use super::task::{SignedUrl, TaskFile, TaskState};
use super::transport::SendError;
use crate::error::{Error, Kind};

/// Fresh URLs asked for without a new byte in between.
const MAX_FRESH_URLS: u32 = 3;
/// Connections for one file, however much progress each brings.
const MAX_CONNECTIONS: u32 = 1000;

/// Why a file cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// What is there now is not the file that was begun.
    #[error("the file of export task {task_id} changed while it was read, after {at_byte} bytes: {what}")]
    Changed {
        /// The task.
        task_id: String,
        /// How much had been read.
        at_byte: u64,
        /// What shows it.
        what: &'static str,
    },
    /// The file is not there any more.
    #[error("the file of export task {task_id} is gone{}", status.map(|status| format!(" (HTTP {status})")).unwrap_or_default())]
    Gone {
        /// The task.
        task_id: String,
        /// The answer, if the store gave one.
        status: Option<u16>,
    },
    /// The connection broke too often without progress.
    #[error("the file of export task {task_id} broke off after {at_byte} bytes: {why}")]
    Cut {
        /// The task.
        task_id: String,
        /// How much had been read.
        at_byte: u64,
        /// The last failure.
        why: String,
    },
    /// The store refuses even a fresh URL.
    #[error("the file of export task {task_id} is refused (HTTP {status})")]
    Refused {
        /// The task.
        task_id: String,
        /// The answer.
        status: u16,
    },
    /// A fresh URL cannot be had.
    #[error("cannot renew the URL of an export's file")]
    Api(#[from] ApiError),
}

impl From<DownloadError> for Error {
    fn from(error: DownloadError) -> Self {
        let message = error.to_string();
        match error {
            DownloadError::Changed { .. } | DownloadError::Cut { .. } => {
                Self::new(Kind::Temporary, message).hint("run the same command again: it reads the file from the start")
            }
            DownloadError::Gone { .. } => {
                Self::new(Kind::Temporary, message).hint("run the same command again: it asks for a new export")
            }
            DownloadError::Refused { .. } => Self::new(Kind::Permission, message)
                .hint("check that no proxy or firewall stands before the store of Stream's exports"),
            DownloadError::Api(error) => error.into(),
        }
    }
}

/// What identifies a version of the file.
#[derive(Clone, Debug, Default)]
struct Version {
    /// A strong ETag.
    etag: Option<HeaderValue>,
    /// The whole length.
    total_bytes: Option<u64>,
}

/// An open connection's body.
struct Body {
    response: Response,
    /// Where the file stands in this answer's eyes; behind the download's while the delivered part is read again.
    at_byte: u64,
    /// The hash of the part read again; none once it was compared.
    again: Option<Box<Xxh3>>,
}

/// How one connection ended before the file did.
enum Break {
    /// Try again from where it stands.
    Again { failure: Failure, why: String },
    /// The URL is not accepted any more.
    Expired(u16),
    /// For good.
    Fatal(DownloadError),
}

/// A file being read. Not compressed or decompressed on the way.
pub struct Download {
    client: Client,
    file: TaskFile,
    version: Option<Version>,
    /// Bytes yielded, and their hash.
    at_byte: u64,
    hash: Box<Xxh3>,
    body: Option<Body>,
    /// Since the last byte.
    tried: Tried,
    failing_since: Option<Instant>,
    fresh_urls: u32,
    connections: u32,
    ended: bool,
}

impl Download {
    /// Nothing is sent before the first [`Download::next`].
    pub fn new(client: &Client, file: TaskFile) -> Self {
        Self {
            client: client.clone(),
            file,
            version: None,
            at_byte: 0,
            hash: Box::default(),
            body: None,
            tried: Tried::default(),
            failing_since: None,
            fresh_urls: 0,
            connections: 0,
            ended: false,
        }
    }

    /// Bytes yielded so far.
    pub fn bytes_read(&self) -> u64 {
        self.at_byte
    }

    /// The whole length, once an answer told it.
    pub fn total_bytes(&self) -> Option<u64> {
        self.version.as_ref()?.total_bytes
    }

    /// The next bytes, never empty; none at the end of the whole file. After an error the download is over.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        while !self.ended {
            match self.step().await {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => self.ended = true,
                Err(broken) => {
                    self.body = None;
                    self.recover(broken).await?;
                }
            }
        }
        Ok(None)
    }

    /// Reads on, opening a connection if there is none.
    async fn step(&mut self) -> Result<Option<Bytes>, Break> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => match self.open().await? {
                Some(body) => body,
                None => return Ok(None),
            },
        };
        loop {
            let chunk = body.response.chunk().await.map_err(|error| broke(&error.into()))?;
            let Some(mut bytes) = chunk else {
                return self.end(&body).map(|()| None);
            };
            let behind = self.at_byte - body.at_byte.min(self.at_byte);
            body.at_byte += bytes.len() as u64;
            if let Some(mut again) = body.again.take() {
                let delivered = bytes.split_to(usize::try_from(behind).unwrap_or(usize::MAX).min(bytes.len()));
                again.update(&delivered);
                if body.at_byte < self.at_byte {
                    body.again = Some(again);
                } else if again.digest128() != self.hash.digest128() {
                    return Err(self.changed("its beginning differs"));
                }
            }
            if bytes.is_empty() {
                continue;
            }
            if self.total_bytes().is_some_and(|total| body.at_byte > total) {
                return Err(self.changed("it is longer than announced"));
            }
            self.hash.update(&bytes);
            self.at_byte += bytes.len() as u64;
            self.tried = Tried::default();
            self.failing_since = None;
            self.fresh_urls = 0;
            self.body = Some(body);
            return Ok(Some(bytes));
        }
    }

    fn end(&self, body: &Body) -> Result<(), Break> {
        match self.total_bytes() {
            Some(total) if self.at_byte < total => {
                let why = format!("the answer ended {} bytes early", total - self.at_byte);
                Err(Break::Again { failure: Failure::NotDone { wait: None }, why })
            }
            _ if body.again.is_some() => Err(self.changed("it is shorter than before")),
            _ => Ok(()),
        }
    }

    /// A connection that stands at or before the next byte; none if the file is complete already.
    async fn open(&mut self) -> Result<Option<Body>, Break> {
        self.connections += 1;
        let mut request = Request::new(Method::GET, self.file.url.expose().clone());
        let headers = request.headers_mut();
        // Lengths and ranges count bytes as stored.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let (1.., Some(Version { etag: Some(etag), .. })) = (self.at_byte, &self.version) {
            // Without a strong validator a range could continue another file.
            headers.insert(header::RANGE, range_from(self.at_byte));
            headers.insert(header::IF_RANGE, etag.clone());
        }
        let response = self.client.files().send(request).await.map_err(|error| broke(&error))?;
        let (status, headers) = (response.status(), response.headers());
        // Neither the URL nor its host: whoever has them has the file.
        debug!(task_id = self.file.task_id, at_byte = self.at_byte, status = status.as_u16(), "request for a file");
        match status {
            StatusCode::OK => {
                self.check_version(headers, response.content_length())?;
                let again = (self.at_byte > 0).then(Box::default);
                Ok(Some(Body { response, at_byte: 0, again }))
            }
            StatusCode::PARTIAL_CONTENT => {
                let (first, total) = content_range(headers).ok_or_else(|| self.changed("the range is not stated"))?;
                if first != self.at_byte {
                    return Err(self.changed("another range was sent"));
                }
                self.check_version(headers, total)?;
                Ok(Some(Body { response, at_byte: first, again: None }))
            }
            StatusCode::RANGE_NOT_SATISFIABLE if self.at_byte > 0 => {
                // The file's length was not known, and the cut fell exactly on its end.
                match content_length_of_unsatisfied(headers) {
                    Some(total) if total == self.at_byte => {
                        self.check_version(headers, Some(total))?;
                        Ok(None)
                    }
                    _ => Err(self.changed("it is shorter than before")),
                }
            }
            // 400 is what S3 answers once the temporary credentials behind a signature are over.
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Break::Expired(status.as_u16()))
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Err(Break::Fatal(DownloadError::Gone { task_id: self.task_id(), status: Some(status.as_u16()) }))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Err(self.later(&response)),
            _ if status.is_server_error() => Err(self.later(&response)),
            _ => Err(Break::Fatal(DownloadError::Refused { task_id: self.task_id(), status: status.as_u16() })),
        }
    }

    /// Remembers the first answer's version, and holds every later one against it.
    fn check_version(&mut self, headers: &HeaderMap, total_bytes: Option<u64>) -> Result<(), Break> {
        let strong = |tag: &&HeaderValue| tag.as_bytes().starts_with(b"\"");
        let new = Version { etag: headers.get(header::ETAG).filter(strong).cloned(), total_bytes };
        // Before the first byte nothing is at stake.
        let Some(known) = self.version.as_ref().filter(|_| self.at_byte > 0) else {
            self.version = Some(new);
            return Ok(());
        };
        let differs = |known: Option<&[u8]>, new: Option<&[u8]>| matches!((known, new), (Some(a), Some(b)) if a != b);
        let tag = |version: &Version| version.etag.as_ref().map(|tag| tag.as_bytes().to_vec());
        if differs(tag(known).as_deref(), tag(&new).as_deref()) {
            return Err(self.changed("its ETag differs"));
        }
        match (known.total_bytes, new.total_bytes) {
            (Some(known), Some(new)) if known != new => Err(self.changed("its length differs")),
            (None, Some(_)) => {
                self.version = Some(Version { etag: known.etag.clone(), ..new });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn recover(&mut self, broken: Break) -> Result<(), DownloadError> {
        let (failure, why) = match broken {
            Break::Fatal(error) => {
                self.ended = true;
                return Err(error);
            }
            Break::Expired(status) => {
                self.fresh_urls += 1;
                if self.fresh_urls > MAX_FRESH_URLS {
                    self.ended = true;
                    return Err(DownloadError::Refused { task_id: self.task_id(), status });
                }
                self.file.url = self.fresh_url().await.inspect_err(|_| self.ended = true)?;
                (Failure::NotDone { wait: None }, format!("HTTP {status}"))
            }
            Break::Again { failure, why } => (failure, why),
        };
        self.tried.count(failure);
        let options = self.client.options();
        let elapsed = self.failing_since.get_or_insert_with(Instant::now).elapsed();
        match retry::decide(self.tried, elapsed, failure, &options.retry, (options.random)()) {
            Decision::Wait(wait) if self.connections < MAX_CONNECTIONS => {
                warn!(task_id = self.file.task_id, at_byte = self.at_byte, why, "the download broke off: going on");
                tokio::time::sleep(wait).await;
                Ok(())
            }
            _ => {
                self.ended = true;
                Err(DownloadError::Cut { task_id: self.task_id(), at_byte: self.at_byte, why })
            }
        }
    }

    async fn fresh_url(&self) -> Result<SignedUrl, DownloadError> {
        debug!(task_id = self.file.task_id, "the URL is not accepted: asking for a fresh one");
        match self.client.task_state(&self.file.task_id).await? {
            TaskState::Completed { url, .. } => Ok(url),
            _ => Err(DownloadError::Gone { task_id: self.task_id(), status: None }),
        }
    }

    fn later(&self, response: &Response) -> Break {
        let status = response.status();
        let wait = retry_wait(status, response.headers(), self.client.now());
        Break::Again { failure: Failure::NotDone { wait }, why: format!("HTTP {}", status.as_u16()) }
    }

    fn changed(&self, what: &'static str) -> Break {
        Break::Fatal(DownloadError::Changed { task_id: self.task_id(), at_byte: self.at_byte, what })
    }

    fn task_id(&self) -> String {
        self.file.task_id.clone()
    }
}

/// A transport failure in words, without the URL.
fn broke(error: &SendError) -> Break {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        why = format!("{why}: {error}");
        cause = error.source();
    }
    Break::Again { failure: Failure::NotDone { wait: None }, why }
}

fn range_from(first_byte: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes={first_byte}-")).expect("digits are fit for a header")
}

/// The first byte and the whole length in `Content-Range: bytes 5-9/10` (or `/*`).
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    Some((first, total.trim().parse().ok()))
}

/// The whole length in `Content-Range: bytes */10`.
fn content_length_of_unsatisfied(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes */")?.trim().parse().ok()
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
