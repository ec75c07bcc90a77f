//! Where everything lies in a lake: every object key is built here and parsed here, and nowhere else.
//!
//! ```text
//! messages/event_date=2026-01-31/<file>.parquet          what readers see
//! user_exports/messages/export_date=2026-02-01/<file>.parquet   the same of exports of users
//! _quarantine/snapshot_date=2026-02-01/<file>.parquet    rows that did not fit
//! _chatlake/lake.json                                    whose lake this is
//! _chatlake/log/00000000000000000042.json                the commit log
//! _chatlake/snapshots/00000000000000000100.ndjson.gz     the log up to there, folded
//! _chatlake/lists/<hash>.json                            long lists of entries, by content
//! _chatlake/lists/<hash>.txt                             the channels of a lake that is made of many named ones
//! _chatlake/staging/<run>/<file>.parquet                 whole files that are not committed yet
//! _chatlake/rejected/<run>/<file>.parquet                rows that did not fit, of a span that was refused
//! _chatlake/runs/<run>/00000007.json                     the journal of a run
//! _chatlake/probe/<id>.json                              a moment's test of conditional writes
//! ```

use object_store::path::Path;
use uuid::Uuid;

use crate::schema::USER_EXPORTS;

/// The dataset of rows that did not fit; its folder is one that readers skip.
pub const QUARANTINE: &str = "quarantine";

const QUARANTINE_FOLDER: &str = "_quarantine";

/// The place of one object in a lake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Whose lake this is.
    Identity,
    /// An entry of the log.
    Entry(u64),
    /// The log up to and with this entry, folded.
    Snapshot(u64),
    /// Long lists of an entry, named by the hash of their content.
    Lists(String),
    /// The channels of a lake, named by the hash of their list.
    Channels(String),
    /// A whole file that is not committed, or committed and not settled.
    Staged {
        /// The run that wrote it.
        run_id: Uuid,
        /// The file's id.
        file: String,
    },
    /// Lines that a refused span would have put into quarantine. No entry refers to it.
    Rejected {
        /// The run that refused it.
        run_id: Uuid,
        /// The file's id.
        file: String,
    },
    /// One record of a run's journal.
    Journal {
        /// The run.
        run_id: Uuid,
        /// Counts up from 0 within the run.
        seq: u32,
    },
    /// A test of conditional writes.
    Probe(Uuid),
    /// A file that readers see (or, in quarantine, an operator).
    Data {
        /// The dataset: `messages`, or `user_exports/messages`.
        dataset: String,
        /// `event_date=2026-01-31`, or more levels with `/` between them.
        partition: String,
        /// The file's id.
        file: String,
    },
}

impl Key {
    /// The key, relative to the lake.
    pub fn path(&self) -> Path {
        Path::from_iter(self.to_string().split('/'))
    }

    /// What lies at this key; `None` for an object that is none of chatlake's.
    pub fn parse(path: &Path) -> Option<Self> {
        let parts: Vec<&str> = path.as_ref().split('/').collect();
        match parts.as_slice() {
            ["_chatlake", "lake.json"] => Some(Self::Identity),
            ["_chatlake", "log", name] => Some(Self::Entry(number(name, 20, ".json")?)),
            ["_chatlake", "snapshots", name] => Some(Self::Snapshot(number(name, 20, ".ndjson.gz")?)),
            ["_chatlake", "lists", name] => {
                let named = |suffix| name.strip_suffix(suffix).filter(|hash| is_name(hash)).map(str::to_owned);
                named(".json").map(Self::Lists).or_else(|| named(".txt").map(Self::Channels))
            }
            ["_chatlake", "staging", run, name] => Some(Self::Staged { run_id: uuid(run)?, file: parquet(name)? }),
            ["_chatlake", "rejected", run, name] => Some(Self::Rejected { run_id: uuid(run)?, file: parquet(name)? }),
            ["_chatlake", "runs", run, name] => {
                Some(Self::Journal { run_id: uuid(run)?, seq: u32::try_from(number(name, 8, ".json")?).ok()? })
            }
            ["_chatlake", "probe", name] => Some(Self::Probe(uuid(name.strip_suffix(".json")?)?)),
            ["user_exports", dataset, partition @ .., name] if !partition.is_empty() && !dataset.contains('=') => {
                let (dataset, partition) = (format!("{USER_EXPORTS}{dataset}"), partition.join("/"));
                if !is_dataset(&dataset) || !is_partition(&partition) {
                    return None;
                }
                Some(Self::Data { dataset, partition, file: parquet(name)? })
            }
            [dataset, partition @ .., name] if !partition.is_empty() && *dataset != "_chatlake" => {
                let dataset = if *dataset == QUARANTINE_FOLDER { QUARANTINE } else { dataset };
                let partition = partition.join("/");
                if !is_dataset(dataset) || parts[0] == QUARANTINE || !is_partition(&partition) {
                    return None;
                }
                Some(Self::Data { dataset: dataset.to_owned(), partition, file: parquet(name)? })
            }
            _ => None,
        }
    }

    /// The folder of everything that is not for readers.
    pub fn private() -> Path {
        Path::from("_chatlake")
    }

    /// The folder of a dataset.
    pub fn folder(dataset: &str) -> Path {
        Path::from(if dataset == QUARANTINE { QUARANTINE_FOLDER } else { dataset })
    }

    /// The folder of the log.
    pub fn log() -> Path {
        Path::from("_chatlake/log")
    }

    /// The folder of the snapshots.
    pub fn snapshots() -> Path {
        Path::from("_chatlake/snapshots")
    }

    /// The folder of staged files, of all runs.
    pub fn staging() -> Path {
        Path::from("_chatlake/staging")
    }

    /// The folder of rows that did not fit, of all refused spans.
    pub fn rejected() -> Path {
        Path::from("_chatlake/rejected")
    }

    /// Those of one run.
    pub fn rejected_by(run_id: Uuid) -> Path {
        Self::rejected().join(run_id.to_string())
    }

    /// The folder of the journals, of all runs.
    pub fn journals() -> Path {
        Path::from("_chatlake/runs")
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identity => write!(f, "_chatlake/lake.json"),
            // Twenty digits hold every u64, so the keys sort as the numbers do.
            Self::Entry(number) => write!(f, "_chatlake/log/{number:020}.json"),
            Self::Snapshot(number) => write!(f, "_chatlake/snapshots/{number:020}.ndjson.gz"),
            Self::Lists(hash) => write!(f, "_chatlake/lists/{hash}.json"),
            Self::Channels(hash) => write!(f, "_chatlake/lists/{hash}.txt"),
            Self::Staged { run_id, file } => write!(f, "_chatlake/staging/{run_id}/{file}.parquet"),
            Self::Rejected { run_id, file } => write!(f, "_chatlake/rejected/{run_id}/{file}.parquet"),
            Self::Journal { run_id, seq } => write!(f, "_chatlake/runs/{run_id}/{seq:08}.json"),
            Self::Probe(id) => write!(f, "_chatlake/probe/{id}.json"),
            Self::Data { dataset, partition, file } => {
                let folder = if dataset == QUARANTINE { QUARANTINE_FOLDER } else { dataset };
                write!(f, "{folder}/{partition}/{file}.parquet")
            }
        }
    }
}

/// A partition folder, `key=value` joined by `/`, as Hive readers expect it: bytes outside `[A-Za-z0-9_.-]` become `%XX`.
pub fn partition(columns: &[(&str, &str)]) -> String {
    let folder = |(key, value): &(&str, &str)| {
        let mut folder = format!("{key}=");
        for byte in value.bytes() {
            if is_plain(byte) {
                folder.push(char::from(byte));
            } else {
                folder.push_str(&format!("%{byte:02X}"));
            }
        }
        folder
    };
    columns.iter().map(folder).collect::<Vec<_>>().join("/")
}

/// Whether this may be a file id: no separator, nothing a shell or an engine reads as hidden or special.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && name.bytes().all(is_plain) && !name.starts_with(['.', '_', '-'])
}

/// Whether this may be a dataset.
pub(crate) fn is_dataset(name: &str) -> bool {
    let name = name.strip_prefix(USER_EXPORTS).unwrap_or(name);
    is_word(name)
}

fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Whether this may be a partition.
pub(crate) fn is_partition(partition: &str) -> bool {
    partition.split('/').all(|folder| {
        folder
            .split_once('=')
            .is_some_and(|(key, value)| is_word(key) && value.bytes().all(|byte| is_plain(byte) || byte == b'%'))
    })
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn number(name: &str, digits: usize, suffix: &str) -> Option<u64> {
    let name = name.strip_suffix(suffix)?;
    (name.len() == digits && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok())?
}

fn uuid(name: &str) -> Option<Uuid> {
    // Only the form that is written: a uuid has several spellings, a key has one.
    Uuid::parse_str(name).ok().filter(|uuid| uuid.to_string() == name)
}

fn parquet(name: &str) -> Option<String> {
    name.strip_suffix(".parquet").filter(|id| is_name(id)).map(str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Key> {
        let name = "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,40}";
        let uuids = any::<u128>().prop_map(Uuid::from_u128);
        let value = "[ -~äé]{0,12}";
        prop_oneof![
            Just(Key::Identity),
            any::<u64>().prop_map(Key::Entry),
            any::<u64>().prop_map(Key::Snapshot),
            name.prop_map(Key::Lists),
            (uuids.clone(), name).prop_map(|(run_id, file)| Key::Staged { run_id, file }),
            (uuids.clone(), name).prop_map(|(run_id, file)| Key::Rejected { run_id, file }),
            (uuids.clone(), 0u32..100_000_000).prop_map(|(run_id, seq)| Key::Journal { run_id, seq }),
            uuids.prop_map(Key::Probe),
            ("(user_exports/)?[a-z][a-z0-9_]{0,12}", value, value, name, any::<bool>()).prop_map(
                |(dataset, a, b, file, two)| {
                    let columns = [("event_date", a.as_str()), ("channel_type", b.as_str())];
                    Key::Data { dataset, partition: partition(&columns[..if two { 2 } else { 1 }]), file }
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn a_key_is_parsed_as_what_it_was(key in keys()) {
            prop_assert_eq!(Key::parse(&Path::parse(key.to_string()).unwrap()), Some(key));
        }

        #[test]
        fn whatever_parses_is_spelled_that_way(text in "(_chatlake/)?(log|staging|rejected|messages|runs|_quarantine|user_exports/[a-z]{0,3})/[a-z0-9=/.%-]{0,60}") {
            if let Ok(path) = Path::parse(&text)
                && let Some(key) = Key::parse(&path)
            {
                prop_assert_eq!(key.to_string(), path.as_ref());
            }
        }

        #[test]
        fn entries_sort_as_their_numbers(a: u64, b: u64) {
            prop_assert_eq!(Key::Entry(a).to_string().cmp(&Key::Entry(b).to_string()), a.cmp(&b));
        }
    }

    #[test]
    fn the_layout_is_a_contract() {
        let data = |dataset: &str| Key::Data {
            dataset: dataset.to_owned(),
            partition: partition(&[("event_date", "2026-01-31"), ("channel_type", "live stream")]),
            file: "a-1".to_owned(),
        };
        assert_eq!(Key::Entry(42).to_string(), "_chatlake/log/00000000000000000042.json");
        assert_eq!(
            data("messages").to_string(),
            "messages/event_date=2026-01-31/channel_type=live%20stream/a-1.parquet"
        );
        assert!(data(QUARANTINE).to_string().starts_with("_quarantine/event_date="));
        assert!(data("user_exports/users").to_string().starts_with("user_exports/users/event_date="));
        let rejected = Key::Rejected { run_id: Uuid::nil(), file: "a-1".to_owned() };
        assert_eq!(rejected.to_string(), "_chatlake/rejected/00000000-0000-0000-0000-000000000000/a-1.parquet");
        assert!(rejected.path().prefix_matches(&Key::rejected_by(Uuid::nil())));
    }

    #[test]
    fn foreign_objects_are_nobodys() {
        for foreign in [
            "readme.md",
            "_chatlake",
            "_chatlake/log/42.json",
            "_chatlake/log/00000000000000000042.json.bak",
            "_chatlake/messages/event_date=2026-01-01/a.parquet",
            "quarantine/snapshot_date=2026-01-01/a.parquet",
            "messages/a.parquet",
            "messages/event_date=2026-01-01/_SUCCESS",
            "messages/plain/a.parquet",
            "user_exports/users/a.parquet",
            "user_exports/a/b/event_date=2026-01-01/a.parquet",
            "_delta_log/00000000000000000042.json",
        ] {
            assert_eq!(Key::parse(&Path::from(foreign)), None, "{foreign}");
        }
    }
}
