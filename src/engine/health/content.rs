//! Blobs and layers: everything that some image names.

use std::collections::BTreeMap;

use crate::model::{Digest, Image, Layer};
use crate::state::StoredImage;
use crate::store::{Flaw, LayerState, LayerWriter, StoreError};

use super::super::{Engine, EngineError};
use super::{Check, Outcome};

impl Check<'_> {
    pub(super) fn images(&mut self) -> Result<(), EngineError> {
        let images = self.engine.database.readable_images()?;
        self.report.images = images.len();
        let images: Vec<_> = images.into_iter().flat_map(StoredImage::versions).collect();
        self.blobs(&images)?;
        self.layers(&images)
    }

    fn blobs(&mut self, images: &[StoredImage]) -> Result<(), EngineError> {
        let store = self.engine.store()?;
        // By digest: its size where the image tells, and an image that has it.
        let mut wanted: BTreeMap<&Digest, (Option<u64>, &StoredImage)> = BTreeMap::new();
        for stored in images {
            let image = &stored.image;
            for blob in [&image.id, &image.manifest] {
                wanted.entry(blob).or_insert((None, stored));
            }
            // An index is not kept by every way into the store.
            if store.content().has(&image.target) {
                wanted.entry(&image.target).or_insert((None, stored));
            }
            for layer in &image.layers {
                wanted.insert(&layer.digest, (Some(layer.size), stored));
            }
        }
        self.report.blobs = wanted.len();
        for (digest, (size, stored)) in wanted {
            let Some(flaw) = store.check_blob(digest, size, self.depth()) else { continue };
            if !self.engine.still_names(stored, digest)? {
                continue;
            }
            let outcome = self.repaired("it was fetched again", || self.engine.refetch(images, digest));
            self.report.add("blob", digest, &flaw, outcome);
        }
        Ok(())
    }

    fn layers(&mut self, images: &[StoredImage]) -> Result<(), EngineError> {
        let mut wanted: BTreeMap<&Digest, (&Layer, &StoredImage)> = BTreeMap::new();
        for stored in images {
            for layer in &stored.image.layers {
                wanted.entry(&layer.diff_id).or_insert((layer, stored));
            }
        }
        self.report.layers = wanted.len();
        for (diff_id, (layer, stored)) in wanted {
            let (flaw, fresh) = match self.engine.store()?.check_layer(layer, self.depth()) {
                Ok(LayerState::Sound | LayerState::Unknown) => continue,
                Ok(LayerState::Bad(flaw, fresh)) => (flaw, fresh),
                // No room to unpack it once more, for one: then nothing is known of it.
                Err(error) => (Flaw::Unreadable { why: super::super::error::chain(&error) }, None),
            };
            if !self.engine.still_names(stored, diff_id)? {
                continue;
            }
            let outcome = self.repaired("it was made anew from its blob", || self.engine.renew(layer, fresh));
            self.report.add("layer", diff_id, &flaw, outcome);
        }
        Ok(())
    }
}

impl Engine {
    /// Whether an image is still there and still has this blob or layer: it may have been removed since it was listed.
    fn still_names(&self, stored: &StoredImage, digest: &Digest) -> Result<bool, EngineError> {
        let Some(now) = self.database.image(&stored.image.id)? else { return Ok(false) };
        let names = |image: &Image| {
            [&image.id, &image.manifest, &image.target].contains(&digest)
                || image.layers.iter().any(|layer| layer.digest == *digest || layer.diff_id == *digest)
        };
        Ok(now.versions().iter().any(|version| names(&version.image)))
    }

    fn renew(&self, layer: &Layer, fresh: Option<LayerWriter>) -> Result<(), EngineError> {
        let Some(fresh) = fresh else {
            return Err(StoreError::Missing { digest: layer.digest.clone() }.into());
        };
        let busy = || EngineError::LayerBusy { layer: layer.diff_id.clone() };
        if self.layer_is_busy(&layer.diff_id) {
            return Err(busy());
        }
        // One that starts in between claims its container before it looks for layers: it is seen by the second look.
        let replaced = self.store()?.replace_layer(fresh, || !self.layer_is_busy(&layer.diff_id))?;
        if replaced { Ok(()) } else { Err(busy()) }
    }
}

impl Check<'_> {
    /// Content that no image names any more: a collection that was killed leaves it, the next one takes it.
    pub(super) fn unreferenced(&mut self) -> Result<(), EngineError> {
        let store = self.engine.store()?;
        let database = &self.engine.database;
        let count = |kind, present: Vec<Digest>| {
            let mut found = 0;
            let look = |unused: Vec<Digest>| {
                found = unused.len();
                Ok::<_, std::io::Error>(())
            };
            database.collect(kind, &present, look).map(|()| found)
        };
        let blobs = count(crate::state::Content::Blob, store.content().list()?)?;
        let layers = count(crate::state::Content::Layer, store.layers().list()?)?;
        if blobs + layers == 0 {
            return Ok(());
        }
        let outcome = if self.options.repair {
            self.repaired("it was removed", || self.engine.collect_garbage())
        } else {
            Outcome::Note
        };
        self.report.add(
            "leftover",
            &format!("{blobs} blobs, {layers} layers"),
            &"no image names this content; `umiak image prune` removes it",
            outcome,
        );
        Ok(())
    }
}
