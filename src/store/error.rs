//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Digest, ErrorKind, Kind};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused something in the store.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another program's, or a newer, layout.
    #[error("the store `{}` has layout version `{found}`; this program knows `{known}`", path.display())]
    Version {
        /// The store's root.
        path: PathBuf,
        /// What its version file says.
        found: String,
        /// What this program writes.
        known: &'static str,
    },
    /// The bytes are not those that the digest names.
    #[error("digest mismatch: expected {expected}, got {found}")]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// There are more or fewer bytes than announced.
    #[error("size mismatch for {digest}: expected {expected} bytes, got {found}")]
    SizeMismatch {
        /// The content.
        digest: Digest,
        /// Bytes announced.
        expected: u64,
        /// Bytes seen (at least).
        found: u64,
    },
    /// A blob that is to be read into memory is too large for that.
    #[error("{digest} is larger than {limit} bytes")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// The limit in bytes.
        limit: u64,
    },
    /// The store does not hold it.
    #[error("{digest} is not in the store")]
    Missing {
        /// The blob or layer.
        digest: Digest,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack the layer {}", layer.short())]
    Layer {
        /// `DiffID` of the layer.
        layer: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
}

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The compressed stream or the archive is truncated or damaged.
    #[error("the archive is truncated or damaged")]
    Archive(#[source] io::Error),
    /// An entry is not acceptable.
    #[error("entry `{path}`: {reason}")]
    Entry {
        /// The entry's name, as text.
        path: String,
        /// What is wrong with it.
        reason: EntryRefusal,
    },
    /// An entry could not be written.
    #[error("cannot write entry `{path}`")]
    Write {
        /// The entry's name, as text.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A bound was exceeded.
    #[error("the layer has more than {limit} {unit}")]
    TooLarge {
        /// The bound.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A layer that should be WebAssembly does not begin as such.
    #[error("the layer is not a WebAssembly binary")]
    NotWasm,
}

/// Why an entry of a layer's archive is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryRefusal {
    /// The name has a `..` component.
    #[error("its name leaves the root")]
    Escape,
    /// The name has a NUL byte, or bytes that this system's names cannot have.
    #[error("its name is malformed")]
    Name,
    /// The name is longer than the limit.
    #[error("its name is longer than 4096 bytes")]
    LongName,
    /// `.wh.`, `.wh..` or `.wh...`.
    #[error("it is a malformed whiteout")]
    Whiteout,
    /// A symbolic link in its name leads in circles.
    #[error("too many symbolic links in its name")]
    Loop,
    /// A component of its name is not a directory.
    #[error("a parent of it is not a directory")]
    NotDirectory,
    /// A hard link to what this layer does not have (docker's overlay driver refuses it too).
    #[error("it is a hard link to something that is not in the same layer")]
    LinkTarget,
    /// A character device 0:0, which overlayfs takes for a whiteout.
    #[error("it is a character device 0:0, which is reserved")]
    ReservedDevice,
    /// A type of entry that is not known.
    #[error("its type is not supported")]
    Type,
    /// A sparse file in one of the PAX formats.
    #[error("it is a sparse file in a PAX format, which is not supported")]
    PaxSparse,
    /// A number in its header is malformed.
    #[error("a number in its header is malformed")]
    Number,
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Forbidden,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Internal,
    }
}

impl Kind for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } | Self::Layer { source: LayerError::Write { source, .. }, .. } => {
                io_kind(source)
            }
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::TooLarge { .. }
            | Self::Layer { .. } => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Missing { .. } => vec!["`umiak system check --repair` fetches what is missing".into()],
            Self::Version { .. } => vec!["use the newer version of this program, or another root".into()],
            _ => Vec::new(),
        }
    }
}
