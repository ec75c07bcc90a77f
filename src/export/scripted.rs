#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]
//! A loopback HTTP server for tests: a function from each request to the answer, down to broken ones.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::client::{Client, Options};
use super::credentials::Credentials;
use super::retry::Policy;

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Method and path, without the query.
    pub(super) line: String,
    pub(super) query: String,
    headers: Vec<(String, String)>,
    pub(super) body: serde_json::Value,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer to give.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Only so many bytes of the body are sent before the connection closes.
    cut_at: Option<usize>,
    /// The connection closes without an answer.
    silent: bool,
}

impl Reply {
    pub(super) fn json(status: u16, body: serde_json::Value) -> Self {
        Self::bytes(status, body.to_string()).header("Content-Type", "application/json")
    }

    pub(super) fn bytes(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut_at: None, silent: false }
    }

    pub(super) fn error(status: u16, code: i64, message: &str) -> Self {
        Self::json(status, serde_json::json!({ "code": code, "message": message, "StatusCode": status }))
    }

    pub(super) fn silence() -> Self {
        Self { silent: true, ..Self::bytes(200, "") }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn cut_at(mut self, bytes: usize) -> Self {
        self.cut_at = Some(bytes);
        self
    }

    /// Cuts long bodies only.
    pub(super) fn cut_at_most(mut self, bytes: usize) -> Self {
        self.cut_at = (self.body.len() > bytes).then_some(bytes);
        self
    }
}

/// The server; it stops when dropped.
pub(super) struct Scripted {
    pub(super) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    server: JoinHandle<()>,
}

impl Scripted {
    pub(super) async fn start(mut answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if let Some(request) = read(&mut stream).await {
                    let reply = answer(&request);
                    log.lock().unwrap().push(request);
                    // A client may hang up before it has read all.
                    let _ = write(&mut stream, &reply).await;
                }
            }
        });
        Self { url, requests, server }
    }

    /// Answers in this order; one request more than answers fails the test that looks at the count.
    pub(super) async fn queue(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut replies = replies.into_iter().collect::<std::collections::VecDeque<_>>();
        Self::start(move |_| replies.pop_front().unwrap_or_else(|| Reply::bytes(501, "the script is over"))).await
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }

    /// A client of this server that waits no longer than it must.
    pub(super) fn client(&self) -> Client {
        client(&self.url)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(super) fn client(url: &str) -> Client {
    let retry = Policy { base: std::time::Duration::from_millis(1), max_attempts: 4, ..Policy::default() };
    let options = Options { rate_share: 1.0, retry, ..Options::default() };
    let client = Client::new(Credentials::new("app-key", "topsecret").unwrap(), url, options).unwrap();
    client.without_pace()
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?, first.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < head_end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = serde_json::from_slice(&bytes[head_end + 4..]).unwrap_or(serde_json::Value::Null);
    Some(Request { line: format!("{method} {path}"), query: query.to_owned(), headers, body })
}

async fn write(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    if reply.silent {
        return Ok(());
    }
    let mut head = format!("HTTP/1.1 {} Scripted\r\nConnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "Content-Length" || name == "Transfer-Encoding") {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&reply.body[..reply.cut_at.unwrap_or(reply.body.len())]).await?;
    stream.shutdown().await
}
