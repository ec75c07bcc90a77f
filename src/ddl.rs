//! A schema as the statement that shows its files to a query engine as a table, and as the view that most queries want.
//!
//! Sources: Trino's Hive connector (column types, `hive.timestamp-precision`, `hive.parquet.time-zone`,
//! `sync_partition_metadata`), Athena's partition projection, Spark's data source tables.

use clap::ValueEnum;

use crate::lake::layout::Key;
use crate::schema::{Column, Kind, PartitionBy, Schema};

/// The longest comment of a column that the Glue catalog takes; the Hive metastore takes one character more.
const MAX_COMMENT_CHARS: usize = 255;
/// Stands for the lake until someone says where it is.
const NO_LOCATION: &str = "s3://BUCKET/PREFIX";
/// Where projected days begin. Athena sees no row of an earlier one, so this is before any that an app may have imported.
const FIRST_DAY: &str = "2015-01-01";
/// The second partition column of messages and reactions, where a lake has one.
const CHANNEL_TYPE: &str = "channel_type";

/// Whose SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// DuckDB, where a table is a view of files.
    Duckdb,
    /// Trino with the Hive connector.
    Trino,
    /// Amazon Athena.
    Athena,
    /// Apache Spark.
    Spark,
}

/// What a table's statement depends on besides its schema.
#[derive(Clone, Debug)]
pub struct Ddl {
    /// Whose SQL it is.
    pub engine: Engine,
    /// Where the lake is, if that is known.
    pub location: Option<String>,
    /// Whether messages and reactions have folders by channel type too.
    pub by_channel_type: bool,
}

/// A partition column: its name, its type and what it means.
struct Partition {
    name: &'static str,
    kind: &'static str,
    doc: &'static str,
}

impl Ddl {
    /// The view of what is so now: the latest row of each channel, member or user, and messages and reactions that are still
    /// delivered. Nothing for datasets of which there is no such thing.
    pub fn view(&self, schema: &Schema) -> String {
        let table = self.name(&schema.dataset);
        let names = schema.columns.iter().map(|column| column.name.as_str());
        let partitions = self.partitions(schema.partition_by);
        let columns = names.chain(partitions.iter().map(|partition| partition.name)).map(|name| self.name(name));
        let columns: String = columns.collect::<Vec<_>>().join(", ");
        match schema.partition_by {
            PartitionBy::EventDate => {
                let name = self.name(&format!("current_{}", schema.dataset));
                format!(
                    "-- {table} without what Stream does not deliver any more.\nCREATE OR REPLACE VIEW {name} AS\n\
                     SELECT {columns}\nFROM {table}\nWHERE {vanished} IS NULL;\n",
                    vanished = self.name("_vanished_at"),
                )
            }
            PartitionBy::SnapshotDate if !schema.version_by.is_empty() => {
                let name = self.name(&format!("latest_{}", schema.dataset));
                let key: Vec<String> = schema.key.iter().map(|name| self.name(name)).collect();
                let latest = schema.version_by.iter().map(|name| format!("{} DESC NULLS LAST", self.name(name)));
                format!(
                    "-- The latest row for each {key}.\nCREATE OR REPLACE VIEW {name} AS\nSELECT {columns}\nFROM (\n  \
                     SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {latest}) AS nth_latest\n  FROM {table}\n) AS numbered\n\
                     WHERE nth_latest = 1;\n",
                    key = key.join(", "),
                    latest = latest.collect::<Vec<_>>().join(", "),
                )
            }
            PartitionBy::SnapshotDate | PartitionBy::ExportDate => String::new(),
        }
    }

    /// A name in a query: Athena reads those as Trino does.
    fn name(&self, name: &str) -> String {
        match self.engine {
            Engine::Athena => Self { engine: Engine::Trino, ..self.clone() }.quoted(name),
            Engine::Duckdb | Engine::Trino | Engine::Spark => self.quoted(name),
        }
    }

    /// The statement, with what its reader has to know before it.
    pub fn table(&self, schema: &Schema) -> String {
        let partitions = self.partitions(schema.partition_by);
        let notes: String = self.notes(schema).iter().map(|note| format!("-- {note}\n")).collect();
        notes + &self.statement(schema, &partitions)
    }

    fn statement(&self, schema: &Schema, partitions: &[Partition]) -> String {
        let columns: Vec<String> = schema.columns.iter().map(|column| self.column(column)).collect();
        let partition_columns: Vec<String> =
            partitions.iter().map(|partition| self.line(partition.name, partition.kind, partition.doc)).collect();
        let name = self.quoted(&schema.dataset);
        let comment = self.text(&schema.doc.replace(';', " -"));
        let folder = self.folder(schema);
        let names = |quote: &dyn Fn(&str) -> String| {
            partitions.iter().map(|partition| quote(partition.name)).collect::<Vec<_>>().join(", ")
        };
        match self.engine {
            Engine::Duckdb => format!(
                "CREATE OR REPLACE VIEW {name} AS\nSELECT * FROM read_parquet({files}, hive_partitioning = true, union_by_name = true);\n",
                files = self.text(&format!("{folder}/**/*.parquet")),
            ),
            Engine::Trino => format!(
                "CREATE TABLE IF NOT EXISTS {name} (\n{columns}\n)\nCOMMENT {comment}\nWITH (\n  external_location = {location},\n  \
                 format = 'PARQUET',\n  partitioned_by = ARRAY[{names}]\n);\n",
                columns = [columns, partition_columns].concat().join(",\n"),
                location = self.text(&folder),
                names = names(&|name| self.text(name)),
            ),
            Engine::Athena => format!(
                "CREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{columns}\n)\nCOMMENT {comment}\nPARTITIONED BY (\n{partitions}\n)\n\
                 STORED AS PARQUET\nLOCATION {location}\nTBLPROPERTIES (\n{properties}\n);\n",
                columns = columns.join(",\n"),
                partitions = partition_columns.join(",\n"),
                location = self.text(&format!("{folder}/")),
                properties = self.projection(&folder, partitions),
            ),
            Engine::Spark => format!(
                "CREATE TABLE IF NOT EXISTS {name} (\n{columns}\n)\nUSING PARQUET\nPARTITIONED BY ({names})\n\
                 LOCATION {location}\nCOMMENT {comment};\n",
                columns = [columns, partition_columns].concat().join(",\n"),
                location = self.text(&folder),
                names = names(&|name| self.quoted(name)),
            ),
        }
    }

    fn notes(&self, schema: &Schema) -> Vec<String> {
        let (dataset, day) = (&schema.dataset, schema.partition_by.column());
        let mut notes = match self.engine {
            Engine::Duckdb => vec![
                "DuckDB. Files are found at every query. A dataset that has none yet cannot be shown: with --lake its statement is not there.".to_owned(),
                "For s3:// first, with the keys that the environment has: LOAD httpfs, LOAD aws and CREATE SECRET (TYPE s3, PROVIDER credential_chain)".to_owned(),
                "Where the store is not AWS, the secret takes ENDPOINT 'host:port', URL_STYLE 'path' and, for http://, USE_SSL false besides".to_owned(),
            ],
            Engine::Trino => vec![
                "Trino, in a schema of a Hive catalog. Times need hive.parquet.time-zone=UTC in the catalog, or they are shown in the server's zone.".to_owned(),
                "They are read to the millisecond. For all digits, once the table is there: SET SESSION <catalog>.timestamp_precision = 'MICROSECONDS'".to_owned(),
                format!("Days are found by, now and whenever new ones are to be seen: CALL <catalog>.system.sync_partition_metadata('<schema>', '{dataset}', 'FULL')"),
            ],
            Engine::Athena => vec![
                format!("Athena, engine version 3. Days are computed from projection.{day}.range, so there is nothing to repair or to add:"),
                "a day before that range is not seen, and one without a folder is empty. A later start makes queries over all days faster.".to_owned(),
                "Times are UTC, read to the millisecond.".to_owned(),
            ],
            Engine::Spark => vec![
                format!("Spark. Days are found by, now and whenever new ones are to be seen: MSCK REPAIR TABLE `{dataset}` SYNC PARTITIONS"),
                "Or at every query, by listing: SET spark.sql.hive.manageFilesourcePartitions = false, before the table is created.".to_owned(),
                "Times are instants, shown in spark.sql.session.timeZone. Outside of EMR, a location on S3 begins with s3a://.".to_owned(),
            ],
        };
        if self.engine == Engine::Athena && self.is_by_channel_type(schema.partition_by) {
            notes.push(format!("The types of channels are not listed anywhere, so {CHANNEL_TYPE} is injected: every query must name it, as in"));
            notes.push(format!("WHERE {CHANNEL_TYPE} = 'messaging'. If they are few: projection.{CHANNEL_TYPE}.type 'enum', with .values 'messaging,team'."));
        }
        if self.location.is_none() {
            notes.push(format!("{NO_LOCATION} stands for the lake: --lake or --location fills it in."));
        }
        notes
    }

    /// The properties by which Athena computes which folders there are.
    fn projection(&self, folder: &str, partitions: &[Partition]) -> String {
        let mut properties = vec![("projection.enabled".to_owned(), "true".to_owned())];
        let mut template = folder.to_owned();
        for Partition { name, kind, .. } in partitions {
            let mut set =
                |key: &str, value: &str| properties.push((format!("projection.{name}.{key}"), value.to_owned()));
            if *kind == "date" {
                set("type", "date");
                set("format", "yyyy-MM-dd");
                set("range", &format!("{FIRST_DAY},NOW"));
                set("interval", "1");
                set("interval.unit", "DAYS");
            } else {
                set("type", "injected");
            }
            template.push_str(&format!("/{name}=${{{name}}}"));
        }
        properties.push(("storage.location.template".to_owned(), template + "/"));
        let line = |(key, value): &(String, String)| format!("  {} = {}", self.text(key), self.text(value));
        properties.iter().map(line).collect::<Vec<_>>().join(",\n")
    }

    fn is_by_channel_type(&self, partition_by: PartitionBy) -> bool {
        self.by_channel_type && partition_by == PartitionBy::EventDate
    }

    fn partitions(&self, partition_by: PartitionBy) -> Vec<Partition> {
        let text = if self.reads_like_trino() { "varchar" } else { "string" };
        let mut partitions = vec![Partition { name: partition_by.column(), kind: "date", doc: partition_by.doc() }];
        if self.is_by_channel_type(partition_by) {
            partitions.push(Partition {
                name: CHANNEL_TYPE,
                kind: text,
                doc: "Type of the channel: what its `cid` has before the colon",
            });
        }
        partitions
    }

    fn reads_like_trino(&self) -> bool {
        matches!(self.engine, Engine::Duckdb | Engine::Trino)
    }

    fn folder(&self, schema: &Schema) -> String {
        let lake = self.location.as_deref().unwrap_or(NO_LOCATION);
        format!("{}/{}", lake.trim_end_matches('/'), Key::folder(&schema.name()))
    }

    fn column(&self, column: &Column) -> String {
        self.line(&column.name, &self.kind(column, 2), &comment(column))
    }

    fn line(&self, name: &str, kind: &str, doc: &str) -> String {
        format!("  {} {kind} COMMENT {}", self.quoted(name), self.text(&one_line(doc)))
    }

    /// The type, whose nested fields stand on lines of their own.
    fn kind(&self, column: &Column, indent: usize) -> String {
        let trino = self.reads_like_trino();
        let list = |of: &str| if trino { format!("array({of})") } else { format!("array<{of}>") };
        let text = if trino { "varchar" } else { "string" };
        match column.kind {
            Kind::String | Kind::Json => text.to_owned(),
            Kind::Int64 => "bigint".to_owned(),
            Kind::Float64 => "double".to_owned(),
            Kind::Bool => "boolean".to_owned(),
            // Trino creates Hive columns only with the precision that its session has, by default this.
            Kind::Timestamp => if trino { "timestamp(3)" } else { "timestamp" }.to_owned(),
            Kind::StringList => list(text),
            Kind::CountMap => if trino { "map(varchar, bigint)" } else { "map<string, bigint>" }.to_owned(),
            Kind::Struct => self.record(&column.fields, indent),
            Kind::StructList => list(&self.record(&column.fields, indent)),
        }
    }

    fn record(&self, fields: &[Column], indent: usize) -> String {
        let inner = indent + 2;
        let field = |field: &Column| {
            let kind = self.kind(field, inner);
            let field = match self.engine {
                Engine::Duckdb | Engine::Trino => format!("{} {kind}", self.quoted(&field.name)),
                // Hive's names inside a type are bare; which words it reserves is tested.
                Engine::Athena => format!("{}: {kind}", field.name),
                Engine::Spark => {
                    format!("{}: {kind} COMMENT {}", self.quoted(&field.name), self.text(&one_line(&comment(field))))
                }
            };
            format!("\n{:inner$}{field}", "")
        };
        let fields = fields.iter().map(field).collect::<Vec<_>>().join(",");
        match self.engine {
            Engine::Duckdb | Engine::Trino => format!("row({fields}\n{:indent$})", ""),
            Engine::Athena | Engine::Spark => format!("struct<{fields}\n{:indent$}>", ""),
        }
    }

    /// A name that may be a reserved word or begin with an underscore.
    fn quoted(&self, name: &str) -> String {
        match self.engine {
            Engine::Duckdb | Engine::Trino => format!("\"{}\"", name.replace('"', "\"\"")),
            Engine::Athena | Engine::Spark => format!("`{}`", name.replace('`', "``")),
        }
    }

    /// A text literal. Athena reads statements like these as Hive does, not as it reads queries.
    fn text(&self, text: &str) -> String {
        match self.engine {
            Engine::Duckdb | Engine::Trino => format!("'{}'", text.replace('\'', "''")),
            Engine::Athena | Engine::Spark => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        }
    }
}

/// What a column means, for those who see no more than this. A time says its unit by its type.
fn comment(column: &Column) -> String {
    let doc = column.doc.trim_end_matches('.');
    match &column.unit {
        Some(unit) if column.kind != Kind::Timestamp => format!("{doc} [{unit}]"),
        _ => doc.to_owned(),
    }
}

/// The text on one line that catalogs take, without the semicolons at which many clients cut a script into statements.
fn one_line(text: &str) -> String {
    let text: String = text.replace(';', " -").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= MAX_COMMENT_CHARS {
        return text;
    }
    text.chars().take(MAX_COMMENT_CHARS - 3).chain("...".chars()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::schema;

    fn ddl(engine: Engine) -> Ddl {
        Ddl { engine, location: Some("s3://bucket/chat/".to_owned()), by_channel_type: false }
    }

    fn of(dataset: &str) -> std::sync::Arc<Schema> {
        schema::find(dataset).unwrap()
    }

    #[test]
    fn statements_are_a_contract() {
        for engine in [Engine::Trino, Engine::Athena, Engine::Spark] {
            let name = format!("{engine:?}").to_lowercase();
            for dataset in ["messages", "quarantine"] {
                assert_snapshot!(format!("{name}_{dataset}"), ddl(engine).table(&of(dataset)));
            }
        }
    }

    #[test]
    fn views_are_a_contract() {
        assert_snapshot!("duckdb_users", ddl(Engine::Duckdb).table(&of("users")));
        for engine in [Engine::Duckdb, Engine::Athena, Engine::Spark] {
            let name = format!("{engine:?}").to_lowercase();
            assert_snapshot!(format!("{name}_current_reactions"), ddl(engine).view(&of("reactions")));
            assert_snapshot!(format!("{name}_latest_members"), ddl(engine).view(&of("members")));
        }
        assert_eq!(ddl(Engine::Trino).view(&of("users")), ddl(Engine::Duckdb).view(&of("users")));
        for dataset in ["other", "quarantine"] {
            assert_eq!(ddl(Engine::Spark).view(&of(dataset)), "");
        }
    }

    #[test]
    fn folders_by_channel_type_become_a_second_partition_column_of_event_datasets_only() {
        for engine in [Engine::Trino, Engine::Athena, Engine::Spark] {
            let ddl = Ddl { by_channel_type: true, ..ddl(engine) };
            assert!(ddl.table(&of("messages")).contains(CHANNEL_TYPE));
            assert!(!ddl.table(&of("channels")).contains(CHANNEL_TYPE));
        }
        let athena = Ddl { by_channel_type: true, ..ddl(Engine::Athena) }.table(&of("reactions"));
        let (notes, statement) = athena.split_once("CREATE").unwrap();
        assert_snapshot!("athena_by_channel_type_notes", notes);
        assert_snapshot!("athena_by_channel_type_end", statement.split_once("PARTITIONED").unwrap().1);
    }

    #[test]
    fn a_script_may_be_cut_at_its_semicolons() {
        for engine in [Engine::Duckdb, Engine::Trino, Engine::Athena, Engine::Spark] {
            for schema in schema::all() {
                for text in [ddl(engine).table(schema), ddl(engine).view(schema)] {
                    assert!(text.is_empty() || text.find(';') == Some(text.len() - 2), "{text}");
                }
            }
        }
    }

    #[test]
    fn without_a_location_a_placeholder_stands_and_a_note_says_so() {
        let text = Ddl { location: None, ..ddl(Engine::Spark) }.table(&of("users"));
        assert!(text.contains("LOCATION 's3://BUCKET/PREFIX/users'"), "{text}");
        assert!(text.contains("-- s3://BUCKET/PREFIX stands for the lake"), "{text}");
    }

    #[test]
    fn quotes_and_backslashes_stay_inside_their_literal() {
        for (engine, name, text) in [
            (Engine::Trino, r#""a""b`""#, r"'it''s \'"),
            (Engine::Athena, "`a\"b```", r"'it\'s \\'"),
            (Engine::Spark, "`a\"b```", r"'it\'s \\'"),
        ] {
            assert_eq!(ddl(engine).quoted("a\"b`"), name);
            assert_eq!(ddl(engine).text(r"it's \"), text);
        }
    }

    #[test]
    fn comments_fit_the_catalogs_that_keep_them() {
        fn check(place: &str, column: &Column) {
            let comment = comment(column);
            assert!(comment.chars().count() <= MAX_COMMENT_CHARS, "{place}.{} is too long: {comment}", column.name);
            column.fields.iter().for_each(|field| check(&format!("{place}.{}", column.name), field));
        }
        for schema in schema::all() {
            schema.columns.iter().for_each(|column| check(&schema.dataset, column));
        }
        assert_eq!(one_line(&"ä".repeat(300)).chars().count(), MAX_COMMENT_CHARS);
        assert_eq!(one_line("a;\nb"), "a - b");
    }

    /// Athena's reserved words that a JSON key might well be.
    #[test]
    fn nested_fields_need_no_quotes_in_athena() {
        const RESERVED: [&str; 24] = [
            "all",
            "array",
            "column",
            "date",
            "end",
            "from",
            "function",
            "group",
            "interval",
            "local",
            "map",
            "of",
            "order",
            "range",
            "reads",
            "references",
            "row",
            "set",
            "start",
            "time",
            "timestamp",
            "to",
            "user",
            "values",
        ];
        fn check(column: &Column) {
            for field in &column.fields {
                assert!(!RESERVED.contains(&field.name.as_str()), "{}.{}", column.name, field.name);
                assert!(field.name.starts_with(|c: char| c.is_ascii_lowercase()), "{}.{}", column.name, field.name);
                check(field);
            }
        }
        schema::all().iter().flat_map(|schema| &schema.columns).for_each(check);
    }
}
