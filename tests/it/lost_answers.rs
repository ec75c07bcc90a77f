//! A store whose answers do not arrive: what was asked of it is done, and whoever asked does not know.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use simulator::switches::Switches;
use simulator::{Size, World};

use crate::bench::{Bench, Place, at, is_long, seed};
use crate::inside::Inside;
use crate::ledger::Ledger;
use crate::watch::Watch;

const RANGE: [&str; 2] = ["2026-01-05", "2026-01-07"];

/// Stands before an S3 server and loses the answer to one request that changes something.
struct Proxy {
    address: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    server: String,
    /// The request to lose the answer of: counts down to 0.
    left: Mutex<Option<usize>>,
    /// What it was.
    lost: Mutex<Option<String>>,
    stopped: AtomicBool,
}

impl Proxy {
    fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let shared = Arc::new(Shared { server, ..Shared::default() });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&accepting);
                // Whoever hangs up early is a client that was told to go.
                std::thread::spawn(move || shared.pass_on(&client).ok());
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    fn lose(&self, nth: usize) {
        *self.shared.left.lock().unwrap() = Some(nth);
        *self.shared.lost.lock().unwrap() = None;
    }

    /// What was lost, if the run came that far. Nothing more is.
    fn lost(&self) -> Option<String> {
        *self.shared.left.lock().unwrap() = None;
        self.shared.lost.lock().unwrap().take()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    /// One request on each connection, so that an answer ends where its connection does.
    fn pass_on(&self, mut client: &TcpStream) -> std::io::Result<()> {
        let mut from_client = BufReader::new(client.try_clone()?);
        let (mut first, mut head, mut body_bytes) = (String::new(), String::new(), 0);
        from_client.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            from_client.read_line(&mut line)?;
            let lower = line.to_ascii_lowercase();
            if let Some(length) = lower.strip_prefix("content-length:") {
                body_bytes = length.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
            // Signatures do not cover it.
            if !lower.starts_with("connection:") {
                head.push_str(&line);
            }
        }
        let mut body = vec![0; body_bytes];
        from_client.read_exact(&mut body)?;
        let mut server = TcpStream::connect(&self.server)?;
        server.write_all(format!("{first}{head}Connection: close\r\n\r\n").as_bytes())?;
        server.write_all(&body)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        let is_copy = head.to_ascii_lowercase().contains("x-amz-copy-source:");
        if !self.loses(&first, is_copy) {
            client.write_all(&answer)?;
        }
        client.shutdown(Shutdown::Both)
    }

    fn loses(&self, request: &str, is_copy: bool) -> bool {
        let mut left = self.left.lock().unwrap();
        if request.starts_with("GET") || request.starts_with("HEAD") {
            return false;
        }
        let Some(count) = left.as_mut() else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        *left = None;
        *self.lost.lock().unwrap() = Some(format!("{}{}", if is_copy { "copy by " } else { "" }, request.trim()));
        true
    }
}

#[test]
fn an_answer_of_the_store_that_is_lost_changes_nothing() {
    let size = Size { channels: 9, users: 12, days: 2, messages_per_channel_day: 16, ..Size::default() };
    let Some(mut bench) = Bench::with(World::seeded(seed(), &size), Switches::default(), Place::S3) else { return };
    let proxy = Proxy::before(&bench.env()["AWS_ENDPOINT_URL"].clone());
    bench.set("AWS_ENDPOINT_URL", &format!("http://{}", proxy.address));
    let lake = bench.lake.clone();
    let arguments = ["sync", "--json", "--rate-share", "1", "--since", RANGE[0], "--until", RANGE[1]];
    let step = if is_long() { 1 } else { 6 };
    let mut answers = 0;
    for nth in (1..).step_by(step) {
        bench.use_lake(format!("{lake}/{nth}").as_ref());
        bench.set_time(at("2026-01-08T00:00:00Z"));
        let watch = Watch::over(&bench);
        let mut ledger = Ledger::open(&bench);
        let mut lost = Vec::new();
        for more in [&[][..], &["--replace"]] {
            proxy.lose(nth);
            let arguments = [&arguments, more].concat();
            let mut ran = bench.run(&arguments);
            ledger.close_run(&bench, !more.is_empty(), ran.code == 0);
            if ran.code == 75 {
                ran = bench.run(&arguments);
                ledger.close_run(&bench, !more.is_empty(), ran.code == 0);
            }
            assert_eq!(ran.code, 0, "{ran:#?}");
            lost.extend(proxy.lost());
            Inside::of(&bench).assert_settled(&[]);
            bench.assert_exact(RANGE[0], RANGE[1]).assert_one_file_each(&["messages", "reactions"]);
            if more.is_empty() {
                bench.set_time(at("2026-01-09T00:00:00Z"));
                let truth = bench.simulator.truth();
                let message = truth.messages_in(at(RANGE[0]), at(RANGE[1])).next().unwrap();
                let text = format!("changed for {nth}");
                bench.simulator.world(|world| world.edit(&message.id, &text, at("2026-01-08T12:00:00Z"))).unwrap();
            }
        }
        watch.end();
        println!("{nth}: {lost:?}");
        answers += lost.len();
        if lost.is_empty() {
            break;
        }
    }
    println!("{answers} answers lost");
    assert!(answers > 3);
}
