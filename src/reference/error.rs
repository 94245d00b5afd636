//! Why a text is no image name: the part that is wrong and the rule it breaks.

use std::fmt;

use crate::model::{DigestError, ErrorKind, Kind};

/// The part of a name that an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Host and port.
    Registry,
    /// The path of the repository.
    Repository,
    /// The tag.
    Tag,
}

impl Part {
    /// The rule that the part follows (distribution's reference grammar).
    pub fn rule(self) -> &'static str {
        match self {
            Self::Registry => {
                "a registry is a host name, an IPv4 address or an IPv6 address in brackets, \
                 with an optional port from 1 to 65535"
            }
            Self::Repository => {
                "each part between slashes is lower-case letters and digits, \
                 with single `.`, one or two `_`, or any number of `-` between them"
            }
            Self::Tag => {
                "a tag is 1 to 128 letters, digits, `_`, `.` and `-`, and starts with none of `.` and `-`"
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registry => "registry",
            Self::Repository => "repository name",
            Self::Tag => "tag",
        })
    }
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing at all.
    #[error("invalid reference format: the name is empty")]
    Empty,
    /// The repository has capital letters.
    #[error("invalid reference format: repository name ({name}) must be lowercase")]
    Uppercase {
        /// The repository.
        name: String,
    },
    /// A part is longer than registries take.
    #[error("invalid reference format: {part} has {length} characters, at most {limit} are allowed")]
    TooLong {
        /// The part.
        part: Part,
        /// Its length.
        length: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// A part does not follow the grammar.
    #[error("invalid reference format: {part} `{text}` is malformed: {}", part.rule())]
    Malformed {
        /// The part.
        part: Part,
        /// What it says, shortened.
        text: String,
    },
    /// 64 hexadecimal digits: an id, which as a name would hide that id.
    #[error("invalid repository name ({name}), cannot specify 64-byte hexadecimal strings")]
    HexOnly {
        /// The name.
        name: String,
    },
    /// What follows `@` is no digest.
    #[error("invalid reference format: bad digest")]
    Digest(
        /// What is wrong with it.
        #[source]
        DigestError,
    ),
}

impl Kind for ReferenceError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Uppercase { name } => vec![format!("try `{}`", name.to_lowercase())],
            Self::HexOnly { name } => vec![format!("to name an image by its id, write `sha256:{name}`")],
            Self::Empty => {
                vec!["a name looks like `ubuntu:14.04` or `localhost:5000/project/name:tag`".into()]
            }
            _ => Vec::new(),
        }
    }
}
