//! Whose lake this is, fixed by the first run: a run that differs would cover cells with other rows than they claim.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::Lake;
use super::layout::Key;
use super::store_error::store_error;
use crate::error::{Error, Kind, Result};

/// Channels that `lake.json` names itself.
const MAX_INLINE: usize = 1000;

/// The lake format that this chatlake writes and reads.
pub const FORMAT: u32 = 1;

/// What all rows of a lake have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The version of the layout.
    pub format: u32,
    /// The public key of the Stream app; empty for a lake made from files of an unknown app.
    pub app_key: String,
    /// Where the rows come from.
    pub source: Source,
    /// Which channels.
    pub selection: Selection,
    /// What else is exported.
    pub include: Include,
    /// The partition columns of the datasets that have a date of their own.
    pub partition_by: Vec<String>,
}

/// Where the rows of a lake come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Exports that chatlake asks for.
    Stream,
    /// Exports on disk.
    Files,
}

/// Which channels a lake holds. All of them unless something is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Only these, as `type:id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// Only those of a list that lies beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels_file: Option<ListedAside>,
    /// Only of these types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channel_types: Vec<String>,
    /// Only those that match this QueryChannels filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Value>,
}

/// A list of channels that is too long for `lake.json`: an object with a cid to a line, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedAside {
    /// Channels in it.
    pub channels: u64,
    /// The hash of its content, which names it.
    pub xxh3: String,
}

impl Selection {
    /// A selection of exactly these channels; of all if there are none.
    pub fn of_channels(cids: &[String]) -> Self {
        if cids.len() <= MAX_INLINE {
            return Self { channels: (!cids.is_empty()).then(|| cids.to_vec()), ..Self::default() };
        }
        let (xxh3, _) = list(cids);
        Self { channels_file: Some(ListedAside { channels: cids.len() as u64, xxh3 }), ..Self::default() }
    }
}

/// A list as an object, and its name.
fn list(cids: &[String]) -> (String, Vec<u8>) {
    let mut cids: Vec<&str> = cids.iter().map(String::as_str).collect();
    cids.sort_unstable();
    let mut bytes = Vec::with_capacity(cids.iter().map(|cid| cid.len() + 1).sum());
    for cid in cids {
        bytes.extend_from_slice(cid.as_bytes());
        bytes.push(b'\n');
    }
    (format!("{:032x}", xxh3_128(&bytes)), bytes)
}

/// The export options that decide which rows come, and what is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Include {
    /// Messages that were truncated.
    pub truncated_messages: bool,
    /// Channels that were deleted softly.
    pub soft_deleted_channels: bool,
    /// The text of deleted messages is blanked.
    pub clear_deleted_message_text: bool,
    /// The users of each channel.
    pub users: bool,
}

impl Identity {
    /// Reads the object.
    pub fn from_json(bytes: &[u8], lake: &str) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::new(Kind::Usage, format!("`{}` at {lake} is not a lake's identity", Key::Identity))
                .because(error)
                .hint("use a chatlake at least as new as the one that made this lake, or another --lake")
        })
    }

    /// The same identity, spelled the one way: lists sorted and without repetition.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        if let Some(channels) = &mut self.selection.channels {
            channels.sort_unstable();
            channels.dedup();
        }
        self.selection.channel_types.sort_unstable();
        self.selection.channel_types.dedup();
        self
    }

    /// Field by field, where `wanted` differs: `(field, in the lake, wanted)`.
    pub fn differences(&self, wanted: &Self) -> Vec<(String, String, String)> {
        let fields = |identity: &Self| {
            let mut fields = BTreeMap::new();
            let json = serde_json::to_value(identity.clone().normalized());
            flatten("", json.unwrap_or_default(), &mut fields);
            fields
        };
        let (here, wanted) = (fields(self), fields(wanted));
        let names: std::collections::BTreeSet<&String> = here.keys().chain(wanted.keys()).collect();
        let show = |value: Option<&Value>| value.map_or("not set".to_owned(), |value| shorten(&value.to_string()));
        names
            .into_iter()
            .filter(|name| here.get(*name) != wanted.get(*name))
            .map(|name| (name.clone(), show(here.get(name)), show(wanted.get(name))))
            .collect()
    }

    /// Refuses a lake that needs a newer chatlake.
    pub fn check_format(&self, lake: &str) -> Result<()> {
        if self.format > FORMAT {
            let message = format!("the lake at {lake} has format {}, this chatlake knows up to {FORMAT}", self.format);
            return Err(Error::new(Kind::Usage, message).hint("use the newer chatlake that made this lake"));
        }
        Ok(())
    }

    /// Refuses a run that wants something else than the lake is.
    pub fn check(&self, wanted: &Self, lake: &str) -> Result<()> {
        self.check_format(lake)?;
        let differences = self.differences(wanted);
        if differences.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = differences
            .iter()
            .map(|(field, here, wanted)| format!("`{field}` is {here} in the lake and {wanted} in this run"))
            .collect();
        let message = format!("the lake at {lake} was made for something else: {}", list.join("; "));
        Err(Error::new(Kind::Usage, message)
            .hint("run with the settings of the lake, or choose another --lake for the new ones"))
    }
}

/// Objects become dotted fields, so that a difference names the setting and not the whole.
fn flatten(name: &str, value: Value, fields: &mut BTreeMap<String, Value>) {
    match value {
        // A filter is one setting: its insides are the user's.
        Value::Object(object) if name != "selection.filter" => {
            for (key, value) in object {
                let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                flatten(&name, value, fields);
            }
        }
        value => {
            fields.insert(name.to_owned(), value);
        }
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}... ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

impl Lake {
    /// Whose lake this is; `None` where there is none.
    pub async fn identity(&self) -> Result<Option<Identity>> {
        let cannot = |error| store_error("cannot read whose lake this is", self.display_url(), error);
        let bytes = match self.store().get(&Key::Identity.path()).await {
            Ok(found) => found.bytes().await.map_err(cannot)?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(cannot(error)),
        };
        Identity::from_json(&bytes, self.display_url()).map(Some)
    }

    /// The channels that a lake holds; none: all that its selection allows otherwise.
    pub async fn channels(&self, selection: &Selection) -> Result<Option<Arc<[String]>>> {
        let Some(aside) = &selection.channels_file else {
            return Ok(selection.channels.as_ref().map(|cids| cids.as_slice().into()));
        };
        let key = Key::Channels(aside.xxh3.clone());
        let wrong = |what: &str| {
            Error::new(Kind::Data, format!("`{key}` {what}, and `{}` refers to it", Key::Identity)).hint(
                "restore it from a version or a backup of the bucket, or put the --channels-file there in order: its hash decides",
            )
        };
        let cannot = |error| store_error("cannot read the lake's channels", self.display_url(), error);
        let bytes = match self.store().get(&key.path()).await {
            Ok(found) => found.bytes().await.map_err(cannot)?,
            Err(object_store::Error::NotFound { .. }) => return Err(wrong("is gone")),
            Err(error) => return Err(cannot(error)),
        };
        if format!("{:032x}", xxh3_128(&bytes)) != aside.xxh3 {
            return Err(wrong("is damaged"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is no text"))?;
        Ok(Some(text.lines().map(str::to_owned).collect()))
    }

    /// Writes the list of channels that an identity refers to, unless it is there.
    pub async fn put_channels(&self, selection: &Selection, cids: &[String]) -> Result<()> {
        let Some(aside) = &selection.channels_file else { return Ok(()) };
        let path = Key::Channels(aside.xxh3.clone()).path();
        let cannot = |error| store_error("cannot write the lake's channels", self.display_url(), error);
        match self.store().head(&path).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::NotFound { .. }) => {
                self.store().put(&path, PutPayload::from(list(cids).1)).await.map(drop).map_err(cannot)
            }
            Err(error) => Err(cannot(error)),
        }
    }

    /// Makes sure that this lake is `wanted`: claims it when nobody has, refuses any other.
    pub async fn ensure_identity(&self, wanted: &Identity) -> Result<()> {
        let lake = self.display_url();
        if let Some(identity) = self.identity().await? {
            return identity.check(wanted, lake);
        }
        let bytes = serde_json::to_vec_pretty(&wanted.clone().normalized())
            .map_err(|error| Error::new(Kind::Internal, "cannot write the lake's identity").because(error))?;
        let put = self.store().put_opts(&Key::Identity.path(), bytes.into(), PutOptions::from(PutMode::Create)).await;
        // An error may hide a success, and a conflict may be with a run that wants the same: the object decides.
        match (self.identity().await?, put) {
            (Some(identity), _) => identity.check(wanted, lake),
            (None, Err(error)) => Err(store_error("cannot make the lake", lake, error)),
            (None, Ok(_)) => Err(Error::new(Kind::UnsafeStore, format!("{lake} lost an object that it had accepted"))
                .hint("choose a store that reads what was written")),
        }
    }
}
