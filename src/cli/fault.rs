//! What can go wrong in a command, beyond what the engine says.

use std::path::PathBuf;

use super::output::OutputError;
use super::output::error::chain;
use super::output::template::TemplateError;
use crate::engine::EngineError;
use crate::model::signal::SignalError;
use crate::model::{ErrorKind, Kind};

/// A command's failure.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The engine's own.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Output could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// `--format` is no template, or does not fit.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A flag's value, wrong in a way that clap does not see.
    #[error("invalid value \"{value}\" for {flag}: {rule}")]
    Flag {
        /// The flag, with its dashes.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        rule: String,
    },
    /// A flag's value, with what its parser says of it.
    #[error("{}", chain(&**.0))]
    Value(Box<dyn Kind + Send + Sync>),
    /// A signal that no system knows. Docker's daemon finds it, so it is no fault of usage.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// `since` or `until`.
    #[error("invalid value for \"{flag}\": {error}")]
    Bound {
        /// The flag or filter, without dashes.
        flag: &'static str,
        /// What its parser says.
        error: String,
    },
    /// Flags that do not go together.
    #[error("{0}")]
    Conflict(&'static str),
    /// `-it`, but no terminal to be seen.
    #[error("the input device is not a TTY")]
    NoTerminal,
    /// Credentials that would have to be asked for.
    #[error("Cannot perform an interactive login from a non TTY device")]
    NotInteractive,
    /// A registry's name is none.
    #[error("{0}")]
    Registry(String),
    /// A file that a flag names.
    #[error("{action} `{}`", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// `--cidfile` names a file that is there.
    #[error("container ID file found, make sure the other container isn't running or delete {}", .0.display())]
    CidFile(PathBuf),
    /// The host's `ps`, or what it wrote.
    #[error("ps: {0}")]
    Ps(String),
    /// `port` of a port that is not published.
    #[error("No public port '{port}' published for {container}")]
    NoPublicPort {
        /// As typed.
        port: String,
        /// The container, as typed.
        container: String,
    },
    /// The terminal, or the signals of this process.
    #[error("{action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A value that cannot be shown as JSON.
    #[error("writing JSON")]
    Json(#[from] serde_json::Error),
}

impl Kind for Fault {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Value(error) => error.kind(),
            Self::Signal(error) => error.kind(),
            Self::NoPublicPort { .. } => ErrorKind::NotFound,
            Self::Template(_)
            | Self::Flag { .. }
            | Self::Bound { .. }
            | Self::Conflict(_)
            | Self::Registry(_)
            | Self::NotInteractive
            | Self::Ps(_)
            | Self::NoTerminal => ErrorKind::InvalidInput,
            Self::CidFile(_) => ErrorKind::Conflict,
            Self::Output(_) | Self::File { .. } | Self::System { .. } => ErrorKind::Unavailable,
            Self::Json(_) => ErrorKind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Engine(error) => error.hints(),
            Self::Value(error) => error.hints(),
            Self::NotInteractive => {
                vec!["give --username, and the password with --password-stdin".to_owned()]
            }
            Self::NoTerminal => vec!["leave out -t where standard input is no terminal".to_owned()],
            _ => Vec::new(),
        }
    }
}

impl Fault {
    /// A flag's value is wrong.
    pub(super) fn value(error: impl Kind + Send + Sync + 'static) -> Self {
        Self::Value(Box::new(error))
    }

    /// The exit status where it is not the one of its kind: docker finds this one before it asks its daemon.
    pub(super) fn status(&self) -> Option<u8> {
        matches!(self, Self::NoTerminal).then_some(1)
    }

    /// Whether the command's help would say what is wrong.
    pub(super) fn is_usage(&self) -> bool {
        matches!(self, Self::Flag { .. } | Self::Value(_) | Self::Conflict(_))
    }
}

/// The number of a signal that `--signal` names.
pub(super) fn signal(name: &str) -> Result<u8, Fault> {
    Ok(crate::model::signal::parse(name)?)
}
