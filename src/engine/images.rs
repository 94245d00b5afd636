//! Images in the store: finding, listing, removing.

use crate::demo;
use crate::model::{Digest, Image, Platform, RuntimeStatus, Timestamp};
use crate::reference::Reference;
use crate::reference::resolve::{self, ImageCandidate, ResolveError};
use crate::state::{Content, StateError, StoredImage};

use super::{Engine, EngineError};

/// An image with its names.
pub type ImageView = StoredImage;

/// One step of an image's removal, in the order in which docker reports them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRemoval {
    /// A name was taken away.
    Untagged(String),
    /// The image's content was removed.
    Deleted(Digest),
}

impl std::fmt::Display for ImageRemoval {
    /// As `prune` lists it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged(name) => write!(f, "untagged: {name}"),
            Self::Deleted(id) => write!(f, "deleted: {id}"),
        }
    }
}

/// Figures about the engine, for `info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// All containers.
    pub containers: usize,
    /// Those that run.
    pub running: usize,
    /// Those that ended or never began.
    pub stopped: usize,
    /// All images.
    pub images: usize,
    /// How containers' roots are made.
    pub snapshotter: &'static str,
    /// What this user may do.
    pub confinement: super::Confinement,
}

fn names_of(stored: &StoredImage) -> Vec<Reference> {
    stored.names.iter().filter_map(|name| name.parse().ok()).collect()
}

impl Engine {
    /// All images, the newest first.
    pub fn images(&self) -> Result<Vec<ImageView>, EngineError> {
        Ok(self.database.images()?)
    }

    /// The image that a name, digest or unique id prefix means, in the first of the wanted platforms that it has.
    ///
    /// With no wish for a platform, any that this host prefers, then any at all.
    pub fn find_image(&self, typed: &str, wanted: &[Platform]) -> Result<StoredImage, EngineError> {
        let name = match self.reference(typed) {
            Ok(reference) if reference.digest().is_none() => Some(reference),
            _ => None,
        };
        if let Some(reference) = &name {
            let found = self.database.image_by_name(&reference.canonical(), None)?;
            if let Some(best) = best(&found, wanted) {
                return Ok(best.clone());
            }
            if !found.is_empty() {
                return Err(EngineError::MissingImage { name: reference.to_string() });
            }
        }
        let mut all = self.database.images()?;
        if !wanted.is_empty() {
            all.retain(|stored| wanted.iter().any(|wish| wish.accepts(&stored.image.platform)));
        }
        let names: Vec<_> = all.iter().map(names_of).collect();
        let candidates = all.iter().zip(&names).map(|(stored, names)| ImageCandidate {
            id: &stored.image.id,
            manifest: &stored.image.manifest,
            target: &stored.image.target,
            names,
        });
        let id = match resolve::image(typed, candidates) {
            Ok(found) => found.id.clone(),
            Err(ResolveError::NotFound { .. }) => {
                let name = name.map_or_else(|| typed.to_owned(), |name| name.to_string());
                return Err(EngineError::MissingImage { name });
            }
            Err(error) => return Err(error.into()),
        };
        let found = all.into_iter().find(|stored| stored.image.id == id);
        found.ok_or_else(|| EngineError::MissingImage { name: typed.to_owned() })
    }

    /// Removes an image: by name, that name, and the content with the last one; by id, all of it.
    pub fn remove_image(&self, typed: &str, force: bool) -> Result<Vec<ImageRemoval>, EngineError> {
        self.store()?.use_reserve();
        self.reconcile()?;
        let stored = self.find_image(typed, &[]).map_err(|error| match error {
            EngineError::MissingImage { name } => EngineError::NoImage { name },
            other => other,
        })?;
        let by_name = self.reference(typed).ok().filter(|r| stored.names.contains(&r.canonical()));
        let mut steps = Vec::new();
        let (doomed, affected) = match &by_name {
            Some(reference) => {
                (vec![reference.canonical()], self.database.image_by_name(&reference.canonical(), None)?)
            }
            None => (stored.names.clone(), vec![stored.clone()]),
        };
        if !force {
            for image in &affected {
                let last = image.names.iter().all(|name| doomed.contains(name));
                if last && self.database.is_pinned(&image.image.id)? {
                    return Err(EngineError::ImagePinned { id: image.image.id.clone() });
                }
            }
        }
        if by_name.is_none() && doomed.len() > 1 && !force {
            return Err(EngineError::SeveralNames { id: stored.image.id, names: doomed });
        }
        for image in &affected {
            if image.names.iter().all(|name| doomed.contains(name)) {
                self.refuse_if_used(image, force)?;
            }
        }
        for name in &doomed {
            self.database.untag(name)?;
            let shown = name.parse::<Reference>().map_or_else(|_| name.clone(), |r| r.to_string());
            steps.push(ImageRemoval::Untagged(shown));
        }
        for image in affected {
            if image.names.iter().all(|name| doomed.contains(name)) {
                steps.extend(self.delete_image(&image.image)?);
            }
        }
        Ok(steps)
    }

    fn refuse_if_used(&self, stored: &StoredImage, force: bool) -> Result<(), EngineError> {
        let users: Vec<_> =
            self.containers()?.into_iter().filter(|view| view.container.image == stored.image.id).collect();
        let Some(user) = users.iter().find(|view| view.alive).or(users.first()) else { return Ok(()) };
        if user.alive || !force {
            return Err(EngineError::ImageInUse {
                id: stored.image.id.clone(),
                container: user.container.id.clone(),
                running: user.container.state.status == RuntimeStatus::Running,
            });
        }
        Ok(())
    }

    /// Deletes the record and what nothing else uses. A stopped container of it keeps the record (`-f` only untags).
    fn delete_image(&self, image: &Image) -> Result<Vec<ImageRemoval>, EngineError> {
        match self.database.remove_image(&image.id) {
            Ok(()) => {}
            Err(StateError::InUse { .. } | StateError::NoImage { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        self.collect_garbage()?;
        Ok(vec![ImageRemoval::Deleted(image.id.clone())])
    }

    /// Removes blobs and layers that no image, container or running pull needs.
    pub fn collect_garbage(&self) -> Result<(), EngineError> {
        self.store()?.use_reserve();
        self.holding(&[], || {
            self.sweep_store()?;
            let store = self.store()?;
            let blobs = store.content().list()?;
            self.database.collect(Content::Blob, &blobs, |unused| store.content().remove(&unused))?;
            let layers = store.layers().list()?;
            let retire = |unused: Vec<Digest>| store.layers().retire(&unused);
            // What was out of sight already when it failed is not needed any more.
            let gone = self
                .database
                .collect(Content::Layer, &layers, retire)
                .inspect_err(|_| drop(self.sweep_store()))?;
            store.layers().purge(&gone)?;
            Ok(())
        })
    }

    /// Figures for `info`.
    pub fn summary(&self) -> Result<Summary, EngineError> {
        let all = self.containers()?;
        let running = all.iter().filter(|view| view.alive).count();
        Ok(Summary {
            containers: all.len(),
            running,
            stopped: all.len() - running,
            images: self.database.images()?.len(),
            snapshotter: self.store()?.snapshots().name(),
            confinement: super::rootless::summary(),
        })
    }

    /// Puts the demo image, which the binary carries, into the store.
    pub(super) fn import_demo(&self, reference: &Reference) -> Result<(), EngineError> {
        let store = self.store()?;
        let layout = demo::layout();
        let layers = layout.variants.iter().flat_map(|variant| &variant.layers);
        let unpacked = layers.map(|(layer, _)| layer.diff_id.clone());
        let digests: Vec<_> = layout.blobs.iter().map(|(digest, _)| digest.clone()).chain(unpacked).collect();
        self.holding(&digests, || {
            for (_, bytes) in &layout.blobs {
                store.content().put(bytes)?;
            }
            for variant in &layout.variants {
                for (layer, bytes) in &variant.layers {
                    if let Some(mut writer) = store.layers().begin(&layer.diff_id)? {
                        writer.apply(bytes.as_slice(), layer.kind)?;
                        writer.commit()?;
                    }
                }
                self.database.put_image(&variant.image, Some(&reference.canonical()))?;
            }
            Ok(())
        })
    }

    /// When an image was made, for `inspect` and lists: by its own word, else when it was pulled.
    pub fn created(stored: &StoredImage) -> Timestamp {
        stored.image.created.unwrap_or(stored.pulled)
    }
}

/// The image of the first wanted platform that there is one of; without a wish, the host's favourite or else the first.
fn best<'a>(found: &'a [StoredImage], wanted: &[Platform]) -> Option<&'a StoredImage> {
    let favourites = crate::executor::default_platforms();
    let order = if wanted.is_empty() { &favourites } else { wanted };
    let hit = order.iter().find_map(|wish| found.iter().find(|stored| wish.accepts(&stored.image.platform)));
    if wanted.is_empty() { hit.or(found.first()) } else { hit }
}
