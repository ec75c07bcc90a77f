//! A first lake without an account: a simulated chat, a sync, edits and deletes, and a revisit a week later.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use simulator::{Config, Simulator, Size, TrueMessage, World, WorldError};

use crate::error::{Error, Kind, Result};
use crate::export::{self, Client, Credentials};
use crate::lake::{Lake, store};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::summary::Summary;
use crate::sync::{Job, Run};
use crate::window::utc_date;

const SEED: u64 = 20_260_105;
/// 2026-01-05T00:00:00Z. All of it happens at the same time for everybody: `queries/expected` says what is in the lake.
const START: Timestamp = Timestamp::constant(1_767_571_200, 0);
const DAYS: usize = 4;
/// From the start to the first export: half a day after the last.
const UNTIL_EXPORT: SignedDuration = SignedDuration::from_hours(24 * 4 + 12);
const AN_HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Long enough for every day to reach the age of seven.
const A_WHILE: SignedDuration = SignedDuration::from_hours(24 * 8);

/// Makes the lake and yields what to do with it.
pub async fn run(dir: &Path, progress: &Progress) -> Result<String> {
    empty(dir)?;
    let exported_at = START + UNTIL_EXPORT;
    let first_day = utc_date(START);
    let size = Size { channels: 12, users: 24, days: DAYS, messages_per_channel_day: 40, first_day, ..Size::default() };
    let mut world = World::seeded(SEED, &size);
    answer_late(&mut world, START + DAY).map_err(unchanged)?;
    let simulator = Simulator::start(Config { world, ..Config::default() })
        .map_err(|error| Error::new(Kind::Temporary, "cannot start the simulator").because(error))?;
    simulator.advance_clock(exported_at.duration_since(simulator.now()));
    crate::clock::advance(exported_at.duration_since(crate::clock::now()).as_secs());
    simulator.change_switches(|switches| switches.task_polls = 1);
    let credentials = Credentials::new(simulator.key(), simulator.secret())?;
    let options = export::Options { clock: crate::clock::now, ..export::Options::default() };
    let client = Client::new(credentials, &simulator.base_url(), options)?;
    let lake = Lake::open(&dir.to_string_lossy(), &store::Env::new()).await?;

    let settings = Settings { start: Some(START), ..Settings::default() };
    let first = done(Run::new(&client, &lake, &settings, progress).execute(Job::Sync, std::future::pending()).await)?;
    let messages = simulator.truth().messages;
    let changes = simulator.world(|world| change(world, &messages, exported_at + AN_HOUR)).map_err(unchanged)?;
    simulator.advance_clock(A_WHILE);
    crate::clock::advance(A_WHILE.as_secs());
    let second =
        done(Run::new(&client, &lake, &settings, progress).execute(Job::Revisit, std::future::pending()).await)?;
    simulator.stop();
    Ok(text(dir, &first, &changes, &second))
}

fn empty(dir: &Path) -> Result<()> {
    let mut entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(Error::new(Kind::Usage, format!("cannot make the demo's lake in {}", dir.display()))
                .because(error)
                .hint("name another folder: chatlake demo DIR"));
        }
    };
    if entries.next().is_none() {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("{} is not empty", dir.display()))
        .hint("remove it, or name another folder: chatlake demo DIR"))
}

fn done((summary, error): (Summary, Option<Error>)) -> Result<Summary> {
    match error {
        Some(error) => Err(error),
        None => Ok(summary),
    }
}

/// One thread of each channel is answered on the day after.
fn answer_late(world: &mut World, end_of_first_day: Timestamp) -> std::result::Result<(), WorldError> {
    let mut answers = Vec::new();
    for channel in world.channels() {
        let mut roots = channel.messages.iter().filter(|message| message.parent_id.is_none());
        let Some(root) = roots.nth(3).filter(|message| message.created_at < end_of_first_day) else { continue };
        let others = channel.members.iter().map(|member| &member.user_id);
        if let Some(user_id) = others.into_iter().find(|user_id| Some(*user_id) != root.user_id.as_ref()) {
            answers.push((root.id.clone(), user_id.clone(), root.created_at + DAY));
        }
    }
    for (root, user_id, at) in answers {
        world.reply(&root, &user_id, "Only saw this now: done", at)?;
    }
    Ok(())
}

/// How many of what.
#[derive(Default)]
struct Changes {
    edited: usize,
    soft_deleted: usize,
    hard_deleted: usize,
    reactions: usize,
    joined: usize,
    left: usize,
}

/// What people do after their messages were exported.
fn change(world: &mut World, messages: &[TrueMessage], at: Timestamp) -> std::result::Result<Changes, WorldError> {
    let pick =
        |skip: usize| messages.iter().filter(|message| message.deleted_at.is_none()).skip(skip).step_by(97).take(6);
    let mut changes = Changes::default();
    for message in pick(3) {
        world.edit(&message.id, &format!("{} (edited)", message.text), at)?;
        changes.edited += 1;
    }
    for message in pick(20) {
        world.soft_delete(&message.id, at)?;
        changes.soft_deleted += 1;
    }
    for message in pick(40).filter(|message| message.parent_id.is_none()).take(3) {
        world.hard_delete(&message.id)?;
        changes.hard_deleted += 1;
    }
    for message in pick(60) {
        if let Some(user_id) = &message.user_id {
            world.react(&message.id, user_id, "tada", at)?;
            changes.reactions += 1;
        }
    }
    // In every team one goes and another comes.
    let teams: Vec<String> =
        world.channels().filter(|channel| channel.channel_type == "team").map(|channel| channel.cid()).collect();
    for cid in teams {
        let members = &mut world.channel_mut(&cid)?.members;
        let before: Vec<String> = members.iter().map(|member| member.user_id.clone()).collect();
        changes.left += usize::from(members.pop().is_some());
        if let Some(newcomer) = world.users().keys().find(|user_id| !before.contains(user_id)).cloned() {
            world.add_member(&cid, &newcomer, at)?;
            changes.joined += 1;
        }
    }
    Ok(changes)
}

fn unchanged(error: WorldError) -> Error {
    Error::new(Kind::Internal, "the demo's chat cannot be changed").because(error)
}

fn text(dir: &Path, first: &Summary, changes: &Changes, second: &Summary) -> String {
    let dir = dir.display();
    let rows = |summary: &Summary, dataset: &str| summary.datasets.get(dataset).map_or(0, |dataset| dataset.rows);
    let Changes { edited, soft_deleted, hard_deleted, reactions, joined, left } = changes;
    let days = |summary: &Summary| {
        let since = summary.cells.first().map_or(Timestamp::UNIX_EPOCH, |cell| cell.since);
        format!("{} days from {}", summary.cells.len(), utc_date(since))
    };
    format!(
        "\
A simulated chat of {days}, exported and committed to {dir}:
  {messages} messages, {reactions_written} reactions, {channels} channels, {members} members, {users} users

Then {edited} messages were edited, {soft_deleted} deleted softly and {hard_deleted} for good, {reactions} got a new reaction, {left} people left their team and
{joined} came, and eight days passed.
A revisit exported each day again and replaced what had changed: {partitions} partitions;
{vanished} rows are not delivered any more and carry the date in _vanished_at.

Look at it with DuckDB (pip install duckdb):
import duckdb; print(duckdb.sql(\"\"\"
  SELECT event_date, count(*) AS messages, count(DISTINCT user_id) AS people
  FROM read_parquet('{dir}/messages/**/*.parquet', hive_partitioning = true, union_by_name = true)
  WHERE _vanished_at IS NULL GROUP BY ALL ORDER BY 1\"\"\"))

with Polars (pip install polars):
import polars as pl; print(
  pl.scan_parquet('{dir}/messages/**/*.parquet', hive_partitioning=True)
    .filter(pl.col('_vanished_at').is_null()).group_by('cid').len()
    .sort('len', descending=True).head(5).collect())

or with pandas (pip install pandas pyarrow):
import pandas as pd; r = pd.read_parquet('{dir}/reactions'); print(
  r[r['_vanished_at'].isna()].groupby('type').size().sort_values(ascending=False))

What each column means: chatlake schema messages
What people ask, with the answers for this lake: queries/ in the repository
",
        days = days(first),
        messages = rows(first, "messages"),
        reactions_written = rows(first, "reactions"),
        channels = rows(first, "channels"),
        members = rows(first, "members"),
        users = rows(first, "users"),
        partitions = second.partitions_changed.iter().filter(|name| name.contains("event_date")).count(),
        vanished = second.vanished,
    )
}
