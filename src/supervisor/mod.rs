//! One process per container: it owns the container's task, its standard streams, its log and its end.
//!
//! ```text
//! cli ──pipes (frames)──▶ supervisor ──▶ init ──▶ container          other commands ──endpoint (frames)──▶ supervisor
//! ```
//! Invariants:
//! - A container runs exactly as long as its supervisor holds the lock in the container's run directory ([`Liveness`]). The
//!   kernel drops the lock with the process, so a killed supervisor is detected and never believed.
//! - The supervisor outlives the command that made it: it has its own session, and a client that goes away is forgotten.
//! - It never blocks on a client's input ([`protocol::STDIN_WINDOW`]); a client that does not read its output holds the
//!   container up as a full pipe would, and no other command.
//!
//! Why threads for the streams and not one event loop: pipes are read in the same way on every system only by a blocking
//! read, and a parked thread costs a few KiB.

pub mod client;
mod endpoint;
mod files;
mod health;
mod hub;
mod liveness;
mod logs;
mod names;
mod network;
mod outside;
pub mod protocol;
mod proxy;
mod restart;
mod server;
mod volumes;

use std::path::{Path, PathBuf};

use crate::model::{ErrorKind, Kind};

pub use client::{Client, connect, launch};
pub use liveness::{Claim, Liveness, forget, holder, is_alive};
pub use logs::{LogEntry, LogReader, Stream};
pub use protocol::{Failure, Launch};
pub use server::main;
pub use volumes::{VolumeError, remove_anonymous};

/// The first argument of a process that is a supervisor.
pub const ROLE: &str = "__supervisor";

/// The file that a container's log is written to, below its directory in the store.
pub fn log_path(container_dir: &Path) -> PathBuf {
    container_dir.join("log.json")
}

/// A failure around supervisors.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A file of the run directory.
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
    /// Making a pipe or a process.
    #[error("{action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The other side sent something that is no frame.
    #[error("talking to the supervisor of the container")]
    Protocol(#[from] protocol::ProtocolError),
    /// Another supervisor has the container.
    #[error("the container is already running, or being started")]
    Taken,
    /// The container was removed while it was being started.
    #[error("the container was removed meanwhile")]
    Removed,
    /// It ended without a word.
    #[error("the supervisor of the container ended unexpectedly")]
    Lost {
        /// The end of its own log, if any.
        log: String,
    },
    /// The container's own failure, as the supervisor reported it.
    #[error("{0}")]
    Reported(Failure),
}

impl SupervisorError {
    /// Whether the other side did not answer in time.
    pub fn is_silence(&self) -> bool {
        let Self::Protocol(protocol::ProtocolError::Io(error)) = self else { return false };
        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
    }

    fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    fn system(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

impl Kind for SupervisorError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Reported(failure) => failure.kind,
            Self::File { .. } | Self::System { .. } => ErrorKind::Unavailable,
            Self::Taken | Self::Removed => ErrorKind::Conflict,
            Self::Protocol(_) | Self::Lost { .. } => ErrorKind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Reported(failure) => failure.hints.clone(),
            Self::Lost { log } if !log.is_empty() => vec![format!("its last words were: {log}")],
            _ => Vec::new(),
        }
    }
}
