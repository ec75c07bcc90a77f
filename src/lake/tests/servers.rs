//! What servers refuse, and what it means to whoever runs chatlake.

use bytes::Bytes;

use super::place::{moto, radosgw};
use super::protocol::{
    a_commit_of_files_that_are_not_there_is_undone_and_says_so, quarters_become_a_day_and_snapshots_stay,
    what_others_did_meanwhile_decides,
};
use super::*;
use crate::error::{Error, Kind};
use crate::lake::store::Env;

async fn refusal(url: &str, env: &Env, name: &str, value: &str) -> Error {
    let mut env = env.clone();
    env.insert(name.to_owned(), value.to_owned());
    Lake::open(url, &env).await.unwrap_err()
}

#[tokio::test]
async fn radosgw_refusals_say_what_is_wrong() {
    let Some((env, bucket)) = radosgw() else { return };
    let url = format!("s3://{bucket}/lake-tests/{}", Uuid::now_v7());
    assert_eq!(Lake::open(&url, &env).await.unwrap().display_url(), url);
    let error = refusal("s3://no-such-bucket-here/x", &env, "AWS_REGION", "us-east-1").await;
    assert_eq!(error.kind(), Kind::Usage, "{}", error.report());
    let error = refusal(&url, &env, "AWS_SECRET_ACCESS_KEY", "not-the-secret").await;
    assert_eq!(error.kind(), Kind::Permission, "{}", error.report());
    assert!(!error.report().contains("not-the-secret"));
    let error = refusal(&url, &env, "AWS_ENDPOINT_URL", "http://127.0.0.1:9").await;
    assert_eq!(error.kind(), Kind::Temporary, "{}", error.report());
}

#[tokio::test]
async fn a_bucket_that_goes_away_is_named_whatever_is_done() {
    let Some((env, _)) = moto() else { return };
    let lake = Lake::open("s3://no-such-bucket-here/x", &env).await;
    assert_eq!(lake.unwrap_err().kind(), Kind::Usage);
    let url = "s3://no-such-bucket-here/x";
    let store = crate::lake::store::open(url, &env).await.unwrap().store;
    let lake = Lake { pause: Duration::ZERO, ..Lake::new(store, url.to_owned()) };
    let file = data_file("messages", Some(day(0)), "a-file");
    let mut writer = lake.stage(file.run_id, &file.id).unwrap();
    writer.write(Bytes::from_static(b"a-file")).await.unwrap();
    let proposal = Proposal {
        commit_id: Uuid::now_v7(),
        mode: Mode::Extend,
        covers: vec![cover(day(0), 1)],
        add: Vec::new(),
        origin: None,
    };
    let mut state = State::default();
    for (doing, error) in [
        ("staging", writer.finish().await.unwrap_err()),
        ("reading the log", lake.state().await.unwrap_err()),
        ("committing", lake.commit(&mut state, &proposal).await.unwrap_err()),
        ("probing", lake.probe_conditional_put(Uuid::now_v7()).await.unwrap_err()),
    ] {
        assert_eq!(error.kind(), Kind::Usage, "{doing}: {}", error.report());
        assert!(error.report().contains("no-such-bucket-here"), "{doing}: {}", error.report());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn old_versions_of_objects_are_not_seen() {
    let Some(place) = Place::versioned_moto().await else { return };
    quarters_become_a_day_and_snapshots_stay(&place).await;
    what_others_did_meanwhile_decides(&place).await;
    a_commit_of_files_that_are_not_there_is_undone_and_says_so(&place).await;
    super::crash::a_commit_whose_files_are_lost_is_as_if_it_had_never_been(&place).await;
}
