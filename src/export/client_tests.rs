#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::export::scripted::{Reply, Scripted, client};

impl Client {
    /// Tests of retries do not wait for a place.
    pub(in crate::export) fn without_pace(self) -> Self {
        for pace in &self.shared.paces {
            *lock(pace) = Pace::new(10_000_000, 1.0);
        }
        self
    }
}

async fn query(client: &Client) -> Result<Answer<Value>, ApiError> {
    client.post(Endpoint::QueryChannels, &["channels"], &json!({})).await
}

async fn export(client: &Client) -> Result<Answer<Value>, ApiError> {
    client.post(Endpoint::ExportChannels, &["export_channels"], &json!({})).await
}

fn ok() -> Reply {
    Reply::json(201, json!({ "task_id": "t" }))
}

#[tokio::test]
async fn a_request_is_signed_and_named() {
    let server = Scripted::queue([ok()]).await;
    query(&server.client()).await.unwrap();
    let request = &server.requests()[0];
    assert_eq!((request.line.as_str(), request.query.as_str()), ("POST /channels", "api_key=app-key"));
    assert_eq!(request.header("authorization").unwrap().split('.').count(), 3);
    assert_eq!(request.header("stream-auth-type"), Some("jwt"));
    assert!(request.header("x-stream-client").unwrap().starts_with("chatlake-"));
    assert_eq!(request.header("accept-encoding"), None);
}

#[tokio::test]
async fn a_base_url_may_have_a_path() {
    let server = Scripted::queue([ok()]).await;
    let client = client(&format!("{}/proxy/", server.url));
    client.get::<Value>(Endpoint::GetTask, &["tasks", "a/b"]).await.unwrap();
    assert_eq!(server.lines(), ["GET /proxy/tasks/a%2Fb"]);
}

#[tokio::test]
async fn a_query_is_repeated_after_every_kind_of_trouble_and_each_call_counts() {
    let server = Scripted::queue([Reply::silence(), Reply::bytes(502, "bad gateway"), ok().cut_at(3), ok()]).await;
    let client = server.client();
    query(&client).await.unwrap();
    assert_eq!((client.calls(Endpoint::QueryChannels), client.api_calls()), (4, 4));
}

#[tokio::test]
async fn attempts_are_bounded() {
    let server = Scripted::start(|_| Reply::error(500, -1, "internal")).await;
    let client = server.client();
    let error = query(&client).await.unwrap_err();
    assert_eq!(client.api_calls(), 4);
    assert_eq!(Error::from(error).kind(), Kind::Temporary);
}

#[tokio::test]
async fn an_export_whose_answer_was_lost_is_never_repeated_blindly() {
    for lost in [Reply::silence(), Reply::bytes(504, "timeout"), ok().cut_at(5), Reply::bytes(200, "<html>")] {
        let server = Scripted::queue([lost, ok()]).await;
        let client = server.client();
        let error = export(&client).await.unwrap_err();
        assert!(error.is_unanswered(), "{error}");
        assert_eq!(client.api_calls(), 1);
        let error = Error::from(error);
        assert_eq!(error.kind(), Kind::Temporary);
        assert!(error.report().contains("asked for once more"), "{}", error.report());
    }
}

#[tokio::test]
async fn an_export_that_stream_says_it_did_not_do_is_asked_for_again() {
    let limited = Reply::bytes(429, "slow down").header("Retry-After", "0");
    let server = Scripted::queue([Reply::error(500, -1, "no"), limited, Reply::error(408, 23, "timeout"), ok()]).await;
    let client = server.client();
    export(&client).await.unwrap();
    assert_eq!(client.api_calls(), 4);
}

#[tokio::test]
async fn a_refusal_is_final() {
    for (reply, kind) in [
        (Reply::error(401, 2, "api_key not valid"), Kind::Permission),
        (Reply::error(401, 43, "signature"), Kind::Permission),
        (Reply::error(400, 4, "bad limit"), Kind::Usage),
        (Reply::bytes(200, "<html>hello</html>"), Kind::Temporary),
        (Reply::bytes(302, "").header("Location", "http://127.0.0.1:1/"), Kind::Usage),
        (Reply::json(500, json!({ "code": -1, "message": "no", "unrecoverable": true })), Kind::ExportFailed),
    ] {
        let server = Scripted::queue([reply]).await;
        let client = server.client();
        let error = Error::from(query(&client).await.unwrap_err());
        assert_eq!((error.kind(), client.api_calls()), (kind, 1), "{}", error.report());
    }
}

#[tokio::test]
async fn no_error_shows_the_url_the_key_or_the_token() {
    let gone = Scripted::queue([]).await.url.clone();
    let silent = Scripted::start(|_| Reply::silence()).await;
    for client in [client(&gone), silent.client()] {
        let error = export(&client).await.unwrap_err();
        let shown = format!("{error:?} {error:#?} {client:?}");
        let shown = format!("{shown} {}", Error::from(error).report());
        for secret in ["api_key=", "topsecret", "eyJ", "/export_channels"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test]
async fn nobody_listening_is_unreachable_and_safe_to_repeat() {
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let client = client(&url);
    let error = export(&client).await.unwrap_err();
    assert!(matches!(error, ApiError::Unreachable { .. }), "{error:?}");
    assert_eq!(client.api_calls(), 4);
    assert_eq!(Error::from(error).kind(), Kind::Temporary);
}

#[tokio::test]
async fn the_clock_is_streams() {
    let server = Scripted::queue([ok().header("Date", "Tue, 01 Sep 2026 12:00:00 GMT")]).await;
    let client = server.client();
    assert_eq!((client.stream_now(), client.clock_offset()), (None, None));
    let answer = query(&client).await.unwrap();
    let stream: Timestamp = "2026-09-01T12:00:00Z".parse().unwrap();
    let behind = |at: Timestamp| at.duration_since(stream);
    let minute = SignedDuration::from_mins(1);
    assert!((SignedDuration::ZERO..minute).contains(&behind(answer.at)));
    assert!((behind(answer.at)..minute).contains(&behind(client.stream_now().unwrap())));
    let offset = client.clock_offset().unwrap();
    let expected = stream.duration_since(Timestamp::now());
    assert!((offset - expected).abs() < minute, "{offset} {expected}");
}

#[tokio::test]
async fn a_token_of_another_time_is_made_again_by_streams_clock() {
    let refused = Reply::error(401, 42, "token used before issued").header("Date", "Sat, 01 Jan 2000 00:00:05 GMT");
    let server = Scripted::queue([refused, ok()]).await;
    query(&server.client()).await.unwrap();
    let requests = server.requests();
    let payload = requests[1].header("authorization").unwrap().split('.').nth(1).unwrap().to_owned();
    let payload = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
    let iat = serde_json::from_slice::<Value>(&payload).unwrap()["iat"].as_i64().unwrap();
    assert!((946_684_800..946_684_860).contains(&iat), "{iat}");

    let server = Scripted::start(|_| Reply::error(401, 42, "token used before issued")).await;
    let client = server.client();
    query(&client).await.unwrap_err();
    assert_eq!(client.api_calls(), 2);
}

#[tokio::test]
async fn limits_are_learnt_from_answers() {
    let server = Scripted::queue([ok().header("X-RateLimit-Limit", "120, 120")]).await;
    let client = server.client();
    query(&client).await.unwrap();
    assert_eq!(client.pace_per_minute(Endpoint::QueryChannels), 120.0);
    assert_eq!(client.pace_per_minute(Endpoint::GetTask), 10_000_000.0);
}

#[tokio::test]
async fn a_rate_limit_holds_every_request_to_the_endpoint() {
    let server = Scripted::start(|_| Reply::bytes(429, "slow down").header("Retry-After", "600")).await;
    let client = server.client();
    query(&client).await.unwrap_err();
    assert_eq!(client.api_calls(), 1);
    let held = |endpoint| client.pace(endpoint).held(client.elapsed());
    assert!((Duration::from_secs(30)..=LIMIT_WINDOW).contains(&held(Endpoint::QueryChannels)));
    assert_eq!(held(Endpoint::GetTask), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn places_are_waited_for() {
    let options = Options { rate_share: 0.5, ..Options::default() };
    let client = Client::new(Credentials::new("k", "s").unwrap(), DEFAULT_BASE_URL, options).unwrap();
    let started = Instant::now();
    for _ in 0..5 {
        client.wait_for_place(Endpoint::ExportChannels).await;
    }
    assert!((8.0..9.0).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
    client.pace(Endpoint::ExportChannels).hold(client.elapsed(), Duration::from_secs(30));
    client.wait_for_place(Endpoint::ExportChannels).await;
    assert!((38.0..39.5).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
}

#[test]
fn waits_are_read_from_headers() {
    let now = Timestamp::from_second(1_000_000).unwrap();
    let wait = |status: u16, pairs: &[(&'static str, &str)]| {
        let headers = pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        retry_wait(StatusCode::from_u16(status).unwrap(), &headers.collect(), now).map(|wait| wait.as_secs())
    };
    assert_eq!(wait(429, &[("retry-after", "7"), ("x-ratelimit-reset", "1000030")]), Some(7));
    assert_eq!(wait(503, &[("retry-after", "Mon, 12 Jan 1970 13:47:10 GMT")]), Some(30));
    assert_eq!(wait(429, &[("x-ratelimit-reset", "1000030, 1000030")]), Some(30));
    assert_eq!(wait(429, &[("x-ratelimit-reset", "999999")]), Some(0));
    assert_eq!(wait(429, &[("x-ratelimit-reset", "99999999999")]), Some(60));
    assert_eq!(wait(500, &[("x-ratelimit-reset", "1000030")]), None);
    assert_eq!(wait(429, &[("retry-after", "soon")]), None);
}

#[test]
fn base_urls_are_checked() {
    let try_url = |url: &str| Client::new(Credentials::new("k", "s").unwrap(), url, Options::default());
    for good in [DEFAULT_BASE_URL, "http://localhost:1234", " http://[::1]:80/api "] {
        assert!(try_url(good).is_ok(), "{good}");
    }
    for bad in ["", "chat.stream-io-api.com", "ftp://x", "https://u:p@host", "https://host/?api_key=x", "file:///x"] {
        let error = try_url(bad).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{bad}");
        assert!(error.report().contains("STREAM_BASE_URL"));
    }
}
