//! A first lake without an account: a simulated chat, a sync, edits and deletes, and a revisit a week later.

use std::path::Path;

use jiff::{SignedDuration, Timestamp, ToSpan};
use simulator::{Config, Simulator, Size, World};

use crate::error::{Error, Kind, Result};
use crate::export::{self, Client, Credentials};
use crate::lake::{Lake, store};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::summary::Summary;
use crate::sync::{Job, Run};
use crate::window::utc_date;

const SEED: u64 = 20_260_105;
const DAYS: usize = 4;
/// Long enough for every day to reach the age of seven.
const A_WHILE: SignedDuration = SignedDuration::from_hours(24 * 8);

/// Makes the lake and yields what to do with it.
pub async fn run(dir: &Path, progress: &Progress) -> Result<String> {
    empty(dir)?;
    let today = utc_date(crate::clock::now());
    let first_day = today.saturating_sub(i64::try_from(DAYS).unwrap_or(i64::MAX).days());
    let size = Size { channels: 12, users: 24, days: DAYS, messages_per_channel_day: 40, first_day, ..Size::default() };
    let simulator = Simulator::start(Config { world: World::seeded(SEED, &size), ..Config::default() })
        .map_err(|error| Error::new(Kind::Temporary, "cannot start the simulator").because(error))?;
    simulator.change_switches(|switches| switches.task_polls = 1);
    let credentials = Credentials::new(simulator.key(), simulator.secret())?;
    let options = export::Options { clock: crate::clock::now, ..export::Options::default() };
    let client = Client::new(credentials, &simulator.base_url(), options)?;
    let lake = Lake::open(&dir.to_string_lossy(), &store::Env::new()).await?;

    let start = first_day.to_zoned_datetime(jiff::tz::TimeZone::UTC).map(|midnight| midnight.timestamp()).ok();
    let settings = Settings { start, ..Settings::default() };
    let first = done(Run::new(&client, &lake, &settings, progress).execute(Job::Sync, std::future::pending()).await)?;
    let changes = change(&simulator)?;
    simulator.advance_clock(A_WHILE);
    crate::clock::advance(A_WHILE.as_secs());
    let second =
        done(Run::new(&client, &lake, &settings, progress).execute(Job::Revisit, std::future::pending()).await)?;
    simulator.stop();
    Ok(text(dir, &first, changes, &second))
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

/// What people do after their messages were exported: (edits, soft deletes, hard deletes, reactions).
fn change(simulator: &Simulator) -> Result<(usize, usize, usize, usize)> {
    let truth = simulator.truth();
    let now = simulator.now();
    let pick = |skip: usize| {
        truth.messages.iter().filter(|message| message.deleted_at.is_none()).skip(skip).step_by(97).take(6)
    };
    let mut counts = (0, 0, 0, 0);
    simulator
        .world(|world| {
            for message in pick(3) {
                world.edit(&message.id, &format!("{} (edited)", message.text), now)?;
                counts.0 += 1;
            }
            for message in pick(20) {
                world.soft_delete(&message.id, now)?;
                counts.1 += 1;
            }
            for message in pick(40).filter(|message| message.parent_id.is_none()).take(3) {
                world.hard_delete(&message.id)?;
                counts.2 += 1;
            }
            for message in pick(60) {
                if let Some(user_id) = &message.user_id {
                    world.react(&message.id, user_id, "tada", now)?;
                    counts.3 += 1;
                }
            }
            Ok(())
        })
        .map_err(|error: simulator::WorldError| {
            Error::new(Kind::Internal, "the demo's chat cannot be changed").because(error)
        })?;
    Ok(counts)
}

fn text(dir: &Path, first: &Summary, changes: (usize, usize, usize, usize), second: &Summary) -> String {
    let dir = dir.display();
    let rows = |summary: &Summary, dataset: &str| summary.datasets.get(dataset).map_or(0, |dataset| dataset.rows);
    let (edits, soft, hard, reactions) = changes;
    let days = |summary: &Summary| {
        let since = summary.cells.first().map_or(Timestamp::UNIX_EPOCH, |cell| cell.since);
        format!("{} days from {}", summary.cells.len(), utc_date(since))
    };
    format!(
        "\
A simulated chat of {days}, exported and committed to {dir}:
  {messages} messages, {reactions_written} reactions, {channels} channels, {members} members, {users} users

Then {edits} messages were edited, {soft} deleted softly and {hard} for good, {reactions} got a new reaction, and eight days passed.
A revisit exported each day again and replaced what had changed: {partitions} partitions;
{vanished} rows are not delivered any more and carry the date in _vanished_at.

Look at it with DuckDB (pip install duckdb):
  import duckdb; print(duckdb.sql(\"\"\"
    SELECT event_date, count(*) AS messages, count(DISTINCT user_id) AS people
    FROM read_parquet('{dir}/messages/*/*.parquet', hive_partitioning = true)
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
