//! The comparisons of `benches/compare` run, with little to compare: each prints its table, and what stands in it is not looked at.

use std::path::PathBuf;
use std::process::Command;

/// The rows of the table that a script prints, each by its first cells.
fn rows(script: &str, arguments: &[&str]) -> Vec<Vec<String>> {
    let python = std::env::var("CHATLAKE_TEST_PYTHON").expect("CHATLAKE_TEST_PYTHON: run the tests by ./test");
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "benches/compare", script].iter().collect();
    let mut command = Command::new(python);
    command.arg(path).args(["--chatlake", env!("CARGO_BIN_EXE_chatlake")]).args(arguments);
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{script} {arguments:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = printed.lines().filter(|line| line.starts_with('|')).collect();
    let cells = |line: &&str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let table: Vec<Vec<String>> = lines.iter().map(cells).collect();
    assert!(table.iter().all(|row| row.len() == table[0].len()), "{printed}");
    // Below the head and its rule.
    table[2..].to_vec()
}

/// So many first cells of each row.
fn names(rows: &[Vec<String>], cells: usize) -> Vec<String> {
    rows.iter().map(|row| row[..cells].join(", ")).collect()
}

#[test]
fn compare_runs() {
    let table = rows("compare.py", &["--messages", "2000", "--rounds", "1", "--peers", "duckdb,polars"]);
    assert_eq!(names(&table, 1), ["chatlake", "duckdb", "polars"]);
}

#[test]
fn readers_runs() {
    let table = rows("readers.py", &["--messages", "2000", "--days", "5", "--engines", "duckdb"]);
    let questions = ["one message, duckdb", "one channel's day, duckdb", "one user's messages, duckdb"];
    assert_eq!(names(&table, 2), questions);
}

#[test]
fn sync_runs() {
    // `./test` tells where there is no S3 server, and builds the simulator.
    let (Ok(simulator), Ok(_)) = (std::env::var("CHATLAKE_TEST_SIMULATOR"), std::env::var("CHATLAKE_TEST_S3_ENDPOINT"))
    else {
        return;
    };
    let table = rows("sync.py", &["--simulator", &simulator, "--channels", "30", "--messages", "20", "--rounds", "1"]);
    let turns = ["convert, disk to disk", "convert, disk to S3", "sync, HTTP to disk", "sync, HTTP to S3"];
    assert_eq!(names(&table, 1), [&turns[..], &["first sync, exports built meanwhile"]].concat());
}
