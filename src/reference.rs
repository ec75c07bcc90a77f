//! A schema as people and programs read it.

use crate::ddl::{Ddl, Engine};
use crate::lake::layout::Key;
use crate::schema::{Column, Context, Kind, Schema, Source};

/// The form in which schemas are shown.
#[derive(Clone, Debug)]
pub enum Form {
    /// Lines for a terminal.
    Table,
    /// As in `schemas/`.
    Json,
    /// Arrow types.
    Arrow,
    /// Tables for a page.
    Markdown,
    /// SQL: tables.
    Ddl(Ddl),
    /// SQL: views of those.
    Views(Ddl),
}

impl Form {
    /// Whether it is of no use for a dataset without files: DuckDB takes a view's columns from what it reads.
    pub fn needs_files(&self) -> bool {
        matches!(self, Self::Ddl(ddl) | Self::Views(ddl) if ddl.engine == Engine::Duckdb)
    }

    /// The text of one schema.
    pub fn show(&self, schema: &Schema) -> String {
        match self {
            Self::Table => table(schema),
            Self::Json => serde_json::to_string_pretty(schema).unwrap_or_default() + "\n",
            Self::Arrow => arrow(schema),
            Self::Markdown => markdown(schema),
            Self::Ddl(ddl) => ddl.table(schema),
            Self::Views(ddl) => ddl.view(schema),
        }
    }
}

fn table(schema: &Schema) -> String {
    let mut text = format!(
        "{}: {}\n  folders {}, rows sorted by {}\n",
        schema.dataset,
        schema.doc,
        folders(schema),
        schema.sort.join(", ")
    );
    schema.columns.iter().for_each(|column| table_line(column, 2, &mut text));
    text
}

fn table_line(column: &Column, indent: usize, text: &mut String) {
    let unit = column.unit.as_deref().map(|unit| format!(" [{unit}]")).unwrap_or_default();
    let null = column.null_when.as_deref().map(|when| format!(" Null: {when}.")).unwrap_or_default();
    let sources: Vec<String> = column.sources.iter().map(ToString::to_string).collect();
    let name = format!("{:indent$}{}", "", column.name);
    let doc = column.doc.trim_end_matches('.');
    text.push_str(&format!(
        "{name:<30} {:<18} {doc}{unit}.{null} From {}.\n",
        column.kind.to_string(),
        sources.join(", ")
    ));
    column.fields.iter().for_each(|field| table_line(field, indent + 2, text));
}

fn arrow(schema: &Schema) -> String {
    let arrow = schema.arrow();
    let fields = arrow.fields().iter().map(|field| {
        let null = if field.is_nullable() { "" } else { " not null" };
        format!("  {}: {}{null}\n", field.name(), field.data_type())
    });
    format!("{}\n{}", schema.dataset, fields.collect::<String>())
}

fn markdown(schema: &Schema) -> String {
    let list = |columns: &[String]| columns.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "### {}\n\n{}\n\nKey: {}. Folders: `{}`. Sorted by: {}.\n\n\
         | column | type | meaning | unit | null when | from the JSON |\n|---|---|---|---|---|---|\n",
        schema.dataset,
        schema.doc,
        list(&schema.key),
        folders(schema),
        list(&schema.sort)
    );
    let day = schema.partition_by;
    text.push_str(&format!("| `{}` | `date` | {} |  | never | the folder |\n", day.column(), day.doc()));
    schema.columns.iter().for_each(|column| markdown_line(column, None, &mut text));
    text
}

/// A column or, within one of another name and origin, a field of it.
fn markdown_line(column: &Column, within: Option<(&str, &str)>, text: &mut String) {
    let name = within.map_or_else(|| column.name.clone(), |(name, _)| format!("{name}.{}", column.name));
    let origin: Vec<String> = column.sources.iter().map(|source| from(source, within.map(|(_, path)| path))).collect();
    let cell = |text: &str| text.trim_end_matches('.').replace('|', "\\|").replace('\n', " ");
    text.push_str(&format!(
        "| `{name}` | `{}` | {} | {} | {} | {} |\n",
        column.kind,
        cell(&column.doc),
        cell(column.unit.as_deref().unwrap_or_default()),
        cell(column.null_when.as_deref().unwrap_or("never")),
        origin.join(", or ")
    ));
    let path = column.sources.first().map(|source| join(within.map(|(_, path)| path), &source.to_string()));
    let brackets = if column.kind == Kind::StructList { "[]" } else { "" };
    for field in &column.fields {
        markdown_line(field, Some((&format!("{name}{brackets}"), path.as_deref().unwrap_or_default())), text);
    }
}

/// Where a value stands in its object, which itself may stand within another.
fn from(source: &Source, within: Option<&str>) -> String {
    match source {
        Source::Path(_) | Source::Each { .. } | Source::Entries(_) => {
            format!("`{}`", join(within, &source.to_string()))
        }
        Source::Join(a, b) => format!("`{}` and `{}`, joined by a colon", join(within, a), join(within, b)),
        Source::Rest => {
            within.map_or_else(|| "every other key".to_owned(), |path| format!("every other key of `{path}`"))
        }
        Source::Misfits => "any key".to_owned(),
        Source::Context(context) => match context {
            Context::Cid => "the channel around it",
            Context::MessageId => "`id` of the message around it",
            Context::MessageCreatedAt => "`created_at` of the message around it",
            Context::ExportedAt => "the export task's `created_at`",
            Context::ExportTaskId => "the export task's `task_id`",
            Context::VanishedAt => "the export task's `created_at`, of a later export",
            Context::EntryKey => "the key of the entry",
            Context::Raw => "the whole object",
            Context::Owner => "the user that was asked for",
            Context::Reject(_) => "chatlake, as it read the line",
        }
        .to_owned(),
    }
}

fn join(within: Option<&str>, path: &str) -> String {
    within.map_or_else(|| path.to_owned(), |within| format!("{within}.{path}"))
}

fn folders(schema: &Schema) -> String {
    format!("{}/{}=YYYY-MM-DD", Key::folder(&schema.name()), schema.partition_by.column())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::schema;

    const BEGIN: &str = "<!-- begin: what the schemas say -->\n";
    const END: &str = "<!-- end: what the schemas say -->\n";

    #[test]
    fn the_page_of_datasets_says_what_the_schemas_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/datasets.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let sections: Vec<String> = schema::all().iter().map(|schema| Form::Markdown.show(schema)).collect();
        let written = format!("{before}{BEGIN}\n{}\n{END}{after}", sections.join("\n"));
        if page == written {
            return;
        }
        if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
            std::fs::write(path, written).unwrap();
            return;
        }
        let line = page.lines().zip(written.lines()).position(|(is, should)| is != should).unwrap_or_default() + 1;
        panic!(
            "docs/datasets.md differs from schemas/ in line {line}; write it again by\n  \
             INSTA_UPDATE=always cargo nextest run -E 'test(the_page_of_datasets)'"
        );
    }

    #[test]
    fn a_field_is_shown_with_its_whole_path() {
        let text = Form::Markdown.show(&schema::find("messages").unwrap());
        assert!(text.contains("| `attachments[].type` | `string` | "), "{text}");
        assert!(text.contains("| `attachments[].type` |\n"), "{text}");
        assert!(text.contains("or `channel_type` and `channel_id`, joined by a colon"), "{text}");
        let mut rows = text.lines().filter(|line| line.starts_with("| "));
        assert!(rows.all(|row| row.matches(" | ").count() == 5), "{text}");
    }
}
