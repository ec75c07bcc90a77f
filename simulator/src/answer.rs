//! What is asked of the simulator and what it answers: values, so that all of it but the sockets is plain functions.

use std::collections::BTreeMap;

use bytes::Bytes;
use percent_encoding::percent_decode_str;

/// A request, read in full.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

impl Question {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

/// The parameters of a query string; of a repeated one, the last.
pub(crate) fn parse_query(query: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// A response, before it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Whether the length is told; chunked otherwise.
    pub(crate) content_length: bool,
    /// Size of the pieces.
    pub(crate) chunk_bytes: usize,
    pub(crate) disturbance: Disturbance,
}

/// What goes wrong while an answer is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Disturbance {
    #[default]
    None,
    /// The connection ends without a byte of an answer.
    Reset,
    /// The connection ends after this many bytes of the body.
    Cut { after_bytes: usize },
    /// A pause before every piece.
    Slow { delay_ms: u64 },
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), content_type.into())],
            body: body.into(),
            content_length: true,
            chunk_bytes: 64 * 1024,
            disturbance: Disturbance::None,
        }
    }

    pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json;charset=utf-8", body)
    }

    pub(crate) fn reset() -> Self {
        Self { disturbance: Disturbance::Reset, ..Self::new(500, "text/plain", "") }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}
