//! The grammar of image names (github.com/distribution/reference, `reference.go`):
//!
//! ```text
//! reference  := [ registry "/" ] repository [ ":" tag ] [ "@" digest ]
//! registry   := host [ ":" port ]           host := domain | IPv4 | "[" IPv6 "]"
//! repository := part ( "/" part )*          part := [a-z0-9]+ ( ( "." | "_" | "__" | "-"+ ) [a-z0-9]+ )*
//! tag        := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//! ```
//! The first part is a registry if it is `localhost` or has a `.`, a `:` or a `[`. Newer docker also takes a first part with
//! capitals for a registry, so that `Foo/bar` fails much later with a DNS error; here it is a name that must be lower case.
//!
//! By hand and not by regular expression, because a user is told which part is wrong and which rule it breaks.

use std::net::Ipv6Addr;

use super::{DEFAULT_PROJECT, DEFAULT_REGISTRY, DEFAULT_TAG, Part, Reference, ReferenceError};
use crate::model::Digest;

/// Longest repository path (distribution's `RepositoryNameTotalLengthMax`).
const REPOSITORY_MAX: usize = 255;
/// Longest tag.
const TAG_MAX: usize = 128;
/// Longest host name (RFC 1035) with brackets, colon and port.
const REGISTRY_MAX: usize = 253 + 6;
/// How much of a wrong text an error repeats.
const SHOWN: usize = 100;

/// Whether a first path part is a registry's host.
pub(super) fn names_a_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '['])
}

/// Parses a whole name.
pub(super) fn reference(text: &str) -> Result<Reference, ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::Empty);
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(ReferenceError::Digest)?)),
        None => (text, None),
    };
    let (registry_text, rest) = match name.split_once('/') {
        Some((first, rest)) if names_a_registry(first) => (Some(first), rest),
        _ => (None, name),
    };
    let (path, tag_text) = match rest.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    let registry = registry_text.map_or_else(|| Ok(DEFAULT_REGISTRY.to_owned()), registry)?;
    let implied = registry == DEFAULT_REGISTRY && !path.contains('/');
    if registry_text.is_none() && path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ReferenceError::HexOnly { name: path.to_owned() });
    }
    repository(path)?;
    let repository = if implied { format!("{DEFAULT_PROJECT}/{path}") } else { path.to_owned() };
    if repository.len() > REPOSITORY_MAX {
        return Err(too_long(Part::Repository, path, REPOSITORY_MAX - (repository.len() - path.len())));
    }
    if let Some(text) = tag_text {
        tag(text)?;
    }
    let tag = tag_text
        .or(if digest.is_none() { Some(DEFAULT_TAG) } else { None })
        .map(std::borrow::ToOwned::to_owned);
    Ok(Reference { registry, repository, tag, digest })
}

/// Checks a host with an optional port and gives its one spelling.
pub(super) fn registry(text: &str) -> Result<String, ReferenceError> {
    let malformed = || malformed(Part::Registry, text);
    if text.len() > REGISTRY_MAX {
        return Err(too_long(Part::Registry, text, REGISTRY_MAX));
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or_else(malformed)?;
        let address: Ipv6Addr = address.parse().map_err(|_| malformed())?;
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':').ok_or_else(malformed)?),
        };
        (format!("[{address}]"), port)
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !host.split('.').all(label) {
            return Err(malformed());
        }
        (host.to_ascii_lowercase(), port)
    };
    let Some(port) = port else {
        return Ok(if host == "index.docker.io" { DEFAULT_REGISTRY.to_owned() } else { host });
    };
    // `u16::from_str` takes a leading `+`.
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0).ok_or_else(malformed)?;
    Ok(format!("{host}:{port}"))
}

fn repository(path: &str) -> Result<(), ReferenceError> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase { name: shortened(path) });
    }
    match path.split('/').find(|part| !is_part(part)) {
        Some(_) => Err(malformed(Part::Repository, path)),
        None => Ok(()),
    }
}

/// `[a-z0-9]+ ( separator [a-z0-9]+ )*`
fn is_part(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (part.bytes().next(), part.bytes().next_back()) else { return false };
    if !plain(first) || !plain(last) {
        return false;
    }
    let separator = |text: &str| {
        matches!(text, "" | "." | "_" | "__") || (!text.is_empty() && text.bytes().all(|b| b == b'-'))
    };
    part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(separator)
}

/// Checks a tag.
pub(super) fn tag(text: &str) -> Result<(), ReferenceError> {
    if text.len() > TAG_MAX {
        return Err(too_long(Part::Tag, text, TAG_MAX));
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first = text.bytes().next().is_some_and(word);
    if !first || !text.bytes().all(|b| word(b) || b == b'.' || b == b'-') {
        return Err(malformed(Part::Tag, text));
    }
    Ok(())
}

fn malformed(part: Part, text: &str) -> ReferenceError {
    ReferenceError::Malformed { part, text: shortened(text) }
}

fn too_long(part: Part, text: &str, limit: usize) -> ReferenceError {
    ReferenceError::TooLong { part, length: text.len(), limit }
}

fn shortened(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}
