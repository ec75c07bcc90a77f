//! Errors in the form of Stream's `APIError`.

use serde_json::json;

use crate::answer::Answer;

/// A documented error: HTTP status, code and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: u16, code: i32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Code 4: the request makes no sense.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(400, 4, message)
    }

    /// Code 16: what was named does not exist.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(404, 16, message)
    }

    /// Code 5: who asks is not known.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(401, 5, message)
    }

    pub(crate) fn answer(&self, endpoint: &str) -> Answer {
        let body = json!({
            "code": self.code,
            "message": format!("{endpoint} failed with error: \"{}\"", self.message),
            "StatusCode": self.status,
            "duration": "0.00ms",
            "more_info": "https://getstream.io/chat/docs/api_errors_response",
            "details": [],
        });
        Answer::json(self.status, body.to_string().into_bytes())
    }
}
