//! What the store of a lake allows and keeps, and whose lake lies there.

use std::collections::BTreeSet;
use std::path::Path as FsPath;

use futures::TryStreamExt;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde_json::json;
use uuid::Uuid;

use super::{Finding, within};
use crate::error::{Error, Kind, Result};
use crate::figures::count;
use crate::lake::store_error::store_error;
use crate::lake::{Env, Identity, Key, Lake, Source};
use crate::settings::Settings;

const NAMES: [&str; 6] = ["lake", "objects", "conditional create", "versions and rules", "identity", "log"];

/// Writers that try for the same object at once.
const RACERS: usize = 8;

/// One finding for each of [`NAMES`], in that order.
pub(super) async fn findings(
    lake: Option<&str>,
    env: &Env,
    app_key: Option<&str>,
    selected: Option<&Settings>,
) -> Vec<Finding> {
    let Some(location) = lake else {
        let next = "set CHATLAKE_LAKE or --lake to s3://bucket/prefix, file:///folder or a path";
        return NAMES
            .map(|check| {
                let next = if check == NAMES[0] { next } else { "see `lake`" };
                Finding::skipped("no lake is named", next).named(check)
            })
            .into();
    };
    let mut opened = None;
    let lake = within("lake", async {
        let lake = opened.insert(Lake::open(location, env).await?);
        Ok(Finding::ok(format!("{} can be listed", lake.display_url())))
    })
    .await;
    let mut findings = vec![lake];
    let Some(lake) = opened else {
        let skipped = |check: &&'static str| Finding::skipped("not tried", "see `lake`").named(check);
        findings.extend(NAMES[1..].iter().map(skipped));
        return findings;
    };
    let was_there = lake.folder().is_none_or(FsPath::exists);
    let mut version = None;
    findings.push(within("objects", objects(&lake, &mut version)).await);
    findings.push(within("conditional create", conditional_create(&lake)).await);
    if !was_there {
        remove_empty(&lake);
    }
    findings.push(versions(&lake, version).named("versions and rules"));
    findings.push(within("identity", identity(&lake, app_key, selected)).await);
    findings.push(within("log", log(&lake)).await);
    findings
}

fn probe() -> Path {
    Key::Probe(Uuid::now_v7()).path()
}

/// Writes, reads, copies, lists and deletes. Yields whether the store keeps versions, if anything could be written.
async fn objects(lake: &Lake, is_versioned: &mut Option<bool>) -> Result<Finding> {
    let (one, other) = (probe(), probe());
    let cannot = |doing: &'static str| move |error| store_error(doing, lake.display_url(), error);
    let payload = PutPayload::from("{\"check\":1}");
    let put = lake.store().put(&one, payload.clone()).await.map_err(cannot("cannot write an object"))?;
    *is_versioned = Some(put.version.is_some());
    let used = async {
        lake.store().copy(&one, &other).await.map_err(cannot("cannot copy an object"))?;
        let copy = lake.store().get(&other).await.map_err(cannot("cannot read an object"))?;
        let copy = copy.bytes().await.map_err(cannot("cannot read an object"))?;
        if copy != bytes::Bytes::from(payload) {
            return Err(differs("an object is not what was written"));
        }
        let folder = Path::from_iter(Key::private().parts().chain(Path::from("probe").parts()));
        let listed: BTreeSet<Path> = lake
            .store()
            .list(Some(&folder))
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(cannot("cannot list objects"))?;
        if !(listed.contains(&one) && listed.contains(&other)) {
            return Err(differs("an object that was written is not listed"));
        }
        Ok(())
    }
    .await;
    // Whatever went wrong, what was written goes.
    let deleted = lake.delete(vec![one.clone(), other]).await;
    used?;
    deleted?;
    match lake.store().head(&one).await {
        Err(object_store::Error::NotFound { .. }) => {
            Ok(Finding::ok("written, read, copied, listed and deleted below `_chatlake/probe/`"))
        }
        Ok(_) => Err(differs("an object that was deleted is still there")),
        Err(error) => Err(cannot("cannot look for an object")(error)),
    }
}

fn differs(what: &str) -> Error {
    Error::new(Kind::UnsafeStore, what)
        .hint("chatlake needs a store that shows at once what was written and deleted: use another")
}

/// A race for one object, which exactly one may win, and then once more, which nobody may.
async fn conditional_create(lake: &Lake) -> Result<Finding> {
    let key = probe();
    let raced = race(lake, &key).await;
    let deleted = lake.delete(vec![key]).await;
    let finding = raced?;
    deleted?;
    Ok(finding)
}

async fn race(lake: &Lake, key: &Path) -> Result<Finding> {
    use object_store::Error as Store;
    let cannot = |error| store_error("cannot test conditional writes", lake.display_url(), error);
    let create = |racer: usize| {
        let body = PutPayload::from(json!({ "racer": racer }).to_string());
        async move { lake.store().put_opts(key, body, PutOptions::from(PutMode::Create)).await }
    };
    let mut winners = Vec::new();
    for (racer, result) in join_all((0..RACERS).map(create)).await.into_iter().enumerate() {
        match result {
            Ok(_) => winners.push(racer),
            Err(Store::AlreadyExists { .. } | Store::Precondition { .. }) => {}
            Err(error) => return Err(cannot(error)),
        }
    }
    let unsafe_store = |what: String| {
        Error::new(Kind::UnsafeStore, what).hint(
            "use a store that honours If-None-Match on PUT; or, if no two runs ever overlap, run with --single-writer",
        )
    };
    if winners.len() > 1 {
        let winners = winners.len();
        return Err(unsafe_store(format!("{winners} of {RACERS} writers created the same object at once")));
    }
    let kept = lake.store().get(key).await.map_err(cannot)?.bytes().await.map_err(cannot)?;
    // Without a winner its answer was lost, and its own second try was refused.
    if let [winner] = winners.as_slice()
        && kept != json!({ "racer": winner }).to_string()
    {
        return Err(unsafe_store(
            "the object is not the one of the writer that was told to have created it".to_owned(),
        ));
    }
    match create(RACERS).await {
        Err(Store::AlreadyExists { .. } | Store::Precondition { .. }) => {}
        Err(error) => return Err(cannot(error)),
        Ok(_) => return Err(unsafe_store("an object that exists was created again".to_owned())),
    }
    Ok(Finding::ok(format!("of {RACERS} writers at once exactly one created the object, and nobody after them")))
}

/// What the store does with what is replaced or deleted. Rules cannot be asked for by what runs use.
fn versions(lake: &Lake, is_versioned: Option<bool>) -> Finding {
    if lake.folder().is_some() {
        return Finding::skipped("a folder has neither", "keep other programs out of `_chatlake/`");
    }
    const RULES: &str = "look at the bucket's lifecycle rules (aws s3api get-bucket-lifecycle-configuration): none may delete below \
                         `_chatlake/`; aborting incomplete multipart uploads after 7 days is right for all of it";
    match is_versioned {
        Some(true) => Finding::ok("old versions are kept: what is replaced or deleted goes on to cost storage")
            .then(&format!("{RULES}, and so is expiring noncurrent versions of the data")),
        Some(false) => Finding::ok("no versions are kept: what is deleted is gone, the log as well").then(RULES),
        None => Finding::skipped("nothing could be written, so the store has not told", RULES),
    }
}

async fn identity(lake: &Lake, app_key: Option<&str>, selected: Option<&Settings>) -> Result<Finding> {
    let Some(identity) = lake.identity().await? else {
        return Ok(Finding::ok("no lake is here yet: the first run that commits makes it"));
    };
    identity.check_format(lake.display_url())?;
    if identity.source == Source::Files {
        return Err(Error::new(Kind::Usage, "the lake is made of files, and runs that export make another")
            .hint("name another --lake"));
    }
    let format = identity.format;
    match app_key {
        None => Ok(Finding::skipped(
            format!("a lake of format {format}; whether of this app is not known without its key"),
            "set STREAM_API_KEY",
        )),
        Some(key) if key != identity.app_key => Err(Error::new(Kind::Usage, "the lake is another app's")
            .hint("name another --lake, or set STREAM_API_KEY to the key that `chatlake status` shows")),
        Some(key) => {
            let Some(settings) = selected else {
                return Ok(Finding::ok(format!("a lake of this app, format {format}")));
            };
            let Identity { selection, include, .. } = settings.identity(key);
            identity.check(&Identity { selection, include, ..identity.clone() }, lake.display_url())?;
            Ok(Finding::ok(format!("a lake of this app and of this selection, format {format}")))
        }
    }
}

async fn log(lake: &Lake) -> Result<Finding> {
    let state = lake.state().await?;
    let entries = state.next() - 1;
    let until = state.frontier().map_or_else(String::new, |at| format!(", covered without a gap until {at}"));
    Ok(Finding {
        figures: json!({ "entries": entries }),
        ..Finding::ok(format!("{} can be read{until}", count(entries, "entry")))
    })
}

/// Takes away the folders that looking has made where there was nothing. What is not empty stays.
fn remove_empty(lake: &Lake) {
    let Some(folder) = lake.folder() else { return };
    let private = folder.join(Key::private().as_ref());
    for folder in [private.join("probe").as_path(), &private, folder] {
        let _ = std::fs::remove_dir(folder);
    }
}
