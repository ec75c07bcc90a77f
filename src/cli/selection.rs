//! Which channels a run exports, and what of them: what a lake is, once it was made.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use super::usage;
use crate::error::Result;
use crate::export::channel_list::{self, ListError};
use crate::export::{ChannelRef, ExportOptions, ExportVersion, Selection, check_filter};

/// Which channels, and what of them.
#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// Only this channel (type:id); may be repeated
    #[arg(
        long,
        value_name = "CID",
        env = "CHATLAKE_CHANNEL",
        value_delimiter = ',',
        help_heading = "Selection (part of the lake's identity)"
    )]
    pub channel: Vec<String>,
    /// Only the channels in this file, one to a line; `-` for standard input
    #[arg(
        long,
        value_name = "FILE",
        env = "CHATLAKE_CHANNELS_FILE",
        help_heading = "Selection (part of the lake's identity)"
    )]
    pub channels_file: Option<PathBuf>,
    /// Only channels of this type; may be repeated
    #[arg(
        long,
        value_name = "TYPE",
        env = "CHATLAKE_CHANNEL_TYPE",
        value_delimiter = ',',
        help_heading = "Selection (part of the lake's identity)"
    )]
    pub channel_type: Vec<String>,
    /// Only channels that match this filter of Stream's (JSON, or `@` and a file that holds it)
    #[arg(
        long,
        value_name = "JSON|@FILE",
        env = "CHATLAKE_FILTER",
        help_heading = "Selection (part of the lake's identity)"
    )]
    pub filter: Option<String>,
    /// Export truncated messages too
    #[arg(long, env = "CHATLAKE_INCLUDE_TRUNCATED_MESSAGES", help_heading = "Selection (part of the lake's identity)")]
    pub include_truncated_messages: bool,
    /// Export softly deleted channels too, those included that the lake remembers and Stream does not list
    #[arg(
        long,
        env = "CHATLAKE_INCLUDE_SOFT_DELETED_CHANNELS",
        help_heading = "Selection (part of the lake's identity)"
    )]
    pub include_soft_deleted_channels: bool,
    /// Blank the text of deleted messages
    #[arg(long, env = "CHATLAKE_CLEAR_DELETED_MESSAGE_TEXT", help_heading = "Selection (part of the lake's identity)")]
    pub clear_deleted_message_text: bool,
    /// Ask for user records too
    #[arg(long, env = "CHATLAKE_EXPORT_USERS", help_heading = "Selection (part of the lake's identity)")]
    pub export_users: bool,
}

impl SelectionArgs {
    /// Whether anything was said.
    pub fn is_given(&self) -> bool {
        said(&self.channel).next().is_some()
            || self.channels_file.is_some()
            || said(&self.channel_type).next().is_some()
            || self.filter().is_some()
            || self.export(ExportVersion::default()) != ExportOptions::default()
    }

    /// What is in an export.
    pub fn export(&self, version: ExportVersion) -> ExportOptions {
        ExportOptions {
            include_truncated_messages: self.include_truncated_messages,
            include_soft_deleted_channels: self.include_soft_deleted_channels,
            clear_deleted_message_text: self.clear_deleted_message_text,
            export_users: self.export_users,
            version,
        }
    }

    /// The channels.
    pub fn selection(&self) -> Result<Selection> {
        if let Some(cid) = said(&self.channel).find(|cid| ChannelRef::from_cid(cid).is_none()) {
            return Err(usage(format!("`{cid}` is no channel")).hint("write type:id, such as messaging:general"));
        }
        let channel_types: Vec<String> = said(&self.channel_type).cloned().collect();
        if let Some(wrong) = channel_types.iter().find(|name| name.contains(|c: char| c == ':' || c.is_whitespace())) {
            return Err(
                usage(format!("`{wrong}` is no channel type")).hint("write what stands before the colon of a cid")
            );
        }
        let mut cids = self.channels_file.as_deref().map(read_channels).transpose()?.unwrap_or_default();
        cids.extend(said(&self.channel).cloned());
        cids.sort_unstable();
        cids.dedup();
        let filter = self.filter().map(read_filter).transpose()?;
        if !cids.is_empty() && (filter.is_some() || !channel_types.is_empty()) {
            return Err(usage("--channel names the channels, so --channel-type and --filter would do nothing")
                .hint("leave out one of them"));
        }
        Ok(Selection { cids: cids.into(), channel_types, filter })
    }

    fn filter(&self) -> Option<&str> {
        self.filter.as_deref().filter(|filter| !filter.is_empty())
    }
}

/// A variable that is set to nothing says nothing.
fn said(list: &[String]) -> impl Iterator<Item = &String> {
    list.iter().filter(|one| !one.is_empty())
}

/// The channels of a file, or of standard input.
fn read_channels(path: &Path) -> Result<Vec<String>> {
    let read = match path.to_str() {
        Some("-") => channel_list::read(std::io::stdin().lock()),
        _ => std::fs::File::open(path)
            .map_err(ListError::from)
            .and_then(|file| channel_list::read(std::io::BufReader::new(file))),
    };
    read.map_err(|error| {
        let message = format!("--channels-file {} is no list of channels", path.display());
        usage(message).because(error).hint("write type:id, one to a line; lines that begin with # are passed over")
    })
}

/// A filter as it is typed, or from the file that is named after `@`.
fn read_filter(text: &str) -> Result<Map<String, Value>> {
    const FORM: &str = r#"write it as in QueryChannels: {"team":"blue"}; docs/selection.md has more"#;
    let text = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            usage(format!("cannot read the filter {path}")).because(error).hint("check --filter and CHATLAKE_FILTER")
        })?,
    };
    let filter: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| usage("--filter is no JSON object").because(error).hint(FORM))?;
    check_filter(&filter).map_err(|error| usage(format!("Stream would refuse --filter: {error}")).hint(FORM))?;
    Ok(filter)
}
