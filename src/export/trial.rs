//! Asking in order to see what is answered: whether exports are allowed, which channel was active last, how a file is served.

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use super::client::Client;
use super::error::{ApiError, excerpt};
use super::request::{ExportOptions, ExportRequest};
use super::task::TaskFile;
use super::transport::SendError;

/// The answer to a request for an export of a channel that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Stream looked for the channel: one may export.
    Missing,
    /// Stream has begun an export, which has nothing in it.
    Accepted,
}

/// What a file's answers say besides the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Served {
    /// `Content-Length`.
    pub content_length: Option<u64>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `ETag`.
    pub etag: EtagForm,
    /// What a request with `Range` is answered.
    pub range: RangeForm,
}

/// Whether a file has a name for its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EtagForm {
    /// One that stands for its bytes.
    Strong,
    /// One that stands for its meaning.
    Weak,
    /// None.
    None,
}

/// How a request for one byte of a file is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RangeForm {
    /// With that byte.
    Honoured,
    /// With the whole file.
    Ignored,
    /// With this status.
    Refused(u16),
}

impl Client {
    /// Asks for an export of a channel that does not exist: its id is a fresh UUID, and the time one second of 1970, when no app
    /// had a message. So whatever Stream makes of the request, nothing is exported. It is sent once.
    pub async fn try_export(&self, nonce: Uuid) -> Result<Trial, ApiError> {
        let since = Timestamp::UNIX_EPOCH;
        let request = ExportRequest {
            cids: vec![format!("messaging:chatlake-check-{}", nonce.simple())],
            since,
            until: since.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX),
            options: ExportOptions::default(),
        };
        match self.export_once(&request, &request.cids).await {
            Ok(_) => Ok(Trial::Accepted),
            Err(error) if error.refusal().is_some_and(super::Refusal::is_missing) => Ok(Trial::Missing),
            Err(error) => Err(error),
        }
    }

    /// How a file is served. Bodies are not read.
    pub async fn served(&self, file: &TaskFile) -> Result<Served, SendError> {
        let whole = self.files().send(request(file, None)).await?;
        let headers = whole.headers();
        let tag = headers.get(header::ETAG);
        let served = Served {
            content_length: headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()),
            content_type: text(headers, &header::CONTENT_TYPE),
            content_encoding: text(headers, &header::CONTENT_ENCODING),
            etag: match tag.map(HeaderValue::as_bytes) {
                Some([b'"', ..]) => EtagForm::Strong,
                Some(_) => EtagForm::Weak,
                None => EtagForm::None,
            },
            range: RangeForm::Ignored,
        };
        drop(whole);
        let part = self.files().send(request(file, Some("bytes=0-0"))).await?;
        let range = match part.status() {
            StatusCode::PARTIAL_CONTENT => RangeForm::Honoured,
            status if status.is_success() => RangeForm::Ignored,
            status => RangeForm::Refused(status.as_u16()),
        };
        Ok(Served { range, ..served })
    }
}

fn request(file: &TaskFile, range: Option<&'static str>) -> Request {
    let mut request = Request::new(Method::GET, file.url.expose().clone());
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.extend(range.map(|range| (header::RANGE, HeaderValue::from_static(range))));
    request
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|text| excerpt(text, 60))
}
