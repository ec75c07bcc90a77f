//! The commands of the documentation, run as they are written: page by page, in an empty folder, with the variables that the page asks for.
//!
//! Left out is what needs Docker or a cluster, by its first word, and what says in a comment what it needs, `# needs ...`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::civil::date;
use simulator::switches::Switches;
use simulator::{BadLine, Effect, Fault, Insertion, Size, World};

use crate::bench::{Bench, Place, at, seed, two_days};

/// Pages whose commands are run by something else, and by what.
const ELSEWHERE: [(&str, &str); 8] = [
    ("CONTRIBUTING.md", ".ci/run"),
    ("docs/airflow.md", "tests/airflow/page.py"),
    ("docs/containers.md", "tests/containers/drive.py"),
    ("docs/kubernetes.md", "tests/containers/drive.py"),
    ("docs/querying.md", "tests/it/queries.rs"),
    ("integrations/airflow/README.md", "tests/airflow/page.py"),
    ("queries/README.md", "tests/it/queries.rs"),
    ("simulator/README.md", "simulator/tests/api.rs"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page for users, by its path below the project.
fn pages() -> Vec<String> {
    let mut pages = ["README.md", "CONTRIBUTING.md", "queries/README.md", "fuzz/README.md", "simulator/README.md"]
        .map(str::to_owned)
        .to_vec();
    for folder in ["docs", "integrations/airflow", "integrations/kubernetes"] {
        let entries = std::fs::read_dir(root().join(folder)).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        pages.extend(names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}/{name}")));
    }
    pages.retain(|page| root().join(page).is_file());
    pages.sort();
    pages
}

/// A fenced block: its language, and its lines.
struct Block {
    language: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if is_inside => is_inside = false,
            Some(language) => {
                is_inside = true;
                blocks.push(Block { language: language.trim().to_owned(), text: String::new() });
            }
            None if is_inside => writeln!(blocks.last_mut().unwrap().text, "{line}").unwrap(),
            None => {}
        }
    }
    blocks
}

impl Block {
    fn is_run(&self) -> bool {
        let needs =
            |line: &str| line.starts_with("docker ") || line.starts_with("kubectl ") || line.contains("# needs ");
        ["sh", "python", "sql"].contains(&self.language.as_str()) && !self.text.lines().any(needs)
    }
}

/// What stands for programs that a page calls and a test has otherwise.
const PRELUDE: &str = r#"
set -euo pipefail
# Built before, and installed by being on the PATH.
cargo() {
  [[ $1 != install ]] || return 0
  while [[ $1 != -- ]]; do shift; done
  shift
  # The demo has an app and a time of its own.
  env -u CHATLAKE_CLOCK_OFFSET_SECONDS chatlake "$@"
}
curl() { cat old.json; }
"#;

/// Runs a page's commands one after the other.
fn run(bench: &Bench, page: &str) {
    let lake = format!("{}/", bench.lake.rsplit_once('/').unwrap().0);
    let mut script = PRELUDE.to_owned();
    for block in blocks(page).iter().filter(|block| block.is_run()) {
        // Placeholders are what everybody has another value for.
        let text = block.text.replace("s3://bucket/", &lake).replace("YOUR_KEY", bench.simulator.key());
        match block.language.as_str() {
            "python" => writeln!(script, "python - <<'PYTHON'\n{text}PYTHON").unwrap(),
            "sql" => writeln!(script, "duckdb > /dev/null <<'SQL'\n{text}SQL").unwrap(),
            _ => script.push_str(&text),
        }
    }
    let folder = bench.folder.path();
    std::fs::write(folder.join("page.sh"), script).unwrap();
    std::fs::write(folder.join("secret"), format!("{}\n", bench.simulator.secret())).unwrap();
    let chatlake = PathBuf::from(env!("CARGO_BIN_EXE_chatlake"));
    let python =
        PathBuf::from(std::env::var("CHATLAKE_TEST_PYTHON").expect("CHATLAKE_TEST_PYTHON: run the tests by ./test"));
    let programs = [chatlake.parent().unwrap(), python.parent().unwrap(), Path::new("/usr/bin"), Path::new("/bin")];
    let mut command = Command::new("bash");
    let as_chatlake = bench.command(&[]);
    command.env_clear().envs(as_chatlake.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
        .env("PATH", std::env::join_paths(programs).unwrap())
        .env("URL", "the link of an export")
        .env("HOME", folder);
    command
        .args(["-x", "page.sh"])
        .current_dir(folder)
        .stdin(Stdio::from(std::fs::File::open(folder.join("secret")).unwrap()));
    let output = command.output().unwrap();
    let [said, log] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{page}\n{said}\n{log}");
}

#[test]
fn every_page_is_run_here_or_elsewhere() {
    for page in pages() {
        let is_run = blocks(&page).iter().any(Block::is_run);
        let elsewhere = ELSEWHERE.iter().find(|(name, _)| *name == page).map(|(_, by)| by);
        let here = HERE.contains(&page.as_str());
        assert!(!is_run || elsewhere.is_some() || here, "{page} has commands that nothing runs");
        if let Some(by) = elsewhere {
            assert!(root().join(by).is_file(), "{by}");
            assert!(!here, "{page} twice");
        }
    }
}

/// Pages that are run here.
const HERE: [&str; 12] = [
    "README.md",
    "docs/backfill.md",
    "docs/columns.md",
    "docs/configuration.md",
    "docs/convert.md",
    "docs/datasets.md",
    "docs/getting-started.md",
    "docs/operations.md",
    "docs/privacy.md",
    "docs/scale.md",
    "docs/troubleshooting.md",
    "docs/users.md",
];

/// What a page takes for granted: a lake in the folder `lake`, with lines that did not fit and users; one where the variable says;
/// exports; lists.
fn prepare(page: &str) -> Bench {
    let first_day = if page == "docs/convert.md" { date(2023, 6, 1) } else { date(2026, 1, 1) };
    let mut world = World::seeded(seed(), &Size { channels: 8, days: 4, first_day, odd_channels: false, ..two_days() });
    let mut general = world.channels().find(|channel| channel.channel_type == "messaging").unwrap().as_ref().clone();
    general.id = "general".to_owned();
    general.messages.clear();
    let cid = world.add_channel(general).unwrap();
    for minute in 0..10 {
        let at = at("2026-01-04T12:00:00Z") + jiff::SignedDuration::from_mins(minute);
        world.send(&cid, "amara", "good morning", at).unwrap();
    }
    let place = if std::env::var_os("CHATLAKE_TEST_S3_ENDPOINT").is_some() { Place::S3 } else { Place::Folder };
    let mut bench = Bench::with(world, Switches::default(), place).unwrap();
    bench.set_time(at("2026-01-09T00:10:00Z"));
    bench.lake = format!("{}/chat", bench.lake);
    let lake = bench.lake.clone();
    bench.set("CHATLAKE_LAKE", &lake);

    let folder = bench.folder.path().to_owned();
    std::fs::write(folder.join("test"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(folder.join("test"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("ids.txt"), "amara\n").unwrap();
    let succeeds = |arguments: &[&str]| {
        let ran = bench.run(arguments);
        assert_eq!(ran.code, 0, "{ran:#?}");
    };
    let reads_a_lake =
        blocks(page).iter().any(|block| block.text.contains("'lake/") || block.text.contains("--lake lake"));
    if reads_a_lake && page != "docs/columns.md" {
        let bad = |lines: usize| {
            let line = |at_line| Insertion { at_line, line: BadLine::Text { text: "no JSON".into() } };
            Effect::BadLines { lines: (0..lines).map(line).collect() }
        };
        bench.simulator.add_fault(Fault::on("ExportChannels", bad(1)));
        succeeds(&["sync", "--start", "2026-01-01", "--lake", "lake"]);
        bench.simulator.add_fault(Fault::on("ExportChannels", bad(20)));
        bench
            .run(&["sync", "--replace", "--since", "2026-01-01", "--until", "2026-01-02", "--lake", "lake"])
            .assert_refused(65, &[]);
        succeeds(&["users", "--user-id", "amara", "--lake", "lake"]);
    }
    match page {
        "docs/convert.md" => {
            std::fs::create_dir(folder.join("exports")).unwrap();
            let export = crate::convert::export(&bench, "v2", "2023-06-01", "2023-06-05");
            std::fs::write(folder.join("old.json"), &export).unwrap();
            let mut gzip = GzEncoder::new(
                std::fs::File::create(folder.join("exports/2025-06.json.gz")).unwrap(),
                Compression::fast(),
            );
            gzip.write_all(&export).unwrap();
            gzip.finish().unwrap();
            succeeds(&["sync", "--since", "2026-01-01", "--until", "2026-01-02"]);
        }
        "docs/privacy.md" | "docs/troubleshooting.md" => succeeds(&["sync", "--start", "2026-01-01"]),
        // It is in a file there.
        "docs/getting-started.md" => bench.unset("STREAM_API_SECRET"),
        "docs/columns.md" => {
            let toml = blocks(page).into_iter().find(|block| block.language == "toml").unwrap().text;
            std::fs::write(folder.join("chatlake.toml"), toml).unwrap();
            bench.set("CHATLAKE_LAKE", "lake");
            bench.set("CHATLAKE_START", "2026-01-01");
        }
        _ => {}
    }
    bench
}

fn runs(pages: &[&str]) {
    for page in pages {
        run(&prepare(page), page);
    }
}

#[test]
fn the_readme() {
    runs(&HERE[..1]);
}

#[test]
fn getting_started() {
    runs(&["docs/getting-started.md"]);
}

#[test]
fn pages_for_operators() {
    runs(&[
        "docs/backfill.md",
        "docs/configuration.md",
        "docs/operations.md",
        "docs/scale.md",
        "docs/troubleshooting.md",
    ]);
}

#[test]
fn pages_for_whoever_looks_after_the_data() {
    runs(&["docs/columns.md", "docs/convert.md", "docs/datasets.md", "docs/privacy.md", "docs/users.md"]);
}

/// What GitHub calls a heading in links.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The text of a page without its blocks.
fn prose(page: &Path) -> String {
    let text = std::fs::read_to_string(page).unwrap();
    let mut is_inside = false;
    let outside = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    });
    outside.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let more = ["ARCHITECTURE.md", "CHANGELOG.md", "simulator/README.md"].map(str::to_owned);
    for page in pages().into_iter().chain(more) {
        let path = root().join(&page);
        let text = prose(&path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.contains("://") {
                continue;
            }
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let has_section = || {
                let text = prose(&target);
                section.is_empty()
                    || text.lines().any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == section)
            };
            if !(target.is_dir() || target.is_file() && (section.is_empty() || has_section())) {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
