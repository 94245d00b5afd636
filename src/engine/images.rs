//! Images in the store: finding, listing, removing.

use crate::demo;
use crate::model::{Digest, Image, Platform, Timestamp};
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
        let all: Vec<_> = all.into_iter().flat_map(StoredImage::versions).collect();
        let names: Vec<_> = all.iter().map(names_of).collect();
        let candidates = all.iter().zip(&names).map(|(stored, names)| ImageCandidate {
            id: &stored.image.id,
            manifest: &stored.image.manifest,
            target: &stored.image.target,
            names,
        });
        let (id, manifest, target) = match resolve::image(typed, candidates) {
            Ok(found) => (found.id.clone(), found.manifest.clone(), found.target.clone()),
            Err(ResolveError::NotFound { .. }) => {
                let name = name.map_or_else(|| typed.to_owned(), |name| name.to_string());
                return Err(EngineError::MissingImage { name });
            }
            Err(error) => return Err(error.into()),
        };
        // With all its names, and as it was found.
        let gone = || EngineError::MissingImage { name: typed.to_owned() };
        Ok(self.database.image(&id)?.ok_or_else(gone)?.found_by(&manifest, &target))
    }

    /// Removes an image by docker's rules. By name: that name, and the content with the last one; the last name of an image that
    /// a container is made of only by force, and then the content stays. By id: all of it, several names only by force, and
    /// never while a container of it runs.
    pub fn remove_image(&self, typed: &str, force: bool) -> Result<Vec<ImageRemoval>, EngineError> {
        self.store()?.use_reserve();
        self.reconcile()?;
        let stored = self.find_image(typed, &[]).map_err(|error| match error {
            EngineError::MissingImage { name } => EngineError::NoImage { name },
            other => other,
        })?;
        match self.reference(typed).ok().filter(|name| stored.names.contains(&name.canonical())) {
            Some(name) => self.remove_name(&name, force),
            None => self.remove_by_id(&stored, force),
        }
    }

    /// A name means its images of all platforms.
    fn remove_name(&self, name: &Reference, force: bool) -> Result<Vec<ImageRemoval>, EngineError> {
        let canonical = name.canonical();
        let affected = self.database.image_by_name(&canonical, None)?;
        for image in affected.iter().filter(|image| image.names.len() == 1 && !force) {
            self.refuse_if_pinned(&image.image.id)?;
            if let Some(user) = self.user(&image.image.id)? {
                let (name, id) = (name.to_string(), image.image.id.clone());
                return Err(EngineError::NameInUse { name, id, container: user.container.id });
            }
        }
        self.database.untag(&canonical)?;
        // With the name may go the manifest and layers as it came by them.
        if affected.iter().any(|image| image.names.len() > 1 && image.clone().versions().len() > 1) {
            self.collect_garbage()?;
        }
        let mut steps = vec![ImageRemoval::Untagged(name.to_string())];
        for image in affected.iter().filter(|image| image.names.len() == 1) {
            steps.extend(self.delete_image(&image.image)?);
        }
        Ok(steps)
    }

    fn remove_by_id(&self, stored: &StoredImage, force: bool) -> Result<Vec<ImageRemoval>, EngineError> {
        let id = &stored.image.id;
        if !force {
            self.refuse_if_pinned(id)?;
        }
        if stored.names.len() > 1 && !force {
            return Err(EngineError::SeveralNames { id: id.clone(), names: stored.names.clone() });
        }
        if let Some(user) = self.user(id)?.filter(|user| user.alive || !force) {
            let running = user.alive;
            return Err(EngineError::ImageInUse { id: id.clone(), container: user.container.id, running });
        }
        let mut steps = Vec::new();
        for name in &stored.names {
            // Other platforms keep the name.
            self.database.untag_image(name, id)?;
            let shown = name.parse::<Reference>().map_or_else(|_| name.clone(), |r| r.to_string());
            steps.push(ImageRemoval::Untagged(shown));
        }
        steps.extend(self.delete_image(&stored.image)?);
        Ok(steps)
    }

    fn refuse_if_pinned(&self, id: &Digest) -> Result<(), EngineError> {
        if self.database.is_pinned(id)? { Err(EngineError::ImagePinned { id: id.clone() }) } else { Ok(()) }
    }

    /// A container that is made of the image, one that runs if there is one.
    fn user(&self, id: &Digest) -> Result<Option<super::ContainerView>, EngineError> {
        let mut users: Vec<_> =
            self.containers()?.into_iter().filter(|view| view.container.image == *id).collect();
        let alive = users.iter().position(|view| view.alive).unwrap_or(0);
        Ok(if users.is_empty() { None } else { Some(users.swap_remove(alive)) })
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
