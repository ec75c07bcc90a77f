//! The parts of Stream's API that chatlake uses, as Stream names and limits them.

use std::fmt;

/// One of Stream's endpoints: the unit of its rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// `POST /channels`
    QueryChannels,
    /// `POST /export_channels`
    ExportChannels,
    /// `POST /export/users`
    ExportUsers,
    /// `GET /users/{id}/export`
    ExportUser,
    /// `GET /tasks/{id}`
    GetTask,
    /// `GET /rate_limits`
    GetRateLimits,
}

impl Endpoint {
    /// Every endpoint, in the order they are declared.
    pub const ALL: [Self; 6] = [
        Self::QueryChannels,
        Self::ExportChannels,
        Self::ExportUsers,
        Self::ExportUser,
        Self::GetTask,
        Self::GetRateLimits,
    ];

    /// The name, as in Stream's specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueryChannels => "QueryChannels",
            Self::ExportChannels => "ExportChannels",
            Self::ExportUsers => "ExportUsers",
            Self::ExportUser => "ExportUser",
            Self::GetTask => "GetTask",
            Self::GetRateLimits => "GetRateLimits",
        }
    }

    /// Requests a minute before Stream has told the app's own limit: the documented default, and a cautious
    /// guess where none is documented.
    pub fn default_limit_per_minute(self) -> u32 {
        match self {
            Self::QueryChannels => 10_000,
            Self::ExportChannels | Self::ExportUsers | Self::ExportUser | Self::GetRateLimits => 60,
            Self::GetTask => 300,
        }
    }

    /// Whether sending a request twice costs nothing. A repeated export is a second task, which is paid for.
    pub fn is_repeatable(self) -> bool {
        !matches!(self, Self::ExportChannels | Self::ExportUsers)
    }

    /// The longest answer that is read: thirty channels with all their custom data are far below the one, a user's ten thousand
    /// messages below the other.
    pub(super) fn max_answer_bytes(self) -> usize {
        if self == Self::ExportUser { 64 << 20 } else { 16 << 20 }
    }

    /// A dense number, for arrays by endpoint.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
