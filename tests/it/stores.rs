//! Stores that are not as they should be: what they do not honour, and what they do not allow.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::bench::{Bench, two_days};

/// Forwards to a server, without the condition of any request: as stores do that take `If-None-Match` for nothing, where two
/// runs would both believe that their entry is the log's. Signatures cover it, so the server must not check them.
fn careless_server(server: &str) -> String {
    let server = server.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = server.clone();
            // A client that goes away ends its connection and nothing else.
            thread::spawn(move || drop(forward(&client, &server)));
        }
    });
    format!("http://{address}")
}

/// One request: the server is told to close, so that the next one comes on a connection of its own.
fn forward(client: &TcpStream, server: &str) -> io::Result<()> {
    let mut to_server = TcpStream::connect(server)?;
    let mut from_client = BufReader::new(client.try_clone()?);
    let mut body_bytes = 0;
    let mut line = String::new();
    while from_client.read_line(&mut line)? > 0 {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if name == "content-length" {
            body_bytes = line.split(':').nth(1).and_then(|value| value.trim().parse().ok()).unwrap_or(0);
        }
        if line == "\r\n" {
            to_server.write_all(b"connection: close\r\n\r\n")?;
            break;
        }
        if !["if-none-match", "connection"].contains(&name.as_str()) {
            to_server.write_all(line.as_bytes())?;
        }
        line.clear();
    }
    io::copy(&mut from_client.take(body_bytes), &mut to_server)?;
    io::copy(&mut to_server, &mut &*client)?;
    client.shutdown(Shutdown::Both)
}

/// Puts the lake into a bucket of such a store. False where there is no moto, which `./test` brings.
pub fn at_a_careless_store(bench: &mut Bench) -> bool {
    let Ok(moto) = std::env::var("CHATLAKE_TEST_MOTO_ENDPOINT") else { return false };
    bench.lake = format!("s3://chatlake-test/it/{}", uuid::Uuid::now_v7());
    let (lake, careless) = (bench.lake.clone(), careless_server(&moto));
    for (name, value) in [
        ("CHATLAKE_LAKE", lake.as_str()),
        ("AWS_ENDPOINT_URL", &careless),
        ("AWS_ACCESS_KEY_ID", "anybody"),
        ("AWS_SECRET_ACCESS_KEY", "anything"),
        ("AWS_REGION", "us-east-1"),
    ] {
        bench.set(name, value);
    }
    true
}

#[test]
fn a_store_that_ignores_conditions_is_refused_and_accepted_for_a_single_writer() {
    let mut bench = Bench::new(&two_days());
    if !at_a_careless_store(&mut bench) {
        return;
    }
    let lake = bench.lake.clone();
    let ran = bench.sync("2026-01-05", "2026-01-07", &[]);
    ran.assert_refused(73, &[&lake, "If-None-Match", "--single-writer"]);
    assert_eq!(bench.exports(), 0, "nothing was asked for");
    bench.sync("2026-01-05", "2026-01-07", &["--single-writer"]).assert_status(0, "committed");
    bench.assert_exact("2026-01-05", "2026-01-07");
    // The very same server, asked without anything in between, keeps its word.
    bench.set("AWS_ENDPOINT_URL", &std::env::var("CHATLAKE_TEST_MOTO_ENDPOINT").unwrap());
    bench.sync("2026-01-05", "2026-01-07", &["--replace"]).assert_status(0, "committed");
    bench.assert_exact("2026-01-05", "2026-01-07");
}

/// A server whose one user may do these things only. It ends with this value.
pub struct Limited {
    server: Child,
    found: Value,
}

impl Limited {
    /// None where there is no moto, which `./test` brings.
    pub fn start(actions: &[&str]) -> Option<Self> {
        std::env::var_os("CHATLAKE_TEST_MOTO_ENDPOINT")?;
        let python = std::env::var("CHATLAKE_TEST_PYTHON").expect("CHATLAKE_TEST_PYTHON: run the tests by ./test");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/moto_limited.py");
        let mut command = Command::new(python);
        let mut server =
            command.arg(script).args(actions).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Some(Self { server, found: serde_json::from_str(&line).unwrap() })
    }

    pub fn lend_to(&self, bench: &mut Bench) {
        let text = |name: &str| self.found[name].as_str().unwrap();
        bench.lake = format!("s3://{}/lake", text("bucket"));
        let lake = bench.lake.clone();
        for (name, value) in [
            ("CHATLAKE_LAKE", lake.as_str()),
            ("AWS_ENDPOINT_URL", text("endpoint")),
            ("AWS_ACCESS_KEY_ID", text("key")),
            ("AWS_SECRET_ACCESS_KEY", text("secret")),
            ("AWS_REGION", "us-east-1"),
        ] {
            bench.set(name, value);
        }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

#[test]
fn what_may_not_be_done_in_a_bucket_is_a_matter_of_permission() {
    for actions in
        [&["s3:GetObject"][..], &["s3:ListBucket", "s3:GetObject"], &["s3:ListBucket", "s3:GetObject", "s3:PutObject"]]
    {
        let Some(limited) = Limited::start(actions) else { return };
        let mut bench = Bench::new(&two_days());
        limited.lend_to(&mut bench);
        let ran = bench.sync("2026-01-05", "2026-01-07", &[]);
        ran.assert_refused(77, &[&bench.lake, "AWS_", "list, read, write and delete"]);
        assert!(!ran.stderr.contains(limited.found["secret"].as_str().unwrap()));
        assert_eq!(bench.exports(), 0, "{actions:?}");
    }
}

/// Without an action of it something fails, so it is the least as well. Only what aborts uploads that are broken off is not missed here.
#[test]
fn the_policy_of_the_page_is_enough_and_not_too_much() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/stores.md");
    let text = std::fs::read_to_string(page).unwrap();
    let policy = text.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let mut policy: Value =
        serde_json::from_str(&policy.replace("BUCKET", "limited").replace("PREFIX", "lake")).unwrap();
    // The server does not tell itself what is listed. Everything that is lies below the prefix of the lake's store.
    assert!(policy["Statement"][0].as_object_mut().unwrap().remove("Condition").is_some());
    let runs = |policy: &Value| {
        let limited = Limited::start(&[&policy.to_string()])?;
        let mut bench = Bench::new(&two_days());
        limited.lend_to(&mut bench);
        // The server wants to see the right to many deletions at the bucket itself, AWS at each object.
        bench.set("AWS_DISABLE_BULK_DELETE", "true");
        let ended = [
            &["sync", "--since", "2026-01-05", "--until", "2026-01-07", "--target-file-size", "1MiB"][..],
            &["sync", "--since", "2026-01-05", "--until", "2026-01-06", "--replace"],
            &["verify", "--deep"],
            &["gc", "--delete"],
            &["check"],
        ]
        .map(|arguments| bench.run(arguments).code);
        Some(ended)
    };
    let Some(ended) = runs(&policy) else { return };
    assert_eq!(ended, [0; 5]);
    let objects = policy["Statement"][1]["Action"].as_array().unwrap().clone();
    assert_eq!(policy["Statement"][0]["Action"], "s3:ListBucket");
    for action in objects.iter().filter(|action| **action != "s3:AbortMultipartUpload") {
        let mut less = policy.clone();
        less["Statement"][1]["Action"].as_array_mut().unwrap().retain(|allowed| allowed != action);
        assert_ne!(runs(&less).unwrap(), [0; 5], "{action}");
    }
    policy["Statement"].as_array_mut().unwrap().remove(0);
    assert_ne!(runs(&policy).unwrap(), [0; 5], "without the list");
}

#[test]
fn keys_that_the_server_does_not_know_are_a_matter_of_permission() {
    let Some(limited) = Limited::start(&["s3:*"]) else { return };
    let mut bench = Bench::new(&two_days());
    limited.lend_to(&mut bench);
    for (name, wrong) in [("AWS_SECRET_ACCESS_KEY", "not-the-secret"), ("AWS_ACCESS_KEY_ID", "nobody")] {
        bench.set(name, wrong);
        let ran = bench.sync("2026-01-05", "2026-01-07", &[]);
        ran.assert_refused(77, &[&bench.lake, "AWS_"]);
        assert!(!ran.stderr.contains("not-the-secret"));
    }
    limited.lend_to(&mut bench);
    bench.sync("2026-01-05", "2026-01-07", &[]).assert_status(0, "committed");
}
