//! Leaving out what nobody may keep: keys are taken out of a line's text before anything else looks at it, so that neither a
//! column nor `custom`, `_rescued`, `raw` or quarantine can hold them.
//!
//! Inside an entity, its own exclusions count, and those of every entity that is embedded in it, told by the key that it stands
//! under. Outside of any known entity nothing tells what a key means, so the exclusions of all datasets count at every depth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::json::{Index, Value};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow::error::ArrowError;

use super::envelope::{Kind, Shape, classify};
use super::object::push_entry;
use super::path;

use crate::schema::{self, Column, Context, DATASETS, Schema, Source};

/// What is left out, by dataset.
#[derive(Debug, Default)]
pub struct Exclusions {
    datasets: [DatasetExclusions; DATASETS.len()],
}

/// What is left out of the objects of a dataset.
#[derive(Debug, Default)]
pub struct DatasetExclusions {
    root: Node,
    /// Everything but these keys is left out as well.
    all_but: Option<BTreeSet<String>>,
}

/// The keys of an object, or of the objects in an array.
#[derive(Debug, Default)]
struct Node {
    is_left_out: bool,
    keys: BTreeMap<String, Node>,
}

impl DatasetExclusions {
    /// Leaves out what is at this path. Custom data is the same beside the other keys and in `custom`.
    pub fn add(&mut self, path: &[String]) {
        let path = if path.len() > 1 && path[0] == "custom" { &path[1..] } else { path };
        let mut node = &mut self.root;
        for key in path {
            node = node.keys.entry(key.clone()).or_default();
        }
        node.is_left_out = true;
    }

    /// Leaves out every key that is not one of these.
    pub fn add_all_but(&mut self, keys: impl IntoIterator<Item = String>) {
        self.all_but = Some(keys.into_iter().collect());
    }

    fn is_empty(&self) -> bool {
        self.root.keys.is_empty() && self.all_but.is_none()
    }
}

/// Where in a line a value stands.
#[derive(Clone)]
enum At<'e> {
    /// Inside an entity: what is left out of this value; the known keys, if it is the entity itself and others go.
    Inside { nodes: Vec<&'e Node>, all_but: Option<&'e BTreeSet<String>> },
    /// Outside of all entities, at this depth.
    Outside { depth: usize },
}

impl Exclusions {
    /// Those of the dataset at this place in [`DATASETS`].
    pub fn of(&mut self, dataset: usize) -> &mut DatasetExclusions {
        &mut self.datasets[dataset]
    }

    /// Whether everything is kept.
    pub fn is_empty(&self) -> bool {
        self.datasets.iter().all(DatasetExclusions::is_empty)
    }

    /// The line without what is left out.
    pub(super) fn line(&self, line: Value<'_>) -> String {
        let mut text = String::with_capacity(line.raw().len());
        let at = match classify(line) {
            Shape::Entity(kind, entity) if entity.raw().len() == line.raw().len() => self.entity(kind),
            _ => At::Outside { depth: 0 },
        };
        self.write(line, &at, &mut text);
        text
    }

    fn entity(&self, kind: Kind) -> At<'_> {
        let dataset = &self.datasets[super::dataset_index(kind)];
        At::Inside { nodes: vec![&dataset.root], all_but: dataset.all_but.as_ref() }
    }

    fn write(&self, value: Value<'_>, at: &At<'_>, text: &mut String) {
        if let Some(entries) = value.entries() {
            let entries: Vec<_> = entries.collect();
            let tagged = tagged_kind(&entries);
            let mut object = String::new();
            for (key, value) in &entries {
                let Some(inner) = self.inside(key, value.is_container(), at, tagged) else { continue };
                let mut kept = String::new();
                self.write(*value, &inner, &mut kept);
                push_entry(&mut object, key, &kept);
            }
            text.push_str(if object.is_empty() { "{" } else { &object });
            text.push('}');
        } else if let Some(elements) = value.elements() {
            text.push('[');
            for (number, element) in elements.enumerate() {
                if number > 0 {
                    text.push(',');
                }
                self.write(element, at, text);
            }
            text.push(']');
        } else {
            text.push_str(value.raw());
        }
    }

    /// Where the value of a key stands; none if it is left out.
    fn inside<'e>(&'e self, key: &str, holds_objects: bool, at: &At<'e>, tagged: Option<Kind>) -> Option<At<'e>> {
        match at {
            At::Inside { nodes, all_but } => {
                if all_but.is_some_and(|known| !known.contains(key)) || is_left_out(nodes, key) {
                    return None;
                }
                let mut inner: Vec<&Node> = nodes.iter().filter_map(|node| node.keys.get(key)).collect();
                if key == "custom" {
                    inner.extend(nodes);
                }
                // An envelope may stand in another.
                let kind = embedded_kind(key).or(tagged.filter(|_| matches!(key, "data" | "item")));
                let embedded = kind.filter(|_| holds_objects).map(|kind| self.entity(kind));
                let Some(At::Inside { nodes, all_but }) = embedded else {
                    return Some(At::Inside { nodes: inner, all_but: None });
                };
                inner.extend(nodes);
                Some(At::Inside { nodes: inner, all_but })
            }
            At::Outside { depth } => {
                if let Some(kind) = tagged.filter(|_| matches!(key, "data" | "item")) {
                    return Some(self.entity(kind));
                }
                if let Some(kind) = embedded_kind(key).filter(|_| holds_objects) {
                    return Some(self.entity(kind));
                }
                // The name of a line's kind tells what it is, and is nobody's secret.
                let is_tag = *depth == 0 && key == "type";
                let goes = |dataset: &DatasetExclusions| {
                    is_left_out(&[&dataset.root], key) || dataset.all_but.is_some() || has_deep(&dataset.root, key)
                };
                let goes = !is_tag && self.datasets.iter().any(goes);
                (!goes).then_some(At::Outside { depth: depth + 1 })
            }
        }
    }

    /// The rows of an older file without what is left out by now: its columns are gone already, its JSON is not.
    pub(crate) fn clean(&self, schema: &Schema, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let Some(place) = DATASETS.iter().position(|name| *name == schema.dataset) else { return Ok(batch.clone()) };
        if self.is_empty() {
            return Ok(batch.clone());
        }
        let DatasetExclusions { root, all_but } = &self.datasets[place];
        let at = At::Inside { nodes: vec![root], all_but: all_but.as_ref() };
        let columns = schema.columns.iter().zip(batch.columns()).map(|(column, array)| self.column(column, array, &at));
        RecordBatch::try_new(batch.schema(), columns.collect::<Result<_, _>>()?)
    }

    fn column(&self, column: &Column, array: &ArrayRef, at: &At<'_>) -> Result<ArrayRef, ArrowError> {
        let inner = || {
            let paths = column.sources.iter().flat_map(Source::paths);
            let inner = paths.filter_map(|path| self.descend(&path, at));
            let mut nodes = Vec::new();
            let mut known = None;
            for at in inner {
                if let At::Inside { nodes: more, all_but } = at {
                    nodes.extend(more);
                    known = known.or(all_but);
                }
            }
            At::Inside { nodes, all_but: known }
        };
        Ok(match column.kind {
            schema::Kind::Json => {
                let source = column.sources.first();
                let clean = |text: &str| match source {
                    Some(Source::Context(Context::Raw)) => parsed(text, |line| self.line(line)),
                    Some(Source::Misfits) => self.misfits(text, at),
                    Some(Source::Rest) => self.rewritten(text, at),
                    _ => self.rewritten(text, &inner()),
                };
                let texts = array.as_string::<i32>();
                Arc::new(texts.iter().map(|text| text.and_then(clean)).collect::<StringArray>())
            }
            schema::Kind::Struct => self.fields(column, array.as_struct(), &inner())?,
            schema::Kind::StructList => {
                let list = array.as_list::<i32>();
                let items = self.fields(column, list.values().as_struct(), &inner())?;
                let field = match list.data_type() {
                    arrow::datatypes::DataType::List(field) => Arc::clone(field),
                    other => return Err(ArrowError::SchemaError(format!("{other} is no list"))),
                };
                Arc::new(ListArray::try_new(field, list.offsets().clone(), items, list.nulls().cloned())?)
            }
            _ => Arc::clone(array),
        })
    }

    fn fields(&self, column: &Column, array: &StructArray, at: &At<'_>) -> Result<ArrayRef, ArrowError> {
        let columns = column.fields.iter().zip(array.columns()).map(|(field, array)| self.column(field, array, at));
        let columns = columns.collect::<Result<_, _>>()?;
        let (fields, nulls) = (array.fields().clone(), array.nulls().cloned());
        Ok(Arc::new(StructArray::try_new_with_length(fields, columns, nulls, array.len())?))
    }

    fn descend<'e>(&'e self, path: &[String], at: &At<'e>) -> Option<At<'e>> {
        path.iter().try_fold(at.clone(), |at, key| self.inside(key, true, &at, None))
    }

    fn rewritten(&self, text: &str, at: &At<'_>) -> Option<String> {
        let mut kept = String::new();
        parsed(text, |value| self.write(value, at, &mut kept))?;
        (kept != "{}").then_some(kept)
    }

    /// `{"path": value}`
    fn misfits(&self, text: &str, at: &At<'_>) -> Option<String> {
        let mut kept = String::new();
        parsed(text, |misfits| {
            for (path, value) in misfits.entries().into_iter().flatten() {
                if let Some(inner) = self.descend(&path::keys(&path), at) {
                    let mut inside = String::new();
                    self.write(value, &inner, &mut inside);
                    push_entry(&mut kept, &path, &inside);
                }
            }
        })?;
        (!kept.is_empty()).then(|| kept + "}")
    }
}

fn parsed<T>(text: &str, look: impl FnOnce(Value<'_>) -> T) -> Option<T> {
    Index::default().parse(text).ok().map(look)
}

fn is_left_out(nodes: &[&Node], key: &str) -> bool {
    nodes.iter().any(|node| node.keys.get(key).is_some_and(|node| node.is_left_out))
}

/// Whether a path that is left out ends with this key.
fn has_deep(node: &Node, key: &str) -> bool {
    node.keys.iter().any(|(name, inner)| (name == key && inner.is_left_out) || has_deep(inner, key))
}

/// `{"type","data"}` and `{"type","item"}`
fn tagged_kind(entries: &[(std::borrow::Cow<'_, str>, Value<'_>)]) -> Option<Kind> {
    let (_, tag) = entries.iter().find(|(key, _)| key == "type")?;
    Kind::from_name(&tag.text()?)
}

/// What stands under a key, wherever it is.
fn embedded_kind(key: &str) -> Option<Kind> {
    Kind::from_name(key).or(match key {
        "created_by"
        | "updated_by"
        | "deleted_by"
        | "truncated_by"
        | "pinned_by"
        | "banned_by"
        | "invited_by"
        | "mentioned_users"
        | "thread_participants"
        | "watchers" => Some(Kind::User),
        "quoted_message" | "parent" | "parent_message" | "pinned_messages" | "pending_messages" | "last_message" => {
            Some(Kind::Message)
        }
        "latest_reactions" | "own_reactions" => Some(Kind::Reaction),
        "membership" => Some(Kind::Member),
        _ => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::columns::{Columns, Schemas};
    use crate::json::Index;

    fn schemas(exclude: &[(&str, &[&str])]) -> Schemas {
        let excluded = exclude
            .iter()
            .map(|(dataset, paths)| ((*dataset).to_owned(), paths.iter().map(|path| (*path).to_owned()).collect()));
        Schemas::new(&Columns { excluded: excluded.collect(), ..Columns::default() }).unwrap()
    }

    fn kept(exclude: &[(&str, &[&str])], line: &str) -> String {
        schemas(exclude).exclusions().line(Index::default().parse(line).unwrap())
    }

    #[test]
    fn keys_go_wherever_their_entity_stands() {
        let exclude: &[(&str, &[&str])] = &[("users", &["email"]), ("messages", &["html", "custom.ssn"])];
        for (line, wanted) in [
            (
                r#"{"type":"message","data":{"id":"m","html":"<p>","ssn":1,"custom":{"ssn":1,"a":2},"user":{"id":"u","email":"e"}}}"#,
                r#"{"type":"message","data":{"id":"m","custom":{"a":2},"user":{"id":"u"}}}"#,
            ),
            (
                r#"{"message":{"quoted_message":{"html":"","user":{"email":"e","custom":{"email":"e"}}},"mentioned_users":[{"email":1},"u"]}}"#,
                r#"{"message":{"quoted_message":{"user":{"custom":{}}},"mentioned_users":[{},"u"]}}"#,
            ),
            (
                r#"{"id":"m","cid":"a:b","text":"t","ht\u006dl":"<p>","email":"mine","user":{"id":"u","email":"e"}}"#,
                r#"{"id":"m","cid":"a:b","text":"t","email":"mine","user":{"id":"u"}}"#,
            ),
            (
                r#"[{"channel":{"id":"b","html":1,"created_by":{"email":"e"}},"messages":[{"html":1}],"members":[{"user":{"email":"e"}}]}]"#,
                r#"[{"channel":{"id":"b","html":1,"created_by":{}},"messages":[{}],"members":[{"user":{}}]}]"#,
            ),
            (
                r#"{"message":{"type":"message","data":{"html":"<p>","user":{"email":"e"},"v":1}}}"#,
                r#"{"message":{"type":"message","data":{"user":{},"v":1}}}"#,
            ),
            (r#"{"reaction":{"user":{"email":"e"},"type":"like"}}"#, r#"{"reaction":{"user":{},"type":"like"}}"#),
            (
                r#"{"message":{"reaction_groups":{"like":{"latest_reactions_by":[{"user":{"email":"e"}}]}}}}"#,
                r#"{"message":{"reaction_groups":{"like":{"latest_reactions_by":[{"user":{}}]}}}}"#,
            ),
        ] {
            assert_eq!(kept(exclude, line), wanted, "{line}");
        }
    }

    #[test]
    fn outside_of_known_entities_every_such_key_goes() {
        let exclude: &[(&str, &[&str])] = &[("users", &["email"]), ("messages", &["order.iban"])];
        let line = r#"{"type":"device","data":{"id":1,"owner":{"email":"e","x":[{"iban":2}]}},"email":3}"#;
        assert_eq!(kept(exclude, line), r#"{"type":"device","data":{"id":1,"owner":{"x":[{}]}}}"#);
        assert_eq!(
            kept(&[("users", &["type"])], r#"{"type":"device","data":{"type":1}}"#),
            r#"{"type":"device","data":{}}"#
        );
    }

    #[test]
    fn without_custom_only_known_keys_are_left() {
        let line = r#"{"message":{"id":"m","text":"t","secret":1,"custom":{"a":1},"user":{"id":"u","plan":"pro"}}}"#;
        assert_eq!(
            kept(&[("messages", &["custom"])], line),
            r#"{"message":{"id":"m","text":"t","user":{"id":"u","plan":"pro"}}}"#
        );
        assert_eq!(kept(&[("messages", &["custom"])], r#"{"type":"device","data":{"id":1}}"#), r#"{"type":"device"}"#);
    }
}
