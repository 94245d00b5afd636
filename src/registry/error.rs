//! What goes wrong with a registry, and what a user could do.

use std::path::PathBuf;

use super::ManifestError;
use super::exchange::PATIENCE;
use crate::model::{Digest, ErrorKind, Kind, Platform};

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The repository is unknown or private: registries do not say which.
    #[error("pull access denied for {name}, repository does not exist or may require 'docker login'")]
    Denied {
        /// The repository, in familiar form.
        name: String,
        /// Its registry.
        host: String,
        /// Why credentials could not be had.
        trouble: Option<String>,
    },
    /// The registry wants to know who pushes, or does not let them.
    #[error("denied: requested access to the resource is denied: pushing to {name}{}", told(said))]
    PushDenied {
        /// The repository, in familiar form.
        name: String,
        /// Its registry.
        host: String,
        /// The registry's own words.
        said: String,
        /// Why credentials could not be had.
        trouble: Option<String>,
    },
    /// The credentials are not those of anybody there.
    #[error("login attempt to {host} failed: unauthorized: incorrect username or password")]
    LoginRefused {
        /// The registry.
        host: String,
    },
    /// The registry knows no such repository.
    #[error("repository {name} not found: name unknown")]
    NoRepository {
        /// The repository, in familiar form.
        name: String,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {name} not found: manifest unknown")]
    NotFound {
        /// The image, in familiar form.
        name: String,
    },
    /// The registry has the image but not this blob of it.
    #[error("{host} does not have blob {digest}")]
    BlobNotFound {
        /// The registry.
        host: String,
        /// The blob.
        digest: Digest,
    },
    /// No connection.
    #[error("cannot connect to registry {host}")]
    Unreachable {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No secure connection.
    #[error("no trusted TLS connection to registry {host}")]
    Tls {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It said nothing for too long.
    #[error("registry {host} is too slow: no answer in time")]
    TimedOut {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or what came was no HTTP.
    #[error("the connection to registry {host} was cut")]
    Cut {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It refuses because of too many requests.
    #[error("registry {host} limits the rate of requests")]
    RateLimited {
        /// The registry.
        host: String,
        /// Seconds after which it takes requests again, if it says so.
        retry_after: Option<u64>,
    },
    /// It answers with an error.
    #[error("registry {host} answers with HTTP status {status}{}", told(said))]
    Status {
        /// The registry.
        host: String,
        /// The status.
        status: u16,
        /// What it says is wrong.
        said: String,
    },
    /// It takes nothing more of an upload.
    #[error("registry {host} is too slow: it takes no more bytes")]
    Stalled {
        /// The registry.
        host: String,
    },
    /// It loses what was uploaded, again and again.
    #[error("registry {host} loses uploads of blob {digest}")]
    UploadLost {
        /// The registry.
        host: String,
        /// The blob.
        digest: Digest,
    },
    /// Its answer is not what the protocol asks for.
    #[error("registry {host} breaks the protocol: {why}")]
    Protocol {
        /// The registry.
        host: String,
        /// How.
        why: &'static str,
    },
    /// A body of more bytes than its limit or its announced size.
    #[error("registry {host} sends more than {limit} bytes of {what}")]
    TooLarge {
        /// The registry.
        host: String,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A body of fewer bytes than announced, again and again.
    #[error("registry {host} sends only {actual} of {expected} bytes of blob {digest}")]
    Short {
        /// The registry.
        host: String,
        /// The blob.
        digest: Digest,
        /// Its size.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// Content that is not what its digest says.
    #[error("the {what} from {host} has digest {actual} instead of {expected}")]
    WrongDigest {
        /// The registry.
        host: String,
        /// Manifest or config.
        what: &'static str,
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The image is for other platforms.
    #[error("{name} is not available for {}: it has {}", list(wanted), list(available))]
    Platform {
        /// The image, in familiar form.
        name: String,
        /// What was wanted.
        wanted: Vec<Platform>,
        /// What it is available for.
        available: Vec<Platform>,
    },
    /// The manifest or config cannot be used.
    #[error("image {name} cannot be used")]
    Manifest {
        /// The image, in familiar form.
        name: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// No mirror had it, and the registry itself failed as well.
    #[error("no mirror has {name} ({mirrors}), nor can it be had from its own registry")]
    Mirrors {
        /// The image, in familiar form.
        name: String,
        /// `host: why`, each mirror.
        mirrors: String,
        /// Why the registry itself failed.
        #[source]
        source: Box<RegistryError>,
    },
    /// The certificates that the configuration names cannot be read.
    #[error("cannot read the certificates in `{}`", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `certs.d` has a client certificate without its key.
    #[error("missing key `{}` for client certificate `{}`", key.display(), certificate.display())]
    KeyMissing {
        /// The certificate.
        certificate: PathBuf,
        /// Where its key should be.
        key: PathBuf,
    },
    /// The HTTP client cannot be set up, for want of system certificates or because a PEM file is bad.
    #[error("cannot set up HTTP for registry {host}")]
    Setup {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// What was downloaded cannot be kept.
    #[error("cannot write blob {digest}")]
    Write {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl RegistryError {
    /// Whether the same request may well succeed a moment later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Cut { .. } | Self::Short { .. } | Self::Stalled { .. } => true,
            Self::RateLimited { retry_after, .. } => retry_after.is_none_or(|seconds| seconds <= PATIENCE),
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

impl Kind for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::NoRepository { .. }
            | Self::BlobNotFound { .. } => ErrorKind::NotFound,
            Self::Platform { .. } => ErrorKind::Unsupported,
            Self::Manifest { source, .. } => source.kind(),
            Self::Mirrors { source, .. } => source.kind(),
            Self::LoginRefused { .. } | Self::Status { status: 401, .. } => ErrorKind::Unauthorized,
            Self::PushDenied { .. } | Self::Status { status: 403, .. } => ErrorKind::Forbidden,
            Self::CaFile { .. }
            | Self::KeyMissing { .. }
            | Self::TooLarge { .. }
            | Self::WrongDigest { .. } => ErrorKind::InvalidInput,
            Self::Write { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Cut { .. }
            | Self::RateLimited { .. }
            | Self::Status { .. }
            | Self::Stalled { .. }
            | Self::UploadLost { .. }
            | Self::Short { .. }
            | Self::Tls { .. }
            | Self::Setup { .. }
            | Self::Protocol { .. } => ErrorKind::Unavailable,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Denied { host, trouble, .. } | Self::PushDenied { host, trouble, .. } => {
                let login = format!("`umiak login {host}` if the repository is not for everybody");
                trouble.clone().into_iter().chain([login]).collect()
            }
            Self::KeyMissing { .. } => vec!["authorities to trust have names that end in `.crt`".into()],
            Self::Setup { .. } => vec![
                "HTTPS needs the system's certificates (package `ca-certificates`, or SSL_CERT_FILE), or a `ca-file` for the \
                 registry"
                    .into(),
            ],
            Self::Unreachable { .. } => vec!["is the registry running, and the network up?".into()],
            Self::Tls { host, .. } => vec![format!(
                "a registry with its own certificates needs `ca-file` in [registries.\"{host}\"], \
                 one without any `insecure = true`"
            )],
            Self::RateLimited { retry_after: Some(seconds), .. } => {
                vec![format!("try again in {seconds} seconds")]
            }
            Self::Platform { available, .. } => available
                .first()
                .map(|platform| format!("choose one with `--platform {platform}`"))
                .into_iter()
                .collect(),
            Self::Manifest { source, .. } => source.hints(),
            Self::Mirrors { source, .. } => source.hints(),
            Self::Short { .. } | Self::Cut { .. } => vec!["pull again: it continues where it stopped".into()],
            _ => Vec::new(),
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none".into();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn told(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
