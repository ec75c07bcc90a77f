//! `--memory-limit` is for the process: what the system counts of it stays below, its code included, whatever the shape of the work.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use jiff::SignedDuration;
use simulator::{Size, World};

use crate::backfill::unlimited;
use crate::bench::{Bench, Place, Ran, Random, at, seed};

/// Runs a command that takes no more than so many MiB.
#[track_caller]
pub fn assert_fits(bench: &Bench, arguments: &[&str], limit_mib: u64) -> Ran {
    let limit = format!("{limit_mib}MiB");
    let (ran, peak_mib) = bench.run_watched(&[arguments, &["--memory-limit", &limit]].concat());
    println!("{peak_mib} of {limit_mib} MiB: {}", arguments.join(" "));
    assert!(peak_mib <= limit_mib, "{peak_mib} MiB under --memory-limit {limit}: {ran:#?}");
    ran
}

#[test]
fn a_busy_day_and_its_revisit_fit_the_limit() {
    let size = Size { channels: 200, users: 300, days: 1, messages_per_channel_day: 150, ..Size::default() };
    let bench = Bench::with(World::seeded(seed(), &size), unlimited(), Place::Folder).unwrap();
    let sync = ["sync", "--json", "--since", "2026-01-05", "--until", "2026-01-06"];
    assert_fits(&bench, &sync, 96).assert_status(0, "committed");
    assert_fits(&bench, &[&sync[..], &["--replace"]].concat(), 96).assert_status(0, "committed");
    assert_fits(&bench, &[&sync[..], &["--lake", "other"]].concat(), 256).assert_status(0, "committed");
}

/// An export of so many MB, channel by channel, each with messages of all days.
fn write_export(path: &Path, megabytes: u64, days: u64) -> u64 {
    let mut random = Random(seed());
    let mut file = BufWriter::new(File::create(path).unwrap());
    let (mut bytes, mut messages) = (0, 0);
    let begin = at("2023-01-01");
    for channel in 0.. {
        for _ in 0..1_000 {
            let seconds = i64::try_from(random.below(days * 86_400)).unwrap();
            let sent_at = begin + SignedDuration::from_secs(seconds);
            let words: String = (0..40).map(|_| format!("{:x} ", random.below(1 << 16))).collect();
            let line = format!(
                r#"{{"type":"message","data":{{"id":"m-{messages:07}-{:x}","cid":"team:c{channel}","text":"{words}","html":"<p>{words}</p>","type":"regular","created_at":"{sent_at}","updated_at":"{sent_at}","user":{{"id":"u{:03}","name":"Somebody","role":"user","created_at":"2022-05-01T10:00:00Z","updated_at":"2022-05-01T10:00:00Z"}},"attachments":[],"latest_reactions":[],"reaction_counts":{{}},"reply_count":0,"pinned":false,"priority":{}}}}}"#,
                random.below(u64::MAX),
                random.below(500),
                random.below(9),
            );
            writeln!(file, "{line}").unwrap();
            bytes += line.len() as u64 + 1;
            messages += 1;
        }
        if bytes >= megabytes * 1_000_000 {
            break;
        }
    }
    file.flush().unwrap();
    messages
}

#[test]
fn hundreds_of_megabytes_and_a_thousand_days_fit_the_limit() {
    let bench = Bench::with(World::empty(), unlimited(), Place::Folder).unwrap();
    for (megabytes, days, limit_mib) in [(300, 1_096, 96), (500, 1, 256)] {
        let name = format!("{days}-days-{limit_mib}");
        let path = bench.folder.path().join(&name);
        let messages = write_export(&path, megabytes, days);
        let convert = ["convert", "--json", &name, "--lake", "lake-of-files"];
        let summary = assert_fits(&bench, &convert, limit_mib).assert_status(0, "committed");
        assert_eq!(summary["datasets"]["messages"]["rows"], messages, "{summary}");
        assert_eq!(summary["datasets"]["messages"]["files"], days, "{summary}");
        std::fs::remove_dir_all(bench.folder.path().join("lake-of-files")).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}

/// A chunk of such a file becomes hundreds of megabytes: decoding has to keep up with inflating.
#[test]
fn a_file_that_was_compressed_a_thousandfold_fits_the_limit() {
    let bench = Bench::with(World::empty(), unlimited(), Place::Folder).unwrap();
    let text = "z".repeat(8_000);
    let line = format!(
        r#"{{"id":"m","cid":"team:c","type":"regular","text":"{text}","created_at":"2023-01-01T10:00:00Z","user":{{"id":"u"}}}}"#
    );
    let lines = 20_000;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    for _ in 0..lines {
        writeln!(gzip, "{line}").unwrap();
        writeln!(zstd, "{line}").unwrap();
    }
    for (name, bytes) in [("a.gz", gzip.finish().unwrap()), ("a.zst", zstd.finish().unwrap())] {
        assert!(bytes.len() < 400_000, "{name} has {} bytes", bytes.len());
        std::fs::write(bench.folder.path().join(name), bytes).unwrap();
        let convert = ["convert", "--json", name, "--lake", "lake-of-files"];
        let summary = assert_fits(&bench, &convert, 96).assert_status(0, "committed");
        assert_eq!(summary["datasets"]["messages"]["rows"], 1, "{summary}");
        std::fs::remove_dir_all(bench.folder.path().join("lake-of-files")).unwrap();
    }
}

/// Lines that each hold a channel with so many MB of messages.
fn write_long_lines(path: &Path, megabytes: usize, lines: usize) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let text = "what people write ".repeat(10);
    for channel in 0..lines {
        let name = path.file_name().unwrap().to_string_lossy();
        let messages: Vec<String> = (0..megabytes * 1_000_000 / 250)
            .map(|number| {
                let id = format!("{name}-{channel}-{number}");
                format!(r#"{{"id":"{id}","text":"{text}","created_at":"2023-01-01T10:00:00Z"}}"#)
            })
            .collect();
        let channel = format!(r#"{{"type":"team","id":"{name}-{channel}","cid":"team:{name}-{channel}"}}"#);
        writeln!(file, r#"{{"channel":{channel},"messages":[{}],"members":[]}}"#, messages.join(",")).unwrap();
    }
    file.flush().unwrap();
}

#[test]
fn long_lines_are_held_one_at_a_time_and_refused_where_they_do_not_fit() {
    let bench = Bench::with(World::empty(), unlimited(), Place::Folder).unwrap();
    for name in ["a", "b", "c"] {
        write_long_lines(&bench.folder.path().join(name), 8, 2);
    }
    let convert = ["convert", "--json", "a", "b", "c"];
    let summary = assert_fits(&bench, &convert, 96).assert_status(0, "committed");
    assert_eq!(summary["datasets"]["messages"]["rows"], 6 * 32_000, "{summary}");
    assert_fits(&bench, &[&convert[..], &["--lake", "other"]].concat(), 64)
        .assert_refused(2, &["line 1 of", "--memory-limit", "256MiB"]);
}
