//! What Stream's API answers when it does not do what was asked, and what that means to whoever runs chatlake.

use std::time::Duration;

use reqwest::StatusCode;

use super::endpoint::Endpoint;
use super::retry::Failure;
use super::transport::SendError;
use super::wire::ApiErrorBody;
use crate::connection::{is_untrusted, unreachable_hint, untrusted_hint};
use crate::error::{Error, Kind};

/// How much of an answer that is not Stream's is shown.
const EXCERPT_CHARS: usize = 200;
/// How much of Stream's own message is kept: enough for the cids of a whole request.
const MESSAGE_CHARS: usize = 10_000;

/// Why a call to Stream's API failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection: nothing was sent.
    #[error("cannot reach Stream at {host} for {endpoint}")]
    Unreachable {
        /// What was called.
        endpoint: Endpoint,
        /// Where, without the path.
        host: String,
        /// Why, without the URL.
        source: SendError,
    },
    /// Sent, but the answer never came or broke off: Stream may have done it.
    #[error("the answer to {endpoint} was lost")]
    Lost {
        /// What was called.
        endpoint: Endpoint,
        /// Why, without the URL.
        source: SendError,
    },
    /// Stream, or something before it, refused.
    #[error("{endpoint} was refused: {}", refusal.without(&format!("{endpoint} failed with error: ")))]
    Refused {
        /// What was called.
        endpoint: Endpoint,
        /// What it said.
        refusal: Refusal,
    },
    /// A success whose body is not what the API promises: Stream may have done it.
    #[error("the answer to {endpoint} is not Stream's: {excerpt}")]
    Unreadable {
        /// What was called.
        endpoint: Endpoint,
        /// What is wrong with it, or its beginning.
        excerpt: String,
    },
    /// A success whose body is longer than any that is read: Stream may have done it.
    #[error("the answer to {endpoint} is longer than {} MiB", .most_bytes >> 20)]
    TooLong {
        /// What was called.
        endpoint: Endpoint,
        /// How long it may be.
        most_bytes: usize,
    },
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Stream's error code; none if the body is not Stream's.
    pub code: Option<i64>,
    /// Stream's message, or the beginning of the body.
    pub message: String,
    /// Stream says that repeating it is useless.
    pub unrecoverable: bool,
    /// How long Stream asks to wait.
    pub wait: Option<Duration>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.without(""))
    }
}

/// What a refusal is about: the classes that someone acts differently on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    BadKey,
    BadSecret,
    Clock,
    NotAllowed,
    WrongRegion,
    Later,
    Missing,
    Input,
    NotStream,
}

impl Refusal {
    /// What it says, without these first words if they are there.
    fn without(&self, words: &str) -> String {
        let message = self.message.strip_prefix(words).unwrap_or(&self.message);
        match self.code {
            Some(code) => format!("{message} (HTTP {}, code {code})", self.status),
            None => format!("{message} (HTTP {})", self.status),
        }
    }

    /// From an answer's status and body.
    pub(super) fn new(status: StatusCode, body: &[u8], wait: Option<Duration>) -> Self {
        match serde_json::from_slice::<ApiErrorBody>(body) {
            Ok(error) => Self {
                status: status.as_u16(),
                code: Some(error.code),
                message: excerpt(&error.message, MESSAGE_CHARS),
                unrecoverable: error.unrecoverable,
                wait,
            },
            Err(_) => {
                let text = excerpt(&String::from_utf8_lossy(body), EXCERPT_CHARS);
                let message = if text.is_empty() { "an empty answer".to_owned() } else { format!("`{text}`") };
                Self { status: status.as_u16(), code: None, message, unrecoverable: false, wait }
            }
        }
    }

    /// Whether Stream says that something asked for does not exist.
    pub fn is_missing(&self) -> bool {
        self.class() == Class::Missing
    }

    /// Whether it is about what was asked for: Stream may do a part of it.
    pub fn is_about_request(&self) -> bool {
        matches!(self.class(), Class::Missing | Class::Input) || self.unrecoverable
    }

    /// Whether Stream refused the token as one of another time, which the clock in its own answers cures.
    pub(super) fn is_clock(&self) -> bool {
        self.class() == Class::Clock
    }

    fn class(&self) -> Class {
        match (self.code, self.status) {
            (Some(2), _) => Class::BadKey,
            (Some(41 | 42), _) => Class::Clock,
            (Some(3 | 5 | 40 | 43), _) => Class::BadSecret,
            (Some(17 | 70 | 99), _) => Class::NotAllowed,
            (Some(69), _) => Class::WrongRegion,
            (Some(-1 | 9 | 23 | 60 | 71), _) => Class::Later,
            (Some(16), _) => Class::Missing,
            (Some(4), _) if says_missing(&self.message) => Class::Missing,
            (Some(4), _) => Class::Input,
            (_, 408 | 425 | 429 | 500..=599) => Class::Later,
            (_, 401) => Class::BadSecret,
            (_, 403) => Class::NotAllowed,
            (Some(_), 404) => Class::Missing,
            (Some(_), _) => Class::Input,
            (None, _) => Class::NotStream,
        }
    }
}

impl ApiError {
    /// What was called.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Unreachable { endpoint, .. }
            | Self::Lost { endpoint, .. }
            | Self::Refused { endpoint, .. }
            | Self::Unreadable { endpoint, .. }
            | Self::TooLong { endpoint, .. } => *endpoint,
        }
    }

    /// Stream's own words, if it is Stream that refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// As far as repeating the request goes; the table is in [`super::retry`].
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Unreachable { .. } => Failure::NotDone { wait: None },
            Self::Lost { .. } => Failure::Ambiguous,
            // A page that is not Stream's will not turn into Stream's, but behind it an export may have begun.
            Self::Unreadable { endpoint, .. } | Self::TooLong { endpoint, .. } if endpoint.is_repeatable() => {
                Failure::Final
            }
            Self::Unreadable { .. } | Self::TooLong { .. } => Failure::Ambiguous,
            Self::Refused { refusal, .. } => match (refusal.class(), refusal.status) {
                _ if refusal.unrecoverable => Failure::Final,
                // Rate limits at the edge are not JSON, and still say that nothing was done.
                (Class::Later, 429) => Failure::NotDone { wait: refusal.wait },
                (Class::Later, _) if refusal.code.is_none() => Failure::Ambiguous,
                (Class::Later, _) => Failure::NotDone { wait: refusal.wait },
                _ => Failure::Final,
            },
        }
    }

    pub(super) fn from_transport(endpoint: Endpoint, host: String, source: SendError) -> Self {
        if source.is_unsent { Self::Unreachable { endpoint, host, source } } else { Self::Lost { endpoint, source } }
    }

    /// Whether Stream may have done what was asked, and repeating it would do it twice.
    pub fn is_unanswered(&self) -> bool {
        !self.endpoint().is_repeatable() && self.failure() == Failure::Ambiguous
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        let (kind, hint) = match &error {
            ApiError::Unreachable { source, .. } => {
                let hint = if is_untrusted(source) { untrusted_hint() } else { unreachable_hint("STREAM_BASE_URL") };
                return Self::new(Kind::Temporary, error.to_string()).because(error).hint(hint);
            }
            _ if error.is_unanswered() => (
                Kind::Temporary,
                "whether Stream has begun the export cannot be known: run the same command again, and it is asked for once more",
            ),
            ApiError::Lost { .. } => (Kind::Temporary, "run the same command again"),
            ApiError::Unreadable { .. } | ApiError::TooLong { .. } => {
                (Kind::Temporary, "if it stays so, check that STREAM_BASE_URL is Stream's API and not a proxy's page")
            }
            ApiError::Refused { refusal, .. } => match refusal.class() {
                Class::BadKey => (Kind::Permission, "check STREAM_API_KEY: Stream does not know this key"),
                Class::BadSecret => (
                    Kind::Permission,
                    "check STREAM_API_SECRET, or the file that STREAM_API_SECRET_FILE names: it must be the secret of the app that STREAM_API_KEY names",
                ),
                Class::Clock => (Kind::Temporary, "set this machine's clock, then run the same command again"),
                Class::NotAllowed => {
                    (Kind::Permission, "ask the app's owner to allow server-side exports for this key")
                }
                Class::WrongRegion => (Kind::Usage, "set STREAM_BASE_URL to the host of the app's region"),
                Class::Later if refusal.unrecoverable => (
                    Kind::ExportFailed,
                    "Stream says that repeating this is useless: contact its support with the message",
                ),
                Class::Later if refusal.status == 429 => {
                    (Kind::Temporary, "run the same command again later, or lower --rate-share")
                }
                Class::Later => (Kind::Temporary, "run the same command again"),
                Class::Missing if error.endpoint() == Endpoint::QueryChannels => {
                    (Kind::Usage, "check STREAM_BASE_URL: there is no such call at this address")
                }
                Class::Input if error.endpoint() == Endpoint::QueryChannels => (
                    Kind::Usage,
                    "change --filter or --channel-type, if there are any: the message is Stream's; docs/selection.md says what is known of filters",
                ),
                Class::Missing | Class::Input => (Kind::Usage, "change what was asked for: the message is Stream's"),
                Class::NotStream => (Kind::Usage, "check STREAM_BASE_URL: this answer is not from Stream's API"),
            },
        };
        let message = error.to_string();
        let made = Self::new(kind, message).hint(hint);
        match error {
            ApiError::Unreachable { source, .. } | ApiError::Lost { source, .. } => made.because(source),
            ApiError::Refused { .. } | ApiError::Unreadable { .. } | ApiError::TooLong { .. } => made,
        }
    }
}

/// Whether a message says that a channel or task is not there. Stream's code for it differs: 16, or 4 as any bad input.
fn says_missing(message: &str) -> bool {
    let message = message.to_lowercase();
    ["can't find", "cannot find", "can not find", "does not exist", "doesn't exist", "not found"]
        .iter()
        .any(|phrase| message.contains(phrase))
}

/// At most `max_chars` of foreign text on one line, with the query of every URL in it cut: that is where keys and signatures are.
pub(super) fn excerpt(text: &str, max_chars: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        match word.split_once('?') {
            Some((before, query)) if query.contains('=') => {
                line.push_str(before);
                line.push_str("?<redacted>");
            }
            _ => line.push_str(word),
        }
    }
    match line.char_indices().nth(max_chars) {
        Some((end, _)) => {
            line.truncate(end);
            line.push('…');
            line
        }
        None => line,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(status: u16, body: &str) -> ApiError {
        let refusal = Refusal::new(StatusCode::from_u16(status).unwrap(), body.as_bytes(), None);
        ApiError::Refused { endpoint: Endpoint::ExportChannels, refusal }
    }

    fn api(status: u16, code: i64, message: &str) -> ApiError {
        refused(status, &serde_json::json!({"code": code, "message": message, "StatusCode": status}).to_string())
    }

    const NOT_DONE: Failure = Failure::NotDone { wait: None };

    #[test]
    fn each_refusal_has_a_kind_a_next_step_and_a_retry() {
        let table = [
            (api(401, 2, "api_key not valid"), Kind::Permission, "STREAM_API_KEY", Failure::Final),
            (api(401, 43, "signature is not valid"), Kind::Permission, "STREAM_API_SECRET", Failure::Final),
            (api(401, 5, "authentication error"), Kind::Permission, "STREAM_API_SECRET", Failure::Final),
            (api(401, 42, "token used before issued"), Kind::Temporary, "clock", Failure::Final),
            (api(403, 17, "not allowed"), Kind::Permission, "allow", Failure::Final),
            (refused(403, "<html>no</html>"), Kind::Permission, "allow", Failure::Final),
            (api(403, 60, "cooldown"), Kind::Temporary, "again", NOT_DONE),
            (api(400, 69, "wrong region"), Kind::Usage, "STREAM_BASE_URL", Failure::Final),
            (api(429, 9, "too many requests"), Kind::Temporary, "--rate-share", NOT_DONE),
            (refused(429, "slow down"), Kind::Temporary, "--rate-share", NOT_DONE),
            (api(500, -1, "internal"), Kind::Temporary, "again", NOT_DONE),
            (api(408, 23, "timeout"), Kind::Temporary, "again", NOT_DONE),
            (refused(502, "bad gateway"), Kind::Temporary, "again", Failure::Ambiguous),
            (refused(503, ""), Kind::Temporary, "again", Failure::Ambiguous),
            (api(400, 4, "limit must be smaller"), Kind::Usage, "limit must be smaller", Failure::Final),
            (api(413, 22, "payload too big"), Kind::Usage, "payload too big", Failure::Final),
            (refused(404, "nothing here"), Kind::Usage, "STREAM_BASE_URL", Failure::Final),
            (refused(302, ""), Kind::Usage, "STREAM_BASE_URL", Failure::Final),
        ];
        for (error, kind, text, failure) in table {
            assert_eq!(error.failure(), failure, "{error}");
            let error = Error::from(error);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.report().contains(text), "{} lacks {text}", error.report());
        }
    }

    #[test]
    fn what_was_called_is_said_once() {
        let error = api(400, 4, "ExportChannels failed with error: \"no such thing\"");
        assert_eq!(error.to_string(), "ExportChannels was refused: \"no such thing\" (HTTP 400, code 4)");
    }

    #[test]
    fn unrecoverable_is_believed() {
        let error = refused(500, r#"{"code":-1,"message":"no","unrecoverable":true}"#);
        assert_eq!(error.failure(), Failure::Final);
        assert_eq!(Error::from(error).kind(), Kind::ExportFailed);
    }

    #[test]
    fn a_missing_channel_has_several_forms() {
        for error in [
            api(404, 16, "gone"),
            api(400, 4, "ExportChannels failed with error: \"Can't find channel messaging:a\""),
            api(400, 16, "Can't find channel"),
        ] {
            assert!(error.refusal().unwrap().is_missing(), "{error}");
        }
        assert!(!api(400, 4, "limit is too large").refusal().unwrap().is_missing());
        assert!(!refused(404, "page not found").refusal().unwrap().is_missing());
    }

    #[test]
    fn foreign_text_is_cut_and_its_queries_are_redacted() {
        let body = format!("<a href='https://x/y?api_key=k&Signature=s'>\u{7}\n{}", "é".repeat(500));
        let error = refused(500, &body);
        let text = error.to_string();
        assert!(!text.contains("Signature") && !text.contains("api_key"), "{text}");
        assert!(text.contains("https://x/y?<redacted>") && text.ends_with("…` (HTTP 500)"), "{text}");
        assert!(text.chars().count() < 300);
    }

    proptest! {
        #[test]
        fn an_excerpt_is_short_and_on_one_line(text in "\\PC{0,300}|[a-z?=& \n]{0,300}", max in 0usize..250) {
            let cut = excerpt(&text, max);
            prop_assert!(cut.chars().count() <= max + 1);
            prop_assert!(!cut.contains('\n'));
        }
    }
}
