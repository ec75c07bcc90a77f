//! What a lake's files have besides the columns of the schemas, and what they lack: custom data that is promoted to typed
//! columns, and exclusions.
//!
//! The log records both. A column that was promoted once keeps its name and its type for as long as the lake stands, so that
//! old and new files can be read together by name: promoted with another type, the same key gets another column.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use serde::{Deserialize, Serialize};

use crate::decode::exclude::{DatasetExclusions, Exclusions};
use crate::decode::{MAX_KEYS, Plan};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::schema::{self, Column, DATASETS, Kind, Schema, Source};

/// Columns that may ever have been promoted in one dataset of a lake.
const MAX_PROMOTED: usize = 500;

/// What a configuration asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Custom keys to promote, in the order of dataset and name.
    pub promote: Vec<Promoted>,
    /// Columns and paths to leave out, by dataset.
    pub exclude: BTreeMap<String, BTreeSet<String>>,
    /// Exclusions of the lake that are not here are given up.
    pub lifts_exclusions: bool,
}

/// What the log says of a lake's columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// Every column that was ever promoted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promoted: Vec<Promoted>,
    /// What is left out, by dataset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub excluded: BTreeMap<String, BTreeSet<String>>,
}

/// A custom key as a typed column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// The dataset.
    pub dataset: String,
    /// The column.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The keys to its value, from the object or from its `custom` down.
    pub path: Vec<String>,
    /// It is filled; otherwise it only holds what it was filled with before.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub active: bool,
    /// What it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
    /// The unit of its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_true(flag: &bool) -> bool {
    *flag
}

impl fmt::Display for Promoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dataset, name, kind, .. } = self;
        write!(f, "{dataset}.{name} {kind}")?;
        if self.path != [name.as_str()] {
            write!(f, " from `{}`", self.path.join("."))?;
        }
        Ok(())
    }
}

impl Columns {
    /// Whether the files have the columns of the schemas and no others.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// These columns as a run wants them. What is not promoted any more stays as a column that nothing fills.
    pub fn with(&self, wanted: &Wanted) -> Result<Self> {
        let mut columns = self.clone();
        for column in &mut columns.promoted {
            column.active = false;
        }
        for promoted in &wanted.promote {
            columns.promote(promoted);
        }
        let lacks = |dataset: &String, path: &String| {
            wanted.exclude.get(dataset).is_none_or(|excluded| !excluded.contains(path))
        };
        let left_out = self.excluded.iter().flat_map(|(dataset, paths)| paths.iter().map(move |path| (dataset, path)));
        let lifted: Vec<String> =
            left_out.filter(|(dataset, path)| lacks(dataset, path)).map(|(d, path)| format!("{d}.{path}")).collect();
        if !lifted.is_empty() && !wanted.lifts_exclusions {
            let list = lifted.join("`, `");
            return Err(Error::new(
                ErrorKind::Usage,
                format!("this lake leaves out `{list}`, and the configuration of this run does not"),
            )
            .hint("pass the configuration with these exclusions (--config), or give them up with --lift-exclusions"));
        }
        columns.excluded.clone_from(&wanted.exclude);
        Ok(columns)
    }

    fn promote(&mut self, wanted: &Promoted) {
        let taken = |name: &str, columns: &[Promoted]| {
            columns.iter().position(|column| column.dataset == wanted.dataset && column.name == name)
        };
        let fits = |name: &str, columns: &[Promoted]| {
            taken(name, columns).is_none_or(|at| columns[at].kind == wanted.kind && !columns[at].active)
        };
        // Another type under one name could not be read together with the first.
        let typed = format!("{}__{}", wanted.name, wanted.kind);
        let name = if fits(&wanted.name, &self.promoted) { wanted.name.clone() } else { typed };
        let column = Promoted { name, active: true, ..wanted.clone() };
        match taken(&column.name, &self.promoted) {
            Some(at) => self.promoted[at] = column,
            None => self.promoted.push(column),
        }
    }

    /// What differs in `new`, in words.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let active = |columns: &Self| -> BTreeSet<String> {
            columns.promoted.iter().filter(|column| column.active).map(ToString::to_string).collect()
        };
        let excluded = |columns: &Self| -> BTreeSet<String> {
            let paths = columns.excluded.iter();
            paths.flat_map(|(dataset, paths)| paths.iter().map(move |path| format!("{dataset}.{path}"))).collect()
        };
        let differences = |old: BTreeSet<String>, new: BTreeSet<String>, more: &str, less: &str| -> Vec<String> {
            let came = new.difference(&old).map(|name| format!("{more} {name}"));
            came.chain(old.difference(&new).map(|name| format!("{less} {name}"))).collect()
        };
        let mut changes = differences(active(self), active(new), "promotes", "no longer promotes");
        changes.extend(differences(excluded(self), excluded(new), "leaves out", "no longer leaves out"));
        changes
    }
}

/// The schemas of a lake's files, in the order of [`DATASETS`].
#[derive(Clone, Debug)]
pub struct Schemas {
    schemas: Arc<[Arc<Schema>]>,
    exclusions: Arc<Exclusions>,
    /// Columns that are left out, nested ones as `column.field`.
    left_out: Arc<HashSet<(String, String)>>,
    /// Of all decoders: made for the first.
    plan: Arc<OnceLock<Arc<Plan>>>,
}

static BASE: LazyLock<Schemas> = LazyLock::new(|| Schemas {
    schemas: schema::all().into(),
    exclusions: Arc::default(),
    left_out: Arc::default(),
    plan: Arc::default(),
});

impl Default for Schemas {
    /// Those of a lake without a configuration.
    fn default() -> Self {
        BASE.clone()
    }
}

impl Schemas {
    /// Those of a lake with these columns. Refuses what no lake can have.
    pub fn new(columns: &Columns) -> Result<Self> {
        if columns.is_empty() {
            return Ok(Self::default());
        }
        let mut schemas: Vec<Schema> = schema::all().iter().map(|schema| (**schema).clone()).collect();
        let mut exclusions = Exclusions::default();
        let mut left_out = HashSet::new();
        for (dataset, paths) in &columns.excluded {
            let at = place(dataset)?;
            for path in paths {
                let keys: Vec<String> = path.split('.').map(|key| key.trim_end_matches("[]").to_owned()).collect();
                check_exclusion(&schemas[at], path, &keys)?;
                exclude(&mut schemas[at], &keys, exclusions.of(at), &mut left_out);
            }
        }
        for promoted in &columns.promoted {
            place(&promoted.dataset)?;
        }
        for (at, schema) in schemas.iter_mut().enumerate() {
            let promoted: Vec<&Promoted> =
                columns.promoted.iter().filter(|column| column.dataset == DATASETS[at]).collect();
            promote(schema, &promoted)?;
        }
        Ok(Self {
            schemas: schemas.into_iter().map(Arc::new).collect(),
            exclusions: Arc::new(exclusions),
            left_out: Arc::new(left_out),
            plan: Arc::default(),
        })
    }

    /// The same for exports of users. They hold reactions to messages that they do not hold, and what is all of one user may leave out
    /// who that is.
    #[must_use]
    pub fn of_users(&self) -> Self {
        let schemas = self.schemas.iter().map(|schema| {
            let mut schema = Schema::clone(schema);
            let owned = matches!(schema.dataset.as_str(), "messages" | "reactions");
            for column in schema.columns.iter_mut().filter(|_| owned) {
                match (schema.dataset.as_str(), column.name.as_str()) {
                    (_, "user_id") => column.sources.push(Source::Context(schema::Context::Owner)),
                    ("reactions", "cid" | "message_created_at") => {
                        column.required = false;
                        column.null_when = Some("the message is another's, and is not in the export".to_owned());
                    }
                    _ => {}
                }
            }
            if schema.dataset == "reactions" {
                // The same reaction may have come with its message, and without it.
                schema.sort.clone_from(&schema.key);
                schema.version_by.insert(0, "cid".to_owned());
            }
            Arc::new(schema)
        });
        Self { schemas: schemas.collect(), plan: Arc::default(), ..self.clone() }
    }

    /// The schema at this place in [`DATASETS`].
    pub fn get(&self, dataset: usize) -> &Arc<Schema> {
        &self.schemas[dataset]
    }

    /// The schema of a dataset, if there is one of this name.
    pub fn find(&self, dataset: &str) -> Option<&Arc<Schema>> {
        DATASETS.iter().position(|name| *name == dataset).map(|at| &self.schemas[at])
    }

    /// Every schema.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Schema>> {
        self.schemas.iter()
    }

    /// How objects become rows of these schemas.
    pub(crate) fn plan(&self) -> &Arc<Plan> {
        self.plan.get_or_init(|| Arc::new(Plan::new(self)))
    }

    /// What is left out of the JSON.
    pub fn exclusions(&self) -> &Arc<Exclusions> {
        &self.exclusions
    }

    /// Whether a column of an older file, nested ones with their path, is left out by now.
    pub fn leaves_out(&self, dataset: &str, column: &str) -> bool {
        self.left_out.contains(&(dataset.to_owned(), column.replace("[]", "")))
    }
}

fn place(dataset: &str) -> Result<usize> {
    // What `other` and `quarantine` hold is kept as it came.
    let known = &DATASETS[..DATASETS.len() - 2];
    known.iter().position(|name| *name == dataset).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("the configuration names the dataset `{dataset}`, which there is not"))
            .hint(format!("the datasets are {}", known.join(", ")))
    })
}

/// Adds promoted columns in front of `custom`, where their values would be otherwise.
fn promote(schema: &mut Schema, promoted: &[&Promoted]) -> Result<()> {
    let refused = |column: &str, why: &str, hint: &str| {
        Error::new(ErrorKind::Usage, format!("`{}.{column}` cannot be promoted: {why}", schema.dataset))
            .hint(hint.to_owned())
    };
    let mut columns = Vec::new();
    for column in promoted {
        let Promoted { name, kind, path, active, doc, unit, .. } = column;
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_word) || name.len() > 64 {
            return Err(refused(
                name,
                "a column's name has lower-case letters, digits and `_`, and at most 64 of them",
                "choose another name, and say with `path` which key it is",
            ));
        }
        if schema.index_of(name).is_some() {
            return Err(refused(
                name,
                "the dataset has a column of this name",
                "choose another name, and say with `path` which key it is",
            ));
        }
        if !matches!(kind, Kind::String | Kind::Int64 | Kind::Float64 | Kind::Bool | Kind::Timestamp | Kind::Json) {
            return Err(refused(
                name,
                &format!("custom data cannot be `{kind}`"),
                "the types are string, int64, float64, bool, timestamp, json",
            ));
        }
        if path.is_empty() || path.iter().any(String::is_empty) {
            return Err(refused(
                name,
                "its path has an empty key",
                "write path = \"key\" or path = [\"key\", \"inner\"]",
            ));
        }
        // What is in `custom` is the same as beside it, so it is looked for in both places.
        let path = if path.len() > 1 && path[0] == "custom" { &path[1..] } else { path };
        let nested = [&["custom".to_owned()], path].concat();
        let sources = if *active { vec![Source::Path(path.to_vec()), Source::Path(nested)] } else { Vec::new() };
        let null_when = if *active { "the app does not set it" } else { "it was not promoted at the time" };
        columns.push(Column {
            name: name.clone(),
            kind: *kind,
            sources,
            doc: doc.clone().unwrap_or_else(|| format!("The app's own data: `{}`", path.join("."))),
            unit: unit.clone(),
            null_when: Some(null_when.to_owned()),
            required: false,
            empty_is_null: false,
            lenient: false,
            promoted: true,
            filter: None,
            hash: None,
            fields: Vec::new(),
        });
    }
    if columns.len() > MAX_PROMOTED {
        return Err(refused(
            "*",
            &format!("more than {MAX_PROMOTED} columns"),
            "promote to `json` what belongs together",
        ));
    }
    let at = schema.index_of("custom").or_else(|| schema.index_of("_rescued")).unwrap_or(schema.columns.len());
    schema.columns.splice(at..at, columns);
    let keys = schema.keys().len();
    if keys > MAX_KEYS {
        let why = format!("with it, the dataset takes {keys} keys of an object, and at most {MAX_KEYS} are possible");
        return Err(Error::new(ErrorKind::Usage, format!("`{}`: {why}", schema.dataset))
            .hint("promote fewer keys; the others are in `custom`"));
    }
    Ok(())
}

/// Refuses to leave out what rows are told by, or what does not come from an export.
fn check_exclusion(schema: &Schema, path: &str, keys: &[String]) -> Result<()> {
    let refused = |why: String, hint: &str| {
        Err(Error::new(ErrorKind::Usage, format!("`{}.{path}` cannot be excluded: {why}", schema.dataset))
            .hint(hint.to_owned()))
    };
    if keys.iter().any(String::is_empty) {
        return refused("its path has an empty key".to_owned(), "write a column, or a path such as `custom.email`");
    }
    let needed = |column: &&Column| {
        let is_in = |names: &[String]| names.contains(&column.name);
        column.required || is_in(&schema.key) || is_in(&schema.sort) || is_in(&schema.version_by)
    };
    for column in schema.columns.iter().filter(needed) {
        let takes = |source: &Source| source.paths().iter().any(|source| source.starts_with(keys));
        if column.name == path || column.sources.iter().any(takes) {
            return refused(
                format!("rows are told by the column `{}`", column.name),
                "exclude another column, or select other channels",
            );
        }
    }
    let from_elsewhere = |column: &&Column| {
        column.name == path
            && column.sources.iter().all(|source| matches!(source, Source::Context(_) | Source::Misfits))
    };
    if schema.columns.iter().any(|column| from_elsewhere(&column)) {
        return refused("it is not what an export holds".to_owned(), "exclude what is in it by its own path");
    }
    Ok(())
}

/// Takes a column out of a schema, if the path names one, and everything that it is made of out of the JSON.
fn exclude(
    schema: &mut Schema,
    keys: &[String],
    exclusions: &mut DatasetExclusions,
    left_out: &mut HashSet<(String, String)>,
) {
    exclusions.add(keys);
    let known: Vec<String> = schema.keys().into_iter().map(str::to_owned).collect();
    let take = |columns: &mut Vec<Column>, name: &str| {
        let at = columns.iter().position(|column| column.name == name)?;
        Some(columns.remove(at))
    };
    match keys {
        [name] => {
            let Some(column) = take(&mut schema.columns, name) else { return };
            left_out.insert((schema.dataset.clone(), name.clone()));
            column.sources.iter().flat_map(Source::paths).for_each(|path| exclusions.add(&path));
            if column.sources.contains(&Source::Rest) {
                exclusions.add_all_but(known);
            }
        }
        [name, field] => {
            let Some(column) = schema.columns.iter_mut().find(|column| column.name == *name) else { return };
            let Some(field) = take(&mut column.fields, field) else { return };
            left_out.insert((schema.dataset.clone(), format!("{name}.{}", field.name)));
            for outer in column.sources.iter().flat_map(Source::paths) {
                for inner in field.sources.iter().flat_map(Source::paths) {
                    exclusions.add(&[outer.as_slice(), &inner].concat());
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn promoted(name: &str, kind: Kind) -> Promoted {
        Promoted {
            dataset: "messages".to_owned(),
            name: name.to_owned(),
            kind,
            path: vec![name.to_owned()],
            active: true,
            doc: None,
            unit: None,
        }
    }

    fn wanting(promote: Vec<Promoted>) -> Wanted {
        Wanted { promote, ..Wanted::default() }
    }

    fn leaving_out(paths: &[&str]) -> Wanted {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Wanted { exclude: [("messages".to_owned(), paths)].into(), ..Wanted::default() }
    }

    #[test]
    fn a_column_keeps_its_type_and_a_retyped_key_gets_another_column() {
        let first = Columns::default().with(&wanting(vec![promoted("order_id", Kind::Int64)])).unwrap();
        assert_eq!(Columns::default().changes(&first), ["promotes messages.order_id int64"]);

        let none = first.with(&Wanted::default()).unwrap();
        assert_eq!(first.changes(&none), ["no longer promotes messages.order_id int64"]);
        assert_eq!(none.promoted, [Promoted { active: false, ..promoted("order_id", Kind::Int64) }]);

        let retyped = none.with(&wanting(vec![promoted("order_id", Kind::String)])).unwrap();
        assert_eq!(none.changes(&retyped), ["promotes messages.order_id__string string from `order_id`"]);

        // Back again, it is the first column that is filled.
        let back = retyped.with(&wanting(vec![promoted("order_id", Kind::Int64)])).unwrap();
        let active: Vec<&str> = back.promoted.iter().filter(|c| c.active).map(|c| c.name.as_str()).collect();
        assert_eq!((active, back.promoted.len()), (vec!["order_id"], 2));
        assert_eq!(back, back.with(&wanting(vec![promoted("order_id", Kind::Int64)])).unwrap());
    }

    #[test]
    fn every_column_that_was_ever_promoted_is_in_the_schema_in_front_of_custom() {
        let columns = Columns::default().with(&wanting(vec![promoted("order_id", Kind::Int64)])).unwrap();
        let columns = columns.with(&wanting(vec![promoted("order_id", Kind::String)])).unwrap();
        let schemas = Schemas::new(&columns).unwrap();
        let schema = schemas.find("messages").unwrap();
        let at = schema.index_of("custom").unwrap();
        let names: Vec<&str> = schema.columns[at - 2..at].iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["order_id", "order_id__string"]);
        assert!(schema.columns[at - 2].sources.is_empty());
        assert!(schemas.find("users").unwrap().index_of("order_id").is_none());
    }

    #[test]
    fn an_exclusion_is_given_up_only_on_purpose() {
        let columns = Columns::default().with(&leaving_out(&["html", "custom.ssn"])).unwrap();
        let error = columns.with(&leaving_out(&["html"])).unwrap_err();
        assert!(error.report().contains("`messages.custom.ssn`"), "{}", error.report());
        let lifted = columns.with(&Wanted { lifts_exclusions: true, ..leaving_out(&["html"]) }).unwrap();
        assert_eq!(columns.changes(&lifted), ["no longer leaves out messages.custom.ssn"]);
    }

    #[test]
    fn what_is_left_out_is_no_column() {
        let columns = Columns::default().with(&leaving_out(&["html", "attachments[].author_link", "x.y"])).unwrap();
        let schemas = Schemas::new(&columns).unwrap();
        let schema = schemas.find("messages").unwrap();
        assert!(schema.index_of("html").is_none());
        let attachments = &schema.columns[schema.index_of("attachments").unwrap()];
        assert!(attachments.fields.iter().all(|field| field.name != "author_link"));
        assert!(schemas.leaves_out("messages", "html") && schemas.leaves_out("messages", "attachments[].author_link"));
        assert!(!schemas.leaves_out("messages", "text") && !schemas.leaves_out("users", "html"));
    }

    #[test]
    fn what_no_lake_can_have_is_refused_with_a_reason() {
        let refused = |wanted: &Wanted| {
            let columns = Columns::default().with(wanted).unwrap();
            Schemas::new(&columns).unwrap_err().report()
        };
        for (name, kind, part) in [
            ("text", Kind::String, "has a column of this name"),
            ("Order", Kind::String, "lower-case"),
            ("1st", Kind::String, "lower-case"),
            ("x", Kind::Struct, "cannot be `struct`"),
        ] {
            let text = refused(&wanting(vec![promoted(name, kind)]));
            assert!(text.contains(part), "{text}");
        }
        let empty = Promoted { path: vec!["a".to_owned(), String::new()], ..promoted("a", Kind::Bool) };
        assert!(refused(&wanting(vec![empty])).contains("empty key"));
        let many: Vec<_> = (0..MAX_KEYS).map(|n| promoted(&format!("k{n}"), Kind::Bool)).collect();
        assert!(refused(&wanting(many)).contains("promote fewer"));
        for (path, part) in [
            ("id", "rows are told by the column `id`"),
            ("created_at", "rows are told"),
            ("channel", "rows are told by the column `cid`"),
            ("_exported_at", "rows are told"),
            ("raw", "not what an export holds"),
            ("_rescued", "not what an export holds"),
            ("custom.", "empty key"),
        ] {
            let text = refused(&leaving_out(&[path]));
            assert!(text.contains(part), "{path}: {text}");
        }
        let exclude = [("quarantine".to_owned(), BTreeSet::from(["line".to_owned()]))].into();
        assert!(refused(&Wanted { exclude, ..Wanted::default() }).contains("the datasets are messages"));
    }
}
