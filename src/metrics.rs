//! What runs have done, for Prometheus: over HTTP while a process stays, or as a file when it ends.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::error::{Error, Kind, Result};
use crate::export::{Client, Endpoint, Outcome};
use crate::progress::Progress;
use crate::summary::Summary;

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

/// The metrics of this process. Counters begin at zero with it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    runs: Counters,
    cells: Counters,
    rows: Counters,
    files: Counters,
    written_bytes: Counters,
    downloaded_bytes: Counter,
    exports: Counters,
    api_calls: Counters,
    api_retries: Counters,
    rejected_lines: Counter,
    in_flight: Gauge,
    last_run: Seconds,
    last_success: Seconds,
    last_duration: Seconds,
    last_exit_code: Gauge,
    resident_bytes: Gauge,
    covered_until: Mutex<Option<Timestamp>>,
    followed: Mutex<Option<Followed>>,
}

/// The client of the run that is at work, and what is counted of it already, in the order of [`Metrics::count_calls`].
#[derive(Debug)]
struct Followed {
    client: Client,
    counted: Vec<u64>,
}

impl Metrics {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let chatlake = registry.sub_registry_with_prefix("chatlake");
        let counters = |registry: &mut Registry, name: &str, help: &str| {
            let counters = Counters::default();
            registry.register(name, help, counters.clone());
            counters
        };
        let bytes = |registry: &mut Registry, name: &str, help: &str| {
            let counters = Counters::default();
            registry.register_with_unit(name, help, Unit::Bytes, counters.clone());
            counters
        };
        let seconds = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Seconds::default();
            registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
            gauge
        };
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let downloaded_bytes = Counter::default();
        chatlake.register_with_unit("downloaded", "Bytes of exports", Unit::Bytes, downloaded_bytes.clone());
        let rejected_lines = Counter::default();
        chatlake.register("rejected_lines", "Lines that went to quarantine", rejected_lines.clone());
        let metrics = Self {
            runs: counters(chatlake, "runs", "Runs that ended, by status"),
            cells: counters(chatlake, "cells", "Cells that runs were about, by status"),
            rows: counters(chatlake, "rows", "Rows committed, by dataset"),
            files: counters(chatlake, "files", "Files committed, by dataset"),
            written_bytes: bytes(chatlake, "written", "Bytes of files committed, by dataset"),
            downloaded_bytes,
            exports: counters(chatlake, "exports", "Export tasks, by what became of them"),
            api_calls: counters(chatlake, "api_calls", "Requests to Stream, by endpoint and outcome"),
            api_retries: counters(chatlake, "api_retries", "Requests to Stream that were repeated, by endpoint"),
            rejected_lines,
            in_flight: gauge(chatlake, "exports_in_flight", "Export tasks that are followed now"),
            last_run: seconds(chatlake, "last_run_timestamp", "When the last run ended, since 1970"),
            last_success: seconds(chatlake, "last_success_timestamp", "When the last run ended with 0, since 1970"),
            last_duration: seconds(chatlake, "last_run_duration", "How long the last run took"),
            last_exit_code: gauge(chatlake, "last_run_exit_code", "Exit code of the last run"),
            resident_bytes: {
                let gauge = Gauge::default();
                registry.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, gauge.clone());
                gauge
            },
            registry,
            covered_until: Mutex::default(),
            followed: Mutex::default(),
        };
        metrics.show_names();
        metrics
    }

    /// What is counted by endpoint or status is there from the first scrape on, so that a rate has a beginning.
    fn show_names(&self) {
        for endpoint in Endpoint::ALL {
            for outcome in Outcome::ALL {
                drop(self.api_calls.get_or_create(&call(endpoint, outcome)));
            }
            drop(self.api_retries.get_or_create(&label("endpoint", endpoint.name())));
        }
        for outcome in ["requested", "adopted", "failed"] {
            drop(self.exports.get_or_create(&label("outcome", outcome)));
        }
    }

    /// A run begins, with a client of its own: its requests are counted while it is at work.
    pub fn follow(&self, client: Client) {
        self.count_calls();
        *lock(&self.followed) = Some(Followed { client, counted: Vec::new() });
    }

    /// Counts the requests since the last look.
    fn count_calls(&self) {
        let mut followed = lock(&self.followed);
        let Some(Followed { client, counted }) = followed.as_mut() else { return };
        let calls = Endpoint::ALL.into_iter().flat_map(|endpoint| {
            Outcome::ALL.map(|outcome| (&self.api_calls, call(endpoint, outcome), client.ended(endpoint, outcome)))
        });
        let retries = Endpoint::ALL
            .into_iter()
            .map(|endpoint| (&self.api_retries, label("endpoint", endpoint.name()), client.retries(endpoint)));
        let now: Vec<_> = calls.chain(retries).collect();
        counted.resize(now.len(), 0);
        for ((counters, labels, number), counted) in now.into_iter().zip(counted) {
            counters.get_or_create(&labels).inc_by(number - std::mem::replace(counted, number));
        }
    }

    /// The run that was begun has ended at `now` with this code.
    pub fn observe(&self, summary: &Summary, exit_code: u8, now: Timestamp) {
        self.runs.get_or_create(&label("status", summary.status.name())).inc();
        for cell in &summary.cells {
            self.cells.get_or_create(&label("status", cell.status.name())).inc();
        }
        for (dataset, written) in &summary.datasets {
            let dataset = label("dataset", dataset);
            self.rows.get_or_create(&dataset).inc_by(written.rows);
            self.files.get_or_create(&dataset).inc_by(written.files);
            self.written_bytes.get_or_create(&dataset).inc_by(written.bytes);
        }
        let tasks = &summary.export_tasks;
        for (outcome, count) in [("requested", tasks.requested), ("adopted", tasks.adopted), ("failed", tasks.failed)] {
            self.exports.get_or_create(&label("outcome", outcome)).inc_by(count);
        }
        self.downloaded_bytes.inc_by(summary.bytes_downloaded);
        self.rejected_lines.inc_by(summary.rejected);
        self.count_calls();
        *lock(&self.followed) = None;
        self.last_run.set(since_1970(now));
        if exit_code == 0 {
            self.last_success.set(since_1970(now));
        }
        self.last_duration.set(summary.duration_seconds);
        self.last_exit_code.set(exit_code.into());
        if summary.frontier.is_some() {
            *lock(&self.covered_until) = summary.frontier;
        }
    }

    /// All of it as text, as it is at `now`.
    pub fn render(&self, progress: &Progress, now: Timestamp) -> String {
        self.count_calls();
        self.in_flight.set(i64::try_from(progress.in_flight()).unwrap_or(i64::MAX));
        self.resident_bytes.set(resident_bytes());
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode_registry(&mut text, &self.registry);
        let until = *lock(&self.covered_until);
        let _ = until.map(|until| encode_registry(&mut text, &frontier(until, now)));
        let _ = encode_eof(&mut text);
        text
    }

    /// The same for a textfile collector into a file, whole or not at all: whoever collects it may look at any time.
    pub fn write(&self, path: &Path, progress: &Progress, now: Timestamp) -> Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let written = tempfile::Builder::new().prefix(".chatlake-metrics").tempfile_in(folder).and_then(|mut file| {
            file.write_all(classic(&self.render(progress, now)).as_bytes())?;
            readable(file.as_file())?;
            file.persist(path).map_err(|error| error.error)
        });
        written.map(drop).map_err(|error| {
            Error::new(Kind::Usage, format!("cannot write the metrics to {}", path.display()))
                .because(error)
                .hint("check the folder of --metrics-file and its rights")
        })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// OpenMetrics as the text of Prometheus, which is all that textfile collectors read: there the type of a counter belongs to
/// its sample, whose name has the suffix, and units and the end have no line.
fn classic(open_metrics: &str) -> String {
    let mut counters = HashSet::new();
    for line in open_metrics.lines() {
        counters.extend(line.strip_prefix("# TYPE ").and_then(|line| line.strip_suffix(" counter")));
    }
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let told = ["# HELP ", "# TYPE "].into_iter().find_map(|word| Some((word, line.strip_prefix(word)?)));
        let told = told.and_then(|(word, rest)| Some((word, rest.split_once(' ')?)));
        match told {
            Some((word, (name, rest))) if counters.contains(name) => text += &format!("{word}{name}_total {rest}\n"),
            None if line.starts_with('#') => {}
            _ => text += &format!("{line}\n"),
        }
    }
    text
}

/// There only if there is one: a zero would be a lag of nothing, at which no alert goes off.
fn frontier(until: Timestamp, now: Timestamp) -> Registry {
    let mut registry = Registry::default();
    let chatlake = registry.sub_registry_with_prefix("chatlake");
    let mut seconds = |name: &str, help: &str, value: f64| {
        chatlake.register_with_unit(name, help, Unit::Seconds, ConstGauge::new(value));
    };
    seconds("frontier_timestamp", "The end of contiguous coverage, since 1970", since_1970(until));
    seconds("frontier_lag", "How long ago contiguous coverage ends", now.duration_since(until).as_secs_f64());
    registry
}

/// Temporary files are their owner's alone; collectors run as others.
#[cfg(unix)]
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn label(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}

fn call(endpoint: Endpoint, outcome: Outcome) -> Labels {
    vec![("endpoint", endpoint.name().to_owned()), ("outcome", outcome.name().to_owned())]
}

fn since_1970(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

/// As Linux tells it; 0 elsewhere.
fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok()).map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_textfile_has_the_types_where_its_collectors_look_for_them() {
        let metrics = Metrics::new();
        metrics.downloaded_bytes.inc_by(7);
        metrics.in_flight.set(2);
        let text = classic(&metrics.render(&Progress::new(false), Timestamp::UNIX_EPOCH));
        for part in [
            "# HELP chatlake_downloaded_bytes_total Bytes of exports.\n# TYPE chatlake_downloaded_bytes_total counter\nchatlake_downloaded_bytes_total 7\n",
            "# TYPE chatlake_exports_in_flight gauge\nchatlake_exports_in_flight 0\n",
            "# TYPE chatlake_api_calls_total counter\n",
        ] {
            assert!(text.contains(part), "{part}{text}");
        }
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
    }
}
