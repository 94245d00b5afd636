//! What class of failure an error is: the one thing exit statuses and HTTP statuses are derived from.

/// The class of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// What was named does not exist.
    NotFound,
    /// It exists, but its state or its name stands in the way.
    Conflict,
    /// The request itself is wrong.
    InvalidInput,
    /// A registry wants (other) credentials.
    Unauthorized,
    /// The kernel, a registry or a policy forbids it.
    Forbidden,
    /// This build, host or executor cannot do it.
    Unsupported,
    /// Something needed is out of reach just now: a network, a registry, space on a disk.
    Unavailable,
    /// The user stopped it.
    Cancelled,
    /// A container's program was not found (exit status 127).
    CommandNotFound,
    /// A container's program cannot be executed (exit status 126).
    CommandNotExecutable,
    /// A fault of ours, or data of ours that is damaged.
    Internal,
}

impl ErrorKind {
    /// The exit status of `run` for a container that could not be started, as docker has them.
    pub fn run_status(self) -> u8 {
        match self {
            Self::CommandNotFound => 127,
            Self::CommandNotExecutable => 126,
            Self::NotFound
            | Self::Conflict
            | Self::InvalidInput
            | Self::Unauthorized
            | Self::Forbidden
            | Self::Unsupported
            | Self::Unavailable
            | Self::Cancelled
            | Self::Internal => 125,
        }
    }
}

/// An error that knows its class and what a user could try.
pub trait Kind: std::error::Error {
    /// The class of this error.
    fn kind(&self) -> ErrorKind;

    /// What to try next, one sentence each; empty where nothing useful can be said.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An error and its sources on one line, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !said.is_empty() && !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
