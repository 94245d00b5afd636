//! The client: requests with tokens, redirects, limits and retries; resolving a name.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio_util::bytes::Bytes;

use super::auth::Pass;
use super::credentials::Keychain;
use super::exchange::{ATTEMPTS, Access, Call, checked, failed, limited, pause};
use super::manifest::{self, Descriptor, Document, LIMITS, Manifest, ManifestError};
use super::throttle::Throttle;
use super::trust::{self, Key};
use super::{RegistryError, image_from, select};
use crate::config::{Config, RegistryConfig};
use crate::model::{Digest, Image, Platform};
use crate::reference::Reference;

const IDLE: Duration = Duration::from_secs(30);
/// A whole manifest, config or token.
const DOCUMENT: Duration = Duration::from_mins(1);
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Speaks to registries. Cheap to make: certificates are loaded when the first HTTPS registry is spoken to.
#[derive(Debug)]
pub struct Client {
    pub(super) registries: std::collections::BTreeMap<String, RegistryConfig>,
    pub(super) transports: Mutex<HashMap<Key, reqwest::Client>>,
    /// By registry and scope; an empty scope is for all.
    pub(super) passes: Mutex<HashMap<(String, String), Pass>>,
    /// Held while a challenge is answered.
    pub(super) admitting: tokio::sync::Mutex<()>,
    pub(super) keychain: Keychain,
    /// Why credentials could not be had, for the message if they turn out to be needed.
    pub(super) trouble: Mutex<Option<String>>,
    pub(super) certificate_folders: Vec<PathBuf>,
    pub(super) idle: Duration,
    /// The caps on downloads and uploads.
    pub(super) inwards: Arc<Throttle>,
    pub(super) outwards: Arc<Throttle>,
}

/// Where an image's blobs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The registry or mirror that had it, `host[:port]`.
    pub host: String,
    /// The repository.
    pub repository: String,
}

/// An image found at a registry, without its layers.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Digest of what the name points to: an index or the manifest.
    pub target: Digest,
    /// The index that it points to, as it came, if it is one.
    pub index: Option<Bytes>,
    /// The platform's manifest, as it came.
    pub manifest: Bytes,
    /// The config, as it came.
    pub config: Bytes,
    /// What both say.
    pub image: Image,
    /// Who had it.
    pub source: Source,
}

/// A blob on its way.
#[derive(Debug)]
pub struct BlobStream {
    /// Where it begins; 0 where the registry ignored the offset that was asked for.
    pub offset: u64,
    host: String,
    left: u64,
    size: u64,
    response: Response,
}

impl BlobStream {
    /// The next bytes; `None` at the end of the body, which may come too early.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let chunk = self.response.chunk().await.map_err(|error| failed(&self.host, error))?;
        let Some(bytes) = chunk else { return Ok(None) };
        let too_large =
            || RegistryError::TooLarge { host: self.host.clone(), what: "a blob", limit: self.size };
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(too_large)?;
        Ok(Some(bytes))
    }
}

impl Client {
    /// A client that follows a configuration.
    pub fn new(config: &Config) -> Self {
        // A second installation is refused, which is just as well: the first one is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            registries: config.registries.clone(),
            transports: Mutex::default(),
            passes: Mutex::default(),
            admitting: tokio::sync::Mutex::default(),
            keychain: Keychain::from_environment(),
            trouble: Mutex::default(),
            certificate_folders: trust::folders(),
            idle: IDLE,
            inwards: Arc::new(Throttle::new(config.pull.bandwidth)),
            outwards: Arc::new(Throttle::new(config.push.bandwidth)),
        }
    }

    /// The same client, which speaks plain HTTP to a registry.
    #[must_use]
    pub fn insecurely(mut self, host: &str) -> Self {
        let registry = self.registries.entry(host.to_owned()).or_default();
        (registry.insecure, registry.tls, registry.skip_verify) = (true, false, false);
        self
    }

    #[cfg(test)]
    pub(super) fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Finds the image that a name points to, for the first of the wanted platforms it has (any, if none is wanted).
    pub async fn resolve(&self, name: &Reference, wanted: &[Platform]) -> Result<Resolved, RegistryError> {
        let mut failures = Vec::new();
        for source in self.mirrors(name) {
            match self.resolve_at(&source, name, wanted).await {
                Ok(resolved) => return Ok(resolved),
                Err(error) => {
                    tracing::info!(mirror = source.host, %error, "mirror does not help");
                    failures.push(format!("{}: {error}", source.host));
                }
            }
        }
        let source = Source { host: name.registry().to_owned(), repository: name.repository().to_owned() };
        self.resolve_at(&source, name, wanted).await.map_err(|error| mirrored(name, &failures, error))
    }

    /// The digest that a name points to now: one `HEAD`.
    pub async fn head(&self, name: &Reference) -> Result<Digest, RegistryError> {
        let own = Source { host: name.registry().to_owned(), repository: name.repository().to_owned() };
        let mut failures = Vec::new();
        for source in self.mirrors(name) {
            match self.head_at(&source, name).await {
                Ok(digest) => return Ok(digest),
                Err(error) => failures.push(format!("{}: {error}", source.host)),
            }
        }
        self.head_at(&own, name).await.map_err(|error| mirrored(name, &failures, error))
    }

    async fn head_at(&self, source: &Source, name: &Reference) -> Result<Digest, RegistryError> {
        let path = format!("manifests/{}", name.selector());
        let access = Access::pull(&source.host, &source.repository);
        let url = self.api(&source.host, &format!("{}/{path}", source.repository))?;
        let call = Call::new(Method::HEAD, url).with(ACCEPT, ACCEPTED);
        let response = self.persist(&access, &call).await.map_err(|error| self.absent(error, name))?;
        let header = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        header.and_then(|text| text.parse().ok()).ok_or_else(|| RegistryError::Protocol {
            host: source.host.clone(),
            why: "it names no digest of the manifest",
        })
    }

    /// A blob from `offset` on; the registry may choose to begin at 0 all the same. One attempt: see
    /// [`download`](Self::download) for all of it.
    pub async fn blob(
        &self,
        source: &Source,
        digest: &Digest,
        size: u64,
        offset: u64,
    ) -> Result<BlobStream, RegistryError> {
        let host = source.host.clone();
        let access = Access::pull(&source.host, &source.repository);
        let response = self.get(&access, Method::GET, &format!("blobs/{digest}"), offset).await?;
        let response = match response.status() {
            StatusCode::NOT_FOUND => {
                return Err(RegistryError::BlobNotFound { host, digest: digest.clone() });
            }
            _ => checked(&host, response).await?,
        };
        let begin = if response.status() == StatusCode::PARTIAL_CONTENT {
            let header = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            let begin = header.and_then(|text| text.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
            if begin != Some(offset) {
                return Err(RegistryError::Protocol {
                    host,
                    why: "it sends another range than was asked for",
                });
            }
            offset
        } else {
            0
        };
        let left = size.saturating_sub(begin);
        if response.content_length().is_some_and(|length| length > left) {
            return Err(RegistryError::TooLarge { host, what: "a blob", limit: size });
        }
        Ok(BlobStream { offset: begin, host, left, size, response })
    }

    fn mirrors<'a>(&'a self, name: &'a Reference) -> impl Iterator<Item = Source> + 'a {
        let mirrors = self.registries.get(name.registry()).map(|registry| registry.mirrors.as_slice());
        let source = |host: &String| Source { host: host.clone(), repository: name.repository().to_owned() };
        mirrors.unwrap_or_default().iter().map(source)
    }

    async fn resolve_at(
        &self,
        source: &Source,
        name: &Reference,
        wanted: &[Platform],
    ) -> Result<Resolved, RegistryError> {
        let bad = |error| RegistryError::Manifest { name: name.to_string(), source: error };
        let (bytes, document) = self.manifest(source, name, name.selector(), name.digest()).await?;
        let whole = bytes.clone();
        let mut seen = HashSet::from([Digest::of(&bytes)]);
        let mut available = Vec::new();
        let (mut level, mut depth) = match document {
            Document::Manifest(manifest) => {
                let resolved = self.complete(source, name, None, bytes, manifest).await?;
                let fits = wanted.is_empty()
                    || wanted.iter().any(|w| select::distance(w, &resolved.image.platform).is_some());
                if fits {
                    return Ok(resolved);
                }
                available.push(resolved.image.platform);
                (Vec::new(), LIMITS.nesting)
            }
            Document::Index(entries) => (entries, 0),
        };
        loop {
            if let Some(entry) = select(&level, wanted).first() {
                let (bytes, document) =
                    self.manifest(source, name, entry.digest.as_str(), Some(&entry.digest)).await?;
                let Document::Manifest(manifest) = document else {
                    return Err(bad(ManifestError::Ambiguous {
                        why: "an index is listed as a manifest".into(),
                    }));
                };
                return self.complete(source, name, Some(whole), bytes, manifest).await;
            }
            available.extend(level.iter().filter_map(Descriptor::platform).filter(|p| p.os != "unknown"));
            // Only where no manifest fits are indexes within the index looked into; each once, so that no loop is possible.
            let nested: Vec<Descriptor> = level
                .iter()
                .filter(|e| select::is_index(e) && seen.insert(e.digest.clone()))
                .cloned()
                .collect();
            if nested.is_empty() || depth == LIMITS.nesting {
                let name = name.to_string();
                return Err(RegistryError::Platform { name, wanted: wanted.to_vec(), available });
            }
            depth += 1;
            level.clear();
            for entry in nested.iter().take(16) {
                let (_, document) =
                    self.manifest(source, name, entry.digest.as_str(), Some(&entry.digest)).await?;
                match document {
                    Document::Index(entries) => level.extend(entries),
                    Document::Manifest(_) => {
                        return Err(bad(ManifestError::Ambiguous {
                            why: "a manifest is listed as an index".into(),
                        }));
                    }
                }
            }
        }
    }

    async fn manifest(
        &self,
        source: &Source,
        name: &Reference,
        selector: &str,
        expected: Option<&Digest>,
    ) -> Result<(Bytes, Document), RegistryError> {
        let path = format!("manifests/{selector}");
        let (headers, bytes) = self
            .body(source, &path, LIMITS.manifest, "a manifest")
            .await
            .map_err(|error| self.absent(error, name))?;
        verified(&source.host, "manifest", &bytes, expected)?;
        let header = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let document = manifest::document(&bytes, header)
            .map_err(|error| RegistryError::Manifest { name: name.to_string(), source: error })?;
        Ok((bytes, document))
    }

    async fn complete(
        &self,
        source: &Source,
        name: &Reference,
        index: Option<Bytes>,
        bytes: Bytes,
        manifest: Manifest,
    ) -> Result<Resolved, RegistryError> {
        let path = format!("blobs/{}", manifest.config.digest);
        let (_, config) = self.body(source, &path, manifest.config.size, "a config").await?;
        verified(&source.host, "config", &config, Some(&manifest.config.digest))?;
        let target = Digest::of(index.as_ref().unwrap_or(&bytes));
        let image = image_from(&bytes, &config, &target)
            .map_err(|error| RegistryError::Manifest { name: name.to_string(), source: error })?;
        Ok(Resolved { target, index, manifest: bytes, config, image, source: source.clone() })
    }

    /// A small document, whole, with retries.
    pub(super) async fn body(
        &self,
        source: &Source,
        path: &str,
        limit: u64,
        what: &'static str,
    ) -> Result<(HeaderMap, Bytes), RegistryError> {
        let access = Access::pull(&source.host, &source.repository);
        let mut attempt = 0;
        loop {
            let once = async {
                let response = self.get(&access, Method::GET, path, 0).await?;
                let response = checked(&source.host, response).await?;
                let headers = response.headers().clone();
                Ok((headers, limited(&source.host, response, limit, what).await?))
            };
            let result = tokio::time::timeout(DOCUMENT, once).await.unwrap_or(Err(RegistryError::Protocol {
                host: source.host.clone(),
                why: "a document takes longer than a minute",
            }));
            attempt += 1;
            match result {
                Err(error) if attempt < ATTEMPTS && error.passes() => {
                    tracing::info!(%error, attempt, "asking again");
                    tokio::time::sleep(pause(attempt, &error)).await;
                }
                result => return result,
            }
        }
    }

    /// Asks for something of a repository.
    async fn get(
        &self,
        access: &Access<'_>,
        method: Method,
        path: &str,
        offset: u64,
    ) -> Result<Response, RegistryError> {
        let url = self.api(access.host, &format!("{}/{path}", access.repository))?;
        let mut call = Call::new(method, url).with(ACCEPT, ACCEPTED);
        if offset > 0 {
            call = call.with(RANGE, &format!("bytes={offset}-"));
        }
        self.request(access, &call).await
    }

    /// What "no" means when it is a name that was asked for.
    pub(super) fn absent(&self, error: RegistryError, name: &Reference) -> RegistryError {
        match error {
            RegistryError::Status { status: 404, .. } => RegistryError::NotFound { name: name.to_string() },
            RegistryError::Status { status: 401 | 403, .. } => RegistryError::Denied {
                name: name.familiar_name(),
                host: name.registry().to_owned(),
                trouble: locked(&self.trouble).clone(),
            },
            error => error,
        }
    }
}

/// A poisoned lock only says that another thread panicked; these maps are whole at any time.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn mirrored(name: &Reference, failures: &[String], error: RegistryError) -> RegistryError {
    if failures.is_empty() {
        return error;
    }
    RegistryError::Mirrors { name: name.to_string(), mirrors: failures.join("; "), source: Box::new(error) }
}

pub(super) fn verified(
    host: &str,
    what: &'static str,
    bytes: &[u8],
    expected: Option<&Digest>,
) -> Result<(), RegistryError> {
    let actual = Digest::of(bytes);
    match expected {
        Some(expected) if *expected != actual => Err(RegistryError::WrongDigest {
            host: host.to_owned(),
            what,
            expected: expected.clone(),
            actual,
        }),
        _ => Ok(()),
    }
}
