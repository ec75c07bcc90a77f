//! A run by its configuration: what `init` writes, what `config` shows, and which of flag, variable and line is stronger.

use serde_json::{Value, json};

use crate::bench::{Bench, at, two_days};

fn in_force(bench: &Bench, flags: &[&str]) -> Value {
    let ran = bench.run(&[&["config", "--json"][..], flags].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn a_lake_by_its_configuration_alone() {
    let mut bench = Bench::new(&two_days());
    let folder = bench.folder.path().to_owned();
    let path = folder.join("chatlake.toml");
    let path = path.to_str().unwrap();
    bench.set("CHATLAKE_CONFIG", path);
    let ran = bench.run(&["init", path]);
    assert!(ran.code == 0 && ran.stdout.contains("CHATLAKE_CONFIG"), "{}", ran.stderr);
    bench.run(&["init", path]).assert_refused(2, &["is there already"]);

    // As a person would edit it.
    let template = std::fs::read_to_string(path).unwrap();
    let lake = folder.join("by-file");
    let edited = template
        .replace("#lake = \"s3://bucket/chat\"", &format!("lake = {:?}", lake.to_str().unwrap()))
        .replace("#window = \"1d\"", "window = \"12h\"")
        .replace("#keep_raw = false", "keep_raw = true")
        .replace("#[exclude]\n#messages = [\"html\", \"custom.ssn\"]", "[exclude]\nmessages = [\"html\"]");
    assert_eq!(edited.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count(), 5, "{edited}");
    std::fs::write(path, edited).unwrap();
    bench.unset("CHATLAKE_LAKE");

    let shown = in_force(&bench, &[]);
    assert_eq!(shown["options"]["window"], json!({ "value": "12h", "from": path }));
    assert_eq!(shown["options"]["settle"], json!({ "value": "5m", "from": "default" }));
    assert_eq!(shown["exclude"], json!({ "messages": ["html"] }));
    assert!(bench.run(&["config"]).stdout.contains("messages.html"));
    let summary = bench.run(&["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-06"]);
    assert_eq!(summary.assert_status(0, "committed")["cells"].as_array().unwrap().len(), 2);
    let files = bench.run(&["files", "--dataset", "messages"]);
    assert!(files.code == 0 && files.stdout.contains("by-file"), "{}", files.stderr);
    let status = bench.run(&["status"]);
    assert!(status.code == 0 && status.stdout.contains("html"), "{}", status.stdout);

    // A variable is stronger, and a flag is stronger than that.
    bench.set("CHATLAKE_WINDOW", "6h");
    let shown = in_force(&bench, &[]);
    assert_eq!(shown["options"]["window"], json!({ "value": "6h", "from": "CHATLAKE_WINDOW" }));
    bench.set("CHATLAKE_LAKE", folder.join("by-variable").to_str().unwrap());
    let range = ["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-06"];
    assert_eq!(bench.run(&range).assert_status(0, "committed")["cells"].as_array().unwrap().len(), 4);
    bench.set("CHATLAKE_LAKE", folder.join("by-flag").to_str().unwrap());
    let summary = bench.run(&[&range[..], &["--window", "1d"]].concat());
    assert_eq!(summary.assert_status(0, "committed")["cells"].as_array().unwrap().len(), 1);
}

#[test]
fn secrets_are_not_shown() {
    let mut bench = Bench::new(&two_days());
    bench.set("AWS_SECRET_ACCESS_KEY", "hunter2-store");
    bench.set("HTTPS_PROXY", "http://user:hunter2-proxy@proxy:3128");
    bench.set("CHATLAKE_LAKE", "s3://key:hunter2-lake@bucket/chat");
    for flags in [&["config"][..], &["config", "--json"]] {
        let ran = bench.run(flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.contains("STREAM_API_SECRET") && ran.stdout.contains("********"), "{}", ran.stdout);
        assert!(!ran.stdout.contains("hunter2") && !ran.stdout.contains("least-thirty-two"), "{}", ran.stdout);
    }
}

#[test]
fn a_mistake_is_refused_by_every_command() {
    let mut bench = Bench::new(&two_days());
    let path = bench.folder.path().join("wrong.toml");
    std::fs::write(&path, "windw = \"1h\"\n").unwrap();
    bench.set("CHATLAKE_CONFIG", path.to_str().unwrap());
    for command in ["sync", "revisit", "status", "files", "gc", "config", "schema", "check"] {
        bench.run(&[command]).assert_refused(2, &["`windw`", "did you mean `window`?"]);
    }
}

#[test]
fn a_variable_that_is_misspelt_is_told() {
    let mut bench = Bench::new(&two_days());
    bench.set("CHATLAKE_WINDO", "1h");
    let ran = bench.run(&["config"]);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("CHATLAKE_WINDO is not read: did you mean CHATLAKE_WINDOW?"), "{}", ran.stderr);
}

#[test]
fn a_value_that_a_variable_has_is_refused_by_its_name() {
    let mut bench = Bench::new(&two_days());
    bench.set("CHATLAKE_MEMORY_LIMIT", "256");
    bench.run(&["config"]).assert_refused(2, &["at least 64MiB"]);
    bench.set("CHATLAKE_MEMORY_LIMIT", "");
    bench.run(&["sync"]).assert_refused(2, &["the value of the variable CHATLAKE_MEMORY_LIMIT"]);
    bench.set("CHATLAKE_MEMORY_LIMIT", "256MiB");
    bench.set("CHATLAKE_UNTIL", "2026-01-06");
    bench.run(&["sync"]).assert_refused(2, &["--since <TIME>", "--until is there by the variable CHATLAKE_UNTIL"]);
    bench.set("CHATLAKE_UNTIL", "2026-01-06");
    bench.set("CHATLAKE_SINCE", "2026-01-05");
    bench.set("CHATLAKE_RATE_SHARE", "half");
    let tip = "the value of the variable CHATLAKE_RATE_SHARE";
    bench.run(&["sync"]).assert_refused(2, &["'half' for '--rate-share <0..1>'", tip]);
    for typed in [&["--rate-share", "none"][..], &["--rate-share=none"]] {
        let ran = bench.run(&[&["sync"], typed].concat());
        ran.assert_refused(2, &["'none' for '--rate-share <0..1>'"]);
        assert!(!ran.stderr.contains(tip), "{}", ran.stderr);
    }
}

/// The page is what the program says.
#[test]
fn the_page_has_every_option() {
    const MARK: &str = "<!-- options -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, _) = page.split_once(MARK).unwrap();
    let wanted = format!("{before}{MARK}{}", chatlake::cli::configuration::markdown());
    if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        std::fs::write(path, &wanted).unwrap();
        return;
    }
    assert!(
        page == wanted,
        "docs/configuration.md differs from the options; write it again by\n  \
         INSTA_UPDATE=always cargo nextest run -E 'test(the_page_has_every_option)'"
    );
}

/// Where a lake begins and how often it is looked after stand in the file of all runs; a range is asked for once in a while beside that.
#[test]
fn a_range_is_stronger_than_what_all_runs_have_in_common() {
    let mut bench = Bench::new(&two_days());
    bench.set_time(at("2026-01-08T00:10:00Z"));
    let path = bench.folder.path().join("chatlake.toml");
    std::fs::write(&path, "start = 2026-01-06\nevery = \"6h\"\n").unwrap();
    bench.set("CHATLAKE_CONFIG", path.to_str().unwrap());
    let summary = bench.sync("2026-01-05", "2026-01-06", &[]).assert_status(0, "committed");
    assert_eq!(summary["cells"].as_array().unwrap().len(), 4, "cells are as long as runs are apart");
    bench.set("CHATLAKE_START", "2026-01-06");
    bench.set("CHATLAKE_EVERY", "12h");
    bench.sync("2026-01-07", "2026-01-08", &[]).assert_status(0, "committed");
    assert_eq!(bench.run(&["sync", "--plan"]).code, 0);
    for option in [["--start", "2026-01-06"], ["--every", "1h"]] {
        let both = [option[0], "--since", "do not go together"];
        bench.sync("2026-01-05", "2026-01-06", &option).assert_refused(2, &both);
    }
}
