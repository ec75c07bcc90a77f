//! What is told on stderr while a command is at work: lines for people, JSON for machines.

use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{LogFormat, Manners};
use crate::error::Error;
use crate::progress::Progress;

/// From here on what happens is logged, beside the progress if that is shown.
pub fn begin(manners: &Manners, progress: &Progress, is_shown: bool) {
    let is_terminal = std::io::stderr().is_terminal();
    let level = match (manners.quiet, manners.verbose, manners.log_format) {
        (true, ..) => "error",
        // Progress says what goes on; and where nobody watches, a run that goes well is silent, since schedulers mail what is said.
        (_, 0, LogFormat::Text) if is_shown || !is_terminal => "warn",
        (_, 0, _) => "info",
        (_, 1, _) => "debug",
        _ => "trace",
    };
    // HTTP libraries log URLs, and a signed URL is a secret: they never say more than warnings.
    let others = if manners.quiet { "error" } else { "warn" };
    let filter = EnvFilter::try_new(format!("{others},chatlake={level},simulator={others}")).unwrap_or_default();
    let subscriber = tracing_subscriber::registry().with(filter);
    let writer = progress.log_writer();
    match manners.log_format {
        LogFormat::Text => {
            let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
            subscriber.with(lines.with_target(false).with_ansi(is_terminal)).init();
        }
        LogFormat::Json => {
            let objects = json_subscriber::fmt::layer().with_writer(move || writer.clone());
            // The spans are runs, named after their commands; levels of spans are such that none is left out.
            let objects = objects.flatten_event(true).with_span_list(false).with_current_span(false);
            subscriber.with(objects.flatten_current_span_on_top_level(true).with_target(false)).init();
        }
    }
}

/// Tells what a command ended with, in the form of the log.
pub fn tell(error: &Error, format: LogFormat) {
    match format {
        // Nobody may be listening, which is no reason to fail differently.
        LogFormat::Text => drop(writeln!(std::io::stderr(), "{}", error.report())),
        LogFormat::Json => tracing::error!(
            run_id = error.run_id().map(tracing::field::display),
            exit_code = error.kind().exit_code(),
            shown = error.shown(),
            hint = error.next_step(),
            "{}",
            error.line()
        ),
    }
}
