//! Volumes: directories that outlive containers.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// `-o`, as given: what is mounted instead of a directory of the store.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What a volume's options mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeMount {
    /// A directory of the host.
    Bind {
        /// Which.
        device: PathBuf,
        /// With the mounts below it (`rbind`).
        recursive: bool,
        /// `ro`.
        read_only: bool,
    },
    /// Memory, of each container its own.
    Tmpfs {
        /// Mount options.
        options: Vec<String>,
    },
}

/// Options that make no volume, in docker's words where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeOptionError {
    /// The local driver has no such option.
    #[error("invalid option: {name:?}")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// One that belongs to the others is missing.
    #[error("missing required option: {name:?}")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// `size` by itself.
    #[error("quota size requested but no quota support")]
    Quota,
    /// A file system that is not mounted for volumes.
    #[error("volumes of type {kind:?} are not supported: the types are tmpfs, and none with the option bind")]
    Type {
        /// As given.
        kind: String,
    },
    /// A relative path.
    #[error("invalid option: the device {device:?} is not an absolute path")]
    Device {
        /// As given.
        device: String,
    },
}

impl Kind for VolumeOptionError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Type { .. } | Self::Quota => ErrorKind::Unsupported,
            Self::Unknown { .. } | Self::Missing { .. } | Self::Device { .. } => ErrorKind::InvalidInput,
        }
    }
}

/// A name that no volume can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeNameError {
    /// Less than two characters.
    #[error("volume name is too short, names should be at least two alphanumeric characters")]
    Short,
    /// Other characters than those of one plain component of a path, or too many.
    #[error(
        "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed; \
         if you intended to pass a host directory, use absolute path"
    )]
    Characters {
        /// What was given.
        name: String,
    },
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
        if name.len() < 2 {
            return Err(VolumeNameError::Short);
        }
        let sound = name.len() <= 255
            && name.bytes().all(plain)
            && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if sound {
            Ok(Self { name: name.to_owned(), created, labels, anonymous, options: BTreeMap::new() })
        } else {
            Err(VolumeNameError::Characters { name: name.to_owned() })
        }
    }

    /// The same with options of the local driver, which are checked.
    pub fn with_options(mut self, options: BTreeMap<String, String>) -> Result<Self, VolumeOptionError> {
        let known = ["type", "device", "o", "size"];
        if let Some(name) = options.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(VolumeOptionError::Unknown { name: name.clone() });
        }
        if options.contains_key("size") {
            return Err(VolumeOptionError::Quota);
        }
        for name in ["device", "type"] {
            if !options.is_empty() && options.get(name).is_none_or(String::is_empty) {
                return Err(VolumeOptionError::Missing { name });
            }
        }
        self.options = options;
        self.mount().map(|_| self)
    }

    /// What the options mount; `None`: the volume is a directory of the store.
    pub fn mount(&self) -> Result<Option<VolumeMount>, VolumeOptionError> {
        let text = |name: &str| self.options.get(name).map_or("", String::as_str);
        let words = || text("o").split(',').filter(|word| !word.is_empty());
        let has = |wish: &str| words().any(|word| word == wish);
        match text("type") {
            "" => Ok(None),
            "tmpfs" => Ok(Some(VolumeMount::Tmpfs { options: words().map(str::to_owned).collect() })),
            kind if has("bind") || has("rbind") || kind == "bind" => {
                let device = PathBuf::from(text("device"));
                if !device.has_root() {
                    return Err(VolumeOptionError::Device { device: text("device").to_owned() });
                }
                Ok(Some(VolumeMount::Bind { device, recursive: has("rbind"), read_only: has("ro") }))
            }
            kind => Err(VolumeOptionError::Type { kind: kind.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_local_drivers() {
        let make = |options: &[(&str, &str)]| {
            let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            let volume = Volume::new("vol", Timestamp::UNIX_EPOCH, BTreeMap::new(), false).unwrap();
            volume.with_options(options).and_then(|volume| volume.mount()).map_err(|error| error.to_string())
        };
        assert_eq!(make(&[]), Ok(None));
        assert_eq!(
            make(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=10m,uid=5")]),
            Ok(Some(VolumeMount::Tmpfs { options: vec!["size=10m".into(), "uid=5".into()] }))
        );
        assert_eq!(
            make(&[("type", "none"), ("device", "/x"), ("o", "bind,ro")]),
            Ok(Some(VolumeMount::Bind { device: "/x".into(), recursive: false, read_only: true }))
        );
        for (options, message) in [
            (&[("bogus", "1")][..], "invalid option: \"bogus\""),
            (&[("size", "1")], "quota size requested but no quota support"),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("device", "/x")], "missing required option: \"type\""),
            (&[("o", "bind")], "missing required option: \"device\""),
            (&[("type", "none"), ("device", "x"), ("o", "bind")], "is not an absolute path"),
            (&[("type", "nfs"), ("device", ":/x")], "volumes of type \"nfs\" are not supported"),
        ] {
            assert!(make(options).unwrap_err().contains(message), "{options:?}");
        }
    }

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
