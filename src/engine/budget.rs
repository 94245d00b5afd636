//! The disk budget: what the store may take, and which images go when it takes more.
//!
//! Counted are blobs and unpacked layers, each once however many images share it. Images go one by one, those used longest ago
//! first and of these those without a name; never one that a container is made of, that is pinned, or that was named by the
//! caller; until the store fits. A running pull's content is counted, and held by its lease. Volumes and containers' own files
//! are not the budget's: they are a user's data.

use std::collections::BTreeSet;

use crate::model::{Digest, Image};
use crate::state::StoredImage;

use super::{Engine, EngineError, ImageRemoval};

/// What keeping to the budget came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// What was removed.
    pub steps: Vec<ImageRemoval>,
    /// Bytes that the store takes beyond its budget all the same.
    pub over: u64,
}

impl Engine {
    /// Pins an image, or takes its pin away.
    pub fn pin(&self, typed: &str, pinned: bool) -> Result<(), EngineError> {
        let stored = self.find_image(typed, &[]).map_err(|error| match error {
            EngineError::MissingImage { name } => EngineError::NoImage { name },
            other => other,
        })?;
        self.database.pin(&stored.image.id, pinned)?;
        Ok(())
    }

    /// Whether an image is pinned.
    pub fn is_pinned(&self, image: &Digest) -> Result<bool, EngineError> {
        Ok(self.database.is_pinned(image)?)
    }

    /// Removes images until the store keeps to its budget; nothing where there is none. `keep` stays in any case.
    pub fn keep_budget(&self, keep: &[Digest]) -> Result<Trimmed, EngineError> {
        let mut trimmed = Trimmed::default();
        let Some(budget) = self.config.store.budget else { return Ok(trimmed) };
        let mut taken = self.content_size()?;
        if taken <= budget {
            return Ok(trimmed);
        }
        for one in self.database.image_uses()? {
            if taken <= budget {
                break;
            }
            if one.in_use || one.pinned || keep.contains(&one.image) {
                continue;
            }
            match self.remove_image(one.image.as_str(), true) {
                Ok(steps) => trimmed.steps.extend(steps),
                // Somebody removed it, or made a container of it, just now.
                Err(error) if error.is_not_found() => {}
                Err(EngineError::ImageInUse { .. }) => continue,
                Err(error) => return Err(error),
            }
            taken = self.content_size()?;
        }
        trimmed.over = taken.saturating_sub(budget);
        if trimmed.over > 0 {
            tracing::warn!(over = trimmed.over, budget, "the store takes more than its budget");
        }
        Ok(trimmed)
    }

    /// Bytes of all blobs and layers.
    pub fn content_size(&self) -> Result<u64, EngineError> {
        let store = self.store()?;
        let mut total = 0;
        for blob in store.content().list()? {
            // One that was removed meanwhile takes nothing.
            total += store.content().size(&blob).unwrap_or(0);
        }
        for layer in store.layers().list()? {
            total += match store.layers().seal(&layer) {
                Some(seal) => seal.bytes,
                None => store.layers().unpacked_size(&layer).unwrap_or(0),
            };
        }
        Ok(total)
    }

    /// Bytes that go when an image does: of what no other image has.
    pub(super) fn own_size(&self, image: &Image) -> Result<u64, EngineError> {
        let store = self.store()?;
        let others: BTreeSet<Digest> = self
            .database
            .images()?
            .into_iter()
            .filter(|stored| stored.image.id != image.id)
            .flat_map(StoredImage::versions)
            .flat_map(|stored| stored.image.layers)
            .flat_map(|layer| [layer.digest, layer.diff_id])
            .collect();
        let mut total = 0;
        let mut seen = BTreeSet::new();
        for layer in &image.layers {
            if !others.contains(&layer.digest) && seen.insert(&layer.digest) {
                total += store.content().size(&layer.digest).unwrap_or(0);
            }
            if !others.contains(&layer.diff_id) && seen.insert(&layer.diff_id) {
                total += store.layers().unpacked_size(&layer.diff_id).unwrap_or(0);
            }
        }
        Ok(total)
    }
}
