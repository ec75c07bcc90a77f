//! The simulator from outside: over HTTP, as a client sees it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use chatlake_simulator::switches::{
    Compression, CustomPlace, Envelope, FailureStatus, KindNames, MissingChannel, TimestampForm, UserForm, UserLines,
};
use chatlake_simulator::{Config, Effect, Fault, Simulator, Switches, TruthOptions, server_token};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

struct Api {
    simulator: Simulator,
    client: Client,
}

impl Api {
    fn start(switches: Switches) -> Self {
        let simulator = Simulator::start(Config { switches, ..Config::default() }).unwrap();
        Self { simulator, client: Client::builder().no_proxy().build().unwrap() }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Response, reqwest::Error> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.simulator.base_url()))
            .query(&[("api_key", self.simulator.key())])
            .header("authorization", server_token(self.simulator.secret()))
            .header("stream-auth-type", "jwt");
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let response = self.send(method, path, body).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    /// Polls until the task ends.
    async fn finish(&self, task_id: &str) -> Value {
        for _ in 0..10 {
            let (status, body) = self.get(&format!("/tasks/{task_id}")).await;
            assert_eq!(status, 200);
            if !matches!(body["status"].as_str(), Some("waiting" | "pending" | "running")) {
                return body;
            }
        }
        panic!("the task does not end");
    }

    async fn export(&self, body: Value) -> String {
        let (status, answer) = self.post("/export_channels", body).await;
        assert_eq!(status, 201, "{answer}");
        let task = self.finish(answer["task_id"].as_str().unwrap()).await;
        task["result"]["url"].as_str().unwrap().to_owned()
    }

    async fn file(&self, body: Value) -> Vec<u8> {
        let url = self.export(body).await;
        let response = self.client.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap().to_vec()
    }

    async fn lines(&self, body: Value) -> Vec<Value> {
        let file = self.file(body).await;
        String::from_utf8(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn everything(&self) -> Value {
        let cids: Vec<_> = self.simulator.truth().channels.into_iter().map(|cid| json!({"cid": cid})).collect();
        json!({"channels": cids, "version": "v2"})
    }
}

#[tokio::test]
async fn an_export_holds_exactly_the_truth() {
    let api = Api::start(Switches::default());
    let truth = api.simulator.truth();
    let lines = api.lines(api.everything()).await;
    let messages: Vec<_> = lines.iter().filter(|line| line["type"] == "message").map(|line| &line["data"]).collect();
    let found: BTreeSet<_> = messages
        .iter()
        .map(|message| {
            let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
            (text("id"), text("cid"), text("text"), text("created_at"), text("updated_at"), text("deleted_at"))
        })
        .collect();
    let expected: BTreeSet<_> = truth
        .messages
        .iter()
        .map(|message| {
            let deleted_at = message.deleted_at.map(|at| at.to_string()).unwrap_or_default();
            let (id, cid, text) = (message.id.clone(), message.cid.clone(), message.text.clone());
            (id, cid, text, message.created_at.to_string(), message.updated_at.to_string(), deleted_at)
        })
        .collect();
    assert_eq!(found.len(), messages.len());
    assert_eq!(found, expected);
    let reactions: usize = messages.iter().map(|message| message["latest_reactions"].as_array().unwrap().len()).sum();
    assert_eq!(reactions, truth.reactions.iter().filter(|reaction| reaction.embedded).count());
    assert!(reactions < truth.reactions.len(), "some message has more than ten");
}

#[tokio::test]
async fn windows_cut_by_creation_time() {
    let api = Api::start(Switches::default());
    let (since, until) = ("2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z");
    let mut body = api.everything();
    for channel in body["channels"].as_array_mut().unwrap() {
        channel["messages_since"] = since.into();
        channel["messages_until"] = until.into();
    }
    let lines = api.lines(body).await;
    let count = lines.iter().filter(|line| line["type"] == "message").count();
    let truth = api.simulator.truth();
    // Both bounds are closed, and the first channel speaks at midnight sharp.
    assert_eq!(count, truth.messages_in(since.parse().unwrap(), until.parse().unwrap()).count() + 1);
    let call = api.simulator.calls_of("ExportChannels").remove(0);
    assert_eq!(call.since, Some(since.parse().unwrap()));
    assert_eq!(call.until, Some(until.parse().unwrap()));
    assert_eq!(call.cids, truth.channels);
}

#[tokio::test]
async fn every_envelope_carries_the_same_messages() {
    let api = Api::start(Switches::default());
    let total = api.simulator.truth().messages.len();
    for (envelope, find) in [
        (Envelope::TypeData, "/data/id"),
        (Envelope::TypeItem, "/item/id"),
        (Envelope::SingleKey, "/messages/id"),
        (Envelope::Bare, "/id"),
    ] {
        api.simulator.change_switches(|switches| {
            switches.envelope = envelope;
            switches.kind_names = if envelope == Envelope::SingleKey { KindNames::Plural } else { KindNames::Singular };
        });
        let lines = api.lines(api.everything()).await;
        let ids: BTreeSet<_> = lines
            .iter()
            .filter(|line| line.pointer(find).is_some() && line.pointer(&find.replace("/id", "/text")).is_some())
            .map(|line| line.pointer(find).unwrap().to_string())
            .collect();
        assert_eq!(ids.len(), total, "{envelope:?}");
    }
    api.simulator.change_switches(|switches| switches.envelope = Envelope::Element);
    let lines = api.lines(api.everything()).await;
    assert_eq!(lines.iter().map(|line| line["messages"].as_array().unwrap().len()).sum::<usize>(), total);
    let v1 = api.file(json!({"channels": api.everything()["channels"]})).await;
    let elements: Vec<Value> = serde_json::from_slice(&v1).unwrap();
    assert_eq!(elements.iter().map(|element| element["messages"].as_array().unwrap().len()).sum::<usize>(), total);
}

#[tokio::test]
async fn lines_follow_their_switches() {
    let api = Api::start(Switches {
        users: UserForm::Id,
        custom: CustomPlace::Both,
        timestamps: TimestampForm::Nanoseconds,
        ..Switches::default()
    });
    let mut body = api.everything();
    body["export_users"] = true.into();
    body["clear_deleted_message_text"] = true.into();
    let lines = api.lines(body).await;
    let of = |kind: &str| {
        lines.iter().filter(|line| line["type"] == kind).map(|line| line["data"].clone()).collect::<Vec<_>>()
    };
    let messages = of("message");
    assert!(messages.iter().all(|message| message["created_at"].is_i64() && !message["user"].is_object()));
    assert!(messages.iter().filter(|message| !message["deleted_at"].is_null()).all(|message| message["text"] == ""));
    assert!(messages.iter().any(|message| message["ticket"].is_object() && message["custom"]["ticket"].is_object()));
    let users: BTreeSet<_> = of("user").iter().map(|user| user["id"].to_string()).collect();
    assert_eq!(users.len(), of("user").len(), "each user once");
    assert!(of("channel_member").iter().all(|member| member["cid"].is_string()));
}

#[tokio::test]
async fn requests_are_refused_as_documented() {
    let api = Api::start(Switches { channels_per_request: 25, ..Switches::default() });
    let refused = async |body: Value| {
        let (status, body) = api.post("/export_channels", body).await;
        (status, body["code"].as_i64().unwrap())
    };
    assert_eq!(refused(json!({})).await, (400, 4));
    assert_eq!(refused(json!({"channels": []})).await, (400, 4));
    assert_eq!(refused(json!({"channels": vec![json!({"cid": "team:general"}); 26]})).await, (400, 4));
    assert_eq!(refused(json!({"channels": [{"id": "general"}]})).await, (400, 4));
    assert_eq!(refused(json!({"channels": [{"cid": "team:general"}], "version": "v3"})).await, (400, 4));
    assert_eq!(refused(json!({"channels": [{"cid": "team:general"}], "incude_truncated": true})).await, (400, 4));
    let reversed = json!({"cid": "team:general", "messages_since": "2026-01-02T00:00:00Z", "messages_until": "2026-01-01T00:00:00Z"});
    assert_eq!(refused(json!({"channels": [reversed]})).await, (400, 4));
    assert_eq!(refused(json!({"channels": [{"cid": "team:general"}, {"cid": "team:nowhere"}]})).await, (404, 16));
    api.simulator.change_switches(|switches| switches.missing_channel = MissingChannel::InputError);
    assert_eq!(refused(json!({"channels": [{"cid": "team:nowhere"}]})).await, (400, 4));
    let (status, body) = api.get("/api/v2/app").await;
    assert_eq!((status, body["code"].as_i64()), (404, Some(16)));
    assert_eq!(api.simulator.calls().last().unwrap().endpoint, "Unknown");
    let (status, body) = api.get("/tasks/none").await;
    assert_eq!(status, 404);
    assert!(body["message"].as_str().unwrap().contains("Can't find task with id none"));
    let unsigned = api.client.post(format!("{}/channels", api.simulator.base_url())).send().await.unwrap();
    assert_eq!(unsigned.status(), 401);
    assert!(unsigned.headers().contains_key("date"));
}

#[tokio::test]
async fn soft_deleted_and_truncated_history_is_asked_for() {
    let api = Api::start(Switches::default());
    let deleted = api.simulator.world(|world| {
        let found = world.channels().find(|channel| channel.deleted_at.is_some()).map(|channel| channel.cid());
        found.unwrap()
    });
    let (status, _) = api.post("/export_channels", json!({"channels": [{"cid": deleted}]})).await;
    assert_eq!(status, 404);
    let with = json!({"channels": [{"cid": deleted}], "version": "v2", "include_soft_deleted_channels": true});
    assert_eq!(api.lines(with).await.iter().filter(|line| line["type"] == "message").count(), 60);
    let mut body = api.everything();
    let count = |lines: Vec<Value>| lines.iter().filter(|line| line["type"] == "message").count();
    let without = count(api.lines(body.clone()).await);
    body["include_truncated_messages"] = true.into();
    assert!(count(api.lines(body).await) > without);
}

#[tokio::test]
async fn every_option_is_honoured_on_both_paths_and_in_both_versions() {
    let api = Api::start(Switches { users: UserForm::Id, user_lines: UserLines::None, ..Switches::default() });
    let deleted = api.simulator.world(|world| {
        let found = world.channels().find(|channel| channel.deleted_at.is_some()).map(|channel| channel.cid());
        found.unwrap()
    });
    for path in ["/export_channels", "/api/v2/chat/export_channels"] {
        for version in ["v1", "v2"] {
            let file = async |option: Option<&str>, cids: &[&str]| {
                let mut body = api.everything();
                body["version"] = version.into();
                if !cids.is_empty() {
                    body["channels"] = cids.iter().map(|cid| json!({"cid": cid})).collect();
                }
                if let Some(option) = option {
                    body[option] = true.into();
                }
                let (status, answer) = api.post(path, body).await;
                if status != 201 {
                    return Err((status, answer["code"].as_i64()));
                }
                let task = api.finish(answer["task_id"].as_str().unwrap()).await;
                let url = task["result"]["url"].as_str().unwrap();
                Ok(api.client.get(url).send().await.unwrap().text().await.unwrap())
            };
            let without = file(None, &[]).await.unwrap();
            let truth =
                api.simulator.truth_with(TruthOptions { include_truncated_messages: true, ..Default::default() });
            let truncated = file(Some("include_truncated_messages"), &[]).await.unwrap();
            let hidden = |file: &str| truth.messages.iter().filter(|message| !file.contains(&message.id)).count();
            assert!(hidden(&without) > 0 && hidden(&truncated) == 0, "{path} {version}");
            let cleared = file(Some("clear_deleted_message_text"), &[]).await.unwrap();
            let gone = truth.messages.iter().find(|m| m.deleted_at.is_some() && without.contains(&m.id)).unwrap();
            assert!(without.contains(&gone.text) && cleared.contains(&gone.id), "{path} {version}");
            assert!(cleared.matches(&gone.text).count() < without.matches(&gone.text).count(), "{path} {version}");
            let users = file(Some("export_users"), &[]).await.unwrap();
            assert!(users.len() > without.len() + 500, "{path} {version}");
            let cid = deleted.as_str();
            assert_eq!(file(None, &[cid]).await.unwrap_err(), (404, Some(16)), "{path} {version}");
            let soft = file(Some("include_soft_deleted_channels"), &[cid]).await.unwrap();
            assert!(soft.contains("deleted_at"), "{path} {version}");
        }
    }
}

#[tokio::test]
async fn tasks_advance_and_a_file_keeps_the_state_of_its_request() {
    let api = Api::start(Switches { task_polls: 4, ..Switches::default() });
    let (_, answer) = api
        .post("/api/v2/chat/export_channels", json!({"channels": [{"type": "team", "id": "general"}], "version": "v2"}))
        .await;
    let id = answer["task_id"].as_str().unwrap().to_owned();
    let at = api.simulator.now();
    api.simulator.world(|world| world.send("team:general", "amara", "too late", at)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (_, task) = api.get(&format!("/api/v2/tasks/{id}")).await;
        assert!(task["created_at"].is_i64());
        seen.push(task);
    }
    let statuses: Vec<_> = seen.iter().map(|task| task["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["waiting", "pending", "running", "completed", "completed"]);
    assert!(seen[4].get("error").is_none());
    let url = seen[4]["result"]["url"].as_str().unwrap();
    assert_ne!(seen[3]["result"]["url"].as_str().unwrap(), url, "a fresh URL at every call");
    let file = api.client.get(url).send().await.unwrap().text().await.unwrap();
    assert!(!file.contains("too late"));
}

#[tokio::test]
async fn downloads_behave_like_an_object_store() {
    let api = Api::start(Switches::default());
    let url = api.export(api.everything()).await;
    let whole = api.client.get(&url).send().await.unwrap();
    let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
    let whole = whole.bytes().await.unwrap();
    let get = async |headers: &[(&str, &str)]| {
        let mut request = api.client.get(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap())
    };
    assert_eq!(get(&[("range", "bytes=100-"), ("if-range", &etag)]).await, (206, whole.slice(100..)));
    assert_eq!(get(&[("range", "bytes=100-"), ("if-range", "\"other\"")]).await, (200, whole.clone()));
    assert_eq!(get(&[("range", "bytes=99999999-")]).await.0, 416);
    assert_eq!(get(&[("if-match", "\"other\"")]).await.0, 412);
    assert_eq!(get(&[("authorization", "token")]).await.0, 400);
    api.simulator.add_fault(Fault::on("Download", Effect::NewEtag));
    assert_eq!(get(&[("range", "bytes=100-"), ("if-range", &etag)]).await, (200, whole.clone()));
    assert_eq!(api.client.get(url.replace("Signature=", "Signature=x")).send().await.unwrap().status(), 403);
    api.simulator.advance_clock(jiff::SignedDuration::from_hours(25));
    let (status, body) = get(&[]).await;
    assert_eq!(status, 403);
    assert!(String::from_utf8(body.to_vec()).unwrap().contains("Request has expired"));
}

#[tokio::test]
async fn gzip_files_are_gzip() {
    let api = Api::start(Switches { compression: Compression::Gzip, ..Switches::default() });
    let file = api.file(api.everything()).await;
    assert_eq!(&file[..2], [0x1f, 0x8b]);
}

#[tokio::test]
async fn channels_are_paged_through_ties() {
    let api = Api::start(Switches::default());
    let at = "2020-01-01T00:00:00Z".parse().unwrap();
    api.simulator.world(|world| world.add_channels_created_at("bulk", 1_500, at)).unwrap();
    let page = async |offset: usize| {
        let body = json!({
            "filter_conditions": {"type": "bulk", "created_at": {"$lt": "2026-01-01T00:00:00Z"}}, "state": false,
            "sort": [{"field": "created_at", "direction": 1}], "limit": 300, "offset": offset,
        });
        let (status, body) = api.post("/api/v2/chat/channels", body).await;
        assert_eq!(status, 201);
        let cids = body["channels"].as_array().unwrap().iter().map(|state| state["channel"]["cid"].to_string());
        cids.collect::<Vec<_>>()
    };
    let first = page(0).await;
    assert_eq!(first.len(), 30, "larger limits are capped");
    let second = page(30).await;
    assert!(first.iter().all(|cid| !second.contains(cid)));
    assert_eq!(page(1_000).await, page(1_400).await, "the page at 1000 repeats for ever");
}

#[tokio::test]
async fn faults_come_true() {
    let api = Api::start(Switches::default());
    let body = || json!({"channels": [{"cid": "team:general"}], "version": "v2"});
    api.simulator.add_fault(Fault::on("ExportChannels", Effect::Reset));
    assert!(api.send(Method::POST, "/export_channels", Some(body())).await.is_err());
    api.simulator.add_fault(Fault::on("ExportChannels", Effect::LoseAnswer));
    assert!(api.send(Method::POST, "/export_channels", Some(body())).await.is_err());
    let lost = api.simulator.calls().last().unwrap().clone();
    assert_eq!((lost.status, lost.fault.as_deref()), (0, Some("lose_answer")));
    assert_eq!(api.finish(&lost.task_id.unwrap()).await["status"], "completed");

    api.simulator.add_fault(Fault::status("ExportChannels", 429));
    let (status, answer) = api.post("/export_channels", body()).await;
    assert_eq!((status, answer["code"].as_i64()), (429, Some(9)));

    let description = "disk full".to_owned();
    api.simulator.add_fault(Fault::on("ExportChannels", Effect::FailTask { description }).for_channel("team:general"));
    let (_, answer) = api.post("/export_channels", body()).await;
    let task = api.finish(answer["task_id"].as_str().unwrap()).await;
    assert_eq!((task["status"].as_str(), task["error"]["description"].as_str()), (Some("failed"), Some("disk full")));

    api.simulator.change_switches(|switches| switches.failure_status = FailureStatus::Error);
    assert_eq!(api.finish(answer["task_id"].as_str().unwrap()).await["status"], "error");

    api.simulator.add_fault(Fault::on("ExportChannels", Effect::StuckTask));
    let (_, answer) = api.post("/export_channels", body()).await;
    for _ in 0..20 {
        let (_, task) = api.get(&format!("/tasks/{}", answer["task_id"].as_str().unwrap())).await;
        assert!(matches!(task["status"].as_str(), Some("waiting" | "pending" | "running")), "{task}");
    }

    let headers = [("retry-after".to_owned(), "7".to_owned())].into();
    let body_text = Some("<html>over quota</html>".to_owned());
    api.simulator.add_fault(Fault::on("GetTask", Effect::Status { status: 429, code: None, body: body_text, headers }));
    let refused = api.send(Method::GET, "/tasks/any", None).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    assert_eq!(refused.text().await.unwrap(), "<html>over quota</html>");

    let url = api.export(body()).await;
    api.simulator.add_fault(Fault::on("Download", Effect::CutBody { after_bytes: 1_000 }));
    assert!(api.client.get(&url).send().await.unwrap().bytes().await.is_err());
    api.simulator.add_fault(Fault::on("Download", Effect::SlowBody { chunk_bytes: 20_000, delay_ms: 1 }));
    assert!(api.client.get(&url).send().await.unwrap().bytes().await.is_ok());

    let lines = r#"{"endpoint": "ExportChannels", "effect": "bad_lines", "lines": [
        {"at_line": 1, "kind": "text", "text": "not json"}, {"at_line": 1000000, "kind": "overlong", "bytes": 5000}]}"#;
    api.simulator.add_fault(serde_json::from_str(lines).unwrap());
    let file = String::from_utf8(api.file(body()).await).unwrap();
    assert_eq!(file.lines().nth(1), Some("not json"));
    assert_eq!(file.lines().last().map(str::len), Some(5_000));
    assert!(api.simulator.faults().is_empty());
}

#[tokio::test]
async fn limits_are_enforced_when_switched_on() {
    let api = Api::start(Switches { limits: [("QueryChannels".to_owned(), 30)].into(), ..Switches::default() });
    api.simulator.set_clock(chatlake_simulator::Clock::Fixed { at: "2026-01-05T00:00:00Z".parse().unwrap() });
    let query = || api.send(Method::POST, "/channels", Some(json!({})));
    let first = query().await.unwrap();
    assert_eq!(first.headers()["x-ratelimit-remaining"], "29");
    assert_eq!(first.headers()["date"], "Mon, 05 Jan 2026 00:00:00 GMT");
    assert_eq!(query().await.unwrap().status(), 429);
    api.simulator.advance_clock(jiff::SignedDuration::from_secs(1));
    api.simulator.change_switches(|switches| switches.date_skew_seconds = -3_600);
    let third = query().await.unwrap();
    assert_eq!(third.status(), 201);
    assert_eq!(third.headers()["date"], "Sun, 04 Jan 2026 23:00:01 GMT");
}

#[tokio::test]
async fn users_are_exported() {
    let api = Api::start(Switches::default());
    let (status, one) = api.get("/users/amara/export").await;
    assert_eq!(status, 200);
    assert_eq!(one["user"]["id"], "amara");
    let messages = one["messages"].as_array().unwrap().len();
    assert!(messages > 0 && one["messages"][0]["user"].is_null());
    let (status, answer) = api.post("/export/users", json!({"user_ids": ["amara"]})).await;
    assert_eq!(status, 201);
    let task = api.finish(answer["task_id"].as_str().unwrap()).await;
    let file = api.client.get(task["result"]["url"].as_str().unwrap()).send().await.unwrap().text().await.unwrap();
    assert_eq!(file.lines().filter(|line| line.contains("\"type\":\"message\",\"data\"")).count(), messages);
    assert_eq!(api.post("/export/users", json!({"user_ids": ["nobody"]})).await.0, 404);
}

#[tokio::test]
async fn control_does_what_the_library_does() {
    let api = Api::start(Switches::default());
    let control = async |verb: &str, body: Value| {
        let (status, body) = api.post(&format!("/control/{verb}"), body).await;
        assert_eq!(status, 200, "{verb}: {body}");
        body
    };
    control("clock", json!({"fixed_at": "2026-02-01T00:00:00Z"})).await;
    let channel = json!({"channel": {"type": "team", "id": "new", "created_at": "2026-02-01T00:00:00Z"}});
    assert_eq!(control("add_channel", channel).await["cid"], "team:new");
    let sent = control("send", json!({"cid": "team:new", "user_id": "amara", "text": "hello"})).await;
    let id = sent["id"].as_str().unwrap();
    control("clock", json!({"advance_seconds": 60})).await;
    control("edit", json!({"message_id": id, "text": "hello!"})).await;
    control("react", json!({"message_id": id, "user_id": "jonas", "type": "like"})).await;
    control("delete", json!({"message_id": id})).await;
    let (_, truth) = api.get("/control/truth").await;
    let message = truth["messages"].as_array().unwrap().iter().find(|message| message["id"] == id).unwrap();
    assert_eq!(message["text"], "hello!");
    assert_eq!(message["created_at"], "2026-02-01T00:00:00Z");
    assert_eq!(message["updated_at"], "2026-02-01T00:01:00Z");
    assert_eq!(message["deleted_at"], "2026-02-01T00:01:00Z");
    control("undelete", json!({"message_id": id})).await;
    control("unreact", json!({"message_id": id, "user_id": "jonas", "type": "like"})).await;
    control("delete", json!({"message_id": id, "hard": true})).await;
    control("truncate", json!({"cid": "team:new", "hard": true})).await;
    control("delete_channel", json!({"cid": "team:new"})).await;
    control("switches", json!({"envelope": "bare"})).await;
    assert_eq!(api.simulator.switches().envelope, Envelope::Bare);
    control("fault", json!({"effect": "status", "status": 503})).await;
    assert_eq!(api.post("/channels", json!({})).await.0, 503);
    let (_, calls) = api.get("/control/calls").await;
    assert_eq!(calls[0]["fault"], "status");
    for (verb, body) in
        [("send", json!({"cid": "team:new"})), ("switches", json!({"envelop": "bare"})), ("dance", json!({}))]
    {
        assert_eq!(api.post(&format!("/control/{verb}"), body).await.0, 400, "{verb}");
    }
}

/// The program and the request of the page, as they are written there.
#[tokio::test]
async fn what_the_page_says_is_understood() {
    let page = include_str!("../README.md");
    let mut blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().trim());
    let arguments = blocks.next().unwrap().split_once(" -- ").unwrap().1.split(' ');
    let mut program = Command::new(env!("CARGO_BIN_EXE_chatlake-simulator"))
        .args(arguments)
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(program.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    let (url, what) = said.strip_prefix("listening on ").unwrap().split_once(": ").unwrap();
    let request = blocks.next().unwrap();
    let answer = Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(request.rsplit(' ').next().unwrap().replace("$STREAM_BASE_URL", url))
        .body(request.split('\'').nth(1).unwrap())
        .send()
        .await;
    let second = Command::new(env!("CARGO_BIN_EXE_chatlake-simulator"))
        .args(["--listen", url.strip_prefix("http://").unwrap()])
        .output()
        .unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(what.contains(" in 40 channels"), "{said}");
    assert_eq!(answer.unwrap().status(), 200);
    let refused = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && refused.starts_with("error: cannot listen at 127.0.0.1:"), "{refused}");
    assert!(blocks.next().is_none(), "another block that nothing runs");
}
