//! The routes: which method and path is which endpoint, in both generations of paths.

use percent_encoding::percent_decode_str;

/// What the simulator implements, by the operation names of the vendor's specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    ExportChannels,
    GetExportChannelsStatus,
    GetTask,
    QueryChannels,
    ExportUser,
    ExportUsers,
    GetRateLimits,
    Download,
}

impl Endpoint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ExportChannels => "ExportChannels",
            Self::GetExportChannelsStatus => "GetExportChannelsStatus",
            Self::GetTask => "GetTask",
            Self::QueryChannels => "QueryChannels",
            Self::ExportUser => "ExportUser",
            Self::ExportUsers => "ExportUsers",
            Self::GetRateLimits => "GetRateLimits",
            Self::Download => "Download",
        }
    }
}

/// An endpoint with what its path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) endpoint: Endpoint,
    /// Under `/api/v2`: integer nanoseconds, nested custom data.
    pub(crate) v2: bool,
    /// The id in the path; empty where there is none.
    pub(crate) id: String,
}

/// Finds the endpoint; none is an error that names the route, never a guess.
pub(crate) fn route(method: &str, path: &str) -> Option<Route> {
    let (v2, rest) = match path.strip_prefix("/api/v2/") {
        Some(rest) => (true, rest),
        None => (false, path.strip_prefix('/')?),
    };
    let decode = |id: &str| percent_decode_str(id).decode_utf8_lossy().into_owned();
    let parts: Vec<&str> = rest.split('/').collect();
    let (endpoint, id) = match (method, v2, parts.as_slice()) {
        ("POST", false, ["export_channels"]) | ("POST", true, ["chat", "export_channels"]) => {
            (Endpoint::ExportChannels, "")
        }
        ("GET", false, ["export_channels", id]) | ("GET", true, ["chat", "export_channels", id]) => {
            (Endpoint::GetExportChannelsStatus, *id)
        }
        ("GET", _, ["tasks", id]) => (Endpoint::GetTask, *id),
        ("POST", false, ["channels"]) | ("POST", true, ["chat", "channels"]) => (Endpoint::QueryChannels, ""),
        ("GET", _, ["users", id, "export"]) => (Endpoint::ExportUser, *id),
        ("POST", _, ["export", "users"]) => (Endpoint::ExportUsers, ""),
        ("GET", _, ["rate_limits"]) => (Endpoint::GetRateLimits, ""),
        ("GET", false, ["download", id]) => (Endpoint::Download, *id),
        _ => return None,
    };
    Some(Route { endpoint, v2, id: decode(id) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_are_routed_and_nothing_else() {
        let named = |method, path| route(method, path).map(|route| (route.endpoint.name(), route.v2, route.id));
        assert_eq!(named("POST", "/export_channels"), Some(("ExportChannels", false, String::new())));
        assert_eq!(named("POST", "/api/v2/chat/export_channels"), Some(("ExportChannels", true, String::new())));
        assert_eq!(named("GET", "/api/v2/tasks/t-1"), Some(("GetTask", true, "t-1".into())));
        assert_eq!(named("GET", "/users/a%40b/export"), Some(("ExportUser", false, "a@b".into())));
        assert_eq!(named("GET", "/export_channels"), None);
        assert_eq!(named("POST", "/api/v2/channels"), None);
        assert_eq!(named("GET", "/app"), None);
    }
}
