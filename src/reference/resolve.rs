//! Which stored thing a short text denotes: one answer, or a typed error that lists what could have been meant.
//!
//! Pure: the caller lists the candidates, in the order it prefers them. The order of rules is docker's: an exact name wins
//! over a full id, a full id over a unique prefix of one. So a container that somebody named `abc` hides no id but those
//! that begin with `abc`, and only for that text.

use super::Reference;
use crate::model::{ContainerId, Digest, ErrorKind, Kind};

/// How many candidates and suggestions an error keeps.
const SHOWN: usize = 10;
const SUGGESTED: usize = 3;

/// What kind of thing was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A container.
    Container,
    /// An image.
    Image,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Image => "image",
        })
    }
}

/// Something that a query may denote, as errors show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id, in full.
    pub id: String,
    /// Its first name; empty if it has none.
    pub name: String,
}

/// A query that does not denote one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing matches.
    #[error("No such {what}: {query}")]
    NotFound {
        /// What was looked for.
        what: What,
        /// What the user wrote.
        query: String,
        /// Names that are close to it, nearest first; at most three.
        similar: Vec<String>,
    },
    /// Several things match.
    #[error("{what} id prefix `{query}` is ambiguous: {}", list(candidates))]
    Ambiguous {
        /// What was looked for.
        what: What,
        /// What the user wrote.
        query: String,
        /// The first ten that match.
        candidates: Vec<Candidate>,
    },
}

impl Kind for ResolveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { similar, .. } if !similar.is_empty() => {
                vec![format!("did you mean `{}`?", similar.join("`, `"))]
            }
            Self::NotFound { what: What::Container, .. } => vec!["`umiak ps -a` lists all containers".into()],
            Self::NotFound { what: What::Image, .. } => vec!["`umiak images` lists all images".into()],
            Self::Ambiguous { .. } => vec!["give more digits of the id, or the name".into()],
        }
    }
}

fn list(candidates: &[Candidate]) -> String {
    let shown = candidates.iter().map(|candidate| {
        let id = candidate.id.strip_prefix("sha256:").unwrap_or(&candidate.id);
        let id = id.get(..12).unwrap_or(id);
        if candidate.name.is_empty() { id.to_owned() } else { format!("{id} ({})", candidate.name) }
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The container that `query` denotes: its name, its id, or a prefix of its id that is unique.
pub fn container<'a>(
    query: &str,
    candidates: impl IntoIterator<Item = (&'a ContainerId, &'a str)>,
) -> Result<&'a ContainerId, ResolveError> {
    // Docker shows names with a leading slash and takes them back.
    let wanted = query.strip_prefix('/').unwrap_or(query);
    let all: Vec<(&ContainerId, &str)> = candidates.into_iter().collect();
    if let Some((id, _)) = all.iter().find(|(_, name)| !wanted.is_empty() && *name == wanted) {
        return Ok(id);
    }
    let matching: Vec<_> =
        all.iter().filter(|(id, _)| is_hex(wanted) && id.as_str().starts_with(wanted)).collect();
    match matching.as_slice() {
        [(id, _)] => Ok(id),
        [] => Err(ResolveError::NotFound {
            what: What::Container,
            query: query.to_owned(),
            similar: similar(wanted, all.iter().map(|(_, name)| (*name).to_owned())),
        }),
        several => Err(ResolveError::Ambiguous {
            what: What::Container,
            query: query.to_owned(),
            candidates: several
                .iter()
                .take(SHOWN)
                .map(|(id, name)| Candidate { id: id.to_string(), name: (*name).to_owned() })
                .collect(),
        }),
    }
}

/// An image that a query may denote.
#[derive(Debug, Clone, Copy)]
pub struct ImageCandidate<'a> {
    /// Its id: the digest of its config.
    pub id: &'a Digest,
    /// The digest of its platform's manifest.
    pub manifest: &'a Digest,
    /// The digest of what its tag pointed to.
    pub target: &'a Digest,
    /// Its names.
    pub names: &'a [Reference],
}

impl ImageCandidate<'_> {
    fn bears(&self, wanted: &Reference) -> bool {
        let Some(digest) = wanted.digest() else { return self.names.contains(wanted) };
        (digest == self.target || digest == self.manifest)
            && self.names.iter().any(|name| name.same_repository(wanted))
    }

    fn shown(&self) -> Candidate {
        Candidate {
            id: self.id.to_string(),
            name: self.names.first().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// The image that `query` denotes: a name (tag or digest), `sha256:…`, or a unique prefix of its id.
///
/// One name may denote an image per platform: the first one listed is the answer, so list the preferred platform first, or
/// only those of the platform that the user asked for.
pub fn image<'a>(
    query: &str,
    candidates: impl IntoIterator<Item = ImageCandidate<'a>>,
) -> Result<ImageCandidate<'a>, ResolveError> {
    let all: Vec<ImageCandidate<'a>> = candidates.into_iter().collect();
    let named = query.parse::<Reference>().ok();
    if let Some(found) = named.as_ref().and_then(|wanted| all.iter().find(|image| image.bears(wanted))) {
        return Ok(*found);
    }
    if let Some(found) = query.parse::<Digest>().ok().and_then(|digest| {
        all.iter().find(|image| [image.id, image.target, image.manifest].contains(&&digest))
    }) {
        return Ok(*found);
    }
    let prefix = query.strip_prefix("sha256:").unwrap_or(query);
    let mut matching: Vec<&ImageCandidate<'a>> =
        all.iter().filter(|image| is_hex(prefix) && image.id.hex().starts_with(prefix)).collect();
    matching.dedup_by(|a, b| a.id == b.id);
    match matching.as_slice() {
        [image] => Ok(**image),
        [] => Err(ResolveError::NotFound {
            what: What::Image,
            query: query.to_owned(),
            similar: similar_images(query, named.as_ref(), &all),
        }),
        several => Err(ResolveError::Ambiguous {
            what: What::Image,
            query: query.to_owned(),
            candidates: several.iter().take(SHOWN).map(|image| image.shown()).collect(),
        }),
    }
}

/// Other tags of the same repository are the best guess; then names that are spelled alike.
fn similar_images(query: &str, wanted: Option<&Reference>, all: &[ImageCandidate<'_>]) -> Vec<String> {
    let all_names = || all.iter().flat_map(|image| image.names);
    let mut found: Vec<String> = wanted
        .map(|own| all_names().filter(|name| name.same_repository(own)).map(ToString::to_string).collect())
        .unwrap_or_default();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        // Compared without tags, so that `ubunt` finds `ubuntu:14.04`.
        let repository = wanted.map_or_else(|| query.to_owned(), Reference::familiar_name);
        let close = similar(&repository, all_names().map(Reference::familiar_name));
        found = all_names()
            .filter(|name| close.contains(&name.familiar_name()))
            .map(ToString::to_string)
            .collect();
        found.sort_unstable();
        found.dedup();
    }
    found.truncate(SUGGESTED);
    found
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Names within a third of the query's length of it by edits, nearest first.
fn similar(query: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    const LONGEST: usize = 64;
    if query.len() > LONGEST {
        return Vec::new();
    }
    let most = (query.chars().count() / 3).max(1);
    let mut close: Vec<(usize, String)> = names
        .filter(|name| !name.is_empty() && name.len() <= LONGEST)
        .map(|name| (distance(query, &name), name))
        .filter(|(distance, _)| *distance <= most)
        .collect();
    close.sort_unstable();
    close.dedup();
    close.into_iter().take(SUGGESTED).map(|(_, name)| name).collect()
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(start: &str) -> ContainerId {
        format!("{start:0<64}").parse().unwrap()
    }

    #[test]
    fn containers_by_name_id_and_prefix() {
        let ids = [id("551e1"), id("551e2"), id("abc"), id("de")];
        let names = ["web", "db", "cache", "abc"];
        let find = |query: &str| container(query, ids.iter().zip(names));
        assert_eq!(find("web").unwrap(), &ids[0]);
        assert_eq!(find("/web").unwrap(), &ids[0]);
        assert_eq!(find("551e2").unwrap(), &ids[1]);
        assert_eq!(find(ids[1].as_str()).unwrap(), &ids[1]);
        assert_eq!(find("abc").unwrap(), &ids[3], "a name wins over a prefix");
        assert_eq!(find("abc0").unwrap(), &ids[2]);
        assert_eq!(find("d").unwrap(), &ids[3]);
        let Err(ResolveError::Ambiguous { candidates, .. }) = find("551e") else { panic!() };
        assert_eq!(candidates.len(), 2);
        let message = find("551e").unwrap_err().to_string();
        assert!(message.contains("551e10000000 (web), 551e20000000 (db)"), "{message}");
        let error = find("wep").unwrap_err();
        assert_eq!(error.hints(), ["did you mean `web`?"]);
        for nothing in ["", "/", "551E", "0", "sha256:", "\u{0}"] {
            assert!(matches!(find(nothing), Err(ResolveError::NotFound { .. })), "{nothing:?}");
        }
    }

    #[test]
    fn images_by_name_digest_and_prefix() {
        let digest = |start: &str| format!("sha256:{start:0<64}").parse::<Digest>().unwrap();
        let (linux, wasm, other) = (digest("aa1"), digest("aa2"), digest("b"));
        let (index, manifest, single) = (digest("c1"), digest("c2"), digest("c3"));
        let hello: Vec<Reference> = vec!["quay.io/hello:1".parse().unwrap()];
        let ubuntu: Vec<Reference> = vec!["ubuntu:14.04".parse().unwrap(), "ubuntu:old".parse().unwrap()];
        let all = || {
            [
                ImageCandidate { id: &linux, manifest: &manifest, target: &index, names: &hello },
                ImageCandidate { id: &wasm, manifest: &single, target: &index, names: &hello },
                ImageCandidate { id: &other, manifest: &single, target: &single, names: &ubuntu },
            ]
        };
        for (query, expected) in [
            ("quay.io/hello:1".to_owned(), &linux),
            (format!("quay.io/hello@{index}"), &linux),
            (format!("quay.io/hello:whatever@{manifest}"), &linux),
            (linux.to_string(), &linux),
            (index.to_string(), &linux),
            ("sha256:b".into(), &other),
            ("b".into(), &other),
            ("aa2".into(), &wasm),
            (wasm.hex().into(), &wasm),
            ("docker.io/library/ubuntu:14.04".into(), &other),
            ("ubuntu:old".into(), &other),
        ] {
            assert_eq!(image(&query, all()).unwrap().id, expected, "{query}");
        }
        assert!(matches!(image("aa", all()), Err(ResolveError::Ambiguous { .. })));
        for (query, hint) in [
            ("ubuntu", "`ubuntu:14.04`, `ubuntu:old`"),
            ("ubunt", "`ubuntu:14.04`"),
            ("qqq", "`umiak images`"),
            ("Ubuntu", "`ubuntu:14.04`"),
        ] {
            let error = image(query, all()).map(|found| found.id).unwrap_err();
            assert!(error.hints()[0].contains(hint), "{query}: {error:?}");
        }
        assert!(image(&format!("other@{index}"), all()).is_err(), "another repository's digest");
    }
}
