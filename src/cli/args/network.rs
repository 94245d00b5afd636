//! `--network`.
//!
//! There are three networks so far: none of one's own but loopback, the host's, and another container's. Every other value that docker knows is
//! refused by what it is, never taken for one of these: a container that should be apart must not be on the host's network,
//! and one that should be reachable must not be silently alone.

use crate::model::{ErrorKind, Kind, NetworkMode};

/// A network that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Empty.
    #[error("no name set for network")]
    Empty,
    /// `container:` of no container.
    #[error("invalid network mode: invalid container format container:<name|id>")]
    NoContainer,
    /// Docker's default, or a name that a user gave.
    #[error("network '{name}' is not supported: only the networks none and host exist yet")]
    Unsupported {
        /// As given.
        name: String,
    },
    /// `name=…,alias=…`.
    #[error(
        "network option '{option}' is not supported: only the networks none and host exist yet, and neither has options"
    )]
    Option {
        /// The part that is not `name=…`.
        option: String,
    },
}

impl Kind for NetworkError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Empty | Self::NoContainer => ErrorKind::InvalidInput,
            Self::Unsupported { .. } | Self::Option { .. } => ErrorKind::Unsupported,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Empty | Self::NoContainer => Vec::new(),
            Self::Unsupported { .. } | Self::Option { .. } => {
                vec!["use --network host to reach the network, or --network none to do without".into()]
            }
        }
    }
}

/// A network, plain (`none`) or in docker's long form (`name=none`).
pub fn parse(text: &str) -> Result<NetworkMode, NetworkError> {
    if !text.contains('=') {
        return named(text);
    }
    let mut name = "";
    for part in text.split(',') {
        match part.split_once('=') {
            Some((key, value)) if key.trim().eq_ignore_ascii_case("name") => name = value.trim(),
            _ => return Err(NetworkError::Option { option: part.to_owned() }),
        }
    }
    named(name)
}

fn named(name: &str) -> Result<NetworkMode, NetworkError> {
    match name {
        "" => Err(NetworkError::Empty),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ => match name.strip_prefix("container:") {
            Some("") => Err(NetworkError::NoContainer),
            Some(container) => Ok(NetworkMode::Container(container.to_owned())),
            None => Err(NetworkError::Unsupported { name: name.to_owned() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (text, mode) in [
            ("none", NetworkMode::None),
            ("host", NetworkMode::Host),
            ("name=none", NetworkMode::None),
            ("name=host", NetworkMode::Host),
        ] {
            assert_eq!(parse(text), Ok(mode));
        }
        // Docker's modes are in lower case; other spellings are names.
        for name in ["bridge", "default", "foo", "a b", "NONE", "Host", "host ", "ns:/x", "slirp4netns"] {
            let error = parse(name).unwrap_err();
            assert_eq!(error, NetworkError::Unsupported { name: name.into() });
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("only the networks none and host exist yet"));
            assert_eq!(error.hints().len(), 1);
        }
        assert_eq!(parse("container:x"), Ok(NetworkMode::Container("x".into())));
        for (text, message) in [
            ("", "no name set for network"),
            ("name=", "no name set for network"),
            ("container:", "invalid network mode: invalid container format container:<name|id>"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.kind()), (message, ErrorKind::InvalidInput));
        }
        assert_eq!(parse("name=none,alias=x"), Err(NetworkError::Option { option: "alias=x".into() }));
        assert_eq!(parse("ip=1.2.3.4,name=host"), Err(NetworkError::Option { option: "ip=1.2.3.4".into() }));
        assert_eq!(parse("name=host,"), Err(NetworkError::Option { option: String::new() }));
        assert_eq!(parse("name=bridge"), Err(NetworkError::Unsupported { name: "bridge".into() }));
    }
}
