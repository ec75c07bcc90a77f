//! Options shown: as a configuration to fill in, as what is in force, and as a page.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Arg;
use serde_json::json;

use super::layers::{Place, check_values, in_force, is_list, options, variable};
use crate::columns::Wanted;
use crate::config::Config;
use crate::error::Result;

const HEAD: &str = "\
# What all runs of a lake have in common. Name this file by --config or CHATLAKE_CONFIG.
#
# A line here is stronger than a default; a variable is stronger than a line, and a flag than both. Nothing is in force until
# its `#` is gone: what is shown are the defaults, or examples where there is none. `chatlake config` tells what is in force.
#
# Secrets do not belong here: STREAM_API_KEY and STREAM_API_SECRET are variables, or files that STREAM_API_KEY_FILE and
# STREAM_API_SECRET_FILE name; the store takes the AWS_* variables.
";

const SECTIONS: &str = r#"
# ---- Columns ----------------------------------------------------------------------------------------------------------

# Custom keys that get columns of their own, by dataset: string, int64, float64, bool, timestamp or json
#[promote.messages]
#order_id = "int64"
#amount = { type = "float64", path = "order.amount", unit = "EUR" }

# Columns and JSON paths that are never written, by dataset
#[exclude]
#messages = ["html", "custom.ssn"]
#users = ["email"]
"#;

/// The heading of options that have none.
const GENERAL: &str = "General";

/// Examples for options without a default, as TOML.
const EXAMPLES: [(&str, &str); 13] = [
    ("channel", r#"["messaging:general"]"#),
    ("channel_type", r#"["messaging"]"#),
    ("channels_file", r#""channels.txt""#),
    ("every", r#""1h""#),
    ("filter", r#"'{"team":"blue"}'"#),
    ("lake", r#""s3://bucket/chat""#),
    ("listen", r#""127.0.0.1:9464""#),
    ("max_rejected", "10"),
    ("metrics_file", r#""/var/lib/node_exporter/chatlake.prom""#),
    ("start", "2026-01-01"),
    ("temp_dir", r#""/var/tmp""#),
    ("users_file", r#""users.txt""#),
    ("window", r#""1d""#),
];

/// A configuration with a line for every option, none of them in force.
pub fn template() -> String {
    let mut text = HEAD.to_owned();
    for (heading, options) in by_heading() {
        text += &format!("\n# ---- {heading} {}\n", "-".repeat(112usize.saturating_sub(heading.len())));
        for option in options {
            text += &format!("\n# {}\n#{} = {}\n", help(&option), option.get_id(), shown_value(&option));
        }
    }
    text + SECTIONS
}

/// The options as tables for a page.
pub fn markdown() -> String {
    let mut text = String::new();
    for (heading, options) in by_heading() {
        text += &format!("\n### {heading}\n\n| key | flag | variable | default | what |\n|---|---|---|---|---|\n");
        for option in options {
            let default = option.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
            let flag = option.get_long().unwrap_or_default();
            text += &format!(
                "| `{}` | `--{flag}` | `{}` | {} | {} |\n",
                option.get_id(),
                variable(&option),
                default.collect::<Vec<_>>().join(", "),
                help(&option).replace('|', "\\|"),
            );
        }
    }
    text
}

fn by_heading() -> Vec<(String, Vec<Arg>)> {
    let mut headings: Vec<(String, Vec<Arg>)> = Vec::new();
    for option in options() {
        let heading = option.get_help_heading().unwrap_or(GENERAL);
        match headings.iter_mut().find(|(known, _)| known == heading) {
            Some((_, options)) => options.push(option),
            None => headings.push((heading.to_owned(), vec![option])),
        }
    }
    headings
}

fn help(option: &Arg) -> String {
    option.get_help().map(ToString::to_string).unwrap_or_default().replace('\n', " ")
}

/// The default, or an example, as TOML.
fn shown_value(option: &Arg) -> String {
    if let Some((_, example)) = EXAMPLES.iter().find(|(key, _)| option.get_id().as_str() == *key) {
        return (*example).to_owned();
    }
    let default = option.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    match default {
        None if !option.get_action().takes_values() => "false".to_owned(),
        None if is_list(option) => "[]".to_owned(),
        None => r#""""#.to_owned(),
        Some(text) if text.parse::<f64>().is_ok() || text == "true" || text == "false" => text,
        Some(text) => toml::Value::String(text).to_string(),
    }
}

/// What is in force, for people and for programs.
#[derive(Debug)]
pub struct InForce {
    options: Vec<(Arg, Vec<String>, Place)>,
    variables: Vec<(String, String)>,
    columns: Wanted,
    path: Option<String>,
}

/// What stands for a secret.
const MASK: &str = "********";

/// Variables that are no options, and whether they are secret.
const VARIABLES: [(&str, bool); 17] = [
    ("STREAM_API_KEY", false),
    ("STREAM_API_KEY_FILE", false),
    ("STREAM_API_SECRET", true),
    ("STREAM_API_SECRET_FILE", false),
    ("AWS_ACCESS_KEY_ID", false),
    ("AWS_ACCESS_KEY_ID_FILE", false),
    ("AWS_SECRET_ACCESS_KEY", true),
    ("AWS_SECRET_ACCESS_KEY_FILE", false),
    ("AWS_SESSION_TOKEN", true),
    ("AWS_SESSION_TOKEN_FILE", false),
    ("AWS_REGION", false),
    ("AWS_DEFAULT_REGION", false),
    ("AWS_PROFILE", false),
    ("AWS_ENDPOINT_URL", false),
    ("AWS_ENDPOINT_URL_S3", false),
    ("HTTPS_PROXY", true),
    ("NO_PROXY", false),
];

impl InForce {
    /// By the variables of `env` and the configuration at `path`, if there is one.
    pub fn of(config: Option<&Config>, path: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Self> {
        let mut options = in_force(config, path.unwrap_or(Path::new("")))?;
        check_values(config, path.unwrap_or(Path::new("")))?;
        options.iter_mut().flat_map(|(_, values, _)| values).for_each(|value| {
            // Refused by whoever opens it, but not by whoever shows it.
            if value.contains("://") && value.contains('@') {
                MASK.clone_into(value);
            }
        });
        let set = VARIABLES.iter().filter_map(|(name, is_secret)| {
            let value = env.get(*name).filter(|value| !value.is_empty())?;
            // A proxy's URL may hold a password.
            Some(((*name).to_owned(), if *is_secret { MASK.to_owned() } else { value.clone() }))
        });
        let columns = config.map(|config| config.wanted.clone()).unwrap_or_default();
        Ok(Self { variables: set.collect(), options, columns, path: path.map(|path| path.display().to_string()) })
    }

    /// A line for each option, column of the configuration, and variable.
    pub fn to_text(&self) -> String {
        let mut lines: Vec<(String, String, String)> = Vec::new();
        for (option, values, place) in &self.options {
            let value = if values.is_empty() { "-".to_owned() } else { values.join(",") };
            lines.push((option.get_id().to_string(), value, self.from(option, place)));
        }
        let path = self.path.clone().unwrap_or_default();
        for column in &self.columns.promote {
            lines.push(("promote".to_owned(), column.to_string(), path.clone()));
        }
        for (dataset, excluded) in &self.columns.exclude {
            for what in excluded {
                lines.push(("exclude".to_owned(), format!("{dataset}.{what}"), path.clone()));
            }
        }
        for (name, value) in &self.variables {
            lines.push((name.clone(), value.clone(), "variable".to_owned()));
        }
        let width = |of: fn(&(String, String, String)) -> usize| lines.iter().map(of).max().unwrap_or(0);
        let (names, values) = (width(|line| line.0.len()), width(|line| line.1.len()).min(40));
        lines.iter().map(|(name, value, from)| format!("{name:<names$}  {value:<values$}  {from}\n")).collect()
    }

    /// The same as one line of JSON: `{"options": {key: {"value", "from"}}, "promote": [column], "exclude": {dataset: [what]},
    /// "variables": {name: value}}`.
    pub fn to_json(&self) -> String {
        let options: serde_json::Map<_, _> = self
            .options
            .iter()
            .map(|(option, values, place)| {
                let value = if is_list(option) { json!(values) } else { json!(values.first()) };
                (option.get_id().to_string(), json!({ "value": value, "from": self.from(option, place) }))
            })
            .collect();
        let variables: serde_json::Map<_, _> =
            self.variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let promote: Vec<String> = self.columns.promote.iter().map(ToString::to_string).collect();
        json!({ "options": options, "promote": promote, "exclude": self.columns.exclude, "variables": variables })
            .to_string()
    }

    fn from(&self, option: &Arg, place: &Place) -> String {
        match place {
            Place::Variable => variable(option),
            Place::Configuration => self.path.clone().unwrap_or_default(),
            Place::Default => "default".to_owned(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::layers::{Refusal, parse};
    use crate::cli::{Command, Sync};
    use crate::error::Kind;

    fn uncommented() -> String {
        template()
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| !line.starts_with(' '))
            .fold(String::new(), |text, line| text + line + "\n")
    }

    fn sync(config: &str, flags: &[&str]) -> std::result::Result<Sync, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chatlake.toml");
        std::fs::write(&path, config).unwrap();
        let typed = ["chatlake", "sync", "--config", path.to_str().unwrap()];
        match parse(typed.iter().chain(flags).map(ToString::to_string)) {
            Ok(parsed) => match parsed.cli.command {
                Command::Sync(sync) => Ok(*sync),
                other => panic!("{other:?}"),
            },
            Err(Refusal::Config(error)) => {
                assert_eq!(error.kind(), Kind::Usage);
                Err(error.report().replace(path.to_str().unwrap(), "chatlake.toml"))
            }
            Err(Refusal::CommandLine(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn the_template_says_nothing_and_all_of_it_is_understood() {
        let nothing = format!("{:?}", sync(&template(), &[]).unwrap());
        assert_eq!(nothing, format!("{:?}", sync("", &[]).unwrap()));
        let all = uncommented();
        for option in options() {
            assert!(all.contains(&format!("{} = ", option.get_id())), "{all}");
        }
        // Values of options that exclude each other, and files that are not there, are no matter of the file's form.
        sync(&all, &[]).unwrap();
    }

    #[test]
    fn a_flag_is_stronger_than_the_file() {
        let file = "lake = \"there\"\nwindow = \"1h\"\nrate_share = 0.25\nkeep_raw = true\nchannel = [\"a:b\", \"a:c\"]\nstart = 2026-01-01\nrevisit = [\"1d\", \"2d\"]\n";
        let read = sync(file, &[]).unwrap();
        assert_eq!(read.options.lake.lake().unwrap(), "there");
        assert_eq!(read.options.window, Some(jiff::SignedDuration::from_hours(1)));
        assert!(read.options.parquet.keep_raw);
        assert_eq!(read.options.selection.channel, ["a:b", "a:c"]);
        assert_eq!(read.options.revisit.0.len(), 2);
        assert_eq!(read.start.unwrap().to_string(), "2026-01-01T00:00:00Z");
        let read = sync(file, &["--lake", "here", "--window", "1d", "--channel", "a:d"]).unwrap();
        assert_eq!(read.options.lake.lake().unwrap(), "here");
        assert_eq!(read.options.window, Some(jiff::SignedDuration::from_hours(24)));
        assert_eq!(read.options.selection.channel, ["a:d"]);
    }

    #[test]
    fn mistakes_are_told_with_what_was_meant() {
        let mistakes = [
            "windw = \"1h\"",
            "channel-type = [\"team\"]",
            "[exlude]\nmessages = [\"html\"]",
            "[excluded]\nmessages = []",
            "colour = \"red\"",
            "stream_api_secret = \"hunter2\"",
            "since = \"2026-01-01\"",
            "window = \"one hour\"",
            "window = [[1]]",
            "keep_raw = \"perhaps\"",
            "rate_share = \"much\"",
            "target_file_size = { bytes = 1 }",
        ];
        let told: Vec<String> = mistakes
            .iter()
            .map(|text| format!("{text}\n  {}", sync(text, &[]).unwrap_err().replace('\n', "\n  ")))
            .collect();
        insta::assert_snapshot!(told.join("\n\n"));
    }
}
