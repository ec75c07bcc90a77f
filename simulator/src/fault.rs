//! Scripted faults: what goes wrong, at which call, how often.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::file::Insertion;

/// Something that goes wrong at the calls it matches. The first fault that matches a call takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Operation name such as `ExportChannels`, `GetTask` or `Download`; any endpoint if absent.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Text that the path or body must contain, for instance a task id; any call if absent.
    #[serde(default)]
    pub contains: Option<String>,
    /// A channel that the export request must ask for; any call if absent.
    #[serde(default)]
    pub cid: Option<String>,
    /// How many matching calls pass unharmed first.
    #[serde(default)]
    pub skip: u32,
    /// How many calls it takes; 0 means all that follow.
    #[serde(default = "once")]
    pub times: u32,
    /// What goes wrong.
    #[serde(flatten)]
    pub effect: Effect,
}

fn once() -> u32 {
    1
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// This answer; nothing was done.
    Status {
        /// HTTP status.
        status: u16,
        /// Stream's error code; by default the documented one for the status.
        #[serde(default)]
        code: Option<i32>,
        /// The whole body in place of an `APIError`: HTML, or an answer that Stream would not give.
        #[serde(default)]
        body: Option<String>,
        /// Further headers, for instance `Retry-After`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// The connection ends before the request was looked at.
    Reset,
    /// The work is done and the answer never arrives.
    LoseAnswer,
    /// The answer comes in small pieces with pauses.
    SlowBody {
        /// Size of a piece.
        chunk_bytes: usize,
        /// Pause before each.
        delay_ms: u64,
    },
    /// The connection ends in the middle of the body.
    CutBody {
        /// How much of it arrives.
        after_bytes: usize,
    },
    /// The file has another `ETag` from this download on.
    NewEtag,
    /// The task's file holds lines that do not belong there.
    BadLines {
        /// The lines and their places, applied in order.
        lines: Vec<Insertion>,
    },
    /// The task fails.
    FailTask {
        /// Its `error.description`.
        #[serde(default)]
        description: String,
    },
    /// The task never ends.
    StuckTask,
}

impl Fault {
    /// A fault that happens once, at the next call of this endpoint.
    pub fn on(endpoint: &str, effect: Effect) -> Self {
        Self { endpoint: Some(endpoint.to_owned()), contains: None, cid: None, skip: 0, times: 1, effect }
    }

    /// An error answer with the documented code for its status.
    pub fn status(endpoint: &str, status: u16) -> Self {
        Self::on(endpoint, Effect::Status { status, code: None, body: None, headers: BTreeMap::new() })
    }

    /// Happens at this many calls; 0 means all that follow.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Lets this many matching calls pass first.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Happens only at calls whose path or body contains this text.
    #[must_use]
    pub fn containing(mut self, text: &str) -> Self {
        self.contains = Some(text.to_owned());
        self
    }

    /// Happens only at export requests that ask for this channel.
    #[must_use]
    pub fn for_channel(mut self, cid: &str) -> Self {
        self.cid = Some(cid.to_owned());
        self
    }

    fn matches(&self, call: &Candidate<'_>) -> bool {
        let endpoint = call.endpoint;
        let possible = match self.effect {
            Effect::NewEtag => endpoint == Endpoint::Download,
            Effect::BadLines { .. } | Effect::FailTask { .. } | Effect::StuckTask => {
                matches!(endpoint, Endpoint::ExportChannels | Endpoint::ExportUsers)
            }
            _ => true,
        };
        possible
            && self.endpoint.as_deref().is_none_or(|name| name == endpoint.name())
            && self.contains.as_deref().is_none_or(|text| call.path.contains(text) || call.body.contains(text))
            && self.cid.as_ref().is_none_or(|cid| call.cids.contains(cid))
    }
}

/// What a fault looks at to decide whether it takes a call.
pub(crate) struct Candidate<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) path: &'a str,
    pub(crate) body: &'a str,
    pub(crate) cids: &'a [String],
}

/// The effect for this call, if a fault takes it; spent faults are removed.
pub(crate) fn take(faults: &mut Vec<Fault>, call: &Candidate<'_>) -> Option<Effect> {
    let mut taken = None;
    for (place, fault) in faults.iter_mut().enumerate() {
        if !fault.matches(call) {
            continue;
        }
        if fault.skip > 0 {
            fault.skip -= 1;
            continue;
        }
        taken = Some(place);
        break;
    }
    let place = taken?;
    let effect = faults[place].effect.clone();
    match faults[place].times {
        0 => {}
        1 => drop(faults.remove(place)),
        _ => faults[place].times -= 1,
    }
    Some(effect)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_consumed_in_order() {
        let mut faults = vec![
            Fault::status("GetTask", 500).after(1).times(2),
            Fault::on("GetTask", Effect::Reset),
            Fault::on("ExportChannels", Effect::StuckTask).for_channel("messaging:x").times(0),
        ];
        let mut call = |endpoint, cid: &str| {
            let cids = [cid.to_owned()];
            match take(&mut faults, &Candidate { endpoint, path: "/", body: "", cids: &cids }) {
                None => "none",
                Some(Effect::Status { .. }) => "status",
                Some(Effect::Reset) => "reset",
                Some(_) => "other",
            }
        };
        let polls: Vec<_> = (0..5).map(|_| call(Endpoint::GetTask, "")).collect();
        assert_eq!(polls, ["reset", "status", "status", "none", "none"]);
        assert_eq!(call(Endpoint::ExportChannels, "messaging:y"), "none");
        assert_eq!(call(Endpoint::ExportChannels, "messaging:x"), "other");
        assert_eq!(call(Endpoint::ExportChannels, "messaging:x"), "other");
    }

    #[test]
    fn faults_are_read_from_json() {
        let fault: Fault =
            serde_json::from_str(r#"{"endpoint": "Download", "effect": "cut_body", "after_bytes": 10}"#).unwrap();
        assert_eq!(fault, Fault::on("Download", Effect::CutBody { after_bytes: 10 }));
        let lines =
            r#"{"effect": "bad_lines", "lines": [{"at_line": 2, "kind": "text", "text": "{"}, {"kind": "not_utf8"}]}"#;
        assert!(
            matches!(serde_json::from_str::<Fault>(lines).unwrap().effect, Effect::BadLines { lines } if lines.len() == 2)
        );
    }
}
