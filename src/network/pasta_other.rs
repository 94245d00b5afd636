//! The network of ordinary users' containers, where containers have no networks: there is none.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::ports::Held;
use super::{Missing, NetworkError};
use crate::model::{Container, PublishedPort};
use crate::state::Database;

/// There is none.
pub fn program() -> Result<PathBuf, Missing> {
    Err(Missing::Program)
}

/// Refused.
pub fn hold(_database: &Database, _container: &Container) -> Result<Vec<Held>, NetworkError> {
    Err(NetworkError::Unsupported)
}

/// There are none.
pub fn addresses() -> Vec<IpAddr> {
    Vec::new()
}

/// There is none.
#[derive(Debug)]
pub enum Pasta {}

impl Pasta {
    /// Refused.
    pub fn start(_pid: u32, _published: &[PublishedPort], _folder: &Path) -> Result<Self, NetworkError> {
        Err(NetworkError::Unsupported)
    }
}
