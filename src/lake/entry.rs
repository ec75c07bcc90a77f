//! One commit, as it is written to the log. Entries are never changed, so what is here is a format: fields may be added
//! with a default; a new action, or a new meaning, needs a higher [`READER_VERSION`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::layout::{self, Key};
use super::revisit::Revisit;
use super::user_export::UserExport;
use crate::columns::Columns;
use crate::error::{Error, Kind, Result};
use crate::kinds::Kinds;
use crate::window::Window;

/// The log format that this chatlake writes, and the highest that it reads.
pub const READER_VERSION: u32 = 1;

/// One commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The lowest version that understands this entry.
    pub reader_version: u32,
    /// Its place in the log; the first is 1.
    pub number: u64,
    /// Tells our entry from another's after an answer was lost.
    pub commit_id: Uuid,
    /// Everything up to and with this entry is settled. Whoever puts an entry settles the one before first.
    pub settled: u64,
    /// It was put by a run with `--single-writer`: nothing kept another run from putting this number too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_writer: bool,
    /// What is done, in this order.
    pub actions: Vec<Action>,
    /// From here on, files have these columns besides those of the schemas. Such an entry does nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
}

/// One thing that a commit does. A reader that does not know an action must stop: it may change what is live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Fixes where automatic sync began. Only the first one counts.
    Origin(Timestamp),
    /// A cell is covered; covers that lie inside it are replaced.
    Cover(Cover),
    /// A file is live no more.
    Remove(Removed),
    /// A file is live.
    Add(DataFile),
    /// An earlier entry counts as never written, since its files were lost before they were settled.
    Void(Void),
    /// Users were exported. Such an entry adds their files and does nothing else.
    UserExport(UserExport),
}

/// That a cell was exported, and how completely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cover {
    /// The cell.
    pub window: Window,
    /// The creation of the earliest export task: what Stream held then is in here.
    pub exported_at: Timestamp,
    /// When only some channels were exported again: since when the rows of the others stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// The run that did it.
    pub run_id: Uuid,
    /// Exported again and found the same: the files of the cell stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_files: bool,
    /// What was asked for and what came.
    pub record: CellRecord,
}

/// How complete a cell is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CellRecord {
    /// Channels that were asked for.
    pub channels_asked: u64,
    /// Channels that came with at least one line.
    pub channels_returned: u64,
    /// The lists, or where they are.
    #[serde(flatten)]
    pub lists: Lists,
    /// Set when the lists were too long for the entry: they are an object of their own, and here are the channels that failed, if
    /// these are few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists_aside: Option<ListsAside>,
    /// Lines by kind.
    pub lines: BTreeMap<String, u64>,
    /// Rows by dataset.
    pub rows: BTreeMap<String, u64>,
    /// Lines that went to quarantine.
    pub rejected: u64,
    /// Lines that no dataset knows.
    pub unclassified: u64,
    /// The same by what they say they are. Entries of before have the number alone.
    #[serde(skip_serializing_if = "Kinds::is_empty")]
    pub unclassified_kinds: Kinds,
    /// Rows outside of what was asked for.
    pub out_of_window: u64,
    /// Rows that were committed before and are not delivered any more.
    pub vanished: u64,
    /// Bytes downloaded.
    pub bytes_downloaded: u64,
    /// An order-free hash of the rows, by dataset: 128 bits in hexadecimal.
    pub content: BTreeMap<String, String>,
    /// The latest revisits of the cell and of those that it replaced, with what each of them found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revisits: Vec<Revisit>,
}

/// The lists of a [`CellRecord`] or a [`UserExport`], which grow with the number of channels or users.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lists {
    /// Channels that Stream does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_channels: Vec<String>,
    /// Channels whose export failed for good.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_channels: Vec<Exception>,
    /// Users that Stream does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_users: Vec<String>,
    /// Users who could not be exported.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_users: Vec<FailedUser>,
    /// The export tasks that the rows came from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub task_ids: Vec<String>,
}

/// A channel that is not in the cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// `type:id`.
    pub cid: String,
    /// What Stream said.
    pub reason: String,
}

/// A user who could not be exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedUser {
    /// Who.
    pub user_id: String,
    /// What Stream said.
    pub reason: String,
}

/// Where long lists are, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListsAside {
    /// The name and the hash of the object.
    pub xxh3: String,
    /// How many channels are missing.
    pub missing_channels: u64,
    /// How many channels failed.
    pub failed_channels: u64,
    /// How many tasks there were.
    pub task_ids: u64,
}

/// A file that is not live any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The file's id.
    pub id: String,
}

/// What a void undoes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Void {
    /// The entry.
    pub entry: u64,
    /// Files that it replaced and that are gone as well. Their cells are uncovered; all others are as they were before.
    pub lost: Vec<String>,
}

/// One Parquet file: first staged, then, by its entry, live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// The dataset.
    pub dataset: String,
    /// `event_date=2026-01-31`: the folders below the dataset's.
    pub partition: String,
    /// The cell whose rows these are: they go when it is replaced. Snapshots and quarantine have none and stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<Window>,
    /// The name, unique in the lake and for all time, without `.parquet`.
    pub id: String,
    /// The run that staged it.
    pub run_id: Uuid,
    /// Rows.
    pub rows: u64,
    /// Encoded size.
    pub bytes: u64,
    /// XXH3 of the bytes: 64 bits in hexadecimal.
    pub xxh3: String,
    /// The earliest `created_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_created_at: Option<Timestamp>,
    /// The latest `created_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_created_at: Option<Timestamp>,
}

impl Cover {
    /// What Stream held then is in the cell for every channel.
    pub fn complete_at(&self) -> Timestamp {
        self.as_of.unwrap_or(self.exported_at)
    }

    /// What this export found, if it was one of a cell that had been exported before.
    pub fn revisit(&self) -> Option<&Revisit> {
        self.record.revisits.last().filter(|revisit| revisit.exported_at == self.exported_at)
    }
}

impl DataFile {
    /// Where readers find it once it is settled.
    pub fn key(&self) -> Key {
        Key::Data { dataset: self.dataset.clone(), partition: self.partition.clone(), file: self.id.clone() }
    }

    /// Where it is until then.
    pub fn staged_key(&self) -> Key {
        Key::Staged { run_id: self.run_id, file: self.id.clone() }
    }

    /// Whether its names make a key that is parsed back as the same.
    pub(crate) fn is_well_named(&self) -> bool {
        layout::is_dataset(&self.dataset) && layout::is_partition(&self.partition) && layout::is_name(&self.id)
    }
}

impl Lists {
    /// How many elements there are in all.
    pub fn len(&self) -> usize {
        let channels = self.missing_channels.len() + self.failed_channels.len();
        channels + self.missing_users.len() + self.failed_users.len() + self.task_ids.len()
    }

    /// Whether there is nothing in them.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of their own object, and its name, which is their hash.
    pub(crate) fn to_json(&self) -> (String, Vec<u8>) {
        let bytes = serde_json::to_vec(self).expect("lists are texts only");
        (content_name(&bytes), bytes)
    }

    /// Reads the object of this name; refuses it if it is not what was written.
    pub fn from_json(name: &str, bytes: &[u8]) -> Result<Self> {
        let damaged = || {
            Error::new(Kind::Data, format!("`{}` is not what was written", Key::Lists(name.to_owned())))
                .hint("restore it from a version or a backup of the bucket")
        };
        if content_name(bytes) != name {
            return Err(damaged());
        }
        serde_json::from_slice(bytes).map_err(|error| damaged().because(error))
    }
}

fn content_name(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

impl CellRecord {
    /// How many channels Stream does not know.
    pub fn missing_channels(&self) -> u64 {
        self.lists_aside.as_ref().map_or(self.lists.missing_channels.len() as u64, |aside| aside.missing_channels)
    }

    /// How many channels could not be exported.
    pub fn failed_channels(&self) -> u64 {
        self.lists_aside.as_ref().map_or(self.lists.failed_channels.len() as u64, |aside| aside.failed_channels)
    }
}

impl Action {
    /// The name of the object that has the lists of this, if it is aside.
    pub(crate) fn lists_aside(&self) -> Option<&str> {
        match self {
            Self::Cover(cover) => cover.record.lists_aside.as_ref().map(|aside| aside.xxh3.as_str()),
            Self::UserExport(export) => export.lists_aside.as_deref(),
            _ => None,
        }
    }
}

impl Entry {
    /// The bytes of the object. The same entry is always the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an entry has string keys and finite numbers only")
    }

    /// Reads an entry; refuses one that needs a newer reader, before looking at what it does.
    pub fn from_json(number: u64, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            reader_version: u32,
        }
        let key = Key::Entry(number);
        let broken = |error: serde_json::Error| {
            Error::new(Kind::Data, format!("`{key}` is no entry of the lake's log"))
                .because(error)
                .hint("the log is never edited: restore the object from a version or a backup of the bucket")
        };
        let head: Head = serde_json::from_slice(bytes).map_err(broken)?;
        if head.reader_version > READER_VERSION {
            let message =
                format!("`{key}` needs format {}, this chatlake reads up to {READER_VERSION}", head.reader_version);
            return Err(Error::new(Kind::Usage, message).hint("use the newer chatlake that wrote to this lake"));
        }
        serde_json::from_slice(bytes).map_err(broken)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lake::{Ages, Changes};

    fn revisit() -> Revisit {
        let window = Window::day_of("2026-01-01T00:00:00Z".parse().unwrap());
        let mut ages = Ages::default();
        ages.count(jiff::SignedDuration::from_hours(30));
        Revisit {
            window,
            exported_at: window.until,
            previous_exported_at: window.since,
            messages: Changes { inserted: 13, edited: 14, vanished: 15, incomparable: 16, ages },
            reactions: Changes::default(),
        }
    }

    fn entry() -> Entry {
        let window = Window::day_of("2026-01-01T00:00:00Z".parse().unwrap());
        let run_id = Uuid::from_u128(7);
        Entry {
            reader_version: READER_VERSION,
            number: 3,
            commit_id: Uuid::from_u128(9),
            settled: 2,
            single_writer: false,
            actions: vec![
                Action::Origin(window.since),
                Action::Cover(Cover {
                    window,
                    exported_at: window.until,
                    run_id,
                    as_of: None,
                    keep_files: false,
                    record: CellRecord {
                        channels_asked: 2,
                        lists: Lists { missing_channels: vec!["messaging:gone".into()], ..Lists::default() },
                        rows: [("messages".to_owned(), 5)].into(),
                        revisits: vec![revisit()],
                        ..CellRecord::default()
                    },
                }),
                Action::Remove(Removed { id: "old".into() }),
                Action::Add(DataFile {
                    dataset: "messages".into(),
                    partition: "event_date=2026-01-01".into(),
                    cell: Some(window),
                    id: "new".into(),
                    run_id,
                    rows: 5,
                    bytes: 100,
                    xxh3: "0123456789abcdef".into(),
                    min_created_at: Some(window.since),
                    max_created_at: Some(window.since),
                }),
                Action::Void(Void { entry: 2, lost: vec!["older".into()] }),
            ],
            columns: None,
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = entry();
        assert_eq!(Entry::from_json(3, &entry.to_json()).unwrap(), entry);
    }

    #[test]
    fn a_record_is_read_with_every_field() {
        let mut kinds = Kinds::default();
        kinds.add("device", 9);
        let record = CellRecord {
            channels_asked: 1,
            channels_returned: 2,
            lists: Lists {
                missing_channels: vec!["a:1".into()],
                failed_channels: vec![Exception { cid: "a:2".into(), reason: "failed".into() }],
                missing_users: vec!["u".into()],
                failed_users: vec![FailedUser { user_id: "v".into(), reason: "too much".into() }],
                task_ids: vec!["t".into()],
            },
            lists_aside: Some(ListsAside { xxh3: "x".into(), missing_channels: 3, failed_channels: 4, task_ids: 5 }),
            lines: [("message".to_owned(), 6)].into(),
            rows: [("messages".to_owned(), 7)].into(),
            rejected: 8,
            unclassified: 9,
            unclassified_kinds: kinds,
            out_of_window: 10,
            vanished: 11,
            bytes_downloaded: 12,
            content: [("messages".to_owned(), "f".to_owned())].into(),
            revisits: vec![revisit()],
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<CellRecord>(&text).unwrap(), record);
        assert_eq!(serde_json::from_str::<CellRecord>("{}").unwrap(), CellRecord::default());
    }

    #[test]
    fn the_format_is_a_contract() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&entry()).unwrap());
    }

    #[test]
    fn the_format_of_a_user_export_is_a_contract() {
        let mut other_kinds = Kinds::default();
        other_kinds.add("call", 3);
        let export = UserExport {
            run_id: Uuid::from_u128(7),
            runs: [Uuid::from_u128(5), Uuid::from_u128(7)].into(),
            asked: 4,
            returned: 2,
            missing: 1,
            failed: 1,
            lists: Lists {
                missing_users: vec!["gone".into()],
                failed_users: vec![FailedUser { user_id: "busy".into(), reason: "more than 10000 messages".into() }],
                task_ids: vec!["t".into()],
                ..Lists::default()
            },
            lines: [("messages".to_owned(), 5)].into(),
            rows: [("messages".to_owned(), 5)].into(),
            other_kinds,
            ..UserExport::default()
        };
        let action = Action::UserExport(export);
        let text = serde_json::to_string_pretty(&action).unwrap();
        assert_eq!(serde_json::from_str::<Action>(&text).unwrap(), action);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn an_entry_of_a_single_writer_says_so_and_no_other_mentions_it() {
        let text = |entry: &Entry| String::from_utf8(entry.to_json()).unwrap();
        assert!(!text(&entry()).contains("single_writer"));
        let single = Entry { single_writer: true, ..entry() };
        assert!(text(&single).contains(r#""single_writer":true"#));
        assert_eq!(Entry::from_json(3, &single.to_json()).unwrap(), single);
    }

    #[test]
    fn an_unknown_action_is_refused() {
        let text = String::from_utf8(entry().to_json()).unwrap().replace("\"void\"", "\"compact\"");
        let error = Entry::from_json(3, text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.report().contains("unknown variant `compact`"), "{}", error.report());
    }

    #[test]
    fn a_newer_format_is_refused_before_its_actions_are_read() {
        let error = Entry::from_json(3, br#"{"reader_version": 2, "actions": [{"compact": {}}]}"#).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.report().contains("newer chatlake"), "{}", error.report());
    }

    #[test]
    fn counts_are_those_of_the_lists_wherever_they_are() {
        let mut record = CellRecord::default();
        record.lists.missing_channels.push("messaging:gone".into());
        assert_eq!((record.missing_channels(), record.failed_channels()), (1, 0));
        record.lists = Lists::default();
        record.lists_aside =
            Some(ListsAside { xxh3: "a".into(), missing_channels: 5000, failed_channels: 3, task_ids: 1 });
        assert_eq!((record.missing_channels(), record.failed_channels()), (5000, 3));
    }
}
