//! Container ids: 64 hex digits, drawn at random, of which people see and type a prefix.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A container's id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// A text that is no container id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a container id: expected 64 lower-case hexadecimal digits")]
pub struct IdError;

impl ContainerId {
    /// The id with these 32 bytes (random ones, from the caller: this module does no I/O).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits: what people are shown, and the container's host name.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for ContainerId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(lower_hex) { Ok(Self(text.to_owned())) } else { Err(IdError) }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}
