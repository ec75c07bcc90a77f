//! What went wrong, what it means to whoever runs chatlake, and what to do next.

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use uuid::Uuid;

/// What a scheduler or a person does about an error. A kind exists only if someone acts differently on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A bug in chatlake: report it.
    Internal,
    /// The command, the configuration or the choice of lake is wrong: change it.
    Usage,
    /// The data does not fit: look at the rejects.
    Data,
    /// Stream failed some exports for good: what is missing is recorded and a later run fills it in.
    ExportFailed,
    /// The store does not honour conditional writes: choose another, or accept a single writer.
    UnsafeStore,
    /// Network, rate limits, storage or clock: run again unchanged.
    Temporary,
    /// Credentials or permissions: fix them.
    Permission,
    /// SIGINT: run again to go on.
    Interrupted,
    /// SIGTERM: run again to go on.
    Terminated,
}

impl Kind {
    /// The process exit code, part of the contract with schedulers.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Data => 65,
            Self::ExportFailed => 69,
            Self::UnsafeStore => 73,
            Self::Temporary => 75,
            Self::Permission => 77,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// Which of several causes decides the exit code: a retryable one first, since a retry may cure the rest as well.
    pub fn weight(self) -> u8 {
        match self {
            Self::Interrupted | Self::Terminated => 9,
            Self::Usage => 8,
            Self::Temporary => 7,
            Self::Permission => 6,
            Self::UnsafeStore => 5,
            Self::ExportFailed => 4,
            Self::Data => 3,
            Self::Internal => 2,
        }
    }
}

/// An error as a person reads it: what happened, why, and what to do next.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    /// What shows it, a line each.
    shown: Vec<String>,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    run_id: Option<Uuid>,
}

/// What most of chatlake returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind. Messages are lower case, without a full stop, and never hold a secret or a signed URL.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), shown: Vec::new(), hint: None, source: None, run_id: None }
    }

    /// Shows what it is about, a line for each; more of them after those that are there.
    #[must_use]
    pub fn showing(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.shown.extend(lines);
        self
    }

    /// Says what to do next: the command to type, the setting to change.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The cause, printed once by [`Error::report`].
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says which run it has ended.
    #[must_use]
    pub fn of_run(mut self, run_id: Uuid) -> Self {
        self.run_id = Some(run_id);
        self
    }

    /// The run that it has ended, if there was one.
    pub fn run_id(&self) -> Option<Uuid> {
        self.run_id
    }

    /// What shows it, in lines.
    pub fn shown(&self) -> Option<String> {
        (!self.shown.is_empty()).then(|| self.shown.join("\n"))
    }

    /// What to do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The code to end the process with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.exit_code())
    }

    /// What to do next.
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and each cause.
    pub fn line(&self) -> String {
        with_causes(self)
    }

    /// The message, each cause on the same line, what shows it and the hint on their own: what `main` prints.
    pub fn report(&self) -> String {
        let mut text = format!("error: {}", self.line());
        for line in &self.shown {
            text.push_str("\n  ");
            text.push_str(line);
        }
        if let Some(hint) = &self.hint {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
        text
    }
}

/// What an error says and each of its causes, on one line.
pub(crate) fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_a_contract() {
        let codes = [
            Kind::Internal,
            Kind::Usage,
            Kind::Data,
            Kind::ExportFailed,
            Kind::UnsafeStore,
            Kind::Temporary,
            Kind::Permission,
            Kind::Interrupted,
            Kind::Terminated,
        ]
        .map(Kind::exit_code);
        assert_eq!(codes, [1, 2, 65, 69, 73, 75, 77, 130, 143]);
    }

    #[test]
    fn a_report_prints_each_cause_once_and_the_hint_last() {
        let error = Error::new(Kind::Temporary, "cannot reach the lake")
            .because(std::io::Error::other("connection refused"))
            .hint("run the same command again");
        assert_eq!(
            error.report(),
            "error: cannot reach the lake: connection refused\nhint: run the same command again"
        );
    }
}
