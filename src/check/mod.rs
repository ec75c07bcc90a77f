//! `chatlake check`: whether all that a run needs is there, before anything depends on it.
//!
//! ```text
//!  stream.rs   clock, credentials, rate limits, permission, discovery     one cheap call each; no export is begun
//!  bucket.rs   lake, objects, conditional create, versions, identity, log objects below `_chatlake/probe/`, deleted again
//!  room.rs     temp dir                                                    a file that has no name
//! ```
//! Each check is bounded in time and goes on when others fail. What it says names no secret and no signed URL.
//! `--export` is another question, what this app's exports look like: format.rs, from lines (profile.rs) and rows (columns.rs).

mod bucket;
mod columns;
pub mod format;
mod keys;
mod profile;
mod room;
mod stream;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::export::Client;
use crate::lake::Env;
use crate::settings::Settings;

/// The longest that one check takes.
const LONGEST: Duration = Duration::from_secs(60);

/// What to look at.
pub struct Setup<'a> {
    /// Stream; or why there is no way to it.
    pub client: Result<Client>,
    /// Where the lake is or will be.
    pub lake: Option<&'a str>,
    /// The selection and the options that runs will have, if they are named: what the lake is must be the same.
    pub selected: Option<Settings>,
    /// The variables of the store.
    pub env: &'a Env,
    /// How old the end of a range must be: what the clock may be off by depends on it.
    pub settle: SignedDuration,
    /// The share of the rate limits that runs will use.
    pub rate_share: f64,
    /// Channels that they will name in one request.
    pub channels_per_request: usize,
    /// Where they will spill.
    pub temp_dir: Option<&'a Path>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, and should be looked at.
    Warning,
    /// Runs will end with this.
    Failed,
    /// Not looked at, or nobody can tell.
    Skipped,
}

/// One capability.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Its name, which programs go by.
    pub check: &'static str,
    /// How it ended.
    pub result: Verdict,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub next: Option<String>,
    /// Numbers, where there are some.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub figures: Value,
    /// What a run would end with.
    #[serde(skip)]
    kind: Option<Kind>,
}

/// All of them.
#[derive(Debug)]
pub struct Report {
    findings: Vec<Finding>,
}

/// Looks at everything.
pub async fn check(setup: Setup<'_>) -> Report {
    let Setup { client, lake, selected, env, settle, rate_share, channels_per_request, temp_dir } = setup;
    let app_key = client.as_ref().ok().map(|client| client.app_key().to_owned());
    let selection = selected.as_ref().map(|selected| &selected.selection);
    let stream = stream::Stream { settle, rate_share, channels_per_request, selection };
    let (mut findings, bucket, room) = tokio::join!(
        stream.findings(client),
        bucket::findings(lake, env, app_key.as_deref(), selected.as_ref()),
        room::finding(temp_dir)
    );
    findings.extend(bucket);
    findings.push(room);
    Report { findings }
}

/// Does a check, whatever comes of it.
async fn within(check: &'static str, work: impl Future<Output = Result<Finding>>) -> Finding {
    let finding = match tokio::time::timeout(LONGEST, work).await {
        Ok(result) => result.unwrap_or_else(|error| Finding::failed(&error)),
        Err(_) => Finding::failed(
            &Error::new(Kind::Temporary, format!("no end after {} s", LONGEST.as_secs()))
                .hint("check the network, then run the same command again"),
        ),
    };
    Finding { check, ..finding }
}

impl Finding {
    fn new(result: Verdict, message: impl Into<String>) -> Self {
        Self { check: "", result, message: message.into(), next: None, figures: Value::Null, kind: None }
    }

    fn ok(message: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, message)
    }

    fn warning(message: impl Into<String>, next: &str) -> Self {
        Self { next: Some(next.to_owned()), ..Self::new(Verdict::Warning, message) }
    }

    fn skipped(message: impl Into<String>, next: &str) -> Self {
        Self { next: Some(next.to_owned()), ..Self::new(Verdict::Skipped, message) }
    }

    fn failed(error: &Error) -> Self {
        let next = error.next_step().map(str::to_owned);
        Self { next, kind: Some(error.kind()), ..Self::new(Verdict::Failed, error.line()) }
    }

    fn then(self, next: &str) -> Self {
        Self { next: Some(next.to_owned()), ..self }
    }

    fn named(self, check: &'static str) -> Self {
        Self { check, ..self }
    }
}

/// Which of several failures decides the exit code: what somebody has to allow or to buy comes before what may pass.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Permission => 7,
        Kind::UnsafeStore => 6,
        Kind::Data => 5,
        Kind::ExportFailed => 4,
        Kind::Temporary => 3,
        Kind::Usage => 2,
        Kind::Internal | Kind::Interrupted | Kind::Terminated => 1,
    }
}

impl Report {
    /// What was found, in the order of a run.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn worst(&self) -> Option<Kind> {
        self.findings.iter().filter_map(|finding| finding.kind).max_by_key(|kind| rank(*kind))
    }

    /// An error of the worst kind, if anything failed.
    pub fn outcome(&self) -> Result<()> {
        let Some(kind) = self.worst() else { return Ok(()) };
        let failed: Vec<&str> =
            self.findings.iter().filter(|finding| finding.kind.is_some()).map(|finding| finding.check).collect();
        Err(Error::new(
            kind,
            format!("{} of {} checks failed: {}", failed.len(), self.findings.len(), failed.join(", ")),
        )
        .hint("what to do stands beside each of them; then run `chatlake check` again"))
    }

    /// One line of JSON.
    pub fn to_json(&self) -> String {
        let exit_code = self.worst().map_or(0, Kind::exit_code);
        serde_json::json!({ "exit_code": exit_code, "checks": self.findings }).to_string()
    }

    /// A line for each, and what to do below it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for Finding { check, result, message, next, .. } in &self.findings {
            let result = match result {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Failed => "FAILED",
                Verdict::Skipped => "skipped",
            };
            let _ = writeln!(text, "{result:<8} {check:<19} {message}");
            if let Some(next) = next {
                let _ = writeln!(text, "{:<28} next: {next}", "");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_never_answers_is_told_in_time() {
        let begun = tokio::time::Instant::now();
        let finding = within("x", std::future::pending()).await;
        assert_eq!((finding.check, finding.result, finding.kind), ("x", Verdict::Failed, Some(Kind::Temporary)));
        assert_eq!(begun.elapsed(), LONGEST);
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        let report = |kinds: &[Kind]| Report {
            findings: kinds.iter().map(|kind| Finding::failed(&Error::new(*kind, "no")).named("x")).collect(),
        };
        let order = [Kind::Permission, Kind::UnsafeStore, Kind::Temporary, Kind::Usage];
        for (number, kind) in order.iter().enumerate() {
            let mut rest = order[number..].to_vec();
            rest.reverse();
            assert_eq!(report(&rest).outcome().err().map(|error| error.kind()), Some(*kind));
            assert!(report(&rest).to_json().contains(&format!("\"exit_code\":{}", kind.exit_code())));
        }
        assert!(report(&[]).outcome().is_ok());
    }
}
