//! What is wrong with the value of an option.

use std::path::PathBuf;

use crate::model::{ErrorKind, Kind};

/// A value that an option does not take, in docker's words.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The text is none of the option's values: what follows `invalid argument "…" for "…" flag: `.
    #[error("{0}")]
    Text(String),
    /// The text can be read, and this engine has no such thing.
    #[error("{0}")]
    Unsupported(String),
    /// A file that the value names.
    #[error("{what} ({}) failed", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The JSON in a file that the value names.
    #[error("compacting json for seccomp profile ({}) failed", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Refused {
    /// A text that is none of the option's values.
    pub fn text(message: impl Into<String>) -> Self {
        Self::Text(message.into())
    }
}

impl Kind for Refused {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Text(_) | Self::Json { .. } => ErrorKind::InvalidInput,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::File { .. } => ErrorKind::Unavailable,
        }
    }
}
