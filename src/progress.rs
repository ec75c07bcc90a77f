//! What a person at a terminal sees while a run is at work. Nothing at all when nobody watches.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::figures::{bytes, count};

/// A line at the bottom of the terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    channels: AtomicU64,
    requested: AtomicU64,
    decoded: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    in_flight: AtomicU64,
}

/// An export that is followed, until this is dropped.
#[derive(Debug)]
pub struct Followed<'p>(&'p Progress);

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Progress {
    /// On stderr, or nowhere.
    pub fn new(is_shown: bool) -> Self {
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {msg} {elapsed}") {
            bar.set_style(style);
        }
        if is_shown {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        let zero = AtomicU64::default;
        Self {
            bar,
            channels: zero(),
            requested: zero(),
            decoded: zero(),
            messages: zero(),
            bytes: zero(),
            in_flight: zero(),
        }
    }

    /// A span begins.
    pub fn span(&self, name: String) {
        for counter in [&self.channels, &self.requested, &self.decoded, &self.messages, &self.bytes] {
            counter.store(0, Relaxed);
        }
        self.bar.set_prefix(name);
        self.show();
    }

    /// Channels were found.
    pub fn channels(&self, channels: usize) {
        self.channels.fetch_add(channels as u64, Relaxed);
        self.show();
    }

    /// An export was begun.
    pub fn requested(&self) {
        self.requested.fetch_add(1, Relaxed);
        self.show();
    }

    /// An export is followed.
    pub fn follows(&self) -> Followed<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        Followed(self)
    }

    /// Exports that are followed now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Bytes have come.
    pub fn downloaded(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.show();
    }

    /// An export was read.
    pub fn decoded(&self, messages: u64) {
        self.decoded.fetch_add(1, Relaxed);
        self.messages.fetch_add(messages, Relaxed);
        self.show();
    }

    /// Files are written.
    pub fn writing(&self) {
        self.bar.set_message("writing files");
    }

    /// Something else goes on.
    pub fn says(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// The line goes away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A place for log lines that does not tear the line at the bottom.
    pub fn log_writer(&self) -> LogWriter {
        LogWriter { bar: self.bar.clone() }
    }

    fn show(&self) {
        if !self.bar.is_hidden() {
            // Exports of users have none.
            let channels = match self.channels.load(Relaxed) {
                0 => String::new(),
                channels => format!("{}, ", count(channels, "channel")),
            };
            self.bar.set_message(format!(
                "{channels}{}/{}, {}, {}",
                self.decoded.load(Relaxed),
                count(self.requested.load(Relaxed), "export"),
                count(self.messages.load(Relaxed), "message"),
                bytes(self.bytes.load(Relaxed))
            ));
        }
    }
}

/// Writes to stderr above the progress line.
#[derive(Clone, Debug)]
pub struct LogWriter {
    bar: ProgressBar,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bar.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
