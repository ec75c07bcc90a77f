#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use proptest::prelude::*;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::export::client::Options;
use crate::export::credentials::Credentials;
use crate::export::scripted::{Reply, Scripted};
use crate::export::transport::{SendError, Transport};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn task() -> ExportTask {
    ExportTask { task_id: "t".into(), requested_at: time("2026-01-01T00:00:00Z"), cids: vec!["m:a".into()] }
}

fn read(body: Value) -> TaskState {
    state(serde_json::from_value(body).unwrap())
}

fn url() -> SignedUrl {
    SignedUrl::parse("https://bucket.example/exports/f?Signature=s").unwrap()
}

fn completed() -> TaskState {
    TaskState::Completed { url: url(), created_at: Some(time("2026-01-01T00:00:01Z")) }
}

fn running() -> TaskState {
    TaskState::Running { status: "waiting".into(), created_at: None }
}

/// Follows a task whose states come from `script`, in paused time that passes as polls wait.
async fn follow_script(
    script: impl IntoIterator<Item = TaskState>,
    deadline: SignedDuration,
) -> Result<TaskFile, TaskError> {
    let started = Instant::now();
    let mut script = script.into_iter();
    let now = || task().requested_at + started.elapsed();
    follow(&task(), deadline, now, || 0.5, async || Ok(script.next().expect("the task was polled too often"))).await
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

#[test]
fn states_are_read_tolerantly() {
    let good = json!({ "url": "https://bucket.example/exports/f?Signature=s", "path": "x", "s3_bucket_name": "b" });
    for error in [json!(null), json!({}), json!(""), json!({ "type": "", "description": "" })] {
        let body = json!({ "task_id": "t", "status": "completed", "created_at": "2026-01-01T00:00:01Z", "result": good, "error": error });
        assert_eq!(read(body), completed());
    }
    let nanoseconds = json!({ "status": "completed", "created_at": 1_767_225_601_000_000_000i64, "result": good });
    assert_eq!(read(nanoseconds), completed());
    for result in [json!(null), json!({}), json!({ "url": "" }), json!({ "url": "file:///etc/passwd" }), json!("x")] {
        assert_eq!(read(json!({ "status": "completed", "result": result })), TaskState::NoUrl);
    }
    for status in ["waiting", "pending", "running", "", "something new"] {
        assert!(matches!(read(json!({ "status": status })), TaskState::Running { .. }), "{status}");
    }
    let failed = |body| match read(body) {
        TaskState::Failed { description } => description,
        other => panic!("{other:?}"),
    };
    assert_eq!(failed(json!({ "status": "failed" })), "no reason given");
    assert_eq!(failed(json!({ "status": "error", "error": "out of luck" })), "out of luck");
    assert_eq!(failed(json!({ "status": "running", "error": { "type": "E", "description": "d" } })), "d (E)");
    assert_eq!(failed(json!({ "status": "completed", "result": good, "error": { "type": "E" } })), "E");
}

#[test]
fn a_signed_url_is_never_shown() {
    let shown = format!(
        "{} {:?} {:#?} {:?}",
        url(),
        url(),
        TaskFile { task_id: "t".into(), exported_at: Timestamp::UNIX_EPOCH, url: url() },
        completed()
    );
    assert!(
        shown.contains("https://bucket.example/<redacted>")
            && !shown.contains("Signature")
            && !shown.contains("exports")
    );
    for bad in ["", "exports/f", "ftp://x/y", "file:///x"] {
        assert_eq!(SignedUrl::parse(bad), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_is_followed_to_its_file() {
    let file = follow_script([running(), running(), TaskState::NoUrl, completed()], DAY).await.unwrap();
    assert_eq!(file, TaskFile { task_id: "t".into(), exported_at: time("2026-01-01T00:00:01Z"), url: url() });
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_says_why() {
    let failed = TaskState::Failed { description: "no space".into() };
    let error = Error::from(follow_script([running(), failed], DAY).await.unwrap_err());
    assert_eq!(error.kind(), Kind::ExportFailed);
    assert!(error.report().contains("no space"));
}

#[tokio::test(start_paused = true)]
async fn a_task_past_its_deadline_is_left_for_a_later_run() {
    let error = follow_script(std::iter::repeat_with(running), SignedDuration::from_mins(30)).await.unwrap_err();
    assert!(matches!(&error, TaskError::Overdue { age, .. } if *age < SignedDuration::from_mins(32)), "{error}");
    assert_eq!(Error::from(error).kind(), Kind::Temporary);
}

#[tokio::test(start_paused = true)]
async fn an_old_task_that_is_finished_is_not_overdue() {
    assert!(follow_script([completed()], SignedDuration::ZERO).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn patience_with_a_missing_url_or_task_ends() {
    let no_url = follow_script(std::iter::repeat_with(|| TaskState::NoUrl), DAY).await.unwrap_err();
    assert!(matches!(no_url, TaskError::NoUrl { .. }));
    let unknown = follow_script(std::iter::repeat_with(|| TaskState::Unknown), DAY).await.unwrap_err();
    assert!(matches!(unknown, TaskError::Unknown { .. }));
    assert!(follow_script([TaskState::Unknown, running(), completed()], DAY).await.is_ok());
}

#[tokio::test]
async fn an_adopted_task_that_stream_forgot_is_unknown_at_once() {
    let server = Scripted::queue([Reply::error(404, 16, "Can't find task with id t")]).await;
    let error = server.client().wait_for_task(&task(), DAY).await.unwrap_err();
    assert!(matches!(error, TaskError::Unknown { .. }), "{error}");
    assert_eq!(server.lines(), ["GET /tasks/t"]);
}

#[tokio::test]
async fn a_finished_task_takes_one_call() {
    let body = json!({ "task_id": "t", "status": "completed", "created_at": "2026-01-01T00:00:01Z", "result": { "url": "https://bucket.example/exports/f?Signature=s" } });
    let server = Scripted::queue([Reply::json(200, body)]).await;
    assert_eq!(server.client().wait_for_task(&task(), DAY).await.unwrap().url, url());
}

/// Stream as it is to who waits for a task: an answer takes its time, some calls fail, and the task is worked on for long.
struct SlowTask {
    lasts: Duration,
    latency: Duration,
    /// What comes of the calls, in this order, and then of all others: an answer, where there is none.
    hiccups: Vec<Option<Hiccup>>,
    begun: Instant,
    calls: Mutex<Vec<Call>>,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    after: Duration,
    hiccup: Option<Hiccup>,
}

#[derive(Clone, Copy, Debug)]
enum Hiccup {
    Lost,
    Unavailable,
    TooMany { retry_after_s: u64 },
}

impl Call {
    /// How long nothing may be asked after it.
    fn asked_for_s(&self) -> u64 {
        match self.hiccup {
            Some(Hiccup::TooMany { retry_after_s }) => retry_after_s,
            _ => 0,
        }
    }
}

impl SlowTask {
    fn answer(&self, hiccup: Option<Hiccup>) -> Result<reqwest::Response, SendError> {
        let after = self.begun.elapsed();
        let status = if after < self.lasts { "running" } else { "completed" };
        let result = json!({ "url": "https://bucket.example/exports/f?Signature=s" });
        let body = json!({ "task_id": "t", "status": status, "created_at": task().requested_at, "result": result });
        let date = (task().requested_at + after).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let answer = http::Response::builder().header("date", date);
        let answer = match hiccup {
            None => answer.body(body.to_string()),
            Some(Hiccup::Lost) => return Err(SendError::lost("connection reset")),
            Some(Hiccup::Unavailable) => answer.status(503).body(String::new()),
            Some(Hiccup::TooMany { retry_after_s }) => {
                answer.status(429).header("retry-after", retry_after_s).body(String::new())
            }
        };
        Ok(answer.unwrap().into())
    }
}

struct ToSlowTask(Arc<SlowTask>);

impl Transport for ToSlowTask {
    fn send(&self, _: reqwest::Request) -> BoxFuture<'static, Result<reqwest::Response, SendError>> {
        let stream = Arc::clone(&self.0);
        async move {
            let hiccup = {
                let mut calls = stream.calls.lock().unwrap();
                let hiccup = stream.hiccups.get(calls.len()).copied().flatten();
                calls.push(Call { after: stream.begun.elapsed(), hiccup });
                hiccup
            };
            tokio::time::sleep(stream.latency).await;
            stream.answer(hiccup)
        }
        .boxed()
    }
}

/// The calls that following a task takes, to its file.
fn calls_of(
    lasts: Duration,
    latency: Duration,
    hiccups: Vec<Option<Hiccup>>,
    random: fn() -> f64,
) -> Result<Vec<Call>, TaskError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let begun = Instant::now();
        let stream = Arc::new(SlowTask { lasts, latency, hiccups, begun, calls: Mutex::default() });
        let to_stream = || Arc::new(ToSlowTask(Arc::clone(&stream)));
        let options = Options { clock: || task().requested_at, random, ..Options::default() };
        let credentials = Credentials::new("key", "secret").unwrap();
        let client = Client::over(to_stream(), to_stream(), credentials, "https://stream.example", options).unwrap();
        client.wait_for_task(&task(), DAY).await?;
        Ok(stream.calls.lock().unwrap().clone())
    })
}

/// Hiccups of calls, never four in a row: what a client rides out before it has had any answer.
fn hiccups() -> impl Strategy<Value = Vec<Option<Hiccup>>> {
    let hiccup = prop_oneof![
        Just(Hiccup::Lost),
        Just(Hiccup::Unavailable),
        (1u64..=60).prop_map(|retry_after_s| Hiccup::TooMany { retry_after_s }),
    ];
    let run = (prop::collection::vec(hiccup.prop_map(Some), 0..=3), 1usize..20)
        .prop_map(|(failed, answered)| [failed, vec![None; answered]].concat());
    prop::collection::vec(run, 0..12).prop_map(|runs| runs.concat())
}

/// From a second to hours.
fn lasts() -> impl Strategy<Value = Duration> {
    prop_oneof![0u64..120_000, 0u64..4 * 3_600_000].prop_map(Duration::from_millis)
}

proptest! {
    #[test]
    fn a_task_is_asked_for_quickly_at_first_and_then_once_a_minute(random in 0.0f64..=1.0, minutes in 0u32..3_000) {
        let end = Duration::from_secs(60) * minutes;
        let (mut polls, mut elapsed) = (1, Duration::ZERO);
        loop {
            let wait = poll_wait(polls, random);
            prop_assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_secs(60));
            elapsed += wait;
            if elapsed > end {
                break;
            }
            polls += 1;
        }
        prop_assert!(polls <= 10 + minutes, "{polls} in {minutes} minutes");
        prop_assert!(poll_wait(1, random) < Duration::from_secs(1));
    }
    #[test]
    fn a_task_of_minutes_takes_ten_calls_and_one_for_each_of_them(
        lasts in lasts(),
        latency_ms in 0u64..5_000,
        hiccups in hiccups(),
        random in prop::sample::select(vec![(|| 0.0) as fn() -> f64, || 0.5, || 0.999]),
    ) {
        let calls = calls_of(lasts, Duration::from_millis(latency_ms), hiccups, random).unwrap();
        let last = calls.last().unwrap().after;
        let failed = calls.iter().filter(|call| call.hiccup.is_some()).count();
        // A call that failed is asked again, and no other.
        let most = 10 + last.as_secs() as usize / 60 + failed;
        prop_assert!(calls.len() <= most, "{} calls in {last:?}, {failed} of them failed: {calls:?}", calls.len());
        // Nor is its end seen late.
        let late = last.saturating_sub(lasts);
        prop_assert!(failed > 0 || late <= Duration::from_secs(60) + Duration::from_millis(latency_ms), "{late:?}");
        for pair in calls.windows(2) {
            prop_assert!(pair[1].after >= pair[0].after + Duration::from_secs(pair[0].asked_for_s()), "{pair:?}");
        }
    }
}
