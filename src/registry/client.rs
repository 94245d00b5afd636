//! The client: requests with tokens, redirects, limits and retries; resolving a name.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::sync::Mutex;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use tokio_util::bytes::Bytes;

use super::manifest::{self, Descriptor, Document, LIMITS, Manifest, ManifestError};
use super::{RegistryError, auth, image_from, select};
use crate::config::{Config, RegistryConfig};
use crate::model::{Digest, Image, Platform};
use crate::reference::{DEFAULT_REGISTRY, Reference};

const CONNECT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);
/// A whole manifest, config or token.
const DOCUMENT: Duration = Duration::from_mins(1);
const REDIRECTS: usize = 5;
const ATTEMPTS: u32 = 4;
const TOKEN_MAX: u64 = 256 << 10;
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Speaks to registries. Cheap to make: certificates are loaded when the first HTTPS registry is spoken to.
#[derive(Debug)]
pub struct Client {
    registries: std::collections::BTreeMap<String, RegistryConfig>,
    /// By registry and whether it is loopback: what it trusts and which proxy applies.
    transports: Mutex<HashMap<(String, bool), reqwest::Client>>,
    /// By registry and repository.
    tokens: Mutex<HashMap<(String, String), String>>,
    idle: Duration,
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
            tokens: Mutex::default(),
            idle: IDLE,
        }
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
        let response = self.request(source, Method::HEAD, &path, 0).await;
        let response =
            response.and_then(|r| checked(&source.host, r)).map_err(|error| absent(error, name))?;
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
        let response = self.request(source, Method::GET, &format!("blobs/{digest}"), offset).await?;
        let response = match response.status() {
            StatusCode::NOT_FOUND => {
                return Err(RegistryError::BlobNotFound { host, digest: digest.clone() });
            }
            _ => checked(&host, response)?,
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
        let target = Digest::of(&bytes);
        let mut seen = HashSet::from([target.clone()]);
        let mut available = Vec::new();
        let (mut level, mut depth) = match document {
            Document::Manifest(manifest) => {
                let resolved = self.complete(source, name, &target, bytes, manifest).await?;
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
                return self.complete(source, name, &target, bytes, manifest).await;
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
            .map_err(|error| absent(error, name))?;
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
        target: &Digest,
        bytes: Bytes,
        manifest: Manifest,
    ) -> Result<Resolved, RegistryError> {
        let path = format!("blobs/{}", manifest.config.digest);
        let (_, config) = self.body(source, &path, manifest.config.size, "a config").await?;
        verified(&source.host, "config", &config, Some(&manifest.config.digest))?;
        let image = image_from(&bytes, &config, target)
            .map_err(|error| RegistryError::Manifest { name: name.to_string(), source: error })?;
        Ok(Resolved { target: target.clone(), manifest: bytes, config, image, source: source.clone() })
    }

    /// A small document, whole, with retries.
    async fn body(
        &self,
        source: &Source,
        path: &str,
        limit: u64,
        what: &'static str,
    ) -> Result<(HeaderMap, Bytes), RegistryError> {
        let mut attempt = 0;
        loop {
            let once = async {
                let response = checked(&source.host, self.request(source, Method::GET, path, 0).await?)?;
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

    /// One request, with a token if the registry demands one.
    async fn request(
        &self,
        source: &Source,
        method: Method,
        path: &str,
        offset: u64,
    ) -> Result<Response, RegistryError> {
        let host = &source.host;
        let api = if host == DEFAULT_REGISTRY { "registry-1.docker.io" } else { host };
        let text = format!("{}://{api}/v2/{}/{path}", self.scheme(host), source.repository);
        let url = Url::parse(&text)
            .map_err(|_| RegistryError::Protocol { host: host.clone(), why: "its address is no URL" })?;
        let key = (host.clone(), source.repository.clone());
        let token = locked(&self.tokens).get(&key).cloned();
        let response = self.follow(host, &method, url.clone(), offset, token.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let header = response.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let Some(challenge) = header.and_then(auth::challenge) else { return Ok(response) };
        let token = self.token(source, &challenge, &url).await?;
        locked(&self.tokens).insert(key, token.clone());
        self.follow(host, &method, url, offset, Some(&token)).await
    }

    /// Follows redirects; the token goes to the registry's own origin only.
    async fn follow(
        &self,
        host: &str,
        method: &Method,
        mut url: Url,
        offset: u64,
        token: Option<&str>,
    ) -> Result<Response, RegistryError> {
        let protocol = |why| RegistryError::Protocol { host: host.to_owned(), why };
        let origin = url.origin();
        for _ in 0..=REDIRECTS {
            let mut request =
                self.transport(host, &url)?.request(method.clone(), url.clone()).header(ACCEPT, ACCEPTED);
            if let Some(token) = token.filter(|_| url.origin() == origin) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            let response = request.send().await.map_err(|error| failed(host, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location
                .and_then(|text| url.join(text).ok())
                .ok_or_else(|| protocol("a redirect to nowhere"))?;
            let downgrade = url.scheme() == "https" && next.scheme() != "https";
            if downgrade || !matches!(next.scheme(), "http" | "https") {
                return Err(protocol("it redirects from HTTPS to something less"));
            }
            url = next;
        }
        Err(protocol("it redirects in circles"))
    }

    /// An anonymous token for pulling.
    async fn token(
        &self,
        source: &Source,
        challenge: &auth::Challenge,
        registry: &Url,
    ) -> Result<String, RegistryError> {
        let protocol = |why| RegistryError::Protocol { host: source.host.clone(), why };
        let mut realm = Url::parse(&challenge.realm).map_err(|_| protocol("its token service is no URL"))?;
        if realm.scheme() != "https" && (realm.scheme() != "http" || registry.scheme() == "https") {
            return Err(protocol("its token service is not spoken to in HTTPS"));
        }
        if let Some(service) = &challenge.service {
            realm.query_pairs_mut().append_pair("service", service);
        }
        realm.query_pairs_mut().append_pair("scope", &format!("repository:{}:pull", source.repository));
        let response = self.follow(&source.host, &Method::GET, realm, 0, None).await?;
        let bytes = limited(&source.host, checked(&source.host, response)?, TOKEN_MAX, "a token").await?;
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|_| protocol("its token is no JSON"))?;
        let token =
            value.get("token").or_else(|| value.get("access_token")).and_then(serde_json::Value::as_str);
        let token = token.filter(|token| token.bytes().all(|b| b.is_ascii_graphic()));
        token.map(str::to_owned).ok_or_else(|| protocol("its token service gives no token"))
    }

    fn scheme(&self, host: &str) -> &'static str {
        let registry = self.registries.get(host);
        let plain =
            registry.is_some_and(|r| r.insecure) || (is_loopback(host) && !registry.is_some_and(|r| r.tls));
        if plain { "http" } else { "https" }
    }

    /// The HTTP client for one hop of an exchange with registry `host`.
    fn transport(&self, host: &str, url: &Url) -> Result<reqwest::Client, RegistryError> {
        let loopback = url.host_str().is_some_and(is_loopback);
        let plain = url.scheme() == "http";
        let key = (if plain { String::new() } else { host.to_owned() }, loopback);
        if let Some(found) = locked(&self.transports).get(&key) {
            return Ok(found.clone());
        }
        let setup = |source| RegistryError::Setup { host: host.to_owned(), source };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("umiak/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(self.idle);
        if loopback {
            builder = builder.no_proxy();
        }
        if plain {
            // Without this the system's certificates would be loaded, which costs milliseconds and fails where there are none.
            builder = builder.tls_certs_only([]);
        } else if let Some(path) = self.registries.get(host).and_then(|registry| registry.ca_file.as_ref()) {
            let pem =
                std::fs::read(path).map_err(|source| RegistryError::CaFile { path: path.clone(), source })?;
            builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&pem).map_err(setup)?);
        }
        let client = builder.build().map_err(setup)?;
        locked(&self.transports).insert(key, client.clone());
        Ok(client)
    }
}

/// A poisoned lock only says that another thread panicked; these maps are whole at any time.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Waiting before attempt `attempt + 1`: half a second, doubled each time, up to as much again by chance; or what the
/// registry asks for.
pub(super) fn pause(attempt: u32, error: &RegistryError) -> Duration {
    if let RegistryError::RateLimited { retry_after: Some(seconds), .. } = error {
        return Duration::from_secs(*seconds);
    }
    let base = 250_u64 << attempt.min(5);
    // The seed of a hash map is chance enough for this, and needs no crate.
    let chance = std::hash::RandomState::new().build_hasher().finish();
    Duration::from_millis(base + chance % base)
}

fn mirrored(name: &Reference, failures: &[String], error: RegistryError) -> RegistryError {
    if failures.is_empty() {
        return error;
    }
    RegistryError::Mirrors { name: name.to_string(), mirrors: failures.join("; "), source: Box::new(error) }
}

/// What "no" means when it is a name that was asked for.
fn absent(error: RegistryError, name: &Reference) -> RegistryError {
    match error {
        RegistryError::Status { status: 404, .. } => RegistryError::NotFound { name: name.to_string() },
        RegistryError::Status { status: 401 | 403, .. } => {
            RegistryError::Denied { name: name.familiar_name() }
        }
        error => error,
    }
}

fn checked(host: &str, response: Response) -> Result<Response, RegistryError> {
    let (host, status) = (host.to_owned(), response.status());
    if status == StatusCode::TOO_MANY_REQUESTS {
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        return Err(RegistryError::RateLimited {
            host,
            retry_after: header.and_then(|text| text.parse().ok()),
        });
    }
    if status.is_success() {
        Ok(response)
    } else {
        Err(RegistryError::Status { host, status: status.as_u16() })
    }
}

async fn limited(
    host: &str,
    mut response: Response,
    limit: u64,
    what: &'static str,
) -> Result<Bytes, RegistryError> {
    let too_large = || RegistryError::TooLarge { host: host.to_owned(), what, limit };
    let mut all = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(host, error))? {
        all.extend_from_slice(&chunk);
        if all.len() as u64 > limit {
            return Err(too_large());
        }
    }
    Ok(all.into())
}

fn verified(
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

/// Sorts a failure of the HTTP library by what a user can do about it.
fn failed(host: &str, error: reqwest::Error) -> RegistryError {
    let (host, source) = (host.to_owned(), error.without_url());
    if is_tls(&source) {
        RegistryError::Tls { host, source }
    } else if source.is_connect() {
        RegistryError::Unreachable { host, source }
    } else if source.is_timeout() {
        RegistryError::TimedOut { host, source }
    } else {
        RegistryError::Cut { host, source }
    }
}

fn is_tls(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>()
            || inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
        {
            return true;
        }
        next = error.source();
    }
    false
}
