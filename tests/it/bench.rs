//! A simulated app, an empty lake, and the binary between them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use simulator::switches::{Envelope, ReactionForm, Switches};
use simulator::{Clock, Config, Simulator, Size, TrueReaction, Truth, World};
use tempfile::TempDir;

/// A point in time, as a date or in full.
pub fn at(text: &str) -> Timestamp {
    chatlake::window::parse_time(text).expect("a time")
}

/// Two days, more channels than one request takes, and the odd ones among them.
pub fn two_days() -> Size {
    Size { channels: 44, days: 2, messages_per_channel_day: 6, ..Size::default() }
}

/// Where the lake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Folder,
    S3,
}

/// A simulator, a lake, and the time that has passed for both.
pub struct Bench {
    pub simulator: Simulator,
    pub lake: String,
    pub folder: TempDir,
    env: BTreeMap<String, String>,
    reader: Mutex<Option<Reader>>,
}

impl Bench {
    /// A seeded world and a lake in a folder.
    pub fn new(size: &Size) -> Self {
        Self::with(World::seeded(seed(), size), Switches::default(), Place::Folder).expect("folders are everywhere")
    }

    /// A world, behaving like this. None where there is no S3 server to test with, which `./test` tells.
    pub fn with(world: World, switches: Switches, place: Place) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut env = BTreeMap::new();
        let lake = match place {
            Place::Folder => folder.path().join("lake").to_string_lossy().into_owned(),
            Place::S3 => {
                let bucket = std::env::var("CHATLAKE_TEST_S3_BUCKET").ok()?;
                env.insert("AWS_ENDPOINT_URL".to_owned(), std::env::var("CHATLAKE_TEST_S3_ENDPOINT").ok()?);
                for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"] {
                    env.insert(name.to_owned(), std::env::var(name).ok()?);
                }
                format!("s3://{bucket}/it/{}", uuid::Uuid::now_v7())
            }
        };
        // One status call finds a task completed: what polling does is tested where it is decided.
        let switches = Switches { task_polls: 1, ..switches };
        let simulator = Simulator::start(Config { world, switches, ..Config::default() }).expect("a simulator");
        env.extend(simulator.env().map(|(name, value)| (name.to_owned(), value)));
        env.insert("CHATLAKE_LAKE".to_owned(), lake.clone());
        Some(Self { simulator, lake, folder, env, reader: Mutex::default() })
    }

    /// Goes on with another lake of the same app.
    pub fn use_lake(&mut self, lake: &Path) {
        self.lake = lake.to_string_lossy().into_owned();
        self.set("CHATLAKE_LAKE", &self.lake.clone());
    }

    /// Sets a variable for the commands that follow.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// As if the variable was never set.
    pub fn unset(&mut self, name: &str) {
        self.env.remove(name);
    }

    /// Lets it be this time for both sides.
    pub fn set_time(&mut self, now: Timestamp) {
        let offset_seconds = now.duration_since(Timestamp::now()).as_secs();
        self.simulator.set_clock(Clock::Running { offset_seconds });
        self.set(chatlake::clock::OFFSET_VARIABLE, &offset_seconds.to_string());
    }

    /// The binary with these arguments and nothing else from this environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatlake"));
        command.env_clear().envs(&self.env).args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().expect("the binary"))
    }

    /// Runs a command to its end, and watches how much memory it has at a time. In MiB; 0 where the system does not tell.
    pub fn run_watched(&self, arguments: &[&str]) -> (Ran, u64) {
        let process = self.start(arguments);
        let status = format!("/proc/{}/status", process.id());
        let (ended, has_ended) = std::sync::mpsc::channel();
        let watcher = std::thread::spawn(move || {
            let mut peak_kb = 0;
            while has_ended.recv_timeout(std::time::Duration::from_millis(10)).is_err() {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
                peak_kb = peak_kb.max(kb.unwrap_or(0));
            }
            peak_kb / 1024
        });
        let ran = Ran::from(process.wait_with_output().expect("the binary"));
        ended.send(()).expect("a watcher");
        (ran, watcher.join().expect("a watcher"))
    }

    /// Starts a command.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary")
    }

    /// `sync --json` of a range, with further arguments.
    pub fn sync(&self, since: &str, until: &str, more: &[&str]) -> Ran {
        let mut arguments = vec!["sync", "--json", "--since", since, "--until", until];
        arguments.extend(more);
        self.run(&arguments)
    }

    /// Export requests so far.
    pub fn exports(&self) -> usize {
        self.simulator.calls_of("ExportChannels").len()
    }

    /// What the binary is given: variables and nothing else.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// Everything in the lake, as PyArrow (and DuckDB, in a folder) read it.
    pub fn read(&self) -> Contents {
        self.ask_reader(&self.lake)
    }

    /// The rows of one dataset.
    pub fn rows(&self, dataset: &str) -> Vec<Value> {
        match self.ask_reader::<Value>(&format!("{}\t{dataset}", self.lake))["rows"].take() {
            Value::Array(rows) => rows,
            other => panic!("no rows: {other}"),
        }
    }

    fn ask_reader<T: DeserializeOwned>(&self, what: &str) -> T {
        let mut reader = self.reader.lock().expect("no reader has panicked");
        reader.get_or_insert_with(|| Reader::start(self.python(&["--serve"]))).read(what)
    }

    fn python(&self, arguments: &[&str]) -> Command {
        let python = std::env::var("CHATLAKE_TEST_PYTHON").expect("CHATLAKE_TEST_PYTHON: run the tests by ./test");
        let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/tools/read_lake.py"].iter().collect();
        let mut command = Command::new(python);
        command.arg(script).args(arguments);
        command.envs(self.env.iter().filter(|(name, _)| name.starts_with("AWS_")));
        command
    }

    /// The lake holds what the app holds in the window, message for message and reaction for reaction, and nothing twice.
    #[track_caller]
    pub fn assert_exact(&self, since: &str, until: &str) -> Contents {
        self.assert_holds(&self.simulator.truth(), since, until)
    }

    /// The same for a truth told earlier or under other options.
    #[track_caller]
    pub fn assert_holds(&self, truth: &Truth, since: &str, until: &str) -> Contents {
        let contents = self.read();
        let (since, until) = (at(since), at(until));
        let mut expected: Vec<Message> = truth
            .messages_in(since, until)
            .map(|message| Message {
                id: message.id.clone(),
                cid: message.cid.clone(),
                created_at: message.created_at.as_microsecond(),
                updated_at: Some(message.updated_at.as_microsecond()),
                deleted_at: message.deleted_at.map(Timestamp::as_microsecond),
                text: Some(message.text.clone()),
                user_id: message.user_id.clone(),
                vanished: false,
            })
            .collect();
        expected.sort();
        assert_same("messages", &expected, &contents.live_messages());
        // Exports show the ten latest reactions of a message, unless they have lines for all. Those that an earlier export
        // showed and that may still be there stay.
        let switches = self.simulator.switches();
        let has_lines = switches.reactions == ReactionForm::Both && switches.envelope != Envelope::Element;
        let within =
            |reaction: &&TrueReaction| since <= reaction.message_created_at && reaction.message_created_at < until;
        let (mut shown, mut hidden) = (Vec::new(), BTreeSet::new());
        for reaction in truth.reactions.iter().filter(within) {
            let row = Reaction {
                message_id: reaction.message_id.clone(),
                user_id: reaction.user_id.clone(),
                reaction_type: reaction.reaction_type.clone(),
                vanished: false,
            };
            if has_lines || reaction.embedded {
                shown.push(row);
            } else {
                hidden.insert(row);
            }
        }
        shown.sort();
        let mut found = contents.live_reactions();
        found.retain(|row| !hidden.contains(row));
        assert_same("reactions", &shown, &found);
        contents
    }
}

/// A Python process that reads one lake after the other: its imports take longer than most lakes.
struct Reader {
    process: Child,
    lakes: ChildStdin,
    contents: BufReader<ChildStdout>,
}

impl Reader {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python");
        let lakes = process.stdin.take().expect("a pipe");
        let contents = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, lakes, contents }
    }

    fn read<T: DeserializeOwned>(&mut self, what: &str) -> T {
        writeln!(self.lakes, "{what}").expect("a reader that waits");
        let mut line = String::new();
        self.contents.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{what} cannot be read: {error} in `{line}`"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn assert_same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &[T], found: &[T]) {
    assert!(!expected.is_empty(), "no {what} to compare");
    let first = expected.iter().zip(found).find(|(one, other)| one != other);
    assert!(
        expected == found,
        "{what}: {} expected, {} found; the first that differ: {first:#?}",
        expected.len(),
        found.len()
    );
}

/// The seed of this run: `SEED=` repeats one.
pub fn seed() -> u64 {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| u64::try_from(Timestamp::now().as_nanosecond() % 1_000_000).unwrap_or(0));
    println!("SEED={seed}");
    seed
}

/// Whether tests take their time: `CHATLAKE_TEST_LONG=1`.
pub fn is_long() -> bool {
    std::env::var("CHATLAKE_TEST_LONG").is_ok_and(|value| value != "0")
}

/// Numbers that a seed decides (splitmix64).
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).expect("an index")]
    }
}

/// A message as readers see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Message {
    pub id: String,
    pub cid: String,
    pub created_at: i64,
    pub updated_at: Option<i64>,
    pub deleted_at: Option<i64>,
    pub text: Option<String>,
    pub user_id: Option<String>,
    pub vanished: bool,
}

/// A reaction as readers see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Reaction {
    pub message_id: String,
    pub user_id: String,
    #[serde(rename = "type")]
    pub reaction_type: String,
    pub vanished: bool,
}

/// A lake as readers see it.
#[derive(Clone, Debug, Deserialize)]
pub struct Contents {
    /// Rows by dataset.
    pub rows: BTreeMap<String, u64>,
    /// Files by dataset and partition.
    pub files: BTreeMap<String, BTreeMap<String, u64>>,
    pub messages: Vec<Message>,
    pub reactions: Vec<Reaction>,
}

impl Contents {
    /// Messages that have not vanished, in an order of their own.
    pub fn live_messages(&self) -> Vec<Message> {
        let mut live: Vec<_> = self.messages.iter().filter(|message| !message.vanished).cloned().collect();
        live.sort();
        live
    }

    /// Reactions that have not vanished.
    pub fn live_reactions(&self) -> Vec<Reaction> {
        let mut live: Vec<_> = self.reactions.iter().filter(|reaction| !reaction.vanished).cloned().collect();
        live.sort();
        live
    }

    /// One file for each of these datasets and partitions.
    #[track_caller]
    pub fn assert_one_file_each(&self, datasets: &[&str]) {
        for dataset in datasets {
            let files = &self.files[*dataset];
            assert!(!files.is_empty() && files.values().all(|files| *files == 1), "{dataset}: {files:?}");
        }
    }
}

/// How a command ended and what it said.
#[derive(Clone, Debug)]
pub struct Ran {
    /// -1 if a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().unwrap_or(-1);
        let signal = output.status.signal();
        Self { code, signal, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ran {
    /// The summary: exactly one line of JSON.
    #[track_caller]
    pub fn summary(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:#?}");
        serde_json::from_str(&self.stdout).expect("a summary")
    }

    /// It ended with this code and status.
    #[track_caller]
    pub fn assert_status(&self, code: i32, status: &str) -> Value {
        assert_eq!(self.code, code, "{self:#?}");
        let summary = self.summary();
        assert_eq!(summary["status"], status, "{self:#?}");
        summary
    }

    /// It was refused with this code, said each of these things, and showed no secret.
    #[track_caller]
    pub fn assert_refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing in {}", self.stderr);
        }
        self.assert_no_secret();
    }

    /// Nothing that signs or is signed was printed.
    #[track_caller]
    pub fn assert_no_secret(&self) {
        for text in [&self.stdout, &self.stderr] {
            for secret in ["simulated-secret", "X-Amz-Signature"] {
                assert!(!text.contains(secret), "{secret} is shown in {text}");
            }
            let is_of_token = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let is_token = |word: &str| word.starts_with("eyJ") && word.contains('.');
            assert!(!text.split(|c| !is_of_token(c)).any(is_token), "a token is shown in {text}");
        }
    }
}

/// The days that a span of time has, for readers of a test.
pub fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}
