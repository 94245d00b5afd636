//! Naming: what a user types for an image, what it means in full, and which stored thing a short text denotes.
//!
//! [`Reference`] is a parsed name: `docker.io`, `library` and `latest` are filled in once, here, and every later comparison
//! is between full forms. [`resolve`] turns a name, tag, digest or id prefix into one answer or a typed ambiguity.
//!
//! Invariants: a [`Reference`] is valid once it exists; its [`Display`](std::fmt::Display) form (docker's "familiar" one)
//! parses back to the same value; nothing here does I/O or panics on any input.
//!
//! Why not `oci_spec::distribution::Reference`: it tells no user which part is wrong or what the rule is, keeps `localhost`
//! apart only by regular expression, accepts digests that the store does not verify and has no familiar form.

mod error;
mod parse;
pub mod resolve;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use error::{Part, ReferenceError};

use crate::model::Digest;

/// The registry that is implied where a name gives none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The project that is implied for one-word names on [`DEFAULT_REGISTRY`].
pub const DEFAULT_PROJECT: &str = "library";
/// The tag that is implied where a name gives neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

/// The name of an image in full: registry, repository, and a tag, a digest or both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port of the registry, lower case: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path of the repository in its registry: `library/ubuntu`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only where a digest stands alone.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where the name pins one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a registry is asked for: the digest where there is one, otherwise the tag.
    pub fn selector(&self) -> &str {
        self.digest.as_ref().map_or_else(|| self.tag.as_deref().unwrap_or(DEFAULT_TAG), Digest::as_str)
    }

    /// The same repository under another tag, without digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        parse::tag(tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository at a digest, without tag.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// Whether both name one repository of one registry.
    pub fn same_repository(&self, other: &Self) -> bool {
        self.registry == other.registry && self.repository == other.repository
    }

    /// The repository as people are shown it: `ubuntu`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        let short = match self.repository.split_once('/') {
            Some((DEFAULT_PROJECT, rest)) if !rest.contains('/') => rest,
            _ => &self.repository,
        };
        // `docker.io/localhost/x` must not become `localhost/x`, which is another registry's.
        match short.split_once('/') {
            Some((first, _)) if parse::names_a_registry(first) => format!("{DEFAULT_REGISTRY}/{short}"),
            _ => short.to_owned(),
        }
    }

    /// Everything spelled out: `docker.io/library/ubuntu:14.04`.
    pub fn canonical(&self) -> String {
        format!("{}/{}{}", self.registry, self.repository, self.suffix())
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse::reference(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.canonical()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.familiar_name(), self.suffix())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

#[cfg(test)]
mod tests;
