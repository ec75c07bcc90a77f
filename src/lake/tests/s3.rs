//! The same against a real S3 server, where `CHATLAKE_TEST_S3_ENDPOINT` and `CHATLAKE_TEST_S3_BUCKET` name one.

use futures::future::join_all;

use super::*;
use crate::error::Kind;
use crate::lake::store::{Env, process_env};

/// The server's settings, and a prefix that nobody else has.
fn server() -> Option<(Env, String)> {
    let mut env = process_env();
    let (endpoint, bucket) = (env.remove("CHATLAKE_TEST_S3_ENDPOINT")?, env.remove("CHATLAKE_TEST_S3_BUCKET")?);
    env.insert("AWS_ENDPOINT_URL".to_owned(), endpoint);
    Some((env, format!("s3://{bucket}/lake-tests/{}", Uuid::now_v7())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_commits_race_and_all_land() {
    let Some((env, url)) = server() else { return };
    let lake = Lake::open(&url, &env).await.unwrap();
    assert_eq!(lake.display_url(), url);
    assert!(lake.probe_conditional_put(Uuid::now_v7()).await.unwrap());
    let runs = (0..8).map(|number| {
        let lake = lake.clone();
        tokio::spawn(async move {
            // Two runs for each of four days.
            let window = day(number / 2);
            let proposal = staged(&lake, &format!("run{number}"), Mode::Extend, &[window], 1).await;
            lake.commit(&mut State::default(), &proposal).await.unwrap()
        })
    });
    let outcomes: Vec<Outcome> = join_all(runs).await.into_iter().map(|run| run.unwrap()).collect();
    assert_eq!(outcomes.iter().filter_map(entry_of).count(), 4, "{outcomes:?}");
    let state = assert_exact(lake.store()).await;
    assert_eq!(windows(&state), (0..4).map(day).collect::<Vec<_>>());

    let mut state = lake.state().await.unwrap();
    let proposal = staged(&lake, "again", Mode::Replace { read_at: 5 }, &[day(0), day(1)], 2).await;
    assert_eq!(entry_of(&lake.commit(&mut state, &proposal).await.unwrap()), Some(5));
    assert_exact(lake.store()).await;
}

#[tokio::test]
async fn s3_refusals_say_what_is_wrong() {
    let Some((env, url)) = server() else { return };
    let refusal = async |url: &str, name: &str, value: &str| {
        let mut env = env.clone();
        env.insert(name.to_owned(), value.to_owned());
        Lake::open(url, &env).await.unwrap_err()
    };
    let error = refusal("s3://no-such-bucket-here/x", "AWS_REGION", "us-east-1").await;
    assert_eq!(error.kind(), Kind::Usage, "{}", error.report());
    let error = refusal(&url, "AWS_SECRET_ACCESS_KEY", "not-the-secret").await;
    assert_eq!(error.kind(), Kind::Permission, "{}", error.report());
    assert!(!error.report().contains("not-the-secret"));
    let error = refusal(&url, "AWS_ENDPOINT_URL", "http://127.0.0.1:9").await;
    assert_eq!(error.kind(), Kind::Temporary, "{}", error.report());
}
