//! The simulator as a program: a small company's chat behind Stream's export API, on this machine.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use chatlake_simulator::{Config, Simulator, Size, Switches, World};
use clap::Parser;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

/// A stand-in for Stream Chat's export API, for trying chatlake without an account.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8640")]
    listen: SocketAddr,
    /// API key of the simulated app.
    #[arg(long, env = "SIMULATOR_KEY", default_value = "simulated-key")]
    key: String,
    /// Secret of the simulated app. It protects nothing.
    #[arg(
        long,
        env = "SIMULATOR_SECRET",
        default_value = "simulated-secret-that-protects-nothing",
        hide_env_values = true
    )]
    secret: String,
    /// The same seed makes the same world.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of channels.
    #[arg(long, default_value_t = 12)]
    channels: usize,
    /// Number of users, at least 12.
    #[arg(long, default_value_t = 24)]
    users: usize,
    /// Number of days with messages.
    #[arg(long, default_value_t = 3)]
    days: usize,
    /// Messages a day in each channel.
    #[arg(long, default_value_t = 20)]
    messages_per_channel_day: usize,
    /// First day with messages [default: so that the last one is yesterday]
    #[arg(long)]
    first_day: Option<Date>,
    /// Change a switch; repeatable. Names and values are in the README.
    #[arg(long = "switch", value_name = "NAME=VALUE", value_parser = parse_switch)]
    switches: Vec<(String, Value)>,
}

fn parse_switch(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("use name=value")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Switches::default().merged(&json!({ name: value })).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value))
}

fn main() -> ExitCode {
    match serve(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let today = Timestamp::now().to_zoned_datetime(TimeZone::UTC).date();
    let days = i64::try_from(args.days)?;
    let first_day = match args.first_day {
        Some(day) => day,
        None => today.checked_sub(days.days())?,
    };
    let until = first_day.checked_add(days.days())?;
    let size = Size {
        channels: args.channels,
        users: args.users,
        days: args.days,
        messages_per_channel_day: args.messages_per_channel_day,
        first_day,
        odd_channels: true,
    };
    let changes: serde_json::Map<String, Value> = args.switches.into_iter().collect();
    let simulator = Simulator::start(Config {
        listen: args.listen,
        key: args.key,
        secret: args.secret,
        world: World::seeded(args.seed, &size),
        switches: Switches::default().merged(&Value::Object(changes))?,
        ..Config::default()
    })
    .map_err(|error| format!("cannot listen at {}: {error}; choose another place by --listen", args.listen))?;
    let (url, messages) = (simulator.base_url(), simulator.world(|world| world.message_count()));
    println!("listening on {url}: {messages} messages in {} channels, {first_day} to {until}", args.channels);
    println!();
    println!("export STREAM_BASE_URL={url}");
    println!("export STREAM_API_KEY={}", simulator.key());
    println!("export STREAM_API_SECRET={}", simulator.secret());
    println!("chatlake sync --lake ./lake --since {first_day} --until {until}");
    println!();
    println!("What a complete lake holds: {url}/control/truth");
    println!("What was asked so far:      {url}/control/calls");
    wait_for_signal()?;
    simulator.stop();
    Ok(())
}

fn wait_for_signal() -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        #[cfg(unix)]
        {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                _ = terminate.recv() => Ok(()),
                interrupted = tokio::signal::ctrl_c() => interrupted,
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await
    })
}
