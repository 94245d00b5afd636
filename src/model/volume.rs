//! Volumes: directories that outlive containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ErrorKind, Kind, Timestamp};

/// A volume as the metadata database keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name, unique in the store.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// The user's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Made for one container, by no name of the user's.
    #[serde(default)]
    pub anonymous: bool,
}

/// A name that no volume can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed; \
     if you intended to pass a host directory, use absolute path"
)]
pub struct VolumeNameError {
    name: String,
}

impl Kind for VolumeNameError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl Volume {
    /// A new volume; the name is checked, so that it is one plain component of a path.
    pub fn new(
        name: &str,
        created: Timestamp,
        labels: BTreeMap<String, String>,
        anonymous: bool,
    ) -> Result<Self, VolumeNameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let sound = name.len() > 1
            && name.len() <= 255
            && name.bytes().all(plain)
            && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if sound {
            Ok(Self { name: name.to_owned(), created, labels, anonymous })
        } else {
            Err(VolumeNameError { name: name.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_plain_component() {
        let new = |name: &str| Volume::new(name, Timestamp::UNIX_EPOCH, BTreeMap::new(), false);
        for good in ["db", "a.b-c_d", "0a"] {
            new(good).unwrap();
        }
        for bad in ["", "a", "..", ".a", "-a", "a/b", "a b", "é1", "a\0b", "../x"] {
            assert!(new(bad).is_err(), "{bad}");
        }
    }
}
