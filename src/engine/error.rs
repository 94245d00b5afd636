//! What can go wrong in a use case.

use std::path::PathBuf;

use crate::config::ConfigError;
use crate::executor::{ExecError, SelectError};
use crate::model::{ContainerId, Digest, ErrorKind, Kind};
use crate::reference::ReferenceError;
use crate::reference::resolve::ResolveError;
use crate::registry::RegistryError;
use crate::registry::credentials::CredentialError;
use crate::state::StateError;
use crate::store::StoreError;
use crate::supervisor::SupervisorError;

use super::MergeError;
use super::joins::JoinError;

/// A failed use case. What a lower layer said about itself passes through unchanged.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the messages of the transparent ones are those of the module they come from"
)]
pub enum EngineError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Push(#[from] super::PushError),
    #[error(transparent)]
    ManifestList(#[from] super::ListError),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Executor(#[from] ExecError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error(transparent)]
    Volume(#[from] crate::supervisor::VolumeError),
    #[error(transparent)]
    ImageArchive(Box<super::ImageArchiveError>),
    #[error(transparent)]
    Commit(Box<super::CommitError>),
    #[error(transparent)]
    Copy(#[from] super::CopyError),
    #[error(transparent)]
    Mount(#[from] super::MountError),
    #[error(transparent)]
    VolumeName(#[from] crate::model::VolumeNameError),
    #[error(transparent)]
    VolumeOption(#[from] crate::model::VolumeOptionError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Network(#[from] crate::network::NetworkError),
    /// A file or directory of the engine's.
    #[error("cannot use `{}`", path.display())]
    Path { path: PathBuf, source: std::io::Error },
    /// An ordinary user without a home.
    #[error("cannot tell where to keep images: neither HOME nor XDG_DATA_HOME is set")]
    NoHome,
    /// The system's random numbers.
    #[error("drawing random numbers")]
    Random { source: getrandom::Error },
    /// A user namespace of the container's own cannot be had.
    #[error("{why}")]
    UserNamespace { why: &'static str },
    /// Making the user namespace of an ordinary user.
    #[error("preparing to run without root")]
    Namespace { source: Box<dyn std::error::Error + Send + Sync> },
    /// The engine's own executable.
    #[error("finding the engine's own binary")]
    OwnBinary { source: std::io::Error },
    /// The database cannot be made anew while somebody writes to it.
    #[error("the metadata database is damaged, and cannot be made anew while container {} runs", id.short())]
    Alive { id: ContainerId },
    /// The event loop.
    #[error("starting the event loop")]
    Runtime { source: std::io::Error },
    /// Nothing to run.
    #[error("no command specified")]
    NoCommand,
    /// The image is not in the store, and was not to be fetched.
    #[error("No such image: {name}")]
    MissingImage { name: String },
    /// The image to remove is not there.
    #[error("No such image: {name}")]
    NoImage { name: String },
    /// What docker's daemon checks as well.
    #[error(transparent)]
    Check(#[from] super::CheckError),
    /// No such container.
    #[error("No such container: {query}")]
    NoContainer { query: String },
    /// Neither.
    #[error("No such {}: {name}", only.as_deref().unwrap_or("object"))]
    NoObject { name: String, only: Option<String> },
    /// `--type` names something unknown.
    #[error("\"{kind}\" is not a valid value for --type")]
    ObjectType { kind: String },
    /// It runs, and that is in the way.
    #[error("cannot {action} container `{name}`: it is running")]
    Running { name: String, action: &'static str },
    /// It does not run.
    #[error("cannot {action} container `{name}`: container is not running")]
    NotRunning { name: String, action: &'static str },
    /// Its state is in the way.
    #[error("cannot {action} container `{name}`: {why}")]
    WrongState { name: String, action: &'static str, why: &'static str },
    /// The name is another container's, or no name.
    #[error("renaming a container to `{name}`: {why}")]
    Rename { name: String, why: &'static str },
    /// `--log-driver none`.
    #[error("configured logging driver does not support reading")]
    NoLog,
    /// A digest is no name.
    #[error("refusing to create a tag with a digest reference")]
    TagDigest,
    /// Its supervisor does not end.
    #[error("cannot remove container `{name}`: it does not end")]
    WillNotEnd { name: String },
    /// Removing by id an image that has several names.
    #[error("conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories", id.short())]
    SeveralNames { id: Digest, names: Vec<String> },
    /// A container needs the image.
    #[error(
        "conflict: unable to delete {} ({} be forced) - image is being used by {} container {}",
        id.short(),
        if *running { "cannot" } else { "must" },
        if *running { "running" } else { "stopped" },
        container.short()
    )]
    ImageInUse { id: Digest, container: ContainerId, running: bool },
    /// A container needs the image whose last name is to go.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {}",
        container.short(),
        id.short()
    )]
    NameInUse { name: String, id: Digest, container: ContainerId },
    /// A layer that is to be replaced is under a container's feet.
    #[error("a running container uses the layer {}", layer.short())]
    LayerBusy { layer: Digest },
    /// The image is to stay.
    #[error("unable to remove image {}: it is pinned", id.short())]
    ImagePinned { id: Digest },
    /// Several networks' ids begin so.
    #[error("network {query} is ambiguous: several ids begin with it")]
    AmbiguousNetwork { query: String },
    /// The unpacking thread ended without a result.
    #[error("unpacking layer {} was interrupted", layer.short())]
    Unpacking { layer: Digest },
}

impl EngineError {
    /// Whether an image is simply not in the store.
    pub fn is_missing_image(&self) -> bool {
        matches!(self, Self::MissingImage { .. })
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    pub(super) fn kind_is_input(&self) -> bool {
        self.kind() == ErrorKind::InvalidInput
    }

    fn inner(&self) -> Option<&dyn Kind> {
        Some(match self {
            Self::Reference(error) => error,
            Self::Resolve(error) => error,
            Self::Config(error) => error,
            Self::Registry(error) => error,
            Self::Push(error) => error,
            Self::ManifestList(error) => error,
            Self::Credentials(error) => error,
            Self::Store(error) => error,
            Self::State(error) => error,
            Self::Select(error) => error,
            Self::Executor(error) => error,
            Self::Supervisor(error) => error,
            Self::Merge(error) => error,
            Self::Mount(error) => error,
            Self::Copy(error) => error,
            Self::ImageArchive(error) => &**error,
            Self::Commit(error) => &**error,
            Self::Volume(error) => error,
            Self::VolumeName(error) => error,
            Self::VolumeOption(error) => error,
            Self::Join(error) => error,
            Self::Network(error) => error,
            Self::Check(error) => error,
            _ => return None,
        })
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

impl Kind for EngineError {
    fn kind(&self) -> ErrorKind {
        if let Some(inner) = self.inner() {
            return inner.kind();
        }
        match self {
            Self::MissingImage { .. }
            | Self::NoImage { .. }
            | Self::NoContainer { .. }
            | Self::NoObject { .. } => ErrorKind::NotFound,
            Self::UserNamespace { .. }
            | Self::NoCommand
            | Self::AmbiguousNetwork { .. }
            | Self::TagDigest
            | Self::Rename { .. }
            | Self::ObjectType { .. }
            | Self::NoHome => ErrorKind::InvalidInput,
            Self::Running { .. }
            | Self::NotRunning { .. }
            | Self::NoLog
            | Self::WrongState { .. }
            | Self::WillNotEnd { .. }
            | Self::SeveralNames { .. }
            | Self::NameInUse { .. }
            | Self::LayerBusy { .. }
            | Self::ImagePinned { .. }
            | Self::ImageInUse { .. } => ErrorKind::Conflict,
            Self::Namespace { .. } | Self::Path { .. } | Self::Random { .. } | Self::Runtime { .. } => {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Internal,
        }
    }

    fn hints(&self) -> Vec<String> {
        if let Some(inner) = self.inner() {
            return inner.hints();
        }
        match self {
            Self::Path { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                vec!["run as the owner of that directory, or choose another with --root".into()]
            }
            Self::Namespace { .. } => vec![
                "`newuidmap` and `newgidmap` (package `uidmap`) must be set-user-id root, and the user's ranges in /etc/subuid \
                 and /etc/subgid must not overlap others"
                    .into(),
            ],
            Self::Running { action: "remove", .. } => vec!["stop the container first, or use -f".into()],
            Self::SeveralNames { names, .. } => vec![format!("its names are {}", names.join(", "))],
            Self::ImageInUse { running: false, .. } | Self::NameInUse { .. } => vec!["remove the container first, or use -f".into()],
            Self::ImageInUse { .. } => vec!["stop and remove the container first".into()],
            Self::LayerBusy { .. } => vec!["stop the container, and repair again".into()],
            Self::ImagePinned { id } => vec![format!("`umiak image unpin {}` first, or use -f", id.short())],
            Self::MissingImage { name } => vec![format!("fetch it with `umiak pull {name}`")],
            Self::NoCommand => vec!["give one after the image's name".into()],
            _ => Vec::new(),
        }
    }
}
