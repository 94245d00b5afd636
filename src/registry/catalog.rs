//! What a registry has: tags of a repository, its repositories, and searches.

use std::collections::HashSet;

use reqwest::header::LINK;
use reqwest::{Method, Url};
use serde_json::Value;

use super::client::Client;
use super::exchange::{Access, Call, checked, limited};
use super::index::{Kept, entries, media_type};
use super::manifest::LIMITS;
use super::{RegistryError, Source};
use crate::model::Digest;
use crate::reference::{DEFAULT_REGISTRY, Reference};

/// Bytes of one page of a list.
const PAGE: u64 = 8 << 20;
/// Pages of a list, and things on all of them.
const PAGES: usize = 1000;
const THINGS: usize = 100_000;
/// Who answers searches for Docker Hub.
const HUB_SEARCH: &str = "index.docker.io";

/// The tags of a repository, in the registry's order.
pub type Tags = Vec<String>;

/// A repository that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hit {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// How many like it.
    pub stars: u64,
    /// Docker's own.
    pub official: bool,
    /// Built by Docker Hub.
    pub automated: bool,
}

impl Client {
    /// All tags of a repository.
    pub async fn tags(&self, name: &Reference) -> Result<Tags, RegistryError> {
        let access = Access::pull(name.registry(), name.repository());
        let path = format!("{}/tags/list?n=1000", name.repository());
        match self.pages(&access, &path, "tags").await {
            Ok(tags) => Ok(tags),
            Err(RegistryError::Status { status: 404, .. }) => {
                Err(RegistryError::NoRepository { name: name.familiar_name() })
            }
            Err(error) => Err(self.absent(error, name)),
        }
    }

    /// All repositories of a registry that has a catalogue and shows it.
    pub async fn repositories(&self, host: &str) -> Result<Vec<String>, RegistryError> {
        let access = Access { host, repository: "", scope: "registry:catalog:*".into() };
        self.pages(&access, "_catalog?n=1000", "repositories").await
    }

    /// A list that comes in pages, each with the address of the next.
    async fn pages(&self, access: &Access<'_>, path: &str, key: &str) -> Result<Vec<String>, RegistryError> {
        let protocol = |why| RegistryError::Protocol { host: access.host.to_owned(), why };
        let first = self.api(access.host, path)?;
        let (mut next, mut all, mut seen) = (Some(first.clone()), Vec::new(), HashSet::new());
        while let Some(url) = next {
            if !seen.insert(url.clone()) || seen.len() > PAGES {
                return Err(protocol("its list has no end"));
            }
            let mut call = Call::new(Method::GET, url.clone());
            call.home = first.clone();
            let response = self.persist(access, &call).await?;
            let link = response.headers().get(LINK).and_then(|value| value.to_str().ok()).and_then(linked);
            next = link.and_then(|link| url.join(&link).ok());
            if next.as_ref().is_some_and(|next| next.origin() != first.origin()) {
                return Err(protocol("its list continues on another host"));
            }
            let bytes = limited(access.host, response, PAGE, "a list").await?;
            let value: Value = serde_json::from_slice(&bytes).map_err(|_| protocol("its list is no JSON"))?;
            let texts = match value.get(key) {
                Some(Value::Array(items)) => items.iter().filter_map(Value::as_str),
                Some(Value::Null) => [].iter().filter_map(Value::as_str),
                _ => return Err(protocol("its list is not of the form expected")),
            };
            all.extend(texts.filter(|text| is_plain(text)).map(str::to_owned));
            if all.len() > THINGS {
                return Err(protocol("its list has no end"));
            }
        }
        Ok(all)
    }

    /// Searches a registry: by its search service, or where it has none, in its catalogue.
    pub async fn search(&self, host: &str, term: &str, limit: usize) -> Result<Vec<Hit>, RegistryError> {
        let service = self.registries.get(host).and_then(|registry| registry.search.clone());
        let service = service.unwrap_or_else(|| match host {
            DEFAULT_REGISTRY => HUB_SEARCH.to_owned(),
            other => other.to_owned(),
        });
        let mut url = self
            .api(&service, "")?
            .join("/v1/search")
            .map_err(|_| RegistryError::Protocol { host: host.to_owned(), why: "its address is no URL" })?;
        url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
        let hub = host == DEFAULT_REGISTRY;
        match self.service(&service, &url).await {
            Err(
                RegistryError::Status { status: 401 | 403 | 404 | 405, .. } | RegistryError::Protocol { .. },
            ) if !hub => {
                let mut names = self.repositories(host).await?;
                names.retain(|name| name.contains(term));
                names.truncate(limit);
                Ok(names.into_iter().map(|name| Hit { name, ..Hit::default() }).collect())
            }
            outcome => outcome,
        }
    }

    async fn service(&self, host: &str, url: &Url) -> Result<Vec<Hit>, RegistryError> {
        let protocol = || RegistryError::Protocol {
            host: host.to_owned(),
            why: "its search results are not of the form expected",
        };
        let access = Access { host, repository: "", scope: String::new() };
        let response = self.request(&access, &Call::new(Method::GET, url.clone())).await?;
        let response = checked(host, response).await?;
        let bytes = limited(host, response, PAGE, "search results").await?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| protocol())?;
        let results = value.get("results").and_then(Value::as_array).ok_or_else(protocol)?;
        let hit = |value: &Value| {
            let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or_default();
            Hit {
                name: text("name"),
                description: text("description"),
                stars: value.get("star_count").and_then(Value::as_u64).unwrap_or_default(),
                official: flag("is_official"),
                automated: flag("is_automated"),
            }
        };
        Ok(results.iter().take(THINGS).map(hit).filter(|hit| !hit.name.is_empty()).collect())
    }

    /// A manifest or index as a registry has it, without its config and layers; the type is the one it was served with.
    pub async fn document(&self, name: &Reference) -> Result<Kept, RegistryError> {
        let source = Source { host: name.registry().to_owned(), repository: name.repository().to_owned() };
        self.document_at(&source, name, name.selector(), name.digest()).await
    }

    async fn document_at(
        &self,
        source: &Source,
        name: &Reference,
        selector: &str,
        expected: Option<&Digest>,
    ) -> Result<Kept, RegistryError> {
        let bad = |source| RegistryError::Manifest { name: name.to_string(), source };
        let path = format!("manifests/{selector}");
        let (_, bytes) = self
            .body(source, &path, LIMITS.manifest, "a manifest")
            .await
            .map_err(|error| self.absent(error, name))?;
        super::client::verified(&source.host, "manifest", &bytes, expected)?;
        Ok(Kept {
            media_type: media_type(&bytes).map_err(bad)?,
            found: entries(&bytes).map_err(bad)?,
            bytes: bytes.to_vec(),
        })
    }
}

/// The address in a `Link` header that names the next page (RFC 8288).
fn linked(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.split(';').any(|one| {
            let one = one.trim().to_ascii_lowercase();
            one == "rel=next" || one == "rel=\"next\""
        });
        next.then(|| address.to_owned())
    })
}

/// Names of tags and repositories have no control characters; what has is not shown.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page() {
        for (header, expected) in [
            ("</v2/x/tags/list?n=2&last=b>; rel=\"next\"", Some("/v2/x/tags/list?n=2&last=b")),
            ("<a>; rel=prev, <b>; title=x; rel=next", Some("b")),
            ("<a>; rel=prev", None),
            ("a; rel=next", None),
            ("", None),
        ] {
            assert_eq!(linked(header).as_deref(), expected, "{header}");
        }
    }
}
