//! One exchange with a registry: addresses, redirects, limits, retries, and what a failure means.
//!
//! Redirects are followed here and not by the HTTP library: what lets us in at a registry is only ever sent to its own
//! origin, whether a redirect or an upload's `Location` leads elsewhere; HTTPS never leads to plain HTTP; and a registry
//! out there cannot make this machine speak to its own loopback device or to link-local addresses (metadata services).

use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use tokio_util::bytes::Bytes;

use super::RegistryError;
use super::auth::{challenged, denies_for_good};
use super::client::Client;
use super::throttle::Throttle;
use crate::reference::DEFAULT_REGISTRY;

const REDIRECTS: usize = 5;
/// How often a request that is refused fetches another token.
const RENEWALS: u32 = 6;
/// How often a small request is made, all in all.
pub(super) const ATTEMPTS: u32 = 4;
/// Seconds that a registry may make us wait with `Retry-After` before it is told to the user instead.
pub(super) const PATIENCE: u64 = 30;
/// Bytes of an answer that tells what is wrong.
const COMPLAINT: u64 = 16 << 10;
/// Bytes that are read of a file at once.
const BLOCK: u64 = 128 << 10;

/// What a request carries. It can be sent again.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    None,
    Bytes(Bytes),
    /// Bytes `from` to `to` of a file. `sent` counts what was handed over.
    File {
        path: PathBuf,
        from: u64,
        to: u64,
        sent: Arc<AtomicU64>,
        throttle: Arc<Throttle>,
    },
}

/// A request, without what lets it in.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) payload: Payload,
    /// The origin that may get `Authorization`: the registry's own.
    pub(super) home: Url,
}

impl Call {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, home: url.clone(), url, headers: Vec::new(), payload: Payload::None }
    }

    /// With a header more; one that is no text of a header is left out.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }
}

/// Who is asked for what: a registry, one of its repositories, and the rights that a token must have.
#[derive(Debug, Clone)]
pub(super) struct Access<'a> {
    pub(super) host: &'a str,
    pub(super) repository: &'a str,
    pub(super) scope: String,
}

impl<'a> Access<'a> {
    pub(super) fn pull(host: &'a str, repository: &'a str) -> Self {
        Self { host, repository, scope: format!("repository:{repository}:pull") }
    }

    pub(super) fn push(host: &'a str, repository: &'a str) -> Self {
        Self { host, repository, scope: format!("repository:{repository}:pull,push") }
    }

    /// The same, and pulling from another repository.
    pub(super) fn and_pull(mut self, other: &str) -> Self {
        self.scope = format!("{} repository:{other}:pull", self.scope);
        self
    }
}

impl Client {
    /// The address of something below a registry's `/v2/`.
    pub(super) fn api(&self, host: &str, path: &str) -> Result<Url, RegistryError> {
        let api = if host == DEFAULT_REGISTRY { "registry-1.docker.io" } else { host };
        Url::parse(&format!("{}://{api}/v2/{path}", self.scheme(host)))
            .map_err(|_| RegistryError::Protocol { host: host.to_owned(), why: "its address is no URL" })
    }

    fn scheme(&self, host: &str) -> &'static str {
        let registry = self.registries.get(host);
        let secure = registry.is_some_and(|r| r.tls || r.skip_verify);
        let plain = registry.is_some_and(|r| r.insecure) || (is_loopback(host) && !secure);
        if plain { "http" } else { "https" }
    }

    /// One request; if the registry demands it, again with what lets us in. A token that is good for few requests may be used
    /// up by others before this one gets its turn: then it is asked for once more, unless the registry says that another
    /// token of this kind would not do (RFC 6750, 3.1).
    pub(super) async fn request(&self, access: &Access<'_>, call: &Call) -> Result<Response, RegistryError> {
        let mut call = call.clone();
        let bare = call.headers.len();
        let mut pass = self.pass(access.host, &access.scope);
        let mut attempt = 0;
        loop {
            call.headers.truncate(bare);
            call.headers
                .extend(pass.as_ref().and_then(super::auth::Pass::value).map(|it| (AUTHORIZATION, it)));
            let response = self.follow(access.host, &call).await?;
            if response.status() != StatusCode::UNAUTHORIZED
                || attempt == RENEWALS
                || (attempt > 0 && denies_for_good(response.headers()))
            {
                return Ok(response);
            }
            let Some(challenge) = challenged(response.headers()) else { return Ok(response) };
            let admitted = self.admit(
                access.host,
                &access.scope,
                access.repository,
                challenge,
                &call.home,
                pass.as_ref(),
            );
            match admitted.await? {
                Some(fresh) => pass = Some(fresh),
                None => return Ok(response),
            }
            attempt += 1;
        }
    }

    /// The same again while what goes wrong passes.
    pub(super) async fn persist(&self, access: &Access<'_>, call: &Call) -> Result<Response, RegistryError> {
        let mut attempt = 0;
        loop {
            let outcome = match self.request(access, call).await {
                Ok(response) => checked(access.host, response).await,
                Err(error) => Err(error),
            };
            attempt += 1;
            match outcome {
                Err(error) if attempt < ATTEMPTS && error.passes() => {
                    tracing::info!(%error, attempt, "asking again");
                    tokio::time::sleep(pause(attempt, &error)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Follows redirects; what lets us in goes to the registry's own origin only.
    pub(super) async fn follow(&self, host: &str, call: &Call) -> Result<Response, RegistryError> {
        let protocol = |why| RegistryError::Protocol { host: host.to_owned(), why };
        let home = call.home.origin();
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS {
            if is_private(&url)
                && !call.home.host_str().is_some_and(|home| is_loopback(home) || is_link_local(home))
            {
                return Err(protocol("it leads to this machine's own addresses"));
            }
            let response = self.send(host, call, &url, url.origin() == home).await?;
            let status = response.status().as_u16();
            // What changes something is sent again only where the server asks for the very same request.
            let follows = if matches!(call.method, Method::GET | Method::HEAD) {
                matches!(status, 301 | 302 | 303 | 307 | 308)
            } else {
                matches!(status, 307 | 308)
            };
            if !follows {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location
                .and_then(|text| url.join(text).ok())
                .ok_or_else(|| protocol("a redirect to nowhere"))?;
            if !is_as_safe(&url, &next) {
                return Err(protocol("it redirects from HTTPS to something less"));
            }
            url = next;
        }
        Err(protocol("it redirects in circles"))
    }

    async fn send(
        &self,
        host: &str,
        call: &Call,
        url: &Url,
        at_home: bool,
    ) -> Result<Response, RegistryError> {
        let streams = matches!(call.payload, Payload::File { .. });
        let mut request =
            self.transport(host, url, at_home, streams)?.request(call.method.clone(), url.clone());
        for (name, value) in &call.headers {
            if at_home || *name != AUTHORIZATION {
                request = request.header(name, value);
            }
        }
        request = match &call.payload {
            Payload::None if matches!(call.method, Method::POST | Method::PUT | Method::PATCH) => {
                request.header(CONTENT_LENGTH, 0)
            }
            Payload::None => request,
            Payload::Bytes(bytes) => request.body(bytes.clone()),
            Payload::File { path, from, to, sent, throttle } => {
                sent.store(*from, Ordering::Relaxed);
                request.header(CONTENT_LENGTH, to - from).body(body(path, *from, *to, sent, throttle))
            }
        };
        if !streams {
            return request.send().await.map_err(|error| failed(host, error));
        }
        let Payload::File { to, sent, .. } = &call.payload else {
            return request.send().await.map_err(|error| failed(host, error));
        };
        watched(host, request, sent, *to, self.idle).await
    }
}

/// The HTTP library's timeout for answers would run while a body is being sent: here only standing still counts, and the
/// time that the registry takes to put away what it has got.
async fn watched(
    host: &str,
    request: reqwest::RequestBuilder,
    sent: &AtomicU64,
    to: u64,
    idle: Duration,
) -> Result<Response, RegistryError> {
    let mut sending = std::pin::pin!(request.send());
    let mut before = sent.load(Ordering::Relaxed);
    loop {
        let limit = if before >= to { idle * 10 } else { idle };
        if let Ok(outcome) = tokio::time::timeout(limit, &mut sending).await {
            return outcome.map_err(|error| failed(host, error));
        }
        let now = sent.load(Ordering::Relaxed);
        if now == before {
            return Err(RegistryError::Stalled { host: host.to_owned() });
        }
        before = now;
    }
}

/// A part of a file as a request's body. Reading waits for the disk, as writing does in a download.
fn body(path: &Path, from: u64, to: u64, sent: &Arc<AtomicU64>, throttle: &Arc<Throttle>) -> reqwest::Body {
    let state = (path.to_owned(), None, from, Arc::clone(sent), Arc::clone(throttle));
    let stream =
        futures_util::stream::try_unfold(state, move |(path, file, at, sent, throttle)| async move {
            if at >= to {
                return Ok::<_, io::Error>(None);
            }
            let mut file = if let Some(file) = file {
                file
            } else {
                let mut file = File::open(&path)?;
                file.seek(SeekFrom::Start(at))?;
                file
            };
            let mut block = vec![0; usize::try_from(BLOCK.min(to - at)).unwrap_or_default()];
            file.read_exact(&mut block)?;
            throttle.take(block.len()).await;
            let at = at + block.len() as u64;
            sent.store(at, Ordering::Relaxed);
            Ok(Some((Bytes::from(block), (path, Some(file), at, sent, throttle))))
        });
    reqwest::Body::wrap_stream(stream)
}

/// Whether going from one address to another gives no safety away.
pub(super) fn is_as_safe(from: &Url, to: &Url) -> bool {
    to.scheme() == "https" || to.scheme() == "http" && from.scheme() == "http"
}

fn bare(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None if host.matches(':').count() > 1 => host,
        None => host.split(':').next().unwrap_or_default(),
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    let bare = bare(host);
    bare == "localhost"
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn is_link_local(host: &str) -> bool {
    bare(host).parse::<std::net::IpAddr>().is_ok_and(|address| match address.to_canonical() {
        std::net::IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
    })
}

pub(super) fn is_private(url: &Url) -> bool {
    url.host_str().is_some_and(|host| is_loopback(host) || is_link_local(host))
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

/// The answer if it is a good one; otherwise what the registry has to say.
pub(super) async fn checked(host: &str, response: Response) -> Result<Response, RegistryError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|text| seconds(text, jiff::Timestamp::now()));
    let host = host.to_owned();
    let busy = status == StatusCode::SERVICE_UNAVAILABLE && retry_after.is_some();
    if status == StatusCode::TOO_MANY_REQUESTS || busy {
        return Err(RegistryError::RateLimited { host, retry_after });
    }
    let status = status.as_u16();
    let said = limited(&host, response, COMPLAINT, "an error").await;
    let said = said.map(|bytes| complaint(&bytes)).unwrap_or_default();
    Err(RegistryError::Status { host, status, said })
}

/// Seconds of a `Retry-After`, which may be a date.
fn seconds(text: &str, now: jiff::Timestamp) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(seconds);
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text.trim().replace("GMT", "+0000"))
        .ok()?;
    Some(u64::try_from(date.as_second() - now.as_second()).unwrap_or(0))
}

/// The messages of an error document (distribution spec, "Error Codes"), made harmless; empty for anything else.
fn complaint(bytes: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let errors = value.get("errors").and_then(serde_json::Value::as_array);
    let mut all = Vec::new();
    for error in errors.into_iter().flatten().take(3) {
        let text = |key: &str| error.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let code = text("code").to_lowercase().replace('_', " ");
        let parts: Vec<&str> =
            [code.as_str(), text("message")].into_iter().filter(|part| !part.is_empty()).collect();
        all.push(parts.join(": "));
    }
    all.join("; ").chars().filter(|c| !c.is_control()).take(200).collect()
}

pub(super) async fn limited(
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

/// Sorts a failure of the HTTP library by what a user can do about it.
pub(super) fn failed(host: &str, error: reqwest::Error) -> RegistryError {
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

/// Whether TLS is at the bottom of it. What an I/O error carries is no source of it, and may be an I/O error again.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    carried.is_some_and(|inner| is_tls(inner)) || error.source().is_some_and(is_tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: jiff::Timestamp = "2026-11-26T10:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("12", Some(12)),
            ("Thu, 26 Nov 2026 10:00:30 GMT", Some(30)),
            ("Thu, 26 Nov 2026 09:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(seconds(text, now), expected, "{text}");
        }
    }

    #[test]
    fn complaints_are_harmless() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"not \u001b[31mthere"}]}"#,
                "blob unknown: not [31mthere",
            ),
            (r#"{"errors":[{"code":"DENIED"},{"message":"x"}]}"#, "denied; x"),
            ("<html>", ""),
            ("[]", ""),
        ] {
            assert_eq!(complaint(body.as_bytes()), expected);
        }
    }

    #[test]
    fn own_addresses_are_recognised() {
        for (host, loopback, link) in [
            ("localhost:5000", true, false),
            ("127.8.0.1", true, false),
            ("[::1]:5000", true, false),
            ("::1", true, false),
            ("[::ffff:127.0.0.1]", true, false),
            ("169.254.169.254", false, true),
            ("0.0.0.0", false, true),
            ("[fe80::1]:80", false, true),
            ("10.0.0.1:5000", false, false),
            ("localhost.example", false, false),
        ] {
            assert_eq!((is_loopback(host), is_link_local(host)), (loopback, link), "{host}");
        }
    }
}
