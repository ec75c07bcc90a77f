//! `chatlake schema` of a lake: which columns its files have, and how its folders are named.

use std::collections::BTreeSet;

use crate::columns::{Schemas, Wanted};
use crate::error::Result;
use crate::lake::Lake;

/// What a lake looks like to those who query it.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Where it is, as engines elsewhere name it.
    pub location: String,
    /// The columns, with those that it promotes and without those that it leaves out.
    pub schemas: Schemas,
    /// Whether messages and reactions have folders by channel type too; none before there is a lake.
    pub by_channel_type: Option<bool>,
    /// The datasets that have files, by the names that schemas have there.
    pub filled: BTreeSet<String>,
}

/// Looks at the log of a lake. One that is still to be made has the columns of the schemas. With `wanted`, the columns are those that a
/// run would make of them.
pub async fn shape(lake: &Lake, wanted: Option<&Wanted>) -> Result<Shape> {
    let identity = lake.identity().await?;
    match &identity {
        Some(identity) => identity.check_format(lake.display_url())?,
        // Shown all the same, for who is about to make it; but a wrong name should not pass for an empty lake.
        None => tracing::warn!(lake = lake.display_url(), "there is no lake yet: this is what a new one has"),
    }
    let state = lake.state().await?;
    let columns = &state.columns().columns;
    let columns = wanted.map_or_else(|| Ok(columns.clone()), |wanted| columns.with(wanted))?;
    Ok(Shape {
        location: match lake.folder().map(std::path::absolute) {
            Some(Ok(folder)) => format!("file://{}", folder.display()),
            _ => lake.display_url().to_owned(),
        },
        schemas: Schemas::new(&columns)?,
        by_channel_type: identity.map(|identity| identity.partition_by.len() > 1),
        filled: state.files().map(|live| live.file.dataset.clone()).collect(),
    })
}
