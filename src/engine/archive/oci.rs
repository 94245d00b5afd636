//! Reading an OCI image layout: `index.json`, then manifests and indexes by digest.

use serde_json::Value;

use super::{Candidate, ImageArchiveError, document_error, name};
use crate::model::Digest;
use crate::reference::Reference;
use crate::registry::{self, Descriptor, Document, LIMITS, ManifestError};
use crate::store::archive::{ArchiveError, Found, Members};
use crate::store::{Store, StoreError};

/// Docker's and containerd's: the name in full.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The layout's own: a tag alone, or a whole name, as its writer liked.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn mismatch(expected: &Digest, found: Digest) -> ImageArchiveError {
    ArchiveError::from(StoreError::DigestMismatch { expected: expected.clone(), found }).into()
}

/// A reader of one layout.
pub(super) struct Layout<'a> {
    pub(super) store: &'a Store,
    pub(super) members: &'a Members,
}

impl Layout<'_> {
    /// The images of a layout; `None` if the archive is none.
    pub(super) fn images(&self) -> Result<Option<Vec<Candidate>>, ImageArchiveError> {
        let member = "index.json";
        let Some(bytes) = self.members.small(self.store, member, LIMITS.manifest)? else { return Ok(None) };
        let Document::Index(entries) = registry::document(&bytes, None).map_err(document_error(member))?
        else {
            let source = ManifestError::MediaType { what: "manifest", media_type: "not an index".into() };
            return Err(document_error(member)(source));
        };
        let listed: Value = registry::unique(&bytes, "index").map_err(document_error(member))?;
        let annotations = |at: usize, key: &str| {
            listed.get("manifests")?.get(at)?.get("annotations")?.get(key)?.as_str().map(str::to_owned)
        };
        let mut found: Vec<Candidate> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let named = reference(annotations(at, CONTAINERD_NAME), annotations(at, REF_NAME))?;
            self.descend(entry, &Above { name: named.as_ref(), index: None, depth: 0 }, &mut found)?;
            if found.len() > LIMITS.layers {
                let (value, limit) = (found.len() as u64, LIMITS.layers as u64);
                return Err(document_error(member)(ManifestError::Limit { what: "images", value, limit }));
            }
        }
        Ok(Some(found))
    }

    fn descend(
        &self,
        entry: &Descriptor,
        above: &Above<'_>,
        found: &mut Vec<Candidate>,
    ) -> Result<(), ImageArchiveError> {
        // Attestations are about images and none themselves.
        if entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown") {
            return Ok(());
        }
        let member = path(&entry.digest);
        let Some(bytes) = self.members.small(self.store, &member, LIMITS.manifest)? else {
            // Of an index, whoever wrote the archive may have taken some platforms only.
            return if above.index.is_some() {
                Ok(())
            } else {
                Err(ArchiveError::Missing { name: member }.into())
            };
        };
        let actual = Digest::of(&bytes);
        if actual != entry.digest {
            return Err(mismatch(&entry.digest, actual));
        }
        let header = Some(entry.media_type.as_str()).filter(|text| !text.is_empty());
        match registry::document(&bytes, header).map_err(document_error(&member))? {
            Document::Index(entries) => {
                if above.depth >= LIMITS.nesting {
                    let (value, limit) = (above.depth as u64 + 1, LIMITS.nesting as u64);
                    let source = ManifestError::Limit { what: "nested indexes", value, limit };
                    return Err(document_error(&member)(source));
                }
                let index = above.index.unwrap_or(&bytes);
                let below = Above { name: above.name, index: Some(index), depth: above.depth + 1 };
                let before = found.len();
                entries.iter().try_for_each(|entry| self.descend(entry, &below, found))?;
                if found.len() == before && above.depth == 0 {
                    return Err(ArchiveError::Missing { name: member }.into());
                }
                Ok(())
            }
            Document::Manifest(manifest) => self.image(bytes, &manifest, above, found),
        }
    }

    fn image(
        &self,
        bytes: Vec<u8>,
        manifest: &registry::Manifest,
        above: &Above<'_>,
        found: &mut Vec<Candidate>,
    ) -> Result<(), ImageArchiveError> {
        let member = path(&manifest.config.digest);
        let Some(config) = self.members.small(self.store, &member, LIMITS.config)? else {
            return if above.index.is_some() {
                Ok(())
            } else {
                Err(ArchiveError::Missing { name: member }.into())
            };
        };
        let digest = Digest::of(&bytes);
        let target = above.index.map_or_else(|| digest.clone(), Digest::of);
        let image = registry::image_from(&bytes, &config, &target).map_err(document_error(&path(&digest)))?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            let place = match self.members.find(&path(&layer.digest)) {
                Err(ArchiveError::Missing { .. }) if above.index.is_some() => return Ok(()),
                other => other?,
            };
            if let Found::Spooled(spooled) = &place {
                if *spooled.digest() != layer.digest {
                    return Err(mismatch(&layer.digest, spooled.digest().clone()));
                }
                if spooled.size() != layer.size {
                    let (expected, found) = (layer.size, spooled.size());
                    let error = StoreError::SizeMismatch { digest: layer.digest.clone(), expected, found };
                    return Err(ArchiveError::from(error).into());
                }
            }
            layers.push(place);
        }
        // One manifest under several names is listed once for each.
        let known = found.iter_mut().find(|known| known.manifest == bytes && known.image.target == target);
        let names = above.name.cloned();
        match known {
            Some(known) => known
                .names
                .extend(names.filter(|name| !known.names.contains(name)).into_iter().collect::<Vec<_>>()),
            None => found.push(Candidate {
                names: names.into_iter().collect(),
                image,
                manifest: bytes,
                config,
                index: above.index.map(<[u8]>::to_vec),
                layers,
            }),
        }
        Ok(())
    }
}

/// What leads to a manifest.
struct Above<'a> {
    name: Option<&'a Reference>,
    /// The outermost index.
    index: Option<&'a [u8]>,
    depth: usize,
}

fn reference(full: Option<String>, short: Option<String>) -> Result<Option<Reference>, ImageArchiveError> {
    if let Some(full) = full {
        return name(&full).map(Some);
    }
    // A tag alone names no repository: the image goes by its id.
    match short {
        Some(text) if text.contains([':', '/']) => match name(&text) {
            Err(ImageArchiveError::Untagged { .. }) => Ok(None),
            other => other.map(Some),
        },
        _ => Ok(None),
    }
}
