//! What leads ordinary users' containers outside, where containers have no networks: there is none.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::ports::Held;
use super::{Connected, Missing, NetworkError};
use crate::model::{Container, PublishedPort};
use crate::state::Database;

/// There is none.
pub fn program() -> Result<PathBuf, Missing> {
    Err(Missing::Program)
}

/// There is no program.
pub fn none() -> Option<Missing> {
    Some(Missing::Program)
}

/// Refused.
pub fn hold(_: &Database, _: &Container, _connected: &[Connected]) -> Result<Vec<Held>, NetworkError> {
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
    pub fn start(
        _pid: u32,
        _published: &[PublishedPort],
        _folder: &Path,
        _device: &str,
    ) -> Result<Self, NetworkError> {
        Err(NetworkError::Unsupported)
    }

    /// There is none.
    pub async fn ended(&self) -> std::io::Result<()> {
        match *self {}
    }
}
