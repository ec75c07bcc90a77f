//! What lies between chatlake and the services: proxies, certificates of one's own, and the ways to credentials for a bucket.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::bench::{Bench, Ran, two_days};

const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

/// Hosts that are nowhere but behind the proxy.
const STREAM: &str = "chat.stream.test";
const STORE: &str = "store.test";
/// AWS itself, as far as the client knows: S3, a bucket there by name, and what changes identities into keys.
const AWS: &str = "s3.us-east-1.amazonaws.com";
const AWS_BUCKET: &str = "chatlake-test.s3.us-east-1.amazonaws.com";
const AWS_STS: &str = "sts.us-east-1.amazonaws.com";

/// See `tests/tools/network.py`. It ends with this value.
struct Network {
    process: Child,
    folder: tempfile::TempDir,
    found: Value,
}

impl Network {
    /// Leads to the bench's Stream and to this S3 server.
    fn start(bench: &Bench, store: &str) -> Self {
        let python = std::env::var("CHATLAKE_TEST_PYTHON").expect("CHATLAKE_TEST_PYTHON: run the tests by ./test");
        let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/tools/network.py"].iter().collect();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(python);
        command.arg(script).arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let address = |url: &str| url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let (stream, store) = (address(&bench.simulator.base_url()), address(store));
        let hosts = json!({
            STREAM: stream, STORE: store, AWS: store, AWS_BUCKET: store, AWS_STS: store, "tls": store, "169.254.170.2": store,
        });
        writeln!(process.stdin.as_mut().unwrap(), "{}", json!({ "hosts": hosts })).unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, folder, found: serde_json::from_str(&line).unwrap() }
    }

    fn text(&self, name: &str) -> &str {
        self.found[name].as_str().unwrap()
    }

    /// Requests that passed since the last look.
    fn take(&self) -> Vec<Value> {
        let path = self.folder.path().join("requests.ndjson");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Requests to a host whose path holds this.
fn to<'r>(requests: &'r [Value], host: &str, part: &str) -> Vec<&'r Value> {
    requests
        .iter()
        .filter(|request| request["host"] == host && request["path"].as_str().unwrap().contains(part))
        .collect()
}

/// A bench that reaches everything through the network only.
fn behind(endpoint: &str, bucket: &str) -> (Bench, Network) {
    let mut bench = Bench::new(&two_days());
    let network = Network::start(&bench, endpoint);
    bench.lake = format!("s3://{bucket}/it/{}", uuid::Uuid::now_v7());
    let lake = bench.lake.clone();
    for (name, value) in [
        ("CHATLAKE_LAKE", lake.as_str()),
        ("STREAM_BASE_URL", &format!("https://{STREAM}")),
        ("AWS_REGION", "us-east-1"),
        ("HTTPS_PROXY", network.text("proxy")),
        ("SSL_CERT_FILE", network.text("ca")),
    ] {
        bench.set(name, value);
    }
    (bench, network)
}

/// Behind the network is a real S3 server, whose keys it has. None where there is none, which `./test` tells.
fn before_a_store() -> Option<(Bench, Network)> {
    let (mut bench, network) =
        behind(&std::env::var("CHATLAKE_TEST_S3_ENDPOINT").ok()?, &variable("CHATLAKE_TEST_S3_BUCKET"));
    set_keys(&mut bench, &variable("AWS_ACCESS_KEY_ID"), &variable("AWS_SECRET_ACCESS_KEY"));
    bench.set("AWS_ENDPOINT_URL", &format!("https://{STORE}"));
    Some((bench, network))
}

/// Behind the network is what answers in the place of AWS, at its own addresses, and takes any keys.
fn before_aws() -> Option<(Bench, Network)> {
    Some(behind(&std::env::var("CHATLAKE_TEST_MOTO_ENDPOINT").ok()?, "chatlake-test"))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: run the tests by ./test"))
}

fn set_keys(bench: &mut Bench, key: &str, secret: &str) {
    bench.set("AWS_ACCESS_KEY_ID", key);
    bench.set("AWS_SECRET_ACCESS_KEY", secret);
}

fn sync(bench: &Bench) -> Ran {
    bench.sync(RANGE[0], RANGE[1], &["-v"])
}

#[test]
fn stream_downloads_and_the_store_are_reached_through_a_proxy_that_has_a_certificate_of_its_own() {
    let Some((mut bench, network)) = before_a_store() else { return };
    let ran = sync(&bench);
    ran.assert_status(0, "committed");
    ran.assert_no_secret();
    let requests = network.take();
    assert!(requests.iter().all(|request| request["via"] == "tunnel"), "{requests:#?}");
    for (host, part) in
        [(STREAM, "export_channels"), (STREAM, "/download/"), (STORE, "_chatlake/log/"), (STORE, "messages/")]
    {
        assert!(!to(&requests, host, part).is_empty(), "{host} {part}: {requests:#?}");
    }

    bench.unset("SSL_CERT_FILE");
    bench.sync(RANGE[0], RANGE[1], &["--replace"]).assert_refused(75, &["certificate", "SSL_CERT_FILE"]);
    let folder = bench.folder.path().join("lake");
    bench.use_lake(&folder);
    bench.sync(RANGE[0], RANGE[1], &[]).assert_refused(75, &["Stream", "certificate", "SSL_CERT_FILE"]);
}

#[test]
fn hosts_that_no_proxy_names_are_asked_directly() {
    let Some((mut bench, network)) = before_a_store() else { return };
    bench.set("AWS_ENDPOINT_URL", network.text("tls"));
    bench.set("NO_PROXY", "127.0.0.1,localhost");
    sync(&bench).assert_status(0, "committed");
    let requests = network.take();
    assert!(to(&requests, STREAM, "").iter().all(|request| request["via"] == "tunnel"));
    assert!(!to(&requests, "tls", "_chatlake/log/").is_empty(), "{requests:#?}");
    // Nobody answers to that name but the proxy, which is not asked.
    for names in [STREAM, "stream.test", ".stream.test", "*"] {
        bench.set("NO_PROXY", &format!("127.0.0.0/8,{names}"));
        bench.sync(RANGE[0], RANGE[1], &["--replace"]).assert_refused(75, &["cannot reach Stream", STREAM]);
        let requests = network.take();
        assert!(to(&requests, STREAM, "").is_empty(), "{names}");
        assert!(!to(&requests, "tls", "_chatlake/log/").is_empty(), "{names}: {requests:#?}");
    }
}

#[test]
fn a_proxy_is_told_who_asks_and_nobody_else_is() {
    let Some((mut bench, network)) = before_a_store() else { return };
    bench.set("HTTPS_PROXY", &network.text("proxy").replace("http://", "http://operator:hunter2-proxy@"));
    let ran = sync(&bench);
    ran.assert_status(0, "committed");
    ran.assert_no_secret();
    assert!(!ran.stderr.contains("hunter2-proxy"), "{}", ran.stderr);
    let requests = network.take();
    for (host, part) in [(STREAM, "export_channels"), (STREAM, "/download/"), (STORE, "_chatlake/log/")] {
        assert!(!to(&requests, host, part).is_empty(), "{host} {part}: {requests:#?}");
    }
    assert!(requests.iter().all(|request| request["proxy_user"] == "operator:hunter2-proxy"), "{requests:#?}");
}

/// The keys that the store was asked with, and whether they were temporary ones.
fn keys_of(requests: &[Value], host: &str) -> (String, bool) {
    let mut keys: Vec<(String, bool)> = to(requests, host, "")
        .iter()
        .map(|request| (request["access_key"].as_str().unwrap().to_owned(), request["has_session_token"] == true))
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.remove(0)
}

#[test]
fn a_web_identity_is_exchanged_for_keys() {
    let Some((mut bench, network)) = before_aws() else { return };
    let token = bench.folder.path().join("token");
    std::fs::write(&token, "eyJhbGciOiJub25lIn0.the-identity.of-the-pod").unwrap();
    bench.set("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap());
    bench.set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/chatlake");
    let ran = sync(&bench);
    ran.assert_status(0, "committed");
    assert!(!ran.stderr.contains("the-identity"), "{}", ran.stderr);
    let requests = network.take();
    assert!(!to(&requests, AWS_STS, "/").is_empty(), "{requests:#?}");
    let (key, is_temporary) = keys_of(&requests, AWS);
    assert!(is_temporary && key.starts_with("ASIA"), "{key}");
}

#[test]
fn a_container_asks_its_agent_for_keys() {
    let Some((mut bench, network)) = before_aws() else { return };
    let token = bench.folder.path().join("token");
    std::fs::write(&token, "container-token").unwrap();
    bench.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/v1/credentials", network.text("credentials")));
    bench.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap());
    let ran = sync(&bench);
    ran.assert_status(0, "committed");
    let shows = |text: &str| ran.stderr.contains(text);
    assert!(!shows("container-token") && !shows("/v1/credentials") && !shows("-of-the-container"), "{}", ran.stderr);
    assert_eq!(keys_of(&network.take(), AWS), ("KEYOFTHECONTAINER".to_owned(), true));
    std::fs::write(&token, "another-token").unwrap();
    bench.sync(RANGE[0], RANGE[1], &[]).assert_refused(77, &["AWS_"]);

    // As in tasks of ECS, whose agent has an address of its own.
    bench.unset("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    bench.set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/0123");
    bench.set("HTTP_PROXY", network.text("proxy"));
    bench.sync(RANGE[0], RANGE[1], &[]).assert_status(0, "already_committed");
    assert_eq!(keys_of(&network.take(), AWS), ("KEYOFTHECONTAINER".to_owned(), true));
}

#[test]
fn a_machine_asks_its_metadata_service_for_keys() {
    let Some((mut bench, network)) = before_aws() else { return };
    for name in ["AWS_METADATA_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT"] {
        bench.set(name, &variable("CHATLAKE_TEST_MOTO_ENDPOINT"));
        assert_eq!(sync(&bench).code, 0);
        assert_eq!(keys_of(&network.take(), AWS), ("test-key".to_owned(), true));
        bench.unset(name);
    }
}

#[test]
fn objects_are_encrypted_with_the_key_that_is_named() {
    let Some((mut bench, network)) = before_aws() else { return };
    set_keys(&mut bench, "anybody", "anything");
    bench.set("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms");
    bench.set("AWS_SSE_KMS_KEY_ID", "alias/chatlake");
    sync(&bench).assert_status(0, "committed");
    let requests = network.take();
    // Parts of an upload take the key that it was begun with.
    let begins = |request: &&Value| match (request["method"].as_str().unwrap(), request["query"].as_str().unwrap()) {
        ("PUT", query) => !["partNumber", "uploadId"].contains(&query),
        ("POST", query) => query == "uploads",
        _ => false,
    };
    let begun: Vec<&Value> = requests.iter().filter(begins).collect();
    assert!(begun.len() > 5, "{requests:#?}");
    for request in begun {
        let headers = json!({
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": "alias/chatlake",
        });
        assert_eq!(request["headers"], headers, "{request}");
    }
}

#[test]
fn a_bucket_is_a_path_or_a_host() {
    let Some((mut bench, network)) = before_aws() else { return };
    set_keys(&mut bench, "anybody", "anything");
    sync(&bench).assert_status(0, "committed");
    assert!(!to(&network.take(), AWS, "/chatlake-test/it/").is_empty());
    bench.set("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true");
    for endpoint in [None, Some(format!("https://{AWS}/")), Some(format!("https://{AWS_BUCKET}"))] {
        match &endpoint {
            Some(endpoint) => bench.set("AWS_ENDPOINT_URL", endpoint),
            None => bench.unset("AWS_ENDPOINT_URL"),
        }
        bench.sync(RANGE[0], RANGE[1], &["--replace"]).assert_status(0, "committed");
        let requests = network.take();
        let is_object = |request: &&&Value| request["path"].as_str().unwrap().starts_with("/it/");
        assert!(to(&requests, AWS_BUCKET, "").iter().any(|request| is_object(&request)), "{endpoint:?}: {requests:#?}");
        assert!(to(&requests, AWS, "").is_empty(), "{endpoint:?}");
    }
    bench.set("AWS_ENDPOINT_URL", "http://127.0.0.1:9000");
    bench.sync(RANGE[0], RANGE[1], &[]).assert_refused(2, &["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"]);
}

/// Where no credentials are, that is told soon, and not after the patience with a metadata service.
#[test]
fn profiles_are_refused_at_once_with_the_way_out() {
    let mut bench = Bench::new(&two_days());
    bench.lake = "s3://chatlake-test/it/profile".to_owned();
    for (name, value) in
        [("CHATLAKE_LAKE", "s3://chatlake-test/it/profile"), ("AWS_PROFILE", "prod"), ("AWS_REGION", "us-east-1")]
    {
        bench.set(name, value);
    }
    let hint = "aws configure export-credentials --profile prod";
    bench.sync(RANGE[0], RANGE[1], &[]).assert_refused(77, &["the AWS profile `prod`", hint]);
    assert!(Path::new(&bench.folder.path().join("lake")).read_dir().is_err());
}
