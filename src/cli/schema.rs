//! `chatlake schema`.

use clap::{Args, ValueEnum};

use super::{LakeArg, PartitionBy, usage};
use crate::ddl::{Ddl, Engine};
use crate::error::Result;
use crate::inspect::shape::Shape;
use crate::reference::Form;

/// `chatlake schema`
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// One dataset [default: all]
    pub dataset: Option<String>,
    /// Which lake, for the columns that it has besides and those that it leaves out.
    #[command(flatten)]
    pub lake: LakeArg,
    /// How to show it
    #[arg(long, value_enum, default_value_t = SchemaFormat::Table)]
    pub format: SchemaFormat,
    /// Whose SQL it is
    #[arg(long, value_enum, help_heading = "For --format ddl and views")]
    pub engine: Option<Engine>,
    /// Where the engine finds the lake [default: where --lake is, or a placeholder]
    #[arg(long, value_name = "URL", help_heading = "For --format ddl and views")]
    pub location: Option<String>,
    /// Partition folders of messages and reactions [default: as the lake has them, or event_date]
    #[arg(
        long,
        value_name = "COLUMNS",
        env = "CHATLAKE_PARTITION_BY",
        value_enum,
        help_heading = "For --format ddl and views"
    )]
    pub partition_by: Option<PartitionBy>,
}

/// How a schema is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaFormat {
    /// For people.
    Table,
    /// As in `schemas/`.
    Json,
    /// Arrow types.
    Arrow,
    /// Tables for a page.
    Markdown,
    /// SQL that shows the files to a query engine as tables.
    Ddl,
    /// SQL for views of those tables: the latest row of each channel, member and user, and what has not vanished.
    Views,
}

impl SchemaArgs {
    /// The form that these flags ask for, of a lake if one is named.
    pub fn form(&self, lake: Option<&Shape>) -> Result<Form> {
        const ENGINES: &str = "duckdb, trino, athena or spark";
        match (self.format, self.engine) {
            (SchemaFormat::Ddl, Some(engine)) => Ok(Form::Ddl(self.ddl(engine, lake))),
            (SchemaFormat::Views, Some(engine)) => Ok(Form::Views(self.ddl(engine, lake))),
            (SchemaFormat::Ddl | SchemaFormat::Views, None) => {
                Err(usage("SQL is written for one engine, and none is named")
                    .hint(format!("add --engine with {ENGINES}")))
            }
            (_, Some(_)) => Err(usage("--engine does nothing without --format ddl or views")
                .hint(format!("write --format ddl --engine with {ENGINES}, or leave out --engine"))),
            (SchemaFormat::Table, None) => Ok(Form::Table),
            (SchemaFormat::Json, None) => Ok(Form::Json),
            (SchemaFormat::Arrow, None) => Ok(Form::Arrow),
            (SchemaFormat::Markdown, None) => Ok(Form::Markdown),
        }
    }

    fn ddl(&self, engine: Engine, lake: Option<&Shape>) -> Ddl {
        Ddl {
            engine,
            location: self.location.clone().or_else(|| lake.map(|lake| lake.location.clone())),
            by_channel_type: match self.partition_by {
                Some(partition_by) => partition_by == PartitionBy::ChannelType,
                None => lake.and_then(|lake| lake.by_channel_type).unwrap_or_default(),
            },
        }
    }
}
