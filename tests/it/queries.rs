//! What the documents for analysts say is so: every block of code in them runs, and every query in `queries/` answers what stands
//! beside it, in DuckDB by its command line, and in the other engines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::engines::script_with;

const DOCUMENTS: [&str; 2] = ["docs/querying.md", "queries/README.md"];
/// Messages of each day of the demo that have not vanished.
const DAYS: [(&str, &str); 4] =
    [("2026-01-05", "359"), ("2026-01-06", "368"), ("2026-01-07", "400"), ("2026-01-08", "399")];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Queries by name, and what is expected of them.
fn names(folder: &str, extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(repository().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let with_extension = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    let mut names: Vec<String> =
        with_extension.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Where `chatlake` and `duckdb` are, and the S3 server if there is one.
fn env() -> BTreeMap<String, String> {
    let variable = |name: &str| std::env::var(name).ok();
    let python = PathBuf::from(variable("CHATLAKE_TEST_PYTHON").expect("run the tests by ./test"));
    let folders = [Path::new(env!("CARGO_BIN_EXE_chatlake")).parent(), python.parent()].map(|folder| folder.unwrap());
    let path = folders.iter().map(|folder| folder.display().to_string()).chain(variable("PATH"));
    let mut env = BTreeMap::from([("PATH".to_owned(), path.collect::<Vec<_>>().join(":"))]);
    env.extend(variable("CHATLAKE_TEST_S3_ENDPOINT").map(|endpoint| ("AWS_ENDPOINT_URL".to_owned(), endpoint)));
    env
}

#[test]
fn documents_run_and_queries_answer_what_is_expected() {
    let queries = names("queries", "sql");
    assert_eq!(queries, names("queries/expected", "csv"), "an answer for each query");
    let listed = std::fs::read_to_string(repository().join("queries/README.md")).unwrap();
    for query in &queries {
        assert!(listed.contains(&format!("| [{query}.sql]({query}.sql) |")), "{query} is not in the table");
    }

    let folder = tempfile::tempdir().unwrap();
    let env = env();
    let bucket = std::env::var("CHATLAKE_TEST_S3_BUCKET").ok().filter(|_| env.contains_key("AWS_ENDPOINT_URL"));
    let bucket = bucket.map(|bucket| format!("s3://{bucket}/it/{}", uuid::Uuid::now_v7()));
    let job = json!({ "folder": folder.path(), "bucket": bucket }).to_string();
    let documents = DOCUMENTS.map(|document| repository().join(document).to_string_lossy().into_owned());
    let found = script_with(&env, "run_queries.py", &documents.each_ref().map(String::as_str), &job);

    let has_spark = found["answers"].get("spark").is_some();
    let blocks = found["blocks"].as_array().unwrap();
    let asked = blocks.iter().filter(|block| asks_for_the_days(block)).count();
    // The engines in a folder, without Spark.
    assert!(asked >= 8, "{blocks:#?}");
    if bucket.is_some() && has_spark {
        assert!(blocks.iter().all(|block| block["ran"] == true), "{blocks:#?}");
        assert!(asked >= 8 + 5, "{blocks:#?}");
    }
    assert_eq!(found["differences"], json!([]));
    let answered = |engine: &str| found["answers"][engine].as_array().map_or(0, Vec::len);
    assert_eq!(answered("datafusion"), queries.len() - 2);
    assert_eq!(answered("polars"), queries.len() - 3);
    assert_eq!(answered("spark"), if has_spark { queries.len() } else { 0 });
}

/// Whether the block counts the messages of each day, as those of all engines do. Then it finds the same.
fn asks_for_the_days(block: &Value) -> bool {
    let output = block["output"].as_str().unwrap();
    let asks = block["document"] == "querying.md" && DAYS.iter().all(|(day, _)| output.contains(day));
    assert!(!asks || DAYS.iter().all(|(_, messages)| output.contains(messages)), "{DAYS:?}: {block}");
    asks
}
