//! Copying into and out of containers, where it needs what only Linux has.

use crate::model::{ErrorKind, Kind};

use super::{Engine, EngineError};

/// This host cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("copying into and out of containers needs a Linux host")]
pub struct CopyError;

impl Kind for CopyError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A path of the host.
    Host(String),
    /// A path in a container.
    Container {
        /// Name or id.
        container: String,
        /// The path.
        path: String,
    },
}

/// How to copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// `--archive`: keep owners.
    pub archive: bool,
    /// `--follow-link`: a source that is a link means what it points to.
    pub follow: bool,
}

impl Engine {
    /// Refuses.
    pub fn copy(&self, _: &End, _: &End, _: CopyOptions) -> Result<u64, EngineError> {
        Err(CopyError.into())
    }
}
