//! The upload half of a push: blobs and manifests.
//!
//! A blob that the repository has is not sent (one `HEAD`); one that another repository of the registry has is mounted; else
//! it is sent in one request, and, where that is cut, from where the registry says it is. A registry, or a proxy before it,
//! that finds the request too large (413) gets smaller pieces; one that forgot the upload gets it again from the beginning.
//!
//! Invariant: an upload's `Location` may be anywhere, and gets what lets us in only on the registry's own origin.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};
use tokio_util::bytes::Bytes;

use super::RegistryError;
use super::client::{Client, Source};
use super::exchange::{Access, Call, Payload, checked, is_as_safe, pause};
use crate::model::Digest;
use crate::reference::Reference;

/// A blob up to this size is sent with the request that ends the upload.
const MONOLITHIC: u64 = 1 << 20;
/// The first size of pieces where a whole blob is too large, and the least.
const PIECE: u64 = 32 << 20;
const LEAST_PIECE: u64 = 256 << 10;
/// How often in a row an upload may fail without progress, and how often at all.
const FRUITLESS: u32 = 5;
const FAILURES: u32 = 50;
/// How often an upload may be begun.
const BEGINNINGS: u32 = 4;
const TICK: Duration = Duration::from_millis(100);
const STREAM: &str = "application/octet-stream";

/// A blob on its way out: a file of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// How a blob came to be in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// It was there.
    Existed,
    /// Another repository of the registry had it.
    Mounted(String),
    /// It was sent.
    Uploaded,
}

/// An upload that the registry waits for.
struct Session {
    url: Url,
    offset: u64,
}

impl Client {
    /// Whether a repository has a blob.
    pub async fn has_blob(&self, at: &Source, digest: &Digest) -> Result<bool, RegistryError> {
        let access = Access::push(&at.host, &at.repository);
        self.head_blob(&access, &at.repository, digest).await
    }

    async fn head_blob(
        &self,
        access: &Access<'_>,
        repository: &str,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let url = self.api(access.host, &format!("{repository}/blobs/{digest}"))?;
        match self.persist(access, &Call::new(Method::HEAD, url)).await {
            Ok(_) => Ok(true),
            Err(RegistryError::Status { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The first of some repositories of a registry that has a blob and lets us read it.
    async fn lender<'a>(&self, at: &Source, digest: &Digest, from: &'a [String]) -> Option<&'a String> {
        for repository in from.iter().take(3).filter(|one| **one != at.repository) {
            let access = Access::pull(&at.host, repository);
            match self.head_blob(&access, repository, digest).await {
                Ok(true) => return Some(repository),
                Ok(false) => {}
                // It is only about saving time.
                Err(error) => tracing::info!(%error, repository, "not mounting from there"),
            }
        }
        None
    }

    /// Mounts a blob from one of the repositories `from`; where that cannot be, whether not.
    pub async fn mount(
        &self,
        at: &Source,
        digest: &Digest,
        from: &[String],
    ) -> Result<Option<String>, RegistryError> {
        let Some(lender) = self.lender(at, digest, from).await else { return Ok(None) };
        let access = Access::push(&at.host, &at.repository).and_pull(lender);
        let mut url = self.api(&at.host, &format!("{}/blobs/uploads/", at.repository))?;
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", lender);
        let response = self.persist(&access, &Call::new(Method::POST, url)).await?;
        if response.status() == StatusCode::CREATED {
            named(&at.host, response.headers(), digest, "blob")?;
            return Ok(Some(lender.clone()));
        }
        // The registry began an upload instead; an unused one is forgotten by it after a while, or now.
        if let Ok(url) = self.location(at, &response) {
            let _ = self.request(&access, &self.call(at, Method::DELETE, url)?).await;
        }
        Ok(None)
    }

    /// Puts a blob into a repository. `from` are repositories of the same registry that may have it; `progress` hears
    /// how much was sent.
    pub async fn upload(
        &self,
        at: &Source,
        blob: &Outgoing,
        from: &[String],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Placed, RegistryError> {
        if self.has_blob(at, &blob.digest).await? {
            return Ok(Placed::Existed);
        }
        if let Some(lender) = self.mount(at, &blob.digest, from).await? {
            return Ok(Placed::Mounted(lender));
        }
        for beginning in 1..=BEGINNINGS {
            let session = self.begin(at).await?;
            match self.send_all(at, blob, session, progress).await {
                // Forgotten: 404. Mixed up, after a cut that the registry saw differently: 400 and 416.
                Err(RegistryError::Status { status: 400 | 404 | 416, said, .. })
                    if beginning < BEGINNINGS && !said.contains("digest") =>
                {
                    tracing::info!(digest = %blob.digest, said, "the upload is lost, beginning again");
                    let lost =
                        RegistryError::UploadLost { host: at.host.clone(), digest: blob.digest.clone() };
                    tokio::time::sleep(pause(beginning, &lost)).await;
                }
                Err(RegistryError::Status { status: 404, .. }) => break,
                Err(error) => return Err(error),
                Ok(()) => return Ok(Placed::Uploaded),
            }
        }
        Err(RegistryError::UploadLost { host: at.host.clone(), digest: blob.digest.clone() })
    }

    async fn begin(&self, at: &Source) -> Result<Session, RegistryError> {
        let access = Access::push(&at.host, &at.repository);
        let url = self.api(&at.host, &format!("{}/blobs/uploads/", at.repository))?;
        let response = self.persist(&access, &Call::new(Method::POST, url)).await?;
        Ok(Session { url: self.location(at, &response)?, offset: 0 })
    }

    async fn send_all(
        &self,
        at: &Source,
        blob: &Outgoing,
        mut session: Session,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let (mut piece, mut fruitless, mut failures) = (u64::MAX, 0, 0);
        loop {
            let before = session.offset;
            let outcome = self.send_piece(at, blob, &session, piece, progress).await;
            let error = match outcome {
                Ok(None) => return Ok(()),
                Ok(Some(next)) => {
                    session = next;
                    fruitless = 0;
                    continue;
                }
                Err(error) => error,
            };
            if matches!(error, RegistryError::Status { status: 413, .. }) {
                let smaller = if piece == u64::MAX { PIECE.min(blob.size / 2) } else { piece / 2 };
                if smaller < LEAST_PIECE {
                    return Err(error);
                }
                piece = smaller;
                // What was refused may have been taken in part.
                session = self.begin(at).await?;
                continue;
            }
            failures += 1;
            fruitless += 1;
            if !error.passes() || fruitless >= FRUITLESS || failures >= FAILURES {
                return Err(error);
            }
            tracing::info!(%error, digest = %blob.digest, "continuing the upload");
            tokio::time::sleep(pause(fruitless, &error)).await;
            session = self.status(at, session).await?;
            if session.offset > before {
                fruitless = 0;
            }
        }
    }

    /// Sends the next piece; `None` when that was all and the registry has the blob.
    async fn send_piece(
        &self,
        at: &Source,
        blob: &Outgoing,
        session: &Session,
        piece: u64,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Option<Session>, RegistryError> {
        let (from, to) = (session.offset, blob.size.min(session.offset.saturating_add(piece)));
        let last = from == blob.size || from == 0 && to == blob.size && blob.size <= MONOLITHIC;
        let method = if last { Method::PUT } else { Method::PATCH };
        let mut url = session.url.clone();
        if last {
            url.query_pairs_mut().append_pair("digest", blob.digest.as_str());
        }
        let mut call = self.call(at, method, url)?.with(CONTENT_TYPE, STREAM);
        if !last && (from > 0 || to < blob.size) {
            call = call.with(CONTENT_RANGE, &format!("{from}-{}", to - 1));
        }
        let sent = Arc::new(AtomicU64::new(from));
        if to > from {
            let (sent, throttle) = (Arc::clone(&sent), Arc::clone(&self.outwards));
            call.payload = Payload::File { path: blob.path.clone(), from, to, sent, throttle };
        }
        let access = Access::push(&at.host, &at.repository);
        let mut asking = std::pin::pin!(self.request(&access, &call));
        let response = loop {
            match tokio::time::timeout(TICK, &mut asking).await {
                Ok(outcome) => break outcome?,
                Err(_) => progress(sent.load(Ordering::Relaxed)),
            }
        };
        let response = checked(&at.host, response).await?;
        progress(to);
        if last {
            named(&at.host, response.headers(), &blob.digest, "blob")?;
            return Ok(None);
        }
        let reached = reached(response.headers()).unwrap_or(to);
        Ok(Some(Session { url: self.location(at, &response)?, offset: reached.min(blob.size) }))
    }

    /// Asks how far an upload is.
    async fn status(&self, at: &Source, session: Session) -> Result<Session, RegistryError> {
        let access = Access::push(&at.host, &at.repository);
        let response = self.persist(&access, &self.call(at, Method::GET, session.url.clone())?).await?;
        let offset = reached(response.headers()).unwrap_or(0);
        let url = self.location(at, &response).unwrap_or(session.url);
        Ok(Session { url, offset })
    }

    /// A request to an upload's address, wherever that is.
    fn call(&self, at: &Source, method: Method, url: Url) -> Result<Call, RegistryError> {
        let mut call = Call::new(method, url);
        call.home = self.api(&at.host, "")?;
        Ok(call)
    }

    fn location(&self, at: &Source, response: &Response) -> Result<Url, RegistryError> {
        let home = self.api(&at.host, "")?;
        let header = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let url = header.and_then(|text| response.url().join(text).ok());
        url.filter(|url| is_as_safe(&home, url)).ok_or_else(|| RegistryError::Protocol {
            host: at.host.clone(),
            why: "it does not say where to upload to",
        })
    }

    /// Puts a manifest or index into a repository under a tag, or by its digest alone.
    pub async fn put_manifest(
        &self,
        at: &Source,
        tag: Option<&str>,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let access = Access::push(&at.host, &at.repository);
        let selector = tag.unwrap_or(digest.as_str());
        let url = self.api(&at.host, &format!("{}/manifests/{selector}", at.repository))?;
        let mut call = Call::new(Method::PUT, url).with(CONTENT_TYPE, media_type);
        call.payload = Payload::Bytes(Bytes::copy_from_slice(bytes));
        let response = self.persist(&access, &call).await?;
        named(&at.host, response.headers(), &digest, "manifest")?;
        Ok(digest)
    }

    /// What a refusal means where something was to be pushed.
    pub fn push_denied(&self, error: RegistryError, name: &Reference) -> RegistryError {
        match error {
            RegistryError::Status { status: 401 | 403, said, .. } => RegistryError::PushDenied {
                name: name.familiar_name(),
                host: name.registry().to_owned(),
                said,
                trouble: super::client::locked(&self.trouble).clone(),
            },
            other => other,
        }
    }
}

/// How many bytes the registry has, by its `Range`. `0-0` is what it says of none at all, too.
fn reached(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?;
    let end: u64 = text.trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
    Some(if end == 0 { 0 } else { end.saturating_add(1) })
}

/// The digest that an answer names, if it names one, must be the one that was sent.
fn named(host: &str, headers: &HeaderMap, digest: &Digest, what: &'static str) -> Result<(), RegistryError> {
    let header = headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
    match header.map(str::parse::<Digest>) {
        Some(Ok(actual)) if actual != *digest => {
            Err(RegistryError::WrongDigest { host: host.to_owned(), what, expected: digest.clone(), actual })
        }
        Some(Err(_)) => {
            Err(RegistryError::Protocol { host: host.to_owned(), why: "the digest it names is none" })
        }
        _ => Ok(()),
    }
}
