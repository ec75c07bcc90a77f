//! `chatlake.toml`: what every run of a lake has in common, and what is too much for flags.
//!
//! ```toml
//! lake = "s3://bucket/chat"
//! window = "1h"
//!
//! [promote.messages]
//! order_id = "int64"
//! amount = { type = "float64", path = ["order", "amount"], unit = "EUR" }
//!
//! [exclude]
//! messages = ["html", "custom.ssn", "attachments[].author_link"]
//! users = ["email"]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use toml::Table;

use crate::columns::{Columns, Promoted, Schemas, Wanted};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::schema::Kind;

/// A configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Values of options by their keys. Nobody has looked yet whether there are such options.
    pub options: Table,
    /// Columns.
    pub wanted: Wanted,
}

/// The sections of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sections {
    promote: BTreeMap<String, BTreeMap<String, Promotion>>,
    exclude: BTreeMap<String, BTreeSet<String>>,
}

/// The names of the sections.
pub const SECTIONS: [&str; 2] = ["promote", "exclude"];

/// `"int64"`, or a table with more to say.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a type (string, int64, float64, bool, timestamp, json), or a table such as { type = \"int64\", path = \"key\" }"
)]
enum Promotion {
    Type(Kind),
    Table(PromotionTable),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PromotionTable {
    #[serde(rename = "type")]
    kind: Kind,
    path: Option<Keys>,
    doc: Option<String>,
    unit: Option<String>,
}

/// `"key.inner"`, or the keys one by one, where one has a dot in it.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a path such as \"order.amount\" or [\"order\", \"amount\"]")]
enum Keys {
    Dotted(String),
    List(Vec<String>),
}

/// Reads a configuration and checks its sections.
pub fn read(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(ErrorKind::Usage, format!("cannot read the configuration {}", path.display()))
            .because(error)
            .hint("check --config and CHATLAKE_CONFIG")
    })?;
    parse(&text, path)
}

/// Parses a configuration and checks its sections. `path` is what errors call it.
pub fn parse(text: &str, path: &Path) -> Result<Config> {
    let refused = |error: toml::de::Error| {
        Error::new(ErrorKind::Usage, format!("cannot understand the configuration {}", path.display()))
            .because(error)
            .hint("`chatlake init -` prints one with every key explained; docs/columns.md has more on the sections [promote.<dataset>] and [exclude]")
    };
    // Both from the text: an error tells its line.
    let Sections { promote, exclude } = toml::from_str(text).map_err(refused)?;
    let mut options: Table = toml::from_str(text).map_err(refused)?;
    SECTIONS.iter().for_each(|section| drop(options.remove(*section)));
    let promote = promote.into_iter().flat_map(|(dataset, columns)| {
        columns.into_iter().map(move |(name, promotion)| promotion.into_column(dataset.clone(), name))
    });
    let wanted = Wanted { promote: promote.collect(), exclude, lifts_exclusions: false };
    // What no lake could have is told before anything is asked of Stream.
    Schemas::new(&Columns::default().with(&wanted)?)?;
    Ok(Config { options, wanted })
}

impl Promotion {
    fn into_column(self, dataset: String, name: String) -> Promoted {
        let PromotionTable { kind, path, doc, unit } = match self {
            Self::Type(kind) => PromotionTable { kind, path: None, doc: None, unit: None },
            Self::Table(table) => table,
        };
        let path = match path {
            None => vec![name.clone()],
            Some(Keys::Dotted(path)) => path.split('.').map(str::to_owned).collect(),
            Some(Keys::List(keys)) => keys,
        };
        Promoted { dataset, name, kind, path, active: true, doc, unit }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Wanted> {
        parse(text, Path::new("chatlake.toml")).map(|config| config.wanted)
    }

    #[test]
    fn every_form_is_read() {
        let wanted = parsed(
            r#"
            [promote.messages]
            order_id = "int64"
            amount = { type = "float64", path = "order.amount", unit = "EUR", doc = "What it cost" }
            odd = { type = "json", path = ["a.b", "c"] }
            [promote.users]
            plan = "string"
            [exclude]
            messages = ["html", "custom.ssn"]
            "#,
        )
        .unwrap();
        let columns: Vec<String> = wanted.promote.iter().map(ToString::to_string).collect();
        assert_eq!(
            columns,
            [
                "messages.amount float64 from `order.amount`",
                "messages.odd json from `a.b.c`",
                "messages.order_id int64",
                "users.plan string"
            ]
        );
        assert_eq!(wanted.promote[1].path, ["a.b", "c"]);
        assert_eq!(wanted.promote[0].unit.as_deref(), Some("EUR"));
        assert_eq!(wanted.exclude["messages"].len(), 2);
        assert_eq!(parsed("").unwrap(), Wanted::default());
    }

    #[test]
    fn mistakes_are_told_by_their_place_and_what_would_be_right() {
        let reports: Vec<String> = [
            "[promote.messages]\norder_id = \"integer\"",
            "[promote.messages]\norder_id = { path = \"x\" }",
            "[promote.messages]\ntext = \"string\"",
            "[promote.orders]\nid = \"string\"",
            "[exclude]\nmessages = \"html\"",
            "[exclude]\nmessages = [\"id\"]",
            "promote = 1",
        ]
        .into_iter()
        .map(|text| parsed(text).unwrap_err().report())
        .collect();
        insta::assert_snapshot!(reports.join("\n\n"));
    }
}
