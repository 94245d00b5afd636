//! Networks of containers on systems that have none: refused, and nothing to take back.

use std::path::Path;

use super::linger::Lingering;
use super::ports::Held;
use super::{Connected, NetworkError};
use crate::model::{Container, ContainerId, Subnet};
use crate::state::Database;

/// The host's network as one store sees it.
#[derive(Debug, Clone)]
pub struct Kernel;

/// What a container has while it is up.
#[derive(Debug)]
pub struct Attached {
    /// Its networks and addresses there.
    pub connected: Vec<Connected>,
    /// Its ports.
    pub ports: Vec<Held>,
}

/// The networks that the host has routes to.
pub fn routes() -> Result<Vec<Subnet>, NetworkError> {
    Ok(Vec::new())
}

#[expect(clippy::unused_self, reason = "the signatures of its twin")]
impl Kernel {
    /// For a store.
    pub fn new(_root: &Path, _run_root: &Path) -> Self {
        Self
    }

    /// There is none.
    pub fn default_bridge(&self) -> Option<&'static str> {
        None
    }

    /// There is no firewall.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
    pub fn obstacles(&self) -> Result<Vec<String>, NetworkError> {
        Ok(Vec::new())
    }

    /// Nothing is.
    pub fn is_up(&self) -> bool {
        false
    }

    /// Refused.
    pub fn attach(&self, _: &Database, _: &Container, _again: bool) -> Result<Attached, NetworkError> {
        Err(NetworkError::Unsupported)
    }

    /// Refused.
    pub fn extend(&self, _: &Database, _: &Container) -> Result<Vec<Connected>, NetworkError> {
        Err(NetworkError::Unsupported)
    }

    /// Refused.
    pub fn connect(&self, _pid: u32, _connected: &[Connected]) -> Result<(), NetworkError> {
        Err(NetworkError::Unsupported)
    }

    /// Refused.
    pub fn plug(&self, _pid: u32, _connected: &[Connected]) -> Result<(), NetworkError> {
        Err(NetworkError::Unsupported)
    }

    /// Refused.
    pub fn unplug(&self, _pid: u32, _gone: &Connected, _left: &[Connected]) -> Result<(), NetworkError> {
        Err(NetworkError::Unsupported)
    }

    /// There is nothing to take out of anything.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
    pub fn cut_off(&self, _connected: &[Connected]) -> Result<(), NetworkError> {
        Ok(())
    }

    /// There is nothing to remove.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
    pub fn disconnect(&self, _connected: &[Connected]) -> Result<(), NetworkError> {
        Ok(())
    }

    /// Takes back what the records say.
    pub fn forget(&self, database: &Database, container: &ContainerId) -> Result<(), NetworkError> {
        Ok(database.release_addresses(container)?)
    }

    /// None were.
    pub fn is_stale(&self, _wanted: &[String]) -> bool {
        false
    }

    /// Nothing is up.
    pub fn linger(&self) -> Option<Lingering> {
        None
    }

    /// Nobody does.
    pub fn is_lingering(&self) -> bool {
        false
    }

    /// There are no rules.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
    pub fn refresh(&self, _database: &Database) -> Result<(), NetworkError> {
        Ok(())
    }

    /// There is nothing to take down.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of its twin")]
    pub fn settle(&self, _database: &Database) -> Result<(), NetworkError> {
        Ok(())
    }
}
