//! Images in archives: what `load` reads and `save` writes.
//!
//! Two layouts, often in one archive: an OCI image layout (`index.json`, `blobs/sha256/…`), and docker's (`manifest.json`,
//! which names config and layers by path; before that `repositories` and a folder for each layer). [`Engine::save`] writes both over one
//! set of blobs, as docker 28 does, so that docker, podman, skopeo and umoci read it. When reading, the OCI side is preferred
//! since digests survive by it; docker's lends the names where the other has none.
//!
//! Invariants:
//! - An archive is read to its end before anything of it is believed; everything is checked before anything is recorded: names,
//!   digests, sizes, the number of layers. Layers are verified again, by `DiffID`, when they are unpacked.
//! - Images are recorded last. What a failure leaves is content that nothing names, and it is collected.
//! - A blob goes out as it came in. Nothing is compressed again, so digests agree wherever an image goes.
//! - One layer's lock is held at a time, so loads and pulls that share layers in another order cannot wait for one another.

mod docker;
mod legacy;
mod load;
mod oci;
mod save;

use serde::Serialize;

use super::Engine;
use crate::model::{Digest, ErrorKind, Image, Kind, LayerKind};
use crate::reference::{Reference, ReferenceError};
use crate::registry::ManifestError;
use crate::store::archive::{ArchiveError, Found};

pub(super) use load::place_one;
pub use load::{Loaded, Source};
pub use save::{Destination, Format};

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What is wrong with an archive, or with the wish to make one.
#[derive(Debug, thiserror::Error)]
pub enum ImageArchiveError {
    /// It cannot be read.
    #[error("cannot read the archive")]
    Archive(#[from] ArchiveError),
    /// One of its documents is bad.
    #[error("the archive's `{member}` is not acceptable")]
    Document {
        /// Which.
        member: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// Neither layout.
    #[error("the archive holds no image: it has neither index.json nor manifest.json nor repositories")]
    NoImage,
    /// A name that cannot be given.
    #[error("the archive gives an image the name `{name}`")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// A name with a digest, or without a tag.
    #[error("the archive gives an image the name `{name}`, which is not a name with a tag")]
    Untagged {
        /// The name.
        name: String,
    },
    /// No image of the wanted platforms.
    #[error("the archive has no image for {wanted}; it has {offered}")]
    Platform {
        /// The wish.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// The image to save has no such platform.
    #[error("image {name} is not here for {wanted}")]
    NoPlatform {
        /// As typed.
        name: String,
        /// The wish.
        wanted: String,
    },
    /// Writing the archive.
    #[error("writing the archive")]
    Write(#[source] std::io::Error),
    /// What a blob's bytes are.
    #[error("{expected} is damaged in the store: its bytes are those of {found}")]
    Damaged {
        /// The blob.
        expected: Digest,
        /// What was read.
        found: Digest,
    },
    /// The directory to write to holds something.
    #[error("`{}` is not empty", path.display())]
    NotEmpty {
        /// It.
        path: std::path::PathBuf,
    },
}

impl Kind for ImageArchiveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Archive(error) => error.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::Platform { .. } | Self::NoPlatform { .. } => ErrorKind::NotFound,
            Self::Write(_) => ErrorKind::Unavailable,
            Self::Damaged { .. } => ErrorKind::Internal,
            Self::NotEmpty { .. } => ErrorKind::Conflict,
            _ => ErrorKind::InvalidInput,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Archive(error) => error.hints(),
            Self::NoImage => {
                vec!["`umiak import` makes an image of an archive of files".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

fn document_error(member: &str) -> impl FnOnce(ManifestError) -> ImageArchiveError + '_ {
    move |source| ImageArchiveError::Document { member: member.to_owned(), source }
}

/// An image of an archive, checked and not yet taken in.
#[derive(Debug)]
struct Candidate {
    names: Vec<Reference>,
    image: Image,
    manifest: Vec<u8>,
    config: Vec<u8>,
    /// What the name points to, where that is an index.
    index: Option<Vec<u8>>,
    /// Where each layer's bytes are.
    layers: Vec<Found>,
}

/// A descriptor as it is written; the order of fields is Go's, so that digests of manifests agree with docker's.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub(super) annotations: std::collections::BTreeMap<String, String>,
}

impl Wire {
    pub(super) fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.clone(),
            size,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    schema_version: u32,
    media_type: &'static str,
    config: Wire,
    layers: Vec<Wire>,
}

/// The manifest of an image that came, or is made, without one.
pub(super) fn manifest(config: &[u8], layers: Vec<Wire>) -> Vec<u8> {
    let config = Wire::new(OCI_CONFIG, &Digest::of(config), config.len() as u64);
    let manifest = WireManifest { schema_version: 2, media_type: OCI_MANIFEST, config, layers };
    // Texts and numbers only: nothing in it can fail to be written.
    serde_json::to_vec(&manifest).unwrap_or_default()
}

pub(super) fn layer_type(kind: LayerKind) -> &'static str {
    match kind {
        LayerKind::Tar => "application/vnd.oci.image.layer.v1.tar",
        LayerKind::TarGzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        LayerKind::TarZstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        LayerKind::Wasm => "application/wasm",
    }
}

/// A name that an archive gives an image: with a tag, without a digest.
fn name(text: &str) -> Result<Reference, ImageArchiveError> {
    let reference: Reference = text
        .parse()
        .map_err(|source| ImageArchiveError::Name { name: text.chars().take(256).collect(), source })?;
    let last = text.rsplit('/').next().unwrap_or_default();
    if reference.digest().is_some() || !last.contains(':') {
        return Err(ImageArchiveError::Untagged { name: text.chars().take(256).collect() });
    }
    Ok(reference)
}

impl Engine {
    /// Whether a blob of this size is here; if so, a lease keeps it.
    fn hold(
        &self,
        digest: &Digest,
        size: u64,
        leases: &std::cell::RefCell<Vec<crate::state::LeaseId>>,
    ) -> bool {
        let Ok(store) = self.store() else { return false };
        if store.content().size(digest).ok() != Some(size) {
            return false;
        }
        let Ok(lease) = self.database.lease(std::slice::from_ref(digest)) else { return false };
        leases.borrow_mut().push(lease);
        // Looked at again: before the lease it could go.
        store.content().has(digest)
    }
}
