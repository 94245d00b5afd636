//! Networks of an ordinary user's containers, where containers have no networks: refused, and nothing to take back.

use std::path::Path;

use super::{Connected, NetworkError};
use crate::model::Container;
use crate::state::Database;

/// The process that supervises the container of a run directory.
pub type Supervisor = fn(&Path) -> Option<u32>;

/// There are none.
#[derive(Debug)]
pub struct Hubs;

#[expect(clippy::unused_self, reason = "the signatures of its twin")]
impl Hubs {
    /// For a container.
    pub fn new(_root: &Path, _run: &Path, _: Supervisor, _first: u8) -> Self {
        Self
    }

    /// Refused.
    pub fn attach(&mut self, _: &Database, _: &Container) -> Result<Vec<Connected>, NetworkError> {
        Err(NetworkError::Unsupported)
    }

    /// Refused.
    pub fn extend(&mut self, _: &Database, _: &Container) -> Result<Vec<Connected>, NetworkError> {
        Err(NetworkError::Unsupported)
    }

    /// Refused.
    pub fn connect(&self, _pid: u32, _router: bool, _: &[Connected]) -> Result<(), NetworkError> {
        Err(NetworkError::Unsupported)
    }

    /// There is nothing to remove.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
    pub fn disconnect(&self, _connected: &[Connected]) -> Result<(), NetworkError> {
        Ok(())
    }

    /// Refused.
    pub fn unplug(&mut self, _gone: &Connected) -> Result<(), NetworkError> {
        Err(NetworkError::Unsupported)
    }

    /// There is nothing to let go of.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
    pub fn let_go(&mut self, _network: &str) -> Result<(), NetworkError> {
        Ok(())
    }

    /// Nothing is held.
    pub fn release(&mut self) {}
}
