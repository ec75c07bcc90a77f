//! Options from three places: a flag is stronger than a variable, and a variable than the configuration.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use toml::{Table, Value};

use super::{Cli, usage};
use crate::config::{self, Config, SECTIONS};
use crate::error::Error;

/// What a run is about: those stand in no configuration.
const OF_ONE_RUN: [&str; 3] = ["config", "since", "until"];

/// How far a key may be from an option's, for that to be what was meant.
const NEAR: f64 = 0.8;

/// What the variables of options begin with.
const PREFIX: &str = "CHATLAKE_";

/// What others put behind the prefix: Kubernetes for a service of that name, Airflow's DAGs, tests.
const NOT_OURS: [&str; 5] = ["SERVICE_", "PORT", "DAG_", "TEST_", "CLOCK_"];

/// A command line, understood.
#[derive(Debug)]
pub struct Parsed {
    /// What to do, the configuration's values included.
    pub cli: Cli,
    /// The configuration, if one is named.
    pub config: Option<Config>,
}

/// Why there is nothing to do.
#[derive(Debug)]
pub enum Refusal {
    /// The command line is wrong, or asks for help.
    CommandLine(Box<clap::Error>),
    /// The configuration is.
    Config(Error),
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Self::CommandLine(Box::new(error))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Config(error)
    }
}

/// Understands a command line, the name of the program first, and the configuration that it, or a variable, names.
pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Parsed, Refusal> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let matches = Cli::command().try_get_matches_from(&arguments).map_err(|error| of_variable(error, &arguments))?;
    check_typed(&matches)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let named = cli.manners.config.as_deref().filter(|path| !path.as_os_str().is_empty());
    // The file that a variable names may be the one to be written.
    let Some(path) = named.filter(|_| !matches!(cli.command, super::Command::Init(_))) else {
        return Ok(Parsed { cli, config: None });
    };
    let config = config::read(path)?;
    let defaults = Defaults::check(&config.options, path)?;
    let matches = defaults.into(Cli::command()).try_get_matches_from(&arguments)?;
    Ok(Parsed { cli: Cli::from_arg_matches(&matches)?, config: Some(config) })
}

/// Says so if the value that clap refuses is a variable's: it names the option alone.
fn of_variable(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let is_typed = |flag: &str| {
        arguments.iter().any(|argument| {
            let argument = argument.to_string_lossy();
            argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    };
    let variable_for = |flag: &str| {
        let named = |option: &Arg| option.get_long().is_some_and(|long| flag == format!("--{long}"));
        let variable = all_options().iter().find(|option| named(option)).map(variable)?;
        (!is_typed(flag) && std::env::var_os(&variable).is_some()).then_some(variable)
    };
    let tip = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        // Of the two, one that is a variable wants the other.
        (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) => {
            let lacks = |flag: &str| missing.iter().any(|usage| usage.split(' ').next() == Some(flag));
            let pairs = [("--since", "--until"), ("--until", "--since")].into_iter().filter(|(_, other)| lacks(other));
            let set = pairs.into_iter().find_map(|(flag, _)| Some((flag, variable_for(flag)?)));
            set.map(|(flag, variable)| format!("{flag} is there by the variable {variable}"))
        }
        (_, Some(ContextValue::String(usage))) => {
            let flag = usage.split(' ').next().unwrap_or_default();
            variable_for(flag).map(|variable| format!("it is the value of the variable {variable}"))
        }
        _ => None,
    };
    if let Some(tip) = tip {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// What runs would refuse of these options, whatever they are asked to do.
pub(super) fn check_values(config: Option<&Config>, path: &Path) -> Result<(), Error> {
    let none = Table::new();
    let defaults = Defaults::check(config.map_or(&none, |config| &config.options), path)?;
    // A lake that is not named is no mistake yet, and a range is of one run.
    let matches = defaults.into(Cli::command()).try_get_matches_from(["chatlake", "sync", "--lake=."]);
    let Ok(super::Command::Sync(mut sync)) =
        matches.and_then(|matches| Cli::from_arg_matches(&matches)).map(|cli| cli.command)
    else {
        return Ok(());
    };
    // Nobody types a list to whoever only looks.
    sync.options.selection.channels_file.take_if(|file| file == Path::new("-"));
    sync.settings(&config.cloned().unwrap_or_default()).map(drop)
}

/// Options of `sync` of which only one can be meant when both are typed. As a variable or a key, the first of each pair is what all runs
/// have in common, and the second, of one run, is stronger.
const ONE_OF: [(&str, &str); 3] = [("start", "since"), ("every", "since"), ("every", "plan")];

/// Options that choose channels. Where they are typed, nothing is not everything: a template with a variable that is not set would
/// copy the whole app.
const CHOICES: [&str; 3] = ["channel", "channel_type", "filter"];

fn check_typed(matches: &ArgMatches) -> Result<(), Error> {
    let Some((command, typed)) = matches.subcommand() else { return Ok(()) };
    let is_empty = |option: &&str| {
        let is_there = typed.ids().any(|id| id.as_str() == *option);
        is_there
            && typed.value_source(option) == Some(ValueSource::CommandLine)
            && typed.get_raw(option).is_some_and(|mut values| values.all(std::ffi::OsStr::is_empty))
    };
    if let Some(option) = CHOICES.into_iter().find(is_empty) {
        return Err(
            usage(format!("--{} is empty", option.replace('_', "-"))).hint("leave it out to take every channel")
        );
    }
    if command != "sync" {
        return Ok(());
    }
    let is_typed = |option: &str| typed.value_source(option) == Some(ValueSource::CommandLine);
    match ONE_OF.iter().find(|(lasting, once)| is_typed(lasting) && is_typed(once)) {
        Some((lasting, once)) => {
            Err(usage(format!("--{lasting} and --{once} do not go together")).hint("leave out one of them"))
        }
        None => Ok(()),
    }
}

/// Every option that may stand in a configuration, each once, in the order of the commands' help.
pub(super) fn options() -> Vec<Arg> {
    let mut options = all_options();
    options.retain(is_option);
    options
}

/// Every option of every command, each once.
fn all_options() -> Vec<Arg> {
    let mut command = Cli::command();
    command.build();
    let mut options: Vec<Arg> = Vec::new();
    for option in command.get_subcommands().flat_map(Command::get_arguments) {
        if !options.iter().any(|known| known.get_id() == option.get_id()) {
            options.push(option.clone());
        }
    }
    options
}

fn is_option(arg: &Arg) -> bool {
    arg.get_env().is_some() && !OF_ONE_RUN.contains(&arg.get_id().as_str())
}

pub(super) fn is_list(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

/// Values of a configuration, in place of the defaults of options.
struct Defaults(Vec<(String, Vec<String>)>);

impl Defaults {
    /// Refuses keys that no option has, and values that it does not take. `path` is what errors call the configuration.
    fn check(table: &Table, path: &Path) -> Result<Self, Error> {
        let options = options();
        let mut defaults = Vec::new();
        for (key, value) in table {
            let Some(option) = options.iter().find(|option| option.get_id().as_str() == key) else {
                return Err(unknown(key, &options, path));
            };
            let refused = |reason: String| {
                let message = format!("`{key}` in the configuration {} cannot be {value}", path.display());
                usage(message).because(Reason(reason)).hint("`chatlake init -` prints every key with what it takes")
            };
            let values = texts(option, value).ok_or_else(|| refused("it is one value".to_owned()))?;
            is_taken(option, &values).map_err(refused)?;
            defaults.push((key.clone(), values));
        }
        Ok(Self(defaults))
    }

    fn into(self, command: Command) -> Command {
        let Self(defaults) = &self;
        let command = command.mut_args(|arg| match defaults.iter().find(|(key, _)| arg.get_id().as_str() == key) {
            Some((_, values)) if is_option(&arg) => arg.default_values(values.clone()),
            _ => arg,
        });
        command.mut_subcommands(|command| Self(defaults.clone()).into(command))
    }
}

/// What clap says of a value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Reason(String);

/// A value as it would be typed; none if it is of a shape that no option takes.
fn texts(option: &Arg, value: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Datetime(time) => Some(time.to_string()),
        Value::Array(_) | Value::Table(_) => None,
    };
    match value {
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(text).collect::<Option<_>>()?;
            Some(if is_list(option) { values } else { vec![values.join(",")] })
        }
        value => Some(vec![text(value)?]),
    }
}

/// Has the option look at the values, as if each was typed.
fn is_taken(option: &Arg, values: &[String]) -> Result<(), String> {
    let key = option.get_id().as_str().to_owned();
    let alone = Arg::new(&key).long(&key).action(ArgAction::Append).value_parser(option.get_value_parser().clone());
    let typed = values.iter().map(|value| format!("--{key}={value}"));
    match Command::new("configuration").no_binary_name(true).arg(alone).try_get_matches_from(typed) {
        Ok(_) => Ok(()),
        Err(error) => {
            let said = error.to_string();
            // `error: invalid value 'x' for '--key <key>': why`, or its possible values on a line of their own.
            let why = said.lines().next().and_then(|line| line.split_once("': ")).map(|(_, why)| why);
            let values = said.lines().map(str::trim).find(|line| line.starts_with("[possible values"));
            Err(why.or(values).unwrap_or("nothing is no value").trim_matches(['[', ']']).to_owned())
        }
    }
}

/// The name that was probably meant.
fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .map(|name| (strsim::jaro_winkler(written, name), name))
        .filter(|(nearness, _)| *nearness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Variables that look like those of options and are none, each with the one that was probably meant.
pub fn misspelt(names: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let options = options();
    let known: Vec<String> = options.iter().map(variable).chain(OF_ONE_RUN.map(variable_of)).collect();
    let short = |name: &'_ str| name.strip_prefix(PREFIX).map(str::to_owned);
    let shorts: Vec<String> = known.iter().filter_map(|name| short(name)).collect();
    names
        .filter(|name| !known.contains(name))
        .filter_map(|name| {
            let written = short(&name).filter(|short| !NOT_OURS.iter().any(|other| short.starts_with(other)))?;
            let meant = nearest(&written, shorts.iter().map(String::as_str))?;
            Some((name, variable_of(meant)))
        })
        .collect()
}

fn variable_of(option: &str) -> String {
    format!("{PREFIX}{}", option.to_uppercase())
}

fn unknown(key: &str, options: &[Arg], path: &Path) -> Error {
    let names = options.iter().map(|option| option.get_id().as_str()).chain(SECTIONS);
    let key_of_option = key.replace('-', "_");
    let nearest = nearest(&key_of_option, names);
    let error = usage(format!("`{key}` in the configuration {} is no option", path.display()));
    match nearest {
        _ if ["stream_api", "aws_"].iter().any(|secret| key.to_lowercase().starts_with(secret)) => {
            error.hint(format!("secrets do not belong here: set the variable {}", key.to_uppercase()))
        }
        _ if OF_ONE_RUN.contains(&key) => error.hint(format!("--{key} is of one run: give it as a flag or a variable")),
        Some(name) => error.hint(format!("did you mean `{name}`?")),
        None => error.hint("`chatlake init -` prints every key"),
    }
}

/// Where the value of an option comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Variable,
    Configuration,
    Default,
}

/// What is in force without any flag: each option with its values, as they would be typed, and where they come from.
pub(super) fn in_force(config: Option<&Config>, path: &Path) -> Result<Vec<(Arg, Vec<String>, Place)>, Error> {
    let none = Table::new();
    let table = config.map_or(&none, |config| &config.options);
    let Defaults(defaults) = Defaults::check(table, path)?;
    let read = |option: Arg| {
        let key = option.get_id().as_str().to_owned();
        let default = defaults.iter().find(|(known, _)| *known == key).map(|(_, values)| values.clone());
        let alone = match &default {
            Some(values) => option.clone().default_values(values.clone()),
            None => option.clone(),
        };
        // Conflicts and requirements are between options of one command.
        let command = Command::new("configuration").no_binary_name(true).arg(free(&alone));
        let matches: ArgMatches = command.try_get_matches_from::<_, &str>([]).map_err(|error| {
            usage(error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
                .hint(format!("check the variable {}", variable(&option)))
        })?;
        let place = match matches.value_source(&key) {
            Some(ValueSource::EnvVariable) => Place::Variable,
            _ if default.is_some() => Place::Configuration,
            _ => Place::Default,
        };
        let values = matches.get_raw(&key).into_iter().flatten();
        let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
        Ok((option, values, place))
    };
    options().into_iter().map(read).collect()
}

/// The option by itself.
fn free(option: &Arg) -> Arg {
    let key = option.get_id().as_str().to_owned();
    let mut alone = Arg::new(key.clone())
        .long(option.get_long().map_or(key, str::to_owned))
        .action(option.get_action().clone())
        .value_parser(option.get_value_parser().clone())
        .default_values(option.get_default_values().to_vec());
    if let Some(variable) = option.get_env() {
        alone = alone.env(variable.to_owned());
    }
    match option.get_value_delimiter() {
        Some(delimiter) => alone.value_delimiter(delimiter),
        None => alone,
    }
}

pub(super) fn variable(option: &Arg) -> String {
    option.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_almost_an_options_is_told() {
        let told = |name: &str| misspelt(std::iter::once(name.to_owned())).pop().map(|(_, meant)| meant);
        for (written, meant) in [
            ("CHATLAKE_WINDO", "CHATLAKE_WINDOW"),
            ("CHATLAKE_RATESHARE", "CHATLAKE_RATE_SHARE"),
            ("CHATLAKE_CHANNEL_TYPES", "CHATLAKE_CHANNEL_TYPE"),
        ] {
            assert_eq!(told(written).as_deref(), Some(meant));
        }
        // A Kubernetes service by the name of chatlake gives its pods the first three.
        for other in [
            "CHATLAKE_SERVICE_HOST",
            "CHATLAKE_PORT",
            "CHATLAKE_PORT_9464_TCP_ADDR",
            "CHATLAKE_DAG_START",
            "CHATLAKE_WINDOW",
            "CHATLAKE_SINCE",
            "CHATLAKE_CONFIG",
            "CHATLAKE_CRASH_AT",
            "CHATLAKE_OWNER",
            "AWS_REGION",
        ] {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
