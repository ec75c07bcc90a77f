#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::export::scripted::{Reply, Scripted};

fn request(cids: &[&str]) -> ExportRequest {
    ExportRequest {
        cids: cids.iter().map(ToString::to_string).collect(),
        since: "2026-01-01T00:00:00Z".parse().unwrap(),
        until: "2026-01-02T00:00:00.001Z".parse().unwrap(),
        options: ExportOptions::default(),
    }
}

fn created(task_id: &str) -> Reply {
    Reply::json(201, json!({ "task_id": task_id, "duration": "1ms" }))
}

/// What became of a request.
#[derive(Default)]
struct Answers {
    tasks: Vec<ExportTask>,
    missing: Vec<String>,
    unanswered: Vec<String>,
    error: Option<Error>,
}

async fn ask(client: &Client, request: &ExportRequest) -> Answers {
    let mut answers = Answers::default();
    let mut asking = match client.asking(request.clone()) {
        Ok(asking) => asking,
        Err(error) => return Answers { error: Some(error), ..answers },
    };
    loop {
        match asking.next().await {
            Ok(Some(Asked::Task(task))) => answers.tasks.push(task),
            Ok(Some(Asked::Missing(missing))) => answers.missing.extend(missing),
            Ok(Some(Asked::Unanswered(cids, error))) => {
                assert_eq!(error.kind(), Kind::Temporary);
                answers.unanswered.extend(cids);
            }
            Ok(None) => return answers,
            Err(error) => return Answers { error: Some(error), ..answers },
        }
    }
}

/// The cids in a request's body.
fn asked(request: &crate::export::scripted::Request) -> Vec<String> {
    let channels = request.body["channels"].as_array().unwrap();
    channels.iter().map(|one| format!("{}:{}", one["type"].as_str().unwrap(), one["id"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn one_request_makes_one_task() {
    let server = Scripted::queue([created("t1").header("Date", "Tue, 01 Sep 2026 12:00:00 GMT")]).await;
    let result = ask(&server.client(), &request(&["messaging:a", "team:b:c"])).await;
    assert_eq!(result.tasks.len(), 1);
    let task = &result.tasks[0];
    assert_eq!((task.task_id.as_str(), task.cids.len()), ("t1", 2));
    assert_eq!(task.requested_at.to_string()[..19], *"2026-09-01T12:00:00");
    assert!(result.missing.is_empty() && result.error.is_none());
    let sent = &server.requests()[0];
    assert_eq!(sent.line, "POST /export_channels");
    assert_eq!(
        sent.body,
        json!({
            "channels": [
                { "type": "messaging", "id": "a",
                  "messages_since": "2026-01-01T00:00:00Z", "messages_until": "2026-01-02T00:00:00.001Z" },
                { "type": "team", "id": "b:c",
                  "messages_since": "2026-01-01T00:00:00Z", "messages_until": "2026-01-02T00:00:00.001Z" },
            ],
            "version": "v2",
        })
    );
}

#[tokio::test]
async fn a_named_missing_channel_is_left_out_and_the_rest_asked_in_one_request() {
    for reply in [
        Reply::error(404, 16, r#"ExportChannels failed with error: "Can't find channel messaging:gone""#),
        Reply::error(400, 4, "Can't find channel with type messaging and id gone"),
    ] {
        let server = Scripted::queue([reply, created("t")]).await;
        let asked_for = request(&["messaging:a", "messaging:gone", "messaging:channel", "messaging:and"]);
        let result = ask(&server.client(), &asked_for).await;
        assert_eq!(result.missing, ["messaging:gone"]);
        assert_eq!(result.tasks.len(), 1);
        assert_eq!(result.tasks[0].cids, ["messaging:a", "messaging:channel", "messaging:and"]);
        assert_eq!(asked(&server.requests()[1]), result.tasks[0].cids);
    }
}

#[tokio::test]
async fn one_channel_that_is_missing_makes_no_task() {
    let server = Scripted::queue([Reply::error(404, 16, "Can't find channel")]).await;
    let result = ask(&server.client(), &request(&["messaging:gone"])).await;
    assert_eq!((result.tasks.len(), result.missing), (0, vec!["messaging:gone".to_owned()]));
}

#[tokio::test]
async fn an_input_error_is_not_taken_for_a_missing_channel() {
    for reply in [Reply::error(400, 4, "version not found"), Reply::bytes(404, "page not found: channel")] {
        let server = Scripted::queue([reply]).await;
        let error = ask(&server.client(), &request(&["messaging:a"])).await.error.unwrap();
        assert_eq!(error.kind(), Kind::Usage);
    }
}

#[tokio::test]
async fn a_task_that_was_made_is_not_lost_to_a_later_failure() {
    let missing = || Reply::error(404, 16, "Can't find channel");
    let refused = Reply::error(403, 17, "not allowed");
    let server = Scripted::queue([missing(), created("t1"), refused]).await;
    let result = ask(&server.client(), &request(&["m:a", "m:b", "m:c", "m:d"])).await;
    assert_eq!(result.tasks[0].cids, ["m:a", "m:b"]);
    assert_eq!(result.error.unwrap().kind(), Kind::Permission);
}

#[tokio::test]
async fn a_lost_answer_concerns_its_own_channels_only() {
    let missing = || Reply::error(404, 16, "Can't find channel");
    let server = Scripted::queue([missing(), Reply::silence(), created("t2")]).await;
    let result = ask(&server.client(), &request(&["m:a", "m:b", "m:c", "m:d"])).await;
    assert_eq!(result.unanswered, ["m:a", "m:b"]);
    assert_eq!(result.tasks[0].cids, ["m:c", "m:d"]);
    assert!(result.error.is_none());
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn requests_that_stream_would_refuse_are_not_sent() {
    let server = Scripted::queue([]).await;
    let many: Vec<_> = (0..101).map(|n| format!("m:{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let backwards = ExportRequest { until: "2025-01-01T00:00:00Z".parse().unwrap(), ..request(&["m:a"]) };
    for bad in [request(&[]), request(&many), request(&["general"]), request(&["m:a", "m:a"]), backwards] {
        assert_eq!(ask(&server.client(), &bad).await.error.unwrap().kind(), Kind::Usage);
    }
    assert!(server.requests().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_missing_is_found_and_the_rest_is_exported_once(
        missing in prop::collection::vec(prop::bool::weighted(0.2), 1..26),
        names_it in any::<bool>(),
    ) {
        let cids: Vec<_> = (0..missing.len()).map(|n| format!("messaging:c{n}")).collect();
        let gone: BTreeSet<_> = cids.iter().zip(&missing).filter(|(_, missing)| **missing).map(|(cid, _)| cid.clone()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (result, calls) = runtime.block_on(async {
            let gone = gone.clone();
            let server = Scripted::start(move |request| match asked(request).into_iter().find(|cid| gone.contains(cid)) {
                Some(cid) if names_it => Reply::error(404, 16, &format!("Can't find channel {cid}")),
                Some(_) => Reply::error(404, 16, "Can't find channel"),
                None => created("t"),
            })
            .await;
            let all: Vec<_> = cids.iter().map(String::as_str).collect();
            (ask(&server.client(), &request(&all)).await, server.requests().len())
        });
        prop_assert!(result.error.is_none());
        prop_assert_eq!(BTreeSet::from_iter(result.missing.clone()), gone.clone());
        prop_assert_eq!(result.missing.len(), gone.len());
        let exported: Vec<_> = result.tasks.iter().flat_map(|task| task.cids.clone()).collect();
        let kept: Vec<_> = cids.into_iter().filter(|cid| !gone.contains(cid)).collect();
        prop_assert_eq!(exported, kept);
        prop_assert!(calls < 2 * missing.len() + 1, "{calls}");
        if names_it {
            prop_assert!(result.tasks.len() <= 1 && calls <= gone.len() + 1);
        }
    }
}
