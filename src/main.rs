//! The command line of chatlake.

use std::io::{IsTerminal, Write};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::Arc;

use chatlake::cli::configuration::{InForce, template};
use chatlake::cli::layers::{self, Parsed, Refusal};
use chatlake::cli::{
    CheckArgs, Cli, Command, Convert, DemoArgs, FilesArgs, GcArgs, InitArgs, LakeArg, LogFormat, Manners, MetricsArg,
    Options, ProgressMode, SchemaArgs, StatusArgs, StreamArg, Sync, Users, VerifyArgs,
};
use chatlake::columns::{Columns, Schemas};
use chatlake::config::Config;
use chatlake::convert::Conversion;
use chatlake::error::{Error, Kind, Result};
use chatlake::export::{self, Client, Credentials};
use chatlake::figures::count;
use chatlake::inspect::against_stream::Sample;
use chatlake::inspect::{files, shape, status, verify};
use chatlake::lake::{Lake, store};
use chatlake::metrics::Metrics;
use chatlake::pipeline::channels::PER_QUERY;
use chatlake::progress::Progress;
use chatlake::resident::{self, Rhythm};
use chatlake::serve;
use chatlake::settings::Settings;
use chatlake::summary::{Status, Summary};
use chatlake::sync::{Job, PlannedSpan, Run};
use chatlake::users::UsersRun;
use chatlake::{check, clock, demo, gc, logs, schema};
use jiff::SignedDuration;

/// Gives back what is freed, whichever thread has taken it.
#[cfg(all(unix, not(target_os = "macos")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the allocator reads when it begins, so that the process takes little more than what it uses: one arena, caches of threads for small
/// things only, and free pages go back to the system after half a second. `MALLOC_CONF` has the last word.
// SAFETY: the name is jemalloc's for this, a pointer to a text that ends with a zero, and nothing else of the program has it.
#[cfg(all(unix, not(target_os = "macos")))]
#[allow(unsafe_code)]
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8; 62] = b"narenas:1,tcache_max:4096,dirty_decay_ms:500,muzzy_decay_ms:0\0";

/// Threads that wait for the network. They do nothing that takes long.
const MOST_WORKERS: usize = 4;

/// Threads for disks, beside those that decode: each that is there takes memory.
const DISK_THREADS: usize = 6;

fn main() -> ExitCode {
    let Parsed { cli, config } = match layers::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(Refusal::CommandLine(error)) => error.exit(),
        Err(Refusal::Config(error)) => return end(&error, LogFormat::Text),
    };
    let shown = cli.manners.progress == ProgressMode::Auto && !cli.manners.quiet && std::io::stderr().is_terminal();
    let progress = Arc::new(Progress::new(shown));
    logs::begin(&cli.manners, &progress, shown);
    for (name, meant) in layers::misspelt(store::process_env().into_keys()) {
        tracing::warn!("the variable {name} is not read: did you mean {meant}?");
    }
    let format = cli.manners.log_format;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MOST_WORKERS))
        .max_blocking_threads(cores + DISK_THREADS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return end(&Error::new(Kind::Temporary, "cannot start the runtime").because(error), format),
    };
    let result = runtime.block_on(run(&cli, config.as_ref(), &progress));
    progress.finish();
    // Threads that still sort or encode have nothing to finish: what they wrote is not committed.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => end(&error, format),
    }
}

fn end(error: &Error, format: LogFormat) -> ExitCode {
    logs::tell(error, format);
    error.exit_code()
}

async fn run(cli: &Cli, config: Option<&Config>, progress: &Arc<Progress>) -> Result<ExitCode> {
    let manners = &cli.manners;
    let columns = &config.cloned().unwrap_or_default();
    match &cli.command {
        Command::Sync(sync) => match sync.rhythm() {
            Some(every) => stay(sync, every, &sync.settings(columns)?, manners, progress).await,
            None => {
                if sync.every.is_none() && sync.listen.as_deref().is_some_and(|address| !address.is_empty()) {
                    tracing::warn!("nothing answers at --listen without --every: this is one run");
                }
                job(Job::Sync, &sync.options, &sync.settings(columns)?, manners, progress).await
            }
        },
        Command::Revisit(options) => job(Job::Revisit, options, &options.settings(columns)?, manners, progress).await,
        Command::Backfill(backfill) => {
            job(Job::Backfill(backfill.range()?), &backfill.options, &backfill.settings(columns)?, manners, progress)
                .await
        }
        Command::Users(args) => users(args, columns, manners, progress).await,
        Command::Convert(args) => convert(args, columns, manners, progress).await,
        Command::Check(args) => unless_interrupted(check_setup(args, manners)).await,
        Command::Status(args) => unless_interrupted(show_status(args, manners)).await,
        Command::Files(args) => unless_interrupted(list_files(args, manners)).await,
        Command::Verify(args) => unless_interrupted(verify_lake(args, manners)).await,
        Command::Gc(args) => unless_interrupted(collect_garbage(args, manners)).await,
        Command::Schema(args) => unless_interrupted(show_schema(args, config)).await,
        Command::Init(args) => write_template(args),
        Command::Config => {
            let in_force = InForce::of(config, manners.config.as_deref(), &store::process_env())?;
            show(manners, &in_force.to_json(), &in_force.to_text())
        }
        Command::Demo(DemoArgs { dir }) => print(&unless_interrupted(demo::run(dir, progress)).await?),
    }
}

async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        result = work => result,
        error = interrupted() => Err(error),
    }
}

async fn job(
    job: Job,
    options: &Options,
    settings: &Settings,
    manners: &Manners,
    progress: &Progress,
) -> Result<ExitCode> {
    let mut stop = pin!(interrupted());
    warn_of_expenses(settings);
    if options.plan {
        let client = client(&options.stream, options.exports.rate.rate_share()?)?;
        let lake = tokio::select! {
            lake = open_to_write(&options.lake, settings) => lake?,
            error = &mut stop => return Err(error),
        };
        let mut run = Run::new(&client, &lake, settings, progress);
        let spans = tokio::select! {
            spans = run.plan(job) => spans?,
            error = &mut stop => return Err(error),
        };
        progress.finish();
        return print(&plan_text(&spans, manners.json));
    }
    let report = Report { manners, metrics: &Metrics::new(), file: &options.metrics, progress };
    one_run(job, options, settings, &report, stop).await
}

/// Run after run, until the process is told to stop.
async fn stay(
    sync: &Sync,
    every: SignedDuration,
    settings: &Settings,
    manners: &Manners,
    progress: &Arc<Progress>,
) -> Result<ExitCode> {
    // Without credentials no run can begin, and nobody would see it before the first alert.
    client(&sync.options.stream, sync.options.exports.rate.rate_share()?)?;
    let metrics = Arc::new(Metrics::new());
    if let Some(address) = sync.listen.as_deref().filter(|address| !address.is_empty()) {
        let listener = serve::bind(address).await?;
        let at = listener.local_addr().map_or_else(|_| address.to_owned(), |address| address.to_string());
        tracing::info!(url = %format_args!("http://{at}"), "answering /metrics and /healthz");
        let (metrics, progress) = (Arc::clone(&metrics), Arc::clone(progress));
        tokio::spawn(serve::serve(listener, move || metrics.render(&progress, clock::now())));
    }
    warn_of_expenses(settings);
    let rhythm = Rhythm { every, settle: settings.rules.settle };
    let report = Report { manners, metrics: &metrics, file: &sync.options.metrics, progress };
    let stop = pin!(interrupted());
    let error = resident::stay(rhythm, clock::now, stop, async |stop| {
        let error = one_run(Job::Sync, &sync.options, settings, &report, stop).await.err()?;
        // Whoever ends the process prints it.
        if !matches!(error.kind(), Kind::Interrupted | Kind::Terminated | Kind::Usage) {
            logs::tell(&error, manners.log_format);
        }
        Some(error)
    });
    Err(error.await)
}

/// One run, with a client and a look at the lake of its own, so that what it counts is its own.
async fn one_run(
    job: Job,
    options: &Options,
    settings: &Settings,
    report: &Report<'_>,
    mut stop: Pin<&mut impl Future<Output = Error>>,
) -> Result<ExitCode> {
    let rate_share = options.exports.rate.rate_share()?;
    let client = client(&options.stream, rate_share).map_err(|error| report.failed(error))?;
    report.metrics.follow(client.clone());
    let lake = tokio::select! {
        lake = open_to_write(&options.lake, settings) => lake,
        error = stop.as_mut() => Err(error),
    };
    let lake = lake.map_err(|error| report.failed(error))?;
    let (summary, error) = Run::new(&client, &lake, settings, report.progress).execute(job, stop).await;
    report.observe(&summary, error.as_ref());
    finish(&summary, error, options.empty_exit_code, report.manners)
}

fn warn_of_expenses(settings: &Settings) {
    let expenses = settings.selection.expenses();
    if !expenses.is_empty() {
        let why = expenses.join("; ");
        tracing::warn!(
            why,
            "this selection is expensive to list, and may use up the app's API budget: see docs/selection.md"
        );
    }
}

async fn open_to_write(lake: &LakeArg, settings: &Settings) -> Result<Lake> {
    Ok(open(lake).await?.with_single_writer(settings.single_writer))
}

/// Where it is told what runs have done.
struct Report<'a> {
    manners: &'a Manners,
    metrics: &'a Metrics,
    file: &'a MetricsArg,
    progress: &'a Progress,
}

impl Report<'_> {
    /// A run that could not begin is a run that failed.
    fn failed(&self, error: Error) -> Error {
        self.observe(&Summary { status: Status::Failed, ..Summary::default() }, Some(&error));
        error
    }

    /// A run is what it is, even if nobody can be told.
    fn observe(&self, summary: &Summary, error: Option<&Error>) {
        let now = clock::now();
        self.metrics.observe(summary, error.map_or(0, |error| error.kind().exit_code()), now);
        if let Some(path) = self.file.metrics_file.as_deref().filter(|path| !path.as_os_str().is_empty())
            && let Err(error) = self.metrics.write(path, self.progress, now)
        {
            tracing::error!("{}", error.line());
        }
    }
}

async fn convert(args: &Convert, config: &Config, manners: &Manners, progress: &Progress) -> Result<ExitCode> {
    let (settings, exports) = (args.settings(config)?, args.exports());
    let report = Report { manners, metrics: &Metrics::new(), file: &args.metrics, progress };
    let mut stop = pin!(interrupted());
    let lake = tokio::select! {
        lake = open_to_write(&args.lake, &settings) => lake,
        error = &mut stop => Err(error),
    };
    let lake = lake.map_err(|error| report.failed(error))?;
    let (summary, error) = Conversion::new(&lake, settings, &exports, progress).execute(stop).await;
    report.observe(&summary, error.as_ref());
    finish(&summary, error, args.empty_exit_code, manners)
}

async fn users(args: &Users, config: &Config, manners: &Manners, progress: &Progress) -> Result<ExitCode> {
    let (settings, user_ids) = (args.settings(config)?, args.user_ids()?);
    let rate_share = args.exports.rate.rate_share()?;
    let report = Report { manners, metrics: &Metrics::new(), file: &args.metrics, progress };
    let failed = |error| if args.plan { error } else { report.failed(error) };
    let client = client(&args.stream, rate_share).map_err(failed)?;
    let mut stop = pin!(interrupted());
    let lake = tokio::select! {
        lake = open_to_write(&args.lake, &settings) => lake,
        error = &mut stop => Err(error),
    };
    let lake = lake.map_err(failed)?;
    let run = UsersRun::new(&client, &lake, &settings, user_ids, args.users_per_request, progress);
    if args.plan {
        let planned = tokio::select! {
            planned = run.plan() => planned?,
            error = &mut stop => return Err(error),
        };
        progress.finish();
        return show(manners, &serde_json::json!(planned).to_string(), &planned.to_string());
    }
    report.metrics.follow(client.clone());
    let (summary, error) = run.execute(stop).await;
    report.observe(&summary, error.as_ref());
    finish(&summary, error, 0, manners)
}

/// Says how a run ended.
fn finish(summary: &Summary, error: Option<Error>, empty_exit_code: u8, manners: &Manners) -> Result<ExitCode> {
    let text = if manners.json { summary.to_json() } else { summary.to_text() };
    if manners.json || error.as_ref().is_none_or(|error| error.kind() == Kind::ExportFailed) {
        print(&text)?;
    }
    match error {
        Some(error) => Err(error.of_run(summary.run_id)),
        None if summary.messages() == 0 => Ok(ExitCode::from(empty_exit_code)),
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn open(lake: &LakeArg) -> Result<Lake> {
    Lake::open(lake.lake()?, &store::process_env()).await
}

async fn check_setup(args: &CheckArgs, manners: &Manners) -> Result<ExitCode> {
    let rate_share = args.rate.rate_share()?;
    if let Some(wanted) = args.wanted()? {
        let format = check::format::format(&brief_client(&args.stream, rate_share)?, &wanted).await?;
        show(manners, &format.to_json(), &format.to_text())?;
        return format.outcome().map(|()| ExitCode::SUCCESS);
    }
    let report = check::check(check::Setup {
        client: brief_client(&args.stream, rate_share),
        lake: args.location(),
        selected: args.selected()?,
        env: &store::process_env(),
        settle: args.settle,
        rate_share,
        channels_per_request: args.channels_per_request()?,
        temp_dir: args.temp.temp_dir.as_deref(),
    })
    .await;
    show(manners, &report.to_json(), &report.to_text())?;
    report.outcome().map(|()| ExitCode::SUCCESS)
}

async fn show_status(args: &StatusArgs, manners: &Manners) -> Result<ExitCode> {
    let status = status::status(&open(&args.lake).await?).await?;
    show(manners, &status.to_json(), &status.to_text())
}

async fn list_files(args: &FilesArgs, manners: &Manners) -> Result<ExitCode> {
    let files = files::files(&open(&args.lake).await?, &args.filter()).await?;
    let text = if args.long { files.to_table() } else { files.to_lines() };
    show(manners, &files.to_json(), &text)
}

async fn verify_lake(args: &VerifyArgs, manners: &Manners) -> Result<ExitCode> {
    let client = match args.against_stream {
        Some(_) => Some(client(&args.stream, args.rate.rate_share()?)?),
        None => None,
    };
    let sample = client.as_ref().zip(args.against_stream).map(|(client, channel_days)| Sample {
        client,
        channel_days,
        seed: args.seed.unwrap_or_else(Sample::fresh_seed),
    });
    let lake = open(&args.lake).await?;
    let report = verify::verify(&lake, args.deep, sample.as_ref(), args.temp.temp_dir.as_deref()).await?;
    show(manners, &report.to_json(), &report.to_text())?;
    report.outcome().map(|()| ExitCode::SUCCESS)
}

async fn collect_garbage(args: &GcArgs, manners: &Manners) -> Result<ExitCode> {
    let report = gc::gc(&open(&args.lake).await?, args.older_than()?, args.delete).await?;
    show(manners, &report.to_json(), &report.to_text())
}

fn client(stream: &StreamArg, rate_share: f64) -> Result<Client> {
    client_with(stream, rate_share, export::Options::default())
}

/// A client for somebody who waits for the answer, and not for better days.
fn brief_client(stream: &StreamArg, rate_share: f64) -> Result<Client> {
    client_with(stream, rate_share, export::Options::brief())
}

fn client_with(stream: &StreamArg, rate_share: f64, mut options: export::Options) -> Result<Client> {
    let credentials = Credentials::from_env(|name| std::env::var(name).ok())?;
    options.rate_share = rate_share;
    options.clock = clock::now;
    Client::new(credentials, &stream.base_url, options)
}

fn plan_text(spans: &[PlannedSpan], json: bool) -> String {
    if json {
        return serde_json::json!({ "spans": spans }).to_string();
    }
    if spans.is_empty() {
        return "nothing would be exported".to_owned();
    }
    let mut text = format!(
        "{:<22} {:<22} {:>6} {:>9} {:>9} {:>9}\n",
        "since", "until", "cells", "channels", "requests", "minutes"
    );
    for span in spans {
        let PlannedSpan { cells, channels, requests, minutes, .. } = span;
        let [since, until] = [span.since, span.until].map(|time| time.to_string());
        text.push_str(&format!("{since:<22} {until:<22} {cells:>6} {channels:>9} {requests:>9} {minutes:>9.1}\n"));
    }
    let (looked_up, unlisted) =
        spans.iter().fold((0, 0), |(looked_up, unlisted), span| (looked_up + span.looked_up, unlisted + span.unlisted));
    if looked_up + unlisted > 0 {
        let queries = looked_up.div_ceil(PER_QUERY);
        text.push_str(&format!(
            "{} looked up by name by {}, as the run will do again; {unlisted} that Stream does not list are asked for\n",
            count(looked_up, "channel"),
            count(queries, "query")

        ));
    }
    let requests: u64 = spans.iter().map(|span| span.requests).sum();
    let minutes: f64 = spans.iter().map(|span| span.minutes).sum();
    text.push_str(&format!(
        "{}, {} at this share of the app's rate limit; nothing was exported",
        count(requests, "request"),
        if minutes < 120.0 { format!("{minutes:.1} minutes") } else { format!("{:.1} hours", minutes / 60.0) }
    ));
    text
}

async fn show_schema(args: &SchemaArgs, config: Option<&Config>) -> Result<ExitCode> {
    let wanted = config.map(|config| config.wanted.clone());
    let shape = match args.lake.lake() {
        Ok(_) => Some(shape::shape(&open(&args.lake).await?, wanted.as_ref()).await?),
        Err(_) => None,
    };
    let form = args.form(shape.as_ref())?;
    let filled = shape.as_ref().map(|shape| shape.filled.clone()).filter(|_| form.needs_files());
    let schemas = match (shape, wanted) {
        (Some(shape), _) => shape.schemas,
        (None, Some(wanted)) => Schemas::new(&Columns::default().with(&wanted)?)?,
        (None, None) => Schemas::default(),
    };
    let texts: Vec<String> = match &args.dataset {
        None => {
            let has_files =
                |schema: &&Arc<schema::Schema>| filled.as_ref().is_none_or(|filled| filled.contains(&schema.name()));
            schemas.iter().filter(has_files).map(|schema| form.show(schema)).collect()
        }
        Some(name) => vec![form.show(schemas.find(name).ok_or_else(|| {
            Error::new(Kind::Usage, format!("there is no dataset `{name}`"))
                .hint(format!("the datasets are {}", schema::DATASETS.join(", ")))
        })?)],
    };
    let mut texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    if filled.is_some_and(|filled| filled.is_empty()) && texts.is_empty() {
        texts.push("-- DuckDB shows files, and this lake has none yet.\n".to_owned());
    }
    print(&texts.join("\n"))
}

/// Writes a configuration where there is none.
fn write_template(args: &InitArgs) -> Result<ExitCode> {
    let InitArgs { file } = args;
    if file.as_os_str() == "-" {
        return print(&template());
    }
    let name = file.display();
    let written = std::fs::File::create_new(file).and_then(|mut created| created.write_all(template().as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(Kind::Usage, format!("{name} is there already"))
            .hint("name another file; `chatlake init -` prints it"),
        _ => Error::new(Kind::Usage, format!("cannot write {name}"))
            .because(error)
            .hint("check the folder and its rights"),
    })?;
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.clone());
    print(&format!(
        "wrote {name}: uncomment what you need, then\n  export CHATLAKE_CONFIG={}\n  chatlake config",
        absolute.display()
    ))
}

fn show(manners: &Manners, json: &str, text: &str) -> Result<ExitCode> {
    print(if manners.json { json } else { text })
}

/// Results go to stdout, and to nothing else. A closed pipe is a reader that has seen enough.
fn print(text: &str) -> Result<ExitCode> {
    if text.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Temporary, "cannot print the result").because(error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(unix)]
async fn interrupted() -> Error {
    use tokio::signal::unix::{SignalKind, signal};
    let stopped = |kind, word: &str| {
        Error::new(kind, format!("stopped by {word}"))
            .hint("nothing half-done is visible; run the same command again to go on")
    };
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => stopped(Kind::Interrupted, "SIGINT"),
        _ = terminate.recv() => stopped(Kind::Terminated, "SIGTERM"),
    }
}

#[cfg(not(unix))]
async fn interrupted() -> Error {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Error::new(Kind::Interrupted, "stopped by Ctrl-C").hint("run the same command again to go on"),
        Err(_) => std::future::pending().await,
    }
}
